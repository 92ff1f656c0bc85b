/* driver.h - libcuda and its libraries, found and loaded at run time.
 *
 * The table below holds every function of the driver that Styx calls; the same binary starts where
 * there is no driver. Kernels are data: fat binaries inside the library (kernels.c) that the driver
 * loads, so nothing links against CUDA's runtime. */
#ifndef STYX_CUDA_DRIVER_H
#define STYX_CUDA_DRIVER_H
#include "base/error.h"
#include <cuda.h>
#include <stdbool.h>

/* cuda.h maps many of these names to versioned ones (cuMemAlloc_v2); X sees the versioned name. */
#define DRIVER_FUNCTIONS(X)                                                                        \
    X(cuInit)                                                                                      \
    X(cuDriverGetVersion)                                                                          \
    X(cuGetErrorString)                                                                            \
    X(cuDeviceGetCount)                                                                            \
    X(cuDeviceGet)                                                                                 \
    X(cuDeviceGetName)                                                                             \
    X(cuDeviceGetAttribute)                                                                        \
    X(cuDeviceTotalMem)                                                                            \
    X(cuDevicePrimaryCtxRetain)                                                                    \
    X(cuDevicePrimaryCtxRelease)                                                                   \
    X(cuCtxSetCurrent)                                                                             \
    X(cuMemGetInfo)                                                                                \
    X(cuMemAddressReserve)                                                                         \
    X(cuMemAddressFree)                                                                            \
    X(cuMemCreate)                                                                                 \
    X(cuMemRelease)                                                                                \
    X(cuMemMap)                                                                                    \
    X(cuMemUnmap)                                                                                  \
    X(cuMemSetAccess)                                                                              \
    X(cuMemGetAllocationGranularity)                                                               \
    X(cuMemHostAlloc)                                                                              \
    X(cuMemFreeHost)                                                                               \
    X(cuMemHostRegister)                                                                           \
    X(cuMemHostUnregister)                                                                         \
    X(cuMemcpyHtoDAsync)                                                                           \
    X(cuMemcpyDtoHAsync)                                                                           \
    X(cuMemsetD8Async)                                                                             \
    X(cuStreamCreate)                                                                              \
    X(cuStreamDestroy)                                                                             \
    X(cuStreamSynchronize)                                                                         \
    X(cuStreamWaitEvent)                                                                           \
    X(cuStreamBeginCapture)                                                                        \
    X(cuStreamEndCapture)                                                                          \
    X(cuEventCreate)                                                                               \
    X(cuEventDestroy)                                                                              \
    X(cuEventRecord)                                                                               \
    X(cuEventSynchronize)                                                                          \
    X(cuEventElapsedTime)                                                                          \
    X(cuGraphInstantiateWithFlags)                                                                 \
    X(cuGraphLaunch)                                                                               \
    X(cuGraphDestroy)                                                                              \
    X(cuGraphExecDestroy)                                                                          \
    X(cuModuleLoadData)                                                                            \
    X(cuModuleUnload)                                                                              \
    X(cuModuleGetFunction)                                                                         \
    X(cuFuncSetAttribute)                                                                          \
    X(cuTensorMapEncodeTiled)                                                                      \
    X(cuLaunchKernelEx)

struct driver {
#define X(function) __typeof__(function) *function;
    DRIVER_FUNCTIONS(X)
#undef X
};

/* Loaded once for the process. NULL with NODEVICE and one sentence: no driver, a driver too old, or
 * no card. */
const struct driver *driver_load(styx_error *err);

/* The first of the names (libcublasLt.so.13, .12, ... ended by NULL) that can be opened: in
 * $STYX_CUDA_PATH, $CUDA_HOME, the system's own places, /usr/local/cuda, and the nvidia packages of
 * pip. NULL if none; then what was tried stands in err. */
void *library_find(const char *const *names, styx_error *err);

#endif
