/* fake_driver.c - a card made of host memory, so that everything of the CUDA backend that is not a
 * kernel or a library runs where there is no card: placing weights, streaming them, slices, shared
 * arenas. Streams do their work at once, also while they are captured. A graph is the place where
 * its plan keeps it: launching one lets that plan enqueue its step again. */
#include "cuda/step.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/fake.h"

struct fake_state fake;

static CUresult ok(void)
{
    return CUDA_SUCCESS;
}

static CUresult error_string(CUresult e, const char **text)
{
    *text = e == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "fake error";
    return CUDA_SUCCESS;
}

static CUresult count(int *n)
{
    *n = 1;
    return CUDA_SUCCESS;
}

static CUresult device_get(CUdevice *d, int i)
{
    *d = i;
    return CUDA_SUCCESS;
}

static CUresult device_name(char *name, int n, CUdevice d)
{
    (void)d;
    strncpy(name, "a card made of memory", (size_t)n);
    return CUDA_SUCCESS;
}

static CUresult attribute(int *value, CUdevice_attribute which, CUdevice d)
{
    (void)d;
    int capability = fake.capability ? fake.capability : 90;
    *value = which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR   ? capability / 10
             : which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? capability % 10
                                                                     : 1;
    return CUDA_SUCCESS;
}

static CUresult total(size_t *bytes, CUdevice d)
{
    (void)d;
    *bytes = (size_t)1 << 30;
    return CUDA_SUCCESS;
}

static CUresult retain(CUcontext *c, CUdevice d)
{
    (void)d;
    *c = (CUcontext)&fake;
    return CUDA_SUCCESS;
}

static CUresult mem_info(size_t *free_bytes, size_t *all)
{
    *free_bytes = fake.limit > fake.held ? fake.limit - fake.held : 0;
    *all = fake.limit;
    return CUDA_SUCCESS;
}

/* Addresses are as many bytes as the test programs need, not the 64 GiB that are asked for. */
enum { MOST_RESERVED = 256 << 20, POISONED = 4 << 20 };

static CUresult reserve(CUdeviceptr *at, size_t bytes, size_t align, CUdeviceptr hint,
                        unsigned long long flags)
{
    (void)align, (void)hint, (void)flags;
    void *p = NULL;
    if (posix_memalign(&p, 4096, bytes < MOST_RESERVED ? bytes : MOST_RESERVED))
        return CUDA_ERROR_OUT_OF_MEMORY;
    *at = (CUdeviceptr)p;
    return CUDA_SUCCESS;
}

static CUresult address_free(CUdeviceptr at, size_t bytes)
{
    (void)bytes;
    free((void *)at);
    return CUDA_SUCCESS;
}

static CUresult create(CUmemGenericAllocationHandle *h, size_t bytes,
                       const CUmemAllocationProp *where, unsigned long long flags)
{
    (void)where, (void)flags;
    if (fake.held + bytes > fake.limit)
        return CUDA_ERROR_OUT_OF_MEMORY;
    fake.held += bytes;
    fake.peak = fake.held > fake.peak ? fake.held : fake.peak;
    *h = bytes;
    return CUDA_SUCCESS;
}

static CUresult release(CUmemGenericAllocationHandle h)
{
    fake.held -= h;
    return CUDA_SUCCESS;
}

/* NaN at both ends, where the programs of tests have their values. */
static void poison(CUdeviceptr at, size_t bytes)
{
    size_t n = bytes < POISONED ? bytes : POISONED;
    memset((void *)at, 0xff, n);
    memset((void *)(at + bytes - n), 0xff, n);
}

/* Fresh memory holds anything: NaN shows who reads what was not written. */
static CUresult map(CUdeviceptr at, size_t bytes, size_t offset, CUmemGenericAllocationHandle h,
                    unsigned long long flags)
{
    (void)offset, (void)h, (void)flags;
    poison(at, bytes);
    return CUDA_SUCCESS;
}

