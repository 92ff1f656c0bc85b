/* linear.c - linear layers: products with the bias and the residual where the sums end.
 *
 * cuBLASLt's GELU is the tanh form, so activations are kernels of our own after the product.
 * GEGLU's two halves are one product into scratch memory; but on cards of 9.0 our own product has
 * GEGLU where the sums end, and is tried beside the library's for other layers. An input of two
 * parts is two products, the second on top of the first. Merged layers (tape_merge) are one product
 * with a taller matrix.
 *
 * A layer norm whose result one layer reads has its gain and offset in that layer's weights
 * (load.h). Where our own product goes over the rest of the norm as well, that is tried beside the
 * norm and each product after it.
 *
 * Under fp8, layers that bear it multiply e4m3: their weights lie so on the card (load.h). Their
 * input, with a scale for each token, is written so by the norm or GEGLU before it where nobody
 * else reads that, else to scratch memory right before the product. */
#include "cuda/step.h"
#include <stdio.h>

/* First the library's ways, if it was asked for any, then those of launch_linear, then those that
 * have the norm in them, if there are any: then the others go after the norm. */
struct tuning {
    struct gpu *g;
    struct product_plan *plan;
    struct product_pointers at;
    struct linear own, normed;
    int library, nown, nnormed;
    const struct loaded *weights; /* of which the matrix is parameter `weight`; or NULL */
    int weight;
    size_t bytes;
    unsigned turn;
};

static bool try_product(void *ctx, int i)
{
    struct tuning *t = ctx;
    if (t->weights)
        t->at.w = t->own.weight = t->normed.weight =
            weights_elsewhere(t->weights, t->weight, t->bytes, t->turn++);
    if (i >= t->library + t->nown)
        return launch_linear(t->g, &t->normed, i - t->library - t->nown) == CUDA_SUCCESS;
    if (t->nnormed && launch_layer_norm(t->g, &t->normed.x, 0, 0, t->normed.eps, &t->own.x, 0))
        return false;
    if (i >= t->library)
        return launch_linear(t->g, &t->own, i - t->library) == CUDA_SUCCESS;
    blas_choose(t->plan, i);
    return blas_run(t->g->blas, t->plan, &t->at);
}

/* The way to take, or an error. */
static int tune(struct tuning *t, const struct product *p, styx_error *err)
{
    char key[224], ours[64] = "";
    int n = 0;
    if (t->nown)
        n = snprintf(ours, sizeof ours, "%s, %d of our own", t->library ? "" : " GEGLU", t->nown);
    if (t->nnormed)
        snprintf(ours + n, sizeof ours - (size_t)n, ", %d with the norm", t->nnormed);
    snprintf(key, sizeof key, "product %s%s %ld x %d x %d rows %ld %ld %ld%s%s%s%s%s",
             p->eight ? "E4M3 to " : "", dtype_name(p->type), p->m, p->n, p->k, p->x_row, p->w_row,
             p->out_row, p->bias ? " bias" : "", p->residual ? " residual" : "",
             p->untied ? " untied" : "", p->f32_out ? " to F32" : "", ours);
    int way = choose(t->g, key, t->library + t->nown + t->nnormed, try_product, t);
    if (way < 0)
        return fail(err, STYX_ERR_BACKEND, "none of the ways of a %s can run: %s", key,
                    blas_error(t->g->blas));
    return way;
}

int blas_tune(struct gpu *g, struct product_plan *plan, const struct product *p,
              const struct product_pointers *at, styx_error *err)
{
    struct tuning t = { .g = g, .plan = plan, .at = *at, .library = blas_ways(plan) };
    int way = tune(&t, p, err);
    if (way < 0)
        return way;
    blas_choose(plan, way);
    return STYX_OK;
}

static bool geglu_act(const instr *o)
{
    return o->act == ACT_GEGLU;
}

/* Does the product leave something to launch_finish? */
static bool left_over(const instr *o)
{
    return !geglu_act(o) && (o->act || o->shift);
}

static int width(const instr *o)
{
    return o->out->c * (geglu_act(o) ? 2 : 1);
}

static long pixels(const tensor *x)
{
    return (long)x->n * x->h * x->w;
}

static bool is_eight(const struct gpu *g, const tape *t, const instr *o)
{
    return g->fp8 && t->params[first_weight(o)].coarse;
}

