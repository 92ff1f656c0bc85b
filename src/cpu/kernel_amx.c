/* AMX with BF16 (Sapphire Rapids and later): products by tiles of 16 dwords, the rest as AVX-512
 * BF16. A packed panel already is what the tiles want: 16 words by two times 16 columns. */
#include "cpu/kernel.h"
#include "cpu/kernel_avx512bf16.inc"

#define KERNELS kernels_amx
#define KERNELS_NAME "amx"

enum { WORDS = 16 };

/* The tiles; GCC's intrinsics paste the numbers into the names of registers. */
#define SUM 0
#define SUM_RIGHT 1
#define INPUT 2
#define WEIGHT 3
#define WEIGHT_RIGHT 4

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
    for (int i = SUM; i <= WEIGHT_RIGHT; i++) {
        shape.row_bytes[i] = 64;
        shape.rows[i] = (uint8_t)(i >= WEIGHT ? WORDS : rows);
    }
    _tile_loadconfig(&shape);
    shaped = rows;
}

static void leave_tiles(void)
{
    _tile_release();
    shaped = 0;
}

/* The part of tile() whose words come in sixteens; returns how many words of a tap those are. */
static int amx_words(int rows, const char *a, long lda, const long *tap, int taps, const char *b,
                     int words, float *c, long ldc, bool more, struct stream next)
{
    int whole = words / WORDS * WORDS;
    if (shaped != rows)
        shape_tiles(rows);
    if (more) {
        _tile_loadd(SUM, c, 4 * ldc);
        _tile_loadd(SUM_RIGHT, c + 16, 4 * ldc);
    } else {
        _tile_zero(SUM);
        _tile_zero(SUM_RIGHT);
    }
    for (int t = 0; t < taps; t++, b += 4L * PANEL * words)
        for (int k = 0; k < whole; k += WORDS) {
            const char *weight = b + 4L * PANEL * k;
            for (int i = 0; next.from && i < WORDS; i++, next.from += next.step)
                __builtin_prefetch(next.from, 0, 2);
            _tile_loadd(INPUT, a + tap[t] + 4L * k, lda);
            _tile_loadd(WEIGHT, weight, 4L * PANEL);
            _tile_loadd(WEIGHT_RIGHT, weight + 64, 4L * PANEL);
            _tile_dpbf16ps(SUM, INPUT, WEIGHT);
            _tile_dpbf16ps(SUM_RIGHT, INPUT, WEIGHT_RIGHT);
        }
    _tile_stored(SUM, c, 4 * ldc);
    _tile_stored(SUM_RIGHT, c + 16, 4 * ldc);
    return whole;
}

#define MATRIX_TILES

#include "cpu/kernel.inc"
