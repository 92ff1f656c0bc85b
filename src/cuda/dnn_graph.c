#include "cuda/dnn_graph.h"
#include <stdlib.h>

struct dnn_graph *dnn_graph_new(struct dnn *dnn)
{
    struct dnn_graph *g = calloc(1, sizeof *g);
    if (g) {
        g->dnn = dnn;
        g->users = 1;
    }
    return g;
}

void dnn_graph_drop(struct dnn_graph *g)
{
    if (!g || --g->users)
        return;
    for (int i = g->ndescs; i-- > 0;)
        g->dnn->cudnnBackendDestroyDescriptor(g->desc[i]);
    free(g);
}

cudnnDataType_t dnn_type(enum dtype type)
{
    return type == DT_F16    ? CUDNN_DATA_HALF
           : type == DT_BF16 ? CUDNN_DATA_BFLOAT16
                             : CUDNN_DATA_FLOAT;
}

static void note(struct dnn_graph *g, cudnnStatus_t status)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        g->status = status;
}

dnn_desc dnn_create(struct dnn_graph *g, cudnnBackendDescriptorType_t type)
{
    dnn_desc d = NULL;
    if (g->ndescs == DNN_MAX_DESCS)
        note(g, CUDNN_STATUS_INTERNAL_ERROR);
    if (g->status == CUDNN_STATUS_SUCCESS)
        note(g, g->dnn->cudnnBackendCreateDescriptor(type, &d));
    if (g->status != CUDNN_STATUS_SUCCESS)
        return NULL;
    return g->desc[g->ndescs++] = d;
}

void dnn_set(struct dnn_graph *g, dnn_desc d, cudnnBackendAttributeName_t name,
             cudnnBackendAttributeType_t type, int64_t count, const void *value)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        note(g, g->dnn->cudnnBackendSetAttribute(d, name, type, count, value));
}

void dnn_set_desc(struct dnn_graph *g, dnn_desc d, cudnnBackendAttributeName_t name, dnn_desc to)
{
    dnn_set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &to);
}

void dnn_finalize(struct dnn_graph *g, dnn_desc d)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        note(g, g->dnn->cudnnBackendFinalize(d));
}

static dnn_desc make_tensor(struct dnn_graph *g, int64_t id, const struct dnn_tensor *t,
                            bool is_virtual, bool by_value)
{
    int64_t align = t->type == CUDNN_DATA_FLOAT && by_value ? 4 : 16;
    dnn_desc d = dnn_create(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    dnn_set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &t->type);
    dnn_set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, t->dim);
    dnn_set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, t->stride);
    dnn_set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    dnn_set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    dnn_set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    dnn_set(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    dnn_finalize(g, d);
    return d;
}

dnn_desc dnn_tensor(struct dnn_graph *g, enum dnn_id id, const struct dnn_tensor *t)
{
    return make_tensor(g, id, t, false, false);
}

dnn_desc dnn_virtual(struct dnn_graph *g, const struct dnn_tensor *t)
{
    return make_tensor(g, DNN_VIRTUAL + g->nvirtual++, t, true, false);
}

dnn_desc dnn_constant(struct dnn_graph *g, float value)
{
    static const struct dnn_tensor one = { CUDNN_DATA_FLOAT, { 1, 1, 1, 1 }, { 1, 1, 1, 1 } };
    if (g->nconstants == DNN_MAX_CONSTANTS) {
        note(g, CUDNN_STATUS_INTERNAL_ERROR);
        return NULL;
    }
    g->constant[g->nconstants] = value;
    return make_tensor(g, DNN_CONSTANT + g->nconstants++, &one, false, true);
}

void dnn_add_op(struct dnn_graph *g, dnn_desc op)
{
    dnn_finalize(g, op);
    if (g->nops == DNN_MAX_OPS)
        note(g, CUDNN_STATUS_INTERNAL_ERROR);
    if (g->status == CUDNN_STATUS_SUCCESS)
        g->op[g->nops++] = op;
}

void dnn_pointwise(struct dnn_graph *g, const struct dnn_pointwise *p)
{
    dnn_desc what = dnn_create(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    dnn_set(g, what, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &p->mode);
    dnn_set(g, what, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &p->compute);
    if (p->mode == CUDNN_POINTWISE_GEN_INDEX)
        dnn_set(g, what, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &p->axis);
    dnn_finalize(g, what);
    dnn_desc op = dnn_create(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, what);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, p->x);
    if (p->b)
        dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, p->b);
    if (p->t)
        dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, p->t);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, p->y);
    dnn_add_op(g, op);
}

bool dnn_graph_finish(struct dnn_graph *g)
{
    g->graph = dnn_create(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    dnn_set(g, g->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->dnn->handle);
    dnn_set(g, g->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->nops,
            g->op);
    dnn_finalize(g, g->graph);
    if (g->status == CUDNN_STATUS_SUCCESS)
        return true;
    dnn_refused(g->dnn, g->status, "describing a graph");
    return false;
}
