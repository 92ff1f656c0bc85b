/* special.h - tokens that are cut out of a text before it is split into words: BOS and EOS, the
 * pad token, and the words of textual inversions. */
#ifndef STYX_TEXT_SPECIAL_H
#define STYX_TEXT_SPECIAL_H
#include "text/unicode.h"
#include "text/vocab.h"

/* A token whose normalized flag is set is looked for in normalized text, after normalizing it too:
 * then <|STARTOFTEXT|> is found as well. Else the text is searched as it was given. */
struct special {
    char *text;
    size_t bytes;
    struct runes normal; /* empty unless normalized */
    int32_t id;
    bool normalized;
};

struct specials {
    struct special *v;
    size_t count, capacity;
    int32_t next_id; /* that a token gets which the vocabulary lacks */
    int32_t bos, eos, unk, pad;
    int max_length;
};

/* Reads tokenizer_config.json, special_tokens_map.json, added_tokens.json and the added_tokens of
 * tokenizer.json in folder, as far as they exist, by the rules of transformers 5. */
int specials_open(const char *folder, const struct vocab *v, struct specials *s, styx_error *err);
int specials_copy(const struct specials *from, struct specials *s, styx_error *err);
void specials_free(struct specials *s);

/* Adds a token, or changes the flag of one that is there. */
int specials_add(struct specials *s, const struct vocab *v, const char *text, bool normalized,
                 styx_error *err);
const struct special *specials_find(const struct specials *s, const char *text);

#endif
