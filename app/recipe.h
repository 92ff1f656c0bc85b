/* recipe.h - what a picture was made from, as JSON inside the picture (docs/formats.md). */
#ifndef STYX_APP_RECIPE_H
#define STYX_APP_RECIPE_H
#include <jansson.h>

#include "hash.h"
#include "options.h"
#include "source.h"
#include "studio.h"

enum { RECIPE_FORMAT = 1 };

/* All pictures of a job share this much. */
struct record {
    json_t *model, *refiner; /* class, path, sha256; refiner NULL: none */
    json_t *extras;          /* "lora", "embedding": lists of {path, sha256} */
    json_t *machine;         /* backend, device, dtypes */
    char *sampler;           /* the class of the scheduler */
    char hash[16];           /* of the UNet, as A1111 shortens it */
    char *model_name;
    double guidance, strength; /* with defaults filled in */
    bool sdxl;
};

/* Exit code. */
int record_new(struct record *r, const struct options *o, const struct studio *s,
               const styx_model *model, const styx_model *refiner, const struct source *source,
               const struct styx_result *result);
void record_add_hashes(struct record *r, const struct hashes *hashes);
void record_free(struct record *r);

/* The recipe of picture number k (from 0) of a job, as JSON text (free), or NULL without memory or
 * with a text that is not UTF-8. */
char *recipe_write(const struct record *r, const struct options *o, const struct source *source,
                   const struct styx_result *result, size_t k);

/* *recipe is new, or NULL if the picture has none. Exit code. */
int recipe_read(const char *picture, json_t **recipe);
bool recipe_keeps_latents(const json_t *recipe);
/* --from: a recipe's settings, or those of an A1111 text, for what is not set yet. */
int recipe_take(struct options *o, const char *picture);

/* JSON text with the fewest digits that give the same numbers back; free it. */
char *json_text_of(const json_t *value, size_t flags);

#endif
