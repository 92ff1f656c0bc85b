/* rng_torch_cpu.c - torch.randn with a CPU generator.
 *
 * mt19937 (Matsumoto and Nishimura 1998) feeds two different transforms. Draws of fewer than 16
 * numbers: Box-Muller in double, one number at a time, the second of each pair kept for the next
 * small draw. Larger ones: blocks of 16, number j paired with number j + 8; if the count is no
 * multiple of 16, sixteen fresh uniforms replace the last 16 numbers. */
#include <math.h>

#include "sample/boxmuller.h"
#include "sample/rng_internal.h"

enum { WORDS = 624, SHIFT = 397, BLOCK = 16, HALF = BLOCK / 2 };

static const double TWO_PI = 6.283185307179586476925;

void mt19937_seed(struct rng_mt19937 *mt, uint64_t seed)
{
    mt->state[0] = (uint32_t)seed; /* torch drops the upper half too */
    for (uint32_t i = 1; i < WORDS; i++) {
        uint32_t last = mt->state[i - 1];
        mt->state[i] = 1812433253u * (last ^ last >> 30) + i;
    }
    mt->next = WORDS;
    mt->has_spare = false;
}

static inline uint32_t twist(uint32_t a, uint32_t b)
{
    return ((a & 0x80000000u) | (b & 0x7fffffffu)) >> 1 ^ ((0u - (b & 1)) & 0x9908b0dfu);
}

static void mt19937_refill(struct rng_mt19937 *mt)
{
    uint32_t *s = mt->state;
    for (int i = 0; i < WORDS - SHIFT; i++)
        s[i] = s[i + SHIFT] ^ twist(s[i], s[i + 1]);
    for (int i = WORDS - SHIFT; i < WORDS - 1; i++)
        s[i] = s[i + SHIFT - WORDS] ^ twist(s[i], s[i + 1]);
    s[WORDS - 1] = s[SHIFT - 1] ^ twist(s[WORDS - 1], s[0]);
    mt->next = 0;
}

/* The next n words, to out; out NULL skips them. */
static void mt19937_words(struct rng_mt19937 *mt, uint32_t *out, size_t n)
{
    while (n > 0) {
        if (mt->next == WORDS)
            mt19937_refill(mt);
        size_t run = (size_t)(WORDS - mt->next);
        if (run > n)
            run = n;
        if (out) {
            for (size_t i = 0; i < run; i++) {
                uint32_t y = mt->state[mt->next + (int)i];
                y ^= y >> 11;
                y ^= y << 7 & 0x9d2c5680u;
                y ^= y << 15 & 0xefc60000u;
                out[i] = y ^ y >> 18;
            }
            out += run;
        }
        mt->next += (int)run;
        n -= run;
    }
}

/* 53 bits of two words, the high one first. */
static double uniform_double(const uint32_t words[2])
{
    uint64_t u = (uint64_t)words[0] << 32 | words[1];
    return (double)(u & ((1ull << 53) - 1)) * 0x1p-53;
}

static float round_to(enum dtype type, float x)
{
    if (type == DT_F16)
        return f16_to_f32(f32_to_f16(x));
    if (type == DT_BF16)
        return bf16_to_f32(f32_to_bf16(x));
    return x;
}

/* ---- sixteen numbers at a time ---- */

static void block_f32(const uint32_t *words, float *z)
{
    for (int j = 0; j < HALF; j++) {
        float u1 = 1.0f - (float)(int32_t)(words[j] & 0xffffff) * 0x1p-24f;
        float u2 = (float)(int32_t)(words[j + HALF] & 0xffffff) * 0x1p-24f;
        float radius = sqrtf(-2.0f * cephes_log(u1)), sine, cosine;
        cephes_sincos((float)TWO_PI * u2, &sine, &cosine);
        z[j] = radius * cosine;
        z[j + HALF] = radius * sine;
    }
}

static void block_f64(const uint32_t *words, float *z)
{
    for (int j = 0; j < HALF; j++) {
        double u1 = 1.0 - uniform_double(words + 2 * j);
        double theta = TWO_PI * uniform_double(words + 2 * (j + HALF));
        double radius = sqrt(-2.0 * log(u1));
        z[j] = (float)(radius * cos(theta));
        z[j + HALF] = (float)(radius * sin(theta));
    }
}

/* The 16-bit types: as many uniform bits as they have digits, and every intermediate rounded. */
static void block_16bit(enum dtype type, const uint32_t *words, float *z)
{
    int bits = type == DT_F16 ? 11 : 8;
    uint32_t mask = (1u << bits) - 1;
    float ulp = 1.0f / (float)(1u << bits);
    for (int j = 0; j < HALF; j++) {
        float u1 = round_to(type, 1.0f - (float)(words[j] & mask) * ulp);
        float u2 = (float)(words[j + HALF] & mask) * ulp;
        float minus_2_log = round_to(type, -2.0f * round_to(type, logf(u1)));
        float radius = round_to(type, sqrtf(minus_2_log));
        float theta = round_to(type, (float)TWO_PI * u2);
        z[j] = round_to(type, radius * round_to(type, cosf(theta)));
        z[j + HALF] = round_to(type, radius * round_to(type, sinf(theta)));
    }
}

static void draw_block(struct rng_mt19937 *mt, enum dtype type, size_t at, struct rng_part part)
{
    size_t nwords = type == DT_F64 ? 2 * BLOCK : BLOCK;
    uint32_t words[2 * BLOCK];
    float z[BLOCK];
    if (at + BLOCK <= part.first || at >= part.end) {
        mt19937_words(mt, NULL, nwords);
        return;
    }
    mt19937_words(mt, words, nwords);
    if (type == DT_F32)
        block_f32(words, z);
    else if (type == DT_F64)
        block_f64(words, z);
    else
        block_16bit(type, words, z);
    for (size_t j = 0; j < BLOCK; j++) {
        if (at + j >= part.first && at + j < part.end)
            part.out[at + j - part.first] = z[j];
    }
}

static void draw_large(struct rng_mt19937 *mt, enum dtype type, size_t total, struct rng_part part)
{
    size_t rest = total % BLOCK;
    for (size_t at = 0; at + BLOCK <= total; at += BLOCK)
        draw_block(mt, type, at, part);
    if (rest > 0) {
        mt19937_words(mt, NULL, type == DT_F64 ? 2 * rest : rest);
        draw_block(mt, type, total - BLOCK, part);
    }
}

/* ---- one at a time ---- */

static double draw_one(struct rng_mt19937 *mt)
{
    if (mt->has_spare) {
        mt->has_spare = false;
        return mt->spare;
    }
    uint32_t words[4];
    mt19937_words(mt, words, 4);
    double theta = TWO_PI * uniform_double(words);
    double radius = sqrt(-2.0 * log1p(-uniform_double(words + 2)));
    mt->spare = radius * sin(theta);
    mt->has_spare = true;
    return radius * cos(theta);
}

void mt19937_normal(struct rng_mt19937 *mt, enum dtype type, size_t total, struct rng_part part)
{
    if (total >= BLOCK) {
        draw_large(mt, type, total, part);
        return;
    }
    for (size_t i = 0; i < total; i++) {
        float z = round_to(type, (float)draw_one(mt));
        if (i >= part.first && i < part.end)
            part.out[i - part.first] = z;
    }
}
