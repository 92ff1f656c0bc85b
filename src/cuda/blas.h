/* blas.h - matrix products through cuBLASLt: every linear layer, and attention with wide heads.
 *
 *     out[m][n] = x[m][k] w[n][k]^T (+ bias[n]) (+ residual[m][n])
 *
 * All of one type, f32 sums, rows a given number of numbers apart. Or x and w are e4m3, and each of
 * their rows has an f32 scale. */
#ifndef STYX_CUDA_BLAS_H
#define STYX_CUDA_BLAS_H
#include "cuda/gpu.h"

struct blas;

/* Finds and loads libcublasLt. NODEVICE with one sentence if it is not there. */
int blas_open(const struct gpu *g, struct blas **blas, styx_error *err);
void blas_close(struct blas *blas);
void blas_version(const struct blas *blas, char text[32]);
bool blas_scales_rows(const struct blas *blas); /* is it new enough for products of e4m3? */

struct product {
    enum dtype type;
    bool eight;    /* x and w are e4m3; 16 divides n, k and their rows */
    bool f32_out;  /* out is F32 whatever the type */
    bool untied;   /* w is [k][n] instead */
    bool residual; /* added, of out's type; may be out itself */
    bool bias;
    long m;
    int n, k;
    long x_row, w_row, out_row, residual_row; /* from row to row */
};

struct product_plan;

enum { PRODUCT_PLANS = 8 };

/* The library's proposals for it, best guess first; *count of them, at least one. */
int blas_plans(struct blas *blas, const struct product *p, size_t workspace,
               struct product_plan **plan, styx_error *err);
int blas_ways(const struct product_plan *plan);
void blas_choose(struct product_plan *plan, int i); /* the one that runs; 0 at first */
void blas_plan_free(struct product_plan *plan);

struct product_pointers {
    CUdeviceptr x_scale, w_scale; /* of products of e4m3: f32 [m] and [n] */
    CUdeviceptr x, w, bias, residual, out, workspace;
};
/* False if the library refuses. */
bool blas_run(struct blas *blas, const struct product_plan *plan,
              const struct product_pointers *at);
/* Why it refused the last one; "" if it did not. */
const char *blas_error(const struct blas *blas);

#endif
