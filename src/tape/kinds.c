/* kinds.c - instructions summed up by what they are: operation, shape, and what ends them. */
#include "tape/kinds.h"
#include <stdlib.h>
#include <string.h>

static void describe(const instr *i, char *name, size_t n)
{
    const tensor *x = i->in[0], *y = i->out;
    const char *sum = i->residual ? ", residual" : "";
    bool geglu = i->act == ACT_GEGLU;
    if (i->op == OP_CONV2D)
        snprintf(name, n, "conv %dx%d%s %d -> %d @ %dx%d, batch %d%s", i->u.conv.k, i->u.conv.k,
                 i->u.conv.up_h         ? " 2x up"
                 : i->u.conv.stride > 1 ? " stride 2"
                                        : "",
                 x->c, y->c, y->h, y->w, y->n, sum);
    else if (i->op == OP_LINEAR)
        snprintf(name, n, "linear [%d x %d] [%d x %d]%s%s%s", y->n * y->h * y->w, x->c, x->c,
                 y->c * (geglu ? 2 : 1), i->act ? " " : "", act_name(i->act), sum);
    else if (i->op == OP_ATTENTION)
        snprintf(name, n, "attention %d x %d heads of %d, %d x %d", y->n, i->u.attn.heads,
                 y->c / i->u.attn.heads, y->h * y->w, i->in[1]->h * i->in[1]->w);
    else
        snprintf(name, n, "%s %d @ %dx%d, batch %d", op_name(i->op), y->c, y->h, y->w, y->n);
}

static int slower_first(const void *a, const void *b)
{
    const struct kind *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

int tape_kinds(const tape *t, const double *seconds, struct kind *kinds)
{
    int n = 0;
    for (int i = t->once; i < t->ncode; i++) {
        struct kind one = { .count = 1, .seconds = seconds[i], .flops = instr_flops(&t->code[i]) };
        int k = 0;
        if (one.seconds <= 0)
            continue;
        describe(&t->code[i], one.name, sizeof one.name);
        while (k < n && strcmp(kinds[k].name, one.name) != 0)
            k++;
        if (k == n) {
            kinds[n++] = one;
            continue;
        }
        kinds[k].seconds += one.seconds;
        kinds[k].flops += one.flops;
        kinds[k].count++;
    }
    qsort(kinds, (size_t)n, sizeof *kinds, slower_first);
    return n;
}
