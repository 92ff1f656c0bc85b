#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* Python writes infinities as bare words, which JSON has not (diffusers' DPM-Solver configs hold
 * "lambda_min_clipped": -Infinity). They become this number, which json_number() takes back. */
#define INFINITE 1e308

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static int wrong_type(const json_t *value, const char *where, const char *key, const char *want,
                      styx_error *err)
{
    return fail(err, STYX_ERR_FORMAT, "%s: '%s' is %s, %s was wanted", where, key, type_name(value),
                want);
}

/* Walks text outside of strings: refuses deep nesting before jansson's parser recurses, and if
 * text is ours to change replaces Infinity by a number of no more characters. */
static int scan(const char *text, size_t bytes, char *writable, const char *where, styx_error *err)
{
    static const char word[] = "Infinity";
    static const char number[] = "1e308   ";
    int depth = 0;
    bool quoted = false;

    for (size_t i = 0; i < bytes; i++) {
        if (quoted) {
            if (text[i] == '\\')
                i++;
            else if (text[i] == '"')
                quoted = false;
        } else if (text[i] == '"') {
            quoted = true;
        } else if (text[i] == '{' || text[i] == '[') {
            if (++depth > JSON_DEPTH)
                return fail(err, STYX_ERR_FORMAT, "%s: is nested more than %d levels deep", where,
                            JSON_DEPTH);
        } else if (text[i] == '}' || text[i] == ']') {
            depth--;
        } else if (writable && bytes - i >= sizeof word - 1 &&
                   !memcmp(text + i, word, sizeof word - 1)) {
            memcpy(writable + i, number, sizeof word - 1);
        }
    }
    return STYX_OK;
}

static int parse(const char *text, size_t bytes, char *writable, const char *where, json_t **root,
                 styx_error *err)
{
    json_error_t e;

    *root = NULL;
    int rc = scan(text, bytes, writable, where, err);
    if (rc)
        return rc;
    json_t *value = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &e);
    /* jansson says nothing at all when an allocation fails inside of it. */
    if (!value && (!e.text[0] || json_error_code(&e) == json_error_out_of_memory))
        return fail_nomem(err, bytes);
    if (!value)
        return fail(err, STYX_ERR_FORMAT, "%s: is not valid JSON: line %d, column %d: %s", where,
                    e.line, e.column, e.text);
    if (!json_is_object(value)) {
        rc = fail(err, STYX_ERR_FORMAT, "%s: holds %s, an object was wanted", where,
                  type_name(value));
        json_decref(value);
        return rc;
    }
    *root = value;
    return STYX_OK;
}

int json_file(const char *path, json_t **root, styx_error *err)
{
    char *text;
    size_t bytes;

    *root = NULL;
    int rc = file_read(path, JSON_FILE_BYTES, &text, &bytes, err);
    if (!rc)
        rc = parse(text, bytes, text, path, root, err);
    free(text);
    return rc;
}

int json_bytes(const char *text, size_t bytes, const char *where, json_t **root, styx_error *err)
{
    return parse(text, bytes, NULL, where, root, err);
}

/* The value, or NULL if it is missing or null. */
static const json_t *lookup(const json_t *obj, const char *key)
{
    const json_t *value = json_object_get(obj, key);

    return json_is_null(value) ? NULL : value;
}

bool json_has(const json_t *obj, const char *key)
{
    return lookup(obj, key) != NULL;
}

static int int_of(const json_t *value, const char *where, const char *key, int min, int max,
                  int *out, styx_error *err)
{
    if (!json_is_integer(value))
        return wrong_type(value, where, key, "an integer", err);
    json_int_t n = json_integer_value(value);
    if (n < min || n > max)
        return fail(err, STYX_ERR_FORMAT,
                    "%s: '%s' is %" JSON_INTEGER_FORMAT ", a value from %d to %d was wanted", where,
                    key, n, min, max);
    *out = (int)n;
    return STYX_OK;
}

static int double_of(const json_t *value, const char *where, const char *key, double min,
                     double max, double *out, styx_error *err)
{
    if (!json_is_number(value))
        return wrong_type(value, where, key, "a number", err);
    double x = json_number_value(value);
    if (fabs(x) >= INFINITE)
        x = copysign(INFINITY, x);
    if (x < min || x > max)
        return fail(err, STYX_ERR_FORMAT, "%s: '%s' is %g, a value from %g to %g was wanted", where,
                    key, x, min, max);
    *out = x;
    return STYX_OK;
}

