/* fake_libraries.c - blas.h and dnn.h in plain loops over host memory. Small problems have two
 * ways, so that choosing is exercised but takes no minutes; cuDNN's refuses a residual, as its
 * older versions do. */
#include "cuda/blas.h"
#include "cuda/dnn.h"
#include "cuda/fake.h"
#include "e4m3.h"
#include <stdio.h>
#include <stdlib.h>

enum { SMALL = 20000 };

struct blas {
    int none;
};

struct product_plan {
    struct product p;
    int chosen;
};

int blas_open(const struct gpu *g, struct blas **blas, styx_error *err)
{
    (void)g, (void)err;
    *blas = calloc(1, sizeof **blas);
    return STYX_OK;
}

void blas_close(struct blas *blas)
{
    free(blas);
}

void blas_version(const struct blas *blas, char text[32])
{
    (void)blas;
    strcpy(text, "fake");
}

int blas_plans(struct blas *blas, const struct product *p, size_t workspace,
               struct product_plan **plan, styx_error *err)
{
    (void)blas, (void)workspace, (void)err;
    *plan = calloc(1, sizeof **plan);
    (*plan)->p = *p;
    fake.products++;
    return STYX_OK;
}

int blas_ways(const struct product_plan *plan)
{
    return (long)plan->p.m * plan->p.n * plan->p.k < SMALL ? 2 : 1;
}

void blas_choose(struct product_plan *plan, int i)
{
    plan->chosen = i;
}

void blas_plan_free(struct product_plan *plan)
{
    free(plan);
}

bool blas_scales_rows(const struct blas *blas)
{
    (void)blas;
    return !fake.old;
}

/* Of row x and row w. */
static double dot(const struct product *p, const struct product_pointers *at, long i, int j)
{
    const uint8_t *x = (const uint8_t *)at->x + i * p->x_row;
    const uint8_t *w = (const uint8_t *)at->w + j * p->w_row;
    double sum = 0;
    for (int k = 0; k < p->k && p->eight; k++)
        sum += (double)e4m3_number(x[k]) * (double)e4m3_number(w[k]);
    if (p->eight)
        return sum * (double)fake_get(at->x_scale, DT_F32, i) *
               (double)fake_get(at->w_scale, DT_F32, j);
    for (int k = 0; k < p->k; k++)
        sum += (double)fake_get(at->x, p->type, i * p->x_row + k) *
               fake_get(at->w, p->type, p->untied ? k * p->w_row + j : j * p->w_row + k);
    return sum;
}

bool blas_run(struct blas *blas, const struct product_plan *plan, const struct product_pointers *at)
{
    const struct product *p = &plan->p;
    enum dtype out = p->f32_out ? DT_F32 : p->type;
    (void)blas;
    for (long i = 0; i < p->m; i++)
        for (int j = 0; j < p->n; j++) {
            double sum = dot(p, at, i, j);
            sum += p->bias ? (double)fake_get(at->bias, p->type, j) : 0;
            sum += p->residual ? (double)fake_get(at->residual, out, i * p->residual_row + j) : 0;
            fake_put(at->out, out, i * p->out_row + j, (float)sum);
        }
    return !fake.refusal;
}

const char *blas_error(const struct blas *blas)
{
    (void)blas;
    return fake.refusal ? fake.refusal : "";
}

struct dnn {
    const struct gpu *g;
};

struct dnn_plan {
    struct dnn_conv conv;
    struct dnn_attention attention;
    bool ready, compiles;
};

int dnn_open(const struct gpu *g, struct dnn **dnn, styx_error *err)
{
    (void)err;
    *dnn = calloc(1, sizeof **dnn);
    (*dnn)->g = g;
    return STYX_OK;
}

void dnn_close(struct dnn *dnn)
{
    free(dnn);
}

void dnn_version(const struct dnn *dnn, char text[32])
{
    (void)dnn;
    strcpy(text, "fake");
}

int dnn_compiled(const struct dnn *dnn)
{
    (void)dnn;
    return fake.compiled;
}

