/* pack.c - weights in the form that the tiles read: see struct packed.
 *
 * The form depends on the layer alone, never on the size of a picture, so one copy serves every
 * program of a component. */
#include "base/big.h"
#include "cpu/cpu.h"
#include <stdlib.h>

enum {
    BLOCK_BYTES = 320 * 1024, /* of a panel: about half of the L2 cache of a Zen 4 core */
    CHUNK = 256,              /* numbers of one output channel converted at a time: the 32 of a
                                 panel then fit the L1 cache */
    SLICE = 8192 + 64,        /* bytes of one output channel read at a time: those of a panel stay
                                 in L2. Not a power of two: rows fall into all cache sets */
    STAGING = PANEL * SLICE,
};

static bool multiplies(const instr *i)
{
    return i->op == OP_LINEAR || i->op == OP_CONV2D;
}

static size_t unit(const struct packed *w) /* bytes of a packed number */
{
    return dtype_bytes(w->type);
}

/* Cuts channels [0, c) of a part into equal blocks that fit BLOCK_BYTES. */
static int cut_part(struct packed *w, int part, int c, struct block *block, size_t *at)
{
    int per_word = 4 / (int)unit(w);
    size_t bytes = (size_t)w->taps * (size_t)c * unit(w) * PANEL;
    int n = (int)((bytes + BLOCK_BYTES - 1) / BLOCK_BYTES), size;
    if (n > (c + 15) / 16)
        n = (c + 15) / 16;
    if (w->winograd) /* its tap is a product by itself */
        n = 1;
    size = (int)round_up((size_t)(c + n - 1) / (size_t)n, (size_t)per_word * 16);
    for (n = 0; n * size < c; n++) {
        int left = c - n * size;
        struct block b = { .part = part, .c0 = n * size, .c = left < size ? left : size };
        b.words = (b.c + per_word - 1) / per_word;
        b.at = *at;
        *at += (size_t)w->taps * (size_t)tap_rows(w, &b) * 4 * PANEL;
        if (block)
            block[n] = b;
    }
    return n;
}

/* Everything but the memory. block NULL: only counts. */
static void shape(struct packed *w, const struct cpu *dev, const tape *t, const instr *i,
                  struct block *block)
{
    const param *p = &t->params[i->weight];
    const tensor *x = i->in[0];
    size_t at = 0;
    *w = (struct packed){ .weight = i->weight, .bias = i->bias, .act = i->act };
    w->type = conv_type(dev, t, i);
    w->act = i->act == ACT_GEGLU ? ACT_GEGLU : ACT_NONE;
    w->split = x->part[0] ? x->part[0]->c : 0;
    w->phases = i->op == OP_CONV2D && conv_doubles(i) ? 4 : 1;
    w->cout = p->shape[0] / (w->act == ACT_GEGLU ? 2 : 1);
    w->cin = p->shape[1];
    w->k = i->op == OP_CONV2D ? i->u.conv.k : 1;
    w->winograd = conv_winograd(dev, i);
    w->taps = w->winograd ? 16 : w->phases == 4 ? 4 : w->k * w->k;
    w->panels = w->act == ACT_GEGLU ? (w->cout + 15) / 16 : (w->cout + PANEL - 1) / PANEL;
    w->block = block;
    w->nblocks = cut_part(w, 0, w->split ? w->split : w->cin, block, &at);
    if (w->split)
        w->nblocks += cut_part(w, 1, w->cin - w->split, block ? block + w->nblocks : NULL, &at);
    w->panel_bytes = at;
}

static size_t data_bytes(const struct packed *w)
{
    return round_up((size_t)w->phases * (size_t)w->panels * w->panel_bytes, 64);
}

static size_t offset_bytes(const struct packed *w)
{
    return round_up((size_t)w->panels * PANEL * sizeof(float), 64);
}

static bool same(const struct packed *a, const struct packed *b)
{
    return a->weight == b->weight && a->bias == b->bias && a->act == b->act &&
           a->split == b->split && a->phases == b->phases && a->winograd == b->winograd &&
           a->type == b->type;
}

struct packed *pack_find(const struct loaded *l, const tape *t, const instr *i)
{
    struct packed w;
    shape(&w, l->dev, t, i, NULL);
    for (int j = 0; j < l->npacked; j++)
        if (same(l->packed[j], &w))
            return l->packed[j];
    return NULL;
}

