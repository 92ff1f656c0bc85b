// hopper_conv.cu - 3x3 convolutions on cards of 9.0.
//
// They are products as hopper_product.cuh has them. The rows of a tile are the pixels of a box:
// some columns and rows of the map, of some images, 128 in all. A step takes 64 channels of one
// tap; its tile of x is the box moved to where the tap reads. What lies outside of the map is
// zeros, so padding costs nothing.
//
// DOUBLED: the map is upsampled by two first, nearest. Of the nine taps that read it for pixel
// (2y + a, 2x + b), some fall on the same pixel of x, of rows y - 1 + a and y + a and columns
// x - 1 + b and x + b. So the result is four convolutions of x with 2x2 taps, a phase for each
// (a, b), with weights that are sums (launch_pack_doubled): 4/9 of the products, and no upsampled
// map.
//
// A residual block's shortcut, a 1x1 convolution of its input, whose parts may be two maps, goes
// into the same sums, if the map is not doubled: it is some more steps.
//
// PAIRED: Winograd's F(2, 3) along rows, 2/3 of the products. The rows of a tile are pairs of
// pixels beside each other, with two sums for each number of the result. Of the four pixels d
// around a pair, launch_pairs has made four maps, phases, and of each row of a filter as many taps:
//
//     d0 - d2, d1 + d2, d2 - d1, d3 - d1        g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2
//
// If m are their products, m0 + m1 + m2 and m1 - m2 + m3 are the pair. So the first sums are those
// of phases 1 and 2; then come their sum and their difference, to which phases 0 and 3 are added.
// A phase is a convolution with three taps below each other; its maps have a row more above and
// below, so that a part of a map can be computed by itself.
#include "cuda/kernels/hopper_product.cuh"

enum form { DIRECT, APART, DOUBLED, PAIRED }; // APART: direct, tiles in turns

