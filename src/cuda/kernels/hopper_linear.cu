// hopper_linear.cu - linear layers on cards of 9.0, with GEGLU where the sums end.
//
// A block computes 128 rows by N columns at a time, and as many such tiles as fall to it, as
// hopper_product.cuh has it. The second warpgroup that multiplies is SKEW stages behind the first:
// with one, plain products take half a microsecond less; GEGLU's few stages are better all ahead.
//
// Of GEGLU a tile has N / 2 values and their N / 2 gates, from two places of w.
//
// PAIR: blocks 2i and 2i + 1 have tiles of the same rows side by side. That takes less time where
// there is a residual, and APART where a block has several tiles of few stages; which of them is
// the best is measured.
//
// There may be several products, phases: one's rows of x, of w and of the result follow those of
// the one before.
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

template <typename T, int N, bool GEGLU, bool NORMED, bool PAIR, bool APART> struct linear {
    enum {
        SKEW = GEGLU ? 0 : 1,
        WIDTH = GEGLU ? N / 2 : N, // of the result
        RUN = LINEAR_RUN(WIDTH),
        GROUP = 4 * RUN, // columns of four lanes
    };
    typedef lane<T, RUN> run_of;
    const linear_args &a;
    stages<T, N, NORMED, PAIR, APART> ring;

    __device__ __forceinline__ linear(const linear_args &args, unsigned char *shared)
        : a(args), ring(shared)
    {
        if (threadIdx.x == 0) {
            ring.start();
            tile_prepare(&a.x);
            tile_prepare(&a.w);
        }
        begin();
        ring.meet();
    }

    // Calls body(first row, first column, phase) for each of the block's tiles.
    template <typename F> __device__ __forceinline__ void each_tile(F body)
    {
        constexpr int BESIDE = PAIR ? 2 : 1;
        for (int i = blockIdx.x; i < a.tiles; i += gridDim.x) {
            int rest = i / BESIDE, column = rest / a.down * BESIDE + i % BESIDE;
            body(rest % a.down * ROWS, column % a.across * WIDTH, column / a.across);
        }
    }

    __device__ __forceinline__ void fetch_all()
    {
        each_tile([&](int row, int column, int phase) {
            row += phase * a.rows;
            column += phase * a.columns;
            for (int k = 0; k < a.steps; k++, ring.next()) {
                unsigned char *to = ring.to_fill();
                barrier *full = ring.full + ring.at;
                if constexpr (PAIR) {
                    int half = blockIdx.x % 2 * (ROWS / 2);
                    tile_fetch_both(to + half * LINE, &a.x, full, k * STEP, row + half);
                } else {
                    tile_fetch(to, &a.x, full, k * STEP, row);
                }
                to += ring.X_BYTES;
                tile_fetch_groups(to, &a.w, full, k * STEP, column / GROUP);
                if constexpr (GEGLU)
                    tile_fetch_groups(to + WIDTH * LINE, &a.w, full, k * STEP,
                                      (a.columns + column) / GROUP);
            }
        });
    }

    // What is added to a lane's sums, in its upper and its lower row.
    struct addends {
        run_of bias[N / GROUP]; // of values, then of gates
        run_of residual[2][GEGLU ? 1 : WIDTH / GROUP];
    };

    static __device__ __forceinline__ run_of run_at(const T *from, bool there)
    {
        run_of none = {};
        return there ? *reinterpret_cast<const run_of *>(from) : none;
    }

    // column: the lane's first of the tile.
    __device__ __forceinline__ void ask_bias(addends &to, int column)
    {
#pragma unroll
        for (int g = 0; g < WIDTH / GROUP; g++) {
            int c = column + g * GROUP;
            bool there = a.bias && c < a.columns;
            to.bias[g] = run_at(at<T>(a.bias) + c, there);
            if constexpr (GEGLU)
                to.bias[g + WIDTH / GROUP] = run_at(at<T>(a.bias) + a.columns + c, there);
        }
    }

    __device__ __forceinline__ void ask_residual(addends &to, int low, int row, int column)
    {
        if constexpr (!GEGLU)
#pragma unroll
            for (int g = 0; g < WIDTH / GROUP; g++) {
                int c = column + g * GROUP;
                to.residual[low][g] = run_at(at<T>(a.residual, row) + c,
                                             a.residual.data && row < a.rows && c < a.columns);
            }
    }

    // The numbers of a lane's group g in its upper or lower row.
    static __device__ __forceinline__ void sums_of(float (&to)[RUN], const float (&sum)[N / 2],
                                                   float factor, int g, int low, const run_of &bias)
    {
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            float x = sum[place_of<RUN>(g, low, i)];
            to[i] = NORMED ? fmaf(x, factor, to_float(bias.v[i])) : x + to_float(bias.v[i]);
        }
    }

    __device__ __forceinline__ void finish(const float (&sum)[N / 2], float factor,
                                           const addends &add, int g, int low, int row, int c,
                                           int phase)
    {
        float y[RUN], gate[RUN];
        sums_of(y, sum, factor, g, low, add.bias[g]);
        if constexpr (GEGLU)
            sums_of(gate, sum, factor, g + WIDTH / GROUP, low, add.bias[g + WIDTH / GROUP]);
#pragma unroll
        for (int i = 0; i < RUN; i++)
            if constexpr (GEGLU)
                y[i] *= short_gelu(gate[i]);
            else
                y[i] += to_float(add.residual[low][g].v[i]);
        if (row < a.rows && c < a.columns)
            store<T, RUN>(at<T>(a.out, (long)phase * a.rows + row) + c, y);
    }

    // A warpgroup's 64 rows of every tile. What is added is asked for before the products.
    __device__ __forceinline__ void multiply_together(int group)
    {
        unsigned long long x = ring.x_of(group), w = ring.w();
        int lane_row = group * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
        int lane_column = threadIdx.x % 4 * RUN;
        if (SKEW && group == 1 && a.steps > SKEW)
            barrier_wait(ring.full + SKEW, 0);
        each_tile([&](int row, int column, int phase) {
            float sum[1][N / 2], factor[2] = {};
            addends add;
            row_sums<T> of_x;
            row += lane_row;
            column += lane_column;
            ask_bias(add, column);
#pragma unroll
            for (int low = 0; low < 2; low++)
                ask_residual(add, low, row + 8 * low, column);
            auto read = [&](const unsigned char *tile) {
                if constexpr (NORMED)
                    of_x.add(tile + (threadIdx.x - 128) / 32 * 16 * LINE);
            };
            ring.multiply(sum, x, w, a.steps, read, [] {});
            if constexpr (NORMED)
                of_x.factors(factor, a.channels, a.eps);
#pragma unroll
            for (int g = 0; g < WIDTH / GROUP; g++)
#pragma unroll
                for (int low = 0; low < 2; low++)
                    finish(sum[0], factor[low], add, g, low, row + 8 * low, column + g * GROUP,
                           phase);
        });
    }

    // Every other tile, whose end takes place while the other warpgroup multiplies: so there is
    // time enough for what is added, but no registers before.
    __device__ __forceinline__ void multiply_apart(int group)
    {
        unsigned long long x = ring.x_of(0), w = ring.w();
        int lane_row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
        int lane_column = threadIdx.x % 4 * RUN;
        bool mine = group == 1;
        each_tile([&](int row, int column, int phase) {
            float sum[2][N / 2];
            mine = !mine;
            if (!mine) {
                ring.skip(a.steps);
                return;
            }
            ring.await_turn(group);
            ring.multiply(
                sum, x, w, a.steps, [](const unsigned char *) {}, [&] { ring.give_turn(group); });
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int to = row + lane_row + i / 2 * 64 + i % 2 * 8, first = column + lane_column;
                addends add;
                ask_bias(add, first);
                ask_residual(add, i % 2, to, first);
#pragma unroll
                for (int g = 0; g < WIDTH / GROUP; g++)
                    finish(sum[i / 2], 0, add, g, i % 2, to, first + g * GROUP, phase);
            }
        });
    }

    __device__ __forceinline__ void multiply_all()
    {
        int group = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0) - 1;
        if constexpr (APART)
            multiply_apart(group);
        else
            multiply_together(group);
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
        if constexpr (PAIR) // neither leaves while the other might copy to it
            ring.meet();
    }
};

