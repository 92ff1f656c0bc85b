/* card.c - the card of host memory that the cases of kernels_test run on. */
#include "card.h"
#include "emulate.h"

#include <math.h>
#include <stdlib.h>

/* ---- the card: X(kernel, its arguments) */

#define HALF_KERNELS(X)                                                                            \
    X(conv_narrow, conv_args)                                                                      \
    X(conv_widen, conv_args)                                                                       \
    X(conv_widen_deep, conv_args)                                                                  \
    X(flash40, attention_args)                                                                     \
    X(flash40_wide, attention_args)                                                                \
    X(flash64, attention_args)                                                                     \
    X(flash64_wide, attention_args)                                                                \
    X(flash80, attention_args)                                                                     \
    X(flash96, attention_args)                                                                     \
    X(flash128, attention_args)                                                                    \
    X(flash160, attention_args)                                                                    \
    X(conv80, conv3_args)                                                                          \
    X(conv160, conv3_args)                                                                         \
    X(conv160_apart, conv3_args)                                                                   \
    X(conv192, conv3_args)                                                                         \
    X(conv256, conv3_args)                                                                         \
    X(doubled80, conv3_args)                                                                       \
    X(doubled160, conv3_args)                                                                      \
    X(doubled192, conv3_args)                                                                      \
    X(doubled256, conv3_args)                                                                      \
    X(hopper_flash40, hopper_attention_args)                                                       \
    X(hopper_flash64, hopper_attention_args)                                                       \
    X(hopper_flash80, hopper_attention_args)                                                       \
    X(hopper_flash160, hopper_attention_args)                                                      \
    X(hopper_short40, hopper_attention_args)                                                       \
    X(hopper_short64, hopper_attention_args)                                                       \
    X(hopper_short80, hopper_attention_args)                                                       \
    X(hopper_short160, hopper_attention_args)                                                      \
    X(linear80, linear_args)                                                                       \
    X(linear160, linear_args)                                                                      \
    X(linear160_apart, linear_args)                                                                \
    X(linear160_pair, linear_args)                                                                 \
    X(linear160_geglu, linear_args)                                                                \
    X(linear256_geglu, linear_args)                                                                \
    X(normed80, linear_args)                                                                       \
    X(normed160, linear_args)                                                                      \
    X(normed160_geglu, linear_args)                                                                \
    X(normed256_geglu, linear_args)                                                                \
    X(winograd_in, winograd_args)                                                                  \
    X(winograd_out, winograd_args)                                                                 \
    X(winograd_pairs, pairs_args)                                                                  \
    X(paired128, conv3_args)                                                                       \
    X(paired160, conv3_args)                                                                       \
    X(group_norm_kept, group_norm_args)
#define FULL_KERNELS(X)                                                                            \
    X(attention, attention_args)                                                                   \
    X(conv_few, conv_args)                                                                         \
    X(conv_tile, conv_args)                                                                        \
    X(group_sums, group_norm_args)                                                                 \
    X(group_norm, group_norm_args)                                                                 \
    X(group_norm_held, group_norm_args)                                                            \
    X(layer_norm, layer_norm_args)                                                                 \
    X(softmax, softmax_args)                                                                       \
    X(cast, pack_args)                                                                             \
    X(fold, fold_args)                                                                             \
    X(pack, pack_args)                                                                             \
    X(pack_doubled, pack_args)                                                                     \
    X(pack_pairs, pack_args)                                                                       \
    X(pack_winograd, pack_args)                                                                    \
    X(eight, eight_args)                                                                           \
    X(geglu_eight, eight_args)                                                                     \
    X(concat, concat_args)                                                                         \
    X(embed, gather_args)                                                                          \
    X(finish, finish_args)                                                                         \
    X(from_f32, cast_args)                                                                         \
    X(geglu, geglu_args)                                                                           \
    X(position, gather_args)                                                                       \
    X(prepend, gather_args)                                                                        \
    X(repeat, repeat_args)                                                                         \
    X(row, gather_args)                                                                            \
    X(timestep, timestep_args)                                                                     \
    X(to_f32, cast_args)                                                                           \
    X(upsample, upsample_args)

