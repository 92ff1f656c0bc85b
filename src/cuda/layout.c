/* layout.c - the order of parameters in the image of a network's weights. */
#include "cuda/load.h"
#include <stdlib.h>

static bool eight(const struct layout *l, const param *p)
{
    return l->fp8 && p->coarse;
}

size_t layout_bytes(const struct layout *l, const tape *t, int p)
{
    const param *q = &t->params[p];
    return param_count(q) * (eight(l, q) ? 1 : dtype_bytes(t->type));
}

enum kind { MATRICES, VECTORS, SCALES };

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
        place(&w, &o->weight, 1);
        place(&w, &o->bias, 1);
    }
    /* what only other programs of the network read */
    for (const struct merged *m = t->merged; m; m = m->next)
        place_many(&w, m);
    for (int i = 0; i < t->nparams; i++)
        place(&w, &i, 1);
    return aligned(w.end);
}

int layout_make(const tape *t, bool fp8, struct layout *l, styx_error *err)
{
    size_t n = (size_t)t->nparams + 1;
    *l = (struct layout){ malloc(n * sizeof *l->at), malloc(n * sizeof *l->vector), 0, 0, fp8 };
    if (!l->at || !l->vector)
        return fail_nomem(err, n * sizeof *l->at);
    for (int i = 0; i < t->nparams; i++)
        l->at[i] = l->vector[i] = SIZE_MAX;
    l->matrices = place_all((struct placing){ l, t, MATRICES, l->at, 0 });
    l->bytes = place_all((struct placing){ l, t, VECTORS, l->at, l->matrices });
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
    *l = (struct layout){ 0 };
}
