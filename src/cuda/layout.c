/* layout.c - the order of parameters in the image of a network's weights. */
#include "cuda/kernels/args.h"
#include "cuda/load.h"
#include <stdlib.h>

static bool eight(const struct layout *l, const param *p)
{
    return l->fp8 && p->coarse;
}

size_t layout_bytes(const struct layout *l, const tape *t, int p)
{
    const param *q = &t->params[p];
    size_t own = param_count(q) * (eight(l, q) ? 1 : dtype_bytes(t->type));
    if (l->form[p])
        return own / 9 * (l->form[p] == FILTER_WINOGRAD ? (int)WINOGRAD_TAPS : (int)PAIRS_TAPS);
    return l->doubled[p] ? own + own / 9 * DOUBLED_TAPS : own;
}

const instr *norm_before(const tape *t, const instr *linear)
{
    const tensor *x = linear->in[0];
    if (linear->op != OP_LINEAR || x->def < 0 || x->uses != 1)
        return NULL;
    const instr *norm = &t->code[x->def];
    return norm->op == OP_LAYER_NORM ? norm : NULL;
}

/* Layers that could have the norm in their product (launch_linear). All programs of a network must
 * agree on them: they do where its recording says that what a norm writes is for products alone
 * (param.coarse). */
static bool takes_norm(const struct gpu *g, const tape *t, const instr *o)
{
    return g->sm == 90 && !g->fp8 && t->type != DT_F32 && norm_before(t, o) && !o->shift &&
           !o->residual && (!o->act || o->act == ACT_GEGLU) && t->params[first_weight(o)].coarse;
}

static void take_norms(const struct gpu *g, const tape *t, struct layout *l)
{
    for (int i = 0; i < t->nparams; i++)
        l->taken[i].gamma = -1;
    for (int i = 0; i < t->ncode; i++) {
        const instr *o = &t->code[i];
        if (o->op != OP_LINEAR || !takes_norm(g, t, o))
            continue;
        const instr *norm = norm_before(t, o);
        for (int k = 0; k < (o->many ? o->many->count : 1); k++)
            l->taken[o->many ? o->many->weight[k] : o->weight] =
                (struct taken){ norm->weight, norm->bias, o->many ? o->many->bias[k] : o->bias };
    }
}

const instr *shortcut_behind(const tape *t, const instr *o)
{
    const instr *next = o + 1;
    bool sum = o->op == OP_CONV2D && o->u.conv.k == 3 && o->u.conv.stride == 1 &&
               o->u.conv.pad == 1 && o->u.conv.pad_end == 1 && !o->u.conv.up_h && !o->act &&
               !o->shift && !o->residual && o->out->uses == 1;
    return sum && next < t->code + t->ncode && next->op == OP_LINEAR && next->residual == o->out &&
                   !next->act && !next->shift && !next->many && !t->params[next->weight].coarse &&
                   next->out->type == o->out->type
               ? next
               : NULL;
}

bool layout_doubles(const struct gpu *g, const tape *t, const instr *o)
{
    return g->sm == 90 && t->type != DT_F32 && o->op == OP_CONV2D && o->u.conv.up_h &&
           o->u.conv.k == 3 && o->u.conv.stride == 1 && o->u.conv.pad == 1 &&
           o->u.conv.pad_end == 1;
}

static void double_filters(const struct gpu *g, const tape *t, struct layout *l)
{
    for (int i = 0; i < t->nparams; i++)
        l->doubled[i] = 0;
    for (int i = 0; i < t->ncode; i++) {
        int filter = t->code[i].weight;
        if (layout_doubles(g, t, &t->code[i]))
            l->doubled[filter] = param_count(&t->params[filter]) * dtype_bytes(t->type);
    }
}

enum { CACHE = 44 << 20 }; /* bytes of 50 MB that may be counted on */

/* Are the products saved, as many as both sides' channels multiplied, worth two passes over numbers
 * of four times their maps? More must be saved where the card's cache does not hold these. */
static bool worth_winograd(const struct gpu *g, long in, long out, long tiles)
{
    bool held = tiles * WINOGRAD_TAPS * (in + out) * 2 <= CACHE;
    return tiles >= g->winograd_tiles &&
           in * out * 4 >= (held ? 4 : 5) * (long)g->winograd_channels * (in + out);
}

/* Along rows alone a third is saved, and the pass before is over twice the map. That must find it
 * in the cache; and there must be tiles for all of a card, which are of twice as many pixels. */
static bool worth_pairs(const struct gpu *g, const tensor *x, long out, long pairs)
{
    bool held = pairs / x->n * 4 * x->c * 2 <= CACHE;
    return held && out >= g->pairs_channels && pairs * out >= g->pairs_numbers;
}

/* The form with which a filter's convolution is the fastest. A shortcut that could be a part of the
 * convolution is worth as much as its products in both directions. Programs of other sizes have the
 * same filters, in the same form. */
