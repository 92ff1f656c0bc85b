/* source.c - see source.h. */
#include "source.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "paths.h"
#include "recipe.h"
#include "say.h"

char *latents_path(const char *picture)
{
    return path_add(picture, ".latents.safetensors");
}

int latents_load(const char *path, struct styx_tensor *latents)
{
    char **names;
    struct styx_tensor *tensors;
    size_t count, found = SIZE_MAX;
    styx_error err;
    if (styx_tensors_load(path, &names, &tensors, &count, &err))
        return complain_of(&err);
    for (size_t i = 0; i < count; i++)
        if (count == 1 || strcmp(names[i], "latents") == 0)
            found = i;
    if (found < count) {
        *latents = tensors[found];
        tensors[found].data = NULL; /* ours now */
    }
    styx_tensors_free(names, tensors, count);
    if (found < count)
        return 0;
    return complain(EXIT_FAILED, "%s: holds %zu tensors, and none is called latents", path, count);
}

int latents_save(const char *path, const struct styx_tensor *latents, bool force)
{
    static const char *const names[] = { "latents" };
    styx_error err;
    if (styx_tensors_save(path, names, latents, 1, force, &err))
        return complain_of(&err);
    return 0;
}

/* The mask has the picture's size; white is repainted. */
static int open_mask(struct source *s, const struct options *o, const struct styx_image *alpha)
{
    styx_error err;
    if (strcmp(o->mask, "alpha") == 0) {
        if (!alpha->pixels)
            return complain(EXIT_USAGE, "--mask alpha: %s has no transparency", s->path);
        return styx_image_alpha_mask(alpha, &s->mask, &err) ? complain_of(&err) : 0;
    }
    if (styx_image_load(o->mask, &s->mask, NULL, NULL, &err))
        return complain_of(&err);
    if (s->mask.width != s->image.width || s->mask.height != s->image.height)
        return complain(EXIT_USAGE, "--mask: %s is %dx%d, but %s is %dx%d; they must be equal",
                        o->mask, s->mask.width, s->mask.height, s->path, s->image.width,
                        s->image.height);
    return hash_file(o->mask, s->mask_hash);
}

/* The model's area at the picture's aspect, in multiples of 8, never larger than the picture. */
static int choose_size(struct source *s, const struct options *o, const styx_model *model)
{
    struct model_facts facts;
    int rc = model_facts(model, &facts);
    if (rc)
        return rc;
    if (o->size.a) {
        s->width = o->size.a;
        s->height = o->size.b;
        return 0;
    }
    double area = (double)facts.side * facts.side;
    double w = s->image.width, h = s->image.height;
    double scale = o->full_size || w * h <= area ? 1 : sqrt(area / (w * h));
    s->width = (int)(w * scale + 1e-6) / 8 * 8;
    s->height = (int)(h * scale + 1e-6) / 8 * 8;
    if (s->width < 8 || s->height < 8)
        return complain(EXIT_USAGE, "%s: is %dx%d; 8x8 is the smallest that can be edited", s->path,
                        s->image.width, s->image.height);
    if (scale < 1)
        say("%s is %dx%d; worked at %dx%d, the model's own area (--full-size keeps its size)",
            s->path, s->image.width, s->image.height, s->width, s->height);
    else if (s->width != s->image.width || s->height != s->image.height)
        say("%s is %dx%d; worked at %dx%d, multiples of 8", s->path, s->image.width,
            s->image.height, s->width, s->height);
    return 0;
}

/* Latents that an earlier command kept are finer than the picture's 8 bits, if they are its own. */
static int open_latents(struct source *s, const struct options *o)
{
    json_t *recipe = NULL;
    int rc = recipe_read(s->path, &recipe);
    bool kept = recipe && recipe_keeps_latents(recipe);
    json_decref(recipe);
    if (rc || !kept || o->mask || o->size.a)
        return rc;
    char *path = latents_path(s->path);
    if (!path)
        return complain_memory();
    if (path_exists(path)) {
        rc = latents_load(path, &s->latents);
        const struct styx_tensor *x = &s->latents;
        if (rc == 0 && (x->dims != 4 || x->shape[0] != 1))
            rc = complain(EXIT_FAILED, "%s: does not hold the latents of %s", path, s->path);
        if (rc == 0) {
            s->width = s->image.width;
            s->height = s->image.height;
            say("starting from the latents in %s", path);
        }
    }
    free(path);
    return rc;
}

int source_open(struct source *s, const struct options *o, const styx_model *model)
{
    struct styx_image alpha = { 0 };
    char *note = NULL;
    styx_error err;
    int rc = 0;
    *s = (struct source){ .path = strdup(o->picture) };
    if (!s->path)
        return complain_memory();
    if (styx_image_load(s->path, &s->image, &alpha, &note, &err))
        rc = complain_of(&err);
    if (rc == 0 && note && *note)
        say("%s: %s", s->path, note);
    if (rc == 0)
        rc = hash_file(s->path, s->hash);
    if (rc == 0 && o->mask)
        rc = open_mask(s, o, &alpha);
    if (rc == 0)
        rc = open_latents(s, o);
    if (rc == 0 && !s->latents.data)
        rc = choose_size(s, o, model);
    styx_image_free(&alpha);
    styx_text_free(note);
    if (rc)
        source_free(s);
    return rc;
}

void source_free(struct source *s)
{
    free(s->path);
    styx_image_free(&s->image);
    styx_image_free(&s->mask);
    styx_tensor_free(&s->latents);
    *s = (struct source){ 0 };
}
