/* gpu.c - opens cards and manages their memory. */
#include "cuda/gpu.h"
#include "cuda/blas.h"
#include "cuda/dnn.h"
#include "cuda/load.h"
#include "cuda/plan.h"
#include "cuda/tune.h"
#include <stdlib.h>

/* The most that the arena and the workspace may ever hold; only addresses. */
enum { RESERVED_GIB = 64 };

/* Pages of a piece, of 2 MiB each. SDXL's networks exchange some 115 such pieces a picture. */
enum { PIECE_PAGES = 32 };

int gpu_check(const struct gpu *g, CUresult result, const char *doing, styx_error *err)
{
    const char *why = NULL;
    if (result == CUDA_SUCCESS)
        return STYX_OK;
    g->cu->cuGetErrorString(result, &why);
    return fail(err, result == CUDA_ERROR_OUT_OF_MEMORY ? STYX_ERR_NOMEM : STYX_ERR_BACKEND,
                "%s on %s: %s", doing, g->name, why ? why : "unknown error");
}

int gpu_enter(const struct gpu *g, styx_error *err)
{
    return gpu_check(g, g->cu->cuCtxSetCurrent(g->context), "taking the card", err);
}

int gpu_wait(const struct gpu *g, styx_error *err)
{
    return gpu_check(g, g->cu->cuStreamSynchronize(g->stream), "computing", err);
}

/* ---- memory ---- */

size_t whole_pages(const struct gpu *g, size_t bytes)
{
    return (bytes + g->granularity - 1) / g->granularity * g->granularity;
}

int region_reserve(const struct gpu *g, struct region *r, size_t bytes, styx_error *err)
{
    *r = (struct region){ .reserved = whole_pages(g, bytes ? bytes : 1) };
    return gpu_check(g, g->cu->cuMemAddressReserve(&r->base, r->reserved, 0, 0, 0),
                     "reserving addresses", err);
}

static CUmemAllocationProp placement(const struct gpu *g)
{
    CUmemAllocationProp p = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
                              .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
    p.location.id = g->device;
    return p;
}

static void give_one_spare(struct gpu *g)
{
    struct piece *p = g->spare;
    g->spare = p->before;
    g->held -= p->bytes;
    g->cu->cuMemRelease(p->memory);
    free(p);
}

void gpu_give_spare(struct gpu *g)
{
    while (g->spare)
        give_one_spare(g);
}

/* A spare piece, or a new one instead of as many spare ones as must go for it. */
static CUresult take_piece(struct gpu *g, size_t bytes, struct piece **piece)
{
    CUmemAllocationProp where = placement(g);
    CUresult result;
    if (g->spare && g->spare->bytes == bytes) {
        *piece = g->spare;
        g->spare = g->spare->before;
        return CUDA_SUCCESS;
    }
    while (g->spare && g->held + bytes > g->ceiling)
        give_one_spare(g);
    struct piece *p = calloc(1, sizeof *p);
    if (!p)
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = g->cu->cuMemCreate(&p->memory, bytes, &where, 0);
    if (result != CUDA_SUCCESS) {
        free(p);
        return result;
    }
    p->bytes = bytes;
    g->held += bytes;
    *piece = p;
    return CUDA_SUCCESS;
}

/* A piece that has left its region, or never came into it. */
static void put_piece(struct gpu *g, struct piece *p)
{
    p->before = g->spare;
    g->spare = p;
    if (p->bytes != g->piece)
        give_one_spare(g);
}

static CUresult add_piece(struct gpu *g, struct region *r, size_t bytes)
{
    CUmemAccessDesc access = { placement(g).location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE };
    CUdeviceptr at = r->base + r->mapped;
    struct piece *p;
    CUresult result = take_piece(g, bytes, &p);
    if (result != CUDA_SUCCESS)
        return result;
    result = g->cu->cuMemMap(at, bytes, 0, p->memory, 0);
    if (result == CUDA_SUCCESS) {
        result = g->cu->cuMemSetAccess(at, bytes, &access, 1);
        if (result != CUDA_SUCCESS)
            g->cu->cuMemUnmap(at, bytes);
    }
    if (result != CUDA_SUCCESS) {
        put_piece(g, p);
        return result;
    }
    p->before = r->last;
    r->last = p;
    r->mapped += bytes;
    g->used += bytes;
    return CUDA_SUCCESS;
}

