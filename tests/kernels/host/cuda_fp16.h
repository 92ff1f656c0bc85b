// cuda_fp16.h - as much of CUDA C++ as our kernels use, for the processor (emulate.h).
#ifndef STYX_TESTS_CUDA_FP16_H
#define STYX_TESTS_CUDA_FP16_H
#include "emulate.h"
extern "C" {
#include "base/dtype.h"
}
#include <math.h>
#include <string.h>

#define __device__
#define __global__
#define __shared__ static
#define __forceinline__ inline
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)

#define threadIdx emulate_thread
#define blockIdx emulate_block
#define blockDim emulate_block_size
#define gridDim emulate_grid_size
#define __expf expf
#define __syncthreads emulate_sync
#define __syncwarp emulate_warp_sync

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

struct __half {
    uint16_t bits;
};
struct __nv_bfloat16 {
    uint16_t bits;
};

static inline float __half2float(__half x)
{
    return f16_to_f32(x.bits);
}
static inline __half __float2half_rn(float x)
{
    return { f32_to_f16(x) };
}
static inline float __bfloat162float(__nv_bfloat16 x)
{
    return bf16_to_f32(x.bits);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    return { f32_to_bf16(x) };
}

static inline int min(int a, int b)
{
    return a < b ? a : b;
}
static inline long min(long a, long b)
{
    return a < b ? a : b;
}
static inline int max(int a, int b)
{
    return a > b ? a : b;
}
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
static inline float __fdividef(float a, float b)
{
    return a / b;
}
static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}

static inline float __shfl_sync(unsigned, float x, int from)
{
    return static_cast<const float *>(emulate_exchange(&x, sizeof x))[from % 32];
}

static inline unsigned __shfl_sync(unsigned, unsigned x, int from)
{
    return static_cast<const unsigned *>(emulate_exchange(&x, sizeof x))[from % 32];
}

static inline float __shfl_xor_sync(unsigned, float x, int step)
{
    return static_cast<const float *>(emulate_exchange(&x, sizeof x))[emulate_lane() ^ step];
}

static inline unsigned __shfl_xor_sync(unsigned, unsigned x, int step)
{
    return static_cast<const unsigned *>(emulate_exchange(&x, sizeof x))[emulate_lane() ^ step];
}

static inline bool __any_sync(unsigned, bool x)
{
    const bool *all = static_cast<const bool *>(emulate_exchange(&x, sizeof x));
    bool any = false;
    for (int lane = 0; lane < 32; lane++)
        any = any || all[lane];
    return any;
}

#endif
