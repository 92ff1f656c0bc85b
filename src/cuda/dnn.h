/* dnn.h - convolutions and attention through cuDNN 9's graph API, which is C.
 *
 * A problem has several plans (engines with their knobs); which is the fastest is measured once per
 * card and remembered by the caller (tune.h), as the index into the list that cuDNN proposes. So
 * the list must be the same for the same problem, library and card. Engines that compile at run
 * time are left out where there is another one; how many plans had to be compiled is counted. */
#ifndef STYX_CUDA_DNN_H
#define STYX_CUDA_DNN_H
#include "cuda/launch.h"

struct dnn;
struct dnn_plan;

/* Finds and loads libcudnn.so.9. NODEVICE with one sentence if it is not there or too old. */
int dnn_open(const struct gpu *g, struct dnn **dnn, styx_error *err);
void dnn_close(struct dnn *dnn);
void dnn_version(const struct dnn *dnn, char text[32]); /* "9.19.0" */
/* Why the library refused last; "" if it took what was run since. */
const char *dnn_error(const struct dnn *dnn);
int dnn_compiled(const struct dnn *dnn); /* plans made so far that needed run-time compilation */

/* out = conv(x) [+ bias] [+ residual], all NHWC of one type, f32 sums; F32 without TF32. */
struct dnn_conv {
    enum dtype type;
    int n, h, w, c, cout, k, stride;
    int pad, pad_end; /* zeros before and after, both directions */
    int out_h, out_w;
    bool bias, residual;
};

/* softmax(q k^T / sqrt(d)) v. Strides in numbers. */
struct dnn_attention {
    enum dtype type; /* F16 or BF16 */
    int n, heads, d, queries, keys;
    long q_row, k_row, v_row, out_row; /* from token to token; head i begins at i * d */
    bool causal;
};

/* Up to max plans that need at most `workspace` bytes; *count may become 0 (the library cannot do
 * it), which is no error. They are built lazily: only dnn_plan_ready makes one usable. */
int dnn_conv_plans(struct dnn *dnn, const struct dnn_conv *problem, size_t workspace, int max,
                   struct dnn_plan **plan, int *count, styx_error *err);
int dnn_attention_plans(struct dnn *dnn, const struct dnn_attention *problem, size_t workspace,
                        int max, struct dnn_plan **plan, int *count, styx_error *err);
/* Builds it (kernels chosen and loaded). False if the library cannot after all. */
bool dnn_plan_ready(struct dnn *dnn, struct dnn_plan *plan);
void dnn_plan_free(struct dnn_plan *plan);

/* A plan that was compiled, with its kernel, as text (some 60 KB): loading it into the same plan of
 * a later process takes milliseconds where compiling takes a second. The text is freed with free().
 * NULL for a plan that is not ready or was not compiled, and if memory runs out. Loading is false
 * if the library or the card is another one; then dnn_plan_ready compiles. The library does not
 * notice every damage of the text: who keeps it keeps a digest with it. */
char *dnn_plan_save(struct dnn *dnn, const struct dnn_plan *plan);
bool dnn_plan_load(struct dnn *dnn, struct dnn_plan *plan, const char *text);

/* Enqueues in the device's stream; may be captured. bias, residual: 0 if the problem has none. */
bool dnn_conv_run(struct dnn *dnn, const struct dnn_plan *plan, CUdeviceptr x, CUdeviceptr weight,
                  CUdeviceptr bias, CUdeviceptr residual, CUdeviceptr out, CUdeviceptr workspace);
bool dnn_attention_run(struct dnn *dnn, const struct dnn_plan *plan, CUdeviceptr q, CUdeviceptr k,
                       CUdeviceptr v, CUdeviceptr out, CUdeviceptr workspace);

#endif
