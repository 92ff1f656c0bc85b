/* stream.c - chunks, slots and the copies between host and card. */
#include "cuda/stream.h"
#include <stdlib.h>

enum {
    CHUNK = 24 << 20, /* bytes; half a millisecond of copying */
    SLOTS = 4,        /* one in use, the others on their way */
    LEAST_SLOTS = 2
};

struct chunk {
    size_t from, bytes; /* in the image */
    int slot;           /* where it is or was last */
};

struct stream {
    struct loaded *l;
    struct chunk *chunk;
    int count;
    int loop, end; /* steps use chunks [loop, end); before them come the prologue's, after them
                    * those of the network's other programs */
    int *of;       /* [nparams] */
    struct region slots;
    size_t slot_bytes;
    int nslots, turn; /* the next slot to fill */
    CUevent ready[SLOTS], freed[SLOTS];
    int current;                /* chunk in use; -1: none */
    int queued[SLOTS], nqueued; /* chunks on their way or there, in order */
};

/* ---- cutting ---- */

struct cut {
    struct chunk *chunk; /* NULL: only counted */
    int count, loop, end, *of;
    size_t most;
};

static size_t end_of(const tape *t, const struct layout *l, int p)
{
    return l->at[p] + layout_bytes(l, t, p);
}

/* The matrices of one instruction stay together, and those of two that may run as one. */
static void cut_matrices(const tape *t, const struct layout *l, const int *which, int n, bool fresh,
                         struct cut *c, size_t *from)
{
    if (which[0] < 0 || t->params[which[0]].dims == 1 || c->of[which[0]] >= 0)
        return;
    size_t begin = l->at[which[0]], end = end_of(t, l, which[n - 1]);
    if (c->count == 0 || fresh || begin < *from || end - *from > CHUNK) {
        *from = begin;
        c->count++;
    }
    c->most = end - *from > c->most ? end - *from : c->most;
    for (int i = 0; i < n; i++)
        c->of[which[i]] = c->count - 1;
    if (c->chunk)
        c->chunk[c->count - 1] = (struct chunk){ *from, end - *from, 0 };
}

static void cut_all(const tape *t, const struct layout *l, struct cut *c)
{
    size_t from = 0;
    for (int i = 0; i < t->nparams; i++)
        c->of[i] = -1;
    for (int i = 0; i < t->ncode; i++) {
        int before = c->count;
        bool fresh = i >= t->once && c->loop < 0;
        const instr *o = &t->code[i], *shortcut = shortcut_behind(t, o);
        if (shortcut)
            cut_matrices(t, l, (int[]){ o->weight, shortcut->weight }, 2, fresh, c, &from);
        else
            cut_matrices(t, l, o->many ? o->many->weight : &o->weight, o->many ? o->many->count : 1,
                         fresh, c, &from);
        if (i >= t->once && c->loop < 0 && c->count > before)
            c->loop = before;
    }
    c->end = c->count;
    /* what only other programs of the network read */
    for (const struct merged *m = t->merged; m; m = m->next)
        if (c->of[m->weight[0]] < 0)
            cut_matrices(t, l, m->weight, m->count, true, c, &from);
    for (int i = 0; i < t->nparams; i++)
        if (c->of[i] < 0)
            cut_matrices(t, l, &i, 1, true, c, &from);
}

static int slots_for(size_t budget, size_t most)
{
    int n = budget && most ? (int)(budget / most < SLOTS ? budget / most : SLOTS) : SLOTS;
    return n < LEAST_SLOTS ? LEAST_SLOTS : n;
}

size_t stream_bytes(const tape *t, const struct layout *l, size_t budget)
{
    struct cut c = { .loop = -1, .of = malloc(((size_t)t->nparams + 1) * sizeof *c.of) };
    if (c.of)
        cut_all(t, l, &c);
    free(c.of);
    return (size_t)slots_for(budget, c.most) * c.most;
}

/* ---- opening ---- */

void stream_close(struct stream *s)
{
    if (!s)
        return;
    struct gpu *g = s->l->g;
    g->cu->cuStreamSynchronize(g->copies);
    for (int i = 0; i < SLOTS; i++) {
        if (s->ready[i])
            g->cu->cuEventDestroy(s->ready[i]);
        if (s->freed[i])
            g->cu->cuEventDestroy(s->freed[i]);
    }
    region_free(g, &s->slots);
    free(s->chunk);
    free(s->of);
    free(s);
}

static int make_slots(struct stream *s, styx_error *err)
{
    struct gpu *g = s->l->g;
    size_t bytes = (size_t)s->nslots * s->slot_bytes;
    int code = region_reserve(g, &s->slots, bytes, err);
    if (!code)
        code = region_grow(g, &s->slots, bytes, err);
    for (int i = 0; i < s->nslots && !code; i++) {
        code = gpu_check(g, g->cu->cuEventCreate(&s->ready[i], CU_EVENT_DISABLE_TIMING),
                         "making an event", err);
        if (!code)
            code = gpu_check(g, g->cu->cuEventCreate(&s->freed[i], CU_EVENT_DISABLE_TIMING),
                             "making an event", err);
    }
    return code;
}

