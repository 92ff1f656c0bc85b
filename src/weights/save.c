#include "weights/save.h"

#include <jansson.h>
#include <stdlib.h>

struct saver {
    struct file_out out;
    uint64_t missing; /* bytes of data still to come */
};

static int by_width_and_name(const void *a, const void *b)
{
    const struct saved *x = a, *y = b;
    size_t wx = dtype_bytes(x->type), wy = dtype_bytes(y->type);
    return wx != wy ? (wx < wy ? 1 : -1) : strcmp(x->name, y->name);
}

void save_sort(struct saved *tensors, int ntensors)
{
    if (ntensors)
        qsort(tensors, (size_t)ntensors, sizeof *tensors, by_width_and_name);
}

static uint64_t bytes_of(const struct saved *t)
{
    uint64_t bytes = dtype_bytes(t->type);
    for (int i = 0; i < t->dims; i++)
        bytes *= (uint64_t)t->shape[i];
    return bytes;
}

/* {"dtype", "shape", "data_offsets"}, or NULL. */
static json_t *describe(const struct saved *t, uint64_t begin)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->dims; i++)
        json_array_append_new(shape, json_integer(t->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(t->type), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)(begin + bytes_of(t)));
}

/* The header's text (free), and how many bytes of data it announces. */
static int make_header(const char *path, const struct saved *tensors, int ntensors,
                       const char *const *metadata, char **text, uint64_t *bytes, styx_error *err)
{
    json_t *root = json_object(), *map = json_object();
    int rc = STYX_OK;

    *text = NULL;
    *bytes = 0;
    for (; !rc && metadata && *metadata; metadata += 2)
        if (json_object_set_new(map, metadata[0], json_string(metadata[1])))
            rc = fail(err, STYX_ERR_INVALID, "%s: a text for its metadata is not UTF-8", path);
    if (!rc && json_object_size(map))
        json_object_set(root, "__metadata__", map);
    for (int i = 0; !rc && i < ntensors; i++) {
        if (json_object_get(root, tensors[i].name))
            rc = fail(err, STYX_ERR_INVALID, "%s: tensor '%s' would be there twice", path,
                      tensors[i].name);
        else if (json_object_set_new(root, tensors[i].name, describe(&tensors[i], *bytes)))
            rc =
                fail(err, STYX_ERR_INVALID, "%s: cannot name a tensor '%s'", path, tensors[i].name);
        *bytes += bytes_of(&tensors[i]);
    }
    if (!rc && !(*text = json_dumps(root, JSON_COMPACT)))
        rc = fail_nomem(err, 0);
    json_decref(map);
    json_decref(root);
    return rc;
}

int save_open(const char *path, const struct saved *tensors, int ntensors,
              const char *const *metadata, enum file_flags flags, struct saver **out,
              styx_error *err)
{
    static const char spaces[8] = "        ";
    unsigned char length[8];
    char *text = NULL;
    struct saver *s = calloc(1, sizeof *s);
    int rc;

    *out = NULL;
    if (!s)
        return fail_nomem(err, sizeof *s);
    if ((rc = make_header(path, tensors, ntensors, metadata, &text, &s->missing, err)) ||
        (rc = file_out_open(path, flags, &s->out, err)))
        goto done;
    /* Padded, so that the data begins at a multiple of 8. */
    size_t n = strlen(text), padding = -n % 8;
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)(n + padding) >> 8 * i);
    if ((rc = file_out_put(&s->out, length, 8, err)) ||
        (rc = file_out_put(&s->out, text, n, err)) ||
        (rc = file_out_put(&s->out, spaces, padding, err)))
        goto done;
    *out = s;
    s = NULL;
done:
    free(text);
    save_drop(s);
    return rc;
}

int save_put(struct saver *s, const void *data, size_t bytes, styx_error *err)
{
    if (bytes > s->missing)
        return fail(err, STYX_ERR_INTERNAL, "%s: more data than its header announces", s->out.path);
    s->missing -= bytes;
    return file_out_put(&s->out, data, bytes, err);
}

int save_close(struct saver *s, styx_error *err)
{
    if (s->missing)
        return fail(err, STYX_ERR_INTERNAL, "%s: less data than its header announces", s->out.path);
    return file_out_commit(&s->out, err);
}

void save_drop(struct saver *s)
{
    if (s)
        file_out_drop(&s->out);
    free(s);
}

int save_file(const char *path, const struct saved *tensors, int ntensors,
              const char *const *metadata, enum file_flags flags, styx_error *err)
{
    struct saver *s = NULL;
    int rc = save_open(path, tensors, ntensors, metadata, flags, &s, err);

    for (int i = 0; !rc && i < ntensors; i++)
        rc = save_put(s, tensors[i].data, bytes_of(&tensors[i]), err);
    if (!rc)
        rc = save_close(s, err);
    save_drop(s);
    return rc;
}
