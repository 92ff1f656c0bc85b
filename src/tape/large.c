/* large.c - for large maps, of which two or three are a program's whole arena.
 *
 *   1x1 convolution to fewer channels   -> before the other readers of the map: it dies sooner
 *   group norm that is a map's last reader -> written over it, so the map gets the norm's border
 *
 * A residual block from 256 to 128 channels then holds one map of 256 and two of 128, not two of
 * 256 and one of 128. Small maps stay: their rows are too short to be a norm's chunks. */
#include "tape/tape.h"

static bool large(const tape *t, const tensor *x)
{
    return tensor_count(x) * dtype_bytes(x->type) >= t->large;
}

void tape_hasten(tape *t)
{
    if (t->err.code)
        return;
    for (int j = 0; j < t->ncode; j++) {
        instr o = t->code[j];
        const tensor *x = o.in[0];
        if (o.op != OP_LINEAR || o.out->c >= x->c || !large(t, x))
            continue;
        int i = x->def + 1;
        while (i < j && !instr_reads(&t->code[i], x))
            i++;
        memmove(&t->code[i + 1], &t->code[i], (size_t)(j - i) * sizeof o);
        t->code[i] = o;
        tape_recount(t);
    }
}

/* May x have a border? Who writes it and who reads it must look where it is told to. */
static bool may_widen(const tape *t, const tensor *x, int norm)
{
    const instr *from = x->def >= 0 ? &t->code[x->def] : NULL;
    if (!from || x->part[0] || x->whole || x->kept || x->last != norm ||
        (from->op != OP_CONV2D && from->op != OP_LINEAR) || from->residual)
        return false;
    for (int i = x->def + 1; i < norm; i++) {
        const instr *o = &t->code[i];
        if (instr_reads(o, x) && !(o->op == OP_LINEAR && o->residual != x && o->shift != x))
            return false;
    }
    return true;
}

void tape_widen(tape *t)
{
    if (t->err.code)
        return;
    for (int i = 0; i < t->ncode; i++) {
        const instr *o = &t->code[i];
        tensor *x = o->in[0];
        if (o->op == OP_GROUP_NORM && o->out->halo && x->type == o->out->type && large(t, x) &&
            may_widen(t, x, i))
            x->halo = true;
    }
}
