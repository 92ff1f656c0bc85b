// hopper_product.cuh - the products of hopper_linear.cu and hopper_conv.cu.
//
// A block computes tiles of ROWS rows by N columns. One thread of the first warpgroup copies the
// tiles of x and w, STEP columns a step, into stages of shared memory. The other two warpgroups
// multiply 64 rows each, and go through the stages independently; or they take turns (APART).
//
// A product leaves lane t of four with columns 2t and 2t + 1 of every eight. The rows of w are
// copied in such an order (launch_rows_in_runs) that these are RUN columns in a row of the result:
// so bias, residual and result move in pieces of 16 or 8 bytes, and no lane needs another's
// numbers.
#ifndef STYX_CUDA_HOPPER_PRODUCT_CUH
#define STYX_CUDA_HOPPER_PRODUCT_CUH
#include "cuda/kernels/hopper.cuh"

enum { ROWS = LINEAR_ROWS, STEP = LINEAR_STEP, LINE = 2 * STEP };

// READ: the warps that multiply also read the tiles of x.
// PAIR: two blocks have the same tiles of x, of which each copies half for both; so a stage is free
// when the warps of both have read it.
// APART: each warpgroup has every other tile for itself, and ends one while the other multiplies.
template <typename T, int N, bool READ, bool PAIR, bool APART> struct stages {
    enum { X_BYTES = ROWS * LINE, STAGE = LINEAR_STAGE(N), STAGES = LINEAR_STAGES(N) };
    unsigned char *tiles;
    barrier *full, *empty, *turn;
    int at = 0;
    unsigned parity = 0, turns = 0;

    __device__ __forceinline__ stages(unsigned char *shared)
        : tiles(shared), full(reinterpret_cast<barrier *>(shared + STAGES * STAGE)),
          empty(full + STAGES), turn(empty + STAGES)
    {
    }

    // By one thread, before all others are let in.
    __device__ __forceinline__ void start()
    {
        for (int i = 0; i < STAGES; i++) {
            barrier_start(full + i, 1);
            barrier_start(empty + i, (PAIR ? 2 : 1) * (APART ? 1 : 2) * 4); // a lane of each warp
        }
        for (int i = 0; APART && i < 2; i++)
            barrier_start(turn + i, 4);
        barriers_started();
    }

    __device__ __forceinline__ void next()
    {
        if (++at == STAGES) {
            at = 0;
            parity ^= 1;
        }
    }

    // Of a warpgroup that has tiles for itself: past the stages of one of the other's.
    __device__ __forceinline__ void skip(int steps)
    {
        at += steps;
        parity ^= at / STAGES & 1;
        at %= STAGES;
    }

    // Until the other has asked for the last products of its tile, if it had one before: no earlier
    // do this one's stages tell what has come for it from what came the turn before.
    __device__ __forceinline__ void await_turn(int group)
    {
        barrier_wait(turn + group, (turns++ & 1) ^ (group == 0));
    }

    __device__ __forceinline__ void give_turn(int group)
    {
        if (threadIdx.x % 32 == 0)
            barrier_arrive(turn + 1 - group);
    }

    // Where the tile of x goes once the stage is free, and behind it that of w; full + at awaits
    // them.
    __device__ __forceinline__ unsigned char *to_fill()
    {
        barrier_wait(empty + at, parity ^ 1);
        barrier_expect(full + at, STAGE);
        return tiles + at * STAGE;
    }

    // The tiles of the first stage, as products take them: a warpgroup's rows of x, and w.
    __device__ __forceinline__ unsigned long long x_of(int group) const
    {
        return tile_at(tiles + group * 64 * LINE);
    }

    __device__ __forceinline__ unsigned long long w() const
    {
        return tile_at(tiles + X_BYTES);
    }

    // This warp has read the stage.
    __device__ __forceinline__ void release(int which)
    {
        if (READ)
            __syncwarp();
        if constexpr (PAIR) {
            if (threadIdx.x % 32 < 2)
                barrier_arrive_in(empty + which, threadIdx.x % 32);
        } else if (threadIdx.x % 32 == 0) {
            barrier_arrive(empty + which);
        }
    }

    // All threads: before the first stage and after the last.
    __device__ __forceinline__ void meet()
    {
        if constexpr (PAIR)
            meet_pair();
        else
            __syncthreads();
    }

    // Asks for the products of the stage that is next: of 64 rows, or of 128.
    template <int HALVES>
    __device__ __forceinline__ void ask(float (&sum)[HALVES][N / 2], unsigned long long first_x,
                                        unsigned long long first_w, bool add)
    {
        unsigned long long x = tile_further(first_x, at * STAGE);
        unsigned long long w = tile_further(first_w, at * STAGE);
        barrier_wait(full + at, parity);
        products_begin();
#pragma unroll
        for (int i = 0; i < LINE; i += 32)
#pragma unroll
            for (int half = 0; half < HALVES; half++)
                product_of<T, N>::tiles(sum[half], tile_further(x, half * 64 * LINE + i),
                                        tile_further(w, i), add || i > 0);
        products_commit();
        products_wait<1>();
    }

    // The sums of so many stages; calls meanwhile(tile of x) while those of each are made, and
    // asked() when all have been asked for.
    template <int HALVES, typename F, typename G>
    __device__ __forceinline__ void multiply(float (&sum)[HALVES][N / 2],
                                             unsigned long long first_x, unsigned long long first_w,
                                             int steps, F meanwhile, G asked)
    {
        int last = 0;
#pragma unroll 1
        for (int k = 0; k < steps; k++, next()) {
            ask(sum, first_x, first_w, k > 0);
            if (k > 0)
                release(last);
            last = at;
            meanwhile(tiles + at * STAGE);
        }
        asked();
        products_wait<0>();
        release(last);
    }

    // Two sums, of so many stages each, by turns: of the first stages, and of the second ones, which
    // are added to what between() makes of them. One loop, so that the sums stay where they are.
    template <typename F>
    __device__ __forceinline__ void multiply_both(float (&sum)[2][1][N / 2],
                                                  unsigned long long first_x,
                                                  unsigned long long first_w, int first, int second,
                                                  F between)
    {
#pragma unroll 1
        for (int round = 0; round < 2; round++) {
            int last = 0, steps = round ? second : first;
#pragma unroll 1
            for (int k = 0; k < steps; k++) {
#pragma unroll
                for (int i = 0; i < 2; i++, next()) {
                    ask(sum[i], first_x, first_w, round > 0 || k > 0);
                    if (k > 0 || i > 0)
                        release(last);
                    last = at;
                }
            }
            products_wait<0>();
            release(last);
            if (round == 0)
                between();
        }
    }
};

// Which of a lane's sums is number i of its run of group g, in its upper or lower row.
template <int RUN> __device__ __forceinline__ int place_of(int g, int low, int i)
{
    return 4 * (g * RUN / 2 + i / 2) + 2 * low + i % 2;
}

#endif
