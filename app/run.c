/* run.c - styx run: a file of named models and steps (docs/formats.md).
 *
 *     { "models": { "base":    { "path": "sdxl" },
 *                   "refiner": { "path": "refiner",
 *                                "components": { "vae": "base.vae" } } },
 *       "steps": [ { "name": "first",  "model": "base", "prompt": "a harbour" },
 *                  { "name": "second", "model": "refiner", "picture": "first",
 *                    "prompt": "a harbour at night", "strength": 0.5 } ] } */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "draw.h"
#include "paths.h"
#include "say.h"

enum progress { UNTOUCHED, UNDER_WAY, DONE };

struct run_model {
    const char *name;
    const json_t *text;
    styx_model *model;
    enum progress progress;
};

struct step {
    const char *name, *model; /* model NULL: the one that comes with Styx */
    const char *picture;      /* the step's, or a file */
    struct options o;
    bool parsed;
    enum progress progress;
};

struct recipe {
    const char *path;
    json_t *root;
    struct run_model *models;
    struct step *steps;
    size_t model_count, step_count;
};

static struct run_model *model_named(const struct recipe *r, const char *name, size_t length)
{
    for (size_t i = 0; i < r->model_count; i++)
        if (strlen(r->models[i].name) == length && memcmp(r->models[i].name, name, length) == 0)
            return &r->models[i];
    return NULL;
}

static struct step *step_named(const struct recipe *r, const char *name)
{
    for (size_t i = 0; i < r->step_count; i++)
        if (strcmp(r->steps[i].name, name) == 0)
            return &r->steps[i];
    return NULL;
}

/* A text of an object, NULL if it is not there; anything else is a mistake. */
static int read_text(const struct recipe *r, const json_t *object, const char *of, const char *key,
                     const char **text)
{
    const json_t *value = json_object_get(object, key);
    *text = json_string_value(value);
    if (!value || json_is_null(value) || *text)
        return 0;
    return complain(EXIT_USAGE, "%s: %s: %s is not a text", r->path, of, key);
}

/* ---- models ---- */

static int open_model(struct recipe *r, struct run_model *m);

/* "base.vae" is the base's; anything else is a folder; null leaves the part out. */
static int add_part(struct recipe *r, const struct run_model *m, const char *name,
                    const json_t *value, struct parts *parts)
{
    const char *text = json_string_value(value);
    const char *dot = text ? strchr(text, '.') : NULL;
    struct run_model *other = dot ? model_named(r, text, (size_t)(dot - text)) : NULL;
    if (json_is_null(value))
        return parts_leave_out(parts, name);
    if (!text)
        return complain(EXIT_USAGE, "%s: model %s: component %s is not a text", r->path, m->name,
                        name);
    if (!other)
        return parts_open(parts, name, text, NULL);
    int rc = open_model(r, other);
    size_t before = parts->count;
    if (rc == 0)
        rc = parts_borrow(parts, name, other->model, dot + 1);
    if (rc == 0 && parts->count == before)
        rc = complain(EXIT_USAGE, "%s: model %s: %s has no %s to share", r->path, m->name,
                      other->name, dot + 1);
    return rc;
}

static int open_model(struct recipe *r, struct run_model *m)
{
    struct parts parts = { 0 };
    const char *path, *variant, *name;
    json_t *value;
    if (m->progress == DONE)
        return 0;
    if (m->progress == UNDER_WAY)
        return complain(EXIT_USAGE, "%s: model %s borrows from itself in a circle", r->path,
                        m->name);
    m->progress = UNDER_WAY;
    int rc = read_text(r, m->text, m->name, "path", &path);
    if (rc == 0)
        rc = read_text(r, m->text, m->name, "variant", &variant);
    if (rc == 0)
        rc = read_text(r, m->text, m->name, "config", &parts.config);
    if (rc)
        return rc;
    json_object_foreach(json_object_get(m->text, "components"), name, value)
    {
        if (rc == 0)
            rc = add_part(r, m, name, value, &parts);
    }
    char *found = rc == 0 ? path_of_model(path) : NULL;
    if (rc == 0)
        rc = found ? model_open(found, variant, &parts, NULL, NULL, &m->model) : EXIT_FAILED;
    free(found);
    parts_free(&parts);
    m->progress = DONE;
    return rc;
}

