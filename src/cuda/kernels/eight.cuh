// eight.cuh - rows as e4m3 (4 bits of exponent, 3 of mantissa, up to 448) with an f32 scale each.
#ifndef STYX_CUDA_EIGHT_CUH
#define STYX_CUDA_EIGHT_CUH
#include "cuda/kernels/common.cuh"

constexpr float E4M3_MOST = 448, LEAST_MOST = 1e-30f; // a row of zeros has a scale too

template <int N> __device__ __forceinline__ float greatest(float most, const float (&x)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        most = fmaxf(most, fabsf(x[i]));
    return most;
}

// The greatest of the block's threads, at least LEAST_MOST; all of them get it.
__device__ __forceinline__ float block_greatest(float most)
{
    __shared__ float warps[32];
    most = warp_max(most);
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = most;
    __syncthreads();
    most = LEAST_MOST;
    for (int i = 0; i < (int)blockDim.x / 32; i++)
        most = fmaxf(most, warps[i]);
    return most;
}

// Numbers of a row whose greatest is `most`.
template <int N>
__device__ __forceinline__ void store_eight(unsigned char *to, const float (&x)[N], float most)
{
    float by = E4M3_MOST / most;
    lane<unsigned, N / 4> codes;
#pragma unroll
    for (int i = 0; i < N; i += 4)
        codes.v[i / 4] =
            e4m3_pair(x[i] * by, x[i + 1] * by) | e4m3_pair(x[i + 2] * by, x[i + 3] * by) << 16;
    *reinterpret_cast<lane<unsigned, N / 4> *>(to) = codes;
}

__device__ __forceinline__ float scale_of(float most)
{
    return most / E4M3_MOST;
}

#endif
