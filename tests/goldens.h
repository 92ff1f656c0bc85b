/* goldens.h - what the real diffusers computed: JSON lists beside safetensors files.
 *
 * The folder is $STYX_GOLDENS, or tests/golden. Small on purpose: it reads whole files and trusts
 * them, and shares nothing with the library's own reader, which is under test elsewhere. */
#ifndef STYX_TESTS_GOLDENS_H
#define STYX_TESTS_GOLDENS_H
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/file.h"

struct goldens {
    json_t *list;   /* NAME.json */
    json_t *header; /* of NAME.safetensors */
    char *bytes;
    const char *data;
};

static inline void goldens_path(char *path, size_t bytes, const char *name, const char *ending)
{
    const char *folder = getenv("STYX_GOLDENS");
    snprintf(path, bytes, "%s/%s%s", folder ? folder : STYX_TEST_DATA "/golden", name, ending);
}

/* 0, or -1 with a message on stderr. */
static inline int goldens_open(struct goldens *g, const char *name)
{
    char path[4096];
    styx_error err = { 0 };
    uint64_t header_bytes;
    memset(g, 0, sizeof *g);
    goldens_path(path, sizeof path, name, ".json");
    if (file_read(path, 1u << 30, &g->bytes, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    /* Python writes NaN, which is no JSON: make it something that is no number. */
    for (char *nan = g->bytes; (nan = strstr(nan, "NaN"));)
        memcpy(nan, "\"\" ", 3);
    g->list = json_loads(g->bytes, 0, NULL);
    free(g->bytes);
    g->bytes = NULL;
    if (!g->list) {
        fprintf(stderr, "%s is no JSON\n", path);
        return -1;
    }
    goldens_path(path, sizeof path, name, ".safetensors");
    if (file_read(path, 1u << 30, &g->bytes, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    memcpy(&header_bytes, g->bytes, 8);
    g->header = json_loadb(g->bytes + 8, header_bytes, 0, NULL);
    g->data = g->bytes + 8 + header_bytes;
    return g->header ? 0 : -1;
}

static inline void goldens_close(struct goldens *g)
{
    json_decref(g->list);
    json_decref(g->header);
    free(g->bytes);
}

/* The tensor as floats (free it), or NULL if there is none of that name. */
static inline float *goldens_tensor(const struct goldens *g, const char *name, size_t *n)
{
    const json_t *entry = json_object_get(g->header, name), *offsets;
    if (!entry)
        return NULL;
    offsets = json_object_get(entry, "data_offsets");
    size_t from = (size_t)json_integer_value(json_array_get(offsets, 0));
    size_t to = (size_t)json_integer_value(json_array_get(offsets, 1));
    int type = dtype_from_name(json_string_value(json_object_get(entry, "dtype")));
    *n = (to - from) / dtype_bytes((enum dtype)type);
    float *out = malloc((*n + 1) * sizeof *out);
    dtype_to_f32((enum dtype)type, g->data + from, out, *n);
    return out;
}

#endif