static int read_models(struct recipe *r)
{
    json_t *models = json_object_get(r->root, "models"), *value;
    const char *name;
    if (models && !json_is_object(models))
        return complain(EXIT_USAGE, "%s: models is no object", r->path);
    r->models = calloc(json_object_size(models) + 1, sizeof *r->models);
    if (!r->models)
        return complain_memory();
    json_object_foreach(models, name, value)
    {
        if (!json_is_object(value))
            return complain(EXIT_USAGE, "%s: model %s is no object", r->path, name);
        r->models[r->model_count++] = (struct run_model){ .name = name, .text = value };
    }
    return 0;
}

/* ---- steps ---- */

static int read_step(struct recipe *r, struct step *s, const json_t *text, size_t number,
                     const struct options *given)
{
    static const char *const ours[] = { "name", "model", "picture", "image", NULL };
    char where[400];
    snprintf(where, sizeof where, "%.200s: step %zu", r->path, number);
    int rc = read_text(r, text, where, "name", &s->name);
    if (rc == 0 && (!s->name || !*s->name))
        rc = complain(EXIT_USAGE, "%s has no name", where);
    if (rc)
        return rc;
    for (struct step *other = r->steps; other < s; other++)
        if (strcmp(other->name, s->name) == 0)
            return complain(EXIT_USAGE, "%s: two steps are called %s", r->path, s->name);
    snprintf(where, sizeof where, "%.200s: step %.100s", r->path, s->name);
    if ((rc = read_text(r, text, where, "model", &s->model)) ||
        (rc = read_text(r, text, where, "picture", &s->picture)) ||
        (!s->picture && (rc = read_text(r, text, where, "image", &s->picture))))
        return rc;
    if (s->model && !model_named(r, s->model, strlen(s->model)))
        return complain(EXIT_USAGE, "%s: there is no model called %s", where, s->model);
    rc = options_copy(&s->o, given);
    s->parsed = rc == 0;
    free(s->o.subject); /* the recipe's own path says nothing about a picture */
    s->o.subject = NULL;
    s->o.set[flag_find("subject") - flags] = false;
    return rc ? rc : options_from_json(&s->o, text, where, ours, false);
}

/* Where a step is to write is known before any work. */
static int settle_step(const struct recipe *r, struct step *s)
{
    char *name = s->o.output ? NULL : path_add(s->name, ".png");
    int rc = 0;
    if (name)
        rc = option_parse(&s->o, flag_find("output"), "output", name);
    free(name);
    if (rc == 0 && !s->o.prompt)
        rc = complain(EXIT_USAGE, "%s: step %s has no prompt", r->path, s->name);
    if (rc == 0 && output_is_folder(s->o.output))
        rc = complain(EXIT_USAGE, "%s: step %s: the output is a folder, want a file", r->path,
                      s->name);
    if (rc == 0 && s->picture && !step_named(r, s->picture) && !path_exists(s->picture))
        rc = complain(EXIT_USAGE, "%s: step %s: '%s' is neither a step nor a file", r->path,
                      s->name, s->picture);
    for (struct step *other = r->steps; rc == 0 && other < s; other++)
        if (strcmp(other->o.output, s->o.output) == 0)
            rc = complain(EXIT_USAGE, "%s: steps %s and %s both write %s", r->path, other->name,
                          s->name, s->o.output);
    return rc ? rc : draw_check(&s->o);
}

static int read_steps(struct recipe *r, const struct options *given)
{
    const json_t *list = json_object_get(r->root, "steps");
    int rc = 0;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return complain(EXIT_USAGE, "%s: no list of steps", r->path);
    r->steps = calloc(json_array_size(list), sizeof *r->steps);
    if (!r->steps)
        return complain_memory();
    for (size_t i = 0; i < json_array_size(list) && rc == 0; i++) {
        rc = read_step(r, &r->steps[i], json_array_get(list, i), i + 1, given);
        r->step_count = i + 1;
    }
    for (size_t i = 0; i < r->step_count && rc == 0; i++)
        rc = settle_step(r, &r->steps[i]);
    return rc;
}

