/* winograd.c - 3x3 convolutions with 4/9 of the multiplications: Winograd's F(2x2, 3x3), as in
 * Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015).
 *
 * A tile of 2x2 outputs sees 4x4 inputs d. With the filter g packed as U = G g G^T (pack.c),
 *   Y = A^T [U * (B^T d B)] A:
 * 16 independent products over the channels of many tiles at once. The larger F(4x4) would save
 * more, but its sums lose bf16's few digits; F(2x2) only adds and subtracts its inputs.
 *
 * The transformed inputs of some tile rows (a slab) lie in the L3 cache while all weights pass by;
 * the 16 products of a few tiles and 32 output channels stay in L2 until they become outputs. */
#include "cpu/cpu.h"

enum {
    SLAB_BYTES = 8 << 20,
    GROUPS = 6,   /* groups of up to 14 tiles in a job: their products take 172 KB */
    CHUNK = 16,   /* tiles transformed by a job */
    POSITIONS = 16,
    JOBS_PER_THREAD = 32,
    PIXELS_PER_WEIGHT = 1280 /* see conv_winograd */
};

struct winograd {
    const struct product *p;
    enum dtype type;
    char *slab;          /* [position][tile][channel] */
    long line, step;     /* bytes of a tile's channels, of a position */
    int tile_w, tile_h;  /* tiles of an image */
    int first, rows;     /* tile rows of the slab, counted through all images */
    int per_row, group;  /* groups of a tile row, tiles of a group */
    int ranges, splits;  /* jobs: ranges of groups times splits of the panels */
};

/* Where the input has its border and the map is large: small maps with many channels are bound by
 * their weights, which are 16/9 as large here. The rule must not depend on the batch: then both
 * forms of the weights would be kept. */
bool conv_winograd(const struct cpu *dev, const instr *i)
{
    const tensor *x = i->in[0], *y = i->out;
    return dev->winograd && i->op == OP_CONV2D && i->u.conv.k == 3 && i->u.conv.stride == 1 &&
           i->u.conv.pad == 1 && i->u.conv.pad_end == 1 && !i->u.conv.up_h && x->halo &&
           x->type == y->type && y->h % 2 == 0 && y->w % 2 == 0 && y->w >= 16 && x->c >= 32 &&
           x->c % 2 == 0 && y->c >= PANEL &&
           (long)x->c * y->c <= (long)PIXELS_PER_WEIGHT * y->h * y->w;
}

static int slab_rows(const instr *i)
{
    const tensor *x = i->in[0];
    size_t row = POSITIONS * (size_t)(x->w / 2) * (size_t)x->c * dtype_bytes(x->type);
    int rows = (int)(SLAB_BYTES / row), all = x->n * x->h / 2;
    return rows < 1 ? 1 : rows > all ? all : rows;
}

static size_t products_bytes(const struct cpu *dev, int groups)
{
    return (size_t)groups * (size_t)dev->k->rows * PANEL * sizeof(float);
}

struct scratch winograd_scratch(const struct cpu *dev, const instr *i)
{
    const tensor *x = i->in[0];
    size_t row = POSITIONS * (size_t)(x->w / 2) * (size_t)x->c * dtype_bytes(x->type);
    return (struct scratch){ (size_t)slab_rows(i) * row,
                             products_bytes(dev, POSITIONS * GROUPS + 4) };
}

static void transform_job(void *ctx, int job, int thread)
{
    const struct winograd *m = ctx;
    const struct product *p = m->p;
    int chunks = (m->tile_w + CHUNK - 1) / CHUNK, row = job / chunks, x = job % chunks * CHUNK;
    int n = (m->first + row) / m->tile_h, y = (m->first + row) % m->tile_h;
    const char *from = p->in[0].data + n * p->in[0].img + 2 * y * p->in[0].row;
    char *to = m->slab + ((long)row * m->tile_w + x) * m->line;
    (void)thread;
    if (cancelled(p->plan))
        return;
    for (int end = x + CHUNK; x < end && x < m->tile_w; x++, to += m->line)
        p->plan->dev->k->winograd_in(from + 2 * x * p->in[0].px, m->type, p->in[0].row,
                                     p->in[0].px, p->w->cin, to, m->step);
}