static int text_of(const json_t *value, const char *where, const char *key, const char **out,
                   styx_error *err)
{
    if (!json_is_string(value))
        return wrong_type(value, where, key, "a string", err);
    *out = json_string_value(value);
    return STYX_OK;
}

int json_int(const json_t *obj, const char *where, const char *key, int fallback, int min, int max,
             int *out, styx_error *err)
{
    const json_t *value = lookup(obj, key);

    *out = fallback;
    return value ? int_of(value, where, key, min, max, out, err) : STYX_OK;
}

int json_double(const json_t *obj, const char *where, const char *key, double fallback, double min,
                double max, double *out, styx_error *err)
{
    const json_t *value = lookup(obj, key);

    *out = fallback;
    return value ? double_of(value, where, key, min, max, out, err) : STYX_OK;
}

int json_bool(const json_t *obj, const char *where, const char *key, bool fallback, bool *out,
              styx_error *err)
{
    const json_t *value = lookup(obj, key);

    *out = fallback;
    if (value && !json_is_boolean(value))
        return wrong_type(value, where, key, "true or false", err);
    if (value)
        *out = json_is_true(value);
    return STYX_OK;
}

int json_text(const json_t *obj, const char *where, const char *key, const char *fallback,
              const char **out, styx_error *err)
{
    const json_t *value = lookup(obj, key);

    *out = fallback;
    return value ? text_of(value, where, key, out, err) : STYX_OK;
}

int json_choice(const json_t *obj, const char *where, const char *key, const char *const *names,
                int nnames, int fallback, int *out, styx_error *err)
{
    const char *text;
    char list[320] = "";

    *out = fallback;
    int rc = json_text(obj, where, key, NULL, &text, err);
    if (rc || !text)
        return rc;
    for (int i = 0; i < nnames; i++) {
        if (!strcmp(text, names[i])) {
            *out = i;
            return STYX_OK;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
    }
    return fail(err, STYX_ERR_UNSUPPORTED, "%s: '%s' is \"%.60s\", one of these was wanted: %s",
                where, key, text, list);
}

int json_object_of(const json_t *obj, const char *where, const char *key, const json_t **out,
                   styx_error *err)
{
    *out = lookup(obj, key);
    if (*out && !json_is_object(*out))
        return wrong_type(*out, where, key, "an object", err);
    return STYX_OK;
}

/* How many values the list holds: none if it is missing, one for a lone value. */
static int list_of(const json_t *obj, const char *where, const char *key, int capacity,
                   const json_t **list, int *nvalues, styx_error *err)
{
    *list = lookup(obj, key);
    *nvalues = 0;
    if (!*list)
        return STYX_OK;
    size_t n = json_is_array(*list) ? json_array_size(*list) : 1;
    if (n > (size_t)capacity)
        return fail(err, STYX_ERR_FORMAT, "%s: '%s' has %zu values, at most %d were wanted", where,
                    key, n, capacity);
    *nvalues = (int)n;
    return STYX_OK;
}

static const json_t *list_value(const json_t *list, int i)
{
    return json_is_array(list) ? json_array_get(list, (size_t)i) : list;
}

int json_ints(const json_t *obj, const char *where, const char *key, int min, int max, int *values,
              int capacity, int *nvalues, styx_error *err)
{
    const json_t *list;
    int rc = list_of(obj, where, key, capacity, &list, nvalues, err);

    for (int i = 0; i < *nvalues && !rc; i++)
        rc = int_of(list_value(list, i), where, key, min, max, &values[i], err);
    return rc;
}

int json_doubles(const json_t *obj, const char *where, const char *key, double *values,
                 int capacity, int *nvalues, styx_error *err)
{
    const json_t *list;
    int rc = list_of(obj, where, key, capacity, &list, nvalues, err);

    for (int i = 0; i < *nvalues && !rc; i++)
        rc = double_of(list_value(list, i), where, key, -INFINITY, INFINITY, &values[i], err);
    return rc;
}

int json_texts(const json_t *obj, const char *where, const char *key, const char **values,
               int capacity, int *nvalues, styx_error *err)
{
    const json_t *list;
    int rc = list_of(obj, where, key, capacity, &list, nvalues, err);

    for (int i = 0; i < *nvalues && !rc; i++)
        rc = text_of(list_value(list, i), where, key, &values[i], err);
    return rc;
}
