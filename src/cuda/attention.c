/* attention.c - our own kernel, where it is not made for the card the fastest of it and cuDNN's
 * fused attention; heads too wide for both (the autoencoder's 512) as two products with a softmax
 * between them, some queries at a time. */
#include "cuda/step.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FUSED_MOST = 160,          /* channels of a head that fused kernels take */
    WIDE_KEYS = 256,           /* in f32, from this many keys on products are faster */
    SCORES = 16 << 20,         /* at most so many of a wide attention exist at a time */
    LIBRARY_LEAST = 256 * 256, /* scores from which on the library's kernels are faster */
    LIBRARY_KEYS = 128,        /* its kernels read so many keys at a time, also past the last */
    LIBRARY_PLANS = 2          /* that are tried */
};

static int head_width(const instr *o)
{
    return o->in[0]->c / o->u.attn.heads;
}

static int tokens(const tensor *x)
{
    return x->h * x->w;
}

static bool is_wide(const instr *o)
{
    bool f32 = o->out->type == DT_F32;
    if (o->u.attn.causal || head_width(o) % 8 || tokens(o->in[1]) % 8)
        return false;
    return head_width(o) > FUSED_MOST || (f32 && tokens(o->in[1]) >= WIDE_KEYS);
}

/* Blocks of equal length that overlap rather than leave a rest, so that one product serves all. */
static long rows_of(const instr *o)
{
    long queries = tokens(o->in[0]), most = SCORES / tokens(o->in[1]);
    long blocks = (queries + most - 1) / most;
    return (queries + blocks - 1) / blocks;
}

size_t attention_scratch_bytes(const tape *t, const instr *o)
{
    (void)t;
    if (!is_wide(o))
        return 0;
    return (size_t)rows_of(o) * (size_t)tokens(o->in[1]) *
           (sizeof(float) + dtype_bytes(o->out->type));
}

/* ---- wide ---- */

static CUdeviceptr at_token(const struct gview *x, int n, long token, int channel)
{
    long numbers = ((long)n * x->h * x->w + token) * x->row + channel;
    return x->data + (size_t)numbers * dtype_bytes(x->type);
}

static bool wide_block(const struct plan *p, const struct step *s, int n, int head, long from)
{
    const instr *o = s->i;
    struct gview q = gview_of(p, o->in[0]), k = gview_of(p, o->in[1]), v = gview_of(p, o->in[2]);
    struct gview out = gview_of(p, o->out);
    int d = head_width(o), keys = tokens(o->in[1]), c = head * d;
    CUdeviceptr scores = plan_scratch(p);
    CUdeviceptr weights = scores + (size_t)s->rows * (size_t)keys * sizeof(float);
    struct product_pointers first = { .x = at_token(&q, n, from, c),
                                      .w = at_token(&k, n, 0, c),
                                      .out = scores,
                                      .workspace = plan_workspace(p) };
    struct product_pointers second = { .x = weights,
                                       .w = at_token(&v, n, 0, c),
                                       .out = at_token(&out, n, from, c),
                                       .workspace = plan_workspace(p) };
    return blas_run(p->g->blas, s->product[0], &first) &&
           launch_softmax(p->g, scores, s->rows, keys, 1 / sqrtf((float)d), weights, out.type) ==
               CUDA_SUCCESS &&
           blas_run(p->g->blas, s->product[1], &second);
}

static bool wide_run(const struct plan *p, const struct step *s)
{
    const instr *o = s->i;
    long queries = tokens(o->in[0]);
    for (int n = 0; n < o->out->n; n++)
        for (int head = 0; head < o->u.attn.heads; head++)
            for (long at = 0; at < queries; at += s->rows) {
                long from = at + s->rows > queries ? queries - s->rows : at;
                if (!wide_block(p, s, n, head, from))
                    return false;
            }
    return true;
}

static int wide_prepare(struct plan *p, struct step *s, styx_error *err)
{
    const instr *o = s->i;
    struct gview q = gview_of(p, o->in[0]), k = gview_of(p, o->in[1]), v = gview_of(p, o->in[2]);
    struct gview out = gview_of(p, o->out);
    int d = head_width(o), keys = tokens(o->in[1]), code = STYX_OK;
    s->rows = rows_of(o);
    struct product two[2] = {
        { .type = q.type,
          .f32_out = true,
          .m = s->rows,
          .n = keys,
          .k = d,
          .x_row = q.row,
          .w_row = k.row,
          .out_row = keys },
        { .type = q.type,
          .untied = true,
          .m = s->rows,
          .n = d,
          .k = keys,
          .x_row = keys,
          .w_row = v.row,
          .out_row = out.row },
    };
    CUdeviceptr scratch = plan_scratch(p);
    CUdeviceptr weights = scratch + (size_t)s->rows * (size_t)keys * sizeof(float);
    struct product_pointers at[2] = { { .x = q.data, .w = k.data, .out = scratch },
                                      { .x = weights, .w = v.data, .out = out.data } };
    for (int i = 0; i < 2 && !code; i++) {
        at[i].workspace = plan_workspace(p);
        code = blas_plans(p->g->blas, &two[i], LIBRARY_WORKSPACE, &s->product[i], err);
        if (!code)
            code = blas_tune(p->g, s->product[i], &two[i], &at[i], err);
    }
    s->run = wide_run;
    return code;
}

