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

/* 0, or BACKEND with what was being done and the driver's own words. Out of memory is NOMEM. */
int gpu_check(const struct gpu *g, CUresult result, const char *doing, styx_error *err);

#endif
