/* ops.c - the builders: each infers a shape, declares the parameters it needs under the current
 * scope, and appends one instruction. After a failure they return a dummy and record nothing. */
#include "base/bump.h"
#include "tape/tape.h"
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>

enum { MAX_DEPTH = 16, LARGE_MAP = 32 << 20 };

struct recorder {
    struct bump memory;
    char path[256];
    size_t length, mark[MAX_DEPTH];
    int depth, code_cap, param_cap;
    tensor dummy;
};

tape *tape_new(const char *name, enum dtype type)
{
    tape *t = calloc(1, sizeof *t);
    struct recorder *r = calloc(1, sizeof *r);
    if (!t || !r) {
        free(t);
        free(r);
        return NULL;
    }
    r->dummy = (tensor){ .n = 1, .h = 1, .w = 1, .c = 1, .type = type, .def = -1, .last = -1 };
    t->name = name;
    t->type = t->sums = type;
    t->copies = 1;
    t->large = LARGE_MAP;
    t->rec = r;
    return t;
}

void tape_free(tape *t)
{
    if (!t)
        return;
    bump_free(&t->rec->memory);
    free(t->rec);
    free(t->code);
    free(t->params);
    free(t);
}

void tape_fail(tape *t, int code, const char *fmt, ...)
{
    char text[sizeof t->err.text];
    va_list ap;
    if (t->err.code)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fail(&t->err, code, "%s: %s%s", t->name, t->rec->path, text);
}

static void *grow(tape *t, void *array, int n, int *cap, size_t each)
{
    if (n < *cap)
        return array;
    int bigger = *cap ? *cap * 2 : 256;
    void *p = realloc(array, (size_t)bigger * each);
    if (!p) {
        tape_fail(t, STYX_ERR_NOMEM, "out of memory while recording");
        return array;
    }
    *cap = bigger;
    return p;
}

void enter(tape *t, const char *fmt, ...)
{
    struct recorder *r = t->rec;
    char part[128];
    va_list ap;
    if (t->err.code)
        return;
    va_start(ap, fmt);
    int n = vsnprintf(part, sizeof part, fmt, ap);
    va_end(ap);
    if (r->depth == MAX_DEPTH || n < 0 || r->length + (size_t)n + 2 > sizeof r->path) {
        tape_fail(t, STYX_ERR_INTERNAL, "module path is too deep");
        return;
    }
    r->mark[r->depth++] = r->length;
    memcpy(r->path + r->length, part, (size_t)n);
    r->length += (size_t)n;
    r->path[r->length++] = '.';
    r->path[r->length] = 0;
}

void leave(tape *t)
{
    struct recorder *r = t->rec;
    if (t->err.code)
        return;
    r->length = r->mark[--r->depth];
    r->path[r->length] = 0;
}

void *tape_alloc(tape *t, size_t bytes)
{
    void *p = t->err.code ? NULL : bump_alloc(&t->rec->memory, bytes);
    if (!p)
        tape_fail(t, STYX_ERR_NOMEM, "out of memory while recording");
    return p;
}

static tensor *value(tape *t, int n, int h, int w, int c, enum dtype type)
{
    if (t->err.code)
        return &t->rec->dummy;
    if (n < 1 || h < 1 || w < 1 || c < 1 ||
        (double)n * h * w * c > (double)INT_MAX) { /* indices of one value fit an int */
        tape_fail(t, STYX_ERR_INVALID, "a value of %d x %d x %d x %d is not possible", n, h, w, c);
        return &t->rec->dummy;
    }
    tensor *x = tape_alloc(t, sizeof *x);
    if (!x)
        return &t->rec->dummy;
    *x = (tensor){ .n = n, .h = h, .w = w, .c = c, .type = type, .def = -1, .last = -1 };
    return x;
}

static void read_by(tensor *x, int at)
{
    if (!x)
        return;
    x->last = at;
    x->uses++;
}

