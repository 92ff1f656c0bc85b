/* ref.c - the reference backend: every instruction as the plainest loop, f32 storage, double sums.
 *
 * Slow and obviously right: the oracle of the other backends' tests. It honours views, halos,
 * in-place values and the arena exactly as planned, so a mistake of the planner shows here too. */
#include "tape/backend.h"
#include <math.h>
#include <stdlib.h>

struct ref_weights {
    float **data; /* [tape.nparams], f32 */
    int count;
};

struct ref_plan {
    const tape *t;
    const struct ref_weights *w;
    float *arena, *scratch; /* scratch: one row of attention scores, or the pixels of a filter */
    bool hard;
};

struct ref_device {
    bool hard;
};

static int ref_open(const struct device_options *options, void **dev, styx_error *err)
{
    struct ref_device *d = calloc(1, sizeof *d);
    if (!d)
        return fail_nomem(err, sizeof *d);
    d->hard = options && options->hard;
    *dev = d;
    return 0;
}

static void ref_close(void *dev)
{
    free(dev);
}

static void ref_describe(void *dev, char *text, size_t n)
{
    (void)dev;
    snprintf(text, n, "reference loops, f32, 1 thread");
}

static size_t scratch_floats(const tape *t)
{
    size_t most = 1;
    for (int i = 0; i < t->ncode; i++) {
        const instr *o = &t->code[i];
        size_t n = (size_t)o->in[0]->c * 2;
        if (o->op == OP_ATTENTION)
            n = (size_t)o->in[1]->h * (size_t)o->in[1]->w;
        most = n > most ? n : most;
    }
    return most;
}

static void ref_measure(void *dev, const tape *t, size_t budget, struct footprint *need)
{
    (void)dev, (void)budget;
    need->weights = tape_parameters(t) * sizeof(float);
    need->arena = t->arena;
    need->workspace = scratch_floats(t) * sizeof(float);
}

static void ref_unload(void *dev, void *loaded)
{
    struct ref_weights *w = loaded;
    (void)dev;
    if (!w)
        return;
    for (int i = 0; i < w->count && w->data; i++)
        free(w->data[i]);
    free(w->data);
    free(w);
}

static int ref_load(void *dev, const tape *t, const struct weights *from, size_t budget,
                    void **loaded, styx_error *err)
{
    struct ref_weights *w = calloc(1, sizeof *w);
    (void)budget;
    if (!w)
        return fail_nomem(err, sizeof *w);
    w->count = t->nparams;
    w->data = calloc((size_t)t->nparams + 1, sizeof *w->data);
    for (int i = 0; w->data && i < t->nparams; i++) {
        size_t n = span_count(&from->span[i]);
        w->data[i] = malloc(n * sizeof(float));
        if (!w->data[i]) {
            ref_unload(dev, w);
            return fail_nomem(err, n * sizeof(float));
        }
        span_read(&from->span[i], 0, n, w->data[i]);
    }
    if (!w->data) {
        ref_unload(dev, w);
        return fail_nomem(err, (size_t)t->nparams * sizeof *w->data);
    }
    *loaded = w;
    return 0;
}

static void ref_release(void *plan)
{
    struct ref_plan *p = plan;
    if (!p)
        return;
    free(p->arena);
    free(p->scratch);
    free(p);
}

static int ref_prepare(void *dev, const tape *t, void *loaded, void **plan, styx_error *err)
{
    struct ref_plan *p = calloc(1, sizeof *p);
    if (!p)
        return fail_nomem(err, sizeof *p);
    p->t = t;
    p->w = loaded;
    p->hard = ((struct ref_device *)dev)->hard;
    p->arena = malloc(t->arena + 64);
    p->scratch = malloc(scratch_floats(t) * sizeof(float));
    if (!p->arena || !p->scratch) {
        ref_release(p);
        return fail_nomem(err, t->arena);
    }
    if (p->hard)
        memset(p->arena, 0xff, t->arena); /* NaN */
    *plan = p;
    return 0;
}

