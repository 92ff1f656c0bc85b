/* fake_driver.c - a card made of host memory, so that everything of the CUDA backend that is not a
 * kernel or a library runs where there is no card: placing weights, streaming them, slices, shared
 * arenas. Memory is in fake_memory.c. The stream that computes does its work at once, also while it
 * is captured. A graph is the place where its plan keeps it: launching one lets that plan enqueue
 * its step again. */
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
    fake_memory(&d);
    SAME(cuEventElapsedTime, elapsed);
    SAME(cuGraphInstantiateWithFlags, instantiate);
    SAME(cuGraphLaunch, launch);
    return &d;
}
