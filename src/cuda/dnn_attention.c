/* dnn_attention.c - attention as a graph, in the two forms that cuDNN recognises: one operation
 * (since 9.13, without a mask), and, where the library has no plan for that, the formula written
 * out, which its engines match. */
#include "cuda/dnn_graph.h"
#include <float.h>
#include <math.h>

enum { WIDEST_HEAD = 256 };

/* Heads lie side by side in a row, rows follow one another: [n][tokens][heads][d]. */
static struct dnn_tensor rows(const struct dnn_attention *p, int64_t tokens, int64_t row)
{
    return (struct dnn_tensor){ dnn_type(p->type),
                                { p->n, p->heads, tokens, p->d },
                                { tokens * row, p->d, row, 1 } };
}

static struct dnn_tensor packed(cudnnDataType_t type, int64_t n, int64_t heads, int64_t queries,
                                int64_t columns)
{
    return (struct dnn_tensor){ type,
                                { n, heads, queries, columns },
                                { heads * queries * columns, queries * columns, columns, 1 } };
}

static float scale_of(const struct dnn_attention *p)
{
    return 1 / sqrtf((float)p->d);
}

static bool describe_whole(struct dnn_graph *g, const struct dnn_attention *p)
{
    const struct dnn_tensor q = rows(p, p->queries, p->q_row), k = rows(p, p->keys, p->k_row),
                            v = rows(p, p->keys, p->v_row), o = rows(p, p->queries, p->out_row);
    dnn_desc in[3] = { dnn_tensor(g, DNN_Q, &q), dnn_tensor(g, DNN_K, &k),
                       dnn_tensor(g, DNN_V, &v) };
    dnn_desc out = dnn_tensor(g, DNN_OUT, &o), scale = dnn_constant(g, scale_of(p));
    dnn_desc op = dnn_create(g, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, in[0]);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, in[1]);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, in[2]);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, out);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale);
    dnn_add_op(g, op);
    return dnn_graph_finish(g);
}

static void product(struct dnn_graph *g, dnn_desc a, dnn_desc b, dnn_desc c)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    dnn_desc what = dnn_create(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    dnn_set(g, what, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32);
    dnn_finalize(g, what);
    dnn_desc op = dnn_create(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_DESC, what);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    dnn_add_op(g, op);
}

static void reduction(struct dnn_graph *g, cudnnReduceTensorOp_t how, dnn_desc x, dnn_desc y)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    dnn_desc what = dnn_create(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    dnn_set(g, what, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &how);
    dnn_set(g, what, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32);
    dnn_finalize(g, what);
    dnn_desc op = dnn_create(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, what);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    dnn_add_op(g, op);
}

/* The number of each score's row (axis 2) or column (3). */
static dnn_desc index_of(struct dnn_graph *g, dnn_desc scores, int64_t axis,
                         const struct dnn_tensor *shape)
{
    struct dnn_tensor index = *shape;
    index.type = CUDNN_DATA_INT32;
    dnn_desc y = dnn_virtual(g, &index);
    dnn_pointwise(g, &(struct dnn_pointwise){ CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, scores,
                                              .y = y, .axis = axis });
    return y;
}

/* Query i sees keys 0..i. */
static dnn_desc causal(struct dnn_graph *g, dnn_desc scores, const struct dnn_tensor *shape)
{
    struct dnn_tensor truth = *shape;
    truth.type = CUDNN_DATA_BOOLEAN;
    dnn_desc row = index_of(g, scores, 2, shape), column = index_of(g, scores, 3, shape);
    dnn_desc seen = dnn_virtual(g, &truth), masked = dnn_virtual(g, shape);
    dnn_pointwise(g, &(struct dnn_pointwise){ CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN, row,
                                              column, .y = seen });
    dnn_desc never = dnn_constant(g, -FLT_MAX);
    dnn_pointwise(g, &(struct dnn_pointwise){ CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT,
                                              scores, never, .t = seen, .y = masked });
    return masked;
}

/* The weights are of the values' type: the second product wants both factors in one. The logarithm
 * of the sum is wanted by nobody, but it is how the engines tell this formula from an older one. */
