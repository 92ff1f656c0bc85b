// pack.cu - weights as a file has them to the type and order that the products read.
#include "cuda/kernels/common.cuh"

enum { FILE_F32, FILE_BF16, FILE_F16 }; // enum dtype of dtype.h

template <typename From, typename T, int N> __device__ void cast_from(const pack_args &a)
{
    long count = a.cout * a.cin, step = (long)gridDim.x * blockDim.x * N;
    for (long i = ((long)blockIdx.x * blockDim.x + threadIdx.x) * N; i < count; i += step) {
        float x[N];
        if constexpr (sizeof(From) == 4)
            load_f32<N>(at<float>(a.from) + i, x);
        else
            load<From, N>(at<From>(a.from) + i, x);
        if constexpr (sizeof(T) == 4)
            store_f32<N>(at<float>(a.to) + i, x);
        else
            store<T, N>(at<T>(a.to) + i, x);
    }
}

template <typename T> __device__ __forceinline__ void cast(const pack_args &a)
{
    constexpr int N = 8; // the last few one by one
    if (a.from_type == FILE_F32)
        a.vector ? cast_from<float, T, N>(a) : cast_from<float, T, 1>(a);
    else if (a.from_type == FILE_BF16)
        a.vector ? cast_from<bf16, T, N>(a) : cast_from<bf16, T, 1>(a);
    else
        a.vector ? cast_from<f16, T, N>(a) : cast_from<f16, T, 1>(a);
}

// Tap `to` of DOUBLED_TAPS, the sum of those of 3x3 taps (of which `taps` is the first) that read
// the same pixel of a map that is upsampled by two: 4 for each parity (a, b) of the result's row
// and column, rows and columns of pixels 0 and 1, whose taps are {0} and {1, 2} for even ones, {0,
// 1} and {2} for odd ones.
__device__ __forceinline__ float doubled_tap(const float *taps, int to)
{
    int a = to / 8, b = to / 4 % 2, row = to / 2 % 2, column = to % 2;
    float sum = 0;
    for (int y = row ? 1 + a : 0; y <= (row ? 2 : a); y++)
        for (int x = column ? 1 + b : 0; x <= (column ? 2 : b); x++)
            sum += taps[3 * y + x];
    return sum;
}

// Number j of row i of Winograd's G (hopper_winograd.cu).
__device__ __forceinline__ float winograd_g(int i, int j)
{
    if (i == 0 || i == 3)
        return j == (i ? 2 : 0);
    return i == 2 && j == 1 ? -0.5f : 0.5f;
}

// Number `to` of G g G^T, of 3x3 taps g.
__device__ __forceinline__ float winograd_tap(const float *taps, int to)
{
    float sum = 0;
    for (int i = 0; i < 9; i++)
        sum += winograd_g(to / 4, i / 3) * winograd_g(to % 4, i % 3) * taps[i];
    return sum;
}

// The same along rows alone: 4 for each of the 3 rows, number by number (hopper_conv.cu's pairs).
__device__ __forceinline__ float pairs_tap(const float *taps, int to)
{
    float sum = 0;
    for (int i = 0; i < 3; i++)
        sum += winograd_g(to / 3, i) * taps[to % 3 * 3 + i];
    return sum;
}

enum form { PLAIN, DOUBLED, WINOGRAD, PAIRS };

template <form FORM> __device__ __forceinline__ float tap_of(const float *taps, int to)
{
    return FORM == PLAIN     ? taps[to]
           : FORM == DOUBLED ? doubled_tap(taps, to)
           : FORM == PAIRS   ? pairs_tap(taps, to)
                             : winograd_tap(taps, to);
}

// [cout][cin][taps] to [cout][taps][cin], or in another form to [cout][DOUBLED_TAPS][cin],
// [WINOGRAD_TAPS][cout][cin] or [cout][PAIRS_TAPS][cin]. A block takes `run` channels of one filter
// through shared memory: what it reads lies in a row, and so does what it writes for each tap.
template <typename From, typename T, form FORM> __device__ void pack_from(const pack_args &a)
{
    DYNAMIC_SHARED(float, numbers);
    long first = (long)blockIdx.x * a.run;
    int run = (int)min((long)a.run, a.cin - first), count = run * a.taps;
    const From *from = at<From>(a.from) + ((long)blockIdx.y * a.cin + first) * a.taps;
    int taps = FORM == PLAIN     ? a.taps
               : FORM == DOUBLED ? (int)DOUBLED_TAPS
               : FORM == PAIRS   ? (int)PAIRS_TAPS
                                 : (int)WINOGRAD_TAPS;
    long apart = FORM == WINOGRAD ? a.apart : a.cin;
    T *to = at<T>(a.to) + (long)blockIdx.y * a.cin * (FORM == WINOGRAD ? 1 : taps) + first;
    for (int i = threadIdx.x; i < count; i += blockDim.x)
        numbers[i] = to_float(from[i]);
    __syncthreads();
    for (int i = threadIdx.x; i < run * taps; i += blockDim.x) {
        int tap = i / run, c = i % run;
        to[tap * apart + c] = from_float<T>(tap_of<FORM>(numbers + c * a.taps, tap));
    }
}

template <typename T, form FORM> __device__ __forceinline__ void pack_any(const pack_args &a)
{
    if (a.from_type == FILE_F32)
        pack_from<float, T, FORM>(a);
    else if (a.from_type == FILE_BF16)
        pack_from<bf16, T, FORM>(a);
    else
        pack_from<f16, T, FORM>(a);
}

template <typename T> __device__ __forceinline__ void pack(const pack_args &a)
{
    pack_any<T, PLAIN>(a);
}

template <typename T> __device__ __forceinline__ void pack_doubled(const pack_args &a)
{
    pack_any<T, DOUBLED>(a);
}

template <typename T> __device__ __forceinline__ void pack_winograd(const pack_args &a)
{
    pack_any<T, WINOGRAD>(a);
}

template <typename T> __device__ __forceinline__ void pack_pairs(const pack_args &a)
{
    pack_any<T, PAIRS>(a);
}

// A layer norm's gain and offset into the matrix that reads its result, and the matrix around the
// mean of each of its rows: what multiplies x less its mean may then multiply x. A warp for each
// row.
template <typename T> __device__ __forceinline__ void fold(const fold_args &a)
{
    int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= a.rows)
        return;
    T *w = at<T>(a.weight) + (long)row * a.channels;
    const float *gamma = at<float>(a.gamma), *beta = at<float>(a.beta);
    float mean = 0, shift = 0;
    for (int c = threadIdx.x; c < a.channels; c += 32) {
        mean += to_float(w[c]) * gamma[c];
        shift += to_float(w[c]) * beta[c];
    }
    mean = warp_sum(mean) / (float)a.channels;
    shift = warp_sum(shift);
    for (int c = threadIdx.x; c < a.channels; c += 32)
        w[c] = from_float<T>(to_float(w[c]) * gamma[c] - mean);
    if (threadIdx.x == 0)
        at<T>(a.shift)[row] = from_float<T>(shift + (a.bias ? at<float>(a.bias)[row] : 0));
}

FOR_EVERY_TYPE(fold, fold_args)
FOR_EVERY_TYPE(cast, pack_args)
FOR_EVERY_TYPE(pack, pack_args)
FOR_EVERY_TYPE(pack_doubled, pack_args)
FOR_EVERY_TYPE(pack_winograd, pack_args)
FOR_EVERY_TYPE(pack_pairs, pack_args)