#define CALL(name, type, args)                                                                     \
    void name##_##type(const struct args);                                                         \
    static void call_##name##_##type(const void *a)                                                \
    {                                                                                              \
        name##_##type(*(const struct args *)a);                                                    \
    }
#define HALF(name, args) CALL(name, bf16, args) CALL(name, f16, args)
#define FULL(name, args) CALL(name, f32, args) HALF(name, args)
HALF_KERNELS(HALF)
FULL_KERNELS(FULL)
#undef HALF
#undef FULL

static struct kernel {
    void (*call[KERNEL_TYPES])(const void *); /* by enum dtype */
    bool used;
} kernels[KERNEL_NAMES] = {
#define HALF(name, args)                                                                           \
    [KERNEL_##name] = { { NULL, call_##name##_bf16, call_##name##_f16 }, false },
#define FULL(name, args)                                                                           \
    [KERNEL_##name] = { { call_##name##_f32, call_##name##_bf16, call_##name##_f16 }, false },
    HALF_KERNELS(HALF) FULL_KERNELS(FULL)
};

bool late;

static CUresult run_here(const CUlaunchConfig *c, CUfunction f, void **args, void **extra)
{
    unsigned i = (unsigned)(uintptr_t)f - 1;
    struct kernel *k = &kernels[i / KERNEL_TYPES];
    (void)extra;
    bool meeting = i / KERNEL_TYPES == KERNEL_group_norm_held ||
                   i / KERNEL_TYPES == KERNEL_group_norm_kept; /* of its blocks, in memory */
    unsigned pair = i / KERNEL_TYPES == KERNEL_linear160_pair ? 2 : 1;
    k->used = true;
    emulate(&(struct emulate_launch){ .kernel = k->call[i % KERNEL_TYPES],
                                      .args = args[0],
                                      .grid = { c->gridDimX, c->gridDimY, c->gridDimZ },
                                      .block = { c->blockDimX, c->blockDimY, c->blockDimZ },
                                      .shared = c->sharedMemBytes,
                                      .cluster = meeting ? c->gridDimX : pair,
                                      .late = late });
    return CUDA_SUCCESS;
}

static CUresult map_here(CUtensorMap *to, CUtensorMapDataType type, cuuint32_t dims, void *data,
                         const cuuint64_t *size, const cuuint64_t *stride, const cuuint32_t *tile,
                         const cuuint32_t *every, CUtensorMapInterleave interleave,
                         CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                         CUtensorMapFloatOOBfill fill)
{
    struct emulate_map map = {
        .data = data, .stride = { 2 }, .size = { 1, 1, 1, 1, 1 }, .tile = { 1, 1, 1, 1, 1 }
    };
    (void)type, (void)every, (void)interleave, (void)promotion, (void)fill;
    assert_int_equal(swizzle, CU_TENSOR_MAP_SWIZZLE_128B);
    assert_int_equal((uintptr_t)data % 16, 0);
    for (cuuint32_t i = 0; i < dims; i++) {
        assert_in_range(tile[i], 1, i ? 256 : 64);
        map.size[i] = (int)size[i];
        map.tile[i] = (int)tile[i];
        if (i == 0)
            continue;
        assert_int_equal(stride[i - 1] % 16, 0);
        map.stride[i] = (long)stride[i - 1];
    }
    memcpy(to, &map, sizeof map);
    return CUDA_SUCCESS;
}

static const struct driver driver = { .cuLaunchKernelEx = run_here,
                                      .cuTensorMapEncodeTiled = map_here };
struct gpu gpu = { .cu = &driver, .sm = 90, .processors = 2, .shared = 227 * 1024 };

int set_up(void **state)
{
    (void)state;
    for (int i = 0; i < KERNELS; i++) /* a function is its number */
        if (kernels[i / KERNEL_TYPES].call[i % KERNEL_TYPES])
            gpu.kernel[i] = (CUfunction)(uintptr_t)(i + 1);
    return 0;
}

/* ---- values */

enum { FIRST_STATE = 1 };

static uint32_t random_state = FIRST_STATE;

float uniform(void) /* [-1, 1) */
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(int32_t)random_state * 0x1p-31f;
}

float get(CUdeviceptr at, enum dtype type, long i)
{
    float x;
    dtype_to_f32(type, (const char *)(uintptr_t)at + (size_t)i * dtype_bytes(type), &x, 1);
    return x;
}

void put(CUdeviceptr at, enum dtype type, long i, float x)
{
    dtype_from_f32(type, &x, (char *)(uintptr_t)at + (size_t)i * dtype_bytes(type), 1);
}

static void *pool[64]; /* what a case has allocated */
static int pooled;

CUdeviceptr memory(size_t bytes) /* NaN */
{
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 256, bytes + 256), 0);
    memset(p, 0xff, bytes + 256);
    assert_true(pooled < 64);
    pool[pooled++] = p;
    return (CUdeviceptr)(uintptr_t)p;
}

