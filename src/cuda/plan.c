/* plan.c - a program on the card.
 *
 * The prologue (what depends on the prompt alone) is launched as it is, once per picture. So is the
 * first step, because kernels are loaded when they are first launched; while the card computes it,
 * the step with the copies of its inputs and outputs is captured into one graph. From then on a
 * step is one launch and one wait. */
#include "cuda/plan.h"
#include "cuda/step.h"
#include <stdlib.h>

/* ---- memory ---- */

static size_t scratch_of(const struct gpu *g, const tape *t, const instr *o)
{
    switch (o->op) {
    case OP_LINEAR:
        return linear_scratch(g, t, o);
    case OP_CONV2D:
        return conv_scratch_bytes(g, t, o);
    case OP_ATTENTION:
        return attention_scratch_bytes(t, o);
    default:
        return simple_scratch_bytes(t, o);
    }
}

static size_t floats(tensor *const *x, int n)
{
    size_t bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += tensor_count(x[i]) * sizeof(float);
    return bytes;
}

/* What any step needs; inputs and outputs pass through the same memory. */
static size_t scratch_most(const struct gpu *g, const tape *t)
{
    size_t in = floats(t->in, t->nin), out = floats(t->out, t->nout), most = in > out ? in : out;
    for (int i = 0; i < t->ncode; i++) {
        size_t one = scratch_of(g, t, &t->code[i]);
        most = one > most ? one : most;
    }
    return most;
}

void plan_measure(void *dev, const tape *t, size_t budget, struct footprint *need)
{
    need->weights = weights_measure(dev, t, budget);
    need->arena = t->arena;
    need->workspace = LIBRARY_WORKSPACE + scratch_most(dev, t);
}

struct gview gview_of(const struct plan *p, const tensor *x)
{
    const tensor *home = tensor_home(x), *whole = x->whole ? x->whole : x;
    struct gview v = { .type = x->type, .n = x->n, .h = x->h, .w = x->w, .c = x->c };
    v.row = whole->c;
    v.data = p->g->arena.base + home->offset + (size_t)x->at * dtype_bytes(x->type);
    return v;
}

struct gview gview_placed(const tensor *x)
{
    size_t at = (size_t)x->at * dtype_bytes(x->type);
    return (struct gview){ at, x->type, x->n, x->h, x->w, x->c, x->whole ? x->whole->c : x->c };
}

struct gview gview_dense(const tensor *like, int c, CUdeviceptr at)
{
    return (struct gview){ at, like->type, like->n, like->h, like->w, c, c };
}

CUdeviceptr plan_workspace(const struct plan *p)
{
    return p->g->workspace.base;
}

CUdeviceptr plan_scratch(const struct plan *p)
{
    return p->g->workspace.base + LIBRARY_WORKSPACE;
}

/* ---- preparing ---- */

void plan_release(void *plan)
{
    struct plan *p = plan;
    if (!p)
        return;
    struct gpu *g = p->g;
    gpu_enter(g, NULL);
    gpu_wait(g, NULL);
    if (g->arena_owner == p)
        g->arena_owner = NULL;
    if (p->graph)
        g->cu->cuGraphExecDestroy(p->graph);
    if (p->pinned)
        g->cu->cuMemFreeHost(p->pinned);
    for (int i = 0; p->step && i < p->t->ncode; i++) {
        if (p->step[i].shared)
            continue;
        blas_plan_free(p->step[i].product[0]);
        blas_plan_free(p->step[i].product[1]);
        dnn_plan_free(p->step[i].dnn);
    }
    for (int i = 0; p->mark && i < p->t->ncode + 2; i++)
        if (p->mark[i])
            g->cu->cuEventDestroy(p->mark[i]);
    free(p->mark);
    free(p->step);
    free(p);
}

bool same_shape(const tensor *a, const tensor *b)
{
    return a->n == b->n && a->h == b->h && a->w == b->w && a->c == b->c && a->type == b->type;
}

bool step_share(const struct plan *p, struct step *s,
                bool (*same)(const struct plan *p, const instr *a, const instr *b))
{
    const instr *o = s->i;
    for (const struct step *other = p->step; other < s; other++)
        if (other->i->op == o->op && same(p, other->i, o)) {
            *s = *other;
            s->i = o;
            s->shared = true;
            return true;
        }
    return false;
}

static int prepare_step(struct plan *p, struct step *s, styx_error *err)
{
    switch (s->i->op) {
    case OP_LINEAR:
        return linear_prepare(p, s, err);
    case OP_CONV2D:
        return conv_prepare(p, s, err);
    case OP_ATTENTION:
        return attention_prepare(p, s, err);
    default:
        return simple_prepare(p, s, err);
    }
}

