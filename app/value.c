/* value.c - see value.h. Numbers are taken whole or not at all: "12x", "", "nan" and "1e23" for a
 * count are mistakes to tell, not to guess about. */
#include "value.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

static bool read_integer(const char *text, long long *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    bool digit = *text == '-' || *text == '+' ? text[1] >= '0' && text[1] <= '9'
                                              : *text >= '0' && *text <= '9';
    return digit && *end == '\0' && errno == 0;
}

static bool read_real(const char *text, double *out)
{
    char *end;
    /* strtod also knows blanks, hexadecimal, inf and nan. */
    if (!*text || text[strspn(text, "+-.0123456789eE")])
        return false;
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out);
}

static bool read_seed(const char *text, size_t length, uint64_t *out)
{
    char digits[24];
    char *end;
    if (length == 0 || length >= sizeof digits || strspn(text, "0123456789") < length)
        return false;
    memcpy(digits, text, length);
    digits[length] = '\0';
    errno = 0;
    *out = strtoull(digits, &end, 10);
    return errno == 0;
}

static int parse_int(const struct flag *f, const char *what, const char *text, int *field)
{
    long long value;
    if (!read_integer(text, &value) || (double)value < f->min || (double)value > f->max)
        return complain(EXIT_USAGE, "%s is '%.60s', want a whole number from %g to %g", what, text,
                        f->min, f->max);
    *field = (int)value;
    return 0;
}

static int parse_real(const struct flag *f, const char *what, const char *text, double *field)
{
    double value;
    if (!read_real(text, &value) || value < f->min || value > f->max)
        return complain(EXIT_USAGE, "%s is '%.60s', want a number from %g to %g", what, text,
                        f->min, f->max);
    *field = value;
    return 0;
}

static int parse_bytes(const char *what, const char *text, uint64_t *field)
{
    static const char units[] = "KMGT";
    size_t length = strspn(text, "0123456789");
    uint64_t value = 0;
    const char *unit = text[length] ? strchr(units, text[length] & ~0x20) : NULL;
    int shift = unit && *unit ? 10 * (int)(unit - units + 1) : 0;
    const char *rest = text + length + (shift > 0);
    if (shift && strcmp(rest, "iB") == 0)
        rest += 2;
    if (!read_seed(text, length, &value) || *rest || value > UINT64_MAX >> shift)
        return complain(EXIT_USAGE, "%s is '%.60s', want bytes, such as 800000000 or 2G", what,
                        text);
    *field = value << shift;
    return 0;
}

static int parse_text(const char *text, char **field)
{
    char *copy = strdup(text);
    if (!copy)
        return complain_memory();
    free(*field);
    *field = copy;
    return 0;
}

static int parse_choice(const struct flag *f, const char *what, const char *text, int *field)
{
    for (int i = 0; f->words[i]; i++)
        if (strcmp(f->words[i], text) == 0) {
            *field = i;
            return 0;
        }
    char words[200] = "";
    for (int i = 0; f->words[i]; i++) {
        size_t used = strlen(words);
        const char *between = i == 0 ? "" : f->words[i + 1] ? ", " : " or ";
        snprintf(words + used, sizeof words - used, "%s%s", between, f->words[i]);
    }
    return complain(EXIT_USAGE, "%s is '%.60s', want %s", what, text, words);
}

static int parse_pair(const struct flag *f, const char *what, const char *text, struct pair *field)
{
    char between = f->kind == KIND_SIZE ? 'x' : ',';
    char first[24] = "";
    long long a = 0, b = 0;
    const char *sign = strchr(text, between);
    if (sign && (size_t)(sign - text) < sizeof first)
        memcpy(first, text, (size_t)(sign - text));
    if (!sign || !read_integer(first, &a) || !read_integer(sign + 1, &b))
        return complain(EXIT_USAGE, "%s is '%.60s', want %s", what, text,
                        between == 'x' ? "width x height, such as 512x768"
                                       : "two whole numbers, such as 0,0");
    if ((double)a < f->min || (double)b < f->min || (double)a > f->max || (double)b > f->max)
        return complain(EXIT_USAGE, "%s is '%.60s', want numbers from %g to %g", what, text, f->min,
                        f->max);
    *field = (struct pair){ (int)a, (int)b };
    return 0;
}

static size_t count_items(const char *text)
{
    size_t items = 1;
    for (; *text; text++)
        items += *text == ',';
    return items;
}

static int parse_reals(const struct flag *f, const char *what, const char *text,
                       struct reals *field)
{
    struct reals list = { calloc(count_items(text), sizeof(double)), 0 };
    if (!list.values)
        return complain_memory();
    for (const char *item = text;; item++) {
        char word[48] = "";
        size_t length = strcspn(item, ",");
        if (length < sizeof word)
            memcpy(word, item, length);
        int rc = parse_real(f, what, word, &list.values[list.count++]);
        if (rc) {
            free(list.values);
            return rc;
        }
        item += length;
        if (!*item)
            break;
    }
    free(field->values);
    *field = list;
    return 0;
}

