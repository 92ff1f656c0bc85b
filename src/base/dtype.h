/* dtype.h - element types of tensors and files, and conversions between them and f32. */
#ifndef STYX_BASE_DTYPE_H
#define STYX_BASE_DTYPE_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype {
    DT_F32,
    DT_BF16,
    DT_F16,
    DT_F64,
    DT_I8,
    DT_U8,
    DT_I32,
    DT_I64,
    DT_E4M3,
    DT_E5M2,
    DT_COUNT
};

size_t dtype_bytes(enum dtype type);
const char *dtype_name(enum dtype type); /* "F32", as safetensors spells it */
int dtype_from_name(const char *name);   /* -1 if unknown */

static inline float bf16_to_f32(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* Round to nearest even; NaN stays NaN (a plain carry could turn it into infinity). */
static inline uint16_t f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f); /* round to nearest even */

/* n elements of any float or integer type to f32, and back to F32, BF16 or F16. */
void dtype_to_f32(enum dtype type, const void *from, float *to, size_t n);
void dtype_from_f32(enum dtype type, const float *from, void *to, size_t n);

#endif
