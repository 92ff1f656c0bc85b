// hopper_winograd.cu - Winograd's F(2x2, 3x3): 3x3 convolutions with 4/9 of the products.
//
// For 2x2 pixels of the result, from the 4x4 pixels d around them, whatever the filter g:
//
//     A^T [(G g G^T) * (B^T d B)] A
//
// where * multiplies number by number, so that over all channels each of 16 places, or phases, is a
// matrix product of its own (launch_linear). G g G^T is made when weights are loaded
// (launch_pack_winograd); here are B^T d B before the products and A^T m A after them, with
//
//     B^T = 1  0 -1  0      A^T = 1  1  1  0      G =  1    0    0
//           0  1  1  0            0  1 -1 -1          1/2  1/2  1/2
//           0 -1  1  0                                1/2 -1/2  1/2
//           0  1  0 -1                                 0    0    1
//
// Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016. A thread has some
// channels of one 2x2 tile.
#include "cuda/kernels/common.cuh"

enum { PHASES = WINOGRAD_TAPS };

// Of a thread: its tile's upper left pixel of the result, and its first channel.
template <int N> struct winograd_place {
    int tile, image, y, x, c; // tile: of the launch; < 0: there is none

    __device__ __forceinline__ winograd_place(const winograd_args &a)
    {
        int i = blockIdx.x * blockDim.x + threadIdx.x, vectors = a.channels / N;
        tile = i < a.count * vectors ? i / vectors : -1;
        c = i % vectors * N;
        int all = a.first + tile;
        x = all % a.across * 2;
        y = all / a.across % a.down * 2;
        image = all / a.across / a.down;
    }

    __device__ __forceinline__ long pixel(const winograd_args &a, int row, int column) const
    {
        return ((long)image * a.h + y + row) * a.w + x + column;
    }

    __device__ __forceinline__ bool inside(const winograd_args &a, int row, int column) const
    {
        return (unsigned)(y + row) < (unsigned)a.h && (unsigned)(x + column) < (unsigned)a.w;
    }

    // Of the numbers of all phases.
    template <typename T> __device__ __forceinline__ T *phase(const winograd_args &a, int p) const
    {
        return at<T>(a.phases) + ((long)p * a.count + tile) * a.channels + c;
    }
};

__device__ __forceinline__ void times_b(float &d0, float &d1, float &d2, float &d3)
{
    float first = d0 - d2, second = d1 + d2, third = d2 - d1, fourth = d1 - d3;
    d0 = first;
    d1 = second;
    d2 = third;
    d3 = fourth;
}

// x to phases
template <typename T> __device__ __forceinline__ void winograd_in(const winograd_args &a)
{
    constexpr int N = WINOGRAD_IN;
    winograd_place<N> at_tile(a);
    if (at_tile.tile < 0)
        return;
    lane<T, N> d[PHASES];
#pragma unroll
    for (int i = 0; i < PHASES; i++) {
        int row = i / 4 - 1, column = i % 4 - 1;
        d[i] = {};
        if (at_tile.inside(a, row, column))
            d[i] = *reinterpret_cast<const lane<T, N> *>(at<T>(a.x, at_tile.pixel(a, row, column)) +
                                                         at_tile.c);
    }
#pragma unroll
    for (int c = 0; c < N; c++) {
        float x[PHASES];
#pragma unroll
        for (int i = 0; i < PHASES; i++)
            x[i] = to_float(d[i].v[c]);
#pragma unroll
        for (int i = 0; i < 4; i++)
            times_b(x[i], x[4 + i], x[8 + i], x[12 + i]);
#pragma unroll
        for (int i = 0; i < 4; i++)
            times_b(x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]);
#pragma unroll
        for (int i = 0; i < PHASES; i++)
            d[i].v[c] = from_float<T>(x[i]);
    }
#pragma unroll
    for (int i = 0; i < PHASES; i++)
        *reinterpret_cast<lane<T, N> *>(at_tile.template phase<T>(a, i)) = d[i];
}

