/* utf8.h - one code point at a time in and out of UTF-8. */
#ifndef STYX_BASE_UTF8_H
#define STYX_BASE_UTF8_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_BAD UINT32_MAX /* no code point */

/* Reads the code point at text, of which bytes > 0 are left, and returns its length. Malformed
 * input (overlong forms, surrogates and what lies beyond U+10FFFF too) gives *rune = UTF8_BAD and
 * the length of the maximal subpart, which a decoder replaces by one U+FFFD (Unicode 3.9, D93b). */
size_t utf8_get(const char *text, size_t bytes, uint32_t *rune);

/* Writes 1 to 4 bytes and returns how many. rune is a valid code point. */
size_t utf8_put(uint32_t rune, char out[4]);

/* Is all of text well-formed? If not, *offset is where the first malformed sequence begins. */
bool utf8_valid(const char *text, size_t bytes, size_t *offset);

#endif
