/* attention.c - softmax(q k^T / sqrt(d)) v without the matrix of scores: keys pass by in blocks
 * while a running maximum and sum rescale the output (FlashAttention, Dao et al. 2022). */
#include "cpu/cpu.h"
#include <math.h>

enum {
    BLOCK = 256,             /* keys: 14 rows of their scores are 14 KB, half of the L1 cache, */
    BLOCK_BYTES = 512 << 10, /* as long as they and their values take half of an L2 cache */
    SMALL = 100, /* scores up to here need no maximum: their powers of two and sums are numbers */
    GROUP = 8    /* query tiles that share a block of keys and values */
};

struct attention {
    struct plan *p;
    struct view q, k, v, out;
    enum dtype type;
    bool causal;
    int heads, d, words, cols; /* of a head: numbers, dwords of K's sum, padded columns of V */
    int tq, tk, blocks, block; /* block: keys, a multiple of 32 */
    int bytes, per_word;       /* of a number, numbers of a dword */
    const struct unit *unit;
    size_t k_head, v_head; /* packed bytes of one head */
    char *keys, *values;
    float scale;    /* of scores, which are powers of two */
    float *longest; /* [head][block]: the largest square of a key's length */
    int groups;     /* jobs of a head */
};

static char *token(const struct view *v, int n, int t)
{
    return v->data + n * v->img + (long)(t / v->w) * v->row + (long)(t % v->w) * v->px;
}

static void layout(struct attention *a, const struct kernels *k, const instr *i)
{
    enum dtype type = i->out->type;
    a->type = type;
    a->bytes = type == DT_BF16 ? 2 : 4;
    a->per_word = 4 / a->bytes;
    a->heads = i->u.attn.heads;
    a->causal = i->u.attn.causal;
    a->d = i->out->c / a->heads;
    a->unit = kernels_unit(k, type);
    a->words =
        (int)round_up((size_t)((a->d + a->per_word - 1) / a->per_word), (size_t)a->unit->words);
    a->cols = (int)round_up((size_t)a->d, (size_t)a->unit->cols);
    a->tq = i->in[0]->h * i->in[0]->w;
    a->tk = i->in[1]->h * i->in[1]->w;
    int padded = (int)round_up((size_t)a->tk, PANEL);
    a->block = padded < BLOCK ? padded : BLOCK;
    while (a->block % (2 * PANEL) == 0 &&
           4 * a->block * (a->words + a->cols / a->per_word) > BLOCK_BYTES)
        a->block /= 2;
    a->blocks = (padded + a->block - 1) / a->block;
    a->scale = 1.44269504f / sqrtf((float)a->d);
    a->k_head = (size_t)padded * (size_t)a->words * 4;
    a->v_head = (size_t)(padded / a->per_word) * (size_t)a->cols * 4;
}

/* A head's slices of n tokens from t on lie far apart: asks for them before they are needed. */
static void fetch_ahead(const struct attention *a, const struct view *v, int n, int head, int t,
                        int tokens)
{
    int bytes = a->d * (int)dtype_bytes(v->type), all = v->h * v->w;
    for (int i = t; i < t + tokens && i < all; i++)
        for (int at = 0; at < bytes; at += 64)
            __builtin_prefetch(token(v, n, i) + (long)head * bytes + at);
}

/* One head's slice of a token, in the type of the products. Returns the square of its length. */
static float read_head(const struct attention *a, const struct view *v, const char *from, char *to,
                       float *row)
{
    const struct kernels *k = a->p->dev->k;
    if (v->type == a->type) {
        memcpy(to, from, (size_t)(a->d * a->bytes));
    } else {
        k->to_f32(v->type, from, row, (size_t)a->d);
        k->from_f32(a->type, row, to, (size_t)a->d);
    }
    return k->square_sum(to, a->type, a->d);
}

/* NaN, once there, stays. */
static float longer(float a, float b)
{
    return a > b || a != a ? a : b;
}

/* Scratch of one thread, cut up. */
struct desk {
    float *s, *o, *row;
    char *p, *q;
};

static size_t desk_layout(const struct attention *a, char *base, struct desk *d)
{
    size_t at = 0, r = (size_t)a->unit->rows, line = round_up((size_t)a->cols * 4, 64);
    size_t bytes[] = { r * BLOCK * 4, r * GROUP * (size_t)a->cols * 4, line, r * BLOCK * 4,
                       (r * GROUP > PANEL ? r * GROUP : PANEL) * line };
    void **to[] = { (void **)&d->s, (void **)&d->o, (void **)&d->row, (void **)&d->p,
                    (void **)&d->q };
    for (int i = 0; i < 5; i++) {
        *to[i] = base ? base + at : NULL;
        at += round_up(bytes[i], 64);
    }
    return at;
}

