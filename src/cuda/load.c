/* load.c - brings weights to the card: read from the mapping by several threads into pinned
 * memory, copied from there while the next piece is read, converted and reordered on the card. */
#include "cuda/load.h"
#include "base/thread.h"
#include "cuda/kernels/args.h"
#include "cuda/launch.h"
#include "cuda/stream.h"
#include <stdlib.h>

enum {
    PIECE = 32 << 20, /* bytes of a copy */
    READ = 256 << 10, /* bytes that a thread reads at a time */
    MOST_READERS = 8, /* threads; more read no faster from the page cache */
    MOST_PIECES = 2,
    WORKSPACE = 3 * MOST_PIECES * PIECE
};

/* Where a byte of the image lies on the card, when it is not in a window. */
static CUdeviceptr in_memory(const struct loaded *l, size_t at)
{
    return l->memory.base + (l->stream ? at - l->layout.matrices : at);
}

CUdeviceptr weights_at(const struct loaded *l, int p)
{
    bool passing = l->stream && stream_chunk(l->stream, p) >= 0;
    return passing ? stream_at(l->stream, p) : in_memory(l, l->layout.at[p]);
}

CUdeviceptr weights_elsewhere(const struct loaded *l, int p, size_t bytes, unsigned turn)
{
    size_t each = aligned(bytes), places = l->stream ? 0 : l->layout.bytes / each;
    return places < 2 ? weights_at(l, p) : l->memory.base + turn % places * each;
}

CUdeviceptr weights_doubled(const struct loaded *l, int p)
{
    return l->layout.doubled[p] ? weights_at(l, p) + l->layout.doubled[p] : 0;
}

enum filter_form weights_form(const struct loaded *l, int p)
{
    return (enum filter_form)l->layout.form[p];
}

CUdeviceptr weights_vector(const struct loaded *l, int p)
{
    return in_memory(l, l->layout.vector[p]);
}

CUdeviceptr weights_shift(const struct loaded *l, int p)
{
    return l->layout.taken[p].gamma < 0 ? 0 : in_memory(l, l->layout.shift[p]);
}

static bool streams(const struct gpu *g, const struct layout *l, size_t budget)
{
    return g->offload == OFFLOAD_STREAM || (budget && l->bytes > budget);
}

/* What is streamed had better be short. */
static int lay_out(const struct gpu *g, const tape *t, size_t budget, struct layout *l,
                   styx_error *err)
{
    int code = layout_make(g, t, true, l, err);
    if (code || !streams(g, l, budget))
        return code;
    layout_free(l);
    return layout_make(g, t, false, l, err);
}

size_t weights_measure(const struct gpu *g, const tape *t, size_t budget)
{
    struct layout l;
    size_t bytes = 0;
    if (lay_out(g, t, budget, &l, NULL) == STYX_OK)
        bytes =
            streams(g, &l, budget) ? l.bytes - l.matrices + stream_bytes(t, &l, budget) : l.bytes;
    layout_free(&l);
    return bytes;
}

/* ---- reading ---- */

/* On the card, in the programs' workspace (nothing runs meanwhile), lie MOST_PIECES pieces as they
 * are read, and twice as many for what becomes of them (16 bits may become 32). */
struct reader {
    struct gpu *g;
    struct pool *pool;
    char *pinned[MOST_PIECES];
    CUevent done[MOST_PIECES];
    int turn;
    const struct span *span; /* of the piece being read */
    size_t from, count;
    enum dtype type; /* as which it is copied */
};

/* As the file has them where the card can convert, else through f32. */
static enum dtype copied_type(const struct span *s)
{
    bool plain = span_plain(s) && (s->type == DT_F32 || s->type == DT_F16 || s->type == DT_BF16);
    return plain ? s->type : DT_F32;
}

