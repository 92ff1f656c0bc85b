/* winograd.c - 3x3 convolutions with 4/9 of the multiplications: Winograd's F(2x2, 3x3), as in
 * Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015).
 *
 * A tile of 2x2 outputs sees 4x4 inputs d. With the filter g packed as U = G g G^T (pack.c),
 *   Y = A^T [U * (B^T d B)] A:
 * 16 independent products over the channels of many tiles at once. The larger F(4x4) would save
 * more, but its sums lose bf16's few digits; F(2x2) only adds and subtracts its inputs.
 *
 * A group of up to 14 tiles of a row makes the rows of a product. With few channels a job
 * transforms its own groups and keeps them in its L2 cache while all weights pass by. With many,
 * the weights would pass too often: then some tile rows (a slab) are transformed into the L3 cache
 * first. Either way the 16 products of a job's groups and 32 output channels stay in L2 until they
 * become outputs. */
#include "cpu/cpu.h"

enum {
    POSITIONS = 16,
    GROUPS = 6,            /* of a job at most: their products take 172 KB */
    OWN_GROUPS = 2,        /* a job that holds fewer would read the weights too often */
    OWN_BYTES = 512 << 10, /* of transformed inputs in a core's L2 cache */
    SLAB_BYTES = 8 << 20,  /* in the L3 cache */
    JOBS_PER_THREAD = 32,
    CHANNELS_PER_PIXEL = 1280 /* see conv_winograd */
};

struct winograd {
    const struct product *p;
    enum dtype type;
    int tile_w, tile_h; /* tiles of an image */
    int per_row, group; /* groups of a tile row, tiles of a group */
    long line;          /* bytes of a transformed channel vector */
    bool own;           /* each job transforms its groups */
    int most;           /* groups of a job */
    char *slab;         /* [position][group][tile][channel] */
    long step;          /* bytes of a position of the slab */
    int first, rows;    /* tile rows of the slab, counted through all images */
    int ranges, splits; /* jobs: ranges of groups times splits of the panels */
};

/* Where the input has its border and the map is large: small maps with many channels are bound by
 * their weights, which are 16/9 as large here. A matrix unit multiplies faster than vectors
 * transform. The rule must not depend on the batch: then both forms of the weights would be kept.
 */
bool conv_winograd(const struct cpu *dev, const instr *i)
{
    const tensor *x = i->in[0], *y = i->out;
    return dev->winograd && !kernels_unit(dev->k, x->type)->matrix && i->op == OP_CONV2D &&
           i->u.conv.k == 3 && i->u.conv.stride == 1 && i->u.conv.pad == 1 &&
           i->u.conv.pad_end == 1 && !i->u.conv.up_h && x->halo && x->type == y->type &&
           y->h % 2 == 0 && y->w % 2 == 0 && y->w >= 16 && x->c >= 32 && x->c % 2 == 0 &&
           y->c >= PANEL && (long)x->c * y->c <= (long)CHANNELS_PER_PIXEL * y->h * y->w;
}

static void cut(struct winograd *m, const struct cpu *dev, const instr *i)
{
    const tensor *x = i->in[0];
    int tall = kernels_unit(dev->k, x->type)->rows, all = x->n * x->h / 2;
    m->tile_w = x->w / 2;
    m->tile_h = x->h / 2;
    m->per_row = (m->tile_w + tall - 1) / tall;
    m->group = (m->tile_w + m->per_row - 1) / m->per_row;
    m->per_row = (m->tile_w + m->group - 1) / m->group;
    m->line = (long)x->c * (long)dtype_bytes(x->type);
    long bytes = POSITIONS * m->group * m->line, row = bytes * m->per_row;
    m->most = (int)(OWN_BYTES / bytes);
    m->own = m->most >= OWN_GROUPS;
    m->most = m->own && m->most < GROUPS ? m->most : GROUPS;
    m->rows = m->own ? all : (int)(SLAB_BYTES / row);
    m->rows = m->rows < 1 ? 1 : m->rows > all ? all : m->rows;
    m->step = (long)(m->own ? m->most : m->rows * m->per_row) * m->group * m->line;
}

/* Floats of a tile's sums. */
static long tile_floats(const struct cpu *dev, enum dtype type)
{
    return (long)kernels_unit(dev->k, type)->rows * PANEL;
}

static size_t products_bytes(const struct cpu *dev, enum dtype type)
{
    return (size_t)(POSITIONS * GROUPS + 4) * (size_t)tile_floats(dev, type) * sizeof(float);
}

struct scratch winograd_scratch(const struct cpu *dev, const instr *i)
{
    struct winograd m = { 0 };
    cut(&m, dev, i);
    size_t slab = POSITIONS * (size_t)m.step;
    return (struct scratch){ m.own ? 0 : slab,
                             products_bytes(dev, i->in[0]->type) + (m.own ? slab : 0) };
}

/* Where a group is: image, tile row, first tile and how many. */
struct place {
    int n, y, x, tiles;
};

static struct place locate(const struct winograd *m, int group)
{
    int row = m->first + group / m->per_row, x = group % m->per_row * m->group;
    int left = m->tile_w - x;
    return (struct place){ row / m->tile_h, row % m->tile_h, x, left < m->group ? left : m->group };
}

