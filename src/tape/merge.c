/* merge.c - two passes for devices that like few, large products and whose libraries end a
 * convolution with nothing but its sum.
 *
 *   linear(x), linear(x), ...              -> one linear; its readers take slices of the result
 *   group_norm(conv(x) + bias + shift)     -> the norm adds bias and shift itself
 *   group_norm(x + vector)                 -> the same, of a map whose rows tape_share repeated
 *
 * The first makes one product of the queries, keys and values of a self-attention, of the time
 * embedding's projections of all residual blocks, and of the text's keys and values of many layers.
 * Weights of merged products lie one behind the other on the device, so nothing is copied. */
#include "tape/tape.h"

/* A slice begins at a multiple of this many channels, so that it is aligned for vector loads. */
enum { SLICE_ALIGN = 8 };

/* The widest merged result: streamed weights pass through memory a product at a time, and 32768
 * channels of 2048 are 128 MiB in 16 bits. */
enum { MOST_CHANNELS = 32768, MOST_PRODUCTS = 256 };

static bool is_output(const tape *t, const tensor *x)
{
    for (int i = 0; i < t->nout; i++)
        if (t->out[i] == x)
            return true;
    return false;
}

static bool mergeable(const tape *t, const instr *o)
{
    return o->out && o->op == OP_LINEAR && !o->act && !o->shift && !o->residual &&
           !o->in[0]->part[0] && !o->many && o->out->c % SLICE_ALIGN == 0 && !is_output(t, o->out);
}

static struct merged *merged_new(tape *t, int n)
{
    struct merged *m = tape_alloc(t, sizeof *m);
    int *weight = tape_alloc(t, (size_t)n * sizeof *weight);
    int *bias = tape_alloc(t, (size_t)n * sizeof *bias);
    tensor **part = tape_alloc(t, (size_t)n * sizeof *part);
    if (t->err.code)
        return NULL;
    *m = (struct merged){ t->merged, n, weight, bias, part };
    t->merged = m;
    return m;
}

/* code[group[0]] becomes the product of all of them. */
static void merge(tape *t, const int *group, int n, int channels)
{
    instr *first = &t->code[group[0]];
    tensor *whole = tape_alloc(t, sizeof *whole);
    struct merged *m = merged_new(t, n);
    if (t->err.code)
        return;
    *whole = *first->out;
    whole->c = channels;
    for (int i = 0, at = 0; i < n; at += m->part[i]->c, i++) {
        instr *o = &t->code[group[i]];
        m->weight[i] = o->weight;
        m->bias[i] = o->bias;
        m->part[i] = o->out;
        m->part[i]->whole = whole;
        m->part[i]->at = at;
        o->out = NULL; /* dead, but for the first */
    }
    first->out = whole;
    first->many = m;
}

void tape_merge(tape *t)
{
    int group[MOST_PRODUCTS];
    if (t->err.code)
        return;
    for (int i = 0; i < t->ncode; i++) {
        const instr *a = &t->code[i];
        int n = 0, channels = 0;
        for (int j = i; mergeable(t, a) && j < t->ncode && n < MOST_PRODUCTS; j++) {
            const instr *b = &t->code[j];
            if (!mergeable(t, b) || b->in[0] != a->in[0] || (b->bias < 0) != (a->bias < 0) ||
                t->params[b->weight].coarse != t->params[a->weight].coarse ||
                channels + b->out->c > MOST_CHANNELS)
                continue;
            group[n++] = j;
            channels += b->out->c;
        }
        if (n > 1)
            merge(t, group, n, channels);
    }
    tape_recount(t);
}

static bool adds_vector(const instr *o)
{
    const tensor *x = o->in[0], *y = o->in[1];
    return o->op == OP_ADD && !o->act && !o->residual && x->h * x->w > 1 && y->h * y->w == 1;
}

void tape_defer(tape *t)
{
    if (t->err.code)
        return;
    for (int i = 0; i < t->ncode; i++) {
        instr *norm = &t->code[i];
        const tensor *x = norm->in[0];
        if (norm->op != OP_GROUP_NORM || !x || x->def < 0 || x->uses != 1)
            continue;
        instr *sum = &t->code[x->def];
        if (sum->out == x && adds_vector(sum)) {
            norm->in[0] = sum->in[0];
            norm->shift = sum->in[1];
            sum->out = NULL; /* dead */
            continue;
        }
        if (sum->out != x || sum->op != OP_CONV2D || sum->act || sum->residual)
            continue;
        norm->shift = sum->shift;
        norm->u.norm.before = sum->bias;
        sum->shift = NULL;
        sum->bias = -1;
    }
    tape_recount(t);
}