static float *home(const struct ref_plan *p, const tensor *x)
{
    return p->arena + x->offset / sizeof(float);
}

/* The c channels of one position of a stored value. */
static float *place(const struct ref_plan *p, const tensor *x, int n, int y, int v)
{
    const tensor *all = x->whole ? x->whole : x;
    int edge = x->halo, w = x->w + 2 * edge, h = x->h + 2 * edge;
    size_t at = ((size_t)n * (size_t)h + (size_t)(y + edge)) * (size_t)w + (size_t)(v + edge);
    return home(p, x) + at * (size_t)all->c + x->at;
}

/* The same of any value; a view is gathered into buffer. */
static const float *pixel(const struct ref_plan *p, const tensor *x, int n, int y, int v,
                          float *buffer)
{
    if (!x->part[0])
        return place(p, x, n, y, v);
    int c = x->part[0]->c;
    const float *a = pixel(p, x->part[0], n, y, v, buffer);
    if (a != buffer)
        memcpy(buffer, a, (size_t)c * sizeof *a);
    const float *b = pixel(p, x->part[1], n, y, v, buffer + c);
    if (b != buffer + c)
        memcpy(buffer + c, b, (size_t)x->part[1]->c * sizeof *b);
    return buffer;
}

static void clear_border(const struct ref_plan *p, const tensor *x)
{
    for (int n = 0; n < x->n; n++)
        for (int y = -1; y <= x->h; y++)
            for (int v = -1; v <= x->w; v++)
                if (y < 0 || v < 0 || y == x->h || v == x->w)
                    memset(place(p, x, n, y, v), 0, (size_t)x->c * sizeof(float));
}

static float ref_act(enum act a, float x)
{
    switch (a) {
    case ACT_SILU:
        return x / (1 + expf(-x));
    case ACT_GELU:
    case ACT_GEGLU:
        return 0.5f * x * (1 + erff(x * 0.70710678f));
    case ACT_QUICK_GELU: /* CLIP-L: x sigmoid(1.702 x) */
        return x / (1 + expf(-1.702f * x));
    case ACT_RELU:
        return x > 0 ? x : 0;
    default:
        return x;
    }
}

static double dot(const float *a, const float *b, int n)
{
    double s = 0;
    for (int i = 0; i < n; i++)
        s += (double)a[i] * b[i];
    return s;
}

/* What every sum ends with: act(sum + bias + shift) + residual, each rounded as it would be by an
 * instruction of its own, so that fusing does not change a bit. */
static float finish(const struct ref_plan *p, const instr *o, double sum, int n, int y, int v,
                    int c)
{
    if (o->bias >= 0)
        sum += p->w->data[o->bias][c];
    float r = (float)sum;
    if (o->shift)
        r += place(p, o->shift, n, 0, 0)[c];
    r = ref_act(o->act, r);
    return o->residual ? r + place(p, o->residual, n, y, v)[c] : r;
}

/* Several products of one input, their results side by side. */
static void ref_products(const struct ref_plan *p, const instr *o, const float *a, float *to)
{
    for (int i = 0; i < o->many->count; i++) {
        const float *w = p->w->data[o->many->weight[i]];
        const float *b = o->many->bias[i] < 0 ? NULL : p->w->data[o->many->bias[i]];
        for (int c = 0; c < o->many->part[i]->c; c++) {
            double s = dot(a, w + (size_t)c * o->in[0]->c, o->in[0]->c);
            *to++ = (float)(b ? s + b[c] : s);
        }
    }
}

static void ref_linear(const struct ref_plan *p, const instr *o, int n, int y, int v)
{
    const tensor *x = o->in[0], *out = o->out;
    const float *a = pixel(p, x, n, y, v, p->scratch), *w;
    float *to = place(p, out, n, y, v);
    if (o->many) {
        ref_products(p, o, a, to);
        return;
    }
    w = p->w->data[o->weight];
    for (int c = 0; c < out->c; c++) {
        double s = dot(a, w + (size_t)c * x->c, x->c);
        if (o->act == ACT_GEGLU) { /* rows [value | gate] */
            int g = c + out->c;
            double gate = dot(a, w + (size_t)g * x->c, x->c);
            if (o->bias >= 0) {
                s += p->w->data[o->bias][c];
                gate += p->w->data[o->bias][g];
            }
            to[c] = (float)s * ref_act(ACT_GELU, (float)gate);
            continue;
        }
        to[c] = finish(p, o, s, n, y, v, c);
    }
}

