/* conv.c - convolutions through cuDNN, with bias and residual in its epilogue where it can.
 *
 * What the library does not take as it lies (a concatenation, an upsampled map) is written to
 * scratch memory first. Few channels (pictures, latents) and odd filters are our own kernel's. */
#include "cuda/step.h"
#include <stdio.h>

enum { FEW = 8 }; /* the library's fast kernels want multiples of 8 channels */

static bool own_kernel(const instr *o)
{
    return o->in[0]->c % FEW || o->out->c % FEW || o->u.conv.k > 5;
}

static size_t bytes_of(const tensor *x, int h, int w)
{
    return (size_t)x->n * (size_t)h * (size_t)w * (size_t)x->c * dtype_bytes(x->type);
}

static size_t joined_bytes(const instr *o)
{
    const tensor *x = o->in[0];
    return x->part[0] ? aligned(bytes_of(x, x->h, x->w)) : 0;
}

size_t conv_scratch_bytes(const tape *t, const instr *o)
{
    size_t up = o->u.conv.up_h ? bytes_of(o->in[0], o->u.conv.up_h, o->u.conv.up_w) : 0;
    (void)t;
    return joined_bytes(o) + up;
}

/* The input as the convolution reads it, once prepare_input has run. */
static struct gview input_of(const struct plan *p, const instr *o)
{
    const tensor *x = o->in[0];
    struct gview in = x->part[0] ? gview_dense(x, x->c, plan_scratch(p)) : gview_of(p, x);
    if (!o->u.conv.up_h)
        return in;
    in = gview_dense(x, x->c, plan_scratch(p) + joined_bytes(o));
    in.h = o->u.conv.up_h;
    in.w = o->u.conv.up_w;
    return in;
}

static bool prepare_input(const struct plan *p, const instr *o)
{
    const tensor *x = o->in[0];
    struct gview in, out = input_of(p, o);
    if (x->part[0]) {
        struct gview a = gview_of(p, x->part[0]), b = gview_of(p, x->part[1]);
        in = gview_dense(x, x->c, plan_scratch(p));
        if (launch_concat(p->g, &a, &b, &in) != CUDA_SUCCESS)
            return false;
    } else {
        in = gview_of(p, x);
    }
    return !o->u.conv.up_h || launch_upsample(p->g, &in, &out) == CUDA_SUCCESS;
}

static CUdeviceptr bias_of(const struct plan *p, const instr *o)
{
    return o->bias >= 0 ? weights_at(p->weights, o->bias) : 0;
}

static bool conv_own_run(const struct plan *p, const struct step *s)
{
    const instr *o = s->i;
    struct gview x = input_of(p, o), out = gview_of(p, o->out), shift, residual;
    bool plain = o->act == ACT_NONE;
    if (o->shift)
        shift = gview_of(p, o->shift);
    if (o->residual)
        residual = gview_of(p, o->residual);
    if (!prepare_input(p, o) ||
        launch_conv(p->g, &x, weights_at(p->weights, o->weight), o->u.conv.k, o->u.conv.stride,
                    o->u.conv.pad, bias_of(p, o), o->shift ? &shift : NULL,
                    o->residual && plain ? &residual : NULL, &out) != CUDA_SUCCESS)
        return false;
    return plain || launch_finish(p->g, &out, 0, NULL, o->act, o->residual ? &residual : NULL,
                                  &out) == CUDA_SUCCESS;
}

static bool conv_with(const struct plan *p, const struct step *s, CUdeviceptr filters)
{
    const instr *o = s->i;
    struct gview x = input_of(p, o), out = gview_of(p, o->out), shift, residual = { 0 };
    if (o->shift)
        shift = gview_of(p, o->shift);
    if (o->residual)
        residual = gview_of(p, o->residual);
    if (!prepare_input(p, o) ||
        !dnn_conv_run(p->g->dnn, s->dnn, x.data, filters, s->finish ? 0 : bias_of(p, o),
                      s->finish ? 0 : residual.data, out.data, plan_workspace(p)))
        return false;
    return !s->finish || launch_finish(p->g, &out, bias_of(p, o), o->shift ? &shift : NULL, o->act,
                                       o->residual ? &residual : NULL, &out) == CUDA_SUCCESS;
}

