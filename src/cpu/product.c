/* product.c - cuts a product into jobs of some row tiles by some weight panels.
 *
 * A job walks its panels; a block of a panel stays in the L2 cache while all tiles of the job pass
 * over it. Every output element is summed by one job in one order, whatever the cut. */
#include "cpu/cpu.h"

enum {
    RANGE = 20,               /* tiles of a job at most, */
    RANGE_ROWS = 280,         /* and rows of them: their partial sums take 36 KB; */
    RANGE_BYTES = 1400 << 10, /* of inputs for a matrix unit, which waits where they leave the L2 */
    JOBS_PER_THREAD = 32,     /* enough to balance the load */
    SET_BYTES = 4096,         /* rows this far apart fall into one set of an L1 cache, */
    SET_PLACES = 8            /* which holds so many lines */
};

/* Tiles are cut from lines, which are an image's rows, or whole images where rows would not fill
 * the tiles: then the sums of some pixels in the border are made too, and left. */
struct cut {
    const struct product *p;
    int pitch;          /* pixels from one image row to the next in a line */
    int lines, line;    /* of an image; pixels of a line */
    int per_line, tile; /* tiles of a line, pixels of a tile */
    int tiles, ranges, groups;
};

/* Where a tile's operands are, and how many rows it has; x: its first pixel's place in the image
 * row whose results are at out. */
struct spot {
    const char *in[2], *residual;
    char *out;
    const float *offset;
    int rows, x;
};

/* Tiles of a job; px: bytes from an input's row to the next. */
static int range_of(const struct unit *u, long px)
{
    int rows = u->rows * RANGE > RANGE_ROWS ? RANGE_ROWS : u->rows * RANGE;
    if (u->matrix && rows * px > RANGE_BYTES)
        rows = (int)(RANGE_BYTES / px);
    return rows < u->rows ? 1 : rows / u->rows;
}

size_t product_scratch(const struct cpu *dev)
{
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        size_t rows = (size_t)(range_of(&dev->k->unit[i], 0) * dev->k->unit[i].rows);
        most = rows > most ? rows : most;
    }
    return most * PANEL * sizeof(float);
}

static void locate(const struct cut *c, int tile, struct spot *s)
{
    const struct product *p = c->p;
    int line = tile / c->per_line, first = tile % c->per_line * c->tile, n = line / c->lines;
    int at = line % c->lines * c->pitch + first, x = at % c->pitch, y = at / c->pitch;
    for (int i = 0; i < 2; i++)
        s->in[i] = p->in[i].data + n * p->in[i].img + y * p->in[i].row + x * p->in[i].px;
    s->x = x;
    s->out = p->out.data + n * p->out.img + y * p->out.row;
    s->residual = NULL;
    if (p->residual.data)
        s->residual = p->residual.data + n * p->residual.img + y * p->residual.row;
    s->offset = p->offset + n * p->offset_img;
    s->rows = c->line - first < c->tile ? c->line - first : c->tile;
}

/* Pixels of one image row in a tile, from its row r on; y: image rows below the tile's first one.
 */
struct run {
    int r, x, y, pixels;
};

/* The run that begins at row r or after it; false: there is none. */
static bool next_run(const struct cut *c, const struct spot *s, int r, struct run *run)
{
    int x = (s->x + r) % c->pitch;
    if (x >= c->p->width) {
        r += c->pitch - x;
        x = 0;
    }
    int left = c->p->width - x;
    *run = (struct run){ r, x, (s->x + r) / c->pitch, s->rows - r < left ? s->rows - r : left };
    return r < s->rows;
}

/* Fetches what the tile's finish will need while its sums are being made. */
static void fetch_ahead(const struct cut *c, const struct spot *s, const struct run *run,
                        long out_at, long res_at, int cols)
{
    const struct product *p = c->p;
    const char *to = s->out + run->y * p->out.row + run->x * p->out.px + out_at;
    int out = cols * (int)dtype_bytes(p->finish.out),
        res = cols * (int)dtype_bytes(p->finish.residual);
    for (int r = 0; r < run->pixels; r++)
        for (int at = 0; at < out; at += 64)
            __builtin_prefetch(to + r * p->out.px + at, 1);
    if (!s->residual)
        return;
    const char *from = s->residual + run->y * p->residual.row + run->x * p->residual.px + res_at;
    for (int r = 0; r < run->pixels; r++)
        for (int at = 0; at < res; at += 64)
            __builtin_prefetch(from + r * p->residual.px + at, 0);
}