/* Output channel of a panel's column; -1: padding. */
static int row_of(const struct packed *w, int panel, int column)
{
    int o = panel * PANEL + column;
    if (w->act != ACT_GEGLU)
        return o < w->cout ? o : -1;
    o = panel * 16 + column % 16;
    return o >= w->cout ? -1 : column < 16 ? o : w->cout + o;
}

/* The n numbers after those will be wanted next: 32 rows at a time are more than the CPU's own
 * prefetching follows. */
static void read_part(const struct kernels *k, const struct span_part *p, size_t from, size_t n,
                      float *to)
{
    const struct span *s = p->span;
    if (!span_plain(s)) {
        span_part_read(p, from, n, to);
        return;
    }
    const char *data = (const char *)p->data + (from - p->from) * dtype_bytes(s->type);
    size_t bytes = n * dtype_bytes(s->type);
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(data + bytes + i);
    k->to_f32(s->type, data, to, n);
}

/* A 3x3 filter over a picture doubled by nearest neighbours sees each input pixel once or twice in
 * a direction: rows -1, 0, 1 of an even output row lie in input rows -1, 0, 0, those of an odd one
 * in 0, 0, 1. So each of the four phases is a 2x2 filter of sums, with 4/9 of the work. */
static void fold(const float *w, int channels, int phase, float *to)
{
    bool down = phase / 2, right = phase % 2;
    for (int c = 0; c < channels; c++, w += 9, to += 4) {
        float rows[2][3];
        for (int x = 0; x < 3; x++) {
            rows[0][x] = down ? w[x] + w[3 + x] : w[x];
            rows[1][x] = down ? w[6 + x] : w[3 + x] + w[6 + x];
        }
        for (int y = 0; y < 2; y++) {
            const float *r = rows[y];
            to[2 * y] = right ? r[0] + r[1] : r[0];
            to[2 * y + 1] = right ? r[2] : r[1] + r[2];
        }
    }
}

/* U = G g G^T of each channel, in place from the last one on; G = [1 0 0; 1/2 1/2 1/2;
 * 1/2 -1/2 1/2; 0 0 1]. */
static void transform(float *w, int channels)
{
    for (int c = channels - 1; c >= 0; c--) {
        float rows[4][3], *g = w + 9 * c, *to = w + 16 * c;
        for (int x = 0; x < 3; x++) {
            rows[0][x] = g[x];
            rows[1][x] = 0.5f * (g[x] + g[3 + x] + g[6 + x]);
            rows[2][x] = 0.5f * (g[x] - g[3 + x] + g[6 + x]);
            rows[3][x] = g[6 + x];
        }
        for (int y = 0; y < 4; y++) {
            const float *r = rows[y];
            to[4 * y] = r[0];
            to[4 * y + 1] = 0.5f * (r[0] + r[1] + r[2]);
            to[4 * y + 2] = 0.5f * (r[0] - r[1] + r[2]);
            to[4 * y + 3] = r[2];
        }
    }
}

/* Where channel c of output o begins in the weight. */
static size_t number_of(const struct packed *w, int o, int c)
{
    return ((size_t)o * (size_t)w->cin + (size_t)c) * (size_t)(w->k * w->k);
}

/* Some channels of one output as [channel][tap], zeros behind them. */
struct filter {
    float row[2 * MAX_TAPS], folded[2 * MAX_TAPS], *taps;
};

/* Channels [first, first + n) of output o, which `row` has; count numbers in all. */
static void read_filter(const struct loaded *l, const struct packed *w, int phase,
                        const struct span_part *row, int o, int first, int n, size_t count,
                        struct filter *f)
{
    size_t area = (size_t)(w->k * w->k), used = (size_t)(n * w->taps);
    read_part(l->dev->k, row, number_of(w, o, first), (size_t)n * area, f->row);
    f->taps = f->row;
    if (w->phases == 4)
        fold(f->row, n, phase, f->taps = f->folded);
    if (w->winograd)
        transform(f->row, n);
    memset(f->taps + used, 0, (count - used) * sizeof *f->taps);
}

/* Channels that are converted at a time. */
static int chunk_of(const struct packed *w)
{
    int step = CHUNK / (w->k * w->k) / 4 * 4;
    return step < 2 ? 2 : step;
}

/* ---- rows of the file: as many channels at a time as a slice holds ---- */

/* A panel being packed. */
struct work {
    const struct loaded *l;
    const struct packed *w;
    int phase, panel;
    char *staging, *to;
    float scale[PANEL]; /* of 8-bit columns */
    struct span_part row[PANEL];
};