/* One panel's outputs of a group from its 16 products. */
static void outputs(const struct winograd *m, int group, int panel, const float *products, float *y)
{
    const struct product *p = m->p;
    const struct kernels *k = p->plan->dev->k;
    int row = m->first + group / m->per_row, x = group % m->per_row * m->group;
    int n = row / m->tile_h, ty = row % m->tile_h, first = panel * PANEL;
    int tiles = m->tile_w - x < m->group ? m->tile_w - x : m->group;
    int cols = p->w->cout - first < PANEL ? p->w->cout - first : PANEL;
    long unit = (long)dtype_bytes(p->finish.out), res = (long)dtype_bytes(p->finish.residual);

    k->winograd_out(products, (long)k->rows * PANEL, tiles, y);
    for (int i = 0; i < 4; i++, y += k->rows * PANEL) {
        int py = 2 * ty + i / 2, px = 2 * x + i % 2;
        const struct grid *r = &p->residual;
        k->finish(&p->finish, y, tiles, cols, p->offset + n * p->offset_img + first,
                  r->data ? r->data + n * r->img + py * r->row + px * r->px + first * res : NULL,
                  2 * r->px,
                  p->out.data + n * p->out.img + py * p->out.row + px * p->out.px + first * unit,
                  2 * p->out.px);
    }
}

static void multiply_job(void *ctx, int job, int thread)
{
    const struct winograd *m = ctx;
    const struct product *p = m->p;
    const struct kernels *k = p->plan->dev->k;
    const struct block *block = &p->w->block[0];
    tile_fn *const *kernel = k->tile[m->type == DT_BF16];
    int groups = m->rows * m->per_row, range = job % m->ranges, split = job / m->ranges;
    int g0 = (int)((long)groups * range / m->ranges);
    int g1 = (int)((long)groups * (range + 1) / m->ranges);
    int p0 = (int)((long)p->w->panels * split / m->splits);
    int p1 = (int)((long)p->w->panels * (split + 1) / m->splits);
    float *products = thread_scratch(p->plan, thread);
    long tile = (long)k->rows * PANEL, zero = 0;

    if (cancelled(p->plan))
        return;
    for (int panel = p0; panel < p1; panel++) {
        const char *u = p->w->data + (size_t)panel * p->w->panel_bytes;
        for (int i = 0; i < POSITIONS; i++, u += (long)block->words * 4 * PANEL)
            for (int g = g0; g < g1; g++) {
                int x = g % m->per_row * m->group;
                int rows = m->tile_w - x < m->group ? m->tile_w - x : m->group;
                const char *v = m->slab + i * m->step +
                                ((long)(g / m->per_row) * m->tile_w + x) * m->line;
                kernel[rows](v, m->line, &zero, 1, u, block->words,
                             products + ((g - g0) * POSITIONS + i) * tile, PANEL, false);
            }
        for (int g = g0; g < g1; g++)
            outputs(m, g, panel, products + (g - g0) * POSITIONS * tile,
                    products + GROUPS * POSITIONS * tile);
    }
}

/* p: as for a direct convolution in place, so in[0].data is the border's corner. */
void winograd_run(const struct product *p, const instr *i, char *slab)
{
    struct pool *pool = p->plan->dev->pool;
    int tall = p->plan->dev->k->rows, all = p->n * p->h / 2, rows = slab_rows(i);
    struct winograd m = { .p = p, .type = p->w->type, .slab = slab };

    m.tile_w = p->width / 2;
    m.tile_h = p->h / 2;
    m.line = (long)p->w->cin * (long)dtype_bytes(m.type);
    m.step = (long)rows * m.tile_w * m.line;
    m.per_row = (m.tile_w + tall - 1) / tall;
    m.group = (m.tile_w + m.per_row - 1) / m.per_row;
    m.per_row = (m.tile_w + m.group - 1) / m.group;
    for (; m.first < all; m.first += m.rows) {
        m.rows = all - m.first < rows ? all - m.first : rows;
        m.ranges = (m.rows * m.per_row + GROUPS - 1) / GROUPS;
        m.splits = (JOBS_PER_THREAD * pool_threads(pool) + m.ranges - 1) / m.ranges;
        m.splits = m.splits > p->w->panels ? p->w->panels : m.splits;
        pool_run(pool, transform_job, &m, m.rows * ((m.tile_w + CHUNK - 1) / CHUNK));
        pool_run(pool, multiply_job, &m, m.ranges * m.splits);
    }
}
