/* AVX2 and FMA: 16 registers of 8 floats, tiles of 6 rows. */
#include "cpu/kernel.h"
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef __m256 vec;

enum { VW = 8, NV = 2, ROWS = 6 };
#define ROWS_6
#define KERNELS kernels_avx2
#define KERNELS_NAME "avx2"

static inline vec v_set(float x)
{
    return _mm256_set1_ps(x);
}

static inline vec v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline void v_store(float *p, vec v)
{
    _mm256_storeu_ps(p, v);
}

static inline vec v_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vec v_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}

static inline float v_hsum(vec v)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

static inline float v_hmax(vec v)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

static inline vec v_inverse(vec x)
{
    return _mm256_div_ps(_mm256_set1_ps(1.f), x);
}

/* 2^x = 2^floor(x) * 2^f, 0 <= f < 1; x is kept where both are normal numbers. */
static inline void v_split(vec x, vec *whole, vec *f)
{
    x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-126.f)), _mm256_set1_ps(127.f));
    *whole = _mm256_floor_ps(x);
    *f = _mm256_sub_ps(x, *whole);
}

static inline vec v_scale2(vec p, vec whole)
{
    __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(e, 23)));
}

/* p 2^n, n in the low bits of t. */
static inline vec v_add_exponent(vec p, vec t)
{
    __m256i e = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), e));
}

static inline vec v_load_bf16(const uint16_t *p)
{
    __m256i u = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(u, 16));
}

/* Round to nearest even; NaN stays NaN. */
static inline void v_store_bf16(uint16_t *p, vec v)
{
    __m256i u = _mm256_castps_si256(v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(0x400000)), nan);
    r = _mm256_srli_epi32(r, 16);
    r = _mm256_permute4x64_epi64(_mm256_packus_epi32(r, r), 0x08);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(r));
}

static inline vec v_word(const char *p)
{
    float f;
    memcpy(&f, p, 4);
    return _mm256_set1_ps(f);
}

static inline vec v_low(vec a)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 16));
}

static inline vec v_high(vec a)
{
    return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(~0xffff)));
}

/* Two bf16 of each dword: c += low * low + high * high. */
static inline vec v_dot2(vec c, vec a, vec b)
{
    c = _mm256_fmadd_ps(v_low(a), v_low(b), c);
    return _mm256_fmadd_ps(v_high(a), v_high(b), c);
}

static inline vec v_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

static inline vec v_from_int(vec v)
{
    return _mm256_cvtepi32_ps(_mm256_castps_si256(v));
}

static inline void v_to_bytes(vec v, uint8_t *to)
{
    __m256i n = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(128));
    n = _mm256_packus_epi32(n, n); /* in each half */
    n = _mm256_packus_epi16(n, n);
    uint32_t low = (uint32_t)_mm256_extract_epi32(n, 0),
             high = (uint32_t)_mm256_extract_epi32(n, 4);
    memcpy(to, &low, 4);
    memcpy(to + 4, &high, 4);
}

/* Four bytes of each dword: c += those of a, unsigned, times those of b, signed. Odd and even ones
 * as 16-bit numbers, so that nothing saturates. */
static inline vec v_dot4(vec c, vec a, vec b)
{
    __m256i ai = _mm256_castps_si256(a), bi = _mm256_castps_si256(b), sum = _mm256_castps_si256(c);
    __m256i even = _mm256_and_si256(ai, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(ai, 8);
    sum = _mm256_add_epi32(sum,
                           _mm256_madd_epi16(even, _mm256_srai_epi16(_mm256_slli_epi16(bi, 8), 8)));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(odd, _mm256_srai_epi16(bi, 8)));
    return _mm256_castsi256_ps(sum);
}

#include "cpu/kernel.inc"