/* The tile's sums become results. */
static void finish(const struct cut *c, const struct spot *s, const struct run *run,
                   const float *sums, const float *offset, long out_at, long res_at, int cols)
{
    const struct product *p = c->p;
    const struct grid *res = &p->residual;
    p->plan->dev->k->finish(
        &p->finish, sums + (long)run->r * PANEL, run->pixels, cols, offset,
        s->residual ? s->residual + run->y * res->row + run->x * res->px + res_at : NULL, res->px,
        s->out + run->y * p->out.row + run->x * p->out.px + out_at, p->out.px);
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

static void panel_over_tiles(const struct cut *cut, int panel, const struct spot *spot, int tiles,
                             float *sums, bool first_panel)
{
    const struct product *p = cut->p;
    const struct packed *w = p->w;
    struct run run;
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
            for (int r = 0; b == w->nblocks - 1 && next_run(cut, s, r, &run);
                 r = run.r + run.pixels)
                fetch_ahead(cut, s, &run, out_at, res_at, cols);
            const char *in = s->in[part] + block->c0 * unit, *from = weight + block->at;
            if (w->type == DT_I8)
                k->tile8[s->rows](in, p->in[part].px, p->tap[part], w->taps, from, block->words, c,
                                  PANEL, b > 0, next, scale_at(w, block));
            else
                kernel[s->rows](in, p->in[part].px, p->tap[part], w->taps, from, block->words, c,
                                PANEL, b > 0, next);
            for (int r = 0; b == w->nblocks - 1 && next_run(cut, s, r, &run);
                 r = run.r + run.pixels)
                finish(cut, s, &run, c, s->offset + (long)panel * PANEL, out_at, res_at, cols);
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
        panel_over_tiles(c, panel, spot, t1 - t0, thread_scratch(p->plan, thread), panel == p0);
    if (p->plan->dev->k->leave)
        p->plan->dev->k->leave();
}

/* Rows that do not fill a tile cost a matrix unit more than pixels of the border do. */
static void choose_lines(struct cut *c, int rows)
{
    const struct product *p = c->p;
    const struct grid *in = p->in;
    int by_rows = p->h * ((p->width + rows - 1) / rows);
    c->pitch = c->line = p->width;
    c->lines = p->h;
    if (!kernels_unit(p->plan->dev->k, p->w->type)->matrix || p->h == 1)
        return;
    int pitch = (int)(in[0].row / in[0].px), whole = (p->h - 1) * pitch + p->width;
    if (in[0].row % in[0].px || (p->w->split && in[1].row != pitch * in[1].px) ||
        (whole + rows - 1) / rows >= by_rows)
        return;
    c->pitch = pitch;
    c->line = whole;
    c->lines = 1;
}

void product_run(const struct product *p)
{
    struct cut c = { .p = p };
    const struct unit *unit = kernels_unit(p->plan->dev->k, p->w->type);
    int range = range_of(unit, p->in[0].px), rows = unit->rows;
    int want = JOBS_PER_THREAD * pool_threads(p->plan->dev->pool);
    if (rows > SET_PLACES && !unit->matrix &&
        (p->in[0].px % SET_BYTES == 0 || p->in[1].px % SET_BYTES == 0))
        rows = (rows + 1) / 2;
    choose_lines(&c, rows);
    c.per_line = (c.line + rows - 1) / rows;
    c.tile = (c.line + c.per_line - 1) / c.per_line;
    c.per_line = (c.line + c.tile - 1) / c.tile;
    c.tiles = p->n * c.lines * c.per_line;
    c.ranges = (c.tiles + range - 1) / range;
    c.groups = (want + c.ranges - 1) / c.ranges;
    if (c.groups > p->w->panels)
        c.groups = p->w->panels;
    pool_run(p->plan->dev->pool, product_job, &c, c.ranges * c.groups);
}
