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

// The same for four channels whose bias is at hand, with accesses of four numbers.
template <typename T>
__device__ __forceinline__ void finish_four(const conv_args &a, float (&sum)[4],
                                            const float (&bias)[4], int p, int n, int c)
{
    float add[4];
    for (int i = 0; i < 4; i++)
        sum[i] += bias[i];
    if (a.shift.data) {
        load<T, 4>(at<T>(a.shift, n) + c, add);
        for (int i = 0; i < 4; i++)
            sum[i] += add[i];
    }
    if (a.residual.data) {
        load<T, 4>(at<T>(a.residual, p) + c, add);
        for (int i = 0; i < 4; i++)
            sum[i] += add[i];
    }
    store<T, 4>(at<T>(a.out, p) + c, sum);
}

// Where an output pixel looks: its first tap, in the rows of its image; row < 0: nowhere.
struct spot {
    int row, y, v;

    __device__ __forceinline__ void find(const conv_args &a, int p, int count)
    {
        int n = p / a.out_w / a.out_h;
        row = p < count ? n * a.h : -1;
        y = p / a.out_w % a.out_h * a.stride - a.pad;
        v = p % a.out_w * a.stride - a.pad;
    }

    // The pixel under tap (i, j); NULL outside.
    template <typename T>
    __device__ __forceinline__ const T *under(const conv_args &a, int i, int j) const
    {
        bool inside =
            row >= 0 && (unsigned)(y + i) < (unsigned)a.h && (unsigned)(v + j) < (unsigned)a.w;
        return inside ? at<T>(a.x, (long)(row + y + i) * a.w + v + j) : nullptr;
    }
};

// ---- up to 8 outputs of 16-bit numbers (conv_out), on the tensor cores: they are the 8 columns of
// mma.m16n8k16, 16 pixels its rows
//
// The warps of a block have the same 32 pixels and divide taps and channels among them. A sum does
// not care for the order of its terms, so the columns of an operand are the channels that a lane
// can load in 16 bytes: lane 4g + t has channels 8t .. 8t + 8 of 32, for two products.

enum { EIGHT_WARPS = 8, EIGHT_PIXELS = 32 };

template <typename T>
__device__ __forceinline__ void add_channels(const uint4 (&x)[2][2], const uint4 &w,
                                             float (&sum)[2][4])
{
#pragma unroll
    for (int m = 0; m < 2; m++) {
        unsigned low[4] = { x[m][0].x, x[m][1].x, x[m][0].y, x[m][1].y };
        unsigned high[4] = { x[m][0].z, x[m][1].z, x[m][0].w, x[m][1].w };
        multiply<T>(sum[m], low, w.x, w.y);
        multiply<T>(sum[m], high, w.z, w.w);
    }
}

template <typename T> __device__ __forceinline__ void conv_eight(const conv_args &a)
{
    __shared__ float part[EIGHT_WARPS][EIGHT_PIXELS][8];
    int p0 = blockIdx.x * EIGHT_PIXELS, count = a.images * a.out_h * a.out_w;
    int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    int taps = a.k * a.k, chunks = a.c / 32;
    spot spots[2][2];
    float sum[2][4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++)
        spots[i / 2][i % 2].find(a, p0 + i * 8 + g, count);
#pragma unroll 2
    for (int unit = warp; unit < taps * chunks; unit += EIGHT_WARPS) {
        int tap = unit / chunks, c = unit % chunks * 32 + t * 8;
        uint4 x[2][2], w = {};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const T *from = spots[i / 2][i % 2].template under<T>(a, tap / a.k, tap % a.k);
            x[i / 2][i % 2] = {};
            if (from)
                x[i / 2][i % 2] = *reinterpret_cast<const uint4 *>(from + c);
        }
        if (g < a.cout)
            w = *reinterpret_cast<const uint4 *>(at<T>(a.weight) + ((long)g * taps + tap) * a.c +
                                                 c);
        add_channels<T>(x, w, sum);
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
        part[warp][i / 4 * 16 + i % 4 / 2 * 8 + g][2 * t + i % 2] = sum[i / 4][i % 4];
    __syncthreads();
    int p = threadIdx.x / 8, o = threadIdx.x % 8;
    float all = 0;
#pragma unroll
    for (int i = 0; i < EIGHT_WARPS; i++)
        all += part[i][p][o];
    if (p0 + p < count && o < a.cout)
        finish<T>(a, all, p0 + p, (p0 + p) / (a.out_h * a.out_w), o);
}

#if TENSOR_CORES
#define EIGHT(T) conv_eight<T>(a)
#else
#define EIGHT(T) // never looked up
#endif
extern "C" __global__ void conv_eight_bf16(const conv_args a)
{
    begin();
    EIGHT(bf16);
}
extern "C" __global__ void conv_eight_f16(const conv_args a)
{
    begin();
    EIGHT(f16);
}

