/* turns.c - networks that take turns on the card (OFFLOAD_MODEL).
 *
 * The card holds no more than the program that needs most: its weights, its arena, its workspace.
 * Below this ceiling weights stay where they are, so a network that must make room gives the end of
 * its image, and only that has to come back. Weights never change: the host's copy is made once,
 * when a network first has to leave.
 *
 * Networks run in rounds (text encoders, UNet, decoder, and again for the next picture). So of
 * those that had a turn since this network's last one, the one whose turn is longest ago is next:
 * room for it is made before the card is given its work, and it is copied while the card does it,
 * or has none. Who must leave is who is wanted last. A guess that was wrong costs a copy, nothing
 * else. */
#include "cuda/step.h"
#include <limits.h>

static size_t room(const struct gpu *g)
{
    return g->ceiling > g->used ? g->ceiling - g->used : 0;
}

/* ---- the order of turns ---- */

static void take_turn(struct loaded *l)
{
    if (l->turn && l->turn == l->g->turns)
        return;
    l->since = l->turn;
    l->turn = ++l->g->turns;
}

/* While l runs: the network of its round whose last turn was the first after the given one. */
static struct loaded *turn_after(const struct loaded *l, unsigned turn)
{
    struct loaded *next = NULL;
    for (struct loaded *n = l->g->loaded; n; n = n->next)
        if (n != l && !n->stream && n->turn > turn && (!next || n->turn < next->turn))
            next = n;
    return next;
}

/* The later the turn, the larger; last are those that have left the round. */
static unsigned wanted(const struct loaded *l, const struct loaded *n)
{
    return n->turn > l->since ? n->turn : UINT_MAX;
}

/* While l runs: the network on the card that is wanted last, but after the given turn. */
static struct loaded *wanted_last(const struct loaded *l, unsigned turn)
{
    struct loaded *last = NULL;
    for (struct loaded *n = l->g->loaded; n; n = n->next)
        if (n != l && !n->stream && n->memory.mapped && wanted(l, n) > turn &&
            (!last || wanted(l, n) > wanted(l, last)))
            last = n;
    return last;
}

/* ---- leaving ---- */

static int keep_copy(struct loaded *l, styx_error *err)
{
    struct gpu *g = l->g;
    int code = pinned_take(g, l->size, &l->host, err);
    if (code)
        return code;
    code = gpu_check(g, g->cu->cuMemcpyDtoHAsync(l->host.at, l->memory.base, l->size, g->stream),
                     "copying weights", err);
    int waited = gpu_wait(g, code ? NULL : err);
    if (code || waited)
        pinned_give(g, &l->host);
    return code ? code : waited;
}

static int arrive(struct loaded *l, styx_error *err)
{
    struct gpu *g = l->g;
    int code = STYX_OK;
    if (l->coming)
        code = gpu_check(g, g->cu->cuEventSynchronize(l->arrived), "copying weights", err);
    l->coming = l->coming && code;
    return code;
}

/* The last piece of the image leaves the card. */
static int send_piece(struct loaded *l, styx_error *err)
{
    struct gpu *g = l->g;
    int code = l->host.at ? gpu_wait(g, err) : keep_copy(l, err);
    if (!code)
        code = arrive(l, err);
    if (code)
        return code;
    region_shrink(g, &l->memory, l->memory.mapped - l->memory.last->bytes);
    l->there = l->there < l->memory.mapped ? l->there : l->memory.mapped;
    return STYX_OK;
}

/* What was computed in goes as far as it is not wanted now, and what others kept there is no longer
 * whole. The card must have no work. */
static void trim(struct gpu *g, size_t arena, size_t workspace)
{
    size_t had = g->arena.mapped;
    region_shrink(g, &g->arena, arena);
    region_shrink(g, &g->workspace, workspace);
    if (g->arena.mapped < had)
        g->arena_owner = NULL;
}

/* To less than what is wanted, if the last piece is too large: it grows again by the rest. */
static void fit(struct gpu *g, struct region *r, size_t bytes)
{
    if (r->mapped > whole_pages(g, bytes))
        region_shrink(g, r, r->mapped - r->last->bytes);
}

static size_t lack(const struct gpu *g, const struct region *r, size_t bytes)
{
    return bytes > r->mapped ? whole_pages(g, bytes) - r->mapped : 0;
}

static size_t lacks(const struct loaded *l, size_t arena, size_t workspace)
{
    const struct gpu *g = l->g;
    return lack(g, &l->memory, l->size) + (l->stream ? 0 : l->window) + lack(g, &g->arena, arena) +
           lack(g, &g->workspace, workspace);
}