static enum filter_form form_of(const struct gpu *g, const tape *t, const instr *o)
{
    if (g->sm != 90 || t->type == DT_F32 || o->op != OP_CONV2D || o->u.conv.k != 3 ||
        o->u.conv.stride != 1 || o->u.conv.pad != 1 || o->u.conv.pad_end != 1 || o->u.conv.up_h ||
        o->act || o->shift)
        return FILTER_PLAIN;
    const tensor *x = o->in[0], *out = o->out;
    long tiles = (long)out->n * ((out->h + 1) / 2) * ((out->w + 1) / 2);
    long pairs = (long)out->n * out->h * ((out->w + 1) / 2);
    if (x->c % 8 || out->c % 32)
        return FILTER_PLAIN;
    if (!shortcut_behind(t, o) && worth_winograd(g, x->c, out->c, tiles))
        return FILTER_WINOGRAD;
    return worth_pairs(g, x, out->c, pairs) ? FILTER_PAIRS : FILTER_PLAIN;
}

static void choose_forms(const struct gpu *g, const tape *t, bool large, struct layout *l)
{
    for (int i = 0; i < t->nparams; i++)
        l->form[i] = FILTER_PLAIN;
    for (int i = 0; i < t->ncode; i++)
        if (large && form_of(g, t, &t->code[i]))
            l->form[t->code[i].weight] = (unsigned char)form_of(g, t, &t->code[i]);
}

enum kind { MATRICES, VECTORS, SHIFTS, SCALES };

struct placing {
    const struct layout *l;
    const tape *t;
    enum kind kind;
    size_t *at; /* [nparams], the layout's */
    size_t end;
};

static size_t bytes_of(const struct placing *w, int p)
{
    const param *q = &w->t->params[p];
    if (w->kind == SHIFTS)
        return w->l->taken[p].gamma < 0 ? 0 : (size_t)q->shape[0] * dtype_bytes(w->t->type);
    if (w->kind == SCALES)
        return eight(w->l, q) ? (size_t)q->shape[0] * sizeof(float) : 0;
    return (q->dims == 1) == (w->kind == VECTORS) ? layout_bytes(w->l, w->t, p) : 0;
}

/* The given parameters, if they are of the kind and have no place yet. Those of a merged product
 * follow each other without a gap. */
static void place(struct placing *w, const int *which, int count)
{
    w->end = aligned(w->end);
    for (int i = 0; i < count; i++) {
        size_t bytes = which[i] < 0 ? 0 : bytes_of(w, which[i]);
        if (!bytes || w->at[which[i]] != SIZE_MAX)
            continue;
        w->at[which[i]] = w->end;
        w->end += bytes;
    }
}

static void place_many(struct placing *w, const struct merged *m)
{
    place(w, m->weight, m->count);
    place(w, m->bias, m->count);
}

/* Where they end. */
static size_t place_all(struct placing w)
{
    const tape *t = w.t;
    for (int i = 0; i < t->ncode; i++) {
        const instr *o = &t->code[i];
        if (o->many) {
            place_many(&w, o->many);
            continue;
        }
        const instr *shortcut = shortcut_behind(t, o);
        place(&w, &o->weight, 1);
        if (shortcut)
            place(&w, &shortcut->weight, 1);
        place(&w, &o->bias, 1);
    }
    /* what only other programs of the network read */
    for (const struct merged *m = t->merged; m; m = m->next)
        place_many(&w, m);
    for (int i = 0; i < t->nparams; i++)
        place(&w, &i, 1);
    return aligned(w.end);
}

int layout_make(const struct gpu *g, const tape *t, bool large, struct layout *l, styx_error *err)
{
    size_t n = (size_t)t->nparams + 1;
    *l = (struct layout){ .at = malloc(n * sizeof *l->at),
                          .vector = malloc(n * sizeof *l->vector),
                          .shift = malloc(n * sizeof *l->shift),
                          .taken = malloc(n * sizeof *l->taken),
                          .doubled = malloc(n * sizeof *l->doubled),
                          .form = malloc(n * sizeof *l->form),
                          .fp8 = g->fp8 };
    if (!l->at || !l->vector || !l->shift || !l->taken || !l->doubled || !l->form)
        return fail_nomem(err, n * sizeof *l->at);
    for (int i = 0; i < t->nparams; i++)
        l->at[i] = l->vector[i] = l->shift[i] = SIZE_MAX;
    take_norms(g, t, l);
    double_filters(g, t, l);
    choose_forms(g, t, large, l);
    l->matrices = place_all((struct placing){ l, t, MATRICES, l->at, 0 });
    l->bytes = place_all((struct placing){ l, t, VECTORS, l->at, l->matrices });
    l->bytes = place_all((struct placing){ l, t, SHIFTS, l->shift, l->bytes });
    l->bytes = place_all((struct placing){ l, t, SCALES, l->vector, l->bytes });
    for (int i = 0; i < t->nparams; i++) {
        if (t->params[i].dims != 1)
            continue;
        l->vector[i] = l->bytes;
        l->bytes = aligned(l->bytes + param_count(&t->params[i]) * sizeof(float));
    }
    return STYX_OK;
}

void layout_free(struct layout *l)
{
    free(l->at);
    free(l->vector);
    free(l->shift);
    free(l->taken);
    free(l->doubled);
    free(l->form);
    *l = (struct layout){ 0 };
}