// ---- up to 8 outputs otherwise: groups of 8 threads share the channels of 4 pixels

enum { SHARE = 8, PIXELS = 4 };

// weight: [COUT][taps][c] in shared memory
template <typename T, int N, int COUT>
__device__ __forceinline__ void add_taps(const conv_args &a, const T *weight,
                                         const spot (&spots)[PIXELS], float (&sum)[PIXELS][COUT])
{
    int share = threadIdx.x % SHARE, taps = a.k * a.k;
#pragma unroll 1
    for (int tap = 0; tap < taps; tap++) {
        const T *from[PIXELS];
#pragma unroll
        for (int p = 0; p < PIXELS; p++)
            from[p] = spots[p].under<T>(a, tap / a.k, tap % a.k);
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
    DYNAMIC_SHARED(T, weight);
    int size = a.k * a.k * a.c, count = a.images * a.out_h * a.out_w;
    lane<T, N> none = {};
    for (int i = threadIdx.x * N; i < COUT * size; i += blockDim.x * N)
        *reinterpret_cast<lane<T, N> *>(weight + i) =
            i < a.cout * size ? *at<const lane<T, N>>(a.weight + i * sizeof(T)) : none;
    __syncthreads();

    int share = threadIdx.x % SHARE, each = blockDim.x / SHARE * PIXELS; // pixels at once
    for (int base = blockIdx.x * each; base < count; base += gridDim.x * each) {
        int first = base + threadIdx.x / SHARE * PIXELS;
        float sum[PIXELS][COUT] = {};
        spot spots[PIXELS];
#pragma unroll
        for (int p = 0; p < PIXELS; p++)
            spots[p].find(a, first + p, count);
        add_taps<T, N, COUT>(a, weight, spots, sum);
#pragma unroll
        for (int p = 0; p < PIXELS; p++) {
            float mine = 0; // a thread finishes the output of its number
#pragma unroll
            for (int o = 0; o < COUT; o++) {
#pragma unroll
                for (int step = SHARE / 2; step; step /= 2)
                    sum[p][o] += __shfl_xor_sync(0xffffffffu, sum[p][o], step);
                mine = share == o ? sum[p][o] : mine;
            }
            if (share < a.cout && first + p < count)
                finish<T>(a, mine, first + p, (first + p) / (a.out_h * a.out_w), share);
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
__device__ __forceinline__ void gather(const conv_args &a, const spot *spots, int k0,
                                       float (*to)[TILE_P + 4])
{
    int k = k0 + threadIdx.x % TILE_K, tap = k / a.c, c = k % a.c, i = tap / a.k, j = tap % a.k;
    bool inside = k < a.k * a.k * a.c;
#pragma unroll 8
    for (int p = threadIdx.x / TILE_K; p < TILE_P; p += blockDim.x / TILE_K) {
        const T *from = inside ? spots[p].under<T>(a, i, j) : nullptr;
        to[threadIdx.x % TILE_K][p] = from ? to_float(from[c]) : 0;
    }
}

template <typename T>
__device__ __forceinline__ void filters(const conv_args &a, int o0, int k0, float (*to)[TILE_O + 4])
{
    int depth = a.k * a.k * a.c, k = k0 + threadIdx.x % TILE_K;
#pragma unroll 8
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
    __shared__ spot spots[TILE_P];
    if (threadIdx.x < TILE_P)
        spots[threadIdx.x].find(a, p0 + threadIdx.x, count);
    __syncthreads();
    for (int k0 = 0; k0 < depth; k0 += TILE_K) {
        gather<T>(a, spots, k0, x);
        filters<T>(a, o0, k0, w);
        __syncthreads();
        int steps = min((int)TILE_K, depth - k0);
#pragma unroll 4
        for (int k = 0; k < steps; k++) {
            float xs[MINE_P], ws[MINE_O];
            load_f32<MINE_P>(&x[k][mine_p], xs);
            load_f32<MINE_O>(&w[k][mine_o], ws);
            for (int p = 0; p < MINE_P; p++)
                for (int o = 0; o < MINE_O; o++)
                    sum[p][o] += xs[p] * ws[o];
        }
        __syncthreads();
    }
    int o = o0 + mine_o;
    float bias[MINE_O] = {};
    if (a.fours && a.bias && o < a.cout)
        load<T, MINE_O>(at<T>(a.bias) + o, bias);
#pragma unroll
    for (int i = 0; i < MINE_P; i++) {
        int p = p0 + mine_p + i, n = p / (a.out_h * a.out_w);
        if (p >= count || o >= a.cout)
            break;
        if (a.fours) {
            finish_four<T>(a, sum[i], bias, p, n, o);
            continue;
        }
#pragma unroll
        for (int j = 0; j < MINE_O; j++)
            if (o + j < a.cout)
                finish<T>(a, sum[i][j], p, n, o + j);
    }
}

FOR_EVERY_TYPE(conv_tile, conv_args)