template <typename T, int N, form FORM> struct conv3 {
    enum {
        SKEW = 1, // as hopper_linear.cu's
        SIDE = FORM == DOUBLED ? 2 : 3,
        TAPS = SIDE * SIDE,
        SCALE = FORM == DOUBLED ? 2 : 1, // phases of the result, to a side
        BESIDE = FORM == PAIRED ? 2 : 1, // pixels of a row of a tile
        RUN = LINEAR_RUN(N),
        GROUP = 4 * RUN, // columns of four lanes
        GROUPS = N / GROUP,
        HELD = FORM == DIRECT && N <= 160,
    };
    typedef lane<T, RUN> run_of;
    const conv3_args &a;
    stages<T, N, false, false, FORM == APART> ring;

    __device__ __forceinline__ conv3(const conv3_args &args, unsigned char *shared)
        : a(args), ring(shared)
    {
        if (threadIdx.x == 0) {
            ring.start();
            tile_prepare(&a.x);
            tile_prepare(&a.weight);
        }
        begin();
        ring.meet();
    }

    // A tile: the first pixel of its box, its first column, its phase.
    struct place {
        int x, y, image, column, phase;
    };

    // Phases of a box follow each other: they read and write the same places.
    template <typename F> __device__ __forceinline__ void each_tile(F body)
    {
        for (int i = blockIdx.x; i < a.tiles; i += gridDim.x) {
            int rest = i / (SCALE * SCALE);
            place p;
            p.phase = i % (SCALE * SCALE);
            p.x = rest % a.across << a.box_w;
            rest /= a.across;
            p.y = rest % a.down << a.box_h;
            rest /= a.down;
            p.image = rest % a.deep << a.box_n;
            p.column = rest / a.deep * N;
            body(p);
        }
    }

    // A step of a box of a map: its pixels (x, y) with the weights from a column on. Behind the
    // last channels come those of another tap or part: they meet zeros of the map.
    __device__ __forceinline__ void fetch(const tile_map &map, const tile_map &weight, int step,
                                          const place &p, int x, int y, int image, int from)
    {
        unsigned char *to = ring.to_fill();
        barrier *full = ring.full + ring.at;
        tile_fetch(to, &map, full, step * STEP, x, y, image);
        tile_fetch_groups(to + ring.X_BYTES, &weight, full, from + step * STEP, p.column / GROUP);
        ring.next();
    }

    // Steps of two phases by turns.
    __device__ __forceinline__ void fetch_phases(const place &p, int one, int other)
    {
        for (int tap = 0; tap < SIDE; tap++)
            for (int k = 0; k < a.steps; k++)
                for (int i = 0; i < 2; i++) {
                    int phase = i ? other : one;
                    fetch(a.x, a.weight, k, p, p.x, p.y + tap, phase * a.images + p.image,
                          (phase * SIDE + tap) * a.channels);
                }
    }

    // Of a shortcut; of pairs for the first and the second pixels by turns.
    __device__ __forceinline__ void fetch_also(const place &p)
    {
        for (int part = 0; part < 2; part++)
            for (int k = 0; k < a.also_steps[part]; k++)
                for (int i = 0; i < BESIDE; i++)
                    fetch(a.also[part][i], a.also_weight, k, p, p.x, p.y, p.image,
                          part * a.also_split);
    }

    __device__ __forceinline__ void fetch_taps(const place &p)
    {
        int x = p.x - 1 + p.phase % SCALE, y = p.y - 1 + p.phase / SCALE;
        for (int tap = 0; tap < TAPS; tap++)
            for (int k = 0; k < a.steps; k++)
                fetch(a.x, a.weight, k, p, x + tap % SIDE, y + tap / SIDE, p.image,
                      (p.phase * TAPS + tap) * a.channels);
    }

    __device__ __forceinline__ void fetch_tile(const place &p)
    {
        if constexpr (FORM == PAIRED) {
            fetch_phases(p, 1, 2);
            fetch_phases(p, 0, 3);
        } else {
            fetch_taps(p);
        }
        if constexpr (FORM != DOUBLED)
            fetch_also(p);
    }

    __device__ __forceinline__ void fetch_all()
    {
        each_tile([&](const place &p) { fetch_tile(p); });
    }

    // Where a row of the tile is in the result, or the second pixel of its pair; -1: nowhere.
    __device__ __forceinline__ long pixel(const place &p, int row, int second = 0)
    {
        int x = (p.x + (row & ((1 << a.box_w) - 1))) * BESIDE + second;
        int y = p.y + (row >> a.box_w & ((1 << a.box_h) - 1));
        int image = p.image + (row >> (a.box_w + a.box_h));
        if (x >= a.w || y >= a.h || image >= a.images)
            return -1;
        y = y * SCALE + p.phase / SCALE;
        x = x * SCALE + p.phase % SCALE;
        return ((long)image * a.h * SCALE + y) * a.w * SCALE + x;
    }

    static __device__ __forceinline__ run_of run_at(const T *from, bool there)
    {
        run_of none = {};
        return there ? *reinterpret_cast<const run_of *>(from) : none;
    }

    // What is added to a lane's sums. It is asked for before they are made, but the residual only
    // where there are registers for it.
    struct addends {
        run_of bias[GROUPS], residual[HELD ? GROUPS : 1][2];
    };

    __device__ __forceinline__ run_of residual_at(long at, int c)
    {
        return run_at(::at<T>(a.residual, at) + c, a.residual.data && at >= 0 && c < a.columns);
    }

    __device__ __forceinline__ void ask(addends &to, const long (&at)[2], int column)
    {
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            int c = column + g * GROUP;
            to.bias[g] = run_at(::at<T>(a.bias) + c, a.bias && c < a.columns);
#pragma unroll
            for (int low = 0; HELD && low < 2; low++)
                to.residual[HELD ? g : 0][low] = residual_at(at[low], c);
        }
    }

    // The sums of group g in the lane's upper or lower row, to columns from c on.
    __device__ __forceinline__ void put(const float (&sum)[N / 2], const run_of &bias,
                                        const run_of &residual, int g, int low, long at, int c)
    {
        float y[RUN];
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            y[i] = sum[place_of<RUN>(g, low, i)] + to_float(bias.v[i]);
            if constexpr (FORM != DOUBLED)
                y[i] += to_float(residual.v[i]);
        }
        if (at >= 0 && c < a.columns)
            store<T, RUN>(::at<T>(a.out, at) + c, y);
    }

    __device__ __forceinline__ void finish(const float (&sum)[N / 2], addends &add,
                                           const long (&at)[2], int column)
    {
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            int c = column + g * GROUP;
#pragma unroll
            for (int low = 0; FORM != DOUBLED && !HELD && low < 2; low++)
                add.residual[0][low] = residual_at(at[low], c);
#pragma unroll
            for (int low = 0; low < 2; low++)
                put(sum, add.bias[g], add.residual[HELD ? g : 0][low], g, low, at[low], c);
        }
    }

    // The same a row at a time: nothing was asked for before, and waiting once is enough.
    __device__ __forceinline__ void finish_row(const float (&sum)[N / 2], int low, long at,
                                               int column)
    {
        run_of bias[GROUPS], residual[GROUPS];
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            int c = column + g * GROUP;
            bias[g] = run_at(::at<T>(a.bias) + c, a.bias && c < a.columns);
            residual[g] = residual_at(at, c);
        }
