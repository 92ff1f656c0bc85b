/* source.h - the picture that an edit starts from. */
#ifndef STYX_APP_SOURCE_H
#define STYX_APP_SOURCE_H
#include <stdbool.h>

#include "options.h"
#include "studio.h"

struct source {
    char *path;                 /* of the picture */
    char hash[65];              /* SHA-256 of its file */
    char mask_hash[65];         /* of the mask's, or "" */
    struct styx_image image;    /* as it lies in the file */
    struct styx_image mask;     /* of the same size, white is repainted; no pixels: none */
    struct styx_tensor latents; /* kept beside it; no data: none */
    int width, height;          /* to work at, multiples of 8 */
};

/* Loads what `styx edit` was given, and decides the size. Exit code. */
int source_open(struct source *s, const struct options *o, const styx_model *model);
void source_free(struct source *s);

/* PICTURE.latents.safetensors; free it. */
char *latents_path(const char *picture);
/* The tensor "latents" of a safetensors file, or its only one. Exit code. */
int latents_load(const char *path, struct styx_tensor *latents);
int latents_save(const char *path, const struct styx_tensor *latents, bool force);

#endif