static void place_pinned(struct plan *p)
{
    const tape *t = p->t;
    for (int i = 0; i < t->nin; i++) {
        p->in_at[i] = p->in_bytes;
        p->in_bytes += tensor_count(t->in[i]) * sizeof(float);
    }
    for (int i = 0; i < t->nout; i++) {
        p->out_at[i] = p->out_bytes;
        p->out_bytes += tensor_count(t->out[i]) * sizeof(float);
    }
}

static int take_memory(const struct plan *p, styx_error *err)
{
    return weights_bring(p->weights, p->t->arena + 64, p->workspace, err);
}

int plan_prepare(void *dev, const tape *t, void *loaded, void **plan, styx_error *err)
{
    struct gpu *g = dev;
    struct plan *p = calloc(1, sizeof *p);
    int code;
    if (!p)
        return fail_nomem(err, sizeof *p);
    p->g = g;
    p->t = t;
    p->weights = loaded;
    p->workspace = LIBRARY_WORKSPACE + scratch_most(g, t);
    place_pinned(p);
    p->step = calloc((size_t)t->ncode + 1, sizeof *p->step);
    code = p->step ? gpu_enter(g, err) : fail_nomem(err, (size_t)t->ncode * sizeof *p->step);
    if (!code)
        code = take_memory(p, err);
    if (!code)
        code =
            gpu_check(g, g->cu->cuMemHostAlloc((void **)&p->pinned, p->in_bytes + p->out_bytes, 0),
                      "allocating pinned memory", err);
    g->arena_owner = NULL; /* measuring writes anywhere */
    if (!code)             /* and reads what no instruction has written yet */
        code = gpu_check(g, g->cu->cuMemsetD8Async(g->arena.base, 0, t->arena, g->stream),
                         "clearing the arena", err);
    for (int i = 0; i < t->ncode && !code; i++) {
        p->step[i].i = &t->code[i];
        code = weights_need(p->weights, &t->code[i], err);
        if (!code)
            code = prepare_step(p, &p->step[i], err);
    }
    if (code)
        plan_release(p);
    else
        *plan = p;
    return code;
}

/* ---- timing ---- */

/* Events around every instruction of the prologue, and of a step. */
static int make_marks(struct plan *p, styx_error *err)
{
    size_t n = (size_t)p->t->ncode + 2;
    CUresult result = CUDA_SUCCESS;
    if (p->mark)
        return STYX_OK;
    if (!(p->mark = calloc(n, sizeof *p->mark)))
        return fail_nomem(err, n * sizeof *p->mark);
    for (size_t i = 0; i < n && result == CUDA_SUCCESS; i++)
        result = p->g->cu->cuEventCreate(&p->mark[i], CU_EVENT_DEFAULT);
    return gpu_check(p->g, result, "making events", err);
}

/* The event before instruction i; from the first one of a step on, that after it is the next. */
static CUevent mark_before(const struct plan *p, int i, bool stepping)
{
    return p->mark[i + stepping];
}

static int tell_seconds(const struct plan *p, int from, double *seconds, styx_error *err)
{
    CUresult result = CUDA_SUCCESS;
    for (int i = from; i < p->t->ncode && result == CUDA_SUCCESS; i++) {
        bool stepping = i >= p->t->once;
        float ms = 0;
        result = p->g->cu->cuEventElapsedTime(&ms, mark_before(p, i, stepping),
                                              mark_before(p, i + 1, stepping));
        seconds[i] = (double)ms * 1e-3;
    }
    return gpu_check(p->g, result, "timing instructions", err);
}

/* ---- running ---- */

/* In the library's own words, if it was one. */
static int step_failed(const struct plan *p, const struct step *s, styx_error *err)
{
    const instr *o = s->i;
    const char *why = s->dnn ? dnn_error(p->g->dnn) : s->product[0] ? blas_error(p->g->blas) : "";
    return fail(err, STYX_ERR_BACKEND, "%s on %s refused to run%s%s%s%s", op_name(o->op),
                p->g->name, o->weight >= 0 ? ": " : "",
                o->weight >= 0 ? p->t->params[o->weight].name : "", *why ? ": " : "", why);
}

static int enqueue_inputs(const struct plan *p, bool once, styx_error *err)
{
    struct gpu *g = p->g;
    const tape *t = p->t;
    CUresult result = CUDA_SUCCESS;
    for (int i = 0; i < t->nin && result == CUDA_SUCCESS; i++) {
        size_t bytes = tensor_count(t->in[i]) * sizeof(float);
        struct gview x = gview_of(p, t->in[i]);
        bool direct = x.type == DT_F32 || x.type == DT_I32;
        CUdeviceptr to = direct ? x.data : plan_scratch(p) + p->in_at[i];
        if (t->in_once[i] != once)
            continue;
        result = g->cu->cuMemcpyHtoDAsync(to, p->pinned + p->in_at[i], bytes, g->stream);
        if (result == CUDA_SUCCESS && !direct)
            result = launch_from_f32(g, to, &x);
    }
    return gpu_check(g, result, "copying inputs", err);
}