// phases to out, + bias + residual. A column of the phases at a time is all that registers hold.
template <typename T> __device__ __forceinline__ void winograd_out(const winograd_args &a)
{
    constexpr int N = WINOGRAD_OUT;
    winograd_place<N> at_tile(a);
    if (at_tile.tile < 0)
        return;
    float y[4][N] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        lane<T, N> m[4];
#pragma unroll
        for (int row = 0; row < 4; row++)
            m[row] =
                *reinterpret_cast<const lane<T, N> *>(at_tile.template phase<T>(a, 4 * row + i));
#pragma unroll
        for (int c = 0; c < N; c++) {
            float second = to_float(m[1].v[c]), third = to_float(m[2].v[c]);
            float upper = to_float(m[0].v[c]) + second + third;
            float lower = second - third - to_float(m[3].v[c]);
            y[0][c] += i < 3 ? upper : 0;
            y[1][c] += i == 0 ? 0 : i == 1 ? upper : -upper;
            y[2][c] += i < 3 ? lower : 0;
            y[3][c] += i == 0 ? 0 : i == 1 ? lower : -lower;
        }
    }
    float bias[N] = {};
    if (a.bias)
        load<T, N>(at<T>(a.bias) + at_tile.c, bias);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (!at_tile.inside(a, i / 2, i % 2))
            continue;
        long pixel = at_tile.pixel(a, i / 2, i % 2);
        float residual[N] = {};
        if (a.residual.data)
            load<T, N>(at<T>(a.residual, pixel) + at_tile.c, residual);
#pragma unroll
        for (int c = 0; c < N; c++)
            y[i][c] += bias[c] + residual[c];
        store<T, N>(at<T>(a.out, pixel) + at_tile.c, y[i]);
    }
}

// x to the four maps of hopper_conv.cu's pairs, whose rows are those of a part of x and one more
// above and below. A thread has some channels of some pairs beside each other, so that most pixels
// are read once.
template <typename T> __device__ __forceinline__ void winograd_pairs(const pairs_args &a)
{
    constexpr int N = PAIRS_IN, RUN = PAIRS_RUN;
    typedef lane<T, N> numbers;
    long i = (long)blockIdx.x * blockDim.x + threadIdx.x;
    int vectors = a.channels / N, runs = (a.across + RUN - 1) / RUN, c = (int)(i % vectors) * N;
    long row = i / vectors / runs; // of the maps
    int first = (int)(i / vectors % runs) * RUN;
    if (row >= a.rows)
        return;
    int y = (int)(row % a.down) + a.first;
    long from = (row / a.down * a.h + y) * a.w;
    numbers d[2 * RUN + 2];
#pragma unroll
    for (int k = 0; k < 2 * RUN + 2; k++) {
        int x = 2 * first - 1 + k;
        d[k] = {};
        if ((unsigned)y < (unsigned)a.h && (unsigned)x < (unsigned)a.w)
            d[k] = *reinterpret_cast<const numbers *>(at<T>(a.x, from + x) + c);
    }
#pragma unroll
    for (int j = 0; j < RUN; j++) {
        numbers phase[4];
#pragma unroll
        for (int k = 0; k < N; k++) {
            float d0 = to_float(d[2 * j].v[k]), d1 = to_float(d[2 * j + 1].v[k]);
            float d2 = to_float(d[2 * j + 2].v[k]), d3 = to_float(d[2 * j + 3].v[k]);
            phase[0].v[k] = from_float<T>(d0 - d2);
            phase[1].v[k] = from_float<T>(d1 + d2);
            phase[2].v[k] = from_float<T>(d2 - d1);
            phase[3].v[k] = from_float<T>(d3 - d1);
        }
        long pair = row * a.across + first + j, pairs = a.rows * a.across;
#pragma unroll
        for (int k = 0; k < 4 && first + j < a.across; k++)
            *reinterpret_cast<numbers *>(at<T>(a.phases) + (k * pairs + pair) * a.channels + c) =
                phase[k];
    }
}

#define WINOGRAD(name, args, BLOCKS)                                                               \
    extern "C" __global__ void __launch_bounds__(WINOGRAD_THREADS, BLOCKS)                         \
        name##_f16(const args a)                                                                   \
    {                                                                                              \
        begin();                                                                                   \
        name<f16>(a);                                                                              \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(WINOGRAD_THREADS, BLOCKS)                         \
        name##_bf16(const args a)                                                                  \
    {                                                                                              \
        begin();                                                                                   \
        name<bf16>(a);                                                                             \
    }

WINOGRAD(winograd_in, winograd_args, 8)
WINOGRAD(winograd_out, winograd_args, 5)
WINOGRAD(winograd_pairs, pairs_args, 5)