int region_grow(struct gpu *g, struct region *r, size_t bytes, styx_error *err)
{
    size_t had = r->mapped, end = whole_pages(g, bytes), free = 0, all = 0;
    CUresult result = end > r->reserved ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
    while (r->mapped < end && result == CUDA_SUCCESS)
        result = add_piece(g, r, end - r->mapped < g->piece ? end - r->mapped : g->piece);
    if (result == CUDA_SUCCESS)
        return STYX_OK;
    region_shrink(g, r, had);
    if (result != CUDA_ERROR_OUT_OF_MEMORY)
        return gpu_check(g, result, "allocating memory", err);
    g->cu->cuMemGetInfo(&free, &all);
    return fail(err, STYX_ERR_NOMEM, "%s has %zu MiB of its %zu MiB free; %zu MiB more were wanted",
                g->name, free >> 20, all >> 20, (end - had) >> 20);
}

void region_shrink(struct gpu *g, struct region *r, size_t bytes)
{
    while (r->last && r->mapped - r->last->bytes >= bytes) {
        struct piece *p = r->last;
        r->last = p->before;
        r->mapped -= p->bytes;
        g->used -= p->bytes;
        g->cu->cuMemUnmap(r->base + r->mapped, p->bytes);
        put_piece(g, p);
    }
}

void region_free(struct gpu *g, struct region *r)
{
    if (!r->base)
        return;
    region_shrink(g, r, 0);
    g->cu->cuMemAddressFree(r->base, r->reserved);
    *r = (struct region){ 0 };
}

/* ---- opening ---- */

static int attribute(const struct gpu *g, CUdevice_attribute which)
{
    int value = 0;
    g->cu->cuDeviceGetAttribute(&value, which, g->device);
    return value;
}

