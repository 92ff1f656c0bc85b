// common.cuh - what all kernels share: types, vectors of 16 bytes, activations, sums over a warp.
#ifndef STYX_CUDA_COMMON_CUH
#define STYX_CUDA_COMMON_CUH
#include "cuda/kernels/args.h"
#include "cuda/kernels/ptx.cuh"

typedef __half f16;
typedef __nv_bfloat16 bf16;

// The kernels of a file for every type: name_f32, name_bf16, name_f16 call name<T>.
#define FOR_EVERY_TYPE(name, args)                                                                 \
    extern "C" __global__ void name##_f32(const args a)                                            \
    {                                                                                              \
        begin();                                                                                   \
        name<float>(a);                                                                            \
    }                                                                                              \
    extern "C" __global__ void name##_bf16(const args a)                                           \
    {                                                                                              \
        begin();                                                                                   \
        name<bf16>(a);                                                                             \
    }                                                                                              \
    extern "C" __global__ void name##_f16(const args a)                                            \
    {                                                                                              \
        begin();                                                                                   \
        name<f16>(a);                                                                              \
    }

__device__ __forceinline__ float to_float(float x)
{
    return x;
}
__device__ __forceinline__ float to_float(f16 x)
{
    return __half2float(x);
}
__device__ __forceinline__ float to_float(bf16 x)
{
    return __bfloat162float(x);
}

template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ f16 from_float<f16>(float x)
{
    return __float2half_rn(x);
}
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x)
{
    return __float2bfloat16_rn(x);
}

// As it would be read back after having been stored.
template <typename T> __device__ __forceinline__ float rounded(float x)
{
    return to_float(from_float<T>(x));
}

template <typename T> __device__ __forceinline__ T *at(device_address address)
{
    return reinterpret_cast<T *>(address);
}
template <typename T> __device__ __forceinline__ T *at(const rows &r, long row)
{
    return reinterpret_cast<T *>(r.data) + row * r.row;
}

// N numbers that move at once: 16 bytes, or one number.
template <typename T> constexpr int WIDE = 16 / sizeof(T);
template <typename T, int N> struct alignas(N * sizeof(T)) lane {
    T v[N];
};

template <typename T, int N> __device__ __forceinline__ void load(const T *from, float (&to)[N])
{
    const lane<T, N> l = *reinterpret_cast<const lane<T, N> *>(from);
#pragma unroll
    for (int i = 0; i < N; i++)
        to[i] = to_float(l.v[i]);
}

template <typename T, int N> __device__ __forceinline__ void store(T *to, const float (&from)[N])
{
    lane<T, N> l;
#pragma unroll
    for (int i = 0; i < N; i++)
        l.v[i] = from_float<T>(from[i]);
    *reinterpret_cast<lane<T, N> *>(to) = l;
}

// f32 whatever the vector: at most 16 bytes an access.
template <int N> __device__ __forceinline__ void load_f32(const float *from, float (&to)[N])
{
    if constexpr (N == 8) {
        float half[4];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            load<float, 4>(from + 4 * h, half);
#pragma unroll
            for (int i = 0; i < 4; i++)
                to[4 * h + i] = half[i];
        }
    } else {
        load<float, N>(from, to);
    }
}

template <int N> __device__ __forceinline__ void store_f32(float *to, const float (&from)[N])
{
#pragma unroll
    for (int h = 0; h < (N + 3) / 4; h++) {
        constexpr int M = N < 4 ? N : 4;
        float part[M];
#pragma unroll
        for (int i = 0; i < M; i++)
            part[i] = from[4 * h + i];
        store<float, M>(to + 4 * h, part);
    }
}

// x (1 + erf(x / sqrt(2))) / 2, by formula 7.1.26 of Abramowitz and Stegun, which is off by 1.5e-7
// at most and half as long as erff.
__device__ __forceinline__ float gelu(float x)
{
    float z = fabsf(x) * 0.70710678f, t = __fdividef(1.0f, 1.0f + 0.3275911f * z);
    float sum = 0.254829592f +
                t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f)));
    float tail = 0.5f * t * sum * __expf(-z * z); // (1 - erf(z)) / 2
    return x * (x < 0 ? tail : 1.0f - tail);
}

// x sigmoid(slope x), to a few units in the last place of f32
__device__ __forceinline__ float swish(float x, float slope)
{
    constexpr float LOG2_E = 1.4426950408889634f;
    return x * reciprocal(1.0f + power_of_two(-slope * LOG2_E * x));
}

// x sigmoid(x) of N numbers. Quotients of two numbers are one reciprocal, for a multiprocessor has
// only 16 lanes for those and powers; less than -43 counts as that, where nothing is left.
template <int N> __device__ __forceinline__ void swish_all(float (&x)[N])
{
    constexpr float LOG2_E = 1.4426950408889634f;
    if constexpr (N == 1)
        x[0] = swish(x[0], 1.0f);
    else
#pragma unroll
        for (int i = 0; i < N; i += 2) {
            float a = 1.0f + power_of_two(fminf(-LOG2_E * x[i], 63));
            float b = 1.0f + power_of_two(fminf(-LOG2_E * x[i + 1], 63));
            float over = reciprocal(a * b);
            x[i] *= over * b;
            x[i + 1] *= over * a;
        }
}

enum { NONE, SILU, GELU, QUICK_GELU, RELU }; // enum act of tape.h

template <int N> __device__ __forceinline__ void activate(int act, float (&x)[N])
{
    switch (act) {
    case SILU:
    case QUICK_GELU: {
        float slope = act == SILU ? 1.0f : 1.702f;
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] = swish(x[i], slope);
        break;
    }
    case GELU:
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] = gelu(x[i]);
        break;
    case RELU:
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] = x[i] > 0 ? x[i] : 0;
        break;
    default:
        break;
    }
}

__device__ __forceinline__ float warp_sum(float x)
{
#pragma unroll
    for (int step = 16; step; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

__device__ __forceinline__ float warp_max(float x)
{
#pragma unroll
    for (int step = 16; step; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

#endif
