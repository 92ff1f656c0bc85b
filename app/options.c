/* options.c - see options.h. */
#include "options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"
#include "value.h"

void options_init(struct options *o)
{
    *o = (struct options){
        .count = 1,
        .clip_skip = -1,
        .guidance = NAN,
        .strength = NAN,
        .aesthetic_score = NAN,
        .negative_aesthetic_score = NAN,
        .denoising_start = NAN,
        .denoising_end = NAN,
        .refiner_at = 0.8,
        .refiner_strength = NAN,
        .batch = 1,
        .encoder = 1,
    };
}

void options_free(struct options *o)
{
    for (size_t i = 0; i < flag_count; i++)
        value_free(&flags[i], flag_field(o, &flags[i]));
    options_init(o);
}

static int copy_texts(struct texts *texts)
{
    char **values = calloc(texts->count, sizeof *values);
    size_t copied = 0;
    while (values && copied < texts->count && (values[copied] = strdup(texts->values[copied])))
        copied++;
    int rc = copied < texts->count ? EXIT_FAILED : 0;
    texts->values = values;
    texts->count = copied;
    return rc;
}

/* What a flag's value points to becomes the copy's own. */
static int copy_value(const struct flag *f, void *field)
{
    if (f->kind == KIND_TEXTS && ((struct texts *)field)->count)
        return copy_texts(field);
    char **text = field;
    struct reals *reals = field;
    struct seeds *seeds = field;
    void *copy = NULL;
    if (f->kind == KIND_TEXT && *text)
        copy = *text = strdup(*text);
    else if (f->kind == KIND_REALS && reals->values) {
        double *values = malloc(reals->count * sizeof *values);
        if (values)
            memcpy(values, reals->values, reals->count * sizeof *values);
        copy = reals->values = values;
    } else if (f->kind == KIND_SEEDS && seeds->values) {
        uint64_t *values = malloc(seeds->count * sizeof *values);
        if (values)
            memcpy(values, seeds->values, seeds->count * sizeof *values);
        copy = seeds->values = values;
    } else {
        return 0;
    }
    return copy ? 0 : EXIT_FAILED;
}

int options_copy(struct options *to, const struct options *from)
{
    int rc = 0;
    *to = *from;
    for (size_t i = 0; i < flag_count; i++)
        rc |= copy_value(&flags[i], flag_field(to, &flags[i]));
    if (rc == 0)
        return 0;
    options_free(to);
    return complain_memory();
}

int option_parse(struct options *o, const struct flag *f, const char *what, const char *text)
{
    int rc = value_parse(f, what, text, flag_field(o, f));
    if (rc == 0)
        o->set[f - flags] = true;
    return rc;
}

static bool listed(const char *key, const char *const *list)
{
    for (; list && *list; list++)
        if (strcmp(*list, key) == 0)
            return true;
    return false;
}

/* The height of {"width": 256, "height": 320} comes with its width. */
static int size_from_json(struct options *o, const json_t *object, const char *where, bool keep)
{
    const struct flag *f = flag_find("size");
    const json_t *width = json_object_get(object, "width");
    const json_t *height = json_object_get(object, "height");
    if ((!width && !height) || (keep && o->set[f - flags]))
        return 0;
    if (!json_is_integer(width) || !json_is_integer(height))
        return complain(EXIT_USAGE, "%s: width and height must both be whole numbers", where);
    char text[64];
    snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT "x%" JSON_INTEGER_FORMAT,
             json_integer_value(width), json_integer_value(height));
    char what[300];
    snprintf(what, sizeof what, "%.200s: size", where);
    return option_parse(o, f, what, text);
}

/* A list replaces what was there. */
static int texts_from_json(struct options *o, const struct flag *f, const char *what,
                           const json_t *value)
{
    struct texts *field = flag_field(o, f);
    int rc = 0;
    size_t i;
    json_t *item;
    value_free(f, field);
    *field = (struct texts){ 0 };
    if (!json_is_array(value))
        return complain(EXIT_USAGE, "%s is not a list of texts", what);
    json_array_foreach(value, i, item)
    {
        if (rc == 0 && !json_is_string(item))
            rc = complain(EXIT_USAGE, "%s is not a list of texts", what);
        if (rc == 0)
            rc = option_parse(o, f, what, json_string_value(item));
    }
    return rc;
}

static int setting_from_json(struct options *o, const char *key, const json_t *value,
                             const char *where, bool keep)
{
    const struct flag *f = flag_find(key);
    if (!f || !(f->commands & RECIPE))
        return complain(EXIT_USAGE, "%s: '%.60s' is no setting that Styx knows", where, key);
    if (json_is_null(value) || (keep && o->set[f - flags]))
        return 0;
    char what[300];
    snprintf(what, sizeof what, "%.200s: %.60s", where, key);
    if (f->kind == KIND_TEXTS)
        return texts_from_json(o, f, what, value);
    bool matches = f->kind == KIND_TEXT   ? json_is_string(value)
                   : f->kind == KIND_BOOL ? json_is_boolean(value)
                                          : !json_is_boolean(value) && !json_is_object(value);
    char *text = matches ? value_text_of_json(value) : NULL;
    if (!text)
        return complain(EXIT_USAGE, "%s is not %s", what,
                        f->kind == KIND_TEXT   ? "a text"
                        : f->kind == KIND_BOOL ? "true or false"
                                               : "a value of its kind");
    int rc = option_parse(o, f, what, text);
    free(text);
    return rc;
}

int options_from_json(struct options *o, const json_t *object, const char *where,
                      const char *const *skip, bool keep)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return complain(EXIT_USAGE, "%s is no JSON object", where);
    json_object_foreach((json_t *)object, key, value)
    {
        if (listed(key, skip) || strcmp(key, "width") == 0 || strcmp(key, "height") == 0)
            continue;
        int rc = setting_from_json(o, key, value, where, keep);
        if (rc)
            return rc;
    }
    return size_from_json(o, object, where, keep);
}

json_t *options_to_json(const struct options *o)
{
    json_t *object = json_object();
    for (size_t i = 0; i < flag_count; i++) {
        const struct flag *f = &flags[i];
        if (!o->set[i] || !(f->commands & RECIPE))
            continue;
        char key[64];
        size_t n = 0;
        for (; f->name[n] && n + 1 < sizeof key; n++)
            key[n] = f->name[n] == '-' ? '_' : f->name[n];
        key[n] = '\0';
        if (json_object_set_new(object, key,
                                value_to_json(f, flag_field((struct options *)o, f)))) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}
