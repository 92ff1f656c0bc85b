/* conv.c - convolutions and linear layers: a sum over filter taps and input channels.
 *
 * Each tap is the same matrix shifted by some pixels, so a map that has a border of zeros is read
 * in place and nothing is unrolled into columns. Any other input (no border, upsampled, another
 * type, odd channel counts) is first copied, some rows at a time, into a buffer that has one. */
#include "cpu/cpu.h"

enum {
    SLAB_BYTES = 8 << 20, /* of such a buffer: it should stay in the L3 cache */
    COPY_PIXELS = 128     /* of a row that a job copies */
};

/* What the filter sees: an h x w map (the upsampled one, if so) and where it looks. */
struct geometry {
    int k, stride, pad;
    int in_h, in_w; /* the map the filter slides over */
    int h, w;       /* outputs; of one phase if there are four */
    int phases;
    int rows, cols; /* input rows and columns that all outputs need, padding included */
};

bool conv_doubles(const instr *i)
{
    const tensor *x = i->in[0];
    return i->u.conv.k == 3 && i->u.conv.stride == 1 && i->u.conv.pad == 1 &&
           i->u.conv.pad_end == 1 && i->u.conv.up_h == 2 * x->h && i->u.conv.up_w == 2 * x->w;
}

/* 8-bit numbers where they are asked for and there is much to gain: not for a few channels, as at a
 * network's ends, nor for single tokens, as of the time. Winograd's algorithm is as fast in bf16.
 */
enum dtype conv_type(const struct cpu *dev, const tape *t, const instr *i)
{
    const tensor *x = i->in[0];
    bool eight = dev->int8 && !conv_winograd(dev, i) && x->c >= PANEL && i->out->c >= PANEL &&
                 x->h * x->w > 1 && (i->op == OP_LINEAR || i->u.conv.k <= 3);
    return eight ? DT_I8 : t->type;
}

static struct geometry geometry_of(const instr *i)
{
    const tensor *x = i->in[0], *out = i->out;
    struct geometry g = { .k = 1, .stride = 1, .in_h = x->h, .in_w = x->w, .phases = 1 };
    g.h = out->h;
    g.w = out->w;
    if (i->op == OP_CONV2D) {
        g.k = i->u.conv.k;
        g.stride = i->u.conv.stride;
        g.pad = i->u.conv.pad;
        if (conv_doubles(i)) {
            g.phases = 4;
            g.h = x->h;
            g.w = x->w;
        } else if (i->u.conv.up_h) {
            g.in_h = i->u.conv.up_h;
            g.in_w = i->u.conv.up_w;
        }
    }
    g.rows = (g.h - 1) * g.stride + g.k;
    g.cols = (g.w - 1) * g.stride + g.k;
    return g;
}

/* Can the tiles read x as it lies? Bytes beyond the map must be its border of zeros. */
static bool in_place(const tensor *x, enum dtype type, const struct geometry *g)
{
    if (x->part[0])
        return in_place(x->part[0], type, g) && in_place(x->part[1], type, g);
    int border = x->halo ? 1 : 0;
    return x->type == type && (type != DT_BF16 || x->c % 2 == 0) && g->pad <= border &&
           g->in_h == x->h && g->in_w == x->w && g->rows - g->pad <= x->h + border &&
           g->cols - g->pad <= x->w + border;
}

/* A copy's pixel holds the parts one after the other, each of whole dwords; 8-bit ones have their
 * scale behind them. */
static long copied_bytes(const tensor *x, enum dtype type)
{
    if (x->part[0])
        return copied_bytes(x->part[0], type) + copied_bytes(x->part[1], type);
    return (long)round_up((size_t)x->c * dtype_bytes(type), 4) +
           (type == DT_I8 ? (long)sizeof(float) : 0);
}

/* How many output rows (of all images together, or a part of one image) a slab holds. */
struct slab {
    long px, row, img;
    int images, rows;
};

static struct slab slab_of(const instr *i, const struct geometry *g, enum dtype type)
{
    struct slab s = { .images = 1, .rows = g->h };
    s.px = copied_bytes(i->in[0], type);
    s.row = s.px * g->cols;
    s.img = s.row * g->rows;
    if (s.img <= SLAB_BYTES) {
        s.images = (int)(SLAB_BYTES / s.img);
        if (s.images > i->in[0]->n)
            s.images = i->in[0]->n;
        return s;
    }
    s.rows = ((int)(SLAB_BYTES / s.row) - g->k) / g->stride + 1;
    s.rows = s.rows < 1 ? 1 : s.rows;
    s.img = s.row * ((s.rows - 1) * g->stride + g->k);
    return s;
}

static size_t slab_bytes(const struct slab *s)
{
    return round_up((size_t)s->images * (size_t)s->img, 64);
}

static size_t shift_bytes(const instr *i)
{
    if (!i->shift)
        return 0;
    return round_up((size_t)i->out->n * round_up((size_t)i->out->c, PANEL) * sizeof(float), 64);
}

