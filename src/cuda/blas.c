/* blas.c - matrix products through cuBLASLt.
 *
 * cuBLASLt is column-major. Rows of x [m][k] are columns of a k x m matrix, so out^T = w x^T with
 * A = w (transposed as it lies), B = x and D = out: nothing is copied and the bias runs along D's
 * rows, as its epilogue wants. */
#include "cuda/blas.h"
#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define BLAS_FUNCTIONS(X)                                                                          \
    X(cublasLtCreate)                                                                              \
    X(cublasLtDestroy)                                                                             \
    X(cublasLtGetStatusString)                                                                     \
    X(cublasLtGetVersion)                                                                          \
    X(cublasLtMatmul)                                                                              \
    X(cublasLtMatmulAlgoGetHeuristic)                                                              \
    X(cublasLtMatmulDescCreate)                                                                    \
    X(cublasLtMatmulDescDestroy)                                                                   \
    X(cublasLtMatmulDescSetAttribute)                                                              \
    X(cublasLtMatrixLayoutCreate)                                                                  \
    X(cublasLtMatrixLayoutDestroy)                                                                 \
    X(cublasLtMatmulPreferenceCreate)                                                              \
    X(cublasLtMatmulPreferenceDestroy)                                                             \
    X(cublasLtMatmulPreferenceSetAttribute)

struct blas {
    const struct gpu *g;
    cublasLtHandle_t handle;
    char error[128];
#define X(function) __typeof__(function) *function;
    BLAS_FUNCTIONS(X)
#undef X
};

struct product_plan {
    struct product p;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t w, x, residual, out;
    cublasLtMatmulHeuristicResult_t way[PRODUCT_PLANS];
    int count, chosen;
    size_t workspace;
    struct blas *blas;
};

