/* AMX with BF16 (Sapphire Rapids and later): bf16 products by tiles of 16 rows of 16 dwords, all
 * else as AVX-512 BF16. A packed panel already is what the tiles want: 16 words by two times 16
 * columns.
 *
 * Sums of 32 rows by 32 columns lie in four tiles, so that each tile of inputs or weights that is
 * loaded is multiplied twice: with one row of tiles, weights would come from the L2 cache too
 * slowly. */
#include "cpu/kernel.h"
#include "cpu/kernel_avx512bf16.inc"

#define KERNELS kernels_amx
#define KERNELS_NAME "amx"
#define OWN_PRODUCTS
#include "cpu/kernel.inc"

enum { WORDS = 16, HEIGHT = 16, TALL = 2 * HEIGHT, WIDTH = 16 };

/* The tiles; GCC's intrinsics paste the numbers into the names of registers. */
#define SUM 0
#define SUM_RIGHT 1
#define SUM_BELOW 2
#define SUM_BELOW_RIGHT 3
#define INPUT 4
#define INPUT_BELOW 5
#define WEIGHT 6
#define WEIGHT_RIGHT 7

/* Rows that this thread's tiles are shaped for; 0: unknown, as code of others may shape them. */
static _Thread_local int shaped;

/* Palette 1: rows and bytes of a row for each tile (Intel SDM, volume 1, 18.2). */
static void shape_tiles(int rows)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = { .palette = 1 };
    if (shaped == rows)
        return;
    for (int i = SUM; i <= WEIGHT_RIGHT; i++) {
        bool below = i == SUM_BELOW || i == SUM_BELOW_RIGHT || i == INPUT_BELOW;
        int high = rows < HEIGHT ? rows : HEIGHT;
        shape.row_bytes[i] = 64;
        shape.rows[i] = (uint8_t)(i >= WEIGHT ? WORDS : below ? rows - high : high);
        if (shape.rows[i] == 0) /* not used */
            shape.row_bytes[i] = 0;
    }
    _tile_loadconfig(&shape);
    shaped = rows;
}

static void leave_tiles(void)
{
    _tile_release();
    shaped = 0;
}

/* Sums of more than 16 rows are `tall`, those of 32 columns, not 16, `broad`; c's rows are ldc
 * floats apart. */
INLINE void load_sums(const bool tall, const bool broad, const float *c, long ldc)
{
    const float *below = c + HEIGHT * ldc;
    _tile_loadd(SUM, c, 4 * ldc);
    if (broad)
        _tile_loadd(SUM_RIGHT, c + WIDTH, 4 * ldc);
    if (tall)
        _tile_loadd(SUM_BELOW, below, 4 * ldc);
    if (tall && broad)
        _tile_loadd(SUM_BELOW_RIGHT, below + WIDTH, 4 * ldc);
}

INLINE void clear_sums(const bool tall)
{
    _tile_zero(SUM);
    _tile_zero(SUM_RIGHT);
    if (tall) {
        _tile_zero(SUM_BELOW);
        _tile_zero(SUM_BELOW_RIGHT);
    }
}

INLINE void store_sums(const bool tall, const bool broad, float *c, long ldc)
{
    float *below = c + HEIGHT * ldc;
    _tile_stored(SUM, c, 4 * ldc);
    if (broad)
        _tile_stored(SUM_RIGHT, c + WIDTH, 4 * ldc);
    if (tall)
        _tile_stored(SUM_BELOW, below, 4 * ldc);
    if (tall && broad)
        _tile_stored(SUM_BELOW_RIGHT, below + WIDTH, 4 * ldc);
}

/* Adds a times b: the first `whole` of a tap's words, a multiple of 16; those of b are ldb bytes
 * apart. */
INLINE void add_tap(const bool tall, const bool broad, const char *a, long lda, const char *b,
                    long ldb, int whole, struct stream *next)
{
    for (int k = 0; k < whole; k += WORDS, a += 4 * WORDS, b += ldb * WORDS) {
        for (long at = 0; next->from && at < WORDS * next->step; at += 64)
            __builtin_prefetch(next->from + at, 0, 2);
        next->from += WORDS * next->step;
        _tile_loadd(INPUT, a, lda);
        _tile_loadd(WEIGHT, b, ldb);
        _tile_dpbf16ps(SUM, INPUT, WEIGHT);
        if (tall) {
            _tile_loadd(INPUT_BELOW, a + HEIGHT * lda, lda);
            _tile_dpbf16ps(SUM_BELOW, INPUT_BELOW, WEIGHT);
        }
        if (broad) {
            _tile_loadd(WEIGHT_RIGHT, b + 4 * WIDTH, ldb);
            _tile_dpbf16ps(SUM_RIGHT, INPUT, WEIGHT_RIGHT);
        }
        if (tall && broad)
            _tile_dpbf16ps(SUM_BELOW_RIGHT, INPUT_BELOW, WEIGHT_RIGHT);
    }
}

