/* simple.c - operations that make each output pixel from a few input pixels: the row of channels
 * is computed in f32, whatever the types are. */
#include "cpu/cpu.h"
#include <math.h>

enum { JOB_NUMBERS = 16384 };

struct simple {
    struct plan *p;
    const struct step *s;
    struct view in[3], out, residual;
    int pixels; /* of a job */
};

struct scratch simple_scratch(const instr *i)
{
    size_t c = (size_t)(i->in[0] && i->in[0]->c > i->out->c ? i->in[0]->c : i->out->c);
    return (struct scratch){ 0, 2 * round_up(c * sizeof(float), 64) };
}

static char *pixel_at(const struct view *v, int n, int y, int x)
{
    return view_at(v, n, y) + x * v->px;
}

static void load(const struct simple *m, const struct view *v, int n, int y, int x, float *to)
{
    m->p->dev->k->to_f32(v->type, pixel_at(v, n, y, x), to, (size_t)v->c);
}

/* Pixel t of an image, counted along its rows. */
static void load_token(const struct simple *m, const struct view *v, int n, int t, float *to)
{
    load(m, v, n, t / v->w, t % v->w, to);
}

static int index_of(const struct view *v, int n, int t)
{
    int32_t i;
    memcpy(&i, pixel_at(v, n, t / v->w, t % v->w), sizeof i);
    return i;
}

/* A row of the table; an index out of range gives its first or last row (the caller checks ids). */
static void read_row(const struct simple *m, int row, float *to)
{
    const struct span *table = m->s->table;
    size_t c = (size_t)m->out.c;
    int rows = (int)(span_count(table) / c);
    styx_error err;
    row = row < 0 ? 0 : row >= rows ? rows - 1 : row;
    failure_note(&m->p->weights->failure, span_load(table, (size_t)row * c, c, to, &err), &err);
}

/* [sin | cos] of t * 10000^(-i / (half - shift)), in f32 as diffusers computes it: at t = 999 the
 * rounding of the frequency shows in the fifth digit. */
static void sinusoid(const instr *i, float t, float *to)
{
    int half = i->u.time.dim / 2;
    for (int j = 0; j < half; j++) {
        float exponent = -9.210340371976184f * (float)j / ((float)half - i->u.time.shift);
        float angle = t * expf(exponent);
        to[i->u.time.flip ? half + j : j] = sinf(angle);
        to[i->u.time.flip ? j : half + j] = cosf(angle);
    }
    if (i->u.time.dim % 2)
        to[i->u.time.dim - 1] = 0;
}

static void add_second(const struct simple *m, int n, int y, int x, float *row, float *more)
{
    const struct view *b = &m->in[1];
    load(m, b, b->n == 1 ? 0 : n, b->h == 1 && b->w == 1 ? 0 : y, b->w == 1 ? 0 : x, more);
    m->p->dev->k->add(row, more, (size_t)m->out.c);
}

static void make_pixel(const struct simple *m, int n, int y, int x, float *row, float *more)
{
    const struct kernels *k = m->p->dev->k;
    const struct step *s = m->s;
    const instr *i = s->i;
    const struct view *in = m->in;
    int c = m->out.c, t = y * m->out.w + x;

    switch (i->op) {
    case OP_EMBED:
        read_row(m, index_of(&in[0], n, t), row);
        break;
    case OP_POSITION:
        load_token(m, &in[0], n, t, row);
        read_row(m, t, more);
        k->add(row, more, (size_t)c);
        break;
    case OP_PREPEND:
        if (t == 0)
            read_row(m, 0, row);
        else
            load_token(m, &in[0], n, t - 1, row);
        break;
    case OP_TIMESTEP:
        load_token(m, &in[0], n, t, more);
        for (int j = 0; j < in[0].c; j++)
            sinusoid(i, more[j], row + j * i->u.time.dim);
        break;
    case OP_LAYER_NORM:
        load(m, &in[0], n, y, x, row);
        k->layer_norm(row, c, s->gamma, s->beta, i->u.norm.eps);
        break;
    case OP_ADD:
        load(m, &in[0], n, y, x, row);
        add_second(m, n, y, x, row, more);
        break;
    case OP_GEGLU:
        load(m, &in[0], n, y, x, row);
        k->act(ACT_GELU, row + c, (size_t)c);
        k->mul(row, row + c, (size_t)c);
        break;
    case OP_CONCAT:
        load(m, &in[0], n, y, x, row);
        load(m, &in[1], n, y, x, row + in[0].c);
        break;
    case OP_UPSAMPLE:
        load(m, &in[0], n, (int)((long)y * in[0].h / m->out.h), (int)((long)x * in[0].w / m->out.w),
             row);
        break;
    case OP_REPEAT:
        load(m, &in[0], n % in[0].n, y, x, row);
        break;
    case OP_ROW:
        load_token(m, &in[0], n, index_of(&in[1], n, 0), row);
        break;
    default: /* OP_ACT */
        load(m, &in[0], n, y, x, row);
        break;
    }
}

static void simple_job(void *ctx, int job, int thread)
{
    const struct simple *m = ctx;
    const struct kernels *k = m->p->dev->k;
    const instr *i = m->s->i;
    long all = (long)m->out.n * m->out.h * m->out.w, from = (long)job * m->pixels;
    float *row = thread_scratch(m->p, thread);
    float *more = row + m->p->thread_bytes / sizeof(float) / 2;

    for (long at = from; at < all && at < from + m->pixels; at++) {
        int x = (int)(at % m->out.w), y = (int)(at / m->out.w % m->out.h);
        int n = (int)(at / m->out.w / m->out.h);
        make_pixel(m, n, y, x, row, more);
        if (i->act != ACT_NONE)
            k->act(i->act, row, (size_t)m->out.c);
        if (i->residual) {
            load(m, &m->residual, n, y, x, more);
            k->add(row, more, (size_t)m->out.c);
        }
        k->from_f32(m->out.type, row, pixel_at(&m->out, n, y, x), (size_t)m->out.c);
    }
}

void simple_run(struct plan *p, const struct step *s)
{
    const instr *i = s->i;
    struct simple m = { .p = p, .s = s, .out = view_of(p, i->out) };
    for (int j = 0; j < 3 && i->in[j]; j++)
        m.in[j] = view_of(p, i->in[j]);
    if (i->residual)
        m.residual = view_of(p, i->residual);
    m.pixels = JOB_NUMBERS / m.out.c + 1;
    long all = (long)m.out.n * m.out.h * m.out.w;
    view_clear_border(&m.out);
    pool_run(p->dev->pool, simple_job, &m, (int)((all + m.pixels - 1) / m.pixels));
}
