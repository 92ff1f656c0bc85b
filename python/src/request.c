/* request.c - a dict as a struct styx_request. The keys are its field names. */
#include "core.h"

#include <stddef.h>
#include <string.h>

enum kind {
    TEXT,
    TEXTS,
    INT,
    DOUBLE,
    DOUBLES,
    PAIR,
    TENSOR,
    IMAGES,
    IMAGE,
    GENERATORS,
    SEEDS,
    SCHEDULER
};

struct field {
    const char *name;
    enum kind kind;
    size_t offset, count; /* count: where the length of a list goes */
};

#define AT(name) offsetof(struct styx_request, name)
/* clang-format off */
#define ONE(kind, name) { #name, kind, AT(name), 0 }
/* clang-format on */

static const struct field fields[] = {
    ONE(TEXT, prompt),
    ONE(TEXT, prompt_2),
    ONE(TEXT, negative_prompt),
    ONE(TEXT, negative_prompt_2),
    { "prompts", TEXTS, AT(prompts), AT(prompt_count) },
    ONE(TEXTS, prompts_2),
    ONE(TEXTS, negative_prompts),
    ONE(TEXTS, negative_prompts_2),
    ONE(INT, images_per_prompt),
    ONE(INT, clip_skip),
    ONE(INT, emphasis),
    ONE(TENSOR, prompt_embeds),
    ONE(TENSOR, negative_prompt_embeds),
    ONE(TENSOR, pooled_prompt_embeds),
    ONE(TENSOR, negative_pooled_prompt_embeds),
    ONE(INT, width),
    ONE(INT, height),
    ONE(INT, steps),
    ONE(DOUBLE, guidance_scale),
    ONE(DOUBLE, guidance_rescale),
    ONE(DOUBLE, eta),
    { "timesteps", DOUBLES, AT(timesteps), AT(timestep_count) },
    { "sigmas", DOUBLES, AT(sigmas), AT(sigma_count) },
    ONE(SCHEDULER, scheduler),
    ONE(DOUBLE, denoising_end),
    ONE(DOUBLE, denoising_start),
    { "generators", GENERATORS, AT(generators), AT(generator_count) },
    ONE(INT, generator_kind),
    { "seeds", SEEDS, AT(seeds), AT(seed_count) },
    ONE(INT, noise_dtype),
    ONE(TENSOR, latents),
    { "images", IMAGES, AT(images), AT(image_count) },
    ONE(TENSOR, image_tensor),
    ONE(IMAGE, mask),
    ONE(TENSOR, mask_tensor),
    ONE(DOUBLE, strength),
    ONE(PAIR, original_size),
    ONE(PAIR, target_size),
    ONE(PAIR, crop),
    ONE(PAIR, negative_original_size),
    ONE(PAIR, negative_target_size),
    ONE(PAIR, negative_crop),
    ONE(DOUBLE, aesthetic_score),
    ONE(DOUBLE, negative_aesthetic_score),
    ONE(INT, dtype),
    ONE(INT, vae_dtype),
    ONE(INT, vae_slicing),
    ONE(INT, vae_tiling),
    ONE(INT, vae_tile),
    ONE(INT, safety),
    ONE(INT, output),
};

static int text_in(PyObject *value, const char **to)
{
    Py_ssize_t bytes;
    *to = PyUnicode_AsUTF8AndSize(value, &bytes); /* lives as long as the dict */
    if (!*to)
        return -1;
    if ((size_t)bytes != strlen(*to)) {
        PyErr_SetString(PyExc_ValueError, "a text has a NUL character in it");
        return -1;
    }
    return 0;
}

/* Item i of a list or tuple, borrowed: the dict keeps the list, the list its items. */
static PyObject *item_of(PyObject *list, Py_ssize_t i)
{
    return PyList_Check(list) ? PyList_GetItem(list, i) : PyTuple_GetItem(list, i);
}

static int seeds_in(PyObject *value, uint64_t *to)
{
    *to = PyLong_AsUnsignedLongLong(value);
    return PyErr_Occurred() ? -1 : 0;
}

