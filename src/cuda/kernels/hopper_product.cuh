// hopper_product.cuh - the products of hopper_linear.cu and hopper_conv.cu.
//
// A block computes tiles of ROWS rows by N columns. One thread of the first warpgroup copies the
// tiles of x and w, STEP columns a step, into stages of shared memory. The other two warpgroups
// multiply 64 rows each, and go through the stages independently.
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
template <typename T, int N, bool READ> struct stages {
    enum { X_BYTES = ROWS * LINE, STAGE = LINEAR_STAGE(N), STAGES = LINEAR_STAGES(N) };
    unsigned char *tiles;
    barrier *full, *empty;
    int at = 0;
    unsigned parity = 0;

    __device__ __forceinline__ stages(unsigned char *shared)
        : tiles(shared), full(reinterpret_cast<barrier *>(shared + STAGES * STAGE)),
          empty(full + STAGES)
    {
    }

    // By one thread, before all others are let in.
    __device__ __forceinline__ void start()
    {
        for (int i = 0; i < STAGES; i++) {
            barrier_start(full + i, 1);
            barrier_start(empty + i, 2 * 4); // a lane of every warp that multiplies
        }
        barriers_started();
    }

    __device__ __forceinline__ void next()
    {
        if (++at == STAGES) {
            at = 0;
            parity ^= 1;
        }
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
        if (threadIdx.x % 32 == 0)
            barrier_arrive(empty + which);
    }

    // The sums of so many stages; calls meanwhile(tile of x) while those of each are made.
    template <typename F>
    __device__ __forceinline__ void multiply(float (&sum)[N / 2], unsigned long long first_x,
                                             unsigned long long first_w, int steps, F meanwhile)
    {
        int last = 0;
#pragma unroll 1
        for (int k = 0; k < steps; k++, next()) {
            unsigned long long x = tile_further(first_x, at * STAGE);
            unsigned long long w = tile_further(first_w, at * STAGE);
            barrier_wait(full + at, parity);
            products_begin();
#pragma unroll
            for (int i = 0; i < LINE; i += 32)
                product_of<T, N>::tiles(sum, tile_further(x, i), tile_further(w, i),
                                        k > 0 || i > 0);
            products_commit();
            products_wait<1>();
            if (k > 0)
                release(last);
            last = at;
            meanwhile(tiles + at * STAGE);
        }
        products_wait<0>();
        release(last);
    }
};

// Which of a lane's sums is number i of its run of group g, in its upper or lower row.
template <int RUN> __device__ __forceinline__ int place_of(int g, int low, int i)
{
    return 4 * (g * RUN / 2 + i / 2) + 2 * low + i % 2;
}

#endif
