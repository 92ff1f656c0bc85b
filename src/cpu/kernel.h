/* kernel.h - what differs between instruction sets: one table of inner loops per variant.
 *
 * The loops are written once, in kernel.inc, over a small vector vocabulary that each
 * kernel_ISA.c defines. Everything above (tiling, packing, threads) is common, and so is the
 * layout of packed weights: panels of 32 output columns, the sum running over dwords. A dword is
 * one f32 or two neighbouring bf16 of the input channels. */
#ifndef STYX_CPU_KERNEL_H
#define STYX_CPU_KERNEL_H
#include "tape/tape.h"
#include <stdbool.h>

enum {
    PANEL = 32,    /* output columns of a packed panel */
    MAX_ROWS = 32, /* the tallest tile of any variant */
    MAX_LANES = 16 /* and the widest vector */
};

/* What is done to a finished tile: out = act(tile + bias) + residual. */
struct finish {
    enum act act; /* ACT_GEGLU: columns 0-15 are values, 16-31 their gates */
    enum dtype out, residual;
};

/* Memory that is read next: for each word of a sum the line at `from` is fetched into the L2 cache,
 * and `from` moves on by step bytes. NULL: nothing. */
struct stream {
    const char *from;
    long step;
};

/* c[m][32] = (or +=) sum over taps t of a_t[m][words] b_t[words][32], a_t starting tap[t] bytes
 * after a, rows lda bytes apart; c's rows are ldc floats apart. */
typedef void tile_fn(const char *a, long lda, const long *tap, int taps, const char *b, int words,
                     float *c, long ldc, bool more, struct stream next);

/* The same of 8-bit numbers: each tap of b begins with 32 integers, to which sums of products are
 * added, and 32 scales for them. The scale of each row of a_t lies `scale` bytes after its start.
 */
typedef void tile8_fn(const char *a, long lda, const long *tap, int taps, const char *b, int words,
                      float *c, long ldc, bool more, struct stream next, long scale);

/* What the inner loops work on: rows of a full tile; in attention the dwords of a query or key and
 * the columns of the values are filled up with zeros to multiples of words and cols. matrix: a
 * matrix unit makes the sums, for which a tile takes as long with few rows as with all. */
struct unit {
    int rows, words, cols;
    bool matrix;
};

/* The state of a flash attention over a tile of query rows. A sum is kept in lanes. */
struct softmax {
    float max[MAX_ROWS], sum[MAX_ROWS][MAX_LANES];
};

struct kernels {
    const char *name;
    struct unit unit[2];            /* [bf16?] */
    tile_fn *tile[2][MAX_ROWS + 1]; /* [bf16?][rows] */
    tile8_fn *tile8[MAX_ROWS + 1];  /* as many rows as of f32 */
    void (*leave)(void);            /* NULL, or what a thread does after its last tile of a job */

    /* Strides in bytes; bias[32], zeros included; cols <= 32 (GEGLU: 16) columns are written. */
    void (*finish)(const struct finish *f, const float *tile, int rows, int cols, const float *bias,
                   const char *residual, long ldr, char *out, long ldo);

    /* Numbers to bytes, 128 added: x = (byte - 128) * the returned scale. The last dword is filled
     * up. */
    float (*quantize)(const char *x, enum dtype type, int c, uint8_t *to);

    /* The 16 transformed values, step bytes apart, of each channel of some tiles in a row, line
     * bytes apart. x: the first tile's corner; tiles overlap by two of their four pixels. */
    void (*winograd_in)(const char *x, enum dtype type, long row, long px, int c, int tiles,
                        char *v, long line, long step);

    /* y[4][tiles][32] from m[16][tiles][32]; step floats from matrix to matrix. */
    void (*winograd_out)(const float *m, long step, int tiles, float *y);

    /* Of attention, for unit.rows queries. s[rows][block] = q[rows][words] times keys, panels of
     * 32. */
    void (*scores)(const char *q, enum dtype type, int words, const char *keys, float *s,
                   int block);

    /* One key block of flash attention. s[rows][block]: scores, of which the
     * first valid[r] count; p: exp2(scale * s - max) in the type of V; o[rows][cols] is rescaled
     * when the maximum moves. block is a multiple of 32. */
    void (*softmax)(float *s, int block, const int *valid, float scale, struct softmax *state,
                    void *p, enum dtype type, float *o, int cols);

    /* Both in one where no |scale * s| exceeds 100, so that no maximum need be subtracted:
     * p[rows][block] = exp2(scale * q keys), 0 from valid[r] on; sum += them, lane by lane. */
    void (*weigh)(const char *q, enum dtype type, int words, const char *keys, float scale,
                  const int *valid, int block, float (*sum)[MAX_LANES], void *p);
    float (*square_sum)(const char *x, enum dtype type, int n);

    /* o[rows][cols] += p[rows][block] v, v packed as [dword of keys][cols]. */
    void (*mix)(const void *p, int block, enum dtype type, const char *v, float *o, int cols);

    /* Per channel over `pixels` pixels (px bytes apart): sum and sum of squares of x - first. */
    void (*moments)(const char *x, enum dtype type, long px, int pixels, int c, float *sum,
                    float *square);

    /* y = act(x * scale + offset) per channel. */
    void (*affine)(const char *x, enum dtype xt, char *y, enum dtype yt, int c, const float *scale,
                   const float *offset, enum act act);

    /* In place on f32. */
    void (*layer_norm)(float *x, int n, const float *gamma, const float *beta, float eps);
    void (*act)(enum act act, float *x, size_t n);
    void (*add)(float *x, const float *y, size_t n);
    void (*mul)(float *x, const float *y, size_t n);

    /* F32, BF16 and F16 fast, other types through base/dtype. */
    void (*to_f32)(enum dtype type, const void *from, float *to, size_t n);
    void (*from_f32)(enum dtype type, const float *from, void *to, size_t n);
};

static inline const struct unit *kernels_unit(const struct kernels *k, enum dtype type)
{
    return &k->unit[type == DT_BF16];
}

extern const struct kernels kernels_portable;
#ifdef __x86_64__
extern const struct kernels kernels_avx2, kernels_avx512, kernels_avx512bf16, kernels_amx;
#endif

/* The variant of that name (NULL: the best that this CPU runs); NULL if there is no such one. */
const struct kernels *kernels_choose(const char *isa);

#endif
