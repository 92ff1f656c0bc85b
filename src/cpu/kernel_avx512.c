/* AVX-512 without BF16 arithmetic: bf16 pairs are widened and multiplied as f32. */
#include "cpu/kernel_avx512.inc"
#include "cpu/kernel.h"

#define KERNELS kernels_avx512
#define KERNELS_NAME "avx512"

/* Round to nearest even; NaN stays NaN. */
static inline void v_store_bf16(uint16_t *p, vec v)
{
    __m512i u = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    r = _mm512_mask_or_epi32(r, nan, u, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}

static inline vec v_low(vec a)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 16));
}

static inline vec v_high(vec a)
{
    __m512i high = _mm512_set1_epi32(~0xffff);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), high));
}

/* Two bf16 of each dword: c += low * low + high * high. */
static inline vec v_dot2(vec c, vec a, vec b)
{
    c = _mm512_fmadd_ps(v_low(a), v_low(b), c);
    return _mm512_fmadd_ps(v_high(a), v_high(b), c);
}

static inline half h_dot2(vec a, half b, half c)
{
    __m256i high = _mm256_set1_epi32(~0xffff), bi = _mm256_castps_si256(b);
    half bl = _mm256_castsi256_ps(_mm256_slli_epi32(bi, 16));
    half bh = _mm256_castsi256_ps(_mm256_and_si256(bi, high));
    return h_fma(v_high(a), bh, h_fma(v_low(a), bl, c));
}

/* Four bytes of each dword: c += those of a, unsigned, times those of b, signed. Odd and even ones
 * as 16-bit numbers, so that nothing saturates. */
static inline vec v_dot4(vec c, vec a, vec b)
{
    __m512i ai = _mm512_castps_si512(a), bi = _mm512_castps_si512(b), sum = _mm512_castps_si512(c);
    __m512i even = _mm512_and_si512(ai, _mm512_set1_epi16(255)), odd = _mm512_srli_epi16(ai, 8);
    sum = _mm512_add_epi32(sum,
                           _mm512_madd_epi16(even, _mm512_srai_epi16(_mm512_slli_epi16(bi, 8), 8)));
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(odd, _mm512_srai_epi16(bi, 8)));
    return _mm512_castsi512_ps(sum);
}

#include "cpu/kernel.inc"