static int enqueue_outputs(const struct plan *p, styx_error *err)
{
    struct gpu *g = p->g;
    const tape *t = p->t;
    CUresult result = CUDA_SUCCESS;
    for (int i = 0; i < t->nout && result == CUDA_SUCCESS; i++) {
        struct gview x = gview_of(p, t->out[i]);
        result = launch_to_f32(g, &x, plan_scratch(p) + p->out_at[i]);
    }
    if (result == CUDA_SUCCESS)
        result = g->cu->cuMemcpyDtoHAsync(p->pinned + p->in_bytes, plan_scratch(p), p->out_bytes,
                                          g->stream);
    return gpu_check(g, result, "copying outputs", err);
}

static int enqueue_code(const struct plan *p, int from, int to, styx_error *err)
{
    bool stepping = from == p->t->once;
    CUresult result = CUDA_SUCCESS;
    for (int i = from; i < to && result == CUDA_SUCCESS; i++) {
        int code = weights_need(p->weights, p->step[i].i, err);
        if (code)
            return code;
        if (p->timed)
            result = p->g->cu->cuEventRecord(mark_before(p, i, stepping), p->g->stream);
        if (!p->step[i].run(p, &p->step[i]))
            return step_failed(p, &p->step[i], err);
    }
    if (p->timed && result == CUDA_SUCCESS)
        result = p->g->cu->cuEventRecord(mark_before(p, to, stepping), p->g->stream);
    return gpu_check(p->g, result, "timing instructions", err);
}

int plan_enqueue(const struct plan *p, styx_error *err)
{
    int code = enqueue_inputs(p, false, err);
    if (!code)
        code = enqueue_code(p, p->t->once, p->t->ncode, err);
    return code ? code : enqueue_outputs(p, err);
}

static int capture(struct plan *p, styx_error *err)
{
    struct gpu *g = p->g;
    CUgraph graph = NULL;
    int code =
        gpu_check(g, g->cu->cuStreamBeginCapture(g->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
                  "capturing a step", err);
    if (code)
        return code;
    code = plan_enqueue(p, err);
    CUresult result = g->cu->cuStreamEndCapture(g->stream, &graph);
    if (!code)
        code = gpu_check(g, result, "capturing a step", err);
    if (!code)
        code = gpu_check(g, g->cu->cuGraphInstantiateWithFlags(&p->graph, graph, 0),
                         "making a graph", err);
    if (graph)
        g->cu->cuGraphDestroy(graph);
    return code;
}

static int run_step(struct plan *p, styx_error *err)
{
    struct gpu *g = p->g;
    int code;
    if (p->graph && !p->timed)
        return gpu_check(g, g->cu->cuGraphLaunch(p->graph, g->stream), "launching a step", err);
    code = plan_enqueue(p, err);
    if (code || p->timed || p->weights->stream)
        return code;
    return capture(p, err);
}

static int run_prologue(const struct plan *p, styx_error *err)
{
    struct gpu *g = p->g;
    int code = STYX_OK;
    if (g->hard)
        code = gpu_check(g, g->cu->cuMemsetD8Async(g->arena.base, 0xff, p->t->arena, g->stream),
                         "poisoning", err);
    if (!code)
        code = enqueue_inputs(p, true, err);
    return code ? code : enqueue_code(p, 0, p->t->once, err);
}

static bool cancelled(const struct run_args *args)
{
    return args->cancel && atomic_load(args->cancel);
}

int plan_run(void *plan, const struct run_args *args, styx_error *err)
{
    struct plan *p = plan;
    struct gpu *g = p->g;
    const tape *t = p->t;
    int code = gpu_enter(g, err);
    if (!code)
        code = take_memory(p, err);
    bool again = args->again && p->warm && g->arena_owner == p;
    if (!code && args->seconds)
        code = make_marks(p, err);
    if (code)
        return code;
    p->timed = args->seconds;
    for (int i = 0; i < t->nin; i++)
        memcpy(p->pinned + p->in_at[i], args->in[i], tensor_count(t->in[i]) * sizeof(float));
    g->arena_owner = p;
    p->warm = false;
    if (!again)
        code = run_prologue(p, err);
    if (!code && !cancelled(args))
        code = run_step(p, err);
    if (!code)
        weights_ahead(p->weights);
    int waited = gpu_wait(g, code ? NULL : err); /* whatever happened: nothing runs on */
    if (code || waited)
        return code ? code : waited;
    if (cancelled(args))
        return fail(err, STYX_ERR_CANCELLED, "cancelled");
    if (p->timed && (code = tell_seconds(p, again ? t->once : 0, args->seconds, err)))
        return code;
    p->warm = true;
    for (int i = 0; i < t->nout; i++)
        if (args->out[i])
            memcpy(args->out[i], p->pinned + p->in_bytes + p->out_at[i],
                   tensor_count(t->out[i]) * sizeof(float));
    return STYX_OK;
}
