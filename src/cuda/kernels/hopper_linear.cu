// hopper_linear.cu - linear layers on cards of 9.0, with GEGLU where the sums end.
//
// A block computes 128 rows by N columns at a time, and as many such tiles as fall to it. One
// thread of the first warpgroup copies the tiles of x and w, 64 columns a step, into stages of
// shared memory. The other two warpgroups multiply 64 rows each. They go through the stages
// independently, the second SKEW stages behind the first, so that one multiplies while the other
// finishes its sums; were they together, the tensor cores would wait for both.
//
// Of GEGLU a tile has N / 2 values and their N / 2 gates, from two places of w.
#include "cuda/kernels/hopper.cuh"

enum { ROWS = LINEAR_ROWS, STEP = LINEAR_STEP, LINE = 2 * STEP };

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

// Four lanes with four words each: lane t gets word t of each lane.
__device__ __forceinline__ void turn(unsigned (&word)[4])
{
#pragma unroll
    for (int bit = 1; bit < 4; bit *= 2) {
        bool upper = threadIdx.x & bit;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (i & bit)
                continue;
            unsigned got = __shfl_xor_sync(0xffffffffu, upper ? word[i] : word[i | bit], bit);
            (upper ? word[i] : word[i | bit]) = got;
        }
    }
}

template <typename T> __device__ __forceinline__ unsigned two(float a, float b)
{
    const lane<T, 2> x = { { from_float<T>(a), from_float<T>(b) } };
    return *reinterpret_cast<const unsigned *>(&x);
}

template <typename T> __device__ __forceinline__ void add_two(float (&x)[2], unsigned word)
{
    const lane<T, 2> y = *reinterpret_cast<const lane<T, 2> *>(&word);
    x[0] += to_float(y.v[0]);
    x[1] += to_float(y.v[1]);
}

