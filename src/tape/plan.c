/* plan.c - every value gets a place in one arena.
 *
 * A value lives from the instruction that writes it to the last one that reads it. Elementwise
 * instructions, and sums into a dying residual, write over it. The rest is packed greedily: the
 * biggest value first, into the lowest gap that is free over its whole life. */
#include "tape/tape.h"
#include <stdlib.h>

enum { ALIGN = 256 };

void tape_halo(tape *t)
{
    if (t->err.code)
        return;
    for (int i = 0; i < t->ncode; i++) {
        tensor *x = t->code[i].out;
        int readers = 0;
        if (t->code[i].op != OP_GROUP_NORM)
            continue;
        for (int j = i + 1; j <= x->last && j < t->ncode; j++) {
            const instr *o = &t->code[j];
            bool alone = o->in[0] == x && o->residual != x && o->shift != x;
            if (alone && o->op == OP_CONV2D && o->u.conv.k == 3 && o->u.conv.pad == 1 &&
                o->u.conv.pad_end == 1 && !o->u.conv.up_h)
                readers++;
        }
        x->halo = readers == x->uses && readers > 0;
    }
}

static size_t stored_bytes(const tensor *x)
{
    size_t h = (size_t)x->h + (x->halo ? 2 : 0), w = (size_t)x->w + (x->halo ? 2 : 0);
    size_t bytes = (size_t)x->n * h * w * (size_t)x->c * dtype_bytes(x->type);
    return (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static bool touches(const tensor *x, const tensor *home)
{
    if (!x)
        return false;
    if (x->part[0])
        return touches(x->part[0], home) || touches(x->part[1], home);
    return tensor_home(x) == home;
}

/* May the result of o be written over x, which dies here? */
static bool over(const instr *o, const tensor *x, int at)
{
    const tensor *home, *y = o->out;
    if (!x || x->part[0] || x->whole || x->last != at || x->kept || y->kept || x->halo != y->halo)
        return false;
    home = tensor_home(x);
    if (home->last != at || home->kept || home->def < 0 || home->halo != y->halo)
        return false;
    return x->bytes == y->bytes && home->bytes == y->bytes && x->type == y->type;
}

static void write_in_place(tape *t, int at)
{
    instr *o = &t->code[at];
    tensor *x = NULL;
    switch (o->op) {
    case OP_LINEAR:
    case OP_CONV2D: /* the residual is read just before the sum is written; the rest is not */
        if (over(o, o->residual, at) && !touches(o->in[0], tensor_home(o->residual)) &&
            !touches(o->shift, tensor_home(o->residual)))
            x = o->residual;
        break;
    case OP_ADD:
        if (over(o, o->in[0], at))
            x = o->in[0];
        else if (o->in[1]->h == o->out->h && o->in[1]->w == o->out->w && over(o, o->in[1], at))
            x = o->in[1];
        break;
    case OP_ACT:
    case OP_POSITION:
    case OP_GROUP_NORM:
    case OP_LAYER_NORM:
        if (over(o, o->in[0], at))
            x = o->in[0];
        break;
    default:
        break;
    }
    if (!x)
        return;
    tensor *home = (tensor *)tensor_home(x);
    o->out->alias = home;
    home->last = o->out->last;
}

static int by_size(const void *a, const void *b)
{
    const tensor *x = *(tensor *const *)a, *y = *(tensor *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->def - y->def;
}

/* placed[0..n) is sorted by offset: the lowest gap for x among those that live with it. */
static size_t lowest_gap(tensor *const *placed, int n, const tensor *x)
{
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const tensor *p = placed[i];
        if (p->def > x->last || x->def > p->last)
            continue;
        if (p->offset >= at + x->bytes)
            break;
        if (p->offset + p->bytes > at)
            at = p->offset + p->bytes;
    }
    return at;
}

static void insert(tensor **placed, int n, tensor *x)
{
    for (; n > 0 && placed[n - 1]->offset > x->offset; n--)
        placed[n] = placed[n - 1];
    placed[n] = x;
}

static int collect(tape *t, tensor **v)
{
    int n = 0;
    for (int i = 0; i < t->nin; i++)
        v[n++] = t->in[i];
    for (int i = 0; i < t->ncode; i++)
        v[n++] = t->code[i].out;
    for (int i = 0; i < n; i++) {
        v[i]->bytes = stored_bytes(v[i]);
        if (v[i]->kept)
            v[i]->last = t->ncode;
    }
    return n;
}

static void count_param_uses(tape *t)
{
    for (int i = 0; i < t->nparams; i++)
        t->params[i].first_use = t->params[i].last_use = -1;
    for (int i = 0; i < t->ncode; i++) {
        int used[2] = { t->code[i].weight, t->code[i].bias };
        for (int k = 0; k < 2; k++) {
            if (used[k] < 0)
                continue;
            param *p = &t->params[used[k]];
            if (p->first_use < 0)
                p->first_use = i;
            p->last_use = i;
        }
    }
}

int tape_plan(tape *t, styx_error *err)
{
    int code = 0, n = 0, all = t->nin + t->ncode;
    tensor **v = malloc((size_t)(all + 1) * sizeof *v), **placed = NULL;
    if (t->err.code) {
        code = fail(err, t->err.code, "%s", t->err.text);
        goto done;
    }
    placed = malloc((size_t)(all + 1) * sizeof *placed);
    if (!v || !placed) {
        code = fail_nomem(err, (size_t)all * sizeof *v);
        goto done;
    }
    collect(t, v);
    for (int i = 0; i < t->ncode; i++)
        write_in_place(t, i);
    for (int i = 0; i < all; i++)
        if (!v[i]->alias)
            v[n++] = v[i];
    qsort(v, (size_t)n, sizeof *v, by_size);
    t->arena = t->sum = 0;
    for (int i = 0; i < n; i++) {
        v[i]->offset = lowest_gap(placed, i, v[i]);
        insert(placed, i, v[i]);
        t->sum += v[i]->bytes;
        if (v[i]->offset + v[i]->bytes > t->arena)
            t->arena = v[i]->offset + v[i]->bytes;
    }
    for (int i = 0; i < t->ncode; i++) { /* aliases and slices share the home's place */
        const instr *o = &t->code[i];
        o->out->offset = tensor_home(o->out)->offset;
        for (int k = 0; o->many && k < o->many->count; k++)
            o->many->part[k]->offset = o->out->offset;
    }
    count_param_uses(t);
done:
    free(v);
    free(placed);
    return code;
}
