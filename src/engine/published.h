/* published.h - the configs that the published models came with, for files that hold only weights.
 *
 * What the shapes of the weights tell (channels, layers, the width of the text, the vocabulary) is
 * read off them; what they do not (heads, groups, the size of pictures) is as published. */
#ifndef STYX_ENGINE_PUBLISHED_H
#define STYX_ENGINE_PUBLISHED_H
#include "engine/engine.h"
#include "weights/names.h"

/* The pipeline's class and settings, as in model_index.json; a new object, or NULL without memory.
 * kind is none of SINGLE_UNKNOWN and SINGLE_SD2. */
json_t *published_index(enum single_file kind);

/* The config of a component, fitted to weights under diffusers' names (NULL: as published);
 * where names the file. FORMAT if the networks are so unlike the published ones that guessing the
 * rest would be wrong. */
int published_config(enum single_file kind, enum slot slot, const struct store *weights,
                     const char *where, json_t **config, styx_error *err);

/* The scheduler's, with the prediction type that the file states. */
int published_scheduler(enum single_file kind, const struct store *file, json_t **config,
                        styx_error *err);

#endif
