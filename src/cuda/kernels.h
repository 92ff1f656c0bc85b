/* kernels.h - the list of our own kernels, and the loading of them. */
#ifndef STYX_CUDA_KERNELS_H
#define STYX_CUDA_KERNELS_H
#include "base/dtype.h"
#include "base/error.h"

/* Every kernels/FILE.cu is one fat binary, which becomes one module. */
#define KERNEL_SOURCES(X)                                                                          \
    X(attention)                                                                                   \
    X(conv)                                                                                        \
    X(eight)                                                                                       \
    X(flash)                                                                                       \
    X(hopper_conv)                                                                                 \
    X(hopper_flash)                                                                                \
    X(hopper_linear) X(hopper_norm) X(hopper_winograd) X(norm) X(pack) X(simple)

/* X(file, name): in the file stand name_f32, name_bf16 and name_f16; those of flash.cu,
 * conv_narrow, conv_widen and hopper_*.cu, made for the tensor cores of 8.0 and later, exist for
 * the last two only. hopper_*.cu are for 9.0 alone. */
#define KERNEL_LIST(X)                                                                             \
    X(attention, attention)                                                                        \
    X(conv, conv_few)                                                                              \
    X(conv, conv_narrow)                                                                           \
    X(conv, conv_tile)                                                                             \
    X(conv, conv_widen)                                                                            \
    X(conv, conv_widen_deep)                                                                       \
    X(eight, eight)                                                                                \
    X(eight, geglu_eight)                                                                          \
    X(flash, flash40)                                                                              \
    X(flash, flash40_wide)                                                                         \
    X(flash, flash64)                                                                              \
    X(flash, flash64_wide)                                                                         \
    X(flash, flash80)                                                                              \
    X(flash, flash96)                                                                              \
    X(flash, flash128)                                                                             \
    X(flash, flash160)                                                                             \
    X(hopper_conv, conv80)                                                                         \
    X(hopper_conv, conv160)                                                                        \
    X(hopper_conv, conv160_apart)                                                                  \
    X(hopper_conv, conv192)                                                                        \
    X(hopper_conv, conv256)                                                                        \
    X(hopper_conv, doubled80)                                                                      \
    X(hopper_conv, doubled160)                                                                     \
    X(hopper_conv, doubled192)                                                                     \
    X(hopper_conv, doubled256)                                                                     \
    X(hopper_conv, paired128)                                                                      \
    X(hopper_conv, paired160)                                                                      \
    X(hopper_flash, hopper_flash40)                                                                \
    X(hopper_flash, hopper_flash64)                                                                \
    X(hopper_flash, hopper_flash80)                                                                \
    X(hopper_flash, hopper_flash160)                                                               \
    X(hopper_flash, hopper_short40)                                                                \
    X(hopper_flash, hopper_short64)                                                                \
    X(hopper_flash, hopper_short80)                                                                \
    X(hopper_flash, hopper_short160)                                                               \
    X(hopper_linear, linear80)                                                                     \
    X(hopper_linear, linear160)                                                                    \
    X(hopper_linear, linear160_pair)                                                               \
    X(hopper_linear, linear160_geglu)                                                              \
    X(hopper_linear, linear160_apart)                                                              \
    X(hopper_linear, linear256_geglu)                                                              \
    X(hopper_linear, normed80)                                                                     \
    X(hopper_linear, normed160)                                                                    \
    X(hopper_linear, normed160_geglu)                                                              \
    X(hopper_linear, normed256_geglu)                                                              \
    X(hopper_norm, group_norm_kept)                                                                \
    X(hopper_winograd, winograd_in)                                                                \
    X(hopper_winograd, winograd_out)                                                               \
    X(hopper_winograd, winograd_pairs)                                                             \
    X(norm, group_sums)                                                                            \
    X(norm, group_norm)                                                                            \
    X(norm, group_norm_held)                                                                       \
    X(norm, layer_norm)                                                                            \
    X(norm, softmax)                                                                               \
    X(pack, cast)                                                                                  \
    X(pack, fold)                                                                                  \
    X(pack, pack)                                                                                  \
    X(pack, pack_doubled)                                                                          \
    X(pack, pack_pairs)                                                                            \
    X(pack, pack_winograd)                                                                         \
    X(simple, concat)                                                                              \
    X(simple, embed)                                                                               \
    X(simple, finish)                                                                              \
    X(simple, from_f32)                                                                            \
    X(simple, geglu)                                                                               \
    X(simple, position)                                                                            \
    X(simple, prepend)                                                                             \
    X(simple, repeat)                                                                              \
    X(simple, row)                                                                                 \
    X(simple, timestep)                                                                            \
    X(simple, to_f32)                                                                              \
    X(simple, upsample)

enum kernel_source {
#define X(file) SOURCE_##file,
    KERNEL_SOURCES(X)
#undef X
        KERNEL_FILES
};

enum kernel_name {
#define X(file, name) KERNEL_##name,
    KERNEL_LIST(X)
#undef X
        KERNEL_NAMES
};

enum { KERNEL_TYPES = 3, KERNELS = KERNEL_NAMES * KERNEL_TYPES };

/* Where struct gpu keeps the function of a name for values of a type (DT_F32, DT_BF16, DT_F16). */
static inline int kernel_index(enum kernel_name name, enum dtype type)
{
    return (int)name * KERNEL_TYPES + (int)type;
}

struct gpu;

/* Loads every module into the current context and fills g->module and g->kernel. */
int kernels_load(struct gpu *g, styx_error *err);
void kernels_unload(struct gpu *g);

#endif
