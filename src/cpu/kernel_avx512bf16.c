/* AVX-512 with BF16 arithmetic (Zen 4, Cooper Lake and later). */
#include "cpu/kernel.h"
#include "cpu/kernel_avx512.inc"

#define KERNELS kernels_avx512bf16
#define KERNELS_NAME "avx512bf16"

static inline void v_store_bf16(uint16_t *p, vec v)
{
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(v));
}

/* Two bf16 of each dword: c += low * low + high * high. */
static inline vec v_dot2(vec c, vec a, vec b)
{
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}

static inline half h_dot2(vec a, half b, half c)
{
    return _mm256_dpbf16_ps(c, (__m256bh)_mm512_castps512_ps256(a), (__m256bh)b);
}

#include "cpu/kernel.inc"
