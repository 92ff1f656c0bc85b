/* kernels.c - the fat binaries of our kernels, carried as data, and their loading. */
#include "cuda/launch.h"
#include <stdlib.h>

/* The assembler copies the files that nvcc wrote; local symbols, since only this file reads them.
 */
#define X(file)                                                                                    \
    __asm__(".pushsection .rodata,\"a\",@progbits\n"                                               \
            ".balign 64\n"                                                                         \
            "styx_fatbin_" #file ":\n"                                                             \
            ".incbin \"" STYX_FATBINS "/" #file ".fatbin\"\n"                                      \
            ".balign 64\n"                                                                         \
            ".popsection\n");                                                                      \
    extern const char styx_fatbin_##file[];
KERNEL_SOURCES(X)
#undef X

static const struct {
    const char *name, *fatbin;
} sources[KERNEL_FILES] = {
#define X(file) [SOURCE_##file] = { #file, styx_fatbin_##file },
    KERNEL_SOURCES(X)
#undef X
};

static const struct {
    enum kernel_source source;
    const char *name;
} kernels[KERNEL_NAMES] = {
#define X(file, name) [KERNEL_##name] = { SOURCE_##file, #name },
    KERNEL_LIST(X)
#undef X
};

/* hopper_*.cu are compiled for 9.0 alone. */
static bool for_hopper(enum kernel_source source)
{
    return strncmp(sources[source].name, "hopper_", 7) == 0;
}

static bool runs_here(const struct gpu *g, enum kernel_source source)
{
    return g->sm == 90 || !for_hopper(source);
}

static int find_kernel(struct gpu *g, enum kernel_name name, enum dtype type, styx_error *err)
{
    static const char *const suffix[KERNEL_TYPES] = { "f32", "bf16", "f16" };
    CUfunction *kernel = &g->kernel[kernel_index(name, type)];
    enum kernel_source source = kernels[name].source;
    char text[64], doing[96];
    bool tiles =
        for_hopper(source) || source == SOURCE_flash; /* in more shared memory than 48 KB */
    bool tensor_cores = tiles || name == KERNEL_conv_narrow || name == KERNEL_conv_widen ||
                        name == KERNEL_conv_widen_deep;
    if ((tensor_cores && (type == DT_F32 || g->sm < 80)) || !runs_here(g, source))
        return 0; /* the launches use another kernel there */
    snprintf(text, sizeof text, "%s_%s", kernels[name].name, suffix[type]);
    snprintf(doing, sizeof doing, "find kernel %s", text);
    CUresult result = g->cu->cuModuleGetFunction(kernel, g->module[source], text);
    if (result == CUDA_SUCCESS && (tiles || name == KERNEL_conv_few))
        result = g->cu->cuFuncSetAttribute(*kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                           g->shared);
    return gpu_check(g, result, doing, err);
}

int kernels_load(struct gpu *g, styx_error *err)
{
    int code = 0;
    for (int i = 0; !code && i < KERNEL_FILES; i++)
        if (runs_here(g, (enum kernel_source)i))
            code = gpu_check(g, g->cu->cuModuleLoadData(&g->module[i], sources[i].fatbin),
                             "load kernels", err);
    for (int i = 0; !code && i < KERNELS; i++)
        code = find_kernel(g, (enum kernel_name)(i / KERNEL_TYPES), (enum dtype)(i % KERNEL_TYPES),
                           err);
    if (code)
        kernels_unload(g);
    return code;
}

void kernels_unload(struct gpu *g)
{
    for (int i = 0; i < KERNEL_FILES; i++) {
        if (g->module[i])
            g->cu->cuModuleUnload(g->module[i]);
        g->module[i] = NULL;
    }
    memset(g->kernel, 0, sizeof g->kernel);
}