static tensor *emit(tape *t, int n, int h, int w, int c, instr i)
{
    tensor *x = value(t, n, h, w, c, t->type);
    t->code = grow(t, t->code, t->ncode, &t->rec->code_cap, sizeof *t->code);
    if (t->err.code)
        return &t->rec->dummy;
    for (int k = 0; k < 3; k++)
        read_by(i.in[k], t->ncode);
    x->def = x->last = t->ncode;
    i.out = x;
    t->code[t->ncode++] = i;
    return x;
}

/* The same in another type. */
static tensor *emit_as(tape *t, enum dtype type, int n, int h, int w, int c, instr i)
{
    tensor *x = emit(t, n, h, w, c, i);
    x->type = type;
    return x;
}

/* Declares PATH.at.leaf; unused trailing dimensions are 0. */
static int declare(tape *t, const char *at, const char *leaf, int a, int b, int kh, int kw)
{
    char name[512];
    t->params = grow(t, t->params, t->nparams, &t->rec->param_cap, sizeof *t->params);
    if (t->err.code)
        return -1;
    snprintf(name, sizeof name, "%s%s%s%s", t->rec->path, at, *at && *leaf ? "." : "", leaf);
    param *p = &t->params[t->nparams];
    *p = (param){ .name = bump_string(&t->rec->memory, name), .shape = { a, b, kh, kw } };
    p->dims = kh ? 4 : b ? 2 : 1;
    if (!p->name) {
        tape_fail(t, STYX_ERR_NOMEM, "out of memory while recording");
        return -1;
    }
    return t->nparams++;
}

tensor *input(tape *t, const char *name, int n, int h, int w, int c, enum dtype type, bool once)
{
    tensor *x = value(t, n, h, w, c, type);
    if (t->nin == TAPE_MAX_IN)
        tape_fail(t, STYX_ERR_INTERNAL, "more than %d inputs", TAPE_MAX_IN);
    if (t->err.code)
        return &t->rec->dummy;
    t->in_name[t->nin] = name;
    t->in_once[t->nin] = once;
    return t->in[t->nin++] = x;
}

void output(tape *t, tensor *x)
{
    if (t->nout == TAPE_MAX_OUT)
        tape_fail(t, STYX_ERR_INTERNAL, "more than %d outputs", TAPE_MAX_OUT);
    if (t->err.code)
        return;
    x->uses++; /* the world reads it: never folded away */
    t->out[t->nout++] = x;
}

tensor *embed(tape *t, tensor *ids, const char *at, int vocabulary, int dim)
{
    instr i = { .op = OP_EMBED, .in = { ids }, .bias = -1 };
    i.weight = declare(t, at, "weight", vocabulary, dim, 0, 0);
    return emit_as(t, t->sums, ids->n, ids->h, ids->w, dim, i);
}

tensor *position(tape *t, tensor *x, const char *at, int length)
{
    instr i = { .op = OP_POSITION, .in = { x }, .bias = -1 };
    if (x->h * x->w > length)
        tape_fail(t, STYX_ERR_INVALID, "%s has %d positions, %d were asked for", at, length,
                  x->h * x->w);
    i.weight = declare(t, at, "weight", length, x->c, 0, 0);
    return emit_as(t, x->type, x->n, x->h, x->w, x->c, i);
}

tensor *prepend(tape *t, tensor *x, const char *at)
{
    instr i = { .op = OP_PREPEND, .in = { x }, .bias = -1 };
    i.weight = declare(t, at, "", x->c, 0, 0, 0);
    return emit(t, x->n, 1, x->h * x->w + 1, x->c, i);
}

tensor *timestep(tape *t, tensor *x, int dim, bool flip, float shift)
{
    instr i = { .op = OP_TIMESTEP, .in = { x }, .weight = -1, .bias = -1 };
    i.u.time.dim = dim;
    i.u.time.flip = flip;
    i.u.time.shift = shift;
    if (dim < 2 || dim % 2)
        tape_fail(t, STYX_ERR_UNSUPPORTED, "a time embedding of width %d; an even one is wanted",
                  dim);
    return emit(t, x->n, 1, 1, x->c * dim, i);
}

