// hopper_linear.cu - linear layers on cards of 9.0, with GEGLU where the sums end.
//
// A block computes 128 rows by N columns at a time, and as many such tiles as fall to it, as
// hopper_product.cuh has it. The second warpgroup that multiplies is SKEW stages behind the first:
// with one, plain products take half a microsecond less; GEGLU's few stages are better all ahead.
//
// Of GEGLU a tile has N / 2 values and their N / 2 gates, from two places of w.
//
// NORMED: of rows x that a layer norm has still to go over, whose gain and offset are in w and bias
// (launch_fold). As the numbers of each row of w add up to nothing, the mean of x's rows does too,
// and what is left of the norm is a factor for each row where the sums end. Each warp adds up its
// 16 rows of every stage while their products are made.
#include "cuda/kernels/hopper_product.cuh"

// x Phi(x) = max(x, 0) - |x| erfc(|x| / sqrt(2)) / 2, where erfc(z) = (a1 t + ... + a5 t^5) e^-z^2,
// t = 1 / (1 + p z), as Abramowitz and Stegun 7.1.26 have it: right to 1.5e-7.
__device__ __forceinline__ float short_gelu(float x)
{
    float t = reciprocal(fmaf(0.3275911f * 0.70710678f, fabsf(x), 1.0f));
    float half = fmaf(t, 0.5f * 1.061405429f, 0.5f * -1.453152027f);
    half = fmaf(t, half, 0.5f * 1.421413741f);
    half = fmaf(t, half, 0.5f * -0.284496736f);
    half = fmaf(t, half, 0.5f * 0.254829592f);
    half *= t * power_of_two(x * x * -0.72134752f); // log2(e) / 2
    return fmaxf(x, 0.0f) - fabsf(x) * half;
}

// What a lane knows of half a row: lanes 2r and 2r + 1 share row r of a warp's 16. Squares lose
// what the mean has of them: of a mean 100 times the deviation, 3 digits of f32's 7.
template <typename T> struct row_sums {
    float sum = 0, square = 0;

    // The rows' next STEP numbers, in a tile.
    __device__ __forceinline__ void add(const unsigned char *rows)
    {
        int row = threadIdx.x % 32 / 2, half = threadIdx.x % 2;
        const lane<T, 8> *pieces = reinterpret_cast<const lane<T, 8> *>(rows + row * LINE);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            lane<T, 8> x = pieces[(4 * half + i) ^ (row % 8)];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                float v = to_float(x.v[j]);
                sum += v;
                square = fmaf(v, v, square);
            }
        }
    }

    // 1 / deviation of the rows of which the lane has sums of products.
    __device__ __forceinline__ void factors(float (&to)[2], int channels, float eps) const
    {
        float mean = (sum + __shfl_xor_sync(0xffffffffu, sum, 1)) / (float)channels;
        float all = square + __shfl_xor_sync(0xffffffffu, square, 1);
        float factor = rsqrtf(fmaxf(all / (float)channels - mean * mean, 0.0f) + eps);
#pragma unroll
        for (int low = 0; low < 2; low++)
            to[low] = __shfl_sync(0xffffffffu, factor, 2 * (threadIdx.x % 32 / 4 + 8 * low));
    }
};

