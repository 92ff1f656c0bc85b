/* replay.c - styx replay: a picture again, from its recipe alone, compared byte by byte. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "draw.h"
#include "hash.h"
#include "lineage.h"
#include "paths.h"
#include "recipe.h"
#include "say.h"
#include "small.h"

/* The model as the recipe has it, there or beside the picture; without one in the settings it was
 * the model that comes with Styx. */
static int find_model(struct options *o, const char *picture)
{
    if (!o->model)
        return 0;
    char *beside = path_beside(picture, o->model);
    int rc = beside ? 0 : complain_memory();
    if (rc == 0 && !path_exists(o->model) && path_exists(beside))
        rc = option_parse(o, flag_find("model"), "model", beside);
    else if (rc == 0 && !path_exists(o->model) && !path_is_model_id(o->model))
        rc = complain(EXIT_FAILED, "%s was drawn with the model %s, which is missing", picture,
                      o->model);
    free(beside);
    return rc;
}

static int find_file(struct options *o, const char *flag, const char *picture,
                     const json_t *recorded)
{
    struct ancestor a;
    int rc = ancestor_find(picture, recorded, &a);
    if (rc == 0 && !a.path)
        rc = complain(EXIT_FAILED, "%s cannot be drawn again: %s", picture, a.why);
    if (rc == 0)
        rc = option_parse(o, flag_find(flag), flag, a.path);
    free(a.path);
    return rc;
}

static int find_parent(struct options *o, const char *picture, const json_t *recipe)
{
    const json_t *parent = json_object_get(recipe, "parent");
    const json_t *mask = json_object_get(parent, "mask");
    int rc = parent ? find_file(o, "picture", picture, parent) : 0;
    if (rc == 0 && mask)
        rc = find_file(o, "mask", picture, mask);
    return rc;
}

/* The files that --lora or --embedding named, with what stood behind them: they must be what they
 * were. Recipes of before hashes were kept are taken as they stand. */
static int find_extras(const char *picture, const json_t *recorded, struct texts *given)
{
    for (size_t i = 0; i < json_array_size(recorded) && i < given->count; i++) {
        const json_t *file = json_array_get(recorded, i);
        const char *rest = given->values[i] + strlen(text_at(file, "path"));
        struct ancestor a;
        if (strncmp(given->values[i], text_at(file, "path"), strlen(text_at(file, "path"))) != 0)
            return complain(EXIT_FAILED, "%s: its recipe is broken: '%s' is not what it hashed",
                            picture, given->values[i]);
        int rc = ancestor_find(picture, file, &a);
        if (rc == 0 && !a.path)
            rc = complain(EXIT_FAILED, "%s cannot be drawn again: %s", picture, a.why);
        char *text = rc == 0 ? path_add(a.path, rest) : NULL;
        free(a.path);
        if (rc)
            return rc;
        if (!text)
            return complain_memory();
        free(given->values[i]);
        given->values[i] = text;
    }
    return 0;
}

