#include "base/dtype.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static const struct {
    const char *name;
    size_t bytes;
} types[DT_COUNT] = {
    [DT_F32] = { "F32", 4 },      [DT_BF16] = { "BF16", 2 }, [DT_F16] = { "F16", 2 },
    [DT_F64] = { "F64", 8 },      [DT_I8] = { "I8", 1 },     [DT_U8] = { "U8", 1 },
    [DT_I32] = { "I32", 4 },      [DT_I64] = { "I64", 8 },   [DT_E4M3] = { "F8_E4M3", 1 },
    [DT_E5M2] = { "F8_E5M2", 1 },
};

size_t dtype_bytes(enum dtype type)
{
    return types[type].bytes;
}

const char *dtype_name(enum dtype type)
{
    return types[type].name;
}

int dtype_from_name(const char *name)
{
    for (int i = 0; i < DT_COUNT; i++)
        if (strcmp(types[i].name, name) == 0)
            return i;
    return -1;
}

/* IEEE 754 binary16. Subnormals are rescaled by 2^-24 through an exact float multiplication. */
float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023, u;
    float f;
    if (exponent == 0) {
        f = (float)mantissa * 0x1p-24f;
        return sign ? -f : f;
    }
    u = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
    memcpy(&f, &u, 4);
    return f;
}

uint16_t f32_to_f16(float f)
{
    uint32_t u, sign, shift, mantissa, half;
    memcpy(&u, &f, 4);
    sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (u >= 0x477ff000) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (u < 0x33000001) /* up to 2^-25 rounds to zero */
        return (uint16_t)sign;
    if (u >= 0x38800000) { /* normal: round the 13 dropped bits to nearest even */
        u += 0xfff + (u >> 13 & 1);
        return (uint16_t)(sign | (u - 0x38000000) >> 13);
    }
    shift = 126 - (u >> 23); /* 14..24 */
    mantissa = (u & 0x7fffff) | 0x800000;
    half = mantissa >> shift;
    mantissa &= (1u << shift) - 1;
    half += mantissa > 1u << (shift - 1) || (mantissa == 1u << (shift - 1) && (half & 1));
    return (uint16_t)(sign | half);
}

/* Whole models pass through here when they are loaded, hence the instruction for it, where there is
 * one: every CPU with AVX2 has F16C too. Both return how many elements they converted. */
#if defined(__x86_64__)
__attribute__((target("avx2,f16c"))) static size_t f16_to_f32_by_8(const uint16_t *from, float *to,
                                                                   size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
    return i;
}

__attribute__((target("avx2,f16c"))) static size_t f32_to_f16_by_8(const float *from, uint16_t *to,
                                                                   size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(to + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    return i;
}

static int has_f16c(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
static size_t f16_to_f32_by_8(const uint16_t *from, float *to, size_t n)
{
    (void)from, (void)to, (void)n;
    return 0;
}

static size_t f32_to_f16_by_8(const float *from, uint16_t *to, size_t n)
{
    (void)from, (void)to, (void)n;
    return 0;
}

static int has_f16c(void)
{
    return 0;
}
#endif

/* 8-bit floats are halves without their low bits: E5M2 is the upper byte of one, E4M3 has an
 * exponent bit less, which makes its numbers 2^-8 of what they are, and in the place of infinity a
 * NaN (Micikevicius et al. 2022, arXiv:2209.05433). */
static void f8_to_f32(enum dtype type, const uint8_t *from, float *to, size_t n)
{
    enum { SOME = 256 };
    uint16_t halves[SOME];
    for (size_t some; n; n -= some, from += some, to += some) {
        some = n < SOME ? n : SOME;
        for (size_t i = 0; i < some; i++)
            halves[i] =
                (uint16_t)(type == DT_E5M2          ? from[i] << 8
                           : (from[i] & 127) == 127 ? 0x7e00
                                                    : (from[i] & 128) << 8 | (from[i] & 127) << 7);
        dtype_to_f32(DT_F16, halves, to, some);
        for (size_t i = 0; type == DT_E4M3 && i < some; i++)
            to[i] *= 256;
    }
}

void dtype_to_f32(enum dtype type, const void *from, float *to, size_t n)
{
    switch (type) {
    case DT_F32:
        memcpy(to, from, n * 4);
        break;
    case DT_BF16:
        for (size_t i = 0; i < n; i++)
            to[i] = bf16_to_f32(((const uint16_t *)from)[i]);
        break;
    case DT_F16:
        for (size_t i = has_f16c() ? f16_to_f32_by_8(from, to, n) : 0; i < n; i++)
            to[i] = f16_to_f32(((const uint16_t *)from)[i]);
        break;
    case DT_F64:
        for (size_t i = 0; i < n; i++)
            to[i] = (float)((const double *)from)[i];
        break;
    case DT_I8:
        for (size_t i = 0; i < n; i++)
            to[i] = ((const int8_t *)from)[i];
        break;
    case DT_U8:
        for (size_t i = 0; i < n; i++)
            to[i] = ((const uint8_t *)from)[i];
        break;
    case DT_I32:
        for (size_t i = 0; i < n; i++)
            to[i] = (float)((const int32_t *)from)[i];
        break;
    case DT_I64:
        for (size_t i = 0; i < n; i++)
            to[i] = (float)((const int64_t *)from)[i];
        break;
    case DT_E4M3:
    case DT_E5M2:
        f8_to_f32(type, from, to, n);
        break;
    case DT_COUNT:
        break;
    }
}

void dtype_from_f32(enum dtype type, const float *from, void *to, size_t n)
{
    if (type == DT_F32)
        memcpy(to, from, n * 4);
    else if (type == DT_BF16)
        for (size_t i = 0; i < n; i++)
            ((uint16_t *)to)[i] = f32_to_bf16(from[i]);
    else if (type == DT_F16)
        for (size_t i = has_f16c() ? f32_to_f16_by_8(from, to, n) : 0; i < n; i++)
            ((uint16_t *)to)[i] = f32_to_f16(from[i]);
}
