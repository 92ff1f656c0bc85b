// eight.cu - numbers to e4m3, a block for each row: what the 8-bit products read, activations and
// weights alike.
#include "cuda/kernels/eight.cuh"

// The row is read twice, the second time from a cache.
template <typename T> __device__ __forceinline__ void eight(const eight_args &a)
{
    constexpr int N = WIDE<T>;
    const T *from = at<T>(a.x, blockIdx.x);
    unsigned char *to = at<unsigned char>(a.out) + (long)blockIdx.x * a.channels;
    float most = LEAST_MOST, x[N];
    for (int c = threadIdx.x * N; c < a.channels; c += blockDim.x * N) {
        load<T, N>(from + c, x);
        most = greatest(most, x);
    }
    most = block_greatest(most);
    for (int c = threadIdx.x * N; c < a.channels; c += blockDim.x * N) {
        load<T, N>(from + c, x);
        store_eight(to + c, x, most);
    }
    if (threadIdx.x == 0)
        at<float>(a.scales)[blockIdx.x] = scale_of(most);
}

// x[c] * gelu(x[channels + c]), rounded as it would be stored. A thread keeps what it has of the
// row: EIGHT_HELD times N numbers.
template <typename T> __device__ __forceinline__ void geglu_eight(const eight_args &a)
{
    constexpr int N = WIDE<T>;
    const T *from = at<T>(a.x, blockIdx.x);
    unsigned char *to = at<unsigned char>(a.out) + (long)blockIdx.x * a.channels;
    lane<T, N> value[EIGHT_HELD], gate[EIGHT_HELD];
    float most = LEAST_MOST, x[EIGHT_HELD][N];
#pragma unroll
    for (int k = 0; k < EIGHT_HELD; k++) { // all on their way before the first is used
        int c = (k * blockDim.x + threadIdx.x) * N;
        if (c < a.channels) {
            value[k] = *reinterpret_cast<const lane<T, N> *>(from + c);
            gate[k] = *reinterpret_cast<const lane<T, N> *>(from + a.channels + c);
        }
    }
#pragma unroll
    for (int k = 0; k < EIGHT_HELD; k++)
        if ((int)(k * blockDim.x + threadIdx.x) * N < a.channels) {
            for (int i = 0; i < N; i++)
                x[k][i] = rounded<T>(to_float(value[k].v[i]) * gelu(to_float(gate[k].v[i])));
            most = greatest(most, x[k]);
        }
    most = block_greatest(most);
#pragma unroll
    for (int k = 0; k < EIGHT_HELD; k++) {
        int c = (k * blockDim.x + threadIdx.x) * N;
        if (c < a.channels)
            store_eight(to + c, x[k], most);
    }
    if (threadIdx.x == 0)
        at<float>(a.scales)[blockIdx.x] = scale_of(most);
}

FOR_EVERY_TYPE(eight, eight_args)
FOR_EVERY_TYPE(geglu_eight, eight_args)
