/* product.c - cuts a product into jobs of some row tiles by some weight panels.
 *
 * A job walks its panels; a block of a panel stays in the L2 cache while all tiles of the job pass
 * over it. Every output element is summed by one job in one order, whatever the cut. */
#include "cpu/cpu.h"

enum {
    RANGE = 20,           /* tiles of a job at most, */
    RANGE_ROWS = 280,     /* and rows of them: their partial sums take 36 KB */
    JOBS_PER_THREAD = 32, /* enough to balance the load */
    SET_BYTES = 4096,     /* rows this far apart fall into one set of an L1 cache, */
    SET_PLACES = 8        /* which holds so many lines */
};

struct cut {
    const struct product *p;
    int per_row, tile; /* tiles in an image row, pixels of a tile */
    int tiles, ranges, groups;
};

/* Where a tile's operands are, and how many rows it has. */
struct spot {
    const char *in[2], *residual;
    char *out;
    const float *offset;
    int rows;
};

static int range_of(int rows)
{
    return rows * RANGE > RANGE_ROWS ? RANGE_ROWS / rows : RANGE;
}

size_t product_scratch(const struct cpu *dev)
{
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        size_t rows = (size_t)(range_of(dev->k->unit[i].rows) * dev->k->unit[i].rows);
        most = rows > most ? rows : most;
    }
    return most * PANEL * sizeof(float);
}

static void locate(const struct cut *c, int tile, struct spot *s)
{
    const struct product *p = c->p;
    int row = tile / c->per_row, x = tile % c->per_row * c->tile, n = row / p->h, y = row % p->h;
    for (int i = 0; i < 2; i++)
        s->in[i] = p->in[i].data + n * p->in[i].img + y * p->in[i].row + x * p->in[i].px;
    s->out = p->out.data + n * p->out.img + y * p->out.row + x * p->out.px;
    s->residual = NULL;
    if (p->residual.data)
        s->residual =
            p->residual.data + n * p->residual.img + y * p->residual.row + x * p->residual.px;
    s->offset = p->offset + n * p->offset_img;
    s->rows = p->width - x < c->tile ? p->width - x : c->tile;
}

/* Fetches what the tile's finish will need while its sums are being made. */
static void fetch_ahead(const struct product *p, const struct spot *s, long out_at, long res_at,
                        int cols)
{
    int out = cols * (int)dtype_bytes(p->finish.out),
        res = cols * (int)dtype_bytes(p->finish.residual);
    for (int r = 0; r < s->rows; r++)
        for (int at = 0; at < out; at += 64)
            __builtin_prefetch(s->out + out_at + r * p->out.px + at, 1);
    for (int r = 0; s->residual && r < s->rows; r++)
        for (int at = 0; at < res; at += 64)
            __builtin_prefetch(s->residual + res_at + r * p->residual.px + at, 0);
}

/* What a tile asks for while it sums: its part of the weights behind this block. While the first
 * panel passes, the tiles ask for each other's inputs, and the last two for the weights. */
static struct stream ask_for(const struct product *p, const struct block *b, const char *weight,
                             const struct spot *spot, int tile, int tiles, bool first_panel)
{
    long words = (long)p->w->taps * b->words, unit = (long)dtype_bytes(p->w->type);
    long rows = p->w->taps * tap_rows(p->w, b);
    int turns = first_panel && tiles > 2 ? 2 : tiles, turn = tile - (tiles - turns);
    const struct spot *s = &spot[tile + 1];
    if (turn >= 0)
        return weights_share(weight + rows * 4 * PANEL, rows, turn, turns);
    return (struct stream){ s->in[b->part] + p->tap[b->part][p->w->taps - 1] +
                                s->rows * b->c0 * unit,
                            s->rows * b->c * unit / words };
}

/* Bytes from a block's first channel to the scale behind the last one of its part. */
static long scale_at(const struct packed *w, const struct block *b)
{
    int c = !w->split ? w->cin : b->part ? w->cin - w->split : w->split;
    return (long)round_up((size_t)c, 4) - b->c0;
}

