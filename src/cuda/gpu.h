/* gpu.h - a card and what is loaded for it. */
#ifndef STYX_CUDA_GPU_H
#define STYX_CUDA_GPU_H
#include "cuda/driver.h"
#include "tape/backend.h"

/* Every kernel, as its fat binary names it: KERNEL(file, name). The kernels exist in three types,
 * name_f32, name_f16, name_bf16, which are looked up as name + type. */
#include "cuda/kernels.h"

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
    size_t memory;
    char name[96];
    CUmodule module[KERNEL_FILES];
    CUfunction kernel[KERNELS];
    struct blas *blas;
    struct dnn *dnn;
    struct choices *choices;
    bool hard;
};

/* What `styx devices` says of a card. */
struct gpu_info {
    int index;
    char name[96];
    int sm;                   /* 90: compute capability 9.0 */
    size_t memory, available; /* bytes; available is 0 where the card cannot be asked */
    char driver[16];          /* the CUDA version that the driver speaks: "13.0" */
    char blas[32], dnn[32];   /* the versions of cuBLASLt and cuDNN; "" where one is missing */
    char why[256];            /* "": usable; else the sentence why not */
};

/* Every card that the driver shows, at most max of them; *count may be less than there are. Cards
 * that Styx cannot use are listed too. NODEVICE with one sentence where there is no driver or no
 * card. */
int gpu_list(struct gpu_info *list, int max, int *count, styx_error *err);

/* 0, or BACKEND with what was being done and the driver's own words. Out of memory is NOMEM. */
int gpu_check(const struct gpu *g, CUresult result, const char *doing, styx_error *err);

#endif
