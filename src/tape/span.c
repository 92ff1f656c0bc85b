#include "tape/span.h"
#include <sys/mman.h>
#include <unistd.h>

size_t span_count(const struct span *s)
{
    size_t n = 1;
    for (int i = 0; i < s->dims; i++)
        n *= (size_t)s->shape[i];
    return n;
}

/* Elements that share a scale. */
static size_t run_of(const struct span *s)
{
    return span_count(s) / (size_t)s->shape[0] / (size_t)s->groups;
}

bool span_plain(const struct span *s)
{
    return !s->scale && !s->blocks;
}

/* A number that is in no block is one by itself. */
static size_t block_elements(const struct span *s)
{
    return s->blocks ? (size_t)s->blocks->elements : 1;
}

static size_t block_bytes(const struct span *s)
{
    return s->blocks ? (size_t)s->blocks->bytes : dtype_bytes(s->type);
}

/* Where the block of element i begins, counted from that of element 0. */
static size_t place_of(const struct span *s, size_t i)
{
    return i / block_elements(s) * block_bytes(s);
}

static const char *element(const struct span *s, size_t i)
{
    return (const char *)s->data + place_of(s, i);
}

/* The bytes from element(s, from) to the end of the last of n elements. */
static size_t stored_bytes(const struct span *s, size_t from, size_t n)
{
    return place_of(s, from + n + block_elements(s) - 1) - place_of(s, from);
}

void span_read(const struct span *s, size_t from, size_t n, float *to)
{
    span_part_read(&(struct span_part){ s, 0, s->data, s->scale }, from, n, to);
}

void span_release(const struct span *s, size_t from, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)element(s, from), end = begin + stored_bytes(s, from, n);
    begin =
        (begin + page - 1) & ~(uintptr_t)(page - 1); /* whole pages: neighbours share the rest */
    end &= ~(uintptr_t)(page - 1);
    if (s->file && begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

enum { ALIGNMENT = 64 }; /* of the scales behind the numbers in a buffer */

size_t span_part_room(const struct span *s, size_t bytes)
{
    size_t scales = s->scale ? sizeof *s->scale : 0; /* of each number, and one more */
    if (s->blocks)
        return (bytes / block_bytes(s) - 1) * block_elements(s); /* the first may be cut */
    return (bytes - ALIGNMENT - scales) / (block_bytes(s) + scales);
}

int span_fetch(const struct span *s, size_t from, size_t n, void *buffer, struct span_part *part,
               styx_error *err)
{
    size_t first = s->scale ? from / run_of(s) : 0;
    size_t bytes = stored_bytes(s, from, n);
    *part = (struct span_part){ s, from - from % block_elements(s), element(s, from),
                                s->scale ? s->scale + first : NULL };
    if (!s->file || !n)
        return STYX_OK;
    int rc = file_map_read(s->file, part->data, buffer, bytes, err);
    part->data = buffer;
    if (rc || !s->scale)
        return rc;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    uint16_t *scales = (uint16_t *)((char *)buffer + bytes);
    size_t last = (from + n - 1) / run_of(s);
    rc = file_map_read(s->file, part->scale, scales, (last - first + 1) * sizeof *scales, err);
    part->scale = scales;
    return rc;
}

/* Of a block that is cut, all is decoded and the rest thrown away. */
static void decode_part(const struct span_part *p, size_t from, size_t n, float *to)
{
    const struct span *s = p->span;
    const unsigned char *data = p->data;
    size_t each = block_elements(s);
    uint16_t rounded[SPAN_BLOCK];
    float whole[SPAN_BLOCK];

    for (size_t some; n; n -= some, from += some, to += some) {
        const unsigned char *block = data + place_of(s, from - p->from);
        size_t skip = from % each;
        some = each - skip < n ? each - skip : n;
        s->blocks->decode(block, some < each ? whole : to);
        if (some < each)
            memcpy(to, whole + skip, some * sizeof *to);
        if (s->type == DT_F16) {
            dtype_from_f32(s->type, to, rounded, some);
            dtype_to_f32(s->type, rounded, to, some);
        }
    }
}

/* Where numbers are misaligned, through a buffer. */
static void convert(enum dtype type, const char *data, float *to, size_t n)
{
    enum { SOME = 128 };
    double buffer[SOME];
    size_t each = dtype_bytes(type);

    if ((uintptr_t)data % each == 0) {
        dtype_to_f32(type, data, to, n);
        return;
    }
    for (size_t some; n; n -= some, data += some * each, to += some) {
        some = n < SOME ? n : SOME;
        memcpy(buffer, data, some * each);
        dtype_to_f32(type, buffer, to, some);
    }
}

static float scale_at(const uint16_t *scale, size_t i)
{
    uint16_t half;
    memcpy(&half, (const char *)scale + i * sizeof half, sizeof half);
    return f16_to_f32(half);
}

void span_part_read(const struct span_part *p, size_t from, size_t n, float *to)
{
    const struct span *s = p->span;
    if (s->blocks) {
        decode_part(p, from, n, to);
        return;
    }
    convert(s->type, (const char *)p->data + (from - p->from) * dtype_bytes(s->type), to, n);
    if (!s->scale)
        return;
    size_t run = run_of(s), first = p->from / run;
    for (size_t i = 0; i < n;) { /* one run of equal scale at a time */
        size_t at = from + i, end = (at / run + 1) * run - from;
        float scale = scale_at(p->scale, at / run - first);
        for (end = end < n ? end : n; i < end; i++)
            to[i] *= scale;
    }
}

int span_load(const struct span *s, size_t from, size_t n, float *to, styx_error *err)
{
    _Alignas(ALIGNMENT) char buffer[4096];
    size_t room = span_part_room(s, sizeof buffer);
    int rc = STYX_OK;
    for (size_t some; n && !rc; n -= some, from += some, to += some) {
        struct span_part part;
        some = n < room ? n : room;
        if (!(rc = span_fetch(s, from, some, buffer, &part, err)))
            span_part_read(&part, from, some, to);
    }
    return rc;
}

void span_expect(const struct span *s, size_t from, size_t n)
{
    if (!s->file || !n)
        return;
    file_map_expect(s->file, element(s, from), stored_bytes(s, from, n));
    if (s->scale) {
        size_t first = from / run_of(s), last = (from + n - 1) / run_of(s);
        file_map_expect(s->file, s->scale + first, (last - first + 1) * sizeof *s->scale);
    }
}
