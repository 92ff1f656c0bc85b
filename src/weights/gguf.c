#include "weights/gguf.h"

#include <limits.h>
#include <stdlib.h>

#include "base/file.h"
#include "weights/quants.h"

/* What a value of the metadata is. */
enum value { VALUE_U32 = 4, VALUE_I32 = 5, VALUE_STRING = 8, VALUE_ARRAY = 9, VALUE_COUNT = 13 };
static const unsigned char value_bytes[VALUE_COUNT] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

/* ggml's types that are no blocks. */
static const struct plain {
    const char *name;
    int id, bytes, type; /* enum dtype, or -1 */
} plains[] = {
    { "F32", 0, 4, DT_F32 },  { "F16", 1, 2, DT_F16 },    { "I8", 24, 1, DT_I8 },
    { "I16", 25, 2, -1 },     { "I32", 26, 4, DT_I32 },   { "I64", 27, 8, DT_I64 },
    { "F64", 28, 8, DT_F64 }, { "BF16", 30, 2, DT_BF16 },
};

/* ComfyUI-GGUF cuts tensors whose rows are no multiple of 256 into rows that are, and keeps the
 * shape they had under this key. */
static const char shape_key[] = "comfy.gguf.orig_shape.";

struct reader {
    const char *path;
    const unsigned char *data;
    size_t bytes, at;
    struct store *into;
    styx_error *err;
    uint64_t alignment;
};

static int cut_short(const struct reader *r)
{
    return fail(r->err, STYX_ERR_FORMAT,
                "%s: is cut short, or no GGUF file: its header ends at "
                "byte %zu of %zu",
                r->path, r->at, r->bytes);
}

/* The next n bytes, or NULL. */
static const unsigned char *take(struct reader *r, uint64_t n)
{
    if (n > r->bytes - r->at)
        return NULL;
    const unsigned char *p = r->data + r->at;
    r->at += (size_t)n;
    return p;
}

static int take_number(struct reader *r, int bytes, uint64_t *value)
{
    const unsigned char *p = take(r, (uint64_t)bytes);
    *value = 0;
    for (int i = bytes - 1; p && i >= 0; i--)
        *value = *value << 8 | p[i];
    return p ? STYX_OK : cut_short(r);
}

/* A string in new memory. */
static int take_string(struct reader *r, char **text)
{
    uint64_t length;
    int rc = take_number(r, 8, &length);
    const unsigned char *p = rc ? NULL : take(r, length);

    *text = NULL;
    if (rc)
        return rc;
    if (!p)
        return cut_short(r);
    *text = malloc((size_t)length + 1);
    if (!*text)
        return fail_nomem(r->err, (size_t)length + 1);
    memcpy(*text, p, (size_t)length);
    (*text)[length] = '\0';
    return STYX_OK;
}

/* Skips an array; one of up to 4 i32 under shape_key becomes metadata "a,b,c". */
static int skip_array(struct reader *r, const char *key)
{
    uint64_t type, n, length;
    int rc;

    if ((rc = take_number(r, 4, &type)) || (rc = take_number(r, 8, &n)))
        return rc;
    if (type >= VALUE_COUNT || type == VALUE_ARRAY)
        return fail(r->err, STYX_ERR_FORMAT, "%s: '%s' is an array of an unknown type", r->path,
                    SHOW(key));
    if (type == VALUE_STRING) {
        for (; n; n--) {
            if ((rc = take_number(r, 8, &length)))
                return rc;
            if (!take(r, length))
                return cut_short(r);
        }
        return STYX_OK;
    }
    const unsigned char *p = n <= r->bytes ? take(r, n * value_bytes[type]) : NULL;
    if (!p)
        return cut_short(r);
    if (type != VALUE_I32 || n < 1 || n > 4 || strncmp(key, shape_key, sizeof shape_key - 1))
        return STYX_OK;
    char text[64];
    size_t used = 0;
    for (uint64_t i = 0; i < n; i++, p += 4)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%d", i ? "," : "",
                                 (int)((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                                       (uint32_t)p[3] << 24));
    return store_set_metadata(r->into, key, text, r->err);
}

