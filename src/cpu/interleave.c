/* interleave.c - from rows of numbers, one of each output channel, to the dwords of a panel, each
 * row of which holds the same dword of all 32 channels: a transposition, and with several taps a
 * permutation of its rows. Four or eight channels at a time; the vectors are those that every
 * x86-64 and ARM has. */
#include "cpu/cpu.h"

typedef uint32_t words4 __attribute__((vector_size(16)));
typedef uint16_t halves8 __attribute__((vector_size(16)));

enum { MAX_DWORDS = 2 * MAX_TAPS };

static words4 low4(words4 a, words4 b)
{
    return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}

static words4 high4(words4 a, words4 b)
{
    return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}

static halves8 low8(halves8 a, halves8 b)
{
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}

static halves8 high8(halves8 a, halves8 b)
{
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

/* rows[i][j] = dword i of channel j, for i < n; up to three rows more are written. */
static void turn_words(const char *from, size_t stride, int n, uint32_t (*rows)[PANEL])
{
    for (int j = 0; j < PANEL; j += 4, from += 4 * stride) {
        for (int i = 0; i < n; i += 4) {
            words4 x[4], y[4];
            for (size_t k = 0; k < 4; k++)
                memcpy(&x[k], from + k * stride + 4 * (size_t)i, sizeof x[k]);
            y[0] = low4(x[0], x[2]);
            y[1] = high4(x[0], x[2]);
            y[2] = low4(x[1], x[3]);
            y[3] = high4(x[1], x[3]);
            x[0] = low4(y[0], y[2]);
            x[1] = high4(y[0], y[2]);
            x[2] = low4(y[1], y[3]);
            x[3] = high4(y[1], y[3]);
            for (int k = 0; k < 4; k++)
                memcpy(&rows[i + k][j], &x[k], sizeof x[k]);
        }
    }
}

/* The same of 16-bit numbers; up to seven rows more are written. */
static void turn_halves(const char *from, size_t stride, int n, uint16_t (*rows)[PANEL])
{
    for (int j = 0; j < PANEL; j += 8, from += 8 * stride) {
        for (int i = 0; i < n; i += 8) {
            halves8 x[8], y[8];
            for (size_t k = 0; k < 8; k++)
                memcpy(&x[k], from + k * stride + 2 * (size_t)i, sizeof x[k]);
            for (int turn = 0; turn < 3; turn++) {
                for (int k = 0; k < 4; k++) {
                    y[2 * k] = low8(x[k], x[k + 4]);
                    y[2 * k + 1] = high8(x[k], x[k + 4]);
                }
                memcpy(x, y, sizeof x);
            }
            for (int k = 0; k < 8; k++)
                memcpy(&rows[i + k][j], &x[k], sizeof x[k]);
        }
    }
}

static void join(const uint16_t *restrict low, const uint16_t *restrict high, uint32_t *restrict to)
{
    for (int j = 0; j < PANEL; j++)
        to[j] = low[j] | (uint32_t)high[j] << 16;
}

void interleave(const struct packed *w, const char *numbers, size_t stride, int words, char *to,
                size_t tap_bytes)
{
    _Alignas(64) uint32_t rows[MAX_DWORDS + 4][PANEL];
    uint16_t(*halves)[PANEL] = (uint16_t(*)[PANEL])rows;
    bool paired = w->type == DT_BF16 && w->taps > 1; /* two channels of a tap lie taps apart */
    if (paired)
        turn_halves(numbers, stride, 2 * words * w->taps, halves);
    else
        turn_words(numbers, stride, words * w->taps, rows);
    for (int t = 0; t < w->taps; t++, to += tap_bytes) {
        char *at = to;
        for (int i = 0; i < words; i++, at += sizeof rows[0]) {
            int first = 2 * i * w->taps + t;
            if (paired)
                join(halves[first], halves[first + w->taps], (uint32_t *)at);
            else
                memcpy(at, rows[i * w->taps + t], sizeof rows[0]);
        }
    }
}