int weights_make_room(struct loaded *l, size_t arena, size_t workspace, styx_error *err)
{
    struct gpu *g = l->g;
    size_t all = l->memory.reserved + l->window + whole_pages(g, arena) + whole_pages(g, workspace);
    struct loaded *other;
    int code;
    if (g->offload != OFFLOAD_MODEL)
        return STYX_OK;
    g->ceiling = all > g->ceiling ? all : g->ceiling;
    if (lacks(l, arena, workspace) <= room(g))
        return STYX_OK;
    if ((code = gpu_wait(g, err)))
        return code;
    trim(g, arena, workspace);
    fit(g, &g->arena, arena);
    fit(g, &g->workspace, workspace);
    g->arena_owner = NULL;
    while (!code && lacks(l, arena, workspace) > room(g) && (other = wanted_last(l, 0)))
        code = send_piece(other, err);
    return code;
}

/* ---- coming ---- */

/* What has memory but not yet its numbers; a piece at a time, so that others' small copies need not
 * wait for all of it. */
static int copy_in(struct loaded *l, styx_error *err)
{
    struct gpu *g = l->g;
    size_t end = l->size < l->memory.mapped ? l->size : l->memory.mapped;
    if (l->there == end)
        return STYX_OK;
    CUresult result = CUDA_SUCCESS;
    for (size_t at = l->there; at < end && result == CUDA_SUCCESS; at += g->piece)
        result = g->cu->cuMemcpyHtoDAsync(l->memory.base + at, l->host.at + at,
                                          end - at < g->piece ? end - at : g->piece, g->copies);
    if (result == CUDA_SUCCESS)
        result = g->cu->cuEventRecord(l->arrived, g->copies);
    if (result != CUDA_SUCCESS) {
        g->cu->cuStreamSynchronize(g->copies);
        return gpu_check(g, result, "copying weights", err);
    }
    l->there = end;
    l->coming = true;
    return STYX_OK;
}

/* Of those that come next each may have the memory of who is wanted later, and what is not computed
 * in now. */
static int clear_way(const struct loaded *l, size_t arena, size_t workspace)
{
    struct gpu *g = l->g;
    struct loaded *other;
    size_t missing = 0;
    int code = STYX_OK;
    for (struct loaded *n = turn_after(l, l->since); n && !code; n = turn_after(l, n->turn)) {
        missing += n->memory.reserved - n->memory.mapped;
        if (missing > room(g) && !(code = gpu_wait(g, NULL)))
            trim(g, arena, workspace);
        while (!code && missing > room(g) && (other = wanted_last(l, n->turn)) && other->host.at)
            code = send_piece(other, NULL); /* a first copy would take long */
    }
    return code;
}

/* Memory for those that come next, as far as there is any that is not wanted sooner. Nothing of
 * this must succeed: who takes a turn asks again. */
static void make_way(const struct loaded *l, size_t arena, size_t workspace)
{
    struct gpu *g = l->g;
    int code = clear_way(l, arena, workspace);
    for (struct loaded *n = turn_after(l, l->since); n && !code; n = turn_after(l, n->turn)) {
        size_t bytes = n->memory.reserved - n->memory.mapped;
        bytes = bytes > room(g) ? room(g) / g->piece * g->piece : bytes;
        if (bytes)
            code = region_grow(g, &n->memory, n->memory.mapped + bytes, NULL);
    }
}

int weights_bring(struct loaded *l, size_t arena, size_t workspace, styx_error *err)
{
    struct gpu *g = l->g;
    int code;
    take_turn(l);
    if ((code = weights_make_room(l, arena, workspace, err)) ||
        (code = region_grow(g, &l->memory, l->size, err)) || (code = copy_in(l, err)) ||
        (code = region_grow(g, &g->arena, arena, err)) ||
        (code = region_grow(g, &g->workspace, workspace, err)) || (code = arrive(l, err)))
        return code;
    if (g->offload == OFFLOAD_MODEL)
        make_way(l, arena, workspace);
    return STYX_OK;
}

void weights_ahead(const struct loaded *l)
{
    struct loaded *n = turn_after(l, l->since);
    while (n && !copy_in(n, NULL))
        n = turn_after(l, n->turn);
}

void weights_rest(void *dev)
{
    struct gpu *g = dev;
    struct loaded *l = g->loaded;
    while (l && l->turn != g->turns)
        l = l->next;
    if (!l || g->offload != OFFLOAD_MODEL || gpu_enter(g, NULL))
        return;
    make_way(l, 0, LIBRARY_WORKSPACE); /* which everyone wants */
    weights_ahead(l);
}
