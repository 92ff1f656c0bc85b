/* share.c - what the halves of a guided call have in common is computed once.
 *
 *   rows of an input repeat -> the rows of all that is made of such inputs alone do, too
 *   a map whose rows repeat -> is there once, until an instruction with more rows reads it
 *
 * With guidance a UNet sees every picture's latents twice, at the same time, beside two texts. All
 * that comes before the first of its cross-attentions is the same for both.
 *
 * A vector keeps all its rows: its products cost what their weights weigh, however many rows there
 * are, and a sum with a map of fewer rows reads the first of them. */
#include "tape/tape.h"

static bool is_map(const tensor *x)
{
    return x->h * x->w > 1;
}

/* Is x there once, not t->copies times? */
static bool has_fewer(const tensor *x)
{
    return x && x->repeats && is_map(x);
}

/* Is operand k the vector that is added to a map? */
static bool is_shift(const instr *o, int k)
{
    return o->op == OP_ADD && k == 1 && is_map(o->in[0]) && !is_map(o->in[1]);
}

/* Do all operands repeat, and have as many rows as the result is to have, or a shift more? */
static bool repeats(const instr *o)
{
    for (int k = 0; k < 3; k++) {
        const tensor *x = o->in[k];
        if (x && (!x->repeats || (is_map(x) != is_map(o->out) && !is_shift(o, k))))
            return false;
    }
    return true;
}

static void keep_first_rows(tape *t, tensor *x)
{
    if (x->n % t->copies)
        tape_fail(t, STYX_ERR_INTERNAL, "%d rows are not %d times the same", x->n, t->copies);
    x->n /= t->copies;
}

/* x with all rows; if nobody wanted them before, they are made before code[at]. */
static tensor *all_rows(tape *t, tensor *x, int at)
{
    if (x->repeated)
        return x->repeated;
    x->repeated = repeat(t, x, t->copies);
    if (t->err.code)
        return x->repeated;
    instr made = t->code[t->ncode - 1];
    memmove(&t->code[at + 1], &t->code[at], (size_t)(t->ncode - 1 - at) * sizeof made);
    t->code[at] = made;
    return x->repeated;
}

/* Returns where code[at] is then. */
static int give_all_rows(tape *t, int at)
{
    for (int k = 0; k < 3; k++) {
        int before = t->ncode;
        if (!has_fewer(t->code[at].in[k]))
            continue;
        tensor *all = all_rows(t, t->code[at].in[k], at);
        at += t->ncode - before;
        t->code[at].in[k] = all;
    }
    return at;
}

void tape_share(tape *t)
{
    if (t->err.code || t->copies < 2)
        return;
    for (int i = 0; i < t->nin; i++)
        if (has_fewer(t->in[i]))
            keep_first_rows(t, t->in[i]);
    for (int i = 0; i < t->ncode; i++) {
        tensor *y = t->code[i].out;
        y->repeats = repeats(&t->code[i]);
        if (has_fewer(y))
            keep_first_rows(t, y);
        else
            i = give_all_rows(t, i);
    }
    for (int i = 0; i < t->nout; i++)
        if (has_fewer(t->out[i]))
            t->out[i] = all_rows(t, t->out[i], t->ncode);
    tape_recount(t);
}
