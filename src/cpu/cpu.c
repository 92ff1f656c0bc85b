/* cpu.c - the CPU backend: programs run one instruction after the other, each spread over all
 * threads. */
#include "cpu/cpu.h"
#include "base/big.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>

static int cpu_open(const struct device_options *options, void **dev, styx_error *err)
{
    const char *isa = options->isa ? options->isa : getenv("STYX_ISA");
    struct cpu *c = calloc(1, sizeof *c);
    if (!c)
        return fail_nomem(err, sizeof *c);
    c->hard = options->hard;
    c->winograd = !options->direct;
    c->int8 = options->int8;
    c->k = kernels_choose(isa);
    if (!c->k) {
        free(c);
        return fail(err, STYX_ERR_NODEVICE,
                    "this CPU cannot run kernels of kind '%s'; there are portable, avx2, avx512, "
                    "avx512bf16 and amx",
                    isa);
    }
    int status = pool_new(options->threads, &c->pool, err);
    if (status) {
        free(c);
        return status;
    }
    *dev = c;
    return STYX_OK;
}

static void cpu_close(void *dev)
{
    struct cpu *c = dev;
    if (!c)
        return;
    pool_free(c->pool);
    free(c);
}

static void cpu_describe(void *dev, char *text, size_t n)
{
    const struct cpu *c = dev;
    int threads = pool_threads(c->pool);
    snprintf(text, n, "cpu, %s, %d thread%s", c->k->name, threads, threads == 1 ? "" : "s");
}

/* ---- memory ---- */

static struct scratch scratch_of(const struct cpu *dev, const tape *t, const instr *i)
{
    switch (i->op) {
    case OP_LINEAR:
    case OP_CONV2D:
        return conv_scratch(dev, t, i);
    case OP_ATTENTION:
        return attention_scratch(dev, i);
    case OP_GROUP_NORM:
        return group_norm_scratch(i);
    default:
        return simple_scratch(i);
    }
}

static struct scratch scratch_most(const struct cpu *dev, const tape *t)
{
    struct scratch most = { 64, 64 };
    for (int i = 0; i < t->ncode; i++) {
        struct scratch one = scratch_of(dev, t, &t->code[i]);
        most.shared = one.shared > most.shared ? one.shared : most.shared;
        most.thread = one.thread > most.thread ? one.thread : most.thread;
    }
    most.shared = round_up(most.shared, 4096);
    most.thread = round_up(most.thread, 4096);
    return most;
}

static void cpu_measure(void *dev, const tape *t, size_t budget, struct footprint *need)
{
    const struct cpu *c = dev;
    struct scratch most = scratch_most(c, t);
    need->weights = pack_bytes(c, t, budget);
    need->arena = t->arena;
    need->workspace = most.shared + most.thread * (size_t)pool_threads(c->pool);
}

/* ---- weights ---- */

void failure_note(struct failure *f, int code, const styx_error *err)
{
    int none = STYX_OK;
    if (code && atomic_compare_exchange_strong(&f->code, &none, code))
        f->err = *err;
}

int failure_take(struct failure *f, styx_error *err)
{
    int code = atomic_exchange(&f->code, STYX_OK);
    if (code && err)
        *err = f->err;
    return code;
}

static void cpu_unload(void *dev, void *loaded)
{
    struct loaded *l = loaded;
    (void)dev;
    if (!l)
        return;
    pack_free(l);
    free(l->span);
    free(l);
}

static int cpu_load(void *dev, const tape *t, const struct weights *w, size_t budget, void **loaded,
                    styx_error *err)
{
    struct loaded *l = calloc(1, sizeof *l);
    size_t n = (size_t)w->count;
    int status;
    if (!l)
        return fail_nomem(err, sizeof *l);
    l->budget = budget;
    l->dev = dev;
    l->nparams = w->count;
    l->span = malloc((n + 1) * sizeof *l->span);
    l->vector = calloc(n + 1, sizeof *l->vector);
    if (!l->span || !l->vector) {
        status = fail_nomem(err, (n + 1) * sizeof *l->span);
    } else {
        memcpy(l->span, w->span, n * sizeof *l->span);
        status = pack_tape(l, t, err);
    }
    if (status)
        cpu_unload(dev, l);
    else
        *loaded = l;
    return status;
}

/* ---- programs ---- */

static void poison(void *data, size_t bytes)
{
    memset(data, 0xff, bytes); /* NaN as f32 and as bf16 */
}

static void look_up(struct plan *p, struct step *s, const instr *i)
{
    const struct loaded *l = p->weights;
    s->i = i;
    s->run = simple_run;
    switch (i->op) {
    case OP_LINEAR:
    case OP_CONV2D:
        s->packed = pack_find(l, p->t, i);
        s->copied = conv_reuses(p->dev, p->t, i);
        s->run = conv_run;
        break;
    case OP_ATTENTION:
        s->run = attention_run;
        break;
    case OP_GROUP_NORM:
        s->run = group_norm_run;
        /* fallthrough */
    case OP_LAYER_NORM:
        s->gamma = l->vector[i->weight];
        s->beta = l->vector[i->bias];
        break;
    default:
        s->table = i->weight >= 0 ? &l->span[i->weight] : NULL;
        break;
    }
}

static void cpu_release(void *plan)
{
    struct plan *p = plan;
    if (!p)
        return;
    big_free(p->arena, p->arena_bytes);
    big_free(p->shared, p->shared_bytes);
    big_free(p->scratch, p->thread_bytes * (size_t)pool_threads(p->dev->pool));
    free(p->step);
    free(p);
}

