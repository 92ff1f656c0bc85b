// eight.cu - rows of numbers to e4m3 (4 bits of exponent, 3 of mantissa, up to 448) with an f32
// scale for each row: what the 8-bit products read, activations and weights alike.
#include "cuda/kernels/common.cuh"

constexpr float E4M3_MOST = 448, LEAST = 1e-30f; // a row of zeros has a scale too

// Four of them.
__device__ __forceinline__ unsigned eight_bits(const float *x, float by)
{
    return e4m3_pair(x[0] * by, x[1] * by) | e4m3_pair(x[2] * by, x[3] * by) << 16;
}

// The greatest magnitude of the row; all threads of the block get it.
template <typename T, int N> __device__ float magnitude(const T *from, int channels)
{
    __shared__ float warps[32];
    float most = LEAST, x[N];
    for (int c = threadIdx.x * N; c < channels; c += blockDim.x * N) {
        load<T, N>(from + c, x);
        for (int i = 0; i < N; i++)
            most = fmaxf(most, fabsf(x[i]));
    }
    most = warp_max(most);
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = most;
    __syncthreads();
    most = warps[0];
    for (int i = 1; i < (int)blockDim.x / 32; i++)
        most = fmaxf(most, warps[i]);
    return most;
}

// A block for each row, which it reads twice (the second time from a cache).
template <typename T, int N> __device__ void eight_at(const eight_args &a)
{
    const T *from = at<T>(a.x, blockIdx.x);
    unsigned char *to = at<unsigned char>(a.out) + (long)blockIdx.x * a.channels;
    float most = magnitude<T, N>(from, a.channels), by = E4M3_MOST / most, x[N];
    for (int c = threadIdx.x * N; c < a.channels; c += blockDim.x * N) {
        load<T, N>(from + c, x);
        lane<unsigned, N / 4> codes;
        for (int i = 0; i < N / 4; i++)
            codes.v[i] = eight_bits(x + 4 * i, by);
        *reinterpret_cast<lane<unsigned, N / 4> *>(to + c) = codes;
    }
    if (threadIdx.x == 0)
        at<float>(a.scales)[blockIdx.x] = most / E4M3_MOST;
}

template <typename T> __device__ __forceinline__ void eight(const eight_args &a)
{
    eight_at<T, WIDE<T>>(a);
}

FOR_EVERY_TYPE(eight, eight_args)
