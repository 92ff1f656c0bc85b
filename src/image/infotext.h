/* infotext.h - the generation parameters that A1111's web UI writes into pictures, and that most
 * tools and galleries read:
 *
 *     a lighthouse at dusk
 *     Negative prompt: blurry
 *     Steps: 25, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: "a, b"
 *
 * Here it is a list of keys and values, the texts under "Prompt" and "Negative prompt". The format
 * cannot carry every prompt (one whose lines look like its own); our recipe does. */
#ifndef STYX_IMAGE_INFOTEXT_H
#define STYX_IMAGE_INFOTEXT_H
#include "base/error.h"

struct infotext_item {
    char *key, *value;
};

struct infotext {
    struct infotext_item *items;
    int nitems, capacity;
};

/* Copies both; a key that is there already gets the new value. */
int infotext_set(struct infotext *info, const char *key, const char *value, styx_error *err);
/* Borrowed, or NULL. Keys compare without case. */
const char *infotext_get(const struct infotext *info, const char *key);

/* In the list's order, the prompts first. *text is yours (free). */
int infotext_write(const struct infotext *info, char **text, styx_error *err);
/* Every text is one: what is not understood belongs to the prompt. Fails only without memory. */
int infotext_parse(const char *text, struct infotext *info, styx_error *err);
void infotext_free(struct infotext *info);

#endif