static int slice_of(const struct loaded *l, const struct packed *w)
{
    int chunk = chunk_of(w);
    int n = (int)span_part_room(&l->span[w->weight], SLICE) / (w->k * w->k);
    return n < chunk ? chunk : n / chunk * chunk;
}

/* Channels [first, first + n) of all rows. Rows that are whole and lie one after the other are read
 * as one. */
static int fetch(struct work *p, int first, int n, styx_error *err)
{
    const struct packed *w = p->w;
    const struct span *s = &p->l->span[w->weight];
    size_t row = number_of(w, 1, 0), count = (size_t)(n * w->k * w->k);
    int code = STYX_OK;
    for (int j = 0, run; j < PANEL && !code; j += run) {
        int o = row_of(w, p->panel, j);
        run = 1;
        if (o < 0)
            continue;
        while (n == w->cin && j + run < PANEL && row_of(w, p->panel, j + run) == o + run)
            run++;
        code = span_fetch(s, number_of(w, o, first), count + (size_t)(run - 1) * row,
                          p->staging + j * SLICE, &p->row[j], err);
        for (int i = 1; i < run; i++)
            p->row[j + i] = p->row[j];
    }
    return code;
}

/* ---- 8-bit weights: the largest of an output channel becomes 127 ---- */

/* Sizes of floats compare as their bits do, and a loop over integers becomes vectors. */
static float widest(float most, const float *x, size_t n)
{
    int32_t top, bits;
    memcpy(&top, &most, sizeof top);
    for (size_t i = 0; i < n; i++) {
        memcpy(&bits, &x[i], sizeof bits);
        bits &= INT32_MAX;
        top = bits > top ? bits : top;
    }
    memcpy(&most, &top, sizeof most);
    return most;
}

static void widen_range(struct work *p, int first, int n)
{
    struct filter f;
    for (int j = 0; j < PANEL; j++) {
        int o = row_of(p->w, p->panel, j), step = chunk_of(p->w);
        for (int c = 0; o >= 0 && c < n; c += step) {
            int some = n - c < step ? n - c : step;
            size_t count = (size_t)(some * p->w->taps);
            read_filter(p->l, p->w, p->phase, &p->row[j], o, first + c, some, count, &f);
            p->scale[j] = widest(p->scale[j], f.taps, count);
        }
    }
}

/* The head of each tap: no sums yet, and the scales. */
static int begin_panel8(struct work *p, styx_error *err)
{
    const struct packed *w = p->w;
    int code = STYX_OK, step = slice_of(p->l, w);
    memset(p->scale, 0, sizeof p->scale);
    for (int c = 0; c < w->cin && !code; c += step) {
        int n = w->cin - c < step ? w->cin - c : step;
        if (!(code = fetch(p, c, n, err)))
            widen_range(p, c, n);
    }
    for (int j = 0; j < PANEL; j++)
        p->scale[j] /= 127;
    for (int i = 0; i < w->nblocks; i++)
        for (int t = 0; t < w->taps; t++) {
            char *head =
                p->to + w->block[i].at + (size_t)(t * tap_rows(w, &w->block[i])) * 4 * PANEL;
            memset(head, 0, 4 * PANEL);
            memcpy(head + 4 * PANEL, p->scale, 4 * PANEL);
        }
    return code;
}

/* To the nearest integer, of |x| < 2^22: its bits after a sum that has no room for less. */
static int32_t nearest(float x)
{
    float moved = x + 0x1.8p23f, origin = 0x1.8p23f;
    int32_t n, zero;
    memcpy(&n, &moved, sizeof n);
    memcpy(&zero, &origin, sizeof zero);
    return n - zero;
}

/* Numbers [channel][tap] to bytes [four channels][tap][channel]. What they add to the products of
 * an input's 128 is taken from the sums in the taps' heads, step dwords apart. */
static void quantize_filter(const float *taps, int ntaps, int words, float scale, char *to,
                            int32_t *sum, long step)
{
    float inverse = scale > 0 ? 1 / scale : 0;
    for (int t = 0; t < ntaps; t++) {
        int32_t all = 0;
        for (int c = 0; c < 4 * words; c++) {
            int8_t n = (int8_t)nearest(taps[c * ntaps + t] * inverse);
            to[4 * (c / 4 * ntaps + t) + c % 4] = (char)n;
            all += n;
        }
        sum[t * step] -= 128 * all;
    }
}

