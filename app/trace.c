/* trace.c - see trace.h. */
#include "trace.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

static bool named(const struct trace *t, const char *name)
{
    for (size_t i = 0; i < t->count; i++)
        if (strcmp(t->names[i], name) == 0)
            return true;
    return false;
}

static int grow(struct trace *t)
{
    if (t->count < t->capacity)
        return 0;
    size_t capacity = t->capacity ? 2 * t->capacity : 64;
    char **names = realloc(t->names, capacity * sizeof *names);
    if (names)
        t->names = names;
    struct styx_tensor *values = realloc(t->values, capacity * sizeof *values);
    if (values)
        t->values = values;
    if (!names || !values)
        return -1;
    t->capacity = capacity;
    return 0;
}

static size_t numbers(const struct styx_tensor *value)
{
    size_t n = 1;
    for (int i = 0; i < value->dims; i++)
        n *= (size_t)value->shape[i];
    return n;
}

void trace_add(struct trace *t, const char *name, const struct styx_tensor *value)
{
    char unique[200];
    snprintf(unique, sizeof unique, "%s", name);
    for (int again = 2; named(t, unique); again++)
        snprintf(unique, sizeof unique, "%d.%s", again, name);
    size_t n = numbers(value);
    char *copy = strdup(unique);
    float *data = malloc((n ? n : 1) * sizeof *data);
    if (!copy || !data || grow(t)) {
        free(copy);
        free(data);
        t->failed = 1;
        return;
    }
    memcpy(data, value->data, n * sizeof *data);
    t->names[t->count] = copy;
    t->values[t->count] = *value;
    t->values[t->count++].data = data;
}

int trace_save(const struct trace *t, const char *path, int overwrite)
{
    styx_error err;
    if (t->failed)
        return complain_memory();
    if (styx_tensors_save(path, (const char *const *)t->names, t->values, t->count, overwrite,
                          &err))
        return complain_of(&err);
    return 0;
}

void trace_free(struct trace *t)
{
    for (size_t i = 0; i < t->count; i++) {
        free(t->names[i]);
        free(t->values[i].data);
    }
    free(t->names);
    free(t->values);
    *t = (struct trace){ 0 };
}
