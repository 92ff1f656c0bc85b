/* fuse.c - folds cheap instructions into their neighbours.
 *
 *   act(norm | linear | conv)      -> the producer's activation
 *   geglu(linear)                  -> the linear's activation: half as many columns are written
 *   linear | conv  + [n,1,1,c]     -> the producer's shift
 *   linear | conv  + x             -> the producer's residual
 *   concat read by norm/linear/conv -> a view: read in place
 *   conv(upsample(x))              -> the convolution reads x
 *
 * Only a value with a single reader may disappear. A producer that takes an operand which is
 * computed after it moves down to its consumer's place. */
#include "tape/tape.h"

static bool makes_sums(const instr *p)
{
    return p->op == OP_LINEAR || p->op == OP_CONV2D;
}

/* The instruction that writes x, if x may be folded into its only reader. */
static instr *sole(tape *t, const tensor *x)
{
    if (!x || x->def < 0 || x->uses != 1)
        return NULL;
    instr *p = &t->code[x->def];
    return p->out == x ? p : NULL;
}

/* The producer p, completed, takes the place of the consumer at. */
static void replace(tape *t, int at, instr *p)
{
    instr merged = *p;
    merged.out = t->code[at].out;
    p->out = NULL; /* dead */
    t->code[at] = merged;
    merged.out->def = at;
}

static void fuse_act(tape *t, int at)
{
    instr *o = &t->code[at], *p = sole(t, o->in[0]);
    if (!p || p->act || p->residual)
        return;
    if (o->op == OP_GEGLU) {
        if (p->op != OP_LINEAR || p->shift)
            return;
        p->act = ACT_GEGLU;
    } else {
        if (!makes_sums(p) && p->op != OP_GROUP_NORM)
            return;
        p->act = o->act;
    }
    replace(t, at, p);
}

static bool vector(const tensor *x)
{
    return x->h * x->w == 1;
}

static void fuse_add(tape *t, int at)
{
    tensor *a = t->code[at].in[0], *b = t->code[at].in[1];
    bool broadcast = vector(b) && !vector(a);
    instr *p = sole(t, a);
    if (broadcast) {
        if (p && makes_sums(p) && !p->act && !p->shift && !p->residual) {
            p->shift = b;
            replace(t, at, p);
        }
        return;
    }
    /* the later producer: the other operand is often a shortcut that it can take in place */
    instr *q = sole(t, b);
    if (!p || !makes_sums(p) || p->residual || p->act == ACT_GEGLU)
        p = NULL;
    if (!q || !makes_sums(q) || q->residual || q->act == ACT_GEGLU)
        q = NULL;
    if (q && (!p || b->def > a->def)) {
        q->residual = a;
        replace(t, at, q);
    } else if (p) {
        p->residual = b;
        replace(t, at, p);
    }
}

static bool reads_parts(const instr *o, const tensor *x)
{
    bool able = makes_sums(o) || o->op == OP_GROUP_NORM;
    return able && o->in[0] == x && o->shift != x && o->residual != x;
}

static void fuse_concat(tape *t, int at)
{
    instr *o = &t->code[at];
    tensor *x = o->out;
    int readers = 0;
    if (o->in[0]->part[0] || o->in[1]->part[0])
        return;
    for (int i = at + 1; i < t->ncode; i++) {
        if (!t->code[i].out || !instr_reads(&t->code[i], x))
            continue;
        if (!reads_parts(&t->code[i], x))
            return;
        readers++;
    }
    if (readers != x->uses) /* an output of the program too */
        return;
    x->part[0] = o->in[0];
    x->part[1] = o->in[1];
    o->out = NULL;
}

static void fuse_upsample(tape *t, int at)
{
    instr *o = &t->code[at], *p = sole(t, o->in[0]);
    if (!p || p->op != OP_UPSAMPLE || o->u.conv.stride != 1)
        return;
    o->u.conv.up_h = p->out->h;
    o->u.conv.up_w = p->out->w;
    o->in[0] = p->in[0];
    p->out = NULL;
}

static void read_at(tensor *x, int at)
{
    if (!x)
        return;
    x->last = at;
    x->uses++;
    read_at(x->part[0], at);
    read_at(x->part[1], at);
    read_at(x->whole, at);
}

void tape_recount(tape *t)
{
    int n = 0;
    for (int i = 0; i < t->ncode; i++)
        if (t->code[i].out)
            t->code[n++] = t->code[i];
    t->ncode = n;
    for (int i = 0; i < t->nin; i++) {
        t->in[i]->last = -1;
        t->in[i]->uses = 0;
    }
    for (int i = 0; i < n; i++) {
        instr *o = &t->code[i];
        o->out->def = o->out->last = i;
        o->out->uses = 0;
        for (int k = 0; o->many && k < o->many->count; k++) {
            o->many->part[k]->def = i;
            o->many->part[k]->uses = 0;
        }
        for (int k = 0; k < 3; k++)
            read_at(o->in[k], i);
        read_at(o->shift, i);
        read_at(o->residual, i);
    }
    for (int i = 0; i < t->nout; i++) {
        t->out[i]->uses++;
        t->out[i]->last = n;
    }
}

void tape_fuse(tape *t)
{
    if (t->err.code)
        return;
    for (int i = 0; i < t->ncode; i++) {
        switch (t->code[i].op) {
        case OP_ACT:
        case OP_GEGLU:
            fuse_act(t, i);
            break;
        case OP_ADD:
            fuse_add(t, i);
            break;
        case OP_CONCAT:
            fuse_concat(t, i);
            break;
        case OP_CONV2D:
            fuse_upsample(t, i);
            break;
        default:
            break;
        }
    }
    tape_recount(t);
}

static void unread(tensor *x)
{
    if (!x)
        return;
    x->uses--;
    unread(x->part[0]);
    unread(x->part[1]);
    unread(x->whole);
}

/* A text encoder's last layers when an earlier state is wanted; all programs of a network declare
 * the same parameters, so that they share weights. */
void tape_prune(tape *t)
{
    if (t->err.code)
        return;
    for (int i = t->ncode - 1; i >= 0; i--) {
        instr *o = &t->code[i];
        if (!o->out || o->out->uses > 0)
            continue;
        for (int k = 0; k < 3; k++)
            unread(o->in[k]);
        unread(o->shift);
        unread(o->residual);
        o->out = NULL;
    }
    tape_recount(t);
}