static void tell_difference(const char *what, const json_t *then, const json_t *now)
{
    char *a = json_text_of(then, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    char *b = json_text_of(now, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
    say("%s was %s then, is %s now", what, a ? a : "?", b ? b : "?");
    free(a);
    free(b);
}

/* Everything outside the settings that decides the bytes. */
static void compare_recipes(const json_t *then, const json_t *now)
{
    static const char *const keys[] = { "styx", "machine", "model", "refiner" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *a = json_object_get(then, keys[i]), *b = json_object_get(now, keys[i]);
        if (strcmp(keys[i], "model") == 0 || strcmp(keys[i], "refiner") == 0) {
            a = json_object_get(a, "sha256"); /* where it lies decides nothing */
            b = json_object_get(b, "sha256");
        }
        if (a && b && !json_equal(a, b))
            tell_difference(keys[i], a, b);
    }
}

/* A replay may not change what was asked for; it only says with what it was computed. */
static int take_machine(struct options *o, const json_t *machine)
{
    static const char *const keys[] = { "backend", "isa", "dtype", "vae_dtype" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *value = text_at(machine, keys[i]);
        const struct flag *f = flag_find(keys[i]);
        for (int w = 0; f->words[w] && !o->set[f - flags]; w++)
            if (strcmp(f->words[w], value) == 0) {
                int rc = option_parse(o, f, f->name, value);
                if (rc)
                    return rc;
            }
    }
    return 0;
}

static int open_all(struct options *o, struct studio *studio, struct source *source,
                    styx_model **model, styx_model **refiner)
{
    int rc = model_of_options(o, model);
    if (rc == 0 && o->refiner)
        rc = refiner_of_options(o, *model, refiner);
    if (rc == 0 && o->picture)
        rc = source_open(source, o, *model);
    if (rc == 0)
        rc = studio_begin(studio, o);
    return rc;
}

/* The picture's own texts go into the new one, so that equal pixels make equal files. */
static int draw_again(struct options *o, const char *parameters, const json_t *recipe,
                      const char *text)
{
    struct studio studio = { 0 };
    struct source source = { 0 };
    styx_model *model = NULL, *refiner = NULL;
    struct job job = { .studio = &studio, .recipe = text, .parameters = parameters };
    int rc = draw_check(o);
    if (rc == 0)
        rc = open_all(o, &studio, &source, &model, &refiner);
    job.model = model;
    job.refiner = refiner;
    job.source = o->picture ? &source : NULL;
    if (rc == 0)
        rc = draw(&job, o);
    if (rc == 0) {
        json_t *fresh = json_loads(job.fresh_recipe, 0, NULL);
        compare_recipes(recipe, fresh);
        json_decref(fresh);
    }
    free(job.fresh_recipe);
    source_free(&source);
    styx_model_free(refiner);
    styx_model_free(model);
    if (studio.session)
        studio_end(&studio);
    return rc;
}

/* A file of the picture's kind in the temporary folder; free it. */
static char *scratch_path(const char *picture)
{
    const char *folder = getenv("TMPDIR"), *dot = strrchr(picture, '.');
    char name[4096];
    snprintf(name, sizeof name, "%s/styx-replay-%ld%s", folder && *folder ? folder : "/tmp",
             (long)getpid(), dot ? dot : ".png");
    return strdup(name);
}

static int report(const struct options *o, const char *picture, const char *again, bool kept)
{
    char then[65], now[65];
    int rc = hash_file(picture, then);
    if (rc == 0)
        rc = hash_file(again, now);
    if (rc)
        return rc;
    bool equal = strcmp(then, now) == 0;
    if (o->json) {
        json_t *line = json_pack("{s:s, s:b, s:s?}", "picture", picture, "equal", equal, "output",
                                 kept ? again : NULL);
        char *text = json_dumps(line, JSON_COMPACT);
        puts(text ? text : "{}");
        free(text);
        json_decref(line);
    } else {
        printf("%s: drawn again, %s\n", picture,
               equal ? "every byte is equal" : "the bytes differ");
    }
    return equal || kept ? EXIT_OK : EXIT_FAILED;
}

/* Draws picture again into o->output. */
static int replay(struct options *o, const char *picture)
{
    static const char *const skip[] = { "output", "picture", NULL };
    json_t *recipe = NULL;
    char *text = NULL, *parameters = NULL;
    styx_error err;
    int rc = recipe_read(picture, &recipe);
    if (rc == 0 && !recipe)
        rc = complain(EXIT_FAILED, "%s carries no recipe of Styx", picture);
    if (rc == 0 && styx_image_text(picture, &parameters, &text, &err))
        rc = complain_of(&err);
    if (rc == 0)
        rc = take_machine(o, json_object_get(recipe, "machine"));
    if (rc == 0)
        rc = options_from_json(o, json_object_get(recipe, "settings"), picture, skip, true);
    if (rc == 0)
        rc = find_model(o, picture);
    o->keep_latents = false; /* the picture is what is asked for */
    if (rc == 0)
        rc = find_extras(picture, json_object_get(recipe, "lora"), &o->loras);
    if (rc == 0)
        rc = find_extras(picture, json_object_get(recipe, "embedding"), &o->embeddings);
    if (rc == 0)
        rc = find_parent(o, picture, recipe);
    if (rc == 0)
        rc = draw_again(o, parameters, recipe, text);
    styx_text_free(text);
    styx_text_free(parameters);
    json_decref(recipe);
    return rc;
}

int run_replay(struct options *o)
{
    bool kept = o->output != NULL;
    char *picture = o->picture;
    o->picture = NULL; /* from here on it is the parent's place */
    o->set[flag_find("picture") - flags] = false;
    if (!kept) {
        o->output = scratch_path(picture);
        o->force = true;
    }
    int rc = !o->output ? complain_memory()
             : output_is_folder(o->output)
                 ? complain(EXIT_USAGE, "-o %s is a folder; replay wants a file", o->output)
                 : replay(o, picture);
    if (rc == 0)
        rc = report(o, picture, o->output, kept);
    if (!kept && o->output)
        unlink(o->output);
    free(picture);
    return rc;
}
