/* hoist.c - what depends only on the prompt runs once per picture.
 *
 * The projections of the text to the keys and values of every cross-attention, and SDXL's added
 * embedding, are the same in every step. They move to the front of the program (the prologue,
 * code[0..once)), which later steps skip. Values that cross from the prologue into the steps are
 * `kept`: the planner never gives their storage to anyone else. */
#include "tape/tape.h"
#include <stdlib.h>

/* Is x known before the first step? mark[i] tells whether instruction i is. */
static bool settled(const tape *t, const bool *mark, const tensor *x)
{
    if (!x)
        return true;
    if (x->part[0])
        return settled(t, mark, x->part[0]) && settled(t, mark, x->part[1]);
    if (x->whole)
        return settled(t, mark, x->whole);
    if (x->def >= 0)
        return mark[x->def];
    for (int i = 0; i < t->nin; i++)
        if (t->in[i] == x)
            return t->in_once[i];
    return false;
}

static void keep(tensor *x)
{
    if (!x)
        return;
    keep(x->part[0]);
    keep(x->part[1]);
    keep(x->whole);
    x->kept = true;
}

static void keep_crossing(tape *t, const bool *mark)
{
    for (int i = 0; i < t->ncode; i++) {
        instr *o = &t->code[i];
        tensor *operand[5] = { o->in[0], o->in[1], o->in[2], o->shift, o->residual };
        for (int k = 0; k < 5 && !mark[i]; k++)
            if (operand[k] && settled(t, mark, operand[k]))
                keep(operand[k]);
    }
    for (int i = 0; i < t->nout; i++)
        if (settled(t, mark, t->out[i]))
            keep(t->out[i]);
}

static void lengthen(tensor *x, int at)
{
    if (!x)
        return;
    lengthen(x->part[0], at);
    lengthen(x->part[1], at);
    lengthen(x->whole, at);
    x->last = at; /* visited in program order: the last visit wins */
}

static void renumber(tape *t)
{
    for (int i = 0; i < t->ncode; i++)
        t->code[i].out->def = t->code[i].out->last = i;
    for (int i = 0; i < t->ncode; i++) {
        instr *o = &t->code[i];
        for (int k = 0; k < 3; k++)
            lengthen(o->in[k], i);
        lengthen(o->shift, i);
        lengthen(o->residual, i);
    }
    for (int i = 0; i < t->nout; i++)
        t->out[i]->last = t->ncode;
}

void tape_hoist(tape *t)
{
    if (t->err.code)
        return;
    bool *mark = calloc((size_t)t->ncode + 1, sizeof *mark);
    instr *sorted = malloc((size_t)(t->ncode + 1) * sizeof *sorted);
    if (!mark || !sorted) {
        tape_fail(t, STYX_ERR_NOMEM, "out of memory while hoisting");
        goto done;
    }
    for (int i = 0; i < t->ncode; i++) {
        const instr *o = &t->code[i];
        mark[i] = settled(t, mark, o->in[0]) && settled(t, mark, o->in[1]) &&
                  settled(t, mark, o->in[2]) && settled(t, mark, o->shift) &&
                  settled(t, mark, o->residual);
    }
    keep_crossing(t, mark);
    int n = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < t->ncode; i++)
            if (mark[i] == (pass == 0))
                sorted[n++] = t->code[i];
        if (pass == 0)
            t->once = n;
    }
    memcpy(t->code, sorted, (size_t)n * sizeof *sorted);
    for (int i = 0; i < t->once; i++)
        t->code[i].once = true;
    renumber(t);
done:
    free(mark);
    free(sorted);
}
