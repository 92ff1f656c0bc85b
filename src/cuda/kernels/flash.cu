// flash.cu - attention on the tensor cores of 8.0 and later: 16-bit numbers, f32 sums.
//
// Four warps take TILES * 64 queries of one head; keys and values come 64 at a time through two
// buffers in shared memory, the next ones on their way while these are used. A warp holds TILES
// times 16 queries, its scores and its sums in registers, laid out as mma.m16n8k16 has them
// (PTX ISA, "Matrix Fragments for mma.m16n8k16"): lane 4g + t has columns 2t and 2t + 1 of rows g
// and g + 8 of every 16 x 8 result; two results side by side are, packed, the left operand of the
// product with the values. The softmax is that of Milakov and Gimelshein, as FlashAttention uses
// it.
#include "cuda/kernels/flash.cuh"

enum { WARPS = 4, KEYS = 64, THREADS = WARPS * 32 };

// Rows first .. first + ROWS of a value to shared memory; zeros after row `end` and beside the
// head.
template <typename T, int D, int ROWS>
__device__ __forceinline__ void fetch_rows(T *to, const T *from, long row, int first, int end,
                                           int width)
{
    constexpr int CHUNKS = 2 * DEPTH<D>;
#pragma unroll
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        int r = i / CHUNKS, c = i % CHUNKS * 8;
        bool there = first + r < end && c < width;
        fetch(to + r * PITCH<D> + c, there ? from + (first + r) * row + c : from, there);
    }
}

template <typename T, int D, int TILES> struct flash {
    static constexpr int QUERIES = TILES * WARPS * 16;
    static constexpr int STAGE = KEYS * PITCH<D>; // numbers of a buffer
    static constexpr int COLUMNS = D / 8;         // 16 x 8 results of the sums

    unsigned query[TILES][DEPTH<D>][4];
    float sum[TILES][COLUMNS][4];
    float most[TILES][2], total[TILES][2]; // of rows g and g + 8; total: of the lane's columns

    __device__ __forceinline__ void start(const T *q)
    {
        int lane_id = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
        for (int m = 0; m < TILES; m++) {
            const T *from = q + ((warp * TILES + m) * 16 + lane_id % 16) * PITCH<D>;
#pragma unroll
            for (int d = 0; d < DEPTH<D>; d++)
                load_matrices(query[m][d], from + d * 16 + lane_id / 16 * 8);
#pragma unroll
            for (int j = 0; j < COLUMNS; j++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    sum[m][j][i] = 0;
            most[m][0] = most[m][1] = -INFINITY;
            total[m][0] = total[m][1] = 0;
        }
    }

    // score = q k^T for the keys of a buffer
    __device__ __forceinline__ void scores(float (&score)[TILES][KEYS / 8][4], const T *k) const
    {
        int lane_id = threadIdx.x % 32;
        const T *from = k + (lane_id % 8 + lane_id / 16 * 8) * PITCH<D> + lane_id / 8 % 2 * 8;
#pragma unroll
        for (int j = 0; j < KEYS / 16; j++) {
#pragma unroll
            for (int m = 0; m < TILES; m++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    score[m][2 * j][i] = score[m][2 * j + 1][i] = 0;
#pragma unroll
            for (int d = 0; d < DEPTH<D>; d++) {
                unsigned b[4]; // keys 16j .. + 8: b[0], b[1]; the next eight: b[2], b[3]
                load_matrices(b, from + j * 16 * PITCH<D> + d * 16);
#pragma unroll
                for (int m = 0; m < TILES; m++) {
                    multiply<T>(score[m][2 * j], query[m][d], b[0], b[1]);
                    multiply<T>(score[m][2 * j + 1], query[m][d], b[2], b[3]);
                }
            }
        }
    }

    // Scores become powers relative to the greatest so far; what was summed before is rescaled.
    __device__ __forceinline__ void soften(float (&score)[KEYS / 8][4], int m, float scale)
    {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float greatest = most[m][i];
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
                greatest = fmaxf(greatest, fmaxf(score[j][2 * i], score[j][2 * i + 1]));
            greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 1));
            greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 2));
            float less = power_of_two((most[m][i] - greatest) * scale), base = greatest * scale;
            most[m][i] = greatest;
            total[m][i] *= less;
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                sum[m][j][2 * i] *= less;
                sum[m][j][2 * i + 1] *= less;
            }
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) {
                score[j][2 * i] = power_of_two(score[j][2 * i] * scale - base);
                score[j][2 * i + 1] = power_of_two(score[j][2 * i + 1] * scale - base);
                total[m][i] += score[j][2 * i] + score[j][2 * i + 1];
            }
        }
    }

    // sum += powers v
    __device__ __forceinline__ void add(const float (&score)[TILES][KEYS / 8][4], const T *v)
    {
        int lane_id = threadIdx.x % 32;
        const T *from = v + lane_id % 16 * PITCH<D> + lane_id / 16 * 8;
#pragma unroll
        for (int j = 0; j < KEYS / 16; j++) {
            unsigned a[TILES][4];
#pragma unroll
            for (int m = 0; m < TILES; m++)
                pack<T>(a[m], score[m][2 * j], score[m][2 * j + 1]);
#pragma unroll
            for (int d = 0; d < DEPTH<D>; d++) {
                unsigned b[4]; // channels 16d .. + 8: b[0], b[1]; the next eight: b[2], b[3]
                load_transposed(b, from + j * 16 * PITCH<D> + d * 16);
#pragma unroll
                for (int m = 0; m < TILES; m++) {
                    multiply<T>(sum[m][2 * d], a[m], b[0], b[1]);
                    if (2 * d + 1 < COLUMNS)
                        multiply<T>(sum[m][2 * d + 1], a[m], b[2], b[3]);
                }
            }
        }
    }
};