/* 8-bit products want whole vectors of 16 numbers, and small ones are not worth a second rounding.
 */
static bool bears_eight_bits(int channels)
{
    return channels >= 64 && channels % 16 == 0;
}

static tensor *dense(tape *t, tensor *x, const char *at, int cout, bool bias, int k)
{
    instr i = { .op = OP_LINEAR, .in = { x }, .bias = -1 };
    i.weight = declare(t, at, "weight", cout, x->c, k, k);
    if (i.weight >= 0)
        t->params[i.weight].coarse = t->coarse && bears_eight_bits(x->c) && bears_eight_bits(cout);
    if (bias)
        i.bias = declare(t, at, "bias", cout, 0, 0, 0);
    return emit(t, x->n, x->h, x->w, cout, i);
}

tensor *linear(tape *t, tensor *x, const char *at, int cout)
{
    return dense(t, x, at, cout, true, 0);
}

tensor *linear_nobias(tape *t, tensor *x, const char *at, int cout)
{
    return dense(t, x, at, cout, false, 0);
}

tensor *conv1x1(tape *t, tensor *x, const char *at, int cout)
{
    return dense(t, x, at, cout, true, 1);
}

tensor *conv2d(tape *t, tensor *x, const char *at, int cout, int k, int stride)
{
    return conv2d_pad(t, x, at, cout, k, stride, k / 2, k / 2, true);
}

tensor *conv2d_pad(tape *t, tensor *x, const char *at, int cout, int k, int stride, int pad,
                   int pad_end, bool bias)
{
    instr i = { .op = OP_CONV2D, .in = { x }, .bias = -1 };
    int h = x->h + pad + pad_end - k, w = x->w + pad + pad_end - k;
    i.u.conv.k = k;
    i.u.conv.stride = stride;
    i.u.conv.pad = pad;
    i.u.conv.pad_end = pad_end;
    if (h < 0 || w < 0)
        tape_fail(t, STYX_ERR_INVALID, "%s: a map of %d x %d is smaller than its %d x %d filter",
                  at, x->h, x->w, k, k);
    i.weight = declare(t, at, "weight", cout, x->c, k, k);
    if (bias)
        i.bias = declare(t, at, "bias", cout, 0, 0, 0);
    return emit(t, x->n, h / stride + 1, w / stride + 1, cout, i);
}

static tensor *norm(tape *t, enum op op, tensor *x, const char *at, int groups, float eps)
{
    instr i = { .op = op, .in = { x } };
    i.u.norm.groups = groups;
    i.u.norm.before = -1;
    i.u.norm.eps = eps;
    if (groups < 1 || x->c % groups)
        tape_fail(t, STYX_ERR_INVALID, "%s: %d channels do not divide into %d groups", at, x->c,
                  groups);
    i.weight = declare(t, at, "weight", x->c, 0, 0, 0);
    i.bias = declare(t, at, "bias", x->c, 0, 0, 0);
    return emit(t, x->n, x->h, x->w, x->c, i);
}

tensor *group_norm(tape *t, tensor *x, const char *at, int groups, float eps)
{
    return norm(t, OP_GROUP_NORM, x, at, groups, eps);
}

tensor *layer_norm(tape *t, tensor *x, const char *at, float eps)
{
    return norm(t, OP_LAYER_NORM, x, at, 1, eps);
}

tensor *layer_norm_again(tape *t, tensor *x, const tensor *like)
{
    if (t->err.code)
        return &t->rec->dummy;
    instr i = t->code[like->def];
    i.in[0] = x;
    return emit(t, x->n, x->h, x->w, x->c, i);
}