static void read_job(void *ctx, int job, int thread)
{
    const struct reader *r = ctx;
    size_t each = dtype_bytes(r->type), run = READ / each, at = (size_t)job * run;
    size_t n = r->count - at < run ? r->count - at : run;
    char *to = r->pinned[r->turn] + at * each;
    (void)thread;
    if (r->span->type == r->type && span_plain(r->span))
        memcpy(to, (const char *)r->span->data + (r->from + at) * each, n * each);
    else
        span_read(r->span, r->from + at, n, (float *)to);
    span_release(r->span, r->from + at, n);
}

static int read_piece(struct reader *r, const struct span *s, size_t from, size_t count,
                      CUdeviceptr *at, styx_error *err)
{
    struct gpu *g = r->g;
    r->turn = (r->turn + 1) % MOST_PIECES;
    int code = gpu_check(g, g->cu->cuEventSynchronize(r->done[r->turn]), "copying weights", err);
    if (code)
        return code;
    r->span = s;
    r->from = from;
    r->count = count;
    r->type = copied_type(s);
    size_t bytes = count * dtype_bytes(r->type);
    pool_run(r->pool, read_job, r, (int)((bytes + READ - 1) / READ));
    *at = r->g->workspace.base + (size_t)r->turn * PIECE;
    return gpu_check(g, g->cu->cuMemcpyHtoDAsync(*at, r->pinned[r->turn], bytes, g->stream),
                     "copying weights", err);
}

/* Where a byte of the image is written first, and how it gets from there to its place. */
static bool passes(const struct loaded *l, size_t at)
{
    return l->stream && at < l->layout.matrices;
}

static CUdeviceptr written_at(const struct reader *r, const struct loaded *l, size_t at)
{
    return passes(l, at) ? r->g->workspace.base + (size_t)(MOST_PIECES + 2 * r->turn) * PIECE
                         : in_memory(l, at);
}

static CUresult keep(const struct reader *r, const struct loaded *l, size_t at, size_t bytes)
{
    return passes(l, at) ? r->g->cu->cuMemcpyDtoHAsync(l->host.at + at, written_at(r, l, at), bytes,
                                                       r->g->stream)
                         : CUDA_SUCCESS;
}

/* Rows of a matrix from `first` on, already written, take up the norm whose numbers have been read.
 */
static CUresult take_norm(const struct loaded *l, int i, CUdeviceptr rows_at, size_t first,
                          size_t rows, size_t row)
{
    const struct taken *n = &l->layout.taken[i];
    CUdeviceptr bias = n->bias < 0 ? 0 : weights_vector(l, n->bias) + first * sizeof(float);
    return launch_fold(l->g, rows_at, l->type, (long)rows, (long)row, weights_vector(l, n->gamma),
                       weights_vector(l, n->beta), bias,
                       weights_shift(l, i) + first * dtype_bytes(l->type));
}

/* Rows of a filter that a map is doubled for, to the other form, which is less than twice as long:
 * written where the rows themselves were, if those pass. */
static CUresult write_doubled(const struct reader *r, const struct loaded *l, int i, const param *p,
                              CUdeviceptr from, enum dtype type, size_t first, size_t rows)
{
    size_t bytes = (size_t)p->shape[1] * DOUBLED_TAPS * dtype_bytes(l->type);
    size_t at = l->layout.at[i] + l->layout.doubled[i] + first * bytes;
    CUresult result = launch_pack_doubled(l->g, from, type, written_at(r, l, at), l->type,
                                          (long)rows, p->shape[1]);
    return result == CUDA_SUCCESS ? keep(r, l, at, rows * bytes) : result;
}

/* Rows of 16 or 32 bits in the form that their kernels read. */
static CUresult write_form(const struct loaded *l, int i, const param *p, CUdeviceptr from,
                           enum dtype type, CUdeviceptr to, size_t rows)
{
    long taps = p->dims == 4 ? (long)p->shape[2] * p->shape[3] : 1;
    long inputs = (long)(param_count(p) / (size_t)p->shape[0]) / taps;
    switch (weights_form(l, i)) {
    case FILTER_WINOGRAD:
        return launch_pack_winograd(l->g, from, type, to, l->type, (long)rows, inputs, p->shape[0]);
    case FILTER_PAIRS:
        return launch_pack_pairs(l->g, from, type, to, l->type, (long)rows, inputs);
    default:
        return launch_pack(l->g, from, type, to, l->type, (long)rows, inputs, (int)taps);
    }
}

