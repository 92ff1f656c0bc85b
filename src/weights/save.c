#include "weights/save.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "base/utf8.h"
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

/* A JSON string. */
static void put_quoted(struct buffer *to, const char *text)
{
    buffer_byte(to, '"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20)
            buffer_printf(to, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            buffer_printf(to, "\\%c", c);
        else
            buffer_byte(to, c);
    }
    buffer_byte(to, '"');
}

/* ,"NAME":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]} */
static void put_tensor(struct buffer *to, const struct saved *t, uint64_t begin)
{
    put_quoted(to, t->name);
    buffer_printf(to, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(t->type));
    for (int i = 0; i < t->dims; i++)
        buffer_printf(to, "%s%d", i ? "," : "", t->shape[i]);
    buffer_printf(to, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
                  (unsigned long long)(begin + bytes_of(t)));
}

static void put_metadata(struct buffer *to, const char *const *metadata)
{
    for (size_t i = 0; metadata[i]; i += 2) {
        buffer_text(to, i ? "," : "\"__metadata__\":{");
        put_quoted(to, metadata[i]);
        buffer_byte(to, ':');
        put_quoted(to, metadata[i + 1]);
    }
    buffer_byte(to, '}');
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All texts are UTF-8, and no two tensors share a name. */
static int check_names(const char *path, const struct saved *tensors, int ntensors,
                       const char *const *metadata, styx_error *err)
{
    const char **names = malloc(((size_t)ntensors + 1) * sizeof *names);
    int rc = names ? STYX_OK : fail_nomem(err, (size_t)ntensors * sizeof *names);
    size_t at;

    for (size_t i = 0; !rc && metadata && metadata[i]; i++)
        if (!utf8_valid(metadata[i], strlen(metadata[i]), &at))
            rc = fail(err, STYX_ERR_INVALID,
                      "%s: a text for its metadata is not UTF-8 from byte %zu on", path, at);
    for (int i = 0; !rc && i < ntensors; i++) {
        names[i] = tensors[i].name;
        if (!utf8_valid(names[i], strlen(names[i]), &at))
            rc = fail(err, STYX_ERR_INVALID,
                      "%s: the name of a tensor is not UTF-8 from byte %zu on", path, at);
    }
    if (!rc && ntensors)
        qsort(names, (size_t)ntensors, sizeof *names, by_name);
    for (int i = 1; !rc && i < ntensors; i++)
        if (!strcmp(names[i - 1], names[i]))
            rc =
                fail(err, STYX_ERR_INVALID, "%s: tensor '%s' would be there twice", path, names[i]);
    free(names);
    return rc;
}

/* Writes a header and makes the saver of what follows. */
static int begin(const char *path, struct buffer *header, uint64_t data_bytes, unsigned align,
                 enum file_flags flags, struct saver **out, styx_error *err)
{
    struct saver *s = calloc(1, sizeof *s);
    int rc;

    if (!s || header->nomem) {
        free(s);
        return fail_nomem(err, header->bytes);
    }
    s->missing = data_bytes;
    s->align = align;
    if ((rc = file_out_open(path, flags, &s->out, err)) ||
        (rc = file_out_put(&s->out, header->data, header->bytes, err))) {
        save_drop(s);
        return rc;
    }
    *out = s;
    return STYX_OK;
}

int save_open(const char *path, const struct saved *tensors, int ntensors,
              const char *const *metadata, enum file_flags flags, struct saver **out,
              styx_error *err)
{
    struct buffer header = { 0 };
    uint64_t bytes = 0;
    int rc = check_names(path, tensors, ntensors, metadata, err);

    *out = NULL;
    if (rc)
        return rc;
    buffer_text(&header, "........{"); /* the length comes last */
    if (metadata && *metadata)
        put_metadata(&header, metadata);
    for (int i = 0; i < ntensors; i++) {
        if (i || (metadata && *metadata))
            buffer_byte(&header, ',');
        put_tensor(&header, &tensors[i], bytes);
        bytes += bytes_of(&tensors[i]);
    }
    buffer_byte(&header, '}');
    while (header.bytes % 8 && !header.nomem) /* so that the data begins at a multiple of 8 */
        buffer_byte(&header, ' ');
    for (int i = 0; i < 8 && !header.nomem; i++)
        header.data[i] = (unsigned char)((uint64_t)(header.bytes - 8) >> 8 * i);
    rc = begin(path, &header, bytes, 0, flags, out, err);
    buffer_free(&header);
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
    struct buffer header = { 0 };
    uint64_t bytes;
    int rc = check_names(path, tensors, ntensors, metadata, err);

    *out = NULL;
    for (int i = 0; !rc && i < ntensors; i++)
        rc = check_gguf(path, &tensors[i], err);
    if (rc)
        return rc;
    put_gguf(&header, tensors, ntensors, metadata, &bytes);
    rc = begin(path, &header, bytes, GGUF_ALIGNMENT, flags, out, err);
    buffer_free(&header);
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