static int generator_in(PyObject *value, styx_generator **to)
{
    *to = generator_of(value);
    return *to ? 0 : -1;
}

static size_t item_size(enum kind kind)
{
    switch (kind) {
    case TEXTS:
        return sizeof(const char *);
    case DOUBLES:
        return sizeof(double);
    case IMAGES:
        return sizeof(struct styx_image);
    case GENERATORS:
        return sizeof(styx_generator *);
    default:
        return sizeof(uint64_t);
    }
}

static int item_in(struct hold *h, enum kind kind, PyObject *item, void *to)
{
    if (!item)
        return -1;
    switch (kind) {
    case TEXTS:
        return text_in(item, to);
    case DOUBLES:
        *(double *)to = PyFloat_AsDouble(item);
        return PyErr_Occurred() ? -1 : 0;
    case IMAGES:
        return image_in(h, item, to);
    case GENERATORS:
        return generator_in(item, to);
    default:
        return seeds_in(item, to);
    }
}

static int list_in(struct hold *h, const struct field *f, PyObject *value, char *request)
{
    if (!PyList_Check(value) && !PyTuple_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s: a list was wanted", f->name);
        return -1;
    }
    Py_ssize_t n = PySequence_Size(value);
    size_t size = item_size(f->kind);
    char *items = hold_alloc(h, (size_t)n * size);
    if (!items)
        return -1;
    for (Py_ssize_t i = 0; i < n; i++)
        if (item_in(h, f->kind, item_of(value, i), items + (size_t)i * size) < 0)
            return -1;
    *(void **)(request + f->offset) = items;
    if (f->count)
        *(size_t *)(request + f->count) = (size_t)n;
    return 0;
}

static int int_in(PyObject *value, int *to)
{
    long x = PyLong_AsLong(value);
    if (x < INT32_MIN || x > INT32_MAX)
        PyErr_SetString(PyExc_ValueError, "an integer beyond 32 bits");
    *to = (int)x;
    return PyErr_Occurred() ? -1 : 0;
}

static int pair_in(PyObject *value, int *to)
{
    PyObject *first = PySequence_GetItem(value, 0), *second = PySequence_GetItem(value, 1);
    int rc = first && second && int_in(first, &to[0]) == 0 && int_in(second, &to[1]) == 0 ? 0 : -1;
    Py_XDECREF(first);
    Py_XDECREF(second);
    return rc;
}

static int field_in(struct hold *h, const struct field *f, PyObject *value, char *request)
{
    void *to = request + f->offset;
    switch (f->kind) {
    case TEXT:
        return text_in(value, to);
    case INT:
        return int_in(value, to);
    case DOUBLE:
        *(double *)to = PyFloat_AsDouble(value);
        return PyErr_Occurred() ? -1 : 0;
    case PAIR:
        return pair_in(value, to);
    case TENSOR:
        return tensor_in_optional(h, value, f->name, to);
    case IMAGE: {
        struct styx_image *image = hold_alloc(h, sizeof *image);
        *(struct styx_image **)to = image;
        return image ? image_in(h, value, image) : -1;
    }
    case SCHEDULER:
        *(styx_scheduler **)to = scheduler_of(value);
        return *(styx_scheduler **)to ? 0 : -1;
    default:
        return list_in(h, f, value, request);
    }
}

static const struct field *find(const char *name)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

int request_in(struct hold *h, PyObject *dict, struct styx_request *to)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    styx_request_init(to, sizeof *to);
    while (PyDict_Next(dict, &at, &key, &value)) {
        const char *name = PyUnicode_AsUTF8AndSize(key, NULL);
        const struct field *f = name ? find(name) : NULL;
        if (!name)
            return -1;
        if (!f) {
            PyErr_Format(PyExc_TypeError, "a request has no field '%s'", name);
            return -1;
        }
        if (value != Py_None && field_in(h, f, value, (char *)to) < 0)
            return -1;
    }
    return 0;
}