/* ---- products ---- */

/* The words of each tap from `first` on, by vectors, some rows at a time. */
static void by_vectors(int rows, const char *a, long lda, const long *tap, int taps, const char *b,
                       int words, int first, float *c, long ldc, bool more)
{
    static tile_fn *const some[] = TILES(tile_bf16_);
    long zero = 0;
    for (int t = 0; t < taps; t++, b += 4L * PANEL * words)
        for (int r = 0, n; r < rows; r += n) {
            n = rows - r < ROWS ? rows - r : ROWS;
            some[n](a + tap[t] + r * lda + 4L * first, lda, &zero, 1, b + 4L * PANEL * first,
                    words - first, c + r * ldc, ldc, more || t > 0, NOTHING);
        }
}

INLINE void add_taps(const bool tall, const char *a, long lda, const long *tap, int taps,
                     const char *b, int words, int whole, float *c, long ldc, bool more,
                     struct stream next)
{
    if (more)
        load_sums(tall, true, c, ldc);
    else
        clear_sums(tall);
    for (int t = 0; t < taps; t++)
        add_tap(tall, true, a + tap[t], lda, b + 4L * PANEL * words * t, 4 * PANEL, whole, &next);
    store_sums(tall, true, c, ldc);
}

static void tall_tile(int rows, const char *a, long lda, const long *tap, int taps, const char *b,
                      int words, float *c, long ldc, bool more, struct stream next)
{
    int whole = words / WORDS * WORDS;
    if (whole) {
        shape_tiles(rows);
        if (rows > HEIGHT)
            add_taps(true, a, lda, tap, taps, b, words, whole, c, ldc, more, next);
        else
            add_taps(false, a, lda, tap, taps, b, words, whole, c, ldc, more, next);
    }
    if (whole < words)
        by_vectors(rows, a, lda, tap, taps, b, words, whole, c, ldc, more || whole);
}

#define TALL_TILE(M)                                                                               \
    static void tall_##M(const char *a, long lda, const long *tap, int taps, const char *b,        \
                         int words, float *c, long ldc, bool more, struct stream next)             \
    {                                                                                              \
        tall_tile(M, a, lda, tap, taps, b, words, c, ldc, more, next);                             \
    }
#define TALL_8(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#define TALL_16(X) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16)
#define TALL_24(X) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24)
#define TALL_32(X) X(25) X(26) X(27) X(28) X(29) X(30) X(31) X(32)
#define TALL_NAME(M) tall_##M,
#define ALL_TALL(X) TALL_8(X) TALL_16(X) TALL_24(X) TALL_32(X)
ALL_TALL(TALL_TILE)

/* ---- attention ---- */

/* Queries times a panel of keys, cut into turns of two products: 16 words of the sums of the upper
 * or the lower 16 queries. */
struct turns {
    const char *q, *keys;
    long line; /* bytes of a query */
    int done, all;
};

static struct turns begin_keys(const char *q, int words, const char *keys)
{
    clear_sums(true);
    return (struct turns){ q, keys, 4L * words, 0, 2 * words / WORDS };
}

INLINE void multiply_keys(struct turns *t, int until)
{
    for (; t->done < until; t->done++) {
        const char *q = t->q + t->done / 2 * 4 * WORDS;
        const char *keys = t->keys + t->done / 2 * 4L * PANEL * WORDS;
        if (t->done % 2 == 0) {
            _tile_loadd(WEIGHT, keys, 4 * PANEL);
            _tile_loadd(WEIGHT_RIGHT, keys + 4 * WIDTH, 4 * PANEL);
            _tile_loadd(INPUT, q, t->line);
            _tile_dpbf16ps(SUM, INPUT, WEIGHT);
            _tile_dpbf16ps(SUM_RIGHT, INPUT, WEIGHT_RIGHT);
        } else {
            _tile_loadd(INPUT_BELOW, q + HEIGHT * t->line, t->line);
            _tile_dpbf16ps(SUM_BELOW, INPUT_BELOW, WEIGHT);
            _tile_dpbf16ps(SUM_BELOW_RIGHT, INPUT_BELOW, WEIGHT_RIGHT);
        }
    }
}

