/* simple.c - norms and everything that only moves or combines what lies at one position. */
#include "cuda/step.h"

static bool done(CUresult result)
{
    return result == CUDA_SUCCESS;
}

size_t simple_scratch_bytes(const tape *t, const instr *o)
{
    const tensor *x = o->in[0];
    (void)t;
    return o->op == OP_GROUP_NORM
               ? launch_group_norm_scratch(x->n, (long)x->h * x->w, x->c, o->u.norm.groups)
               : 0;
}

static bool norm_run(const struct plan *p, const struct step *s)
{
    const instr *o = s->i;
    const tensor *x = o->in[0];
    struct gview a = gview_of(p, x->part[0] ? x->part[0] : x), out = gview_of(p, o->out), b, shift;
    CUdeviceptr gamma = weights_vector(p->weights, o->weight);
    CUdeviceptr beta = weights_vector(p->weights, o->bias);
    int before = o->u.norm.before;
    if (o->op == OP_LAYER_NORM) {
        enum taken_part taken = linear_takes(p, o);
        return taken == NORM_ALL ||
               done(launch_layer_norm(p->g, &a, taken ? 0 : gamma, taken ? 0 : beta, o->u.norm.eps,
                                      &out, linear_scales(p, o->out)));
    }
    if (x->part[0])
        b = gview_of(p, x->part[1]);
    if (o->shift)
        shift = gview_of(p, o->shift);
    return done(launch_group_norm(p->g, &a, x->part[0] ? &b : NULL,
                                  before >= 0 ? weights_at(p->weights, before) : 0,
                                  o->shift ? &shift : NULL, o->u.norm.groups, o->u.norm.eps, gamma,
                                  beta, o->act, &out, plan_scratch(p)));
}

static bool add_run(const struct plan *p, const struct step *s)
{
    const instr *o = s->i;
    struct gview a = gview_of(p, o->in[0]), b = gview_of(p, o->in[1]), out = gview_of(p, o->out);
    bool broadcast = b.h * b.w == 1 && a.h * a.w != 1;
    return done(
        launch_finish(p->g, &a, 0, broadcast ? &b : NULL, o->act, broadcast ? NULL : &b, &out));
}

static bool simple_run(const struct plan *p, const struct step *s)
{
    const instr *o = s->i;
    struct gview x = gview_of(p, o->in[0]), out = gview_of(p, o->out), y;
    CUdeviceptr table = o->weight >= 0 ? weights_at(p->weights, o->weight) : 0;
    if (o->in[1])
        y = gview_of(p, o->in[1]);
    switch (o->op) {
    case OP_EMBED:
        return done(launch_embed(p->g, &x, table, &out));
    case OP_POSITION:
        return done(launch_position(p->g, &x, table, &out));
    case OP_PREPEND:
        return done(launch_prepend(p->g, &x, table, &out));
    case OP_TIMESTEP:
        return done(
            launch_timestep(p->g, &x, o->u.time.dim, o->u.time.flip, o->u.time.shift, &out));
    case OP_ACT:
        return done(launch_finish(p->g, &x, 0, NULL, o->act, NULL, &out));
    case OP_GEGLU:
        return done(launch_geglu(p->g, &x, &out, 0));
    case OP_CONCAT:
        return done(launch_concat(p->g, &x, &y, &out));
    case OP_UPSAMPLE:
        return done(launch_upsample(p->g, &x, &out));
    case OP_REPEAT:
        return done(launch_repeat(p->g, &x, &out));
    case OP_ROW:
        return done(launch_row(p->g, &x, &y, &out));
    default:
        return false;
    }
}

int simple_prepare(struct plan *p, struct step *s, styx_error *err)
{
    (void)p, (void)err;
    s->run = s->i->op == OP_GROUP_NORM || s->i->op == OP_LAYER_NORM ? norm_run
             : s->i->op == OP_ADD                                   ? add_run
                                                                    : simple_run;
    return STYX_OK;
}