/* Channels [c, c + n) of block b, for all 32 columns. */
static void pack_chunk(const struct work *p, const struct block *b, int c, int n)
{
    const struct packed *w = p->w;
    struct filter f;
    _Alignas(64) char numbers[PANEL * (2 * MAX_TAPS + 16) * sizeof(float)];
    int per_word = 4 / (int)unit(w), words = (n + per_word - 1) / per_word;
    int first = b->c0 + c + (b->part ? w->split : 0), head = w->type == DT_I8 ? HEAD : 0;
    size_t count = (size_t)(words * per_word * w->taps);
    size_t stride = round_up(count * unit(w), 64) | 64; /* odd: columns fall into all cache sets */
    char *to = p->to + b->at;

    for (int j = 0; j < PANEL; j++) {
        int o = row_of(w, p->panel, j);
        char *column = numbers + (size_t)j * stride;
        if (o < 0) {
            memset(column, 0, stride);
            continue;
        }
        read_filter(p->l, w, p->phase, &p->row[j], o, first, n, count, &f);
        if (w->type == DT_I8)
            quantize_filter(f.taps, w->taps, words, p->scale[j], column, (int32_t *)to + j,
                            tap_rows(w, b) * PANEL);
        else
            p->l->dev->k->from_f32(w->type, f.taps, column, count);
    }
    interleave(w, numbers, stride, words, to + (size_t)(c / per_word + head) * 4 * PANEL,
               (size_t)tap_rows(w, b) * 4 * PANEL);
}

static int pack_block(struct work *p, const struct block *b, styx_error *err)
{
    int slice = slice_of(p->l, p->w), step = chunk_of(p->w), code = STYX_OK;
    int first = b->c0 + (b->part ? p->w->split : 0);
    for (int c = 0; c < b->c && !code; c += slice) {
        int end = b->c - c < slice ? b->c : c + slice;
        code = fetch(p, first + c, end - c, err);
        for (int i = c; i < end && !code; i += step)
            pack_chunk(p, b, i, end - i < step ? end - i : step);
    }
    return code;
}

static void expect_panel(const struct work *p)
{
    const struct packed *w = p->w;
    int rows = w->act == ACT_GEGLU ? 16 : PANEL;
    for (int j = 0; j < PANEL; j += rows) {
        int o = row_of(w, p->panel, j), n = w->cout - p->panel * rows;
        if (o >= 0)
            span_expect(&p->l->span[w->weight], number_of(w, o, 0),
                        number_of(w, n < rows ? n : rows, 0));
    }
}

/* Job: a panel of a phase. */
static void pack_one(struct loaded *l, const struct packed *w, int job, int thread)
{
    struct work p = { .l = l, .w = w, .phase = job / w->panels, .panel = job % w->panels };
    styx_error err;
    int code = STYX_OK;
    p.staging = l->staging + (size_t)thread * STAGING;
    p.to = w->data + (size_t)job * w->panel_bytes;
    expect_panel(&p);
    if (w->type == DT_I8)
        code = begin_panel8(&p, &err);
    for (int i = 0; i < w->nblocks && !code; i++)
        code = pack_block(&p, &w->block[i], &err);
    failure_note(&l->failure, code, &err);
}

struct packing {
    struct loaded *l;
    int from;
    int *first; /* job number of each entry's first panel */
};

static void pack_job(void *ctx, int job, int thread)
{
    const struct packing *p = ctx;
    int i = p->from;
    while (i + 1 < p->l->npacked && job >= p->first[i + 1 - p->from])
        i++;
    pack_one(p->l, p->l->packed[i], job - p->first[i - p->from], thread);
}

static int pack_offset(const struct loaded *l, const struct packed *w, styx_error *err)
{
    enum { HALF = PANEL / 2 }; /* columns that lie side by side in any panel */
    int code = STYX_OK;
    for (int i = 0; w->bias >= 0 && i < w->panels * PANEL && !code; i += HALF) {
        int o = row_of(w, i / PANEL, i % PANEL), n = 0;
        while (o >= 0 && n < HALF && row_of(w, i / PANEL, i % PANEL + n) >= 0)
            n++;
        code = span_load(&l->span[w->bias], (size_t)o, (size_t)n, &w->offset[i], err);
    }
    return code;
}

