// conv.cu - plain convolutions, for those that the matrix units do not suit.
#include "cuda/kernels/common.cuh"

// What every sum ends with: + bias + shift, then + residual. p: pixel, of image n; c: channel.
template <typename T>
__device__ __forceinline__ void finish(const conv_args &a, float sum, int p, int n, int c)
{
    if (a.bias)
        sum += to_float(at<T>(a.bias)[c]);
    if (a.shift.data)
        sum += to_float(at<T>(a.shift, n)[c]);
    if (a.residual.data)
        sum += to_float(at<T>(a.residual, p)[c]);
    at<T>(a.out, p)[c] = from_float<T>(sum);
}

// ---- up to 8 outputs (conv_out): groups of 8 threads share the channels of 4 pixels

enum { SHARE = 8, PIXELS = 4 };

// The address of the pixel that tap (i, j) of output pixel p reads; NULL outside.
template <typename T>
__device__ __forceinline__ const T *under(const conv_args &a, int p, int i, int j)
{
    int v = p % a.out_w, y = p / a.out_w % a.out_h, n = p / a.out_w / a.out_h;
    y = y * a.stride + i - a.pad;
    v = v * a.stride + j - a.pad;
    if ((unsigned)y >= (unsigned)a.h || (unsigned)v >= (unsigned)a.w)
        return nullptr;
    return at<T>(a.x, ((long)n * a.h + y) * a.w + v);
}

// weight: [COUT][taps][c] in shared memory
template <typename T, int N, int COUT>
__device__ __forceinline__ void add_taps(const conv_args &a, const T *weight, int first, int count,
                                         float (&sum)[PIXELS][COUT])
{
    int share = threadIdx.x % SHARE, taps = a.k * a.k;
#pragma unroll 1
    for (int tap = 0; tap < taps; tap++) {
        const T *from[PIXELS];
#pragma unroll
        for (int p = 0; p < PIXELS; p++)
            from[p] = first + p < count ? under<T>(a, first + p, tap / a.k, tap % a.k) : nullptr;
#pragma unroll 1
        for (int c = share * N; c < a.c; c += SHARE * N) {
            float x[PIXELS][N], w[N];
#pragma unroll
            for (int p = 0; p < PIXELS; p++) {
#pragma unroll
                for (int i = 0; i < N; i++)
                    x[p][i] = 0;
                if (from[p])
                    load<T, N>(from[p] + c, x[p]);
            }
#pragma unroll
            for (int o = 0; o < COUT; o++) {
                load<T, N>(weight + (o * taps + tap) * a.c + c, w);
#pragma unroll
                for (int p = 0; p < PIXELS; p++)
#pragma unroll
                    for (int i = 0; i < N; i++)
                        sum[p][o] += x[p][i] * w[i];
            }
        }
    }
}

template <typename T, int N, int COUT> __device__ void conv_few_at(const conv_args &a)
{
    extern __shared__ uint4 memory[];
    T *weight = reinterpret_cast<T *>(memory);
    int size = a.k * a.k * a.c, count = a.images * a.out_h * a.out_w;
    lane<T, N> none = {};
    for (int i = threadIdx.x * N; i < COUT * size; i += blockDim.x * N)
        *reinterpret_cast<lane<T, N> *>(weight + i) =
            i < a.cout * size ? *at<const lane<T, N>>(a.weight + i * sizeof(T)) : none;
    __syncthreads();

    int each = blockDim.x / SHARE * PIXELS; // pixels that the block takes at once
    for (int base = blockIdx.x * each; base < count; base += gridDim.x * each) {
        int first = base + threadIdx.x / SHARE * PIXELS;
        float sum[PIXELS][COUT];
#pragma unroll
        for (int p = 0; p < PIXELS; p++)
#pragma unroll
            for (int o = 0; o < COUT; o++)
                sum[p][o] = 0;
        add_taps<T, N, COUT>(a, weight, first, count, sum);
#pragma unroll
        for (int p = 0; p < PIXELS; p++) {
            float mine = 0; // a thread finishes the output of its number
#pragma unroll
            for (int o = 0; o < COUT; o++) {
#pragma unroll
                for (int step = SHARE / 2; step; step /= 2)
                    sum[p][o] += __shfl_xor_sync(0xffffffffu, sum[p][o], step);
                mine = threadIdx.x % SHARE == o ? sum[p][o] : mine;
            }
            if (threadIdx.x % SHARE < a.cout && first + p < count)
                finish<T>(a, mine, first + p, (first + p) / (a.out_h * a.out_w),
                          threadIdx.x % SHARE);
        }
    }
}

