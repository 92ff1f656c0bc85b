/* conv.c - convolutions through cuDNN, with bias and residual in its epilogue where it can.
 *
 * What the library does not take as it lies (a concatenation, an upsampled map) is written to
 * scratch memory first. Few channels (pictures, latents) and odd filters are our own kernel's. On
 * cards of 9.0 another one (launch_conv3) is tried beside the library's for 3x3 filters, and is
 * the only one for maps that are exactly doubled, which it reads as they are, and for filters that
 * were loaded for its pairs. Others may have been loaded for launch_winograd, which then is the
 * only one. */
#include "cuda/kernels/args.h"
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

/* Does launch_conv3 double the map? A matter of tape and card alone: it decides about scratch
 * memory. */
static bool doubled(const struct gpu *g, const tape *t, const instr *o)
{
    const tensor *x = o->in[0];
    if (!layout_doubles(g, t, o) || x->part[0] || o->act || o->shift || o->residual)
        return false;
    struct conv3 c = { .x = gview_placed(x), .out = gview_placed(o->out), .doubled = true };
    return launch_conv3_ways(g, &c) > 0;
}

size_t conv_scratch_bytes(const struct gpu *g, const tape *t, const instr *o)
{
    if (doubled(g, t, o))
        return 0;
    size_t up = o->u.conv.up_h ? bytes_of(o->in[0], o->u.conv.up_h, o->u.conv.up_w) : 0;
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

static bool winograd(const struct plan *p, const instr *o)
{
    return weights_form(p->weights, o->weight) == FILTER_WINOGRAD;
}

static bool in_pairs(const struct plan *p, const instr *o)
{
    return weights_form(p->weights, o->weight) == FILTER_PAIRS;
}

/* Is there but one kernel that could run? */
static bool given(const struct plan *p, const instr *o)
{
    return doubled(p->g, p->t, o) || winograd(p, o) || in_pairs(p, o);
}

static struct conv3 with_shortcut(const struct plan *p, const instr *shortcut, struct conv3 c)
{
    const tensor *x = shortcut->in[0];
    for (int i = 0; i < (x->part[0] ? 2 : 1); i++)
        c.shortcut[i] = gview_of(p, x->part[0] ? x->part[i] : x);
    c.shortcut_weight = weights_at(p->weights, shortcut->weight);
    c.shortcut_bias = bias_of(p, shortcut);
    c.out = gview_of(p, shortcut->out);
    return c;
}

/* The same for launch_conv3. The workspace is free: no library runs. */
static struct conv3 own_problem(const struct plan *p, const instr *o, bool join)
{
    struct conv3 c = { .out = gview_of(p, o->out),
                       .bias = bias_of(p, o),
                       .pairs = in_pairs(p, o),
                       .workspace = plan_workspace(p),
                       .bytes = LIBRARY_WORKSPACE };
    c.doubled = doubled(p->g, p->t, o);
    c.x = c.doubled ? gview_of(p, o->in[0]) : input_of(p, o);
    c.weight =
        c.doubled ? weights_doubled(p->weights, o->weight) : weights_at(p->weights, o->weight);
    if (o->residual)
        c.residual = gview_of(p, o->residual);
    return join ? with_shortcut(p, shortcut_behind(p->t, o), c) : c;
}

/* And for launch_winograd. */
static struct winograd winograd_problem(const struct plan *p, const instr *o)
{
    struct winograd w = { .x = input_of(p, o),
                          .out = gview_of(p, o->out),
                          .weight = weights_at(p->weights, o->weight),
                          .bias = bias_of(p, o),
                          .workspace = plan_workspace(p),
                          .bytes = LIBRARY_WORKSPACE };
    if (o->residual)
        w.residual = gview_of(p, o->residual);
    return w;
}

/* Could the shortcut behind it be added? The sum must lie where it will be in the end. */
static bool joins(const struct plan *p, const instr *o)
{
    const instr *shortcut = shortcut_behind(p->t, o);
    if (!shortcut || winograd(p, o) || tensor_home(shortcut->out) != tensor_home(o->out))
        return false;
    struct conv3 c = own_problem(p, o, true);
    return launch_conv3_ways(p->g, &c) > 0;
}

bool conv_joined(const struct plan *p, const instr *linear)
{
    long before = linear - p->t->code - 1;
    return before >= 0 && p->step[before].joined;
}

/* Of a 3x3 filter with a border of zeros, and nothing after its sums but bias and residual. */
static int own_ways(const struct plan *p, const instr *o)
{
    bool plain = o->u.conv.k == 3 && o->u.conv.stride == 1 && o->u.conv.pad == 1 &&
                 o->u.conv.pad_end == 1 && !o->act && !o->shift;
    if (!plain)
        return 0;
    if (winograd(p, o)) {
        struct winograd w = winograd_problem(p, o);
        return launch_winograd_ways(p->g, &w);
    }
    struct conv3 c = own_problem(p, o, false);
    return launch_conv3_ways(p->g, &c);
}

static bool conv3_with(const struct plan *p, const instr *o, int way, const struct conv3 *c)
{
    return (c->doubled || prepare_input(p, o)) && launch_conv3(p->g, c, way) == CUDA_SUCCESS;
}

static bool conv3_run(const struct plan *p, const struct step *s)
{
    struct conv3 c = own_problem(p, s->i, s->joined);
    return conv3_with(p, s->i, s->own[0] - 1, &c);
}

static bool winograd_with(const struct plan *p, const instr *o, int way, const struct winograd *w)
{
    return prepare_input(p, o) && launch_winograd(p->g, w, way) == CUDA_SUCCESS;
}

static bool winograd_run(const struct plan *p, const struct step *s)
{
    struct winograd w = winograd_problem(p, s->i);
    return winograd_with(p, s->i, s->own[0] - 1, &w);
}

/* First the library's plans, then the ways of launch_conv3; or those of launch_winograd. */
struct tuning {
    const struct plan *p;
    struct step *s;
    struct dnn_plan *plan[DNN_PLANS];
    int library, own;
    unsigned turn;
};

static size_t filter_bytes(const struct plan *p, const instr *o)
{
    size_t bytes = param_count(&p->t->params[o->weight]) * dtype_bytes(p->weights->type);
    return winograd(p, o)           ? bytes / 9 * WINOGRAD_TAPS
           : in_pairs(p, o)         ? bytes / 9 * PAIRS_TAPS
           : doubled(p->g, p->t, o) ? bytes / 9 * DOUBLED_TAPS
                                    : bytes;
}

static bool try_conv(void *ctx, int i)
{
    struct tuning *t = ctx;
    const struct plan *p = t->p;
    const instr *o = t->s->i;
    CUdeviceptr filters = weights_elsewhere(p->weights, o->weight, filter_bytes(p, o), t->turn++);
    if (winograd(p, o)) {
        struct winograd w = winograd_problem(p, o);
        w.weight = filters;
        return winograd_with(p, o, i, &w);
    }
    if (i >= t->library) {
        struct conv3 c = own_problem(p, o, false);
        c.weight = filters;
        return conv3_with(p, o, i - t->library, &c);
    }
    t->s->dnn = t->plan[i];
    return dnn_plan_ready(p->g->dnn, t->plan[i]) && conv_with(p, t->s, filters);
}

/* Takes the fastest way; false: there is none. */
static bool tune(struct tuning *t, const struct dnn_conv *q)
{
    struct step *s = t->s;
    bool doubles = doubled(t->p->g, t->p->t, s->i), by_winograd = winograd(t->p, s->i);
    bool pairs = in_pairs(t->p, s->i);
    char key[192], own[32] = "";
    int count = t->library + t->own;
    if (t->own)
        snprintf(own, sizeof own, ", %d of our own", t->own);
    snprintf(key, sizeof key,
             "conv %s %d x %d x %d x %d to %d, %dx%d stride %d pad %d %d%s%s%s%s%s%s",
             dtype_name(q->type), q->n, q->h, q->w, q->c, q->cout, q->k, q->k, q->stride, q->pad,
             q->pad_end, doubles ? " doubled" : "", by_winograd ? " Winograd" : "",
             pairs ? " pairs" : "", q->bias ? " bias" : "", q->residual ? " residual" : "", own);
    int way = count ? choose(t->p->g, key, count, try_conv, t) : -1;
    s->dnn = way >= 0 && way < t->library ? t->plan[way] : NULL;
    s->own[0] = way >= t->library ? 1 + way - t->library : 0;
    s->joined = s->own[0] && joins(t->p, s->i); /* nothing is as fast as a few steps more */
    if (way >= 0)
        s->run = by_winograd ? winograd_run : s->own[0] ? conv3_run : conv_run;
    for (int i = 0; i < t->library; i++)
        if (i != way)
            dnn_plan_free(t->plan[i]);
    return way >= 0;
}

/* A way of the convolution with its sums in the epilogue (ended) or without; false: none. */
static bool find_way(struct plan *p, struct step *s, bool ended, styx_error *err, int *code)
{
    const instr *o = s->i;
    bool doubles = doubled(p->g, p->t, o);
    struct gview x = doubles ? gview_of(p, o->in[0]) : input_of(p, o);
    struct dnn_conv q = { .type = x.type, .n = x.n, .h = x.h, .w = x.w, .c = x.c };
    struct tuning t = { .p = p, .s = s, .own = ended ? own_ways(p, o) : 0 };
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
    if (!given(p, o))
        *code =
            dnn_conv_plans(p->g->dnn, &q, LIBRARY_WORKSPACE, DNN_PLANS, t.plan, &t.library, err);
    return !*code && tune(&t, &q);
}

/* launch_finish reads the residual after the sum has been written: they must not share memory. */
static bool can_finish(const instr *o)
{
    return !o->residual || tensor_home(o->residual) != tensor_home(o->out);
}

static bool same_conv(const struct plan *p, const instr *a, const instr *b)
{
    return same_shape(a->in[0], b->in[0]) && same_shape(a->out, b->out) &&
           memcmp(&a->u.conv, &b->u.conv, sizeof a->u.conv) == 0 && a->act == b->act &&
           (a->bias < 0) == (b->bias < 0) && !a->shift == !b->shift &&
           !a->residual == !b->residual && can_finish(a) == can_finish(b) &&
           doubled(p->g, p->t, a) == doubled(p->g, p->t, b) &&
           weights_form(p->weights, a->weight) == weights_form(p->weights, b->weight) &&
           own_ways(p, a) == own_ways(p, b) && joins(p, a) == joins(p, b);
}

int conv_prepare(struct plan *p, struct step *s, styx_error *err)
{
    const instr *o = s->i;
    bool ended = !o->act && !o->shift;
    int code = STYX_OK;
    if (o->act && !can_finish(o))
        return fail(err, STYX_ERR_INTERNAL, "an activation before a residual written in place");
    if (doubled(p->g, p->t, o) && !weights_doubled(p->weights, o->weight))
        return fail(err, STYX_ERR_INTERNAL, "%s was loaded for a map that is not doubled",
                    p->t->params[o->weight].name);
    s->run = conv_own_run;
    if (own_kernel(o) || step_share(p, s, same_conv) ||
        (ended && find_way(p, s, true, err, &code)) || code)
        return code;
    if (given(p, o))
        return fail(err, STYX_ERR_BACKEND, "no kernel for %s runs on %s",
                    p->t->params[o->weight].name, p->g->name);
    if (can_finish(o))
        find_way(p, s, false, err, &code);
    return code;
}