static dnn_desc softmax(struct dnn_graph *g, dnn_desc scores, const struct dnn_tensor *shape,
                        cudnnDataType_t type)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    const struct dnn_tensor one = packed(f32, shape->dim[0], shape->dim[1], shape->dim[2], 1);
    struct dnn_tensor result = *shape;
    result.type = type;
    dnn_desc largest = dnn_virtual(g, &one), less = dnn_virtual(g, shape);
    dnn_desc raised = dnn_virtual(g, shape), sum = dnn_virtual(g, &one);
    dnn_desc logarithm = dnn_virtual(g, &one), both = dnn_virtual(g, &one);
    dnn_desc weights = dnn_virtual(g, &result);
    reduction(g, CUDNN_REDUCE_TENSOR_MAX, scores, largest);
    dnn_pointwise(g,
                  &(struct dnn_pointwise){ CUDNN_POINTWISE_SUB, f32, scores, largest, .y = less });
    dnn_pointwise(g, &(struct dnn_pointwise){ CUDNN_POINTWISE_EXP, f32, less, .y = raised });
    reduction(g, CUDNN_REDUCE_TENSOR_ADD, raised, sum);
    dnn_pointwise(g, &(struct dnn_pointwise){ CUDNN_POINTWISE_LOG, f32, sum, .y = logarithm });
    dnn_pointwise(
        g, &(struct dnn_pointwise){ CUDNN_POINTWISE_ADD, f32, largest, logarithm, .y = both });
    dnn_pointwise(g,
                  &(struct dnn_pointwise){ CUDNN_POINTWISE_DIV, f32, raised, sum, .y = weights });
    return weights;
}

static bool describe_formula(struct dnn_graph *g, const struct dnn_attention *p)
{
    const cudnnDataType_t type = dnn_type(p->type), f32 = CUDNN_DATA_FLOAT;
    const struct dnn_tensor q = rows(p, p->queries, p->q_row), v = rows(p, p->keys, p->v_row),
                            o = rows(p, p->queries, p->out_row),
                            shape = packed(f32, p->n, p->heads, p->queries, p->keys);
    const struct dnn_tensor k = { type, /* transposed */
                                  { p->n, p->heads, p->d, p->keys },
                                  { p->keys * p->k_row, p->d, 1, p->k_row } };
    dnn_desc query = dnn_tensor(g, DNN_Q, &q), key = dnn_tensor(g, DNN_K, &k),
             value = dnn_tensor(g, DNN_V, &v), out = dnn_tensor(g, DNN_OUT, &o);
    dnn_desc scores = dnn_virtual(g, &shape), scaled = dnn_virtual(g, &shape);
    product(g, query, key, scores);
    dnn_pointwise(g, &(struct dnn_pointwise){ CUDNN_POINTWISE_MUL, f32, scores,
                                              dnn_constant(g, scale_of(p)), .y = scaled });
    if (p->causal)
        scaled = causal(g, scaled, &shape);
    product(g, softmax(g, scaled, &shape, type), value, out);
    return dnn_graph_finish(g);
}

/* What the library's engines take: whole 16 bytes everywhere. */
static bool supported(const struct dnn_attention *p)
{
    long rest = p->d | p->q_row | p->k_row | p->v_row | p->out_row;
    return (p->type == DT_F16 || p->type == DT_BF16) && rest % 8 == 0 && p->d <= WIDEST_HEAD;
}

int dnn_attention_plans(struct dnn *dnn, const struct dnn_attention *problem, size_t workspace,
                        int max, struct dnn_plan **plan, int *count, styx_error *err)
{
    *count = 0;
    if (!supported(problem))
        return 0;
    int status = 0;
    for (int formula = problem->causal; formula < 2 && !status && !*count; formula++) {
        struct dnn_graph *g = dnn_graph_new(dnn);
        if (!g)
            status = fail_nomem(err, sizeof *g);
        else if (formula ? describe_formula(g, problem) : describe_whole(g, problem))
            status = dnn_graph_plans(g, problem->type, workspace, max, plan, count, err);
        dnn_graph_drop(g);
    }
    return status;
}

bool dnn_attention_run(struct dnn *dnn, const struct dnn_plan *plan, CUdeviceptr q, CUdeviceptr k,
                       CUdeviceptr v, CUdeviceptr out, CUdeviceptr workspace)
{
    const struct dnn_pointer p[4] = { { DNN_Q, q }, { DNN_K, k }, { DNN_V, v }, { DNN_OUT, out } };
    return dnn_execute(dnn, plan, p, 4, workspace);
}