static int add_entry(struct loaded *l, const tape *t, const instr *i, styx_error *err)
{
    struct packed count, *w;
    shape(&count, l->dev, t, i, NULL);
    if (count.k * count.k > MAX_TAPS)
        return fail(err, STYX_ERR_UNSUPPORTED, "%s: a %dx%d filter is larger than 16x16",
                    t->params[i->weight].name, count.k, count.k);
    if (l->npacked == l->capacity) {
        int capacity = l->capacity ? 2 * l->capacity : 64;
        struct packed **list = realloc(l->packed, (size_t)capacity * sizeof *list);
        if (!list)
            return fail_nomem(err, (size_t)capacity * sizeof *list);
        l->packed = list;
        l->capacity = capacity;
    }
    size_t bytes = sizeof *w + (size_t)count.nblocks * sizeof(struct block);
    w = malloc(bytes);
    if (!w)
        return fail_nomem(err, bytes);
    shape(w, l->dev, t, i, (struct block *)(w + 1));
    l->packed[l->npacked++] = w;
    return STYX_OK;
}

static size_t staging_bytes(const struct cpu *dev)
{
    return (size_t)pool_threads(dev->pool) * STAGING;
}

/* What is no panel leaves less for panels. */
static void take_budget(struct loaded *l, size_t bytes)
{
    if (l->budget)
        l->budget = l->budget > bytes ? l->budget - bytes : 1;
}

static int add_vector(struct loaded *l, int index, styx_error *err)
{
    if (index < 0 || l->vector[index])
        return STYX_OK;
    size_t n = span_count(&l->span[index]);
    float *to = malloc(n * sizeof *to);
    int code = to ? span_load(&l->span[index], 0, n, to, err) : fail_nomem(err, n * sizeof *to);
    if (code) {
        free(to);
        return code;
    }
    take_budget(l, n * sizeof *to);
    l->vector[index] = to;
    return STYX_OK;
}

static int add_staging(struct loaded *l, styx_error *err)
{
    size_t bytes = staging_bytes(l->dev);
    if (l->staging)
        return STYX_OK;
    l->staging = big_alloc(bytes);
    if (!l->staging)
        return fail_nomem(err, bytes);
    take_budget(l, bytes);
    return STYX_OK;
}

static int add_region(struct loaded *l, size_t bytes, char **data, styx_error *err)
{
    struct region *r = malloc(sizeof *r);
    if (!r)
        return fail_nomem(err, sizeof *r);
    *r = (struct region){ .next = l->regions, .data = big_alloc(bytes), .bytes = bytes };
    if (!r->data) {
        free(r);
        return fail_nomem(err, bytes);
    }
    l->regions = r;
    *data = r->data;
    return STYX_OK;
}

/* Which of the entries [from, npacked) stay in memory? All, or in program order as many as the
 * budget holds beside a window that each of the others is packed into when its turn comes. (The
 * order is the same in every step: keeping the last used ones would lose each just before its next
 * use.) Returns the bytes of those that stay. */
static size_t choose_resident(struct loaded *l, int from)
{
    size_t all = 0, most = 0, kept = 0, left = l->budget;
    for (int i = from; i < l->npacked; i++) {
        size_t bytes = data_bytes(l->packed[i]);
        all += bytes;
        most = bytes > most ? bytes : most;
    }
    if (!l->budget || (from == 0 && all <= l->budget))
        return all;
    l->window_bytes = most > l->window_bytes ? most : l->window_bytes;
    left = from == 0 && left > most ? left - most : 0;
    for (int i = from; i < l->npacked; i++) {
        size_t bytes = data_bytes(l->packed[i]);
        l->packed[i]->streamed = bytes > left - kept;
        kept += l->packed[i]->streamed ? 0 : bytes;
    }
    return kept;
}

