/* unicode.h - text as CLIP's tokenizer wants it: composed, its whitespace collapsed, lower-case.
 *
 * The tables are utf8proc's, plus what Unicode has assigned since 15.0 (the version of Debian 12's
 * utf8proc), because the tokenizer we follow knows those characters and ids must not depend on the
 * system. */
#ifndef STYX_TEXT_UNICODE_H
#define STYX_TEXT_UNICODE_H
#include <stdbool.h>

#include "base/error.h"

struct runes {
    uint32_t *v;
    size_t count, capacity;
};

enum rune_class { RUNE_SPACE, RUNE_LETTER, RUNE_NUMBER, RUNE_OTHER };

/* \s, \p{L}, \p{N} or none of them. */
enum rune_class rune_class(uint32_t rune);
bool rune_is_space(uint32_t rune);

/* Replaces out by the normal form of valid UTF-8: NFC, every run of whitespace one space, then the
 * full lower-case mapping of each code point by itself. work is memory to reuse. */
int unicode_normalize(const char *text, size_t bytes, struct runes *out, struct runes work[2],
                      styx_error *err);
void runes_free(struct runes *r);

#endif
