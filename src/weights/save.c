#include "weights/save.h"

#include <jansson.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "weights/quants.h"

enum { GGUF_ALIGNMENT = 32 };

struct saver {
    struct file_out out;
    uint64_t missing; /* bytes of data still to come */
    uint64_t put;
    unsigned align; /* of every tensor */
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

/* ---- GGUF. ---- */

static void put_number(struct buffer *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buffer_byte(to, (unsigned char)(value >> 8 * i & 255));
}

static void put_string(struct buffer *to, const char *text)
{
    put_number(to, strlen(text), 8);
    buffer_text(to, text);
}

/* ggml's number of a type, and the bytes of a tensor. */
static int ggml_type(enum dtype type)
{
    static const int ids[DT_COUNT] = {
        [DT_F32] = 0,  [DT_F16] = 1,  [DT_I8] = 8,   [DT_U8] = -1,
        [DT_I32] = 26, [DT_I64] = 27, [DT_F64] = 28, [DT_BF16] = 30
    };
    return ids[type];
}

static uint64_t gguf_bytes(const struct saved *t)
{
    uint64_t bytes = bytes_of(t);
    return t->type == DT_I8 ? bytes / Q8_0_ELEMENTS * Q8_0_BYTES : bytes;
}

static int check_gguf(const char *path, const struct saved *t, styx_error *err)
{
    if (ggml_type(t->type) < 0)
        return fail(err, STYX_ERR_UNSUPPORTED, "%s: GGUF cannot hold '%s', which is %s", path,
                    t->name, dtype_name(t->type));
    if (t->type == DT_I8 && (!t->dims || t->shape[t->dims - 1] % Q8_0_ELEMENTS))
        return fail(err, STYX_ERR_INTERNAL, "%s: '%s' is no whole number of Q8_0 blocks", path,
                    t->name);
    return STYX_OK;
}

static void put_gguf(struct buffer *to, const struct saved *tensors, int ntensors,
                     const char *const *metadata, uint64_t *bytes)
{
    int nvalues = 0;

    while (metadata && metadata[2 * nvalues])
        nvalues++;
    buffer_text(to, "GGUF");
    put_number(to, 3, 4);
    put_number(to, (uint64_t)ntensors, 8);
    put_number(to, (uint64_t)nvalues, 8);
    for (int i = 0; i < nvalues; i++) {
        put_string(to, metadata[2 * i]);
        put_number(to, 8, 4); /* a string */
        put_string(to, metadata[2 * i + 1]);
    }
    *bytes = 0;
    for (int i = 0; i < ntensors; i++) {
        const struct saved *t = &tensors[i];
        put_string(to, t->name);
        put_number(to, (uint64_t)t->dims, 4);
        for (int k = t->dims - 1; k >= 0; k--)
            put_number(to, (uint64_t)t->shape[k], 8);
        put_number(to, (uint64_t)ggml_type(t->type), 4);
        put_number(to, *bytes, 8);
        *bytes += (gguf_bytes(t) + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT;
    }
    while (to->bytes % GGUF_ALIGNMENT && !to->nomem)
        buffer_byte(to, 0);
}

int save_open_gguf(const char *path, const struct saved *tensors, int ntensors,
                   const char *const *metadata, enum file_flags flags, struct saver **out,
                   styx_error *err)
{
    struct saver *s = calloc(1, sizeof *s);
    struct buffer header = { 0 };
    int rc = s ? STYX_OK : fail_nomem(err, sizeof *s);

    *out = NULL;
    for (int i = 0; !rc && i < ntensors; i++)
        rc = check_gguf(path, &tensors[i], err);
    if (rc)
        goto done;
    put_gguf(&header, tensors, ntensors, metadata, &s->missing);
    s->align = GGUF_ALIGNMENT;
    if (header.nomem) {
        rc = fail_nomem(err, header.bytes);
        goto done;
    }
    if ((rc = file_out_open(path, flags, &s->out, err)) ||
        (rc = file_out_put(&s->out, header.data, header.bytes, err)))
        goto done;
    *out = s;
    s = NULL;
done:
    buffer_free(&header);
    save_drop(s);
    return rc;
}

/* ---- Both. ---- */

int save_put(struct saver *s, const void *data, size_t bytes, styx_error *err)
{
    if (bytes > s->missing)
        return fail(err, STYX_ERR_INTERNAL, "%s: more data than its header announces", s->out.path);
    s->missing -= bytes;
    s->put += bytes;
    return file_out_put(&s->out, data, bytes, err);
}

int save_pad(struct saver *s, styx_error *err)
{
    static const char zeros[GGUF_ALIGNMENT];
    return s->align ? save_put(s, zeros, -s->put % s->align, err) : STYX_OK;
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
