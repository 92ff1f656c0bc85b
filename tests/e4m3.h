/* e4m3.h - 8-bit floats as their definition has them: 4 bits of exponent with a bias of 7, 3 of
 * mantissa, no infinity. For C and C++. */
#ifndef STYX_TESTS_E4M3_H
#define STYX_TESTS_E4M3_H
#include <math.h>
#include <stdint.h>

static inline float e4m3_number(uint8_t code)
{
    int exponent = code >> 3 & 15, mantissa = code & 7;
    float size =
        exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
    if ((code & 127) == 127)
        return NAN;
    return code & 128 ? -size : size;
}

/* To nearest, ties to even; what is larger than the largest becomes it. */
static inline uint8_t e4m3_code(float x)
{
    uint8_t sign = signbit(x) ? 128 : 0;
    float size = fabsf(x);
    if (isnan(x))
        return sign | 127;
    if (size >= 448)
        return sign | 126;
    int exponent = size < 0x1p-6f ? -6 : ilogbf(size);
    int steps = (int)nearbyintf(ldexpf(size, 3 - exponent)); /* 8 to 16, less if subnormal */
    return (uint8_t)(sign | (8 * (exponent + 6) + steps));
}

#endif
