/* gpu.h - a card: its context and streams, the libraries loaded for it, and its memory.
 *
 * Memory is reserved as addresses first and backed later, so that a region can grow, or give its
 * memory away and get it back, without moving: captured graphs keep their pointers. */
#ifndef STYX_CUDA_GPU_H
#define STYX_CUDA_GPU_H
#include "cuda/driver.h"
#include "cuda/kernels.h"
#include "tape/backend.h"

/* Memory of the card. */
struct piece {
    struct piece *before; /* in its region; or another spare one */
    CUmemGenericAllocationHandle memory;
    size_t bytes;
};

/* Addresses [base, base + reserved) of which [base, base + mapped) have memory. */
struct region {
    CUdeviceptr base;
    size_t reserved, mapped;
    struct piece *last;
};

struct gpu {
    const struct driver *cu;
    int index;
    CUdevice device;
    CUcontext context;
    CUstream stream; /* everything is computed here */
    CUstream copies; /* weights on their way to the card */
    int sm;          /* 90: compute capability 9.0 */
    int processors;  /* multiprocessors */
    int shared;      /* bytes of shared memory that a block may ask for */
    size_t memory, granularity;
    char name[96];
    CUmodule module[KERNEL_FILES];
    CUfunction kernel[KERNELS];
    struct blas *blas;
    struct dnn *dnn;
    struct choices *choices;
    enum offload offload;
    bool fp8; /* e4m3 in the layers that bear it */
    bool hard;

    /* What Winograd's algorithm gains from on: channels of both sides, their product by their sum,
     * and tiles of 2x2 pixels. */
    int winograd_channels, winograd_tiles;
    /* And from which it gains along rows alone: channels of the result, and these by pairs. */
    int pairs_channels;
    long pairs_numbers;

    /* One program runs at a time, so all share one arena and one workspace. */
    struct region arena, workspace;
    const void *arena_owner; /* the plan whose kept values lie there */
    struct loaded *loaded;   /* all weights of this card */

    /* Under OFFLOAD_MODEL memory goes from network to network, in pieces of one size. */
    size_t piece;        /* bytes; otherwise more than any region has, which then is one */
    size_t used, held;   /* bytes in regions; with those of spare pieces */
    size_t ceiling;      /* what one of the programs needs at most: no more is held */
    struct piece *spare; /* of that size, in no region */
    unsigned turns;      /* of networks, so far (load.h) */
};

/* 0, or BACKEND with what was being done and the driver's own words; NOMEM if memory ran out. */
int gpu_check(const struct gpu *g, CUresult result, const char *doing, styx_error *err);
/* Makes the card's context the calling thread's. */
int gpu_enter(const struct gpu *g, styx_error *err);
int gpu_wait(const struct gpu *g, styx_error *err); /* for everything that was enqueued */

/* As far apart as the libraries want what they are given. */
static inline size_t aligned(size_t bytes)
{
    return (bytes + 255) & ~(size_t)255;
}

size_t whole_pages(const struct gpu *g, size_t bytes);

int region_reserve(const struct gpu *g, struct region *r, size_t bytes, styx_error *err);
/* At least so many bytes with memory behind them; what is there stays. If it fails nothing has
 * changed. */
int region_grow(struct gpu *g, struct region *r, size_t bytes, styx_error *err);
/* The pieces behind the first `bytes` go. Nothing that was enqueued may use them any more. */
void region_shrink(struct gpu *g, struct region *r, size_t bytes);
void region_free(struct gpu *g, struct region *r);
void gpu_give_spare(struct gpu *g); /* back to the driver */

/* What `styx devices` tells about a card. */
struct gpu_info {
    char name[96], device[192]; /* device: as describe() has it */
    size_t memory, free;
    int major, minor;                       /* compute capability */
    char driver[32], cublas[32], cudnn[32]; /* versions */
};
/* Every card of the machine. NODEVICE with one sentence if there is none that can be used. */
int gpu_list(struct gpu_info *list, int max, int *count, styx_error *err);

#endif
