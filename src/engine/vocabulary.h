/* vocabulary.h - the CLIP vocabulary for models that come without one. */
#ifndef STYX_ENGINE_VOCABULARY_H
#define STYX_ENGINE_VOCABULARY_H
#include "engine/engine.h"

/* The tokenizer (SLOT_TOKENIZER or SLOT_TOKENIZER_2) for a text encoder that knows `size` tokens,
 * for the single file at path: of the config folder (may be NULL), of $STYX_TOKENIZER, of the
 * folder tokenizer/ beside the file, or of any model in the Hugging Face cache. */
int vocabulary_open(const char *path, const char *config, enum slot slot, int size,
                    styx_component **out, styx_error *err);

#endif
