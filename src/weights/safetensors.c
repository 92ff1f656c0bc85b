#include "weights/safetensors.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

/* Every type of the format. Those without a type of ours can be skipped but not used. */
static const struct kind {
    const char *name;
    int bits;
    int type; /* enum dtype, or -1 */
} kinds[] = {
    { "F32", 32, DT_F32 }, { "F16", 16, DT_F16 },     { "BF16", 16, DT_BF16 },
    { "F64", 64, DT_F64 }, { "I64", 64, DT_I64 },     { "I32", 32, DT_I32 },
    { "I8", 8, DT_I8 },    { "U8", 8, DT_U8 },        { "BOOL", 8, -1 },
    { "I16", 16, -1 },     { "U16", 16, -1 },         { "U32", 32, -1 },
    { "U64", 64, -1 },     { "F8_E4M3", 8, DT_E4M3 }, { "F8_E5M2", 8, DT_E5M2 },
    { "F8_E8M0", 8, -1 },  { "F8_E4M3FNUZ", 8, -1 },  { "F8_E5M2FNUZ", 8, -1 },
    { "F6_E2M3", 6, -1 },  { "F6_E3M2", 6, -1 },      { "F4", 4, -1 },
    { "C64", 64, -1 },
};

struct reader {
    const char *path;
    const unsigned char *data; /* of the tensors */
    uint64_t bytes;
    struct store *into;
    styx_error *err;
};

/* Where a tensor lies, for the check that they tile the data. */
struct extent {
    const char *name;
    uint64_t begin, end;
};

static const struct kind *kind_of(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, name))
            return &kinds[i];
    return NULL;
}

/* A JSON integer >= 0. */
static bool number_of(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static int read_shape(const struct reader *r, const char *name, const json_t *shape,
                      struct entry *e)
{
    uint64_t length, count = 1;
    size_t dims = json_array_size(shape);

    if (!json_is_array(shape))
        return fail(r->err, STYX_ERR_FORMAT, "%s: tensor '%s' has no shape", r->path, SHOW(name));
    e->dims = dims <= 4 ? (int)dims : -1;
    for (size_t i = 0; i < dims; i++) {
        if (!number_of(json_array_get(shape, i), &length))
            return fail(r->err, STYX_ERR_FORMAT,
                        "%s: the shape of tensor '%s' holds something else than lengths", r->path,
                        SHOW(name));
        if (__builtin_mul_overflow(count, length, &count))
            return fail(r->err, STYX_ERR_FORMAT,
                        "%s: the shape of tensor '%s' multiplies to more than 2^64 elements",
                        r->path, SHOW(name));
        if (length > INT_MAX)
            e->dims = -1;
        else if (e->dims >= 0)
            e->shape[i] = (int)length;
    }
    e->count = count;
    return STYX_OK;
}

static int read_offsets(const struct reader *r, const char *name, const json_t *offsets,
                        struct extent *at)
{
    at->name = name;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !number_of(json_array_get(offsets, 0), &at->begin) ||
        !number_of(json_array_get(offsets, 1), &at->end))
        return fail(r->err, STYX_ERR_FORMAT, "%s: tensor '%s' has no two data_offsets", r->path,
                    SHOW(name));
    if (at->begin > at->end || at->end > r->bytes)
        return fail(r->err, STYX_ERR_FORMAT,
                    "%s: tensor '%s' lies at bytes %llu to %llu of %llu: the file is cut short or "
                    "its header is wrong",
                    r->path, SHOW(name), (unsigned long long)at->begin, (unsigned long long)at->end,
                    (unsigned long long)r->bytes);
    return STYX_OK;
}

static int read_tensor(const struct reader *r, const char *name, const json_t *info,
                       struct extent *at)
{
    const char *dtype = json_string_value(json_object_get(info, "dtype"));
    struct entry e = { .name = name };
    uint64_t bits;
    int rc;

