// flash.cuh - what flash.cu and hopper_flash.cu share: a warp's 16 queries in the layout of
// mma.m16n8k16 (flash.cu), a result of 16 x 8 after the other.
#ifndef STYX_CUDA_FLASH_CUH
#define STYX_CUDA_FLASH_CUH
#include "cuda/kernels/common.cuh"

// A row in shared memory is padded to an odd number of 16-byte chunks: then the eight rows that
// ldmatrix reads at once lie in different banks.
template <int D> constexpr int DEPTH = (D + 15) / 16;          // steps of 16 channels
template <int D> constexpr int PITCH = 8 * (2 * DEPTH<D> + 1); // numbers from row to row

template <typename T> __device__ __forceinline__ unsigned pair(float low, float high)
{
    lane<T, 2> l = { { from_float<T>(low), from_float<T>(high) } };
    return *reinterpret_cast<unsigned *>(&l);
}

// Row i (of 2: g and g + 8) sees `seen` keys of these.
template <int N> __device__ __forceinline__ void hide(float (&score)[N][4], int i, int seen)
{
    int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int j = 0; j < N; j++) {
        if (j * 8 + column >= seen)
            score[j][2 * i] = -INFINITY;
        if (j * 8 + column + 1 >= seen)
            score[j][2 * i + 1] = -INFINITY;
    }
}

// Two results side by side as the left operand of the product with 16 values.
template <typename T>
__device__ __forceinline__ void pack(unsigned (&a)[4], const float (&left)[4],
                                     const float (&right)[4])
{
    a[0] = pair<T>(left[0], left[1]);
    a[1] = pair<T>(left[2], left[3]);
    a[2] = pair<T>(right[0], right[1]);
    a[3] = pair<T>(right[2], right[3]);
}

// sum / total to the warp's 16 rows of shared memory and, in 16-byte pieces, to the first `rows`
// of its rows of out. total: of the lane's columns.
template <typename T, int D>
__device__ __forceinline__ void finish(const float (&sum)[D / 8][4], const float (&total)[2],
                                       T *stage, T *out, long row, int rows, int width)
{
    int lane_id = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float all = total[i];
        all += __shfl_xor_sync(0xffffffffu, all, 1);
        all += __shfl_xor_sync(0xffffffffu, all, 2);
        float over = 1.0f / all;
        T *to = stage + (i * 8 + lane_id / 4) * PITCH<D> + lane_id % 4 * 2;
#pragma unroll
        for (int j = 0; j < D / 8; j++)
            *reinterpret_cast<unsigned *>(to + j * 8) =
                pair<T>(sum[j][2 * i] * over, sum[j][2 * i + 1] * over);
    }
    __syncwarp();
    for (int i = lane_id; i < 16 * (D / 8); i += 32) {
        int r = i / (D / 8), c = i % (D / 8) * 8;
        if (r < rows && c < width)
            *reinterpret_cast<uint4 *>(out + r * row + c) =
                *reinterpret_cast<const uint4 *>(stage + r * PITCH<D> + c);
    }
}

#endif
