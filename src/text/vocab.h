/* vocab.h - what vocab.json and merges.txt (or tokenizer.json) of a CLIP tokenizer say.
 *
 * GPT-2's byte-level alphabet writes every byte as one printable character: bytes 33-126, 161-172
 * and 174-255 as themselves, the other 68 as U+0100 onwards in increasing order. The last symbol
 * of a word carries the suffix </w>. */
#ifndef STYX_TEXT_VOCAB_H
#define STYX_TEXT_VOCAB_H
#include "text/bpe.h"

#define WORD_END "</w>"

struct vocab {
    char *pool;                     /* the tokens, each with its NUL */
    uint32_t *where;                /* into pool; 0 (an empty string) for ids without a token */
    int32_t nids;                   /* one more than the largest id */
    int32_t inner[256], final[256]; /* ids of each byte inside and at the end of a word, or -1 */
    struct bpe merges;
};

/* Reads folder/tokenizer.json if it exists, else vocab.json and merges.txt. */
int vocab_open(const char *folder, struct vocab *v, styx_error *err);
int vocab_copy(const struct vocab *from, struct vocab *v, styx_error *err);
void vocab_free(struct vocab *v);

/* NULL for an id without a token; -1 for a text that is none. */
const char *vocab_token(const struct vocab *v, int32_t id);
int32_t vocab_find(const struct vocab *v, const char *text);

/* The byte that a character writes; -1 if it writes none. */
int rune_to_byte(uint32_t rune);

#endif