/* A row is read by a kernel that keeps it whole, and not in place over what others still read. */
bool linear_coded(const struct gpu *g, const tape *t, const tensor *x)
{
    if (!g->fp8 || x->def < 0 || x->uses != 1 || x->last >= t->ncode || x->alias || x->whole)
        return false;
    const instr *by = &t->code[x->def], *reader = &t->code[x->last];
    bool norm = by->op == OP_LAYER_NORM && x->c <= NORM_EIGHT_MOST;
    bool geglu = by->op == OP_LINEAR && geglu_act(by) && x->c <= GEGLU_EIGHT_MOST;
    return (norm || geglu) && reader->op == OP_LINEAR && reader->in[0] == x &&
           is_eight(g, t, reader);
}

/* Is GEGLU where the sums end? A matter of tape and card alone: it decides about scratch memory. */
static bool fused(const struct gpu *g, const tape *t, const instr *o)
{
    const tensor *x = o->in[0];
    if (!geglu_act(o) || x->part[0] || is_eight(g, t, o) || linear_coded(g, t, o->out))
        return false;
    struct linear l = {
        .x = gview_placed(x), .out = gview_placed(o->out), .weight_row = x->c, .geglu = true
    };
    return launch_linear_ways(g, &l) > 0;
}

/* Where the product goes: scratch if it is not yet the result, or if the result lies where the
 * residual is still wanted. */
static bool through_scratch(const struct gpu *g, const tape *t, const instr *o)
{
    return (geglu_act(o) && !fused(g, t, o)) || (left_over(o) && o->residual);
}

/* Of what is not yet the result. */
static size_t sums_bytes(const struct gpu *g, const tape *t, const instr *o)
{
    size_t count = (size_t)pixels(o->out) * (size_t)width(o);
    return through_scratch(g, t, o) ? aligned(count * dtype_bytes(o->out->type)) : 0;
}

CUdeviceptr linear_scales(const struct plan *p, const tensor *x)
{
    return linear_coded(p->g, p->t, x) ? gview_of(p, x).data + tensor_count(x) : 0;
}

/* Does the input have to be written to scratch memory? */
static bool codes_input(const struct gpu *g, const tape *t, const instr *o)
{
    return is_eight(g, t, o) && !linear_coded(g, t, o->in[0]);
}

/* Scratch memory: sums, then the input as e4m3, then its scales. */
size_t linear_scratch(const struct gpu *g, const tape *t, const instr *o)
{
    const tensor *x = o->in[0];
    size_t coded = tensor_count(x) + (size_t)pixels(x) * sizeof(float);
    return sums_bytes(g, t, o) + (codes_input(g, t, o) ? coded : 0);
}

static CUdeviceptr coded_at(const struct plan *p, const instr *o)
{
    return codes_input(p->g, p->t, o) ? plan_scratch(p) + sums_bytes(p->g, p->t, o)
                                      : gview_of(p, o->in[0]).data;
}

/* 16 divides the number of channels, so scales are aligned. */
static CUdeviceptr scales_at(const struct plan *p, const instr *o)
{
    return coded_at(p, o) + tensor_count(o->in[0]);
}

static struct gview target(const struct plan *p, const instr *o)
{
    return through_scratch(p->g, p->t, o) ? gview_dense(o->out, width(o), plan_scratch(p))
                                          : gview_of(p, o->out);
}

static const tensor *part_of(const instr *o, int part)
{
    const tensor *x = o->in[0];
    return x->part[0] ? x->part[part] : x;
}

/* 0 if there is none. */
static CUdeviceptr bias_at(const struct plan *p, const instr *o)
{
    int bias = o->many ? o->many->bias[0] : o->bias;
    CUdeviceptr shift = weights_shift(p->weights, first_weight(o));
    return shift ? shift : bias >= 0 ? weights_at(p->weights, bias) : 0;
}

static struct product problem(const struct plan *p, const instr *o, int part)
{
    struct gview x = gview_of(p, part_of(o, part)), out = target(p, o);
    bool sum = o->residual && !left_over(o);
    struct product q = { .type = x.type, .m = gview_pixels(&out), .n = width(o), .k = x.c };
    q.eight = is_eight(p->g, p->t, o);
    q.x_row = q.eight ? x.c : x.row;
    q.w_row = o->in[0]->c;
    q.out_row = out.row;
    q.bias = part == 0 && bias_at(p, o);
    q.residual = part == 1 || sum;
    q.residual_row = part == 0 && sum ? gview_of(p, o->residual).row : out.row;
    return q;
}

