/* Plain C over the compiler's own 4-float vectors: NEON on ARM, SSE on x86. */
#include "cpu/kernel.h"
#include <stdint.h>
#include <string.h>

typedef float vec __attribute__((vector_size(16)));
typedef int32_t ivec __attribute__((vector_size(16)));
typedef uint32_t uvec __attribute__((vector_size(16)));

enum { VW = 4, NV = 2, ROWS = 4 };
#define KERNELS kernels_portable
#define KERNELS_NAME "portable"

static inline vec v_set(float x)
{
    return (vec){ x, x, x, x };
}

static inline vec v_load(const float *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void v_store(float *p, vec v)
{
    memcpy(p, &v, sizeof v);
}

static inline vec v_fma(vec a, vec b, vec c)
{
    return a * b + c;
}

static inline vec v_max(vec a, vec b)
{
    ivec m = (ivec)(a > b);
    return (vec)(((ivec)a & m) | ((ivec)b & ~m));
}

static inline float v_hmax(vec v)
{
    float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}

static inline float v_hsum(vec v)
{
    return (v[0] + v[2]) + (v[1] + v[3]);
}

static inline vec v_inverse(vec x)
{
    return 1.f / x;
}

/* 2^x = 2^floor(x) * 2^f, 0 <= f < 1; x is kept where both are normal numbers. The magic number
 * makes an addition round to the nearest integer. */
static inline void v_split(vec x, vec *whole, vec *f)
{
    vec magic = v_set(0x1.8p23f), n;
    x = v_max(x, v_set(-126.f));
    x = -v_max(-x, v_set(-127.f));
    n = (x + magic) - magic;
    n = n - (vec)((ivec)(n > x) & (ivec)v_set(1.f));
    *whole = n;
    *f = x - n;
}

static inline vec v_scale2(vec p, vec whole)
{
    return p * (vec)((__builtin_convertvector(whole, ivec) + 127) << 23);
}

/* p 2^n, n in the low bits of t. */
static inline vec v_add_exponent(vec p, vec t)
{
    return (vec)((ivec)p + (ivec)((uvec)t << 23));
}

static inline vec v_load_bf16(const uint16_t *p)
{
    uint32_t u[4] = { (uint32_t)p[0] << 16, (uint32_t)p[1] << 16, (uint32_t)p[2] << 16,
                      (uint32_t)p[3] << 16 };
    vec v;
    memcpy(&v, u, sizeof v);
    return v;
}

static inline void v_store_bf16(uint16_t *p, vec v)
{
    for (int i = 0; i < VW; i++)
        p[i] = f32_to_bf16(v[i]);
}

static inline vec v_word(const char *p)
{
    float f;
    memcpy(&f, p, 4);
    return v_set(f);
}

/* Two bf16 of each dword: c += low * low + high * high. */
static inline vec v_dot2(vec c, vec a, vec b)
{
    vec al = (vec)((ivec)a << 16), bl = (vec)((ivec)b << 16);
    vec ah = (vec)((ivec)a & ~0xffff), bh = (vec)((ivec)b & ~0xffff);
    return ah * bh + (al * bl + c);
}

static inline vec v_load_f16(const uint16_t *p)
{
    return (vec){ f16_to_f32(p[0]), f16_to_f32(p[1]), f16_to_f32(p[2]), f16_to_f32(p[3]) };
}

static inline vec v_from_int(vec v)
{
    return __builtin_convertvector((ivec)v, vec);
}

/* Rounded to nearest even, as the other variants do. */
static inline void v_to_bytes(vec v, uint8_t *to)
{
    vec magic = v_set(0x1.8p23f);
    ivec n = (ivec)(v + magic) - (ivec)magic + 128;
    for (int i = 0; i < VW; i++)
        to[i] = (uint8_t)n[i];
}

/* Four bytes of each dword: c += those of a, unsigned, times those of b, signed. */
static inline vec v_dot4(vec c, vec a, vec b)
{
    ivec sum = (ivec)c;
    for (int i = 0; i < 32; i += 8)
        sum += (ivec)((uvec)a >> i & 255) * ((ivec)((uvec)b << (24 - i)) >> 24);
    return (vec)sum;
}

#include "cpu/kernel.inc"