static void panel_over_tiles(const struct product *p, int panel, const struct spot *spot, int tiles,
                             float *sums, bool first_panel)
{
    const struct packed *w = p->w;
    const struct kernels *k = p->plan->dev->k;
    tile_fn *const *kernel = k->tile[w->type == DT_BF16];
    const char *weight =
        w->data + ((size_t)p->phase * (size_t)w->panels + (size_t)panel) * w->panel_bytes;
    int columns = w->act == ACT_GEGLU ? 16 : PANEL, first = panel * columns;
    int rows = kernels_unit(k, w->type)->rows;
    long unit = (long)dtype_bytes(w->type), out_unit = (long)dtype_bytes(p->finish.out);
    long out_at = first * out_unit, res_at = first * (long)dtype_bytes(p->finish.residual);
    int cols = w->cout - first < columns ? w->cout - first : columns;

    for (int b = 0; b < w->nblocks; b++) {
        const struct block *block = &w->block[b];
        int part = block->part;
        for (int t = 0; t < tiles; t++) {
            const struct spot *s = &spot[t];
            float *c = w->nblocks > 1 ? sums + (long)t * rows * PANEL : sums;
            struct stream next = ask_for(p, block, weight + block->at, spot, t, tiles, first_panel);
            if (b == w->nblocks - 1)
                fetch_ahead(p, s, out_at, res_at, cols);
            const char *in = s->in[part] + block->c0 * unit, *from = weight + block->at;
            if (w->type == DT_I8)
                k->tile8[s->rows](in, p->in[part].px, p->tap[part], w->taps, from, block->words, c,
                                  PANEL, b > 0, next, scale_at(w, block));
            else
                kernel[s->rows](in, p->in[part].px, p->tap[part], w->taps, from, block->words, c,
                                PANEL, b > 0, next);
            if (b == w->nblocks - 1)
                k->finish(&p->finish, c, s->rows, cols, s->offset + (long)panel * PANEL,
                          s->residual ? s->residual + res_at : NULL, p->residual.px,
                          s->out + out_at, p->out.px);
        }
    }
}

static void product_job(void *ctx, int job, int thread)
{
    const struct cut *c = ctx;
    const struct product *p = c->p;
    struct spot spot[RANGE];
    int range = job / c->groups, group = job % c->groups;
    int t0 = (int)((long)c->tiles * range / c->ranges);
    int t1 = (int)((long)c->tiles * (range + 1) / c->ranges);
    int p0 = (int)((long)p->w->panels * group / c->groups);
    int p1 = (int)((long)p->w->panels * (group + 1) / c->groups);

    if (cancelled(p->plan))
        return;
    for (int t = t0; t < t1; t++)
        locate(c, t, &spot[t - t0]);
    for (int panel = p0; panel < p1; panel++)
        panel_over_tiles(p, panel, spot, t1 - t0, thread_scratch(p->plan, thread), panel == p0);
    if (p->plan->dev->k->leave)
        p->plan->dev->k->leave();
}

void product_run(const struct product *p)
{
    struct cut c = { .p = p };
    const struct unit *unit = kernels_unit(p->plan->dev->k, p->w->type);
    int rows = unit->rows, want = JOBS_PER_THREAD * pool_threads(p->plan->dev->pool);
    if (rows > SET_PLACES && unit->words == 1 &&
        (p->in[0].px % SET_BYTES == 0 || p->in[1].px % SET_BYTES == 0))
        rows = (rows + 1) / 2;
    c.per_row = (p->width + rows - 1) / rows;
    c.tile = (p->width + c.per_row - 1) / c.per_row;
    c.per_row = (p->width + c.tile - 1) / c.tile;
    c.tiles = p->n * p->h * c.per_row;
    c.ranges = (c.tiles + range_of(rows) - 1) / range_of(rows);
    c.groups = (want + c.ranges - 1) / c.ranges;
    if (c.groups > p->w->panels)
        c.groups = p->w->panels;
    pool_run(p->plan->dev->pool, product_job, &c, c.ranges * c.groups);
}
