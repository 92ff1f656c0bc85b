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

/* The first `whole` words of each tap, a multiple of 16, of c = (or +=) sum over taps of a b, where
 * the words of b are ldb bytes apart. tall: more than 16 rows; broad: 32 columns, else 16. */
INLINE void matrix(const bool tall, const bool broad, const char *a, long lda, const long *tap,
                   int taps, const char *b, long ldb, int words, int whole, float *c, long ldc,
                   bool more, struct stream next)
{
    float *below = c + HEIGHT * ldc;
    if (more) {
        _tile_loadd(SUM, c, 4 * ldc);
        if (broad)
            _tile_loadd(SUM_RIGHT, c + WIDTH, 4 * ldc);
        if (tall)
            _tile_loadd(SUM_BELOW, below, 4 * ldc);
        if (tall && broad)
            _tile_loadd(SUM_BELOW_RIGHT, below + WIDTH, 4 * ldc);
    } else {
        _tile_zero(SUM);
        _tile_zero(SUM_RIGHT);
        if (tall) {
            _tile_zero(SUM_BELOW);
            _tile_zero(SUM_BELOW_RIGHT);
        }
    }
    for (int t = 0; t < taps; t++, b += ldb * words) {
        const char *in = a + tap[t], *weight = b;
        for (int k = 0; k < whole; k += WORDS, in += 4 * WORDS, weight += ldb * WORDS) {
            for (long at = 0; next.from && at < WORDS * next.step; at += 64)
                __builtin_prefetch(next.from + at, 0, 2);
            next.from += WORDS * next.step;
            _tile_loadd(INPUT, in, lda);
            _tile_loadd(WEIGHT, weight, ldb);
            _tile_dpbf16ps(SUM, INPUT, WEIGHT);
            if (tall) {
                _tile_loadd(INPUT_BELOW, in + HEIGHT * lda, lda);
                _tile_dpbf16ps(SUM_BELOW, INPUT_BELOW, WEIGHT);
            }
            if (broad) {
                _tile_loadd(WEIGHT_RIGHT, weight + 4 * WIDTH, ldb);
                _tile_dpbf16ps(SUM_RIGHT, INPUT, WEIGHT_RIGHT);
            }
            if (tall && broad)
                _tile_dpbf16ps(SUM_BELOW_RIGHT, INPUT_BELOW, WEIGHT_RIGHT);
        }
    }
    _tile_stored(SUM, c, 4 * ldc);
    if (broad)
        _tile_stored(SUM_RIGHT, c + WIDTH, 4 * ldc);
    if (tall)
        _tile_stored(SUM_BELOW, below, 4 * ldc);
    if (tall && broad)
        _tile_stored(SUM_BELOW_RIGHT, below + WIDTH, 4 * ldc);
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

static void tall_tile(int rows, const char *a, long lda, const long *tap, int taps, const char *b,
                      int words, float *c, long ldc, bool more, struct stream next)
{
    int whole = words / WORDS * WORDS;
    long ldb = 4 * PANEL;
    if (whole) {
        shape_tiles(rows);
        if (rows > HEIGHT)
            matrix(true, true, a, lda, tap, taps, b, ldb, words, whole, c, ldc, more, next);
        else
            matrix(false, true, a, lda, tap, taps, b, ldb, words, whole, c, ldc, more, next);
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

static void amx_scores(const char *q, enum dtype type, int words, const char *keys, float *s,
                       int block)
{
    long zero = 0, line = 4L * words;
    if (type != DT_BF16) {
        k_scores(q, type, words, keys, s, block);
        return;
    }
    shape_tiles(TALL);
    for (int j = 0; j < block; j += PANEL, keys += line * PANEL)
        matrix(true, true, q, line, &zero, 1, keys, 4 * PANEL, words, words, s + j, block, false,
               NOTHING);
}

static void amx_softmax(float *s, int block, const int *valid, float scale, struct softmax *state,
                        void *p, enum dtype type, float *o, int cols)
{
    if (type == DT_BF16)
        softmax_rows(TALL, s, block, valid, scale, state, p, type, o, cols);
    else
        k_softmax(s, block, valid, scale, state, p, type, o, cols);
}

INLINE void weigh_tall(const bool full, float (*s)[PANEL], float scale, const int *valid, int j,
                       int block, float (*sum)[MAX_LANES], uint16_t *p)
{
    for (int m = 0; m < TALL; m++, p += block) {
        vec all = v_load(sum[m]);
        for (int v = 0; v < PANEL; v += VW)
            all = weigh_scores(DT_BF16, full, v_load(s[m] + v), scale, valid[m] - j - v,
                               (char *)(p + v), all);
        v_store(sum[m], all);
    }
}

/* The tiles multiply the next panel while vectors make weights of this one's scores. */
static void amx_weigh(const char *q, enum dtype type, int words, const char *keys, float scale,
                      const int *valid, int block, float (*sum)[MAX_LANES], void *p)
{
    _Alignas(64) float s[2][TALL][PANEL];
    long zero = 0, line = 4L * words;
    int least = block;
    if (type != DT_BF16) {
        k_weigh(q, type, words, keys, scale, valid, block, sum, p);
        return;
    }
    for (int r = 0; r < TALL; r++)
        least = valid[r] < least ? valid[r] : least;
    shape_tiles(TALL);
    for (int j = 0; j <= block; j += PANEL, keys += line * PANEL) {
        int last = j - PANEL;
        float(*done)[PANEL] = s[last / PANEL & 1];
        if (j < block)
            matrix(true, true, q, line, &zero, 1, keys, 4 * PANEL, words, words,
                   s[j / PANEL & 1][0], PANEL, false, NOTHING);
        if (last < 0)
            continue;
        if (j <= least)
            weigh_tall(true, done, scale, valid, last, block, sum, (uint16_t *)p + last);
        else
            weigh_tall(false, done, scale, valid, last, block, sum, (uint16_t *)p + last);
    }
}

static void amx_mix(const void *p, int block, enum dtype type, const char *v, float *o, int cols)
{
    long zero = 0, ldb = 4L * cols, line = 2L * block;
    int words = block / 2;
    if (type != DT_BF16) {
        k_mix(p, block, type, v, o, cols);
        return;
    }
    shape_tiles(TALL);
    for (int j = 0; j < cols; j += 2 * WIDTH, v += 8 * WIDTH, o += 2 * WIDTH)
        if (cols - j > WIDTH)
            matrix(true, true, p, line, &zero, 1, v, ldb, words, words, o, cols, true, NOTHING);
        else
            matrix(true, false, p, line, &zero, 1, v, ldb, words, words, o, cols, true, NOTHING);
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