static struct product_pointers pointers(const struct plan *p, const instr *o, int part)
{
    int weight = first_weight(o);
    struct gview x = gview_of(p, part_of(o, part)), out = target(p, o);
    size_t skipped = part ? (size_t)o->in[0]->part[0]->c * dtype_bytes(x.type) : 0;
    struct product_pointers at = { .x = x.data, .out = out.data, .residual = out.data };
    at.w = weights_at(p->weights, weight) + skipped;
    at.bias = bias_at(p, o);
    if (part == 0 && o->residual && !left_over(o))
        at.residual = gview_of(p, o->residual).data;
    if (is_eight(p->g, p->t, o)) {
        at.x = coded_at(p, o);
        at.x_scale = scales_at(p, o);
        at.w_scale = weights_vector(p->weights, weight);
    }
    at.workspace = plan_workspace(p);
    return at;
}

/* The input as e4m3. */
static bool code_input(const struct plan *p, const instr *o)
{
    struct gview x = gview_of(p, o->in[0]);
    return launch_eight(p->g, &x, coded_at(p, o), scales_at(p, o)) == CUDA_SUCCESS;
}

/* The same for launch_linear. */
static struct linear own_problem(const struct plan *p, const instr *o, int part)
{
    struct product q = problem(p, o, part);
    struct product_pointers at = pointers(p, o, part);
    struct linear l = { .x = gview_of(p, part_of(o, part)),
                        .out = target(p, o),
                        .weight = at.w,
                        .bias = q.bias ? at.bias : 0,
                        .weight_row = q.w_row,
                        .geglu = fused(p->g, p->t, o) };
    if (q.residual) {
        l.residual = l.out;
        l.residual.data = at.residual;
        l.residual.row = q.residual_row;
    }
    return l;
}

static int own_ways(const struct plan *p, const instr *o, int part)
{
    struct linear l = own_problem(p, o, part);
    return is_eight(p->g, p->t, o) ? 0 : launch_linear_ways(p->g, &l);
}

/* The same with the norm before it. */
static struct linear normed_problem(const struct plan *p, const instr *o)
{
    const instr *norm = norm_before(p->t, o);
    struct linear l = own_problem(p, o, 0);
    l.x = gview_of(p, norm->in[0]);
    l.normed = true;
    l.eps = norm->u.norm.eps;
    return l;
}

/* None if what the norm reads is not there any more. */
static int normed_ways(const struct plan *p, const instr *o)
{
    if (!weights_shift(p->weights, first_weight(o)))
        return 0;
    struct linear l = normed_problem(p, o);
    const tensor *x = norm_before(p->t, o)->in[0];
    bool there = x->last > o - p->t->code && x->type == o->out->type;
    return there ? launch_linear_ways(p->g, &l) : 0;
}

enum taken_part linear_takes(const struct plan *p, const instr *norm)
{
    const tape *t = p->t;
    const instr *reader = norm->out->last < t->ncode ? &t->code[norm->out->last] : norm;
    if (norm_before(t, reader) != norm || !weights_shift(p->weights, first_weight(reader)))
        return NORM_KEPT;
    return p->step[norm->out->last].normed ? NORM_ALL : NORM_GAIN;
}

static bool run_product(const struct plan *p, const struct step *s, int part)
{
    if (s->own[part]) {
        struct linear l = s->normed ? normed_problem(p, s->i) : own_problem(p, s->i, part);
        return launch_linear(p->g, &l, s->own[part] - 1) == CUDA_SUCCESS;
    }
    struct product_pointers at = pointers(p, s->i, part);
    return blas_run(p->g->blas, s->product[part], &at);
}

static bool linear_run(const struct plan *p, const struct step *s)
{
    const instr *o = s->i;
    struct gview out = gview_of(p, o->out), sums = target(p, o), shift, residual;
    if (codes_input(p->g, p->t, o) && !code_input(p, o))
        return false;
    for (int part = 0; part < (o->in[0]->part[0] ? 2 : 1); part++)
        if (!run_product(p, s, part))
            return false;
    if (geglu_act(o) && !fused(p->g, p->t, o))
        return launch_geglu(p->g, &sums, &out, linear_scales(p, o->out)) == CUDA_SUCCESS;
    if (!left_over(o))
        return true;
    if (o->shift)
        shift = gview_of(p, o->shift);
    if (o->residual)
        residual = gview_of(p, o->residual);
    return launch_finish(p->g, &sums, 0, o->shift ? &shift : NULL, o->act,
                         o->residual ? &residual : NULL, &out) == CUDA_SUCCESS;
}

/* Does parameter b lie right behind a, and its scales behind a's? */
static bool follows(const struct plan *p, int a, int b)
{
    const struct loaded *l = p->weights;
    const param *q = &p->t->params[a];
    size_t scales = (size_t)q->shape[0] * sizeof(float);
    return weights_at(l, b) == weights_at(l, a) + layout_bytes(&l->layout, p->t, a) &&
           (!(p->g->fp8 && q->coarse) || weights_vector(l, b) == weights_vector(l, a) + scales);
}

