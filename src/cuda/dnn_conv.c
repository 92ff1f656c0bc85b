/* dnn_conv.c - the convolution as a graph:
 *
 *   out = conv(x, weight) [+ residual] [+ bias]
 *
 * in this order, which is the one that the engines compiled beforehand know. cuDNN names dimensions
 * n, c, h, w whatever the layout; NHWC is a matter of strides. */
#include "cuda/dnn_graph.h"

/* n images of h * w pixels of c numbers, dense. */
static struct dnn_tensor nhwc(cudnnDataType_t type, int64_t n, int64_t h, int64_t w, int64_t c)
{
    return (struct dnn_tensor){ type, { n, c, h, w }, { h * w * c, 1, w * c, c } };
}

static dnn_desc convolution(struct dnn_graph *g, const struct dnn_conv *p)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t dims = 2, one[2] = { 1, 1 }, stride[2] = { p->stride, p->stride };
    const int64_t pad[2] = { p->pad, p->pad }, end[2] = { p->pad_end, p->pad_end };
    dnn_desc d = dnn_create(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dims);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, one);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, end);
    dnn_finalize(g, d);
    return d;
}

static void conv_op(struct dnn_graph *g, const struct dnn_conv *p, dnn_desc y)
{
    const cudnnDataType_t type = dnn_type(p->type);
    const struct dnn_tensor x = nhwc(type, p->n, p->h, p->w, p->c);
    const struct dnn_tensor weight = nhwc(type, p->cout, p->k, p->k, p->c);
    const float alpha = 1, beta = 0;
    dnn_desc what = convolution(g, p);
    dnn_desc from = dnn_tensor(g, DNN_X, &x), by = dnn_tensor(g, DNN_WEIGHT, &weight);
    dnn_desc op = dnn_create(g, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, what);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, from);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, by);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    dnn_set(g, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &alpha);
    dnn_set(g, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &beta);
    dnn_add_op(g, op);
}

static bool describe(struct dnn_graph *g, const struct dnn_conv *p)
{
    const cudnnDataType_t type = dnn_type(p->type), f32 = CUDNN_DATA_FLOAT;
    const struct dnn_tensor y = nhwc(type, p->n, p->out_h, p->out_w, p->cout);
    const struct dnn_tensor sums = nhwc(f32, p->n, p->out_h, p->out_w, p->cout);
    dnn_desc out = dnn_tensor(g, DNN_OUT, &y);
    dnn_desc sum = p->residual || p->bias ? dnn_virtual(g, &sums) : out;
    conv_op(g, p, sum);
    if (p->residual) {
        dnn_desc z = dnn_tensor(g, DNN_RESIDUAL, &y);
        dnn_desc added = p->bias ? dnn_virtual(g, &sums) : out;
        dnn_pointwise(g, &(struct dnn_pointwise){ CUDNN_POINTWISE_ADD, f32, sum, z, .y = added });
        sum = added;
    }
    if (p->bias) {
        const struct dnn_tensor vector = nhwc(type, 1, 1, 1, p->cout);
        dnn_desc b = dnn_tensor(g, DNN_BIAS, &vector);
        dnn_pointwise(g, &(struct dnn_pointwise){ CUDNN_POINTWISE_ADD, f32, sum, b, .y = out });
    }
    return dnn_graph_finish(g);
}

int dnn_conv_plans(struct dnn *dnn, const struct dnn_conv *problem, size_t workspace, int max,
                   struct dnn_plan **plan, int *count, styx_error *err)
{
    *count = 0;
    struct dnn_graph *g = dnn_graph_new(dnn);
    if (!g)
        return fail_nomem(err, sizeof *g);
    int status = 0;
    if (describe(g, problem))
        status = dnn_graph_plans(g, problem->type, workspace, max, plan, count, err);
    dnn_graph_drop(g);
    return status;
}

bool dnn_conv_run(struct dnn *dnn, const struct dnn_plan *plan, CUdeviceptr x, CUdeviceptr weight,
                  CUdeviceptr bias, CUdeviceptr residual, CUdeviceptr out, CUdeviceptr workspace)
{
    struct dnn_pointer p[5] = { { DNN_X, x }, { DNN_WEIGHT, weight }, { DNN_OUT, out } };
    int n = 3;
    if (bias)
        p[n++] = (struct dnn_pointer){ DNN_BIAS, bias };
    if (residual)
        p[n++] = (struct dnn_pointer){ DNN_RESIDUAL, residual };
    return dnn_execute(dnn, plan, p, n, workspace);
}
