/* explain.c - the program as text: one instruction a line, with shapes, places and weights. */
#include "tape/tape.h"

// clang-format off
static const char *const op_names[OP_COUNT] = {
    [OP_EMBED] = "embed",           [OP_POSITION] = "position",     [OP_PREPEND] = "prepend",
    [OP_TIMESTEP] = "timestep",     [OP_LINEAR] = "linear",         [OP_CONV2D] = "conv2d",
    [OP_GROUP_NORM] = "group_norm", [OP_LAYER_NORM] = "layer_norm", [OP_ATTENTION] = "attention",
    [OP_ADD] = "add",               [OP_ACT] = "act",               [OP_GEGLU] = "geglu",
    [OP_CONCAT] = "concat",         [OP_UPSAMPLE] = "upsample",     [OP_ROW] = "row",
    [OP_REPEAT] = "repeat",
};
// clang-format on

const char *op_name(enum op op)
{
    return op_names[op];
}

const char *act_name(enum act a)
{
    static const char *const names[] = { "", "silu", "gelu", "quick_gelu", "relu", "geglu" };
    return names[a];
}

static void print_operand(const tape *t, const tensor *x, FILE *to)
{
    if (x->part[0]) {
        fprintf(to, "[");
        print_operand(t, x->part[0], to);
        fprintf(to, " | ");
        print_operand(t, x->part[1], to);
        fprintf(to, "]");
        return;
    }
    if (x->whole) {
        print_operand(t, x->whole, to);
        fprintf(to, ".%d", x->at);
        return;
    }
    if (x->def >= 0) {
        fprintf(to, "%%%d", x->def);
        return;
    }
    for (int i = 0; i < t->nin; i++)
        if (t->in[i] == x)
            fprintf(to, "%s", t->in_name[i]);
}

static void print_attributes(const instr *o, FILE *to)
{
    if (o->op == OP_CONV2D) {
        fprintf(to, " %dx%d", o->u.conv.k, o->u.conv.k);
        if (o->u.conv.stride > 1)
            fprintf(to, " stride %d", o->u.conv.stride);
        if (o->u.conv.up_h)
            fprintf(to, " up %dx%d", o->u.conv.up_h, o->u.conv.up_w);
    }
    if (o->op == OP_ATTENTION)
        fprintf(to, " %d heads%s", o->u.attn.heads, o->u.attn.causal ? " causal" : "");
    if (o->op == OP_GROUP_NORM)
        fprintf(to, " %d groups", o->u.norm.groups);
    if (o->act)
        fprintf(to, " %s", act_name(o->act));
}

static void print_instr(const tape *t, int at, FILE *to)
{
    const instr *o = &t->code[at];
    const tensor *x = o->out;
    char shape[64];
    snprintf(shape, sizeof shape, "%dx%dx%dx%d", x->n, x->h, x->w, x->c);
    fprintf(to, "%%%-5d%c %-20s %-4s @%-10zu %s", at, o->once ? '*' : ' ', shape,
            dtype_name(x->type), x->offset, op_name(o->op));
    print_attributes(o, to);
    for (int k = 0; k < 3; k++) {
        if (!o->in[k])
            continue;
        fprintf(to, " ");
        print_operand(t, o->in[k], to);
    }
    if (o->shift) {
        fprintf(to, " shift ");
        print_operand(t, o->shift, to);
    }
    if (o->residual) {
        fprintf(to, " + ");
        print_operand(t, o->residual, to);
    }
    if (o->weight >= 0)
        fprintf(to, "  %s", t->params[o->weight].name);
    if (o->many)
        fprintf(to, " and %d more", o->many->count - 1);
    fprintf(to, "%s%s%s\n", x->halo ? "  halo" : "", x->kept ? "  kept" : "",
            x->alias ? "  in place" : "");
}

void tape_explain(const tape *t, FILE *to)
{
    fprintf(to, "%s: %d instructions, %d once per picture (*), %d weights of %zu parameters\n",
            t->name, t->ncode, t->once, t->nparams, tape_parameters(t));
    for (int i = 0; i < t->nin; i++)
        fprintf(to, "input  %s %dx%dx%dx%d %s @%zu%s\n", t->in_name[i], t->in[i]->n, t->in[i]->h,
                t->in[i]->w, t->in[i]->c, dtype_name(t->in[i]->type), t->in[i]->offset,
                t->in_once[i] ? " once" : "");
    for (int i = 0; i < t->ncode; i++)
        print_instr(t, i, to);
    for (int i = 0; i < t->nout; i++) {
        fprintf(to, "output ");
        print_operand(t, t->out[i], to);
        fprintf(to, "\n");
    }
    fprintf(to, "arena %zu bytes (%zu without reuse)\n", t->arena, t->sum);
}