static int read_value(struct reader *r, const char *key)
{
    uint64_t type, number;
    char *text;
    int rc = take_number(r, 4, &type);

    if (rc)
        return rc;
    if (type == VALUE_STRING) {
        if (!(rc = take_string(r, &text)))
            rc = store_set_metadata(r->into, key, text, r->err);
        free(text);
        return rc;
    }
    if (type == VALUE_ARRAY)
        return skip_array(r, key);
    if (type >= VALUE_COUNT)
        return fail(r->err, STYX_ERR_FORMAT, "%s: '%s' is of the unknown type %llu", r->path,
                    SHOW(key), (unsigned long long)type);
    if ((rc = take_number(r, value_bytes[type], &number)))
        return rc;
    if (strcmp(key, "general.alignment"))
        return STYX_OK;
    if (type != VALUE_U32 || number < 8 || number > 1 << 20 || number & (number - 1))
        return fail(r->err, STYX_ERR_FORMAT, "%s: general.alignment is no power of two from 8",
                    r->path);
    r->alignment = number;
    return STYX_OK;
}

/* ---- Tensors. ---- */

/* Whole rows of scales times integers lose nothing; all else in blocks is halves once decoded. */
static enum dtype decoded_type(const struct quant *quant, const struct entry *e)
{
    bool exact = quant->split && e->dims > 1 && e->shape[0] &&
                 e->count / (uint64_t)e->shape[0] % (uint64_t)quant->blocks.elements == 0;
    return exact ? DT_F32 : DT_F16;
}

/* ggml counts dimensions from the innermost. */
static int read_shape(struct reader *r, struct entry *e)
{
    uint64_t dims, length[4];
    int rc = take_number(r, 4, &dims);

    if (rc)
        return rc;
    if (dims > 4)
        return fail(r->err, STYX_ERR_FORMAT, "%s: tensor '%s' has %llu dimensions", r->path,
                    SHOW(e->name), (unsigned long long)dims);
    e->dims = (int)dims;
    e->count = 1;
    for (int i = 0; i < e->dims; i++) {
        if ((rc = take_number(r, 8, &length[i])))
            return rc;
        if (length[i] > INT_MAX || __builtin_mul_overflow(e->count, length[i], &e->count))
            return fail(r->err, STYX_ERR_FORMAT, "%s: tensor '%s' is too large", r->path,
                        SHOW(e->name));
        e->shape[e->dims - 1 - i] = (int)length[i];
    }
    return STYX_OK;
}

static void restore_shape(const struct reader *r, struct entry *e)
{
    char key[512];
    int shape[4];
    uint64_t count = 1;

    if (snprintf(key, sizeof key, "%s%s", shape_key, e->name) >= (int)sizeof key)
        return;
    const char *text = store_metadata(r->into, key);
    int dims = text ? sscanf(text, "%d,%d,%d,%d", shape, shape + 1, shape + 2, shape + 3) : 0;
    for (int i = 0; i < dims; i++)
        if (shape[i] < 1 || __builtin_mul_overflow(count, (uint64_t)shape[i], &count))
            return;
    if (dims < 1 || count != e->count)
        return;
    e->dims = dims;
    memcpy(e->shape, shape, (size_t)dims * sizeof *shape);
}

/* Sets type, bytes and the span but for its place. row is what blocks must divide. */
static int read_type(struct reader *r, struct entry *e, int row, bool *usable)
{
    uint64_t id;
    int rc = take_number(r, 4, &id);
    const struct quant *quant = rc || id > INT_MAX ? NULL : quant_by_id((int)id);

    *usable = true;
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof plains / sizeof *plains; i++) {
        const struct plain *p = &plains[i];
        if ((uint64_t)p->id != id)
            continue;
        e->type = p->name;
        if (__builtin_mul_overflow(e->count, (uint64_t)p->bytes, &e->bytes))
            break;
        *usable = p->type >= 0;
        e->span = entry_span(e, *usable ? (enum dtype)p->type : DT_U8);
        return STYX_OK;
    }
    if (!quant)
        return fail(r->err, STYX_ERR_UNSUPPORTED,
                    "%s: tensor '%s' is of ggml's type %llu, which is not supported: convert it to "
                    "Q8_0 or a K-quant",
                    r->path, SHOW(e->name), (unsigned long long)id);
    if (row % quant->blocks.elements)
        return fail(r->err, STYX_ERR_FORMAT,
                    "%s: a row of tensor '%s' is no whole number of %s "
                    "blocks",
                    r->path, SHOW(e->name), quant->name);
    e->type = quant->name;
    e->bytes = e->count / (uint64_t)quant->blocks.elements;
    if (__builtin_mul_overflow(e->bytes, (uint64_t)quant->blocks.bytes, &e->bytes))
        return fail(r->err, STYX_ERR_FORMAT, "%s: tensor '%s' is too large", r->path,
                    SHOW(e->name));
    e->span = entry_span(e, decoded_type(quant, e));
    e->span.blocks = &quant->blocks;
    return STYX_OK;
}