/* Each step is reached from one other at most, so a walk longer than the list is a circle. */
static int check_circles(const struct recipe *r)
{
    for (size_t i = 0; i < r->step_count; i++) {
        const struct step *s = &r->steps[i];
        for (size_t walked = 0; s && s->picture; walked++) {
            if (walked > r->step_count)
                return complain(EXIT_USAGE, "%s: step %s starts from itself in a circle", r->path,
                                r->steps[i].name);
            s = step_named(r, s->picture);
        }
    }
    return 0;
}

/* ---- running ---- */

/* Does a step that is still to come draw with the model of s? */
static bool used_again(const struct recipe *r, const struct step *s)
{
    for (size_t i = 0; i < r->step_count; i++) {
        const struct step *other = &r->steps[i];
        if (other != s && other->progress != DONE && other->model &&
            strcmp(other->model, s->model) == 0)
            return true;
    }
    return false;
}

static int draw_step(struct recipe *r, struct step *s, struct studio *studio)
{
    struct run_model *named = s->model ? model_named(r, s->model, strlen(s->model)) : NULL;
    struct step *before = s->picture ? step_named(r, s->picture) : NULL;
    const char *picture = before ? before->o.output : s->picture;
    struct source source = { 0 };
    styx_model *own = NULL;
    int rc = named ? 0 : model_of_options(&s->o, &own);
    struct job job = { .studio = studio,
                       .model = named ? named->model : own,
                       .more = named && used_again(r, s) };
    if (rc == 0 && picture)
        rc = option_parse(&s->o, flag_find("picture"), "picture", picture);
    if (rc == 0 && picture) {
        rc = source_open(&source, &s->o, job.model);
        job.source = &source;
    }
    if (rc == 0) {
        say("%s:", s->name);
        rc = draw(&job, &s->o);
    }
    source_free(&source);
    styx_model_free(own);
    return rc;
}

/* After the step that it starts from. */
static int run_step(struct recipe *r, struct step *s, struct studio *studio)
{
    struct step *before = s->picture ? step_named(r, s->picture) : NULL;
    int rc = before && before->progress != DONE ? run_step(r, before, studio) : 0;
    if (rc == 0 && s->progress != DONE)
        rc = draw_step(r, s, studio);
    s->progress = DONE;
    return rc;
}

static int load(struct recipe *r, const struct options *given)
{
    json_error_t error;
    r->root = json_load_file(r->path, JSON_REJECT_DUPLICATES, &error);
    if (!r->root)
        return complain(EXIT_USAGE, "%s: %s (line %d)", r->path, error.text, error.line);
    if (!json_is_object(r->root))
        return complain(EXIT_USAGE, "%s: no JSON object", r->path);
    int rc = read_models(r);
    if (rc == 0)
        rc = read_steps(r, given);
    if (rc == 0)
        rc = check_circles(r);
    for (size_t i = 0; i < r->model_count && rc == 0; i++)
        rc = open_model(r, &r->models[i]);
    return rc;
}

static void recipe_free(struct recipe *r)
{
    for (size_t i = 0; i < r->step_count; i++)
        if (r->steps[i].parsed)
            options_free(&r->steps[i].o);
    for (size_t i = 0; i < r->model_count; i++)
        styx_model_free(r->models[i].model);
    free(r->steps);
    free(r->models);
    json_decref(r->root);
}

int run_recipe(struct options *o)
{
    struct recipe r = { .path = o->subject };
    struct studio studio = { 0 };
    int rc = load(&r, o);
    if (rc == 0)
        rc = studio_begin(&studio, o);
    for (size_t i = 0; i < r.step_count && rc == 0; i++)
        rc = run_step(&r, &r.steps[i], &studio);
    if (studio.session)
        studio_end(&studio);
    recipe_free(&r);
    return rc;
}