const char *dnn_error(const struct dnn *dnn)
{
    (void)dnn;
    return fake.refusal ? fake.refusal : "";
}

int dnn_conv_plans(struct dnn *dnn, const struct dnn_conv *problem, size_t workspace, int max,
                   struct dnn_plan **plan, int *count, styx_error *err)
{
    (void)dnn, (void)workspace, (void)max, (void)err;
    long size = (long)problem->n * problem->h * problem->w * problem->c * problem->cout;
    *count = problem->residual ? 0 : size < SMALL ? 2 : 1;
    for (int i = 0; i < *count; i++) {
        plan[i] = calloc(1, sizeof **plan);
        plan[i]->conv = *problem;
    }
    return STYX_OK;
}

/* Only large ones in F16, which take a "compilation". */
int dnn_attention_plans(struct dnn *dnn, const struct dnn_attention *problem, size_t workspace,
                        int max, struct dnn_plan **plan, int *count, styx_error *err)
{
    (void)dnn, (void)workspace, (void)err;
    for (*count = 0; problem->type == DT_F16 && *count < max; ++*count) {
        plan[*count] = calloc(1, sizeof **plan);
        plan[*count]->attention = *problem;
        plan[*count]->compiles = true;
    }
    return STYX_OK;
}

bool dnn_plan_ready(struct dnn *dnn, struct dnn_plan *plan)
{
    (void)dnn;
    fake.compiled += plan->compiles && !plan->ready;
    plan->ready = true;
    return true;
}

char *dnn_plan_save(struct dnn *dnn, const struct dnn_plan *plan)
{
    char text[64];
    (void)dnn;
    snprintf(text, sizeof text, "attention of %d keys", plan->attention.keys);
    return plan->ready && plan->compiles ? strdup(text) : NULL;
}

bool dnn_plan_load(struct dnn *dnn, struct dnn_plan *plan, const char *text)
{
    int keys = 0;
    (void)dnn;
    plan->ready = plan->ready || (sscanf(text, "attention of %d keys", &keys) == 1 &&
                                  keys == plan->attention.keys);
    return plan->ready;
}

void dnn_plan_free(struct dnn_plan *plan)
{
    free(plan);
}

bool dnn_conv_run(struct dnn *dnn, const struct dnn_plan *plan, CUdeviceptr x, CUdeviceptr weight,
                  CUdeviceptr bias, CUdeviceptr residual, CUdeviceptr out, CUdeviceptr workspace)
{
    const struct dnn_conv *q = &plan->conv;
    struct gview in = { x, q->type, q->n, q->h, q->w, q->c, q->c };
    struct gview to = { out, q->type, q->n, q->out_h, q->out_w, q->cout, q->cout };
    (void)residual, (void)workspace;
    if (fake.conv3_ms > 0)
        fake.ms = 1;
    return plan->ready && !fake.refusal &&
           launch_conv(dnn->g, &in, weight, q->k, q->stride, q->pad, bias, NULL, NULL, &to) ==
               CUDA_SUCCESS;
}

bool dnn_attention_run(struct dnn *dnn, const struct dnn_plan *plan, CUdeviceptr q, CUdeviceptr k,
                       CUdeviceptr v, CUdeviceptr out, CUdeviceptr workspace)
{
    const struct dnn_attention *p = &plan->attention;
    int c = p->heads * p->d;
    struct gview query = { q, p->type, p->n, p->queries, 1, c, p->q_row };
    struct gview key = { k, p->type, p->n, p->keys, 1, c, p->k_row };
    struct gview value = { v, p->type, p->n, p->keys, 1, c, p->v_row };
    struct gview to = { out, p->type, p->n, p->queries, 1, c, p->out_row };
    (void)workspace;
    bool done = plan->ready && launch_attention(dnn->g, &query, &key, &value, p->heads, p->causal,
                                                &to) == CUDA_SUCCESS;
    fake.ms = 1; /* faster than our own */
    return done;
}