struct scratch attention_scratch(const struct cpu *dev, const instr *i)
{
    struct attention a = { 0 };
    struct desk desk;
    layout(&a, dev->k, i);
    size_t heads = (size_t)i->out->n * (size_t)a.heads;
    return (struct scratch){ heads * (round_up(a.k_head, 64) + round_up(a.v_head, 64) +
                                      (size_t)a.blocks * sizeof(float)),
                             desk_layout(&a, NULL, &desk) };
}

/* Packs 32 keys: K like a weight panel, V as words of neighbouring keys. Absent keys are zeros.
 * Returns the largest square of a key's length. */
static float pack_panel(const struct attention *a, int n, int head, int panel, struct desk *desk)
{
    size_t line = round_up((size_t)a->cols * 4, 64), at = (size_t)(head * a->d);
    size_t index = (size_t)(n * a->heads + head);
    float longest = 0;
    uint32_t *k = (uint32_t *)(a->keys + index * round_up(a->k_head, 64)) +
                  (size_t)panel * PANEL * (size_t)a->words;
    char *v = a->values + index * round_up(a->v_head, 64) +
              (size_t)panel * PANEL / (size_t)a->per_word * (size_t)a->cols * 4;

    fetch_ahead(a, &a->v, n, head, panel * PANEL, PANEL);
    memset(desk->q, 0, PANEL * line);
    for (int j = 0; j < PANEL && panel * PANEL + j < a->tk; j++)
        longest = longer(longest,
                         read_head(a, &a->k,
                                   token(&a->k, n, panel * PANEL + j) + at * dtype_bytes(a->k.type),
                                   desk->q + (size_t)j * line, desk->row));
    for (int w = 0; w < a->words; w++)
        for (int j = 0; j < PANEL; j++)
            memcpy(k++, desk->q + (size_t)j * line + 4 * (size_t)w, 4);

    fetch_ahead(a, &a->k, n, head, (panel + 1) * PANEL, PANEL);
    memset(desk->q, 0, PANEL * line);
    for (int j = 0; j < PANEL && panel * PANEL + j < a->tk; j++)
        read_head(a, &a->v, token(&a->v, n, panel * PANEL + j) + at * dtype_bytes(a->v.type),
                  desk->q + (size_t)j * line, desk->row);
    for (int j = 0; j < PANEL; j += a->per_word, v += 4 * a->cols) {
        if (a->type == DT_F32) {
            memcpy(v, desk->q + (size_t)j * line, (size_t)a->cols * 4);
            continue;
        }
        const uint16_t *even = (const uint16_t *)(desk->q + (size_t)j * line),
                       *odd = even + line / 2;
        uint32_t *to = (uint32_t *)v;
        for (int c = 0; c < a->cols; c++)
            to[c] = even[c] | (uint32_t)odd[c] << 16;
    }
    return longest;
}

static void pack_job(void *ctx, int job, int thread)
{
    const struct attention *a = ctx;
    struct desk desk;
    float longest = 0;
    int panels = (a->tk + PANEL - 1) / PANEL, head = job / a->blocks, block = job % a->blocks;
    int first = block * (a->block / PANEL), last = first + a->block / PANEL;
    if (cancelled(a->p))
        return;
    desk_layout(a, thread_scratch(a->p, thread), &desk);
    for (int i = first; i < last && i < panels; i++)
        longest = longer(longest, pack_panel(a, head / a->heads, head % a->heads, i, &desk));
    a->longest[job] = longest;
}

/* One block of keys for one tile of queries. */
static void attend(const struct attention *a, const struct desk *desk, size_t head, int k0, int q0,
                   int rows, const char *q, float *o, bool small, struct softmax *state)
{
    const struct kernels *k = a->p->dev->k;
    int left = a->tk - k0, block = (int)round_up((size_t)left, PANEL), valid[MAX_ROWS] = { 0 };
    block = block < a->block ? block : a->block;
    const char *keys = a->keys + head * round_up(a->k_head, 64) + (size_t)k0 * (size_t)a->words * 4;
    const char *values = a->values + head * round_up(a->v_head, 64) +
                         (size_t)(k0 / a->per_word) * (size_t)a->cols * 4;

    for (int r = 0; r < rows; r++) {
        int seen = a->causal && q0 + r + 1 - k0 < left ? q0 + r + 1 - k0 : left;
        valid[r] = seen < 0 ? 0 : seen < block ? seen : block;
    }
    if (small) {
        k->weigh(q, a->type, a->words, keys, a->scale, valid, block, state->sum, desk->p);
    } else {
        k->scores(q, a->type, a->words, keys, desk->s, block);
        k->softmax(desk->s, block, valid, a->scale, state, desk->p, a->type, o, a->cols);
    }
    k->mix(desk->p, block, a->type, values, o, a->cols);
}

