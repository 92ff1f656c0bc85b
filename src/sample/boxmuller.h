/* boxmuller.h - logarithm, sine and cosine of the Box-Muller transform, in float, as torch's AVX2
 * kernel takes them.
 *
 * Single-precision polynomials of the Cephes library (S. Moshier), evaluated with fused
 * multiply-adds: nearly always the very bits that torch.randn gives on x86. Straight-line code on
 * purpose, so that a compiler can vectorise a loop around it. */
#ifndef STYX_SAMPLE_BOXMULLER_H
#define STYX_SAMPLE_BOXMULLER_H
#include <stdint.h>
#include <string.h>

/* a * b + c rounded once: the product of two floats is exact in double. Portable and vectorisable,
 * which fmaf is not without an instruction set that has it. */
static inline float fused(float a, float b, float c)
{
    return (float)((double)a * b + c);
}

static inline uint32_t float_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static inline float bits_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

/* ln x of a normal x > 0: mantissa in [sqrt(1/2), sqrt 2), then a polynomial of degree 8. */
static inline float cephes_log(float x)
{
    uint32_t u = float_bits(x);
    int32_t e = (int32_t)(u >> 23) - 126;
    float m = bits_float((u & 0x007fffff) | 0x3f000000); /* [0.5, 1) */
    int32_t small = m < 0.707106781186547524f;
    float scale = 1.0f + (float)small;
    float f = (float)(e - small);
    m = m * scale - 1.0f;

    float y = 7.0376836292e-2f;
    y = fused(y, m, -1.1514610310e-1f);
    y = fused(y, m, 1.1676998740e-1f);
    y = fused(y, m, -1.2420140846e-1f);
    y = fused(y, m, 1.4249322787e-1f);
    y = fused(y, m, -1.6668057665e-1f);
    y = fused(y, m, 2.0000714765e-1f);
    y = fused(y, m, -2.4999993993e-1f);
    y = fused(y, m, 3.3333331174e-1f);
    float z = m * m;
    y = fused(y * m, z, f * -2.12194440e-4f); /* ln 2 in two parts, the small one first */
    y = fused(z, -0.5f, y);
    return fused(f, 0.693359375f, m + y);
}

/* sin and cos of octant * pi/4 + x, for an even octant and |x| <= pi/4: a polynomial each. */
static inline void cephes_octant(int32_t octant, float x, float *sine, float *cosine)
{
    float z = x * x;
    float c = 2.443315711809948e-5f;
    c = fused(c, z, -1.388731625493765e-3f);
    c = fused(c, z, 4.166664568298827e-2f);
    c = fused(c * z, z, z * -0.5f) + 1.0f;
    float s = -1.9515295891e-4f;
    s = fused(s, z, 8.3321608736e-3f);
    s = fused(s, z, -1.6666654611e-1f);
    s = fused(s * z, x, x);

    uint32_t swap = 0u - ((uint32_t)octant >> 1 & 1); /* all ones: sine and cosine change places */
    uint32_t sbits = float_bits(s), cbits = float_bits(c), differ = (sbits ^ cbits) & swap;
    *sine = bits_float((sbits ^ differ) ^ ((uint32_t)octant & 4) << 29);
    *cosine = bits_float((cbits ^ differ) ^ (((uint32_t)octant + 2) & 4) << 29);
}

/* The even octant nearest to x, counted in octants, x >= 0. */
static inline int32_t cephes_nearest(float x)
{
    return ((int32_t)x + 1) & ~1;
}

/* sin and cos of x in [0, 8192): multiples of pi/4 are taken off in three parts. */
static inline void cephes_sincos(float x, float *sine, float *cosine)
{
    int32_t octant = cephes_nearest(x * 1.27323954473516f);
    float k = (float)octant;
    x = fused(k, -0.78515625f, x);
    x = fused(k, -2.4187564849853515625e-4f, x);
    x = fused(k, -3.77489497744594108e-8f, x);
    cephes_octant(octant, x, sine, cosine);
}

#endif
