/* norm.c - group norm with its activation, written into the border-padded map that the next
 * convolution reads.
 *
 * Statistics: each chunk of pixels sums x - first pixel and its square per channel (so a large
 * mean does not eat the digits of the variance); chunks and channels are merged in double by the
 * formula of Chan, Golub and LeVeque (1979), in an order that only the shape decides. */
#include "cpu/cpu.h"
#include <math.h>

struct moment {
    double mean, m2;
};

struct norm {
    struct plan *p;
    const struct step *s;
    const tensor *x;
    struct view part[2], out;
    int c[2], parts, groups;
    int length, lines, chunk, chunks; /* pixels of a line, lines and chunks of an image */
    struct moment *moment;            /* [n][chunks][groups] */
    float *scale, *offset;            /* [n][c] */
};

static int min(int a, int b)
{
    return a < b ? a : b;
}

/* A dense map is one long line of pixels, cut into chunks; otherwise each row is a chunk. */
static void cut(struct norm *m, const tensor *x)
{
    bool dense = !x->halo;
    m->x = x;
    m->length = dense ? x->h * x->w : x->w;
    m->lines = dense ? 1 : x->h;
    m->chunk = m->length;
    if (dense) {
        m->chunk = m->length / 16 < 64 ? 64 : m->length / 16;
        m->chunk = m->chunk > 1024 ? 1024 : m->chunk;
    }
    m->chunks = (m->length + m->chunk - 1) / m->chunk * m->lines;
}

struct scratch group_norm_scratch(const instr *i)
{
    struct norm m = { 0 };
    size_t n = (size_t)i->out->n, c = (size_t)i->out->c;
    cut(&m, i->in[0]);
    return (struct scratch){
        round_up(n * (size_t)m.chunks * (size_t)i->u.norm.groups * sizeof(struct moment), 64) +
            2 * round_up(n * c * sizeof(float), 64),
        3 * round_up(c * sizeof(float), 64),
    };
}

/* Adds b's numbers to a's; a has na of them, b nb. */
static void merge(struct moment *a, double na, const struct moment *b, double nb)
{
    double n = na + nb, delta = b->mean - a->mean;
    a->mean += delta * nb / n;
    a->m2 += b->m2 + delta * delta * na * nb / n;
}

static int chunk_pixels(const struct norm *m, int chunk)
{
    return m->lines > 1 ? m->length : min(m->length - chunk * m->chunk, m->chunk);
}

static void moment_job(void *ctx, int job, int thread)
{
    const struct norm *m = ctx;
    const struct kernels *k = m->p->dev->k;
    int n = job / m->chunks, chunk = job % m->chunks, c = m->x->c, pixels = chunk_pixels(m, chunk);
    size_t line = round_up((size_t)c * sizeof(float), 64) / sizeof(float);
    float *first = thread_scratch(m->p, thread), *sum = first + line, *square = sum + line;

    for (int i = 0, c0 = 0; i < m->parts; c0 += m->c[i++]) {
        const struct view *v = &m->part[i];
        const char *x = v->data + n * v->img;
        x += m->lines > 1 ? chunk * v->row : (long)chunk * m->chunk * v->px;
        k->to_f32(v->type, x, first + c0, (size_t)m->c[i]);
        k->moments(x, v->type, v->px, pixels, m->c[i], sum + c0, square + c0);
    }
    for (int g = 0, j = 0; g < m->groups; g++) {
        struct moment all = { 0, 0 };
        for (int end = j + c / m->groups, from = j; j < end; j++) {
            double s = sum[j], q = square[j];
            struct moment one = { first[j] + s / pixels, q - s * s / pixels };
            merge(&all, (double)(j - from) * pixels, &one, pixels);
        }
        m->moment[(size_t)job * (size_t)m->groups + (size_t)g] = all;
    }
}

/* Merges the chunks of an image and folds gamma and beta in: y = x * scale + offset. */
static void combine(const struct norm *m, int n)
{
    int c = m->x->c, size = c / m->groups;
    for (int g = 0; g < m->groups; g++) {
        struct moment all = { 0, 0 };
        double count = 0;
        for (int i = 0; i < m->chunks; i++) {
            double more = (double)chunk_pixels(m, i) * size;
            merge(&all, count,
                  &m->moment[((size_t)n * (size_t)m->chunks + (size_t)i) * (size_t)m->groups +
                             (size_t)g],
                  more);
            count += more;
        }
        double inverse = 1 / sqrt(all.m2 / count + m->s->i->u.norm.eps);
        for (int j = g * size; j < (g + 1) * size; j++) {
            double scale = inverse * (m->s->gamma ? m->s->gamma[j] : 1);
            m->scale[n * c + j] = (float)scale;
            m->offset[n * c + j] = (float)((m->s->beta ? m->s->beta[j] : 0) - all.mean * scale);
        }
    }
}

static void apply_job(void *ctx, int job, int thread)
{
    const struct norm *m = ctx;
    const struct kernels *k = m->p->dev->k;
    int h = m->out.h, w = m->out.w, per_row = (w + 255) / 256, c = m->x->c;
    int row = job / per_row, n = row / h, y = row % h, x0 = job % per_row * 256;
    (void)thread;
    for (int x = x0; x < w && x < x0 + 256; x++)
        for (int i = 0, c0 = 0; i < m->parts; c0 += m->c[i++])
            k->affine(view_at(&m->part[i], n, y) + x * m->part[i].px, m->part[i].type,
                      view_at(&m->out, n, y) + x * m->out.px + c0 * (long)dtype_bytes(m->out.type),
                      m->out.type, m->c[i], m->scale + n * c + c0, m->offset + n * c + c0,
                      m->s->i->act);
}

void group_norm_run(struct plan *p, const struct step *s)
{
    const tensor *x = s->i->in[0];
    struct norm m = { .p = p, .s = s, .groups = s->i->u.norm.groups, .out = view_of(p, s->i->out) };
    size_t n = (size_t)x->n, c = (size_t)x->c;
    cut(&m, x);
    m.parts = x->part[0] ? 2 : 1;
    for (int i = 0; i < m.parts; i++) {
        m.part[i] = view_of(p, x->part[0] ? x->part[i] : x);
        m.c[i] = m.part[i].c;
    }
    m.moment = (struct moment *)p->shared;
    m.scale =
        (float *)(p->shared +
                  round_up(n * (size_t)m.chunks * (size_t)m.groups * sizeof(struct moment), 64));
    m.offset = m.scale + round_up(n * c * sizeof(float), 64) / sizeof(float);
    view_clear_border(&m.out);
    pool_run(p->dev->pool, moment_job, &m, x->n * m.chunks);
    for (int i = 0; i < x->n; i++)
        combine(&m, i);
    pool_run(p->dev->pool, apply_job, &m, m.out.n * m.out.h * ((m.out.w + 255) / 256));
}