template <typename T> __device__ __forceinline__ void conv_few(const conv_args &a)
{
    constexpr int N = WIDE<T>;
    if (a.vector && a.cout <= 4)
        conv_few_at<T, N, 4>(a);
    else if (a.vector)
        conv_few_at<T, N, 8>(a);
    else
        conv_few_at<T, 1, 8>(a);
}

FOR_EVERY_TYPE(conv_few, conv_args)

// ---- anything else (conv_in, patches): the product of a matrix that is never stored, TILE_P
// pixels by k * k * c, with the filters, TILE_O of them at once, in steps of TILE_K

enum { TILE_P = 128, TILE_O = 64, TILE_K = 32, MINE_P = 8, MINE_O = 4 };

template <typename T>
__device__ __forceinline__ void gather(const conv_args &a, int p0, int k0, float (*to)[TILE_P + 4])
{
    int count = a.images * a.out_h * a.out_w, depth = a.k * a.k * a.c;
    int k = k0 + threadIdx.x % TILE_K, tap = k / a.c, c = k % a.c;
#pragma unroll 4
    for (int i = threadIdx.x / TILE_K; i < TILE_P; i += blockDim.x / TILE_K) {
        const T *from = nullptr;
        if (k < depth && p0 + i < count)
            from = under<T>(a, p0 + i, tap / a.k, tap % a.k);
        to[threadIdx.x % TILE_K][i] = from ? to_float(from[c]) : 0;
    }
}

template <typename T>
__device__ __forceinline__ void filters(const conv_args &a, int o0, int k0, float (*to)[TILE_O + 4])
{
    int depth = a.k * a.k * a.c, k = k0 + threadIdx.x % TILE_K;
#pragma unroll 4
    for (int i = threadIdx.x / TILE_K; i < TILE_O; i += blockDim.x / TILE_K)
        to[threadIdx.x % TILE_K][i] = k < depth && o0 + i < a.cout
                                          ? to_float(at<T>(a.weight)[(long)(o0 + i) * depth + k])
                                          : 0;
}

template <typename T> __device__ void conv_tile(const conv_args &a)
{
    __shared__ __align__(16) float x[TILE_K][TILE_P + 4], w[TILE_K][TILE_O + 4];
    int p0 = blockIdx.x * TILE_P, o0 = blockIdx.y * TILE_O, depth = a.k * a.k * a.c;
    int count = a.images * a.out_h * a.out_w;
    int mine_o = threadIdx.x % (TILE_O / MINE_O) * MINE_O;
    int mine_p = threadIdx.x / (TILE_O / MINE_O) * MINE_P;
    float sum[MINE_P][MINE_O] = {};
    for (int k0 = 0; k0 < depth; k0 += TILE_K) {
        gather<T>(a, p0, k0, x);
        filters<T>(a, o0, k0, w);
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < TILE_K; k++) {
            float xs[MINE_P], ws[MINE_O];
            load_f32<MINE_P>(&x[k][mine_p], xs);
            load_f32<MINE_O>(&w[k][mine_o], ws);
            for (int p = 0; p < MINE_P; p++)
                for (int o = 0; o < MINE_O; o++)
                    sum[p][o] += xs[p] * ws[o];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < MINE_P; i++) {
        int p = p0 + mine_p + i, n = p / (a.out_h * a.out_w);
#pragma unroll
        for (int o = 0; o < MINE_O; o++)
            if (p < count && o0 + mine_o + o < a.cout)
                finish<T>(a, sum[i][o], p, n, o0 + mine_o + o);
    }
}

FOR_EVERY_TYPE(conv_tile, conv_args)
