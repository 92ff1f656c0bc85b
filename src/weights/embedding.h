/* embedding.h - textual inversion (Gal et al. 2022, arXiv:2208.01618): a new word is one or more
 * rows behind the table of token embeddings.
 *
 * Reads diffusers' files (one tensor, named after the word), A1111's ("emb_params"; the word is the
 * file's name) and those for SDXL ("clip_l" and "clip_g", one table for each text encoder). */
#ifndef STYX_WEIGHTS_EMBEDDING_H
#define STYX_WEIGHTS_EMBEDDING_H
#include "weights/store.h"

struct embedding;

/* word: what prompts will say, or NULL for the file's own. */
int embedding_open(const char *path, const char *word, struct embedding **out, styx_error *err);
void embedding_free(struct embedding *e);
const char *embedding_word(const struct embedding *e);
int embedding_rows(const struct embedding *e); /* tokens that the word stands for */
bool embedding_has(const struct embedding *e, const char *component);
int embedding_width(const struct embedding *e, const char *component); /* 0: it has none */

/* base (a text encoder) with the rows of all embeddings appended to its token table, in their
 * order, so that the first new token's id is the number of rows before. component is "text_encoder"
 * or "text_encoder_2". The longer table is kept as type (F32, F16 or BF16). */
int embedding_merge(struct store *base, const char *component, struct embedding *const *embeddings,
                    int nembeddings, enum dtype type, struct store **out, styx_error *err);

#endif
