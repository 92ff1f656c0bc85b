/* choose.h - which files of a repository a pipeline needs. */
#ifndef STYX_APP_CHOOSE_H
#define STYX_APP_CHOOSE_H
#include <jansson.h>

#include "hub.h"

/* Marks in chosen[0..list->count) the files of the components that index (model_index.json) names:
 * configs, vocabularies and weights as safetensors, of `variant` where there are such, else (NULL:
 * fp16, then) the plain ones. only: "unet,vae", or NULL for all. Never pickles. Exit code. */
int choose_files(const struct hub_listing *list, const json_t *index, const char *variant,
                 const char *only, bool *chosen);
/* The only checkpoint file of a repository that is no pipeline, or -1. */
int choose_single(const struct hub_listing *list);

#endif