static int parse_seeds(const char *what, const char *text, struct seeds *field)
{
    struct seeds list = { calloc(count_items(text), sizeof(uint64_t)), 0 };
    if (!list.values)
        return complain_memory();
    for (const char *item = text;; item++) {
        size_t length = strcspn(item, ",");
        if (!read_seed(item, length, &list.values[list.count++])) {
            free(list.values);
            return complain(EXIT_USAGE,
                            "%s is '%.60s', want a whole number from 0 to 18446744073709551615, "
                            "or several with commas between",
                            what, text);
        }
        item += length;
        if (!*item)
            break;
    }
    free(field->values);
    *field = list;
    return 0;
}

static int append_text(const char *text, struct texts *field)
{
    char **values = realloc(field->values, (field->count + 1) * sizeof *values);
    if (values)
        field->values = values;
    if (!values || !(values[field->count] = strdup(text)))
        return complain_memory();
    field->count++;
    return 0;
}

static int parse_bool(const char *what, const char *text, bool *field)
{
    bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0)
        return complain(EXIT_USAGE, "%s is '%.60s', want true or false", what, text);
    *field = yes;
    return 0;
}

int value_parse(const struct flag *f, const char *what, const char *text, void *field)
{
    switch (f->kind) {
    case KIND_BOOL:
        return parse_bool(what, text, field);
    case KIND_INT:
        return parse_int(f, what, text, field);
    case KIND_REAL:
        return parse_real(f, what, text, field);
    case KIND_BYTES:
        return parse_bytes(what, text, field);
    case KIND_TEXT:
        return parse_text(text, field);
    case KIND_CHOICE:
        return parse_choice(f, what, text, field);
    case KIND_SIZE:
    case KIND_PAIR:
        return parse_pair(f, what, text, field);
    case KIND_REALS:
        return parse_reals(f, what, text, field);
    case KIND_SEEDS:
        return parse_seeds(what, text, field);
    case KIND_TEXTS:
        return append_text(text, field);
    }
    return EXIT_FAILED;
}

void value_free(const struct flag *f, void *field)
{
    if (f->kind == KIND_TEXT)
        free(*(char **)field);
    else if (f->kind == KIND_REALS)
        free(((struct reals *)field)->values);
    else if (f->kind == KIND_SEEDS)
        free(((struct seeds *)field)->values);
    else if (f->kind == KIND_TEXTS) {
        struct texts *texts = field;
        for (size_t i = 0; i < texts->count; i++)
            free(texts->values[i]);
        free(texts->values);
    }
}

json_t *seed_to_json(uint64_t seed)
{
    return seed <= INT64_MAX ? json_integer((json_int_t)seed) : json_sprintf("%" PRIu64, seed);
}

static json_t *reals_to_json(const struct reals *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, json_real(list->values[i]));
    return array;
}

static json_t *seeds_to_json(const struct seeds *list)
{
    if (list->count == 1)
        return seed_to_json(list->values[0]);
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, seed_to_json(list->values[i]));
    return array;
}

static json_t *texts_to_json(const struct texts *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        if (json_array_append_new(array, json_string(list->values[i]))) {
            json_decref(array);
            return NULL;
        }
    return array;
}

json_t *value_to_json(const struct flag *f, const void *field)
{
    const struct pair *pair = field;
    switch (f->kind) {
    case KIND_BOOL:
        return json_boolean(*(const bool *)field);
    case KIND_INT:
        return json_integer(*(const int *)field);
    case KIND_REAL:
        return json_real(*(const double *)field);
    case KIND_BYTES:
        return seed_to_json(*(const uint64_t *)field);
    case KIND_TEXT:
        return json_string(*(char *const *)field);
    case KIND_CHOICE:
        return json_string(f->words[*(const int *)field]);
    case KIND_SIZE:
        return json_sprintf("%dx%d", pair->a, pair->b);
    case KIND_PAIR:
        return json_sprintf("%d,%d", pair->a, pair->b);
    case KIND_REALS:
        return reals_to_json(field);
    case KIND_SEEDS:
        return seeds_to_json(field);
    case KIND_TEXTS:
        return texts_to_json(field);
    }
    return NULL;
}

static char *text_of_list(const json_t *list)
{
    size_t bytes = 1, used = 0;
    char *text = strdup("");
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        char *word = json_is_array(item) ? NULL : value_text_of_json(item);
        char *more = word ? realloc(text, bytes += strlen(word) + 1) : NULL;
        if (!more) {
            free(word);
            free(text);
            return NULL;
        }
        text = more;
        used += (size_t)sprintf(text + used, "%s%s", i ? "," : "", word);
        free(word);
    }
    return text;
}

char *value_text_of_json(const json_t *value)
{
    char text[64];
    if (json_is_string(value))
        return strdup(json_string_value(value));
    if (json_is_array(value))
        return text_of_list(value);
    if (json_is_integer(value))
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(text, sizeof text, "%.17g", json_real_value(value));
    else if (json_is_boolean(value))
        snprintf(text, sizeof text, "%s", json_is_true(value) ? "true" : "false");
    else
        return NULL;
    return strdup(text);
}