static void ref_conv2d(const struct ref_plan *p, const instr *o, int n, int y, int v)
{
    const tensor *x = o->in[0], *out = o->out;
    int k = o->u.conv.k, h = o->u.conv.up_h ? o->u.conv.up_h : x->h;
    int w = o->u.conv.up_w ? o->u.conv.up_w : x->w;
    float *to = place(p, out, n, y, v);
    for (int c = 0; c < out->c; c++) {
        double s = 0;
        for (int i = 0; i < k * k; i++) {
            int yy = y * o->u.conv.stride + i / k - o->u.conv.pad;
            int vv = v * o->u.conv.stride + i % k - o->u.conv.pad;
            if (yy < 0 || vv < 0 || yy >= h || vv >= w)
                continue;
            /* nearest: source = floor(destination * in / out) */
            const float *a = pixel(p, x, n, yy * x->h / h, vv * x->w / w, p->scratch);
            const float *f = p->w->data[o->weight] + (size_t)c * x->c * k * k + i;
            for (int j = 0; j < x->c; j++)
                s += (double)a[j] * f[(size_t)j * k * k];
        }
        to[c] = finish(p, o, s, n, y, v, c);
    }
}

/* What a group norm sees: its input with the sums that were left to it (tape_defer). */
static const float *norm_input(const struct ref_plan *p, const instr *o, int n, int i)
{
    const tensor *x = o->in[0];
    const float *a = pixel(p, x, n, i / x->w, i % x->w, p->scratch);
    const float *before = o->u.norm.before < 0 ? NULL : p->w->data[o->u.norm.before];
    const float *shift = o->shift ? place(p, o->shift, n, 0, 0) : NULL;
    if (!before && !shift)
        return a;
    for (int c = 0; c < x->c; c++)
        p->scratch[c] = a[c] + (before ? before[c] : 0) + (shift ? shift[c] : 0);
    return p->scratch;
}

static void ref_group_norm(const struct ref_plan *p, const instr *o)
{
    const tensor *x = o->in[0], *out = o->out;
    const float *gain = p->w->data[o->weight], *bias = p->w->data[o->bias];
    int width = x->c / o->u.norm.groups, area = x->h * x->w;
    for (int n = 0; n < x->n; n++) {
        for (int first = 0; first < x->c; first += width) {
            double mean = 0, var = 0;
            for (int i = 0; i < area; i++) {
                const float *a = norm_input(p, o, n, i);
                for (int c = first; c < first + width; c++)
                    mean += a[c];
            }
            mean /= (double)area * width;
            for (int i = 0; i < area; i++) {
                const float *a = norm_input(p, o, n, i);
                for (int c = first; c < first + width; c++)
                    var += (a[c] - mean) * (a[c] - mean);
            }
            double scale = 1 / sqrt(var / ((double)area * width) + (double)o->u.norm.eps);
            for (int i = 0; i < area; i++) {
                const float *a = norm_input(p, o, n, i);
                float *to = place(p, out, n, i / x->w, i % x->w);
                for (int c = first; c < first + width; c++)
                    to[c] = ref_act(o->act, (float)((a[c] - mean) * scale) * gain[c] + bias[c]);
            }
        }
    }
    if (out->halo)
        clear_border(p, out);
}

