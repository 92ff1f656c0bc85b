/* tokenizer.h - CLIP's tokenizer: text to ids and back, id for id as transformers 5 does it.
 *
 * Special tokens are cut out; the rest is normalized (text/unicode.h), split into words by
 *     's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
 * and each word is byte-pair encoded (text/bpe.h) over GPT-2's byte alphabet (text/vocab.h).
 * A tokenizer is immutable: any thread may use it. */
#ifndef STYX_TEXT_TOKENIZER_H
#define STYX_TEXT_TOKENIZER_H
#include "base/error.h"

struct tokenizer;

/* A list of ids that grows; zero-initialised. */
struct tokens {
    int32_t *v;
    size_t count, capacity;
};

struct token_report {
    size_t count; /* ids of the whole text, without BOS and EOS */
    char *cut;    /* what did not fit, decoded; NULL if all did. Yours: free */
};

/* Reads a model's tokenizer folder. */
int tokenizer_open(const char *folder, struct tokenizer **tok, styx_error *err);
void tokenizer_free(struct tokenizer *tok);

/* A copy that knows ntexts words more (textual inversion). They get the ids from
 * tokenizer_vocab_size() on, in order, and are found in any case. One that is in the vocabulary
 * already is STYX_ERR_INVALID. */
int tokenizer_with_tokens(const struct tokenizer *tok, const char *const *texts, int ntexts,
                          struct tokenizer **copy, styx_error *err);

/* A copy that pads with another token, which becomes a special one: SDXL's second tokenizer is the
 * first one with "!". */
int tokenizer_with_pad(const struct tokenizer *tok, const char *pad, struct tokenizer **copy,
                       styx_error *err);

/* A textual inversion of several vectors is the words T, T_1, T_2...: writes each T that text uses
 * as "T T_1 T_2 ...". *out is yours and ends with a NUL. */
int tokenizer_expand(const struct tokenizer *tok, const char *text, size_t bytes, char **out,
                     styx_error *err);

/* Can text be tokenized? Invalid UTF-8 is STYX_ERR_INVALID, and the message tells the offset. */
int tokenizer_check(const char *text, size_t bytes, styx_error *err);

/* BOS, ids, EOS and padding: exactly length (>= 3) ids; what is too long is cut and reported.
 * report may be NULL. */
int tokenizer_encode(const struct tokenizer *tok, const char *text, size_t bytes, int32_t *ids,
                     int length, struct token_report *report, styx_error *err);

/* Appends the ids of text alone. */
int tokenizer_append(const struct tokenizer *tok, const char *text, size_t bytes,
                     struct tokens *out, styx_error *err);
void tokens_free(struct tokens *tokens);

/* *text is yours and ends with a NUL. Unknown ids are skipped, broken characters become U+FFFD. */
int tokenizer_decode(const struct tokenizer *tok, const int32_t *ids, size_t count, char **text,
                     styx_error *err);

/* Every id is below the vocabulary size. max_length counts BOS and EOS. */
int32_t tokenizer_bos(const struct tokenizer *tok);
int32_t tokenizer_eos(const struct tokenizer *tok);
int32_t tokenizer_pad(const struct tokenizer *tok);
int tokenizer_max_length(const struct tokenizer *tok);
int32_t tokenizer_vocab_size(const struct tokenizer *tok);
/* The id of a token by its text in the vocabulary (",</w>"), or -1. */
int32_t tokenizer_id(const struct tokenizer *tok, const char *token);

#endif