static CUresult unmap(CUdeviceptr at, size_t bytes)
{
    poison(at, bytes);
    return CUDA_SUCCESS;
}

static CUresult set_access(CUdeviceptr at, size_t bytes, const CUmemAccessDesc *a, size_t n)
{
    (void)at, (void)bytes, (void)a, (void)n;
    return CUDA_SUCCESS;
}

static CUresult granularity(size_t *bytes, const CUmemAllocationProp *where,
                            CUmemAllocationGranularity_flags which)
{
    (void)where, (void)which;
    *bytes = 4096;
    return CUDA_SUCCESS;
}

static CUresult host_alloc(void **p, size_t bytes, unsigned flags)
{
    (void)flags;
    *p = malloc(bytes ? bytes : 1);
    return *p ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult host_free(void *p)
{
    free(p);
    return CUDA_SUCCESS;
}

static CUresult to_device(CUdeviceptr to, const void *from, size_t bytes, CUstream s)
{
    (void)s;
    memcpy((void *)to, from, bytes);
    fake.copied += bytes;
    return CUDA_SUCCESS;
}

static CUresult to_host(void *to, CUdeviceptr from, size_t bytes, CUstream s)
{
    (void)s;
    memcpy(to, (const void *)from, bytes);
    return CUDA_SUCCESS;
}

static CUresult set_bytes(CUdeviceptr to, unsigned char value, size_t bytes, CUstream s)
{
    (void)s;
    memset((void *)to, value, bytes);
    return CUDA_SUCCESS;
}

static CUresult version(int *v)
{
    *v = CUDA_VERSION;
    return CUDA_SUCCESS;
}

static CUresult elapsed(float *ms, CUevent a, CUevent b)
{
    (void)a, (void)b;
    *ms = fake.ms > 0 ? fake.ms : 1;
    return CUDA_SUCCESS;
}

static CUresult instantiate(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
    (void)graph, (void)flags;
    *exec = (CUgraphExec)exec;
    return CUDA_SUCCESS;
}

static CUresult launch(CUgraphExec exec, CUstream s)
{
    const char *at = (const char *)exec - offsetof(struct plan, graph);
    (void)s;
    fake.launched++;
    return plan_enqueue((const struct plan *)at, NULL) ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

#define SAME(name, function) d.name = (__typeof__(d.name))(function)

const struct driver *driver_load(styx_error *err)
{
    static struct driver d;
    (void)err;
    void *everything[] = {
#define X(function) (void *)&d.function,
        DRIVER_FUNCTIONS(X)
#undef X
    };
    for (size_t i = 0; i < sizeof everything / sizeof *everything; i++)
        *(CUresult(**)(void))everything[i] = ok;
    SAME(cuGetErrorString, error_string);
    SAME(cuDriverGetVersion, version);
    SAME(cuDeviceGetCount, count);
    SAME(cuDeviceGet, device_get);
    SAME(cuDeviceGetName, device_name);
    SAME(cuDeviceGetAttribute, attribute);
    SAME(cuDeviceTotalMem, total);
    SAME(cuDevicePrimaryCtxRetain, retain);
    SAME(cuMemGetInfo, mem_info);
    SAME(cuMemAddressReserve, reserve);
    SAME(cuMemAddressFree, address_free);
    SAME(cuMemCreate, create);
    SAME(cuMemRelease, release);
    SAME(cuMemMap, map);
    SAME(cuMemUnmap, unmap);
    SAME(cuMemSetAccess, set_access);
    SAME(cuMemGetAllocationGranularity, granularity);
    SAME(cuMemHostAlloc, host_alloc);
    SAME(cuMemFreeHost, host_free);
    SAME(cuMemcpyHtoDAsync, to_device);
    SAME(cuMemcpyDtoHAsync, to_host);
    SAME(cuMemsetD8Async, set_bytes);
    SAME(cuEventElapsedTime, elapsed);
    SAME(cuGraphInstantiateWithFlags, instantiate);
    SAME(cuGraphLaunch, launch);
    return &d;
}