void forget_memory(void)
{
    while (pooled)
        free(pool[--pooled]);
    random_state = FIRST_STATE;
}

/* Numbers around mean. */
CUdeviceptr numbers(enum dtype type, long count, float mean, float range)
{
    CUdeviceptr p = memory((size_t)count * 4);
    for (long i = 0; i < count; i++)
        put(p, type, i, mean + range * uniform());
    return p;
}

/* Pixels of c numbers, `gap` unused ones after each. */
struct gview value(enum dtype type, int n, int h, int w, int c, int gap)
{
    struct gview v = { 0, type, n, h, w, c, c + gap };
    v.data = memory((size_t)(gview_pixels(&v) * v.row) * dtype_bytes(type));
    return v;
}

struct gview filled(enum dtype type, int n, int h, int w, int c, int gap, float mean, float range)
{
    struct gview v = value(type, n, h, w, c, gap);
    for (long p = 0; p < gview_pixels(&v); p++)
        for (int i = 0; i < c; i++)
            put(v.data, type, p * v.row + i, mean + range * uniform());
    return v;
}

float at(const struct gview *v, long pixel, int c)
{
    return get(v->data, v->type, pixel * v->row + c);
}

/* ---- comparison: root of the mean square of the error, relative to the values' */

static double wrong, right;

void compare(double found, double wanted)
{
    wrong += (found - wanted) * (found - wanted);
    right += wanted * wanted;
}

/* Half a unit in the last place is 2^-9 of a BF16 number, 2^-12 of an F16 one; less on average. */
void conclude(enum dtype type, CUresult result, const char *what)
{
    conclude_within(1, type, result, what);
}

void conclude_within(double times, enum dtype type, CUresult result, const char *what)
{
    static const double bound[] = { [DT_F32] = 2e-6, [DT_BF16] = 3e-3, [DT_F16] = 4e-4 };
    double error = sqrt(wrong / (right + 1e-30));
    if (result != CUDA_SUCCESS || !(error <= times * bound[type]))
        fail_msg("%s, %s: result %d, relative error %g", what, dtype_name(type), (int)result,
                 error);
    wrong = right = 0;
}

/* What lies between the pixels was not written. */
void untouched(const struct gview *v)
{
    size_t bytes = dtype_bytes(v->type);
    for (long p = 0; p < gview_pixels(v); p++)
        for (long i = v->c; i < v->row; i++)
            for (size_t b = 0; b < bytes; b++)
                assert_int_equal(
                    ((unsigned char *)(uintptr_t)v->data)[(size_t)(p * v->row + i) * bytes + b],
                    0xff);
}

double act_of(enum act act, double x)
{
    switch (act) {
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_GELU:
        return 0.5 * x * (1 + erf(x * 0.70710678118654752));
    case ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case ACT_RELU:
        return x > 0 ? x : 0;
    default:
        return x;
    }
}

double rounded(enum dtype type, float x)
{
    float stored[1];
    put((CUdeviceptr)(uintptr_t)stored, type, 0, x);
    return get((CUdeviceptr)(uintptr_t)stored, type, 0);
}

int first_unused_kernel(void)
{
    for (int i = 0; i < KERNEL_NAMES; i++)
        if (!kernels[i].used)
            return i;
    return -1;
}