static bool conv_run(const struct plan *p, const struct step *s)
{
    return conv_with(p, s, weights_at(p->weights, s->i->weight));
}

struct tuning {
    const struct plan *p;
    struct step *s;
    struct dnn_plan **plan;
    unsigned turn;
};

static bool try_conv(void *ctx, int i)
{
    struct tuning *t = ctx;
    const struct loaded *weights = t->p->weights;
    const instr *o = t->s->i;
    size_t bytes = param_count(&t->p->t->params[o->weight]) * dtype_bytes(weights->type);
    t->s->dnn = t->plan[i];
    return dnn_plan_ready(t->p->g->dnn, t->plan[i]) &&
           conv_with(t->p, t->s, weights_elsewhere(weights, o->weight, bytes, t->turn++));
}

/* The plans of the convolution with its sums in the epilogue (ended) or without; false: none. */
static bool find_plan(struct plan *p, struct step *s, bool ended, styx_error *err, int *code)
{
    const instr *o = s->i;
    struct gview x = input_of(p, o);
    struct dnn_conv q = { .type = x.type, .n = x.n, .h = x.h, .w = x.w, .c = x.c };
    struct dnn_plan *plan[DNN_PLANS];
    struct tuning tuning = { p, s, plan, 0 };
    int count = 0, way = -1;
    char key[160];
    q.cout = o->out->c;
    q.k = o->u.conv.k;
    q.stride = o->u.conv.stride;
    q.pad = o->u.conv.pad;
    q.pad_end = o->u.conv.pad_end;
    q.out_h = o->out->h;
    q.out_w = o->out->w;
    q.bias = ended && o->bias >= 0;
    q.residual = ended && o->residual;
    s->finish = !ended && (o->bias >= 0 || o->residual || o->shift || o->act);
    *code = dnn_conv_plans(p->g->dnn, &q, LIBRARY_WORKSPACE, DNN_PLANS, plan, &count, err);
    if (*code)
        return false;
    snprintf(key, sizeof key, "conv %s %d x %d x %d x %d to %d, %dx%d stride %d pad %d %d%s%s",
             dtype_name(q.type), q.n, q.h, q.w, q.c, q.cout, q.k, q.k, q.stride, q.pad, q.pad_end,
             q.bias ? " bias" : "", q.residual ? " residual" : "");
    if (count > 0)
        way = choose(p->g, key, count, try_conv, &tuning);
    s->dnn = way >= 0 ? plan[way] : NULL;
    for (int i = 0; i < count; i++)
        if (i != way)
            dnn_plan_free(plan[i]);
    return way >= 0;
}

/* launch_finish reads the residual after the sum has been written: they must not share memory. */
static bool can_finish(const instr *o)
{
    return !o->residual || tensor_home(o->residual) != tensor_home(o->out);
}

static bool same_conv(const struct plan *p, const instr *a, const instr *b)
{
    (void)p;
    return same_shape(a->in[0], b->in[0]) && same_shape(a->out, b->out) &&
           memcmp(&a->u.conv, &b->u.conv, sizeof a->u.conv) == 0 && a->act == b->act &&
           (a->bias < 0) == (b->bias < 0) && !a->shift == !b->shift &&
           !a->residual == !b->residual && can_finish(a) == can_finish(b);
}

int conv_prepare(struct plan *p, struct step *s, styx_error *err)
{
    const instr *o = s->i;
    bool ended = !o->act && !o->shift;
    int code = STYX_OK;
    s->run = conv_own_run;
    if (o->act && !can_finish(o))
        return fail(err, STYX_ERR_INTERNAL, "an activation before a residual written in place");
    if (own_kernel(o) || step_share(p, s, same_conv))
        return STYX_OK;
    if ((ended && find_plan(p, s, true, err, &code)) ||
        (!code && can_finish(o) && find_plan(p, s, false, err, &code)))
        s->run = conv_run;
    return code;
}