/* ---- fused ---- */

static bool fused_run(const struct plan *p, const struct step *s)
{
    const instr *o = s->i;
    struct gview q = gview_of(p, o->in[0]), k = gview_of(p, o->in[1]), v = gview_of(p, o->in[2]);
    struct gview out = gview_of(p, o->out);
    if (s->dnn)
        return dnn_attention_run(p->g->dnn, s->dnn, q.data, k.data, v.data, out.data,
                                 plan_workspace(p));
    return launch_attention(p->g, &q, &k, &v, o->u.attn.heads, o->u.attn.causal, &out) ==
           CUDA_SUCCESS;
}

struct tuning {
    const struct plan *p;
    struct step *s;
    struct dnn_plan *plan[LIBRARY_PLANS];
    int count;
    char key[160];
    int made, loaded; /* the ways that were made ready last, and from a kept text */
};

/* The library compiles its kernels, which takes a second; a process before this one may have. */
static bool make_ready(struct tuning *t, int way)
{
    struct dnn *dnn = t->p->g->dnn;
    if (t->made == way)
        return true;
    char *text = choice_text(t->p->g, t->key, way);
    bool loaded = text && dnn_plan_load(dnn, t->plan[way - 1], text);
    free(text);
    if (!loaded && !dnn_plan_ready(dnn, t->plan[way - 1]))
        return false;
    t->made = way;
    t->loaded = loaded ? way : t->loaded;
    return true;
}

/* Way 0 is our own kernel, the others are the library's. */
static bool try_attention(void *ctx, int i)
{
    struct tuning *t = ctx;
    if (i > 0 && !make_ready(t, i))
        return false;
    t->s->dnn = i > 0 ? t->plan[i - 1] : NULL;
    return fused_run(t->p, t->s);
}

static void keep_plan(const struct tuning *t, int way)
{
    char *text = NULL;
    if (way > 0 && t->loaded != way)
        text = dnn_plan_save(t->p->g->dnn, t->plan[way - 1]);
    if (text)
        choice_keep(t->p->g, t->key, way, text);
    free(text);
}

/* Where all scores together are few, our own kernel is as fast (64 x 64, 256 x 77), and it need not
 * be compiled. Of the library's ways the first is nearly always its best. */
static int library_plans(struct plan *p, const instr *o, struct dnn_plan **plan, int *count,
                         styx_error *err)
{
    struct dnn_attention a = { .type = o->out->type,
                               .n = o->out->n,
                               .heads = o->u.attn.heads,
                               .d = head_width(o),
                               .queries = tokens(o->in[0]),
                               .keys = tokens(o->in[1]),
                               .causal = o->u.attn.causal };
    a.q_row = gview_of(p, o->in[0]).row;
    a.k_row = gview_of(p, o->in[1]).row;
    a.v_row = gview_of(p, o->in[2]).row;
    a.out_row = gview_of(p, o->out).row;
    *count = 0;
    if (a.type == DT_F32 || a.d % 8 || a.d > FUSED_MOST || a.keys % LIBRARY_KEYS ||
        (long)a.queries * a.keys < LIBRARY_LEAST ||
        launch_attention_leads(p->g, a.type, a.d, a.causal))
        return STYX_OK;
    return dnn_attention_plans(p->g->dnn, &a, LIBRARY_WORKSPACE, LIBRARY_PLANS, plan, count, err);
}

static bool same_attention(const struct plan *p, const instr *a, const instr *b)
{
    bool same = a->u.attn.heads == b->u.attn.heads && a->u.attn.causal == b->u.attn.causal;
    for (int i = 0; i < 3; i++)
        same = same && same_shape(a->in[i], b->in[i]) &&
               gview_of(p, a->in[i]).row == gview_of(p, b->in[i]).row;
    return same && gview_of(p, a->out).row == gview_of(p, b->out).row;
}

int attention_prepare(struct plan *p, struct step *s, styx_error *err)
{
    const instr *o = s->i;
    struct tuning t = { .p = p, .s = s };
    if (step_share(p, s, same_attention))
        return STYX_OK;
    if (is_wide(o))
        return wide_prepare(p, s, err);
    s->run = fused_run;
    int code = library_plans(p, o, t.plan, &t.count, err);
    if (code)
        return code;
    snprintf(t.key, sizeof t.key, "attention %s %d x %d heads of %d, %d x %d, rows %ld %ld%s",
             dtype_name(o->out->type), o->out->n, o->u.attn.heads, head_width(o), tokens(o->in[0]),
             tokens(o->in[1]), gview_of(p, o->in[0]).row, gview_of(p, o->in[1]).row,
             o->u.attn.causal ? " causal" : "");
    int way = choose(p->g, t.key, t.count + 1, try_attention, &t);
    keep_plan(&t, way);
    s->dnn = way > 0 ? t.plan[way - 1] : NULL;
    for (int i = 0; i < t.count; i++)
        if (i != way - 1)
            dnn_plan_free(t.plan[i]);
    return way < 0 ? fail(err, STYX_ERR_BACKEND, "no kernel could run: %s", t.key) : STYX_OK;
}
