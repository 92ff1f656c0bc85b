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

void span_read(const struct span *s, size_t from, size_t n, float *to)
{
    dtype_to_f32(s->type, (const char *)s->data + from * dtype_bytes(s->type), to, n);
    if (!s->scale)
        return;
    size_t row = span_count(s) / (size_t)s->shape[0], run = row / (size_t)s->groups;
    for (size_t i = 0; i < n;) { /* one run of equal scale at a time */
        size_t at = from + i, end = (at / run + 1) * run - from;
        float scale = f16_to_f32(s->scale[at / run]);
        for (end = end < n ? end : n; i < end; i++)
            to[i] *= scale;
    }
}

void span_release(const struct span *s, size_t from, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), each = dtype_bytes(s->type);
    uintptr_t begin = (uintptr_t)s->data + from * each, end = begin + n * each;
    begin = (begin + page - 1) & ~(uintptr_t)(page - 1); /* whole pages: neighbours share the rest */
    end &= ~(uintptr_t)(page - 1);
    if (s->mapped && begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}