static int cpu_prepare(void *dev, const tape *t, void *loaded, void **plan, styx_error *err)
{
    struct plan *p = calloc(1, sizeof *p);
    int status;
    if (!p)
        return fail_nomem(err, sizeof *p);
    p->dev = dev;
    p->t = t;
    p->weights = loaded;
    struct scratch most = scratch_most(dev, t);
    size_t threads = (size_t)pool_threads(p->dev->pool);
    p->shared_bytes = most.shared;
    p->thread_bytes = most.thread;
    p->arena_bytes = round_up(t->arena + 64, 4096);
    status = pack_tape(loaded, t, err);
    if (status)
        goto done;
    p->step = calloc((size_t)t->ncode + 1, sizeof *p->step);
    p->arena = big_alloc(p->arena_bytes);
    p->shared = big_alloc(p->shared_bytes);
    p->scratch = big_alloc(p->thread_bytes * threads);
    if (!p->step || !p->arena || !p->shared || !p->scratch) {
        status = fail_nomem(err, p->arena_bytes + p->shared_bytes + p->thread_bytes * threads);
        goto done;
    }
    for (int i = 0; i < t->ncode; i++)
        look_up(p, &p->step[i], &t->code[i]);
    if (p->dev->hard)
        poison(p->arena, p->arena_bytes);
    *plan = p;
    return STYX_OK;
done:
    cpu_release(p);
    return status;
}

struct view view_of(const struct plan *p, const tensor *x)
{
    struct view v = { .n = x->n, .h = x->h, .w = x->w, .c = x->c, .type = x->type };
    v.border = x->halo ? 1 : 0;
    v.px = (long)x->c * (long)dtype_bytes(x->type);
    v.row = v.px * (x->w + 2 * v.border);
    v.img = v.row * (x->h + 2 * v.border);
    v.data = p->arena + tensor_home(x)->offset + v.border * (v.row + v.px);
    return v;
}

void view_clear_border(const struct view *v)
{
    if (!v->border)
        return;
    for (int n = 0; n < v->n; n++) {
        memset(view_at(v, n, -1) - v->px, 0, (size_t)v->row);
        memset(view_at(v, n, v->h) - v->px, 0, (size_t)v->row);
        for (int y = 0; y < v->h; y++) {
            memset(view_at(v, n, y) - v->px, 0, (size_t)v->px);
            memset(view_at(v, n, y) + v->w * v->px, 0, (size_t)v->px);
        }
    }
}

static void read_input(const struct plan *p, const tensor *x, const void *from)
{
    struct view v = view_of(p, x);
    size_t row = (size_t)x->w * (size_t)x->c;
    view_clear_border(&v);
    for (int n = 0; n < x->n; n++)
        for (int y = 0; y < x->h; y++, from = (const float *)from + row) {
            if (x->type == DT_I32)
                memcpy(view_at(&v, n, y), from, row * sizeof(int32_t));
            else
                p->dev->k->from_f32(x->type, from, view_at(&v, n, y), row);
        }
}

static void write_output(const struct plan *p, const tensor *x, float *to)
{
    struct view v = view_of(p, x);
    size_t row = (size_t)x->w * (size_t)x->c;
    for (int n = 0; n < x->n; n++)
        for (int y = 0; y < x->h; y++, to += row)
            p->dev->k->to_f32(x->type, view_at(&v, n, y), to, row);
}

/* Hard mode: a value whose last reader has run becomes NaN, so that a late read shows. */
static void poison_dead(const struct plan *p, const tensor *x, int at)
{
    if (!x)
        return;
    if (x->part[0]) {
        poison_dead(p, x->part[0], at);
        poison_dead(p, x->part[1], at);
        return;
    }
    x = tensor_home(x);
    if (x->last == at && !x->kept && x != tensor_home(p->t->code[at].out))
        poison(p->arena + x->offset, x->bytes);
}

static void poison_operands(const struct plan *p, int at)
{
    const instr *i = &p->t->code[at];
    const tensor *x[] = { i->in[0], i->in[1], i->in[2], i->shift, i->residual };
    for (int j = 0; j < 5; j++)
        poison_dead(p, x[j], at);
}

static int cpu_run(void *plan, const struct run_args *args, styx_error *err)
{
    struct plan *p = plan;
    const tape *t = p->t;
    bool again = args->again && p->warm; /* a cancelled prologue starts anew */
    int status;

    p->cancel = args->cancel;
    for (int i = 0; i < t->nin; i++)
        if (!(again && t->in_once[i]))
            read_input(p, t->in[i], args->in[i]);
    for (int i = again ? t->once : 0; i < t->ncode; i++) {
        double since = args->seconds ? clock_seconds() : 0;
        p->warm = i >= t->once;
        struct packed *w = p->step[i].packed;
        if (w && w->streamed && (status = pack_stream(p->weights, w, err)))
            return status;
        p->step[i].run(p, &p->step[i]);
        if (p->step[i].table && (status = failure_take(&p->weights->failure, err)))
            return status;
        if (args->seconds)
            args->seconds[i] = clock_seconds() - since;
        if (cancelled(p)) /* maybe while it ran: some of its jobs were skipped */
            return fail(err, STYX_ERR_CANCELLED, "cancelled");
        if (p->dev->hard)
            poison_operands(p, i);
    }
    p->warm = true;
    for (int i = 0; i < t->nout; i++)
        if (args->out[i])
            write_output(p, t->out[i], args->out[i]);
    return STYX_OK;
}

const struct backend backend_cpu = {
    .name = "cpu",
    .halo = true,
    .mixes = true,
    .dtype = { [DT_F32] = true, [DT_BF16] = true },
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .measure = cpu_measure,
    .load = cpu_load,
    .unload = cpu_unload,
    .prepare = cpu_prepare,
    .run = cpu_run,
    .release = cpu_release,
    .peak = cpu_peak,
};
