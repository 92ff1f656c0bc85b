/* quants.h - the blocks that ggml packs numbers into.
 *
 * A block holds 32 or 256 numbers as small integers with scales of their own. Blocks that are one
 * half-precision scale times integers (Q8_0, Q5_0, Q4_0) are also 8-bit numbers with a scale for
 * each 32 of them, without any loss. */
#ifndef STYX_WEIGHTS_QUANTS_H
#define STYX_WEIGHTS_QUANTS_H
#include "tape/span.h"

struct quant {
    const char *name;
    int id; /* ggml_type */
    struct span_blocks blocks;
    void (*split)(const unsigned char *block, int8_t *q, uint16_t *scale); /* or NULL */
};

const struct quant *quant_by_id(int id); /* NULL if not known */
const struct quant *quant_by_name(const char *name);

enum { Q8_0_ELEMENTS = 32, Q8_0_BYTES = 34 };

/* n numbers, a multiple of 32, as integers and one F16 scale for each 32: the largest becomes 127,
 * the others are rounded to nearest. False if one is infinite, no number, or
 * too large for such a scale. */
bool q8_0_quantize(const float *from, size_t n, int8_t *q, uint16_t *scales);

#endif