int stream_open(struct loaded *l, const tape *t, size_t budget, struct stream **stream,
                styx_error *err)
{
    struct cut c = { .loop = -1 };
    struct stream *s = calloc(1, sizeof *s);
    if (!s)
        return fail_nomem(err, sizeof *s);
    *stream = s; /* closed with l whatever happens */
    s->l = l;
    s->current = -1;
    s->of = c.of = malloc(((size_t)t->nparams + 1) * sizeof *s->of);
    if (!s->of)
        return fail_nomem(err, (size_t)t->nparams * sizeof *s->of);
    cut_all(t, &l->layout, &c);
    s->slot_bytes = c.most;
    s->nslots = slots_for(budget, c.most);
    s->chunk = calloc((size_t)c.count + 1, sizeof *s->chunk);
    if (!s->chunk)
        return fail_nomem(err, (size_t)c.count * sizeof *s->chunk);
    c = (struct cut){ .chunk = s->chunk, .loop = -1, .of = s->of };
    cut_all(t, &l->layout, &c);
    s->count = c.count;
    s->loop = c.loop < 0 ? 0 : c.loop;
    s->end = c.end;
    return make_slots(s, err);
}

/* ---- passing ---- */

int stream_chunk(const struct stream *s, int p)
{
    return p < 0 ? -1 : s->of[p];
}

CUdeviceptr stream_at(const struct stream *s, int p)
{
    const struct chunk *c = &s->chunk[s->of[p]];
    return s->slots.base + (size_t)c->slot * s->slot_bytes + (s->l->layout.at[p] - c->from);
}

static int enqueue(struct stream *s, int which, styx_error *err)
{
    struct gpu *g = s->l->g;
    struct chunk *c = &s->chunk[which];
    CUdeviceptr to = s->slots.base + (size_t)s->turn * s->slot_bytes;
    CUresult result = g->cu->cuStreamWaitEvent(g->copies, s->freed[s->turn], 0);
    c->slot = s->turn;
    if (result == CUDA_SUCCESS)
        result = g->cu->cuMemcpyHtoDAsync(to, s->l->host.at + c->from, c->bytes, g->copies);
    if (result == CUDA_SUCCESS)
        result = g->cu->cuEventRecord(s->ready[s->turn], g->copies);
    s->queued[s->nqueued++] = which;
    s->turn = (s->turn + 1) % s->nslots;
    return gpu_check(g, result, "copying weights", err);
}

/* Nothing that is there or under way is wanted: start from the chunk at hand. */
static int start_anew(struct stream *s, int which, styx_error *err)
{
    struct gpu *g = s->l->g;
    CUresult result = g->cu->cuStreamSynchronize(g->copies);
    for (int i = 0; i < s->nslots && result == CUDA_SUCCESS; i++)
        result = g->cu->cuEventRecord(s->freed[i], g->stream);
    s->nqueued = 0;
    int code = gpu_check(g, result, "copying weights", err);
    return code ? code : enqueue(s, which, err);
}

/* Chunks that are fewer than the slots come round again before they have left them. */
static bool in_slot(const struct stream *s, int which)
{
    bool found = which == s->current;
    for (int i = 0; i < s->nqueued; i++)
        found |= which == s->queued[i];
    return found;
}

int stream_need(struct stream *s, int which, styx_error *err)
{
    struct gpu *g = s->l->g;
    CUresult result = CUDA_SUCCESS;
    int code = STYX_OK, next;
    if (which < 0 || which == s->current)
        return STYX_OK;
    if (s->current >= 0)
        result = g->cu->cuEventRecord(s->freed[s->chunk[s->current].slot], g->stream);
    s->current = -1;
    if (s->nqueued == 0 || s->queued[0] != which)
        code = start_anew(s, which, err);
    if (result == CUDA_SUCCESS && !code)
        result = g->cu->cuStreamWaitEvent(g->stream, s->ready[s->chunk[which].slot], 0);
    if (!code)
        code = gpu_check(g, result, "waiting for weights", err);
    if (code)
        return code;
    s->current = which;
    memmove(s->queued, s->queued + 1, (size_t)--s->nqueued * sizeof *s->queued);
    next = s->nqueued ? s->queued[s->nqueued - 1] : which;
    next = next + 1 < s->end ? next + 1 : s->loop;
    while (s->nqueued < s->nslots - 1 && !code && !in_slot(s, next)) {
        code = enqueue(s, next, err);
        next = next + 1 < s->end ? next + 1 : s->loop;
    }
    return code;
}
