/* span.h - a tensor of a weights file, as it lies in the mapping.
 *
 * This is all that a backend knows about files. `scale` belongs to 8-bit weights (docs/formats.md):
 * row o (first dimension) is cut into `groups` equal runs, and value = q * scale[o * groups + g]. */
#ifndef STYX_TAPE_SPAN_H
#define STYX_TAPE_SPAN_H
#include "base/dtype.h"
#include <stdbool.h>

struct span {
    const void *data;
    enum dtype type;
    int dims, shape[4];
    const uint16_t *scale; /* F16 [shape[0], groups]; NULL unless type is DT_I8 */
    int groups;
    bool mapped; /* lies in a file's mapping: dropped pages come back when they are read */
};

/* The weights of one program: span[i] belongs to tape.params[i] and has its shape. */
struct weights {
    const struct span *span;
    int count;
};

size_t span_count(const struct span *s);

/* Elements [from, from + n) in row-major order, as f32. */
void span_read(const struct span *s, size_t from, size_t n, float *to);

/* Elements [from, from + n) have been converted: their pages need not stay in memory. */
void span_release(const struct span *s, size_t from, size_t n);

#endif