static void amx_scores(const char *q, enum dtype type, int words, const char *keys, float *s,
                       int block)
{
    if (type != DT_BF16) {
        k_scores(q, type, words, keys, s, block);
        return;
    }
    shape_tiles(TALL);
    for (int j = 0; j < block; j += PANEL, keys += 4L * words * PANEL) {
        struct turns t = begin_keys(q, words, keys);
        multiply_keys(&t, t.all);
        store_sums(true, true, s + j, block);
    }
}

static void amx_softmax(float *s, int block, const int *valid, float scale, struct softmax *state,
                        void *p, enum dtype type, float *o, int cols)
{
    if (type == DT_BF16)
        softmax_rows(TALL, s, block, valid, scale, state, p, type, o, cols);
    else
        k_softmax(s, block, valid, scale, state, p, type, o, cols);
}

/* The weights of a row's 32 scores, of which `left` count unless full. They are stored at once: a
 * tile that is loaded soon after can take them from the one store. */
INLINE vec weigh_row(const bool full, const float *s, float scale, int left, uint16_t *p, vec sum)
{
    vec w = v_exp2_small(true, v_load(s) * v_set(scale));
    vec right = v_exp2_small(true, v_load(s + VW) * v_set(scale));
    if (!full) {
        w = w * first_ones(left);
        right = right * first_ones(left - VW);
    }
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(right, w));
    return sum + w + right;
}

/* Vectors make weights of a panel's scores, four rows at a time, between the turns of the tiles
 * with the next panel, so that both have work. */
INLINE void weigh_tall(const bool full, float (*s)[PANEL], float scale, const int *valid, int j,
                       int block, float (*sum)[MAX_LANES], uint16_t *p, struct turns *next)
{
    enum { GROUP = 4 };
    for (int m = 0; m < TALL; m += GROUP) {
        multiply_keys(next, next->all * (m + GROUP) / TALL);
        for (int r = m; r < m + GROUP; r++)
            v_store(sum[r], weigh_row(full, s[r], scale, valid[r] - j, p + (long)r * block + j,
                                      v_load(sum[r])));
    }
}

/* The tiles keep a panel's scores until the vectors are done with the last one's: a load waits for
 * an earlier store to an address that is equal in 12 bits, so two buffers would not help. */
static void amx_weigh(const char *q, enum dtype type, int words, const char *keys, float scale,
                      const int *valid, int block, float (*sum)[MAX_LANES], void *p)
{
    _Alignas(64) float s[TALL][PANEL];
    int least = block;
    if (type != DT_BF16) {
        k_weigh(q, type, words, keys, scale, valid, block, sum, p);
        return;
    }
    for (int r = 0; r < TALL; r++)
        least = valid[r] < least ? valid[r] : least;
    shape_tiles(TALL);
    struct turns t = begin_keys(q, words, keys);
    multiply_keys(&t, t.all);
    for (int j = 0; j < block; j += PANEL) {
        store_sums(true, true, s[0], PANEL);
        t = begin_keys(q, words, keys += 4L * words * PANEL);
        if (j + PANEL == block)
            t.all = 0;
        if (j + PANEL <= least)
            weigh_tall(true, s, scale, valid, j, block, sum, p, &t);
        else
            weigh_tall(false, s, scale, valid, j, block, sum, p, &t);
    }
}

INLINE void mix_columns(const bool broad, const void *p, int block, const char *v, float *o,
                        int cols)
{
    struct stream nothing = NOTHING;
    load_sums(true, broad, o, cols);
    add_tap(true, broad, p, 2L * block, v, 4L * cols, block / 2, &nothing);
    store_sums(true, broad, o, cols);
}

static void amx_mix(const void *p, int block, enum dtype type, const char *v, float *o, int cols)
{
    if (type != DT_BF16) {
        k_mix(p, block, type, v, o, cols);
        return;
    }
    shape_tiles(TALL);
    for (int j = 0; j < cols; j += 2 * WIDTH, v += 8 * WIDTH, o += 2 * WIDTH)
        if (cols - j > WIDTH)
            mix_columns(true, p, block, v, o, cols);
        else
            mix_columns(false, p, block, v, o, cols);
}

const struct kernels kernels_amx = {
    COMMON_KERNELS,
    .unit = { VECTOR_UNIT, { TALL, WORDS, WIDTH, true } },
    .tile = { TILES(tile_f32_), { NULL, ALL_TALL(TALL_NAME) } },
    .leave = leave_tiles,
    .scores = amx_scores,
    .softmax = amx_softmax,
    .weigh = amx_weigh,
    .mix = amx_mix,
};