/* The parameters of merged products must lie one behind the other. */
static int check_neighbours(const struct plan *p, const instr *o, styx_error *err)
{
    for (int i = 1; o->many && i < o->many->count; i++) {
        const int *w = o->many->weight, *b = o->many->bias;
        if (!follows(p, w[i - 1], w[i]) || (b[i] >= 0 && !follows(p, b[i - 1], b[i])))
            return fail(err, STYX_ERR_INTERNAL, "%s and %s are not neighbours on the card",
                        p->t->params[w[i - 1]].name, p->t->params[w[i]].name);
    }
    return STYX_OK;
}

/* A matrix that took up a norm is good for what that norm leaves and for nothing else. */
static int check_norm(const struct plan *p, const instr *o, styx_error *err)
{
    int weight = first_weight(o), gamma = p->weights->layout.taken[weight].gamma;
    const instr *norm = norm_before(p->t, o);
    if (gamma < 0 || (norm && norm->weight == gamma))
        return STYX_OK;
    return fail(err, STYX_ERR_INTERNAL, "%s took up %s, which is not before it",
                p->t->params[weight].name, p->t->params[gamma].name);
}

/* Where they lie is no part of the problem. */
static bool same_product(const struct product *a, const struct product *b)
{
    return a->type == b->type && a->eight == b->eight && a->m == b->m && a->n == b->n &&
           a->k == b->k && a->x_row == b->x_row && a->w_row == b->w_row &&
           a->out_row == b->out_row && a->bias == b->bias && a->residual == b->residual &&
           a->residual_row == b->residual_row;
}

static bool same_linear(const struct plan *p, const instr *a, const instr *b)
{
    bool same = !conv_joined(p, a) && same_shape(a->in[0], b->in[0]) &&
                same_shape(a->out, b->out) && !a->in[0]->part[0] == !b->in[0]->part[0];
    for (int part = 0; same && part < (a->in[0]->part[0] ? 2 : 1); part++) {
        struct product x = problem(p, a, part), y = problem(p, b, part);
        same = same_product(&x, &y) && own_ways(p, a, part) == own_ways(p, b, part);
    }
    int ways = same ? normed_ways(p, a) : 0;
    return same && ways == normed_ways(p, b) &&
           (!ways || normed_problem(p, a).x.row == normed_problem(p, b).x.row);
}

/* The library is not asked for what has GEGLU in it. */
static int prepare_product(struct plan *p, struct step *s, int part, styx_error *err)
{
    struct product q = problem(p, s->i, part);
    struct tuning t = { .g = p->g,
                        .at = pointers(p, s->i, part),
                        .own = own_problem(p, s->i, part),
                        .nown = own_ways(p, s->i, part),
                        .nnormed = normed_ways(p, s->i),
                        .weights = p->weights,
                        .weight = first_weight(s->i) };
    t.bytes = (size_t)q.n * (size_t)q.w_row * (q.eight ? 1 : dtype_bytes(q.type));
    if (t.nnormed)
        t.normed = normed_problem(p, s->i);
    if (!t.own.geglu) {
        int code = blas_plans(p->g->blas, &q, LIBRARY_WORKSPACE, &s->product[part], err);
        if (code)
            return code;
        t.plan = s->product[part];
        t.library = blas_ways(t.plan);
    }
    int way = tune(&t, &q, err);
    if (way < 0)
        return way;
    s->normed = way >= t.library + t.nown;
    if (way >= t.library)
        s->own[part] = 1 + way - t.library - (s->normed ? t.nown : 0);
    else
        blas_choose(t.plan, way);
    return STYX_OK;
}

static bool joined_run(const struct plan *p, const struct step *s)
{
    (void)p, (void)s;
    return true;
}

int linear_prepare(struct plan *p, struct step *s, styx_error *err)
{
    const instr *o = s->i;
    int parts = o->in[0]->part[0] ? 2 : 1, code = check_neighbours(p, o, err);
    if (!code)
        code = check_norm(p, o, err);
    if (!code && parts == 2 && is_eight(p->g, p->t, o))
        return fail(err, STYX_ERR_INTERNAL, "%s has an input in two parts, and bears 8 bits",
                    p->t->params[o->weight].name);
    s->run = joined_run;
    if (code || conv_joined(p, o) || step_share(p, s, same_linear))
        return code;
    s->run = linear_run;
    for (int part = 0; part < parts && !code; part++)
        code = prepare_product(p, s, part, err);
    return code;
}