tensor *attention(tape *t, tensor *q, tensor *k, tensor *v, int heads, bool causal)
{
    instr i = { .op = OP_ATTENTION, .in = { q, k, v }, .weight = -1, .bias = -1 };
    i.u.attn.heads = heads;
    i.u.attn.causal = causal;
    if (heads < 1 || q->c % heads || k->c != q->c || v->c != q->c || k->n != q->n)
        tape_fail(t, STYX_ERR_INVALID, "attention of %d heads over %d and %d channels", heads, q->c,
                  k->c);
    return emit(t, q->n, q->h, q->w, q->c, i);
}

tensor *add(tape *t, tensor *a, tensor *b)
{
    instr i = { .op = OP_ADD, .in = { a, b }, .weight = -1, .bias = -1 };
    bool same = a->h == b->h && a->w == b->w, row = b->h == 1 && b->w == 1;
    if (a->n != b->n || a->c != b->c || !(same || row))
        tape_fail(t, STYX_ERR_INVALID, "sum of %dx%dx%dx%d and %dx%dx%dx%d", a->n, a->h, a->w, a->c,
                  b->n, b->h, b->w, b->c);
    return emit_as(t, a->type, a->n, a->h, a->w, a->c, i);
}

tensor *act(tape *t, tensor *x, enum act a)
{
    instr i = { .op = OP_ACT, .act = a, .in = { x }, .weight = -1, .bias = -1 };
    return emit(t, x->n, x->h, x->w, x->c, i);
}

tensor *geglu(tape *t, tensor *x)
{
    instr i = { .op = OP_GEGLU, .in = { x }, .weight = -1, .bias = -1 };
    return emit(t, x->n, x->h, x->w, x->c / 2, i);
}

tensor *concat(tape *t, tensor *a, tensor *b)
{
    instr i = { .op = OP_CONCAT, .in = { a, b }, .weight = -1, .bias = -1 };
    if (a->n != b->n || a->h != b->h || a->w != b->w)
        tape_fail(t, STYX_ERR_INVALID, "%dx%dx%d cannot be joined with %dx%dx%d", a->n, a->h, a->w,
                  b->n, b->h, b->w);
    return emit(t, a->n, a->h, a->w, a->c + b->c, i);
}

tensor *upsample(tape *t, tensor *x, int h, int w)
{
    instr i = { .op = OP_UPSAMPLE, .in = { x }, .weight = -1, .bias = -1 };
    return emit(t, x->n, h, w, x->c, i);
}

tensor *row(tape *t, tensor *x, tensor *index)
{
    instr i = { .op = OP_ROW, .in = { x, index }, .weight = -1, .bias = -1 };
    return emit_as(t, x->type, x->n, 1, 1, x->c, i);
}

tensor *repeat(tape *t, tensor *x, int copies)
{
    instr i = { .op = OP_REPEAT, .in = { x }, .weight = -1, .bias = -1 };
    return emit_as(t, x->type, x->n * copies, x->h, x->w, x->c, i);
}

size_t param_count(const param *p)
{
    size_t n = 1;
    for (int d = 0; d < p->dims; d++)
        n *= (size_t)p->shape[d];
    return n;
}

size_t tape_parameters(const tape *t)
{
    size_t sum = 0;
    for (int i = 0; i < t->nparams; i++)
        sum += param_count(&t->params[i]);
    return sum;
}

bool instr_reads(const instr *i, const tensor *x)
{
    return i->in[0] == x || i->in[1] == x || i->in[2] == x || i->shift == x || i->residual == x;
}

double instr_flops(const instr *i)
{
    double out = (double)tensor_count(i->out);
    switch (i->op) {
    case OP_LINEAR:
        return 2 * out * i->in[0]->c * (i->act == ACT_GEGLU ? 2 : 1);
    case OP_CONV2D:
        return 2 * out * i->in[0]->c * i->u.conv.k * i->u.conv.k;
    case OP_ATTENTION:
        return 4 * out * i->in[1]->h * i->in[1]->w;
    default:
        return 0;
    }
}
