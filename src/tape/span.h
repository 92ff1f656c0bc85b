/* span.h - a tensor of a weights file, as it lies there.
 *
 * This is all that a backend knows about files. `scale` belongs to 8-bit weights (docs/formats.md):
 * row o (first dimension) is cut into `groups` equal runs, and value = q * scale[o * groups + g].
 * What lies in blocks is decoded where it is read: never more of it than somebody asks for. */
#ifndef STYX_TAPE_SPAN_H
#define STYX_TAPE_SPAN_H
#include "base/dtype.h"
#include "base/file.h"

/* How numbers are packed by the block (weights/quants.h). */
struct span_blocks {
    int elements, bytes; /* of a block; at most SPAN_BLOCK numbers */
    void (*decode)(const unsigned char *block, float *to);
};
enum { SPAN_BLOCK = 256 };

struct span {
    const void *data; /* this and scale may be misaligned where they lie in a file */
    enum dtype type;
    int dims, shape[4];
    const uint16_t *scale; /* F16 [shape[0], groups]; NULL unless type is DT_I8 */
    int groups;
    const struct span_blocks *blocks; /* or NULL; decoded numbers are rounded to `type` */
    const struct file_map *file; /* in whose mapping all this lies; NULL: in memory of its own */
};

/* The weights of one program: span[i] belongs to tape.params[i] and has its shape. */
struct weights {
    const struct span *span;
    int count;
};

size_t span_count(const struct span *s);
bool span_plain(const struct span *s); /* data are its numbers: no scales, no blocks */

/* Elements [from, from + n) in row-major order, as f32. */
void span_read(const struct span *s, size_t from, size_t n, float *to);

/* Elements [from, from + n) have been converted: their pages need not stay in memory. */
void span_release(const struct span *s, size_t from, size_t n);

/* Some elements of a span as they are stored, in memory. */
struct span_part {
    const struct span *span;
    size_t from;           /* the first; where its block begins */
    const void *data;      /* from there on */
    const uint16_t *scale; /* of its run and those that follow */
};

/* Elements [from, from + n): those of a file are copied into buffer, so that none of its mapping
 * becomes resident. */
int span_fetch(const struct span *s, size_t from, size_t n, void *buffer, struct span_part *part,
               styx_error *err);
size_t span_part_room(const struct span *s, size_t bytes); /* elements that such a buffer holds */

/* Elements [from, from + n) of the span, which are in the part, as f32. */
void span_part_read(const struct span_part *p, size_t from, size_t n, float *to);

/* span_read, but a file is read and not its mapping. */
int span_load(const struct span *s, size_t from, size_t n, float *to, styx_error *err);

/* Elements [from, from + n) will be fetched soon. */
void span_expect(const struct span *s, size_t from, size_t n);

#endif