/* Gives entries [from, npacked) their memory and fills what is resident. */
static int pack_entries(struct loaded *l, int from, styx_error *err)
{
    int jobs = 0, n = l->npacked - from, status;
    char *data = NULL, *offset = NULL;
    size_t offsets = 0, bytes;
    if (n == 0)
        return STYX_OK;
    for (int i = from; i < l->npacked; i++)
        offsets += offset_bytes(l->packed[i]);
    take_budget(l, offsets);
    bytes = choose_resident(l, from);
    if ((status = add_region(l, bytes + offsets, &data, err)))
        return status;
    offset = data + bytes;
    struct packing p = { .l = l, .from = from, .first = malloc((size_t)n * sizeof(int)) };
    if (!p.first)
        return fail_nomem(err, (size_t)n * sizeof(int));
    for (int i = from; i < l->npacked && !status; i++) {
        struct packed *w = l->packed[i];
        w->data = w->streamed ? NULL : data;
        w->offset = (float *)offset;
        data += w->streamed ? 0 : data_bytes(w);
        offset += offset_bytes(w);
        p.first[i - from] = jobs;
        jobs += w->streamed ? 0 : w->phases * w->panels;
        status = pack_offset(l, w, err);
    }
    if (!status) {
        pool_run(l->dev->pool, pack_job, &p, jobs);
        status = failure_take(&l->failure, err);
    }
    free(p.first);
    return status;
}

/* The window grows when a program brings a larger entry. */
static int make_window(struct loaded *l, styx_error *err)
{
    if (l->window_bytes <= l->window_held)
        return STYX_OK;
    big_free(l->window, l->window_held);
    l->window_held = 0;
    l->in_window = NULL;
    l->window = big_alloc(l->window_bytes);
    if (!l->window)
        return fail_nomem(err, l->window_bytes);
    l->window_held = l->window_bytes;
    return STYX_OK;
}

struct streaming {
    struct loaded *l;
    const struct packed *w;
};

static void stream_job(void *ctx, int job, int thread)
{
    const struct streaming *s = ctx;
    pack_one(s->l, s->w, job, thread);
}

/* The next streamed entry may come from the disk while this one is used. */
static void read_ahead(const struct loaded *l, const struct packed *w)
{
    int i = 0;
    while (l->packed[i] != w)
        i++;
    do
        i = (i + 1) % l->npacked;
    while (!l->packed[i]->streamed);
    const struct span *s = &l->span[l->packed[i]->weight];
    span_expect(s, 0, span_count(s));
}

int pack_stream(struct loaded *l, struct packed *w, styx_error *err)
{
    struct streaming s = { l, w };
    int code;
    if (l->in_window == w)
        return STYX_OK;
    l->in_window = NULL;
    w->data = l->window;
    pool_run(l->dev->pool, stream_job, &s, w->phases * w->panels);
    if ((code = failure_take(&l->failure, err)))
        return code;
    l->in_window = w;
    read_ahead(l, w);
    return STYX_OK;
}

int pack_tape(struct loaded *l, const tape *t, styx_error *err)
{
    int from = l->npacked, status = add_staging(l, err);
    for (int j = 0; j < t->ncode && !status; j++) {
        const instr *i = &t->code[j];
        if (multiplies(i) && !pack_find(l, t, i))
            status = add_entry(l, t, i, err);
        if (i->op == OP_GROUP_NORM || i->op == OP_LAYER_NORM) {
            status = add_vector(l, i->weight, err);
            if (!status)
                status = add_vector(l, i->bias, err);
        }
    }
    if (!status)
        status = pack_entries(l, from, err);
    if (!status)
        status = make_window(l, err);
    while (status && l->npacked > from) /* half-made entries must not be found later */
        free(l->packed[--l->npacked]);
    return status;
}

size_t pack_bytes(const struct cpu *dev, const tape *t, size_t budget)
{
    size_t data = 0, rest = staging_bytes(dev), most = 0;
    for (int j = 0; j < t->ncode; j++) {
        const instr *i = &t->code[j];
        struct packed w;
        if (multiplies(i)) {
            shape(&w, dev, t, i, NULL);
            data += data_bytes(&w);
            most = data_bytes(&w) > most ? data_bytes(&w) : most;
            rest += offset_bytes(&w);
        } else if (i->op == OP_GROUP_NORM || i->op == OP_LAYER_NORM) {
            rest += 2 * sizeof(float) * (size_t)i->out->c;
        }
    }
    if (!budget || data + rest <= budget)
        return data + rest;
    return most + rest > budget ? most + rest : budget;
}

void pack_free(struct loaded *l)
{
    while (l->regions) {
        struct region *r = l->regions;
        l->regions = r->next;
        big_free(r->data, r->bytes);
        free(r);
    }
    big_free(l->window, l->window_held);
    big_free(l->staging, staging_bytes(l->dev));
    for (int i = 0; i < l->npacked; i++)
        free(l->packed[i]);
    free(l->packed);
    for (int i = 0; l->vector && i < l->nparams; i++)
        free(l->vector[i]);
    free(l->vector);
}
