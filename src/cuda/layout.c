/* layout.c - the order of parameters in the image of a network's weights. */
#include "cuda/load.h"
#include <stdlib.h>

enum { ALIGN = 256 };

static size_t aligned(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* The given parameters, if they are matrices (or vectors) and have no place yet. Those of a merged
 * product follow each other without a gap. */
static size_t place(const tape *t, struct layout *l, size_t end, const int *which, int count,
                    bool vectors)
{
    end = aligned(end);
    for (int i = 0; i < count; i++) {
        if (which[i] < 0 || l->at[which[i]] != SIZE_MAX)
            continue;
        const param *p = &t->params[which[i]];
        if ((p->dims == 1) != vectors)
            continue;
        l->at[which[i]] = end;
        end += param_count(p) * dtype_bytes(t->type);
    }
    return end;
}

static size_t place_many(const tape *t, struct layout *l, size_t end, const struct merged *m,
                         bool vectors)
{
    end = place(t, l, end, m->weight, m->count, vectors);
    return place(t, l, end, m->bias, m->count, vectors);
}

static size_t place_all(const tape *t, struct layout *l, size_t end, bool vectors)
{
    for (int i = 0; i < t->ncode; i++) {
        const instr *o = &t->code[i];
        if (o->many) {
            end = place_many(t, l, end, o->many, vectors);
            continue;
        }
        end = place(t, l, end, &o->weight, 1, vectors);
        end = place(t, l, end, &o->bias, 1, vectors);
    }
    /* what only other programs of the network read */
    for (const struct merged *m = t->merged; m; m = m->next)
        end = place_many(t, l, end, m, vectors);
    for (int i = 0; i < t->nparams; i++)
        end = place(t, l, end, &i, 1, vectors);
    return end;
}

int layout_make(const tape *t, struct layout *l, styx_error *err)
{
    size_t n = (size_t)t->nparams + 1;
    *l = (struct layout){ malloc(n * sizeof *l->at), malloc(n * sizeof *l->vector), 0, 0 };
    if (!l->at || !l->vector)
        return fail_nomem(err, n * sizeof *l->at);
    for (int i = 0; i < t->nparams; i++)
        l->at[i] = l->vector[i] = SIZE_MAX;
    l->matrices = aligned(place_all(t, l, 0, false));
    l->bytes = aligned(place_all(t, l, l->matrices, true));
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