#pragma unroll
        for (int g = 0; g < GROUPS; g++)
            put(sum, bias[g], residual[g], g, low, at, column + g * GROUP);
    }

    // A warpgroup's 64 rows of every tile.
    __device__ __forceinline__ void multiply_together(int group, int steps)
    {
        unsigned long long x = ring.x_of(group), w = ring.w();
        int lane_row = group * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
        int lane_column = threadIdx.x % 4 * RUN;
        if (SKEW && group == 1)
            barrier_wait(ring.full + SKEW, 0);
        each_tile([&](const place &p) {
            float sum[1][N / 2];
            addends add;
            long at[2] = { pixel(p, lane_row), pixel(p, lane_row + 8) };
            ask(add, at, p.column + lane_column);
            ring.multiply(
                sum, x, w, steps, [](const unsigned char *) {}, [] {});
            finish(sum[0], add, at, p.column + lane_column);
        });
    }

    // The sums of phases 1 and 2, and those of which they are halves.
    static __device__ __forceinline__ void turn_around(float (&sum)[2][1][N / 2])
    {
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            float first = sum[0][0][i], second = sum[1][0][i];
            sum[0][0][i] = first + second;
            sum[1][0][i] = first - second;
        }
    }

    // A warpgroup's 64 pairs of every tile.
    __device__ __forceinline__ void multiply_pairs(int group)
    {
        unsigned long long x = ring.x_of(group), w = ring.w();
        int lane_row = group * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
        int lane_column = threadIdx.x % 4 * RUN;
        int steps = SIDE * a.steps, also = a.also_steps[0] + a.also_steps[1];
        if (SKEW && group == 1)
            barrier_wait(ring.full + SKEW, 0);
        each_tile([&](const place &p) {
            float sum[2][1][N / 2];
            ring.multiply_both(sum, x, w, steps, steps + also, [&] { turn_around(sum); });
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int low = i % 2, second = i / 2;
                finish_row(sum[second][0], low, pixel(p, lane_row + 8 * low, second),
                           p.column + lane_column);
            }
        });
    }

    // Every other tile, as hopper_linear.cu's.
    __device__ __forceinline__ void multiply_apart(int group, int steps)
    {
        unsigned long long x = ring.x_of(0), w = ring.w();
        int lane_row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
        int lane_column = threadIdx.x % 4 * RUN;
        bool mine = group == 1;
        each_tile([&](const place &p) {
            float sum[2][N / 2];
            mine = !mine;
            if (!mine) {
                ring.skip(steps);
                return;
            }
            ring.await_turn(group);
            ring.multiply(
                sum, x, w, steps, [](const unsigned char *) {}, [&] { ring.give_turn(group); });
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = lane_row + 64 * half;
                long at[2] = { pixel(p, row), pixel(p, row + 8) };
                addends add;
                ask(add, at, p.column + lane_column);
                finish(sum[half], add, at, p.column + lane_column);
            }
        });
    }

    __device__ __forceinline__ void multiply_all()
    {
        int group = __shfl_sync(0xffffffffu, threadIdx.x / 128, 0) - 1;
        int steps = TAPS * a.steps + (FORM == DOUBLED ? 0 : a.also_steps[0] + a.also_steps[1]);
        if constexpr (FORM == PAIRED)
            multiply_pairs(group);
        else if constexpr (FORM == APART)
            multiply_apart(group, steps);
        else
            multiply_together(group, steps);
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

template <typename T, int N, form FORM> __device__ __forceinline__ void run(const conv3_args &a)
{
    DYNAMIC_SHARED(unsigned char, shared);
    conv3<T, N, FORM> c(a, shared);
    c.run();
}

#define CONV3(name, N, FORM)                                                                       \
    extern "C" __global__ void __launch_bounds__(LINEAR_THREADS, 1)                                \
        name##_f16(CONSTANT_ARGS(conv3_args, a))                                                   \
    {                                                                                              \
        run<f16, N, FORM>(a);                                                                      \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(LINEAR_THREADS, 1)                                \
        name##_bf16(CONSTANT_ARGS(conv3_args, a))                                                  \
    {                                                                                              \
        run<bf16, N, FORM>(a);                                                                     \
    }

CONV3(conv80, 80, DIRECT)
CONV3(conv160, 160, DIRECT)
CONV3(conv160_apart, 160, APART)
CONV3(conv192, 192, DIRECT)
CONV3(conv256, 256, DIRECT)
CONV3(doubled80, 80, DOUBLED)
CONV3(doubled160, 160, DOUBLED)
CONV3(doubled192, 192, DOUBLED)
CONV3(doubled256, 256, DOUBLED)
CONV3(paired128, 128, PAIRED)
CONV3(paired160, 160, PAIRED)
