/* generate.c - styx generate: one prompt, or a file of them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "draw.h"
#include "paths.h"
#include "recipe.h"
#include "say.h"
#include "split.h"
#include "value.h"

/* Prompts of one file mostly share a model: the last one opened is kept. */
struct loaded {
    char *key;
    styx_model *model, *refiner;
};

static void loaded_free(struct loaded *l)
{
    free(l->key);
    styx_model_free(l->refiner);
    styx_model_free(l->model);
    *l = (struct loaded){ 0 };
}

static char *key_of(const struct options *o)
{
    const char *parts[] = { o->model,     o->variant, o->vae,         o->text_encoder_2,
                            o->tokenizer, o->refiner, o->model_config };
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        json_array_append_new(list, parts[i] ? json_string(parts[i]) : json_null());
    json_array_append_new(list, value_to_json(flag_find("lora"), &o->loras));
    json_array_append_new(list, value_to_json(flag_find("embedding"), &o->embeddings));
    char *key = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return key;
}

static int load(struct loaded *l, struct studio *studio, const struct options *o)
{
    char *key = key_of(o);
    if (key && l->key && strcmp(key, l->key) == 0) {
        free(key);
        return 0;
    }
    loaded_free(l);
    styx_session_sweep(studio->session); /* the last model's weights */
    int rc = key ? model_of_options(o, &l->model) : complain_memory();
    if (rc == 0 && o->refiner)
        rc = refiner_of_options(o, l->model, &l->refiner);
    l->key = key;
    if (rc)
        loaded_free(l);
    return rc;
}

static int draw_one(struct studio *studio, struct loaded *loaded, const struct options *o,
                    bool more)
{
    int rc = load(loaded, studio, o);
    if (rc)
        return rc;
    struct job job = {
        .studio = studio, .model = loaded->model, .refiner = loaded->refiner, .more = more
    };
    return draw(&job, o);
}

struct prompts {
    struct options *list;
    size_t count;
};

static void prompts_free(struct prompts *p)
{
    for (size_t i = 0; i < p->count; i++)
        options_free(&p->list[i]);
    free(p->list);
    *p = (struct prompts){ 0 };
}

/* What the line says goes over what the flags say. */
static int add_line(struct prompts *p, const struct options *flags_given, const char *line,
                    const char *where)
{
    json_error_t error;
    struct options o;
    struct options *list = realloc(p->list, (p->count + 1) * sizeof *list);
    if (!list)
        return complain_memory();
    p->list = list;
    json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    if (!object)
        return complain(EXIT_USAGE, "%s: no JSON object: %s", where, error.text);
    int rc = options_copy(&o, flags_given);
    if (rc == 0) {
        rc = options_from_json(&o, object, where, NULL, false);
        if (rc == 0 && !o.prompt)
            rc = complain(EXIT_USAGE, "%s: no prompt", where);
        if (rc == 0)
            rc = draw_check(&o);
        if (rc)
            options_free(&o);
        else
            p->list[p->count++] = o;
    }
    json_decref(object);
    return rc;
}

/* Two lines may not write the same file. */
static int check_outputs(const struct prompts *p, const char *path)
{
    for (size_t i = 0; i < p->count; i++)
        for (size_t j = 0; j < i; j++) {
            const char *a = p->list[i].output, *b = p->list[j].output;
            if (a && b && strcmp(a, b) == 0 && !output_is_folder(a))
                return complain(EXIT_USAGE,
                                "%s: more than one line writes %s; give each its own "
                                "output, or a folder",
                                path, a);
        }
    return 0;
}

static int read_prompts(struct prompts *p, const struct options *o)
{
    FILE *file = fopen(o->prompts, "r");
    char *line = NULL, where[300];
    size_t capacity = 0;
    ssize_t length;
    int rc = 0;
    if (!file)
        return complain(EXIT_FAILED, "--prompts: %s: %s", o->prompts, strerror(errno));
    for (int number = 1; rc == 0 && (length = getline(&line, &capacity, file)) >= 0; number++) {
        snprintf(where, sizeof where, "%.200s, line %d", o->prompts, number);
        if ((size_t)length != strlen(line))
            rc = complain(EXIT_USAGE, "%s: a NUL byte", where);
        else if (line[strspn(line, " \t\r\n")])
            rc = add_line(p, o, line, where);
    }
    if (rc == 0 && ferror(file))
        rc = complain(EXIT_FAILED, "--prompts: %s: %s", o->prompts, strerror(errno));
    if (rc == 0 && p->count == 0)
        rc = complain(EXIT_USAGE, "--prompts: %s holds no line", o->prompts);
    free(line);
    fclose(file);
    return rc ? rc : check_outputs(p, o->prompts);
}

/* One that fails does not keep the others from being drawn. */
static int draw_prompts(struct studio *studio, struct loaded *loaded, const struct prompts *p,
                        const struct split *split)
{
    size_t next = (size_t)split->processes;
    int worst = 0;
    for (size_t i = (size_t)split->number; i < p->count && worst != EXIT_CANCELLED; i += next) {
        int rc = draw_one(studio, loaded, &p->list[i], i + next < p->count);
        if (rc)
            worst = rc;
    }
    return worst;
}

static int prepare(struct options *o, struct prompts *prompts)
{
    int rc = o->from ? recipe_take(o, o->from) : 0;
    if (rc)
        return rc;
    if (!o->prompts && !o->prompt)
        return complain(EXIT_USAGE, "styx generate wants a PROMPT, or --prompts or --from");
    rc = split_check(o);
    if (rc)
        return rc;
    return o->prompts ? read_prompts(prompts, o) : draw_check(o);
}

int run_generate(struct options *o)
{
    struct prompts prompts = { 0 };
    struct loaded loaded = { 0 };
    struct studio studio = { 0 };
    struct split split = { 0 };
    int rc = prepare(o, &prompts);
    if (rc == 0) {
        split = split_begin(o, o->prompts ? prompts.count : o->seeds.count);
        rc = split.rc;
    }
    if (rc == 0 && !split.parent) {
        split_seeds(&split, o);
        say_quiet(o->quiet);
        rc = studio_begin(&studio, o);
    }
    if (rc == 0 && !split.parent)
        rc = o->prompts ? draw_prompts(&studio, &loaded, &prompts, &split)
                        : draw_one(&studio, &loaded, o, false);
    loaded_free(&loaded);
    if (studio.session)
        studio_end(&studio);
    prompts_free(&prompts);
    return rc;
}