static int look_at(struct gpu *g, int index, styx_error *err)
{
    int count = 0, code;
    g->index = index;
    snprintf(g->name, sizeof g->name, "card %d", index);
    if ((code = gpu_check(g, g->cu->cuDeviceGetCount(&count), "counting the cards", err)))
        return code;
    if (count == 0)
        return fail(err, STYX_ERR_NODEVICE, "the NVIDIA driver sees no card");
    if (index < 0 || index >= count)
        return fail(err, STYX_ERR_NODEVICE, "card %d; this machine has %d, from 0 to %d", index,
                    count, count - 1);
    if ((code = gpu_check(g, g->cu->cuDeviceGet(&g->device, index), "asking for the card", err)))
        return code;
    g->cu->cuDeviceGetName(g->name, (int)sizeof g->name, g->device);
    g->cu->cuDeviceTotalMem(&g->memory, g->device);
    g->sm = 10 * attribute(g, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
            attribute(g, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    g->processors = attribute(g, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    g->shared = attribute(g, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    if (g->sm < 75)
        return fail(err, STYX_ERR_NODEVICE,
                    "%s has compute capability %d.%d; 7.5 (Turing) or newer was wanted", g->name,
                    g->sm / 10, g->sm % 10);
    if (!attribute(g, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED))
        return fail(err, STYX_ERR_NODEVICE, "%s cannot map memory as Styx needs it", g->name);
    return STYX_OK;
}

/* A scale for each row of both factors is something that the library has for one architecture. */
static int check_fp8(const struct gpu *g, styx_error *err)
{
    char version[32];
    if (!g->fp8)
        return STYX_OK;
    if (g->sm != 90)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s has compute capability %d.%d; fp8 wants 9.0 (Hopper)", g->name, g->sm / 10,
                    g->sm % 10);
    if (blas_scales_rows(g->blas))
        return STYX_OK;
    blas_version(g->blas, version);
    return fail(err, STYX_ERR_UNSUPPORTED, "cuBLASLt %s was found; fp8 wants 12.9 or newer",
                version);
}

static int start(struct gpu *g, styx_error *err)
{
    CUmemAllocationProp where;
    int code;
    if ((code = gpu_check(g, g->cu->cuDevicePrimaryCtxRetain(&g->context, g->device),
                          "making a context", err)) ||
        (code = gpu_enter(g, err)) ||
        (code = gpu_check(g, g->cu->cuStreamCreate(&g->stream, CU_STREAM_NON_BLOCKING),
                          "making a stream", err)) ||
        (code = gpu_check(g, g->cu->cuStreamCreate(&g->copies, CU_STREAM_NON_BLOCKING),
                          "making a stream", err)))
        return code;
    where = placement(g);
    code = gpu_check(g,
                     g->cu->cuMemGetAllocationGranularity(&g->granularity, &where,
                                                          CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
                     "asking for the size of pages", err);
    g->piece = g->offload == OFFLOAD_MODEL ? PIECE_PAGES * g->granularity : SIZE_MAX / 2;
    if (code || (code = kernels_load(g, err)) || (code = blas_open(g, &g->blas, err)) ||
        (code = dnn_open(g, &g->dnn, err)) || (code = choices_open(g, &g->choices, err)))
        return code;
    if ((code = check_fp8(g, err)) ||
        (code = region_reserve(g, &g->arena, (size_t)RESERVED_GIB << 30, err)))
        return code;
    return region_reserve(g, &g->workspace, (size_t)RESERVED_GIB << 30, err);
}

static void gpu_close(void *dev)
{
    struct gpu *g = dev;
    if (!g)
        return;
    if (g->context && gpu_enter(g, NULL) == STYX_OK) {
        region_free(g, &g->workspace);
        region_free(g, &g->arena);
        gpu_give_spare(g);
        choices_close(g->choices);
        dnn_close(g->dnn);
        blas_close(g->blas);
        kernels_unload(g);
        if (g->copies)
            g->cu->cuStreamDestroy(g->copies);
        if (g->stream)
            g->cu->cuStreamDestroy(g->stream);
    }
    if (g->context)
        g->cu->cuDevicePrimaryCtxRelease(g->device);
    free(g);
}

static int gpu_open(const struct device_options *options, void **dev, styx_error *err)
{
    struct gpu *g = calloc(1, sizeof *g);
    int code = STYX_ERR_NODEVICE;
    if (!g)
        return fail_nomem(err, sizeof *g);
    g->hard = options->hard;
    g->winograd_channels = 320; /* measured: docs/performance-log.md */
    g->winograd_tiles = 512;
    g->pairs_channels = 320;
    g->pairs_numbers = 4096 * 640;
    g->fp8 = options->fp8;
    g->offload = options->offload;
    g->cu = driver_load(err);
    if (g->cu && !(code = look_at(g, options->index, err)))
        code = start(g, err);
    if (code)
        gpu_close(g);
    else
        *dev = g;
    return code;
}

static void gpu_describe(void *dev, char *text, size_t n)
{
    const struct gpu *g = dev;
    snprintf(text, n, "cuda, %s, %.1f GiB, compute capability %d.%d", g->name,
             (double)g->memory / (1 << 30), g->sm / 10, g->sm % 10);
}

static int gpu_compiled(void *dev)
{
    const struct gpu *g = dev;
    return dnn_compiled(g->dnn);
}

/* ---- listing ---- */

static int describe_card(int index, struct gpu_info *info, styx_error *err)
{
    struct device_options options = { .index = index };
    void *dev = NULL;
    size_t all = 0;
    int version = 0, code = gpu_open(&options, &dev, err);
    if (code)
        return code;
    struct gpu *g = dev;
    snprintf(info->name, sizeof info->name, "%s", g->name);
    gpu_describe(g, info->device, sizeof info->device);
    g->cu->cuMemGetInfo(&info->free, &all);
    g->cu->cuDriverGetVersion(&version);
    info->memory = g->memory;
    info->major = g->sm / 10;
    info->minor = g->sm % 10;
    snprintf(info->driver, sizeof info->driver, "%d.%d", version / 1000, version % 1000 / 10);
    blas_version(g->blas, info->cublas);
    dnn_version(g->dnn, info->cudnn);
    gpu_close(g);
    return STYX_OK;
}

int gpu_list(struct gpu_info *list, int max, int *count, styx_error *err)
{
    const struct driver *cu = driver_load(err);
    int n = 0;
    *count = 0;
    if (!cu)
        return STYX_ERR_NODEVICE;
    if (cu->cuDeviceGetCount(&n) != CUDA_SUCCESS || n == 0)
        return fail(err, STYX_ERR_NODEVICE, "the NVIDIA driver sees no card");
    for (; *count < n && *count < max; ++*count) {
        int code = describe_card(*count, &list[*count], err);
        if (code)
            return code;
    }
    return STYX_OK;
}

const struct backend backend_cuda = {
    .name = "cuda",
    .merge = true,
    .apart = true,
    .dtype = { [DT_F32] = true, [DT_F16] = true, [DT_BF16] = true },
    .open = gpu_open,
    .close = gpu_close,
    .describe = gpu_describe,
    .measure = plan_measure,
    .load = weights_load,
    .unload = weights_unload,
    .prepare = plan_prepare,
    .run = plan_run,
    .release = plan_release,
    .rest = weights_rest,
    .compiled = gpu_compiled,
};