/* slot: the group's place in the slab. */
static void transform(const struct winograd *m, int group, char *slab, int slot)
{
    const struct product *p = m->p;
    const struct grid *in = &p->in[0];
    struct place at = locate(m, group);
    const char *from = in->data + at.n * in->img + 2 * at.y * in->row + 2 * at.x * in->px;
    p->plan->dev->k->winograd_in(from, m->type, in->row, in->px, p->w->cin, at.tiles,
                                 slab + (long)slot * m->group * m->line, m->line, m->step);
}

static void transform_job(void *ctx, int job, int thread)
{
    const struct winograd *m = ctx;
    (void)thread;
    if (!cancelled(m->p->plan))
        transform(m, job, m->slab, job);
}

/* One panel's outputs of a group from its 16 products. */
static void outputs(const struct winograd *m, int group, int panel, const float *products, float *y)
{
    const struct product *p = m->p;
    const struct kernels *k = p->plan->dev->k;
    const struct grid *r = &p->residual, *out = &p->out;
    struct place at = locate(m, group);
    int first = panel * PANEL, left = p->w->cout - first, cols = left < PANEL ? left : PANEL;
    long unit = (long)dtype_bytes(p->finish.out), res = (long)dtype_bytes(p->finish.residual);

    long tile = tile_floats(p->plan->dev, m->type);

    k->winograd_out(products, tile, at.tiles, y);
    for (int i = 0; i < 4; i++, y += tile) {
        int py = 2 * at.y + i / 2, px = 2 * at.x + i % 2;
        k->finish(&p->finish, y, at.tiles, cols, p->offset + at.n * p->offset_img + first,
                  r->data ? r->data + at.n * r->img + py * r->row + px * r->px + first * res : NULL,
                  2 * r->px,
                  out->data + at.n * out->img + py * out->row + px * out->px + first * unit,
                  2 * out->px);
    }
}

/* Groups [g0, g1), of which g0 is at v, by panels [p0, p1). */
static void multiply(const struct winograd *m, int g0, int g1, int p0, int p1, const char *v,
                     float *products)
{
    const struct product *p = m->p;
    const struct kernels *k = p->plan->dev->k;
    tile_fn *const *kernel = k->tile[m->type == DT_BF16];
    long tile = tile_floats(p->plan->dev, m->type), zero = 0, words = p->w->block[0].words;

    for (int panel = p0; panel < p1; panel++) {
        const char *u = p->w->data + (size_t)panel * p->w->panel_bytes;
        for (int i = 0; i < POSITIONS; i++, u += words * 4 * PANEL)
            for (int g = g0; g < g1; g++)
                kernel[locate(m, g).tiles](
                    v + i * m->step + (g - g0) * m->group * m->line, m->line, &zero, 1, u,
                    (int)words, products + ((g - g0) * POSITIONS + i) * tile, PANEL, false,
                    weights_share(u + words * 4 * PANEL, words, g - g0, g1 - g0));
        for (int g = g0; g < g1; g++)
            outputs(m, g, panel, products + (g - g0) * POSITIONS * tile,
                    products + GROUPS * POSITIONS * tile);
    }
}

static void multiply_job(void *ctx, int job, int thread)
{
    const struct winograd *m = ctx;
    const struct product *p = m->p;
    int groups = m->rows * m->per_row, range = job % m->ranges, split = job / m->ranges;
    int g0 = (int)((long)groups * range / m->ranges);
    int g1 = (int)((long)groups * (range + 1) / m->ranges);
    int p0 = (int)((long)p->w->panels * split / m->splits);
    int p1 = (int)((long)p->w->panels * (split + 1) / m->splits);
    char *scratch = thread_scratch(p->plan, thread), *v = m->slab + g0 * m->group * m->line;

    if (cancelled(p->plan))
        return;
    if (m->own) {
        v = scratch + products_bytes(p->plan->dev, m->type);
        for (int g = g0; g < g1; g++)
            transform(m, g, v, g - g0);
    }
    multiply(m, g0, g1, p0, p1, v, (float *)scratch);
    if (p->plan->dev->k->leave)
        p->plan->dev->k->leave();
}

/* p: as for a direct convolution in place, so in[0].data is the border's corner. */
void winograd_run(const struct product *p, const instr *i, char *slab)
{
    struct pool *pool = p->plan->dev->pool;
    struct winograd m = { .p = p, .type = p->w->type, .slab = slab };
    int all = p->n * p->h / 2, rows;

    cut(&m, p->plan->dev, i);
    rows = m.rows;
    for (; m.first < all; m.first += m.rows) {
        m.rows = all - m.first < rows ? all - m.first : rows;
        int groups = m.rows * m.per_row;
        m.ranges = (groups + m.most - 1) / m.most;
        m.splits = (JOBS_PER_THREAD * pool_threads(pool) + m.ranges - 1) / m.ranges;
        m.splits = m.own ? 1 : m.splits > p->w->panels ? p->w->panels : m.splits;
        if (!m.own)
            pool_run(pool, transform_job, &m, groups);
        pool_run(pool, multiply_job, &m, m.ranges * m.splits);
    }
}