struct scratch conv_scratch(const struct cpu *dev, const tape *t, const instr *i)
{
    struct geometry g = geometry_of(i);
    enum dtype type = conv_type(dev, t, i);
    struct slab s = slab_of(i, &g, type);
    struct scratch need = { .shared = shift_bytes(i), .thread = product_scratch(dev) };
    if (conv_winograd(dev, i)) {
        struct scratch more = winograd_scratch(dev, i);
        return (struct scratch){ need.shared + more.shared, more.thread };
    }
    size_t row = round_up((size_t)i->in[0]->c * sizeof(float), 64);
    if (!in_place(i->in[0], type, &g))
        need.shared += slab_bytes(&s);
    need.thread = need.thread > row ? need.thread : row;
    return need;
}

/* Queries, keys and values are products of one input, whose copy serves all of them if it is whole.
 * A step may begin with the first instruction behind the prologue. */
bool conv_reuses(const struct cpu *dev, const tape *t, const instr *i)
{
    if (i->op != OP_LINEAR || i == t->code || i == t->code + t->once || i[-1].op != OP_LINEAR ||
        i->in[0] != i[-1].in[0] || i->shift || i[-1].shift)
        return false;
    enum dtype type = conv_type(dev, t, i);
    struct geometry g = geometry_of(i);
    struct slab s = slab_of(i, &g, type);
    return type == conv_type(dev, t, i - 1) && !in_place(i->in[0], type, &g) &&
           s.images == i->in[0]->n && s.rows == g.h;
}

/* ---- copying ---- */

struct copy {
    struct plan *p;
    const tensor *x;
    enum dtype type;
    const struct geometry *g;
    const struct slab *s;
    char *to;
    int image, y, rows; /* first image, first row of the padded input, rows of each image */
    int pieces;         /* of a row */
};

/* Columns of the padded row y, from `first` on. */
static void copy_pixels(const struct copy *c, const tensor *x, char *to, int n, int y, int first,
                        float *row)
{
    const struct kernels *k = c->p->dev->k;
    const struct geometry *g = c->g;
    if (x->part[0]) {
        copy_pixels(c, x->part[0], to, n, y, first, row);
        copy_pixels(c, x->part[1], to + copied_bytes(x->part[0], c->type), n, y, first, row);
        return;
    }
    struct view v = view_of(c->p, x);
    const char *from = view_at(&v, n, (int)((long)y * x->h / g->in_h));
    int end = first + COPY_PIXELS < g->cols ? first + COPY_PIXELS : g->cols;
    size_t bytes = (size_t)x->c * dtype_bytes(c->type), all = (size_t)copied_bytes(x, c->type);
    for (int i = first; i < end; i++, to += c->s->px) {
        int sx = i - g->pad;
        if (y < 0 || y >= g->in_h || sx < 0 || sx >= g->in_w) {
            memset(to, 0, all); /* of bytes the scale is 0 too */
            continue;
        }
        const char *pixel = from + (long)sx * x->w / g->in_w * v.px;
        if (c->type == DT_I8) {
            float scale = k->quantize(pixel, x->type, x->c, (uint8_t *)to);
            memcpy(to + all - sizeof scale, &scale, sizeof scale);
            continue;
        }
        if (x->type == c->type) {
            memcpy(to, pixel, bytes);
        } else {
            k->to_f32(x->type, pixel, row, (size_t)x->c);
            k->from_f32(c->type, row, to, (size_t)x->c);
        }
        memset(to + bytes, 0, all - bytes);
    }
}

static void copy_job(void *ctx, int job, int thread)
{
    const struct copy *c = ctx;
    int line = job / c->pieces, n = line / c->rows, r = line % c->rows;
    int first = job % c->pieces * COPY_PIXELS;
    copy_pixels(c, c->x, c->to + n * c->s->img + r * c->s->row + first * c->s->px, c->image + n,
                c->y + r - c->g->pad, first, thread_scratch(c->p, thread));
}

/* ---- multiplying ---- */

/* Bytes from the first tap to each tap of phase f: a 2x2 phase looks one row or column further on
 * for odd outputs. */
static void fill_taps(long *tap, const struct packed *w, int f, long row, long px)
{
    int side = w->phases == 4 ? 2 : w->k, dy = w->phases == 4 ? f / 2 : 0,
        dx = w->phases == 4 ? f % 2 : 0;
    for (int t = 0; t < w->taps; t++)
        tap[t] = (t / side + dy) * row + (t % side + dx) * px;
}

static struct grid grid_at(const struct view *v, int n, int y)
{
    return (struct grid){ view_at(v, n, y), v->img, v->row, v->px };
}

/* Maps without borders are one long row, which cuts into fuller tiles. */
static void flatten(struct product *p)
{
    const struct grid *g[] = { &p->in[0], &p->in[1], &p->out, &p->residual };
    for (int i = 0; i < 4; i++)
        if (g[i]->data && g[i]->row != p->width * g[i]->px)
            return;
    p->width *= p->h;
    p->h = 1;
    for (int i = 0; i < 4; i++)
        if (g[i]->data && g[i]->img != p->width * g[i]->px)
            return;
    if (p->offset_img)
        return;
    p->width *= p->n;
    p->n = 1;
}