template <typename T, int N, bool GEGLU> struct linear {
    enum {
        X_BYTES = ROWS * LINE,
        STAGE = LINEAR_STAGE(N),
        STAGES = LINEAR_STAGES(N),
        SKEW = STAGES > 4,         // with fewer the copies would come too late
        WIDTH = GEGLU ? N / 2 : N, // of the result
    };
    const linear_args &a;
    unsigned char *tiles;
    barrier *full, *empty;
    int stage = 0;
    unsigned parity = 0;

    __device__ __forceinline__ linear(const linear_args &args, unsigned char *shared)
        : a(args), tiles(shared), full(reinterpret_cast<barrier *>(shared + STAGES * STAGE)),
          empty(full + STAGES)
    {
        if (threadIdx.x == 0) {
            for (int i = 0; i < STAGES; i++) {
                barrier_start(full + i, 1);
                barrier_start(empty + i, 2 * 4); // a lane of every warp that multiplies
            }
            barriers_started();
            tile_prepare(&a.x);
            tile_prepare(&a.w);
        }
        begin();
        __syncthreads();
    }

    __device__ __forceinline__ void next_stage()
    {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
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
            for (int k = 0; k < a.steps; k++, next_stage()) {
                unsigned char *to = tiles + stage * STAGE;
                barrier_wait(empty + stage, parity ^ 1);
                barrier_expect(full + stage, STAGE);
                tile_fetch(to, &a.x, full + stage, k * STEP, row);
                to += X_BYTES;
                tile_fetch(to, &a.w, full + stage, k * STEP, column);
                if constexpr (GEGLU)
                    tile_fetch(to + WIDTH * LINE, &a.w, full + stage, k * STEP, a.columns + column);
            }
        });
    }

    // This warp has read the stage.
    __device__ __forceinline__ void release(int which)
    {
        if (threadIdx.x % 32 == 0)
            barrier_arrive(empty + which);
    }

    __device__ __forceinline__ void multiply_tile(float (&sum)[N / 2], unsigned long long first_x,
                                                  unsigned long long first_w)
    {
        int last = 0;
        for (int k = 0; k < a.steps; k++, next_stage()) {
            unsigned long long x = tile_further(first_x, stage * STAGE);
            unsigned long long w = tile_further(first_w, stage * STAGE);
            barrier_wait(full + stage, parity);
            products_begin();
#pragma unroll
            for (int i = 0; i < LINE; i += 32)
                product_of<T, N>::template tiles<0>(sum, tile_further(x, i), tile_further(w, i),
                                                    k > 0 || i > 0);
            products_commit();
            products_wait<1>();
            if (k > 0)
                release(last);
            last = stage;
        }
        products_wait<0>();
        release(last);
    }

    // What is added to the sums of a lane, two numbers a word: asked for before the sums are made.
    struct addends {
        unsigned bias[N / 8]; // values, then gates
        uint4 residual[GEGLU ? 1 : WIDTH / 16];
    };

    // Sixteen columns from 8j on: this lane moves eight of a row, the next lane the other eight.
    static __device__ __forceinline__ int column_moved(int column, int j)
    {
        return column + 8 * j + threadIdx.x % 2 * 8;
    }
    static __device__ __forceinline__ int row_moved(int row)
    {
        return row + threadIdx.x % 4 / 2 * 8;
    }

    // row, column: of the lane's upper sums and of the tile.
    __device__ __forceinline__ void ask(addends &to, int row, int column)
    {
#pragma unroll
        for (int j = 0; j < N / 8; j++) {
            int half = GEGLU && j >= WIDTH / 8, c = column + 8 * (j - half * (WIDTH / 8));
            to.bias[j] = 0;
            if (a.bias && c < a.columns)
                to.bias[j] = *reinterpret_cast<const unsigned *>(at<T>(a.bias) + half * a.columns +
                                                                 c + threadIdx.x % 4 * 2);
        }
#pragma unroll
        for (int j = 0; !GEGLU && j < WIDTH / 8; j += 2) {
            int mine = row_moved(row), c = column_moved(column, j);
            to.residual[j / 2] = { 0, 0, 0, 0 };
            if (a.residual.data && mine < a.rows && c < a.columns)
                to.residual[j / 2] = *reinterpret_cast<const uint4 *>(at<T>(a.residual, mine) + c);
        }
    }

    // Two numbers of the result: of columns 8j + 2t and + 1 of the tile, the upper or lower row.
    __device__ __forceinline__ void result(float (&y)[2], const float (&sum)[N / 2],
                                           const addends &add, int j, int low)
    {
        y[0] = sum[4 * j + 2 * low];
        y[1] = sum[4 * j + 2 * low + 1];
        add_two<T>(y, add.bias[j]);
        if constexpr (GEGLU) {
            float gate[2] = { sum[4 * j + 2 * low + N / 4], sum[4 * j + 2 * low + 1 + N / 4] };
            add_two<T>(gate, add.bias[j + N / 16]);
            y[0] *= short_gelu(gate[0]);
            y[1] *= short_gelu(gate[1]);
        }
    }

    // Sixteen columns at a time: lanes of four turn their numbers around, so that each moves 16
    // bytes of one row.
    __device__ __forceinline__ void finish(const float (&sum)[N / 2], const addends &add, int row,
                                           int column)
    {
        int mine = row_moved(row);
#pragma unroll
        for (int j = 0; j < WIDTH / 8; j += 2) {
            unsigned word[4], old[4] = { 0, 0, 0, 0 };
            if (!GEGLU) {
                *reinterpret_cast<uint4 *>(old) = add.residual[j / 2];
                turn(old);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float y[2];
                result(y, sum, add, j + i % 2, i / 2);
                if (!GEGLU)
                    add_two<T>(y, old[i]);
                word[i] = two<T>(y[0], y[1]);
            }
            turn(word);
            if (mine < a.rows && column_moved(column, j) < a.columns)
                *reinterpret_cast<uint4 *>(at<T>(a.out, mine) + column_moved(column, j)) =
                    *reinterpret_cast<const uint4 *>(word);
        }
    }

    __device__ __forceinline__ void multiply_all()
    {
        int group = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0) - 1;
        unsigned long long x = tile_at(tiles + group * 64 * LINE), w = tile_at(tiles + X_BYTES);
        int lane_row = group * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
        if (group == 1 && a.steps > SKEW)
            barrier_wait(full + SKEW, 0);
        each_tile([&](int row, int column) {
            float sum[N / 2];
            addends add;
            ask(add, row + lane_row, column);
            multiply_tile(sum, x, w);
            finish(sum, add, row + lane_row, column);
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

template <typename T, int N, bool GEGLU> __device__ __forceinline__ void run(const linear_args &a)
{
    DYNAMIC_SHARED(unsigned char, shared);
    linear<T, N, GEGLU> l(a, shared);
    l.run();
}

#define LINEAR(name, N, GEGLU)                                                                     \
    extern "C" __global__ void __launch_bounds__(LINEAR_THREADS, 1)                                \
        name##_f16(CONSTANT_ARGS(linear_args, a))                                                  \
    {                                                                                              \
        run<f16, N, GEGLU>(a);                                                                     \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(LINEAR_THREADS, 1)                                \
        name##_bf16(CONSTANT_ARGS(linear_args, a))                                                 \
    {                                                                                              \
        run<bf16, N, GEGLU>(a);                                                                    \
    }

LINEAR(linear256_geglu, 256, true)
LINEAR(linear160_geglu, 160, true)
LINEAR(linear80, 80, false)
LINEAR(linear160, 160, false)