struct found {
    struct entry e;
    char *name;
    bool usable;
    uint64_t offset;
};

static int read_info(struct reader *r, struct found *f)
{
    int rc;
    if ((rc = take_string(r, &f->name)))
        return rc;
    f->e.name = f->name;
    if ((rc = read_shape(r, &f->e)))
        return rc;
    int row = f->e.dims ? f->e.shape[f->e.dims - 1] : 1;
    restore_shape(r, &f->e);
    if ((rc = read_type(r, &f->e, row, &f->usable)))
        return rc;
    return take_number(r, 8, &f->offset);
}

static int by_offset(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Points the tensors, in the order of their offsets, into the data. */
static int place(struct reader *r, struct found *found, size_t n)
{
    uint64_t begin = (r->at + r->alignment - 1) / r->alignment * r->alignment, end = 0;
    uint64_t room = begin < r->bytes ? r->bytes - begin : 0;
    int rc = STYX_OK;

    if (n)
        qsort(found, n, sizeof *found, by_offset);
    for (size_t i = 0; !rc && i < n; i++) {
        struct found *f = &found[i];
        if (f->offset % r->alignment || f->offset > room || f->e.bytes > room - f->offset)
            return fail(r->err, STYX_ERR_FORMAT,
                        "%s: tensor '%s' lies at byte %llu of %llu: the file is cut short or its "
                        "header is wrong",
                        r->path, SHOW(f->name), (unsigned long long)f->offset,
                        (unsigned long long)room);
        if (f->offset < end)
            return fail(r->err, STYX_ERR_FORMAT, "%s: tensors '%s' and '%s' overlap", r->path,
                        SHOW(found[i - 1].name), SHOW(f->name));
        end = f->offset + f->e.bytes;
        f->e.raw = r->data + (f->e.count ? begin + f->offset : 0);
        if (f->usable)
            f->e.span.data = f->e.raw;
        rc = store_add(r->into, &f->e, r->err);
    }
    return rc;
}

int gguf_parse(const unsigned char *data, size_t bytes, const char *path, struct store *into,
               styx_error *err)
{
    struct reader r = { path, data, bytes, 4, into, err, 32 };
    uint64_t version, ntensors, nvalues, i;
    struct found *found = NULL;
    char *key = NULL;
    int rc;

    if (bytes < 4 || memcmp(data, "GGUF", 4))
        return fail(err, STYX_ERR_FORMAT, "%s: is no GGUF file", path);
    if ((rc = take_number(&r, 4, &version)))
        return rc;
    if (version != 2 && version != 3)
        return fail(err, STYX_ERR_UNSUPPORTED, "%s: is GGUF version %llu, 2 or 3 was wanted", path,
                    (unsigned long long)version);
    if ((rc = take_number(&r, 8, &ntensors)) || (rc = take_number(&r, 8, &nvalues)))
        return rc;
    for (i = 0; !rc && i < nvalues; i++) {
        if (!(rc = take_string(&r, &key)))
            rc = read_value(&r, key);
        free(key);
    }
    if (rc)
        return rc;
    /* A tensor takes at least 24 bytes of header, so that a wrong count cannot ask for much. */
    if (ntensors > (bytes - r.at) / 24)
        return cut_short(&r);
    found = calloc((size_t)ntensors + 1, sizeof *found);
    if (!found)
        return fail_nomem(err, (size_t)ntensors * sizeof *found);
    for (i = 0; !rc && i < ntensors; i++)
        rc = read_info(&r, &found[i]);
    if (!rc)
        rc = place(&r, found, (size_t)ntensors);
    for (i = 0; i < ntensors; i++)
        free(found[i].name);
    free(found);
    return rc;
}

int gguf_open(const char *path, struct store **out, styx_error *err)
{
    return store_open_mapped(path, gguf_parse, out, err);
}