int blas_open(const struct gpu *g, struct blas **blas, styx_error *err)
{
    static const char *const names[] = { "libcublasLt.so.13", "libcublasLt.so.12", NULL };
    void *library = library_find(names, err);
    if (!library)
        return STYX_ERR_NODEVICE;
    struct blas *b = calloc(1, sizeof *b);
    if (!b)
        return fail_nomem(err, sizeof *b);
#define X(function)                                                                                \
    *(void **)&b->function = dlsym(library, #function);                                            \
    if (!b->function) {                                                                            \
        free(b);                                                                                   \
        return fail(err, STYX_ERR_NODEVICE, "cuBLASLt has no %s; version 12 or newer was wanted",  \
                    #function);                                                                    \
    }
    BLAS_FUNCTIONS(X)
#undef X
    b->g = g;
    cublasStatus_t status = b->cublasLtCreate(&b->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        free(b);
        return fail(err, STYX_ERR_NODEVICE, "cuBLASLt cannot start on %s: status %d", g->name,
                    (int)status);
    }
    *blas = b;
    return STYX_OK;
}

void blas_close(struct blas *b)
{
    if (!b)
        return;
    b->cublasLtDestroy(b->handle);
    free(b);
}

void blas_version(const struct blas *b, char text[32])
{
    size_t v = b->cublasLtGetVersion(); /* 130100: 13.1.0 */
    snprintf(text, 32, "%zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
}

bool blas_scales_rows(const struct blas *b)
{
    return b->cublasLtGetVersion() >= 120900;
}

static cudaDataType_t data_type(enum dtype type)
{
    return type == DT_F16 ? CUDA_R_16F : type == DT_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static bool layout(struct blas *b, cublasLtMatrixLayout_t *to, cudaDataType_t type, long rows,
                   long columns, long stride)
{
    return b->cublasLtMatrixLayoutCreate(to, type, (uint64_t)rows, (uint64_t)columns, stride) ==
           CUBLAS_STATUS_SUCCESS;
}

static bool set(struct blas *b, cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t what,
                const void *value, size_t bytes)
{
    return b->cublasLtMatmulDescSetAttribute(desc, what, value, bytes) == CUBLAS_STATUS_SUCCESS;
}

static bool set_scales(struct blas *b, cublasLtMatmulDesc_t desc, CUdeviceptr w, CUdeviceptr x)
{
    return set(b, desc, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &w, sizeof w) &&
           set(b, desc, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &x, sizeof x);
}

/* The library looks for ways only when it sees pointers to scales; any will do. Sums in the tensor
 * cores' own precision, which is far finer than the factors'. */
static bool describe_eight(struct blas *b, const struct product_plan *plan)
{
    const int32_t rows = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    const int32_t bias = (int32_t)data_type(plan->p.type);
    const int8_t fast = 1;
    CUdeviceptr any = b->g->workspace.base;
    return set(b, plan->desc, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &rows, sizeof rows) &&
           set(b, plan->desc, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &rows, sizeof rows) &&
           set(b, plan->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias, sizeof bias) &&
           set(b, plan->desc, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast) &&
           set_scales(b, plan->desc, any, any);
}

static bool describe(struct blas *b, struct product_plan *plan)
{
    const struct product *p = &plan->p;
    cublasOperation_t across = p->untied ? CUBLAS_OP_N : CUBLAS_OP_T;
    cublasLtEpilogue_t end = CUBLASLT_EPILOGUE_BIAS;
    cudaDataType_t in = p->eight ? CUDA_R_8F_E4M3 : data_type(p->type);
    cudaDataType_t out = data_type(p->f32_out ? DT_F32 : p->type);
    long w_rows = p->untied ? p->n : p->k, w_columns = p->untied ? p->k : p->n;
    if (b->cublasLtMatmulDescCreate(&plan->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) !=
        CUBLAS_STATUS_SUCCESS)
        return false;
    if (!set(b, plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, &across, sizeof across) ||
        (p->bias && !set(b, plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &end, sizeof end)) ||
        (p->eight && !describe_eight(b, plan)))
        return false;
    return layout(b, &plan->w, in, w_rows, w_columns, p->w_row) &&
           layout(b, &plan->x, in, p->k, p->m, p->x_row) &&
           layout(b, &plan->residual, out, p->n, p->m,
                  p->residual ? p->residual_row : p->out_row) &&
           layout(b, &plan->out, out, p->n, p->m, p->out_row);
}

/* Slices and single rows are aligned to 16 bytes and no more. Partial sums are added in f32. */
static bool prefer(struct blas *b, cublasLtMatmulPreference_t preference, size_t workspace)
{
    static const cublasLtMatmulPreferenceAttributes_t alignment[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
    };
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, bytes = 16;
    bool ok = b->cublasLtMatmulPreferenceSetAttribute(
                  preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                  sizeof workspace) == CUBLAS_STATUS_SUCCESS;
    ok = ok && b->cublasLtMatmulPreferenceSetAttribute(
                   preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                   sizeof schemes) == CUBLAS_STATUS_SUCCESS;
    for (int i = 0; i < 4 && ok; i++)
        ok = b->cublasLtMatmulPreferenceSetAttribute(preference, alignment[i], &bytes,
                                                     sizeof bytes) == CUBLAS_STATUS_SUCCESS;
    return ok;
}

int blas_plans(struct blas *b, const struct product *p, size_t workspace, struct product_plan **out,
               styx_error *err)
{
    struct product_plan *plan = calloc(1, sizeof *plan);
    cublasLtMatmulPreference_t preference = NULL;
    cublasStatus_t status = CUBLAS_STATUS_NOT_INITIALIZED;
    if (!plan)
        return fail_nomem(err, sizeof *plan);
    plan->p = *p;
    plan->blas = b;
    plan->workspace = workspace;
    if (describe(b, plan) &&
        (status = b->cublasLtMatmulPreferenceCreate(&preference)) == CUBLAS_STATUS_SUCCESS &&
        prefer(b, preference, workspace))
        status = b->cublasLtMatmulAlgoGetHeuristic(b->handle, plan->desc, plan->w, plan->x,
                                                   plan->residual, plan->out, preference,
                                                   PRODUCT_PLANS, plan->way, &plan->count);
    if (preference)
        b->cublasLtMatmulPreferenceDestroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS || plan->count == 0) {
        blas_plan_free(plan);
        return fail(err, STYX_ERR_BACKEND,
                    "cuBLASLt has nothing for a product of %ld x %d by %d x %d in %s: status %d",
                    p->m, p->k, p->k, p->n, p->eight ? "E4M3" : dtype_name(p->type), (int)status);
    }
    *out = plan;
    return STYX_OK;
}

int blas_ways(const struct product_plan *plan)
{
    return plan->count;
}

void blas_choose(struct product_plan *plan, int i)
{
    plan->chosen = i;
}

void blas_plan_free(struct product_plan *plan)
{
    if (!plan)
        return;
    struct blas *b = plan->blas;
    if (plan->desc)
        b->cublasLtMatmulDescDestroy(plan->desc);
    cublasLtMatrixLayout_t layouts[] = { plan->w, plan->x, plan->residual, plan->out };
    for (int i = 0; i < 4; i++)
        if (layouts[i])
            b->cublasLtMatrixLayoutDestroy(layouts[i]);
    free(plan);
}

bool blas_run(struct blas *b, const struct product_plan *plan, const struct product_pointers *at)
{
    const struct product *p = &plan->p;
    float alpha = 1, beta = p->residual ? 1 : 0;
    const void *bias = (const void *)at->bias;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if ((p->bias && !set(b, plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias)) ||
        (p->eight && !set_scales(b, plan->desc, at->w_scale, at->x_scale)))
        status = CUBLAS_STATUS_INVALID_VALUE;
    if (status == CUBLAS_STATUS_SUCCESS)
        status = b->cublasLtMatmul(
            b->handle, plan->desc, &alpha, (const void *)at->w, plan->w, (const void *)at->x,
            plan->x, &beta, (const void *)(p->residual ? at->residual : at->out), plan->residual,
            (void *)at->out, plan->out, &plan->way[plan->chosen].algo, (void *)at->workspace,
            plan->workspace, (cudaStream_t)b->g->stream);
    b->error[0] = 0;
    if (status != CUBLAS_STATUS_SUCCESS)
        snprintf(b->error, sizeof b->error, "cuBLASLt: %s", b->cublasLtGetStatusString(status));
    return status == CUBLAS_STATUS_SUCCESS;
}

const char *blas_error(const struct blas *b)
{
    return b->error;
}