static void run_phases(struct product *p, const struct geometry *g, const struct grid *in,
                       const struct view *out, const struct view *residual, int image, int y)
{
    long tap[2][MAX_TAPS];
    int step = g->phases == 4 ? 2 : 1, h = p->h, width = p->width, n = p->n;
    for (int f = 0; f < g->phases; f++) {
        p->phase = f;
        p->h = h, p->width = width, p->n = n;
        for (int i = 0; i < 2; i++) {
            fill_taps(tap[i], p->w, f, in[i].row, in[i].px);
            p->tap[i] = tap[i];
            p->in[i] = in[i];
            p->in[i].row *= g->stride;
            p->in[i].px *= g->stride;
        }
        p->out = grid_at(out, image, y * step + f / 2);
        p->residual = residual ? grid_at(residual, image, y * step + f / 2) : (struct grid){ 0 };
        struct grid *to[] = { &p->out, &p->residual };
        for (int i = 0; i < 2; i++) {
            if (to[i]->data)
                to[i]->data += f % 2 * to[i]->px;
            to[i]->row *= step;
            to[i]->px *= step;
        }
        if (g->k == 1 && g->stride == 1)
            flatten(p);
        product_run(p);
    }
}

/* bias + shift of each image. */
static void add_shift(struct plan *p, const struct step *s, struct product *m)
{
    const struct packed *w = s->packed;
    size_t row = (size_t)w->panels * PANEL;
    float *to = (float *)p->shared;
    struct view v = view_of(p, s->i->shift);
    for (int n = 0; n < s->i->out->n; n++, to += row) {
        memset(to, 0, row * sizeof *to);
        p->dev->k->to_f32(v.type, view_at(&v, v.n == 1 ? 0 : n, 0), to, (size_t)w->cout);
        p->dev->k->add(to, w->offset, row);
    }
    m->offset = (float *)p->shared;
    m->offset_img = (long)row;
}

static void run_in_place(struct plan *p, const struct step *s, struct product *m,
                         const struct geometry *g, const struct view *out, const struct view *res)
{
    const tensor *x = s->i->in[0];
    struct grid in[2];
    for (int i = 0; i < 2; i++) {
        struct view v = view_of(p, x->part[0] ? x->part[i] : x);
        in[i] = grid_at(&v, 0, 0);
        in[i].data -= g->pad * (v.row + v.px);
    }
    m->n = out->n;
    m->h = g->h;
    m->width = g->w;
    if (!s->packed->winograd) {
        run_phases(m, g, in, out, res, 0, 0);
        return;
    }
    m->in[0] = in[0];
    m->out = grid_at(out, 0, 0);
    m->residual = res ? grid_at(res, 0, 0) : (struct grid){ 0 };
    winograd_run(m, s->i, p->shared + shift_bytes(s->i));
}

static void run_copied(struct plan *p, const struct step *s, struct product *m,
                       const struct geometry *g, const struct view *out, const struct view *res)
{
    const tensor *x = s->i->in[0];
    enum dtype type = s->packed->type;
    struct slab slab = slab_of(s->i, g, type);
    char *buffer = p->shared + shift_bytes(s->i);
    struct grid in[2] = { { buffer, slab.img, slab.row, slab.px }, { 0 } };
    const float *offset = m->offset;

    in[1] = in[0];
    if (x->part[0])
        in[1].data += copied_bytes(x->part[0], type);
    for (int n = 0; n < x->n; n += slab.images) {
        int images = x->n - n < slab.images ? x->n - n : slab.images;
        for (int y = 0; y < g->h; y += slab.rows) {
            int rows = g->h - y < slab.rows ? g->h - y : slab.rows;
            struct copy c = {
                .p = p, .x = x, .type = type, .g = g, .s = &slab, .to = buffer, .image = n
            };
            c.y = y * g->stride;
            c.rows = (rows - 1) * g->stride + g->k;
            c.pieces = (g->cols + COPY_PIXELS - 1) / COPY_PIXELS;
            if (!s->copied)
                pool_run(p->dev->pool, copy_job, &c, images * c.rows * c.pieces);
            m->n = images;
            m->h = rows;
            m->width = g->w;
            m->offset = offset + n * m->offset_img;
            run_phases(m, g, in, out, res, n, y);
        }
    }
}

void conv_run(struct plan *p, const struct step *s)
{
    const instr *i = s->i;
    const struct packed *w = s->packed;
    struct geometry g = geometry_of(i);
    struct view out = view_of(p, i->out), residual = { 0 };
    struct product m = { .plan = p, .w = w, .offset = w->offset };

    m.finish = (struct finish){ .act = i->act, .out = out.type };
    if (i->residual) {
        residual = view_of(p, i->residual);
        m.finish.residual = residual.type;
    }
    if (i->shift)
        add_shift(p, s, &m);
    view_clear_border(&out);
    if (in_place(i->in[0], w->type, &g))
        run_in_place(p, s, &m, &g, &out, i->residual ? &residual : NULL);
    else
        run_copied(p, s, &m, &g, &out, i->residual ? &residual : NULL);
}
