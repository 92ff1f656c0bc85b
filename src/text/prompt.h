/* prompt.h - weighted and long prompts in the notation of AUTOMATIC1111's web UI.
 *
 *     (x)      1.1 times the weight, nested brackets multiply    [x]   1 / 1.1 times
 *     (x:1.3)  1.3 times                                         \( \) \[ \] \\   as they are
 *     BREAK    (between spaces, outside of brackets) begins the next chunk
 *
 * The ids are cut into chunks of max_length - 2, if possible after the last comma among the final
 * 20, and each chunk is wrapped in BOS and EOS and padded. The text encoder sees one chunk at a
 * time; the results are joined along the tokens. A pooled vector comes from the first chunk. */
#ifndef STYX_TEXT_PROMPT_H
#define STYX_TEXT_PROMPT_H
#include <stdbool.h>

#include "text/tokenizer.h"

struct prompt {
    int nchunks, length; /* length = the tokenizer's max_length */
    int32_t *ids;        /* [nchunks][length] */
    float *weights;      /* [nchunks][length]; 1 for BOS, EOS and padding */
    bool weighted;       /* is any weight not 1? */
    bool clamped;        /* was any weight beyond +-PROMPT_MAX_WEIGHT? It is that now */
};

/* Some hundred nested brackets overflow a float, and any weight near that ruins a picture. */
#define PROMPT_MAX_WEIGHT 1e4f

/* Every string is a prompt, but for invalid UTF-8 and weights that are no number, as (x:1.2.3). */
int prompt_parse(const struct tokenizer *tok, const char *text, size_t bytes, struct prompt *out,
                 styx_error *err);
void prompt_free(struct prompt *p);

/* Appends empty chunks until there are nchunks: a prompt and its negative, and the prompts of two
 * text encoders, must have as many. */
int prompt_extend(struct prompt *p, const struct tokenizer *tok, int nchunks, styx_error *err);

/* embedding is [rows][dim]; each row is multiplied by its weight. keep_mean ("original" emphasis;
 * without it: "no norm") then rescales the whole so that its mean is what it was. */
void prompt_weigh(float *embedding, const float *weights, size_t rows, size_t dim, bool keep_mean);

#endif
