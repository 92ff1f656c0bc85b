#include "weights/quants.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/dtype.h"

static float half_at(const unsigned char *p)
{
    return f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

/* ---- Blocks of 32. ---- */

/* d | q[32] */
static void split_q8_0(const unsigned char *b, int8_t *q, uint16_t *scale)
{
    *scale = (uint16_t)(b[0] | b[1] << 8);
    memcpy(q, b + 2, 32);
}

/* d | q[16]: number j in the low half of byte j, number 16 + j in the high half; 8 is zero. */
static void split_q4_0(const unsigned char *b, int8_t *q, uint16_t *scale)
{
    *scale = (uint16_t)(b[0] | b[1] << 8);
    for (int j = 0; j < 16; j++) {
        q[j] = (int8_t)((b[2 + j] & 15) - 8);
        q[16 + j] = (int8_t)((b[2 + j] >> 4) - 8);
    }
}

/* The fifth bits lie together, bit j for number j. */
static void five_bits(const unsigned char *high, const unsigned char *low, int *q)
{
    uint32_t bits = (uint32_t)high[0] | (uint32_t)high[1] << 8 | (uint32_t)high[2] << 16 |
                    (uint32_t)high[3] << 24;
    for (int j = 0; j < 16; j++) {
        q[j] = (int)((low[j] & 15) | (bits >> j & 1) << 4);
        q[16 + j] = (int)((uint32_t)(low[j] >> 4) | (bits >> (16 + j) & 1) << 4);
    }
}

/* d | high[4] | low[16]; 16 is zero. */
static void split_q5_0(const unsigned char *b, int8_t *q, uint16_t *scale)
{
    int five[32];
    *scale = (uint16_t)(b[0] | b[1] << 8);
    five_bits(b + 2, b + 6, five);
    for (int j = 0; j < 32; j++)
        q[j] = (int8_t)(five[j] - 16);
}

#define DECODE_SPLIT(type)                                                                         \
    static void decode_##type(const unsigned char *b, float *to)                                   \
    {                                                                                              \
        int8_t q[32];                                                                              \
        uint16_t scale;                                                                            \
        split_##type(b, q, &scale);                                                                \
        float d = f16_to_f32(scale);                                                               \
        for (int j = 0; j < 32; j++)                                                               \
            to[j] = (float)q[j] * d;                                                               \
    }
DECODE_SPLIT(q8_0)
DECODE_SPLIT(q4_0)
DECODE_SPLIT(q5_0)

/* d | m | q[16] */
static void decode_q4_1(const unsigned char *b, float *to)
{
    float d = half_at(b), m = half_at(b + 2);
    for (int j = 0; j < 16; j++) {
        to[j] = d * (float)(b[4 + j] & 15) + m;
        to[16 + j] = d * (float)(b[4 + j] >> 4) + m;
    }
}

/* d | m | high[4] | low[16] */
static void decode_q5_1(const unsigned char *b, float *to)
{
    float d = half_at(b), m = half_at(b + 2);
    int five[32];
    five_bits(b + 4, b + 8, five);
    for (int j = 0; j < 32; j++)
        to[j] = d * (float)five[j] + m;
}

/* ---- Super-blocks of 256: groups of 16 or 32 whose scales (and minima) are small integers. ----
 */

/* scales[16] | q[64] | d | dmin. 2 bits a number: byte 32h + l holds numbers 128h + 32s + l at bits
 * 2s; a group's scale is in the low half of its byte, its minimum in the high half. */
static void decode_q2_k(const unsigned char *b, float *to)
{
    float d = half_at(b + 80), dmin = half_at(b + 82);
    for (int group = 0; group < 16; group++, to += 16) {
        const unsigned char *q = b + 16 + 32 * (group / 8) + 16 * (group % 2);
        float scale = d * (float)(b[group] & 15), minimum = dmin * (float)(b[group] >> 4);
        int shift = 2 * (group / 2 % 4);
        for (int l = 0; l < 16; l++)
            to[l] = scale * (float)(q[l] >> shift & 3) - minimum;
    }
}

/* high[32] | q[64] | scales[12] | d. As above, with a third bit, whose absence means -4: number
 * 32k + l has it at bit k of high[l]. Six-bit scales: low halves, then pairs of high bits; 32 is
 * zero. */
static void decode_q3_k(const unsigned char *b, float *to)
{
    const unsigned char *scales = b + 96;
    float d = half_at(b + 108);
    for (int group = 0; group < 16; group++, to += 16) {
        const unsigned char *high = b + 16 * (group % 2), *q = high + 32 + 32 * (group / 8);
        int low = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
        int scale = (low | (scales[8 + group % 4] >> 2 * (group / 4) & 3) << 4) - 32;
        int shift = 2 * (group / 2 % 4), bit = group / 2;
        float step = d * (float)scale;
        for (int l = 0; l < 16; l++)
            to[l] = step * (float)(((q[l] >> shift & 3) | (high[l] >> bit & 1) << 2) - 4);
    }
}

/* Eight scales and eight minima of six bits in 12 bytes: the first four of each whole, the others
 * split between the halves of the last four bytes and the top bits of the first eight. */
static void scale_and_minimum(const unsigned char *s, int group, int *scale, int *minimum)
{
    if (group < 4) {
        *scale = s[group] & 63;
        *minimum = s[group + 4] & 63;
    } else {
        *scale = (s[group + 4] & 15) | s[group - 4] >> 6 << 4;
        *minimum = s[group + 4] >> 4 | s[group] >> 6 << 4;
    }
}

/* d | dmin | scales[12] | q[128]: each 32 bytes hold two groups of 32, low halves first. */
static void decode_q4_k(const unsigned char *b, float *to)
{
    float d = half_at(b), dmin = half_at(b + 2);
    int scale, minimum;
    for (int group = 0; group < 8; group++) {
        scale_and_minimum(b + 4, group, &scale, &minimum);
        for (int l = 0; l < 32; l++) {
            int q = b[16 + group / 2 * 32 + l] >> 4 * (group % 2) & 15;
            to[32 * group + l] = d * (float)scale * (float)q - dmin * (float)minimum;
        }
    }
}

/* d | dmin | scales[12] | high[32] | q[128]: as above, with a fifth bit at bit `group` of high. */
static void decode_q5_k(const unsigned char *b, float *to)
{
    float d = half_at(b), dmin = half_at(b + 2);
    int scale, minimum;
    for (int group = 0; group < 8; group++) {
        scale_and_minimum(b + 4, group, &scale, &minimum);
        for (int l = 0; l < 32; l++) {
            int q = b[48 + group / 2 * 32 + l] >> 4 * (group % 2) & 15;
            q |= (b[16 + l] >> group & 1) << 4;
            to[32 * group + l] = d * (float)scale * (float)q - dmin * (float)minimum;
        }
    }
}

/* low[128] | high[64] | scales[16] | d. In each half of 128, number 32k + l has its low four bits
 * in byte 32 (k % 2) + l of 64, low halves for k < 2, and its high two at bits 2k of high[l]; 32 is
 * zero. */
static void decode_q6_k(const unsigned char *b, float *to)
{
    float d = half_at(b + 208);
    for (int group = 0; group < 16; group++, to += 16) {
        int half = group / 8, k = group / 2 % 4, at = 16 * (group % 2);
        const unsigned char *low = b + 64 * half + 32 * (k % 2) + at;
        const unsigned char *high = b + 128 + 32 * half + at;
        float scale = d * (float)(int8_t)b[192 + group];
        for (int l = 0; l < 16; l++)
            to[l] =
                scale * (float)(((low[l] >> 4 * (k / 2) & 15) | (high[l] >> 2 * k & 3) << 4) - 32);
    }
}

static const struct quant quants[] = {
    { "Q4_0", 2, { 32, 18, decode_q4_0 }, split_q4_0 },
    { "Q4_1", 3, { 32, 20, decode_q4_1 }, NULL },
    { "Q5_0", 6, { 32, 22, decode_q5_0 }, split_q5_0 },
    { "Q5_1", 7, { 32, 24, decode_q5_1 }, NULL },
    { "Q8_0", 8, { Q8_0_ELEMENTS, Q8_0_BYTES, decode_q8_0 }, split_q8_0 },
    { "Q2_K", 10, { 256, 84, decode_q2_k }, NULL },
    { "Q3_K", 11, { 256, 110, decode_q3_k }, NULL },
    { "Q4_K", 12, { 256, 144, decode_q4_k }, NULL },
    { "Q5_K", 13, { 256, 176, decode_q5_k }, NULL },
    { "Q6_K", 14, { 256, 210, decode_q6_k }, NULL },
};
enum { NQUANTS = sizeof quants / sizeof *quants };

const struct quant *quant_by_id(int id)
{
    for (int i = 0; i < NQUANTS; i++)
        if (quants[i].id == id)
            return &quants[i];
    return NULL;
}

const struct quant *quant_by_name(const char *name)
{
    for (int i = 0; i < NQUANTS; i++)
        if (!strcmp(quants[i].name, name))
            return &quants[i];
    return NULL;
}

/* roundf, which compilers make a call of. */
static inline int round_away(float x)
{
    int whole = (int)x;
    float rest = x - (float)whole; /* exact */
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

bool q8_0_quantize(const float *from, size_t n, int8_t *q, uint16_t *scales)
{
    for (; n >= Q8_0_ELEMENTS; n -= Q8_0_ELEMENTS, from += Q8_0_ELEMENTS, q += Q8_0_ELEMENTS) {
        float most = 0, zero = 0;
        for (int j = 0; j < Q8_0_ELEMENTS; j++) {
            most = fabsf(from[j]) > most ? fabsf(from[j]) : most;
            zero += from[j] * 0; /* no number unless all are finite */
        }
        if (zero != 0 || most > 127 * 65504.0f)
            return false;
        float scale = most / 127, inverse = scale > 0 ? 1 / scale : 0;
        inverse = inverse < FLT_MAX ? inverse : 0; /* too small for an F16 scale */
        for (int j = 0; j < Q8_0_ELEMENTS; j++)
            q[j] = (int8_t)round_away(from[j] * inverse);
        *scales++ = f32_to_f16(scale);
    }
    return true;
}