    if (!json_is_object(info) || !dtype)
        return fail(r->err, STYX_ERR_FORMAT, "%s: tensor '%s' has no dtype", r->path, SHOW(name));
    const struct kind *kind = kind_of(dtype);
    if (!kind)
        return fail(r->err, STYX_ERR_FORMAT, "%s: tensor '%s' has the unknown type '%s'", r->path,
                    SHOW(name), SHOW(dtype));
    if ((rc = read_shape(r, name, json_object_get(info, "shape"), &e)) ||
        (rc = read_offsets(r, name, json_object_get(info, "data_offsets"), at)))
        return rc;
    e.type = kind->name;
    e.bytes = at->end - at->begin;
    if (__builtin_mul_overflow(e.count, (uint64_t)kind->bits, &bits) || bits % 8 ||
        bits / 8 != e.bytes)
        return fail(r->err, STYX_ERR_FORMAT,
                    "%s: tensor '%s' has %llu elements of %s but %llu bytes", r->path, SHOW(name),
                    (unsigned long long)e.count, kind->name, (unsigned long long)e.bytes);
    e.raw = r->data + at->begin;
    if (kind->type >= 0 && e.dims >= 0)
        e.span = entry_span(&e, (enum dtype)kind->type);
    return store_add(r->into, &e, r->err);
}

static int read_metadata(const struct reader *r, json_t *metadata)
{
    const char *key;
    json_t *value;
    int rc;

    if (!json_is_object(metadata))
        return fail(r->err, STYX_ERR_FORMAT, "%s: __metadata__ is no map of strings", r->path);
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return fail(r->err, STYX_ERR_FORMAT, "%s: __metadata__ '%s' is no string", r->path,
                        SHOW(key));
        if ((rc = store_set_metadata(r->into, key, json_string_value(value), r->err)))
            return rc;
    }
    return STYX_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* The tensors must tile the data: what lies in a hole, or twice, could mean different things to
 * different programs. */
static int check_tiling(const struct reader *r, struct extent *at, size_t n)
{
    uint64_t end = 0;

    qsort(at, n, sizeof *at, by_offset);
    for (size_t i = 0; i < n; i++) {
        if (at[i].begin < end)
            return fail(r->err, STYX_ERR_FORMAT,
                        "%s: tensor '%s' begins at byte %llu, inside of tensor '%s'", r->path,
                        SHOW(at[i].name), (unsigned long long)at[i].begin, SHOW(at[i - 1].name));
        if (at[i].begin > end)
            return fail(r->err, STYX_ERR_FORMAT,
                        "%s: %llu bytes before tensor '%s' belong to no tensor", r->path,
                        (unsigned long long)(at[i].begin - end), SHOW(at[i].name));
        end = at[i].end;
    }
    if (end != r->bytes)
        return fail(r->err, STYX_ERR_FORMAT, "%s: the last %llu bytes belong to no tensor", r->path,
                    (unsigned long long)(r->bytes - end));
    return STYX_OK;
}

static int read_tensors(const struct reader *r, json_t *root)
{
    size_t n = 0;
    const char *name;
    json_t *info;
    int rc = STYX_OK;
    struct extent *at = calloc(json_object_size(root) + 1, sizeof *at);

    if (!at)
        return fail_nomem(r->err, json_object_size(root) * sizeof *at);
    json_object_foreach(root, name, info)
    {
        if (!strcmp(name, "__metadata__"))
            rc = read_metadata(r, info);
        else
            rc = read_tensor(r, name, info, &at[n++]);
        if (rc)
            goto done;
    }
    rc = check_tiling(r, at, n);
done:
    free(at);
    return rc;
}

int safetensors_parse(const unsigned char *data, size_t bytes, const char *path, struct store *into,
                      styx_error *err)
{
    uint64_t header = 0;
    json_t *root = NULL;
    int rc;

    if (bytes < 8)
        return fail(err, STYX_ERR_FORMAT, "%s: has %zu bytes, too few for a safetensors file", path,
                    bytes);
    for (int i = 7; i >= 0; i--)
        header = header << 8 | data[i];
    if (header > SAFETENSORS_HEADER_BYTES)
        return fail(err, STYX_ERR_FORMAT,
                    "%s: is no safetensors file (its header would be %llu bytes long)", path,
                    (unsigned long long)header);
    if (header > bytes - 8)
        return fail(err, STYX_ERR_FORMAT,
                    "%s: is cut short: %llu bytes of header were announced, %zu follow", path,
                    (unsigned long long)header, bytes - 8);
    if (!header || data[8] != '{')
        return fail(err, STYX_ERR_FORMAT, "%s: is no safetensors file (no '{' at byte 8)", path);
    if ((rc = json_bytes((const char *)data + 8, header, path, &root, err)))
        return rc;

    struct reader r = { path, data + 8 + header, bytes - 8 - header, into, err };
    rc = read_tensors(&r, root);
    json_decref(root);
    return rc;
}

int safetensors_open(const char *path, struct store **out, styx_error *err)
{
    return store_open_mapped(path, safetensors_parse, out, err);
}
