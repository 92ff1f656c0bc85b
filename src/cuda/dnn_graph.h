/* dnn_graph.h - cuDNN's operation graphs, as dnn_conv.c and dnn_attention.c describe them and dnn.c
 * turns them into plans.
 *
 * A graph owns all its descriptors. The first call that fails is remembered, and those after it do
 * nothing, so that a description reads like the formula; dnn_graph_finish tells whether the library
 * accepted it. */
#ifndef STYX_CUDA_DNN_GRAPH_H
#define STYX_CUDA_DNN_GRAPH_H
#include "cuda/dnn.h"
#include <cudnn.h>

#if CUDNN_VERSION < 91300
#error "cudnn.h of cuDNN 9.13 or later is wanted, which declares the operation of attention"
#endif

#define CUDNN_FUNCTIONS(X)                                                                         \
    X(cudnnGetVersion)                                                                             \
    X(cudnnGetCudartVersion)                                                                       \
    X(cudnnGetErrorString)                                                                         \
    X(cudnnGetLastErrorString)                                                                     \
    X(cudnnCreate)                                                                                 \
    X(cudnnDestroy)                                                                                \
    X(cudnnSetStream)                                                                              \
    X(cudnnBackendCreateDescriptor)                                                                \
    X(cudnnBackendDestroyDescriptor)                                                               \
    X(cudnnBackendSetAttribute)                                                                    \
    X(cudnnBackendGetAttribute)                                                                    \
    X(cudnnBackendFinalize)                                                                        \
    X(cudnnBackendExecute)

struct dnn {
#define X(function) __typeof__(function) *function;
    CUDNN_FUNCTIONS(X)
#undef X
    cudnnHandle_t handle;
    int compiled;
    char error[480];
};

typedef cudnnBackendDescriptor_t dnn_desc;

/* Tensors that the caller passes when a plan runs. Virtual ones are numbered from DNN_VIRTUAL. */
enum dnn_id { DNN_X = 1, DNN_WEIGHT, DNN_BIAS, DNN_RESIDUAL, DNN_Q, DNN_K, DNN_V, DNN_OUT };
enum { DNN_CONSTANT = 32, DNN_VIRTUAL = 64 };

enum { DNN_MAX_DESCS = 64, DNN_MAX_OPS = 16, DNN_MAX_CONSTANTS = 2, DNN_MAX_POINTERS = 8 };

struct dnn_graph {
    struct dnn *dnn;
    cudnnStatus_t status; /* of the first call that failed */
    int users;            /* plans; the last one frees it */
    dnn_desc desc[DNN_MAX_DESCS];
    int ndescs;
    dnn_desc op[DNN_MAX_OPS];
    int nops;
    dnn_desc graph;
    int nvirtual;
    float constant[DNN_MAX_CONSTANTS]; /* by value: in host memory */
    int nconstants;
};

struct dnn_tensor {
    cudnnDataType_t type;
    int64_t dim[4], stride[4];
};

/* NULL if memory ran out. */
struct dnn_graph *dnn_graph_new(struct dnn *dnn);
void dnn_graph_drop(struct dnn_graph *g); /* one user less */

dnn_desc dnn_tensor(struct dnn_graph *g, enum dnn_id id, const struct dnn_tensor *t);
dnn_desc dnn_virtual(struct dnn_graph *g, const struct dnn_tensor *t);
dnn_desc dnn_constant(struct dnn_graph *g, float value);

/* A descriptor of the graph; attributes; finalised. set takes one element or, for dims, several. */
dnn_desc dnn_create(struct dnn_graph *g, cudnnBackendDescriptorType_t type);
void dnn_set(struct dnn_graph *g, dnn_desc d, cudnnBackendAttributeName_t name,
             cudnnBackendAttributeType_t type, int64_t count, const void *value);
void dnn_set_desc(struct dnn_graph *g, dnn_desc d, cudnnBackendAttributeName_t name, dnn_desc to);
void dnn_finalize(struct dnn_graph *g, dnn_desc d);
void dnn_add_op(struct dnn_graph *g, dnn_desc op); /* finalises it */

struct dnn_pointwise { /* y = mode(x, b); a selection is y = t ? x : b */
    cudnnPointwiseMode_t mode;
    cudnnDataType_t compute;
    dnn_desc x, b, t, y; /* b and t may be NULL */
    int64_t axis;        /* of CUDNN_POINTWISE_GEN_INDEX, which numbers along it */
};
void dnn_pointwise(struct dnn_graph *g, const struct dnn_pointwise *p);

/* False if the library refuses what was described. */
bool dnn_graph_finish(struct dnn_graph *g);

/* Appends plans for the graph to plan[*count], at most max in all: those of engines compiled
 * beforehand, or if the library has none that takes the graph, of those that compile at run time.
 * Fails only for lack of memory. */
int dnn_graph_plans(struct dnn_graph *g, enum dtype type, size_t workspace, int max,
                    struct dnn_plan **plan, int *count, styx_error *err);

/* Remembers it for dnn_error. */
void dnn_refused(struct dnn *dnn, cudnnStatus_t status, const char *doing);

struct dnn_pointer {
    enum dnn_id id;
    CUdeviceptr data;
};
bool dnn_execute(struct dnn *dnn, const struct dnn_plan *plan, const struct dnn_pointer *pointer,
                 int count, CUdeviceptr workspace);

cudnnDataType_t dnn_type(enum dtype type);

#endif