static void write_tile(const struct attention *a, int n, int head, int q0, int rows, float *o,
                       const struct softmax *state)
{
    for (int r = 0; r < rows; r++, o += a->cols) {
        float sum = 0;
        for (int j = 0; j < MAX_LANES; j++)
            sum += state->sum[r][j];
        float scale = 1.f / sum;
        for (int c = 0; c < a->d; c++)
            o[c] *= scale;
        a->p->dev->k->from_f32(a->out.type, o,
                               token(&a->out, n, q0 + r) +
                                   (size_t)(head * a->d) * dtype_bytes(a->out.type),
                               (size_t)a->d);
    }
}

/* No score of this head is larger than the product of the longest query and key. */
static bool all_small(const struct attention *a, int head, float q)
{
    float k = 0;
    for (int i = 0; i < a->blocks; i++)
        k = longer(k, a->longest[head * a->blocks + i]);
    return a->scale * sqrtf(q) * sqrtf(k) <= SMALL;
}

static void attention_job(void *ctx, int job, int thread)
{
    const struct attention *a = ctx;
    struct desk desk;
    struct softmax state[GROUP];
    int height = a->unit->rows, head = job / a->groups, n = head / a->heads;
    int q0 = job % a->groups * GROUP * height, all = a->tq - q0;
    size_t line = (size_t)a->words * 4, at = (size_t)(head % a->heads * a->d);

    if (cancelled(a->p))
        return;
    all = all < GROUP * height ? all : GROUP * height;
    int tiles = (all + height - 1) / height, last = a->causal ? q0 + all : a->tk;
    desk_layout(a, thread_scratch(a->p, thread), &desk);
    memset(desk.q, 0, (size_t)(tiles * height) * line);
    memset(desk.o, 0, (size_t)(tiles * height * a->cols) * 4);
    float longest = 0;
    for (int r = 0; r < all; r++)
        longest = longer(longest,
                         read_head(a, &a->q, token(&a->q, n, q0 + r) + at * dtype_bytes(a->q.type),
                                   desk.q + (size_t)r * line, desk.row));
    bool small = all_small(a, head, longest);
    memset(state, 0, sizeof state);
    for (int t = 0; t < tiles; t++)
        for (int r = 0; r < MAX_ROWS; r++)
            state[t].max[r] = -1e30f;
    for (int k0 = 0; k0 < a->tk && k0 < last; k0 += a->block)
        for (int t = 0; t < tiles; t++) {
            int rows = all - t * height < height ? all - t * height : height;
            attend(a, &desk, (size_t)head, k0, q0 + t * height, rows,
                   desk.q + (size_t)(t * height) * line, desk.o + t * height * a->cols, small,
                   &state[t]);
        }
    fetch_ahead(a, &a->out, n, head % a->heads, q0, all);
    for (int t = 0; t < tiles; t++) {
        int rows = all - t * height < height ? all - t * height : height;
        write_tile(a, n, head % a->heads, q0 + t * height, rows, desk.o + t * height * a->cols,
                   &state[t]);
    }
    if (a->p->dev->k->leave)
        a->p->dev->k->leave();
}

void attention_run(struct plan *p, const struct step *s)
{
    const instr *i = s->i;
    struct attention a = { .p = p };
    layout(&a, p->dev->k, i);
    a.q = view_of(p, i->in[0]);
    a.k = view_of(p, i->in[1]);
    a.v = view_of(p, i->in[2]);
    a.out = view_of(p, i->out);
    size_t heads = (size_t)i->out->n * (size_t)a.heads;
    a.keys = p->shared;
    a.values = a.keys + heads * round_up(a.k_head, 64);
    a.longest = (float *)(a.values + heads * round_up(a.v_head, 64));
    a.groups = (a.tq + GROUP * a.unit->rows - 1) / (GROUP * a.unit->rows);
    pool_run(p->dev->pool, pack_job, &a, (int)heads * a.blocks);
    pool_run(p->dev->pool, attention_job, &a, (int)heads * a.groups);
}