/* Rows of a parameter from `first` on, which lie on the card as the file has them, to all its
 * places in the image. */
static int write_rows(const struct reader *r, const struct loaded *l, int i, const param *p,
                      CUdeviceptr from, enum dtype type, size_t first, size_t rows, styx_error *err)
{
    bool eight = l->layout.fp8 && p->coarse;
    enum filter_form form = weights_form(l, i);
    size_t row = param_count(p) / (size_t)p->shape[0];
    /* of the first phase alone, if the filter is for Winograd's algorithm in both directions */
    size_t bytes = form == FILTER_PAIRS      ? row / 9 * PAIRS_TAPS * dtype_bytes(l->type)
                   : form == FILTER_WINOGRAD ? row / 9 * dtype_bytes(l->type)
                                             : row * (eight ? 1 : dtype_bytes(l->type));
    size_t at = l->layout.at[i] + first * bytes;
    CUdeviceptr to = written_at(r, l, at);
    CUdeviceptr f32 = p->dims == 1 || eight ? weights_vector(l, i) + first * sizeof(float) : 0;
    struct gview x = { from, type, (int)rows, 1, 1, (int)row, (long)row };
    CUresult result =
        eight ? launch_eight(l->g, &x, to, f32) : write_form(l, i, p, from, type, to, rows);
    if (result == CUDA_SUCCESS && p->dims == 1)
        result = launch_pack(l->g, from, type, f32, DT_F32, (long)rows, 1, 1);
    if (result == CUDA_SUCCESS && l->layout.taken[i].gamma >= 0)
        result = take_norm(l, i, to, first, rows, row);
    if (result == CUDA_SUCCESS)
        result = keep(r, l, at, rows * bytes);
    if (result == CUDA_SUCCESS && l->layout.doubled[i])
        result = write_doubled(r, l, i, p, from, type, first, rows);
    return gpu_check(l->g, result, "converting weights", err);
}

/* One parameter, some rows (of its first dimension) at a time. */
static int read_param(struct reader *r, struct loaded *l, int i, const param *p,
                      const struct span *s, styx_error *err)
{
    int code = STYX_OK;
    size_t rows = (size_t)p->shape[0], row = param_count(p) / rows;
    enum dtype type = copied_type(s);
    size_t most = PIECE / (row * dtype_bytes(type));
    if (most == 0)
        return fail(err, STYX_ERR_UNSUPPORTED, "%s has rows of %zu numbers, too long to copy",
                    p->name, row);
    for (size_t at = 0; at < rows && !code; at += most) {
        size_t n = rows - at < most ? rows - at : most;
        CUdeviceptr from;
        if ((code = read_piece(r, s, at * row, n * row, &from, err)))
            return code;
        code = write_rows(r, l, i, p, from, type, at, n, err);
        if (!code)
            code = gpu_check(r->g, r->g->cu->cuEventRecord(r->done[r->turn], r->g->stream),
                             "copying weights", err);
    }
    return code;
}

static void reader_close(struct reader *r)
{
    struct gpu *g = r->g;
    for (int i = 0; i < MOST_PIECES; i++) {
        if (r->done[i])
            g->cu->cuEventDestroy(r->done[i]);
        if (r->pinned[i])
            g->cu->cuMemFreeHost(r->pinned[i]);
    }
    pool_free(r->pool);
}

