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

static const char *element(const struct span *s, size_t i)
{
    return (const char *)s->data + i * dtype_bytes(s->type);
}

void span_read(const struct span *s, size_t from, size_t n, float *to)
{
    span_part_read(&(struct span_part){ s, 0, s->data, s->scale }, from, n, to);
}

void span_release(const struct span *s, size_t from, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)element(s, from), end = (uintptr_t)element(s, from + n);
    begin =
        (begin + page - 1) & ~(uintptr_t)(page - 1); /* whole pages: neighbours share the rest */
    end &= ~(uintptr_t)(page - 1);
    if (s->file && begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* Before the scales. */
static size_t data_bytes(const struct span *s, size_t n)
{
    return (n * dtype_bytes(s->type) + 63) & ~(size_t)63;
}

size_t span_part_bytes(const struct span *s, size_t n)
{
    return data_bytes(s, n) + (s->scale ? (n / run_of(s) + 2) * sizeof *s->scale : 0);
}

int span_fetch(const struct span *s, size_t from, size_t n, void *buffer, struct span_part *part,
               styx_error *err)
{
    size_t first = s->scale ? from / run_of(s) : 0;
    *part = (struct span_part){ s, from, element(s, from), s->scale ? s->scale + first : NULL };
    if (!s->file || !n)
        return STYX_OK;
    int rc = file_map_read(s->file, part->data, buffer, n * dtype_bytes(s->type), err);
    part->data = buffer;
    if (rc || !s->scale)
        return rc;
    uint16_t *scales = (uint16_t *)((char *)buffer + data_bytes(s, n));
    size_t last = (from + n - 1) / run_of(s);
    rc = file_map_read(s->file, part->scale, scales, (last - first + 1) * sizeof *scales, err);
    part->scale = scales;
    return rc;
}

void span_part_read(const struct span_part *p, size_t from, size_t n, float *to)
{
    const struct span *s = p->span;
    dtype_to_f32(s->type, (const char *)p->data + (from - p->from) * dtype_bytes(s->type), to, n);
    if (!s->scale)
        return;
    size_t run = run_of(s), first = p->from / run;
    for (size_t i = 0; i < n;) { /* one run of equal scale at a time */
        size_t at = from + i, end = (at / run + 1) * run - from;
        float scale = f16_to_f32(p->scale[at / run - first]);
        for (end = end < n ? end : n; i < end; i++)
            to[i] *= scale;
    }
}

int span_load(const struct span *s, size_t from, size_t n, float *to, styx_error *err)
{
    enum { SOME = 512 };
    _Alignas(64) char buffer[SOME * (sizeof(double) + sizeof *s->scale) + 64];
    int rc = STYX_OK;
    for (size_t some; n && !rc; n -= some, from += some, to += some) {
        struct span_part part;
        some = n < SOME ? n : SOME;
        if (!(rc = span_fetch(s, from, some, buffer, &part, err)))
            span_part_read(&part, from, some, to);
    }
    return rc;
}

void span_expect(const struct span *s, size_t from, size_t n)
{
    if (!s->file || !n)
        return;
    file_map_expect(s->file, element(s, from), n * dtype_bytes(s->type));
    if (s->scale) {
        size_t first = from / run_of(s), last = (from + n - 1) / run_of(s);
        file_map_expect(s->file, s->scale + first, (last - first + 1) * sizeof *s->scale);
    }
}