template <typename T, int N, bool GEGLU, bool NORMED, bool PAIR, bool APART>
__device__ __forceinline__ void run(const linear_args &a)
{
    DYNAMIC_SHARED(unsigned char, shared);
    linear<T, N, GEGLU, NORMED, PAIR, APART> l(a, shared);
    l.run();
}

#define LINEAR(name, BLOCKS, N, GEGLU, NORMED, PAIR, APART)                                        \
    extern "C" __global__ void BLOCKS __launch_bounds__(LINEAR_THREADS, 1)                         \
        name##_f16(CONSTANT_ARGS(linear_args, a))                                                  \
    {                                                                                              \
        run<f16, N, GEGLU, NORMED, PAIR, APART>(a);                                                \
    }                                                                                              \
    extern "C" __global__ void BLOCKS __launch_bounds__(LINEAR_THREADS, 1)                         \
        name##_bf16(CONSTANT_ARGS(linear_args, a))                                                 \
    {                                                                                              \
        run<bf16, N, GEGLU, NORMED, PAIR, APART>(a);                                               \
    }
#define ALONE

LINEAR(linear256_geglu, ALONE, 256, true, false, false, false)
LINEAR(linear160_geglu, ALONE, 160, true, false, false, false)
LINEAR(linear80, ALONE, 80, false, false, false, false)
LINEAR(linear160, ALONE, 160, false, false, false, false)
LINEAR(linear160_pair, PAIR_OF_BLOCKS, 160, false, false, true, false)
LINEAR(linear160_apart, ALONE, 160, false, false, false, true)
LINEAR(normed256_geglu, ALONE, 256, true, true, false, false)
LINEAR(normed160_geglu, ALONE, 160, true, true, false, false)
LINEAR(normed80, ALONE, 80, false, true, false, false)
LINEAR(normed160, ALONE, 160, false, true, false, false)
