/* step.h - an instruction with everything chosen and looked up: how plan.c runs a program.
 *
 * linear.c, conv.c, attention.c and simple.c each know how to prepare and run their operations. */
#ifndef STYX_CUDA_STEP_H
#define STYX_CUDA_STEP_H
#include "cuda/blas.h"
#include "cuda/dnn.h"
#include "cuda/launch.h"
#include "cuda/load.h"
#include "cuda/tune.h"

/* What libraries may use besides what kernels of ours need; their ways that want more are left out.
 * cuBLASLt's own advice for these cards is 32 MiB, cuDNN's good f16 ways want less than 3, its good
 * f32 ways for the autoencoder up to 168. */
#define LIBRARY_WORKSPACE ((size_t)192 << 20)

enum { DNN_PLANS = 8 };

struct plan;

struct step {
    const instr *i;
    bool (*run)(const struct plan *p, const struct step *s);
    struct product_plan *product[2]; /* a linear layer over two parts is two of them */
    int own[2];  /* instead of it: 1 + a way of launch_linear, or launch_conv3 */
    bool joined; /* with the shortcut behind the convolution */
    bool normed; /* which goes over the layer norm before it too */
    struct dnn_plan *dnn;
    bool shared; /* product and dnn are an earlier step's */
    bool finish; /* launch_finish adds what the library did not */
    bool wide;   /* attention as products with a softmax between them */
    long rows;   /* wide attention: queries at a time */
};

struct plan {
    struct gpu *g;
    const tape *t;
    struct loaded *weights;
    struct step *step;
    char *pinned;     /* inputs, then outputs, f32 */
    size_t workspace; /* bytes that its steps need */
    size_t in_at[TAPE_MAX_IN], out_at[TAPE_MAX_OUT], in_bytes, out_bytes;
    CUgraphExec graph; /* code[once..) with its inputs and outputs */
    bool warm;         /* the prologue's values are in the arena */
    bool timed;        /* this run tells the seconds of its instructions, so it is no graph */
    CUevent *mark;     /* [ncode + 2], once a run was timed */
};

/* A step with its inputs and outputs: what a graph holds. */
int plan_enqueue(const struct plan *p, styx_error *err);

struct gview gview_of(const struct plan *p, const tensor *x); /* not of concatenations */
size_t view_bytes(const tensor *x);
CUdeviceptr plan_scratch(const struct plan *p);   /* scratch_bytes, for one step at a time */
CUdeviceptr plan_workspace(const struct plan *p); /* LIBRARY_WORKSPACE */

/* As if its home began at address 0. */
struct gview gview_placed(const tensor *x);
/* A dense value like x, but with c channels, at some address. */
struct gview gview_dense(const tensor *like, int c, CUdeviceptr at);

size_t linear_scratch(const struct gpu *g, const tape *t, const instr *i);
/* Is the value written as e4m3 (launch_eight) in the first place, because only an 8-bit product
 * reads it? In the arena the scales lie behind it then. */
bool linear_coded(const struct gpu *g, const tape *t, const tensor *x);
CUdeviceptr linear_scales(const struct plan *p, const tensor *x); /* 0 if it is not */
/* What a linear layer has taken of the layer norm before it. */
enum taken_part { NORM_KEPT, NORM_GAIN, NORM_ALL };
enum taken_part linear_takes(const struct plan *p, const instr *norm);
int linear_prepare(struct plan *p, struct step *s, styx_error *err);
size_t conv_scratch_bytes(const struct gpu *g, const tape *t, const instr *i);
/* Has the convolution before this linear layer done its work? */
bool conv_joined(const struct plan *p, const instr *linear);
int conv_prepare(struct plan *p, struct step *s, styx_error *err);
size_t attention_scratch_bytes(const tape *t, const instr *i);
int attention_prepare(struct plan *p, struct step *s, styx_error *err);
size_t simple_scratch_bytes(const tape *t, const instr *i);
int simple_prepare(struct plan *p, struct step *s, styx_error *err);

/* Makes s run as an earlier step of p whose instruction is the same problem for the libraries,
 * which take their time to think of ways; false if s is the first. */
bool step_share(const struct plan *p, struct step *s,
                bool (*same)(const struct plan *p, const instr *a, const instr *b));
bool same_shape(const tensor *a, const tensor *b);

/* Finds the fastest of a product's ways at these addresses. */
int blas_tune(struct gpu *g, struct product_plan *plan, const struct product *p,
              const struct product_pointers *at, styx_error *err);

#endif