static void ref_layer_norm(const struct ref_plan *p, const instr *o, int n, int y, int v)
{
    const float *a = place(p, o->in[0], n, y, v);
    const float *gain = p->w->data[o->weight], *bias = p->w->data[o->bias];
    float *to = place(p, o->out, n, y, v);
    int c = o->out->c;
    double mean = 0, var = 0;
    for (int i = 0; i < c; i++)
        mean += a[i];
    mean /= c;
    for (int i = 0; i < c; i++)
        var += (a[i] - mean) * (a[i] - mean);
    double scale = 1 / sqrt(var / c + (double)o->u.norm.eps);
    for (int i = 0; i < c; i++)
        to[i] = (float)((a[i] - mean) * scale) * gain[i] + bias[i];
}

static void ref_attention(const struct ref_plan *p, const instr *o, int n, int y, int v)
{
    const tensor *q = o->in[0], *k = o->in[1];
    int heads = o->u.attn.heads, d = q->c / heads, keys = k->h * k->w, self = y * q->w + v;
    const tensor *values = o->in[2];
    float *to = place(p, o->out, n, y, v), *score = p->scratch;
    for (int h = 0; h < heads; h++) {
        const float *a = place(p, q, n, y, v) + h * d;
        int seen = o->u.attn.causal && self + 1 < keys ? self + 1 : keys;
        float most = -INFINITY;
        double total = 0;
        for (int j = 0; j < seen; j++) {
            const float *key = place(p, k, n, j / k->w, j % k->w) + h * d;
            score[j] = (float)(dot(a, key, d) / sqrt(d));
            most = score[j] > most ? score[j] : most;
        }
        for (int j = 0; j < seen; j++)
            total += score[j] = expf(score[j] - most);
        for (int c = 0; c < d; c++) {
            double s = 0;
            for (int j = 0; j < seen; j++)
                s +=
                    (double)score[j] * place(p, values, n, j / values->w, j % values->w)[h * d + c];
            to[h * d + c] = (float)(s / total);
        }
    }
}

/* f_i = 10000^(-i / (half - shift)); [sin | cos], or [cos | sin] when flipped (DDPM, section 3.3)
 */
static void ref_timestep(const struct ref_plan *p, const instr *o)
{
    const tensor *x = o->in[0];
    int dim = o->u.time.dim, half = dim / 2;
    for (int n = 0; n < x->n; n++) {
        const float *t = place(p, x, n, 0, 0);
        float *to = place(p, o->out, n, 0, 0);
        for (int j = 0; j < x->c; j++) {
            for (int i = 0; i < half; i++) {
                float f = expf(-logf(10000) * (float)i / ((float)half - o->u.time.shift));
                to[j * dim + i + (o->u.time.flip ? half : 0)] = sinf(t[j] * f);
                to[j * dim + i + (o->u.time.flip ? 0 : half)] = cosf(t[j] * f);
            }
        }
    }
}

/* Instructions that only move or combine what lies at one position. */
static void ref_position(const struct ref_plan *p, const instr *o, int n, int y, int v)
{
    const tensor *x = o->in[0], *out = o->out;
    float *to = place(p, out, n, y, v);
    size_t c = (size_t)out->c, here = (size_t)y * out->w + (size_t)v;
    const float *table = o->weight >= 0 ? p->w->data[o->weight] : NULL, *a;
    switch (o->op) {
    case OP_EMBED:
        memcpy(to, table + (size_t)((const int32_t *)home(p, x))[(size_t)n * x->w + here] * c,
               c * sizeof *to);
        break;
    case OP_POSITION:
        a = place(p, x, n, y, v);
        for (size_t i = 0; i < c; i++)
            to[i] = a[i] + table[here * c + i];
        break;
    case OP_PREPEND:
        a = v ? place(p, x, n, (v - 1) / x->w, (v - 1) % x->w) : table;
        memcpy(to, a, c * sizeof *to);
        break;
    case OP_ADD: {
        const tensor *b = o->in[1];
        bool one = b->h * b->w == 1;
        const float *s = place(p, b, n, one ? 0 : y, one ? 0 : v);
        a = place(p, x, n, y, v);
        for (size_t i = 0; i < c; i++)
            to[i] = a[i] + s[i];
        break;
    }
    case OP_ACT:
        a = place(p, x, n, y, v);
        for (size_t i = 0; i < c; i++)
            to[i] = ref_act(o->act, a[i]);
        break;
    case OP_GEGLU:
        a = place(p, x, n, y, v);
        for (size_t i = 0; i < c; i++)
            to[i] = a[i] * ref_act(ACT_GELU, a[c + i]);
        break;
    case OP_CONCAT:
        memcpy(to, pixel(p, x, n, y, v, p->scratch), (size_t)x->c * sizeof *to);
        memcpy(to + x->c, pixel(p, o->in[1], n, y, v, p->scratch),
               (size_t)o->in[1]->c * sizeof *to);
        break;
    case OP_UPSAMPLE:
        memcpy(to, place(p, x, n, y * x->h / out->h, v * x->w / out->w), c * sizeof *to);
        break;
    case OP_REPEAT:
        memcpy(to, place(p, x, n % x->n, y, v), c * sizeof *to);
        break;
    case OP_ROW: {
        int at = ((const int32_t *)home(p, o->in[1]))[n];
        memcpy(to, place(p, x, n, at / x->w, at % x->w), c * sizeof *to);
        break;
    }
    default:
        break;
    }
}