static int reader_open(struct gpu *g, struct reader *r, styx_error *err)
{
    int threads = thread_limit(), code;
    *r = (struct reader){ .g = g };
    code = pool_new(threads < MOST_READERS ? threads : MOST_READERS, &r->pool, err);
    for (int i = 0; i < MOST_PIECES && !code; i++) {
        code = gpu_check(g, g->cu->cuMemHostAlloc((void **)&r->pinned[i], PIECE, 0),
                         "allocating pinned memory", err);
        if (!code)
            code = gpu_check(g, g->cu->cuEventCreate(&r->done[i], CU_EVENT_DISABLE_TIMING),
                             "making an event", err);
    }
    if (!code)
        code = region_grow(g, &g->workspace, WORKSPACE, err);
    return code;
}

int weights_need(struct loaded *l, const instr *i, styx_error *err)
{
    if (!l->stream)
        return STYX_OK;
    return stream_need(l->stream, stream_chunk(l->stream, first_weight(i)), err);
}

/* ---- loading ---- */

/* The vectors first: matrices take them up. */
static int fill(struct loaded *l, const tape *t, const struct weights *w, styx_error *err)
{
    struct reader r;
    int code = reader_open(l->g, &r, err);
    for (int matrices = 0; matrices < 2; matrices++)
        for (int i = 0; i < t->nparams && !code; i++)
            if ((t->params[i].dims > 1) == matrices)
                code = read_param(&r, l, i, &t->params[i], &w->span[i], err);
    if (!code)
        code = gpu_wait(l->g, err);
    reader_close(&r);
    return code;
}

void weights_unload(void *dev, void *loaded)
{
    struct loaded *l = loaded;
    struct gpu *g = dev;
    if (!l || gpu_enter(g, NULL))
        return;
    gpu_wait(g, NULL);
    g->cu->cuStreamSynchronize(g->copies);
    for (struct loaded **at = &g->loaded; *at; at = &(*at)->next)
        if (*at == l) {
            *at = l->next;
            break;
        }
    stream_close(l->stream);
    pinned_give(g, &l->host);
    region_free(g, &l->memory);
    gpu_give_spare(g);
    g->ceiling = 0; /* perhaps it was the largest */
    if (l->arrived)
        g->cu->cuEventDestroy(l->arrived);
    layout_free(&l->layout);
    free(l);
}

/* Memory for the image, on the card or, as far as it is streamed, on the host. */
static int make_room(struct loaded *l, const tape *t, size_t budget, styx_error *err)
{
    struct gpu *g = l->g;
    bool passing = streams(g, &l->layout, budget);
    l->size = l->layout.bytes - (passing ? l->layout.matrices : 0);
    l->window = passing ? whole_pages(g, stream_bytes(t, &l->layout, budget)) : 0;
    int code = region_reserve(g, &l->memory, l->size, err);
    if (!code)
        code = weights_make_room(l, 0, WORKSPACE, err);
    if (!code)
        code = region_grow(g, &l->memory, l->size, err);
    if (!code && passing && !(code = pinned_take(g, l->layout.matrices, &l->host, err)))
        code = stream_open(l, t, budget, &l->stream, err);
    l->there = l->size;
    return code;
}

int weights_load(void *dev, const tape *t, const struct weights *w, size_t budget, void **loaded,
                 styx_error *err)
{
    struct gpu *g = dev;
    struct loaded *l = calloc(1, sizeof *l);
    int code;
    if (!l)
        return fail_nomem(err, sizeof *l);
    l->g = g;
    l->type = t->type;
    code = lay_out(g, t, budget, &l->layout, err);
    if (!code)
        code = gpu_enter(g, err);
    if (!code)
        code = gpu_check(g, g->cu->cuEventCreate(&l->arrived, CU_EVENT_DISABLE_TIMING),
                         "making an event", err);
    if (!code)
        code = make_room(l, t, budget, err);
    if (!code)
        code = fill(l, t, w, err);
    if (code) {
        weights_unload(g, l);
        return code;
    }
    l->next = g->loaded;
    g->loaded = l;
    *loaded = l;
    return STYX_OK;
}