template <typename T, int D, int TILES> __device__ __forceinline__ void run(const attention_args &a)
{
    typedef flash<T, D, TILES> F;
    DYNAMIC_SHARED(T, buffer); // keys, values, keys, values
    int q0 = blockIdx.x * F::QUERIES, head = blockIdx.y * a.width;
    const T *q = at<T>(a.q, (long)blockIdx.z * a.queries) + head;
    const T *k = at<T>(a.k, (long)blockIdx.z * a.keys) + head;
    const T *v = at<T>(a.v, (long)blockIdx.z * a.keys) + head;

    // The queries pass through the second buffer, which is free until the first keys are in use.
    fetch_rows<T, D, F::QUERIES>(buffer + 2 * F::STAGE, q, a.q.row, q0, a.queries, a.width);
    fetch_rows<T, D, KEYS>(buffer, k, a.k.row, 0, a.keys, a.width);
    fetch_rows<T, D, KEYS>(buffer + F::STAGE, v, a.v.row, 0, a.keys, a.width);
    fetch_commit();
    fetch_wait();
    __syncthreads();
    F f;
    f.start(buffer + 2 * F::STAGE);
    __syncthreads();

    int keys = a.causal ? min(a.keys, q0 + F::QUERIES) : a.keys;
    int row = q0 + threadIdx.x / 32 * TILES * 16 + threadIdx.x % 32 / 4; // the lane's first query
    for (int k0 = 0, stage = 0; k0 < keys; k0 += KEYS, stage ^= 1) {
        const T *now = buffer + stage * 2 * F::STAGE;
        if (k0 + KEYS < keys) {
            T *next = buffer + (stage ^ 1) * 2 * F::STAGE;
            fetch_rows<T, D, KEYS>(next, k, a.k.row, k0 + KEYS, a.keys, a.width);
            fetch_rows<T, D, KEYS>(next + F::STAGE, v, a.v.row, k0 + KEYS, a.keys, a.width);
            fetch_commit();
        }
        float score[TILES][KEYS / 8][4];
        f.scores(score, now);
        bool edge = k0 + KEYS > a.keys || (a.causal && k0 + KEYS > q0);
#pragma unroll
        for (int m = 0; m < TILES; m++) {
            if (edge) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    int of_row = row + m * 16 + i * 8 + 1 - k0;
                    hide(score[m], i, a.causal ? min(a.keys - k0, of_row) : a.keys - k0);
                }
            }
            f.soften(score[m], m, a.scale);
        }
        f.add(score, now + F::STAGE);
        fetch_wait();
        __syncthreads();
    }
    T *out = at<T>(a.out, (long)blockIdx.z * a.queries + q0) + head;
#pragma unroll
    for (int m = 0; m < TILES; m++) {
        int first = (threadIdx.x / 32 * TILES + m) * 16; // of the block
        finish<T, D>(f.sum[m], f.total[m], buffer + first * PITCH<D>, out + first * a.out.row,
                     a.out.row, a.queries - q0 - first, a.width);
    }
}

// For 7.5 the kernels exist but are empty, and are never looked up.
#if TENSOR_CORES
#define RUN(T, D, TILES) run<T, D, TILES>(a)
#else
#define RUN(T, D, TILES)
#endif

#define FLASH(name, D, TILES)                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS) name##_f16(const attention_args a)       \
    {                                                                                              \
        begin();                                                                                   \
        RUN(f16, D, TILES);                                                                        \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS) name##_bf16(const attention_args a)      \
    {                                                                                              \
        begin();                                                                                   \
        RUN(bf16, D, TILES);                                                                       \
    }

// 64 queries, for small maps; "wide": 128, where every fragment of keys serves two products.
FLASH(flash40, 40, 1)
FLASH(flash40_wide, 40, 2)
FLASH(flash64, 64, 1)
FLASH(flash64_wide, 64, 2)
FLASH(flash80, 80, 1)
FLASH(flash96, 96, 1)
FLASH(flash128, 128, 1)
FLASH(flash160, 160, 1)