static void ref_at(const struct ref_plan *p, const instr *o, int n, int y, int v)
{
    switch (o->op) {
    case OP_LINEAR:
        ref_linear(p, o, n, y, v);
        break;
    case OP_CONV2D:
        ref_conv2d(p, o, n, y, v);
        break;
    case OP_LAYER_NORM:
        ref_layer_norm(p, o, n, y, v);
        break;
    case OP_ATTENTION:
        ref_attention(p, o, n, y, v);
        break;
    default:
        ref_position(p, o, n, y, v);
    }
}

static void ref_execute(const struct ref_plan *p, const instr *o)
{
    const tensor *x = o->out;
    if (o->op == OP_GROUP_NORM) {
        ref_group_norm(p, o);
        return;
    }
    if (o->op == OP_TIMESTEP) {
        ref_timestep(p, o);
        return;
    }
    for (int n = 0; n < x->n; n++)
        for (int y = 0; y < x->h; y++)
            for (int v = 0; v < x->w; v++)
                ref_at(p, o, n, y, v);
}

/* Hard mode: a value whose last reader has run becomes NaN, so that a late read shows. */
static void poison_dead(const struct ref_plan *p, int at)
{
    const instr *o = &p->t->code[at];
    const tensor *dead[5] = { o->in[0], o->in[1], o->in[2], o->shift, o->residual };
    for (int k = 0; k < 5; k++) {
        if (!dead[k] || dead[k]->part[0])
            continue;
        const tensor *x = tensor_home(dead[k]);
        if (x->last == at && !x->kept && x != tensor_home(o->out))
            memset(home(p, x), 0xff, x->bytes);
    }
}

static int ref_run(void *plan, const struct run_args *args, styx_error *err)
{
    struct ref_plan *p = plan;
    const tape *t = p->t;
    for (int i = 0; i < t->nin; i++) /* once-inputs keep their place between steps */
        if (!(args->again && t->in_once[i]))
            memcpy(home(p, t->in[i]), args->in[i], tensor_count(t->in[i]) * sizeof(float));
    for (int i = args->again ? t->once : 0; i < t->ncode; i++) {
        if (args->cancel && atomic_load(args->cancel))
            return fail(err, STYX_ERR_CANCELLED, "cancelled");
        ref_execute(p, &t->code[i]);
        if (p->hard)
            poison_dead(p, i);
    }
    for (int i = 0; i < t->nout; i++)
        if (args->out[i])
            memcpy(args->out[i], home(p, t->out[i]), tensor_count(t->out[i]) * sizeof(float));
    return 0;
}

const struct backend backend_ref = {
    .name = "ref",
    .halo = true,
    .dtype = { [DT_F32] = true },
    .open = ref_open,
    .close = ref_close,
    .describe = ref_describe,
    .measure = ref_measure,
    .load = ref_load,
    .unload = ref_unload,
    .prepare = ref_prepare,
    .run = ref_run,
    .release = ref_release,
};