template <typename T, int N, bool GEGLU, bool NORMED> struct linear {
    enum {
        SKEW = GEGLU ? 0 : 1,
        WIDTH = GEGLU ? N / 2 : N, // of the result
        RUN = LINEAR_RUN(WIDTH),
        GROUP = 4 * RUN, // columns of four lanes
    };
    typedef lane<T, RUN> run_of;
    const linear_args &a;
    stages<T, N, NORMED> ring;

    __device__ __forceinline__ linear(const linear_args &args, unsigned char *shared)
        : a(args), ring(shared)
    {
        if (threadIdx.x == 0) {
            ring.start();
            tile_prepare(&a.x);
            tile_prepare(&a.w);
        }
        begin();
        __syncthreads();
    }

    // Calls body(first row, first column) for each of the block's tiles.
    template <typename F> __device__ __forceinline__ void each_tile(F body)
    {
        for (int i = blockIdx.x; i < a.tiles; i += gridDim.x)
            body(i % a.down * ROWS, i / a.down * WIDTH);
    }

    __device__ __forceinline__ void fetch_all()
    {
        each_tile([&](int row, int column) {
            for (int k = 0; k < a.steps; k++, ring.next()) {
                unsigned char *to = ring.to_fill();
                barrier *full = ring.full + ring.at;
                tile_fetch(to, &a.x, full, k * STEP, row);
                to += ring.X_BYTES;
                tile_fetch_groups(to, &a.w, full, k * STEP, column / GROUP);
                if constexpr (GEGLU)
                    tile_fetch_groups(to + WIDTH * LINE, &a.w, full, k * STEP,
                                      (a.columns + column) / GROUP);
            }
        });
    }

    // What is added to a lane's sums, asked for before they are made.
    struct addends {
        run_of bias[N / GROUP]; // of values, then of gates
        run_of residual[GEGLU ? 1 : WIDTH / GROUP][2];
    };

    static __device__ __forceinline__ run_of run_at(const T *from, bool there)
    {
        run_of none = {};
        return there ? *reinterpret_cast<const run_of *>(from) : none;
    }

    // row: the lane's upper row; column: its first of the tile.
    __device__ __forceinline__ void ask(addends &to, int row, int column)
    {
#pragma unroll
        for (int g = 0; g < WIDTH / GROUP; g++) {
            int c = column + g * GROUP;
            bool there = c < a.columns;
            to.bias[g] = run_at(at<T>(a.bias) + c, a.bias && there);
            if constexpr (GEGLU) {
                to.bias[g + WIDTH / GROUP] = run_at(at<T>(a.bias) + a.columns + c, a.bias && there);
            } else {
#pragma unroll
                for (int low = 0; low < 2; low++)
                    to.residual[g][low] =
                        run_at(at<T>(a.residual, row + 8 * low) + c,
                               a.residual.data && there && row + 8 * low < a.rows);
            }
        }
    }

    // The numbers of a lane's group g in its upper or lower row.
    static __device__ __forceinline__ void sums_of(float (&to)[RUN], const float (&sum)[N / 2],
                                                   const float (&factor)[2], int g, int low,
                                                   const run_of &bias)
    {
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            float x = sum[place_of<RUN>(g, low, i)];
            to[i] = NORMED ? fmaf(x, factor[low], to_float(bias.v[i])) : x + to_float(bias.v[i]);
        }
    }

    __device__ __forceinline__ void finish(const float (&sum)[N / 2], const row_sums<T> &of_x,
                                           const addends &add, int row, int column)
    {
        float factor[2] = {};
        if constexpr (NORMED)
            of_x.factors(factor, a.channels, a.eps);
#pragma unroll
        for (int g = 0; g < WIDTH / GROUP; g++)
#pragma unroll
            for (int low = 0; low < 2; low++) {
                float y[RUN], gate[RUN];
                sums_of(y, sum, factor, g, low, add.bias[g]);
                if constexpr (GEGLU)
                    sums_of(gate, sum, factor, g + WIDTH / GROUP, low, add.bias[g + WIDTH / GROUP]);
#pragma unroll
                for (int i = 0; i < RUN; i++)
                    if constexpr (GEGLU)
                        y[i] *= short_gelu(gate[i]);
                    else
                        y[i] += to_float(add.residual[g][low].v[i]);
                int c = column + g * GROUP;
                if (row + 8 * low < a.rows && c < a.columns)
                    store<T, RUN>(at<T>(a.out, row + 8 * low) + c, y);
            }
    }

    __device__ __forceinline__ void multiply_all()
    {
        int group = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0) - 1;
        unsigned long long x = ring.x_of(group), w = ring.w();
        int lane_row = group * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
        int lane_column = threadIdx.x % 4 * RUN;
        if (SKEW && group == 1 && a.steps > SKEW)
            barrier_wait(ring.full + SKEW, 0);
        each_tile([&](int row, int column) {
            float sum[N / 2];
            addends add;
            ask(add, row + lane_row, column + lane_column);
            row_sums<T> of_x;
            ring.multiply(sum, x, w, a.steps, [&](const unsigned char *tile) {
                if constexpr (NORMED)
                    of_x.add(tile + (threadIdx.x - 128) / 32 * 16 * LINE);
            });
            finish(sum, of_x, add, row + lane_row, column + lane_column);
        });
    }

    __device__ __forceinline__ void run()
    {
        if (threadIdx.x < 128) {
            registers_give<24>();
            if (threadIdx.x == 0)
                fetch_all();
        } else {
            registers_take<240>();
            multiply_all();
        }
    }
};

template <typename T, int N, bool GEGLU, bool NORMED>
__device__ __forceinline__ void run(const linear_args &a)
{
    DYNAMIC_SHARED(unsigned char, shared);
    linear<T, N, GEGLU, NORMED> l(a, shared);
    l.run();
}

#define LINEAR(name, N, GEGLU, NORMED)                                                             \
    extern "C" __global__ void __launch_bounds__(LINEAR_THREADS, 1)                                \
        name##_f16(CONSTANT_ARGS(linear_args, a))                                                  \
    {                                                                                              \
        run<f16, N, GEGLU, NORMED>(a);                                                             \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(LINEAR_THREADS, 1)                                \
        name##_bf16(CONSTANT_ARGS(linear_args, a))                                                 \
    {                                                                                              \
        run<bf16, N, GEGLU, NORMED>(a);                                                            \
    }

LINEAR(linear256_geglu, 256, true, false)
LINEAR(linear160_geglu, 160, true, false)
LINEAR(linear80, 80, false, false)
LINEAR(linear160, 160, false, false)
LINEAR(normed256_geglu, 256, true, true)
LINEAR(normed160_geglu, 160, true, true)
LINEAR(normed80, 80, false, true)
LINEAR(normed160, 160, false, true)
