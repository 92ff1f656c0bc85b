/* launch_conv3.c - 3x3 convolutions by our own kernels for 9.0 (kernels/hopper_conv.cu).
 *
 * In pairs, what is computed before the products has to fit the workspace: it is that of so many
 * images at once, or of so many rows of one. */
#include "cuda/launching.h"

static const struct way {
    enum kernel_name name;
    int columns; /* of a tile */
    bool doubled, pairs;
} ways[] = {
    { KERNEL_conv80, 80, false, false },         { KERNEL_doubled80, 80, true, false },
    { KERNEL_conv160, 160, false, false },       { KERNEL_doubled160, 160, true, false },
    { KERNEL_conv160_apart, 160, false, false }, { KERNEL_conv192, 192, false, false },
    { KERNEL_doubled192, 192, true, false },     { KERNEL_conv256, 256, false, false },
    { KERNEL_doubled256, 256, true, false },     { KERNEL_paired128, 128, false, true },
    { KERNEL_paired160, 160, false, true },
};
enum { WAYS = sizeof ways / sizeof *ways, MOST_PIXELS = 1 << 30, PHASES = 4 };

static int scale(const struct conv3 *c)
{
    return c->doubled ? 2 : 1;
}

static bool fits(const struct gpu *g, const struct conv3 *c, const struct way *w)
{
    return w->doubled == c->doubled && w->pairs == c->pairs &&
           c->out.c % (4 * LINEAR_RUN(w->columns)) == 0 &&
           g->kernel[kernel_index(w->name, c->out.type)];
}

/* No shortcut, or one that can be added? */
static bool fits_shortcut(const struct conv3 *c)
{
    const struct gview *a = &c->shortcut[0], *b = &c->shortcut[1];
    return !a->data ||
           (!c->doubled && !c->residual.data && launch_wide(a) && launch_wide(b) &&
            launch_wide_address(c->shortcut_weight) && launch_wide_address(c->shortcut_bias));
}

static int across(const struct conv3 *c)
{
    return c->pairs ? launch_times(c->x.w, 2) : c->x.w;
}

/* In bytes, of a row of an image before the products of pairs. */
static size_t row_bytes(const struct conv3 *c)
{
    return (size_t)PHASES * (size_t)across(c) * (size_t)c->x.c * dtype_bytes(c->x.type);
}

static const struct way *way_of(const struct gpu *g, const struct conv3 *c, int i)
{
    if (!launch_wide(&c->x) || !launch_wide(&c->out) || !launch_wide(&c->residual) ||
        !launch_wide_address(c->weight) || !launch_wide_address(c->bias) ||
        c->x.type != c->out.type || (c->doubled && c->residual.data) || !fits_shortcut(c) ||
        c->out.h != scale(c) * c->x.h || c->out.w != scale(c) * c->x.w ||
        gview_pixels(&c->out) > MOST_PIXELS ||
        (c->pairs && (c->bytes < 3 * row_bytes(c) || !launch_wide_address(c->workspace))))
        return NULL;
    for (int k = 0; k < WAYS; k++)
        if (fits(g, c, &ways[k]) && i-- == 0)
            return &ways[k];
    return NULL;
}

int launch_conv3_ways(const struct gpu *g, const struct conv3 *c)
{
    int count = 0;
    while (way_of(g, c, count))
        count++;
    return count;
}

/* The box of LINEAR_ROWS pixels, or pairs, of which the fewest cover x, the widest of these. */
static void choose_box(int wide, const struct gview *x, struct conv3_args *a)
{
    enum { LOG = 7 };
    int least = 0;
    for (int w = LOG; w >= 0; w--)
        for (int h = LOG - w; h >= 0; h--) {
            int n = LOG - w - h, across = launch_times(wide, 1 << w);
            int down = launch_times(x->h, 1 << h), deep = launch_times(x->n, 1 << n);
            int boxes = across * down * deep;
            if (least && boxes >= least)
                continue;
            least = boxes;
            a->box_w = w;
            a->box_h = h;
            a->box_n = n;
            a->across = across;
            a->down = down;
            a->deep = deep;
        }
}

/* Every apart-th column of x from the first on; if there is none, one that is not looked at. */
static CUresult map_of(const struct gpu *g, const struct gview *x, int first, int apart,
                       const struct conv3_args *a, struct tile_map *to)
{
    int columns = launch_times(x->w - first, apart);
    size_t skipped = columns ? (size_t)(first * x->row) * dtype_bytes(x->type) : 0;
    struct tiles boxes = {
        .dims = 4,
        .size = { x->c, columns ? columns : 1, x->h, x->n },
        .stride = { 1, apart * x->row, x->w * x->row, (long)x->h * x->w * x->row },
        .tile = { LINEAR_STEP, 1 << a->box_w, 1 << a->box_h, 1 << a->box_n },
    };
    return launch_tiles(g, x->type, x->data + skipped, &boxes, to);
}

static CUresult weight_of(const struct gpu *g, const struct conv3 *c, CUdeviceptr weight, long row,
                          int columns, struct tile_map *to)
{
    struct rows w = { weight, row };
    return launch_rows_in_runs(g, c->x.type, &w, c->out.c, row, columns, to);
}

/* What the taps read: x, or the four maps made of it. */
static struct gview taps_of(const struct conv3 *c)
{
    if (!c->pairs)
        return c->x;
    return (struct gview){ .data = c->workspace,
                           .type = c->x.type,
                           .n = PHASES * c->x.n,
                           .h = c->x.h + 2,
                           .w = across(c),
                           .c = c->x.c,
                           .row = c->x.c };
}

static CUresult maps(const struct gpu *g, const struct conv3 *c, int columns, struct conv3_args *a)
{
    long filter = (c->pairs ? PAIRS_TAPS : c->doubled ? DOUBLED_TAPS : 9L) * c->x.c;
    struct gview x = taps_of(c);
    CUresult result = map_of(g, &x, 0, 1, a, &a->x);
    if (result == CUDA_SUCCESS)
        result = weight_of(g, c, c->weight, filter, columns, &a->weight);
    return result;
}

/* Of pairs, one for the first pixels and one for the second ones. */
static CUresult shortcut_maps(const struct gpu *g, const struct conv3 *c, int part,
                              struct conv3_args *a)
{
    int beside = c->pairs ? 2 : 1;
    CUresult result = CUDA_SUCCESS;
    for (int i = 0; i < beside && result == CUDA_SUCCESS; i++)
        result = map_of(g, &c->shortcut[part], i, beside, a, &a->also[part][i]);
    return result;
}

/* Its steps; its bias is a residual that is the same for every pixel. */
static CUresult add_shortcut(const struct gpu *g, const struct conv3 *c, int columns,
                             struct conv3_args *a)
{
    CUresult result = CUDA_SUCCESS;
    long channels = 0;
    for (int i = 0; i < 2 && c->shortcut[i].data && result == CUDA_SUCCESS; i++) {
        result = shortcut_maps(g, c, i, a);
        a->also_steps[i] = launch_times(c->shortcut[i].c, LINEAR_STEP);
        channels += c->shortcut[i].c;
    }
    if (!channels || result != CUDA_SUCCESS)
        return result;
    a->also_split = c->shortcut[0].c;
    a->residual = (struct rows){ c->shortcut_bias, 0 };
    return weight_of(g, c, c->shortcut_weight, channels, columns, &a->also_weight);
}

/* All of x, or as much as is computed at once. */
static CUresult launch_products(const struct gpu *g, const struct conv3 *c, const struct way *way)
{
    struct conv3_args a = {
        .out = launch_rows(&c->out),
        .residual = launch_rows(&c->residual),
        .bias = c->bias,
        .images = c->x.n,
        .h = c->x.h,
        .w = c->x.w,
        .channels = c->x.c,
        .columns = c->out.c,
        .steps = launch_times(c->x.c, LINEAR_STEP),
    };
    choose_box(across(c), &c->x, &a);
    CUresult result = maps(g, c, way->columns, &a);
    if (result == CUDA_SUCCESS)
        result = add_shortcut(g, c, way->columns, &a);
    if (result != CUDA_SUCCESS)
        return result;
    a.tiles =
        a.across * a.down * a.deep * launch_times(c->out.c, way->columns) * scale(c) * scale(c);
    struct grid grid = { .y = 1, .z = 1, .block_x = LINEAR_THREADS, .block_y = 1 };
    grid.x = (unsigned)(a.tiles < g->processors ? a.tiles : g->processors);
    grid.shared = LINEAR_BYTES(way->columns);
    return launch_kernel(g, way->name, c->out.type, grid, &a);
}

/* Rows of images of a map; none if there is no map. */
static struct gview part_of(struct gview x, int image, int images, int row, int rows)
{
    size_t before = ((size_t)image * (size_t)x.h + (size_t)row) * (size_t)x.w * (size_t)x.row;
    x.data += x.data ? before * dtype_bytes(x.type) : 0;
    x.n = images;
    x.h = rows;
    return x;
}

/* Rows of images of x, and one more above and below, to the four maps of their pairs. */
static CUresult launch_phases(const struct gpu *g, const struct conv3 *c, int image, int images,
                              int row, int rows)
{
    struct gview whole = part_of(c->x, image, images, 0, c->x.h);
    struct pairs_args a = {
        .x = launch_rows(&whole),
        .phases = c->workspace,
        .h = c->x.h,
        .w = c->x.w,
        .channels = c->x.c,
        .across = across(c),
        .down = rows + 2,
        .first = row - 1,
        .rows = (long)images * (rows + 2),
    };
    enum { THREADS = WINOGRAD_THREADS };
    long threads = a.rows * launch_times(a.across, PAIRS_RUN) * (c->x.c / PAIRS_IN);
    struct grid grid = { (unsigned)launch_times(threads, THREADS), 1, 1, THREADS, 1, 0 };
    return launch_kernel(g, KERNEL_winograd_pairs, c->x.type, grid, &a);
}

static CUresult launch_part(const struct gpu *g, const struct conv3 *c, const struct way *way,
                            int image, int images, int row, int rows)
{
    struct conv3 part = *c;
    part.x = part_of(c->x, image, images, row, rows);
    part.out = part_of(c->out, image, images, row, rows);
    part.residual = part_of(c->residual, image, images, row, rows);
    for (int i = 0; i < 2; i++)
        part.shortcut[i] = part_of(c->shortcut[i], image, images, row, rows);
    CUresult result = launch_phases(g, c, image, images, row, rows);
    return result == CUDA_SUCCESS ? launch_products(g, &part, way) : result;
}

static CUresult launch_pairs(const struct gpu *g, const struct conv3 *c, const struct way *way)
{
    int most = (int)(c->bytes / row_bytes(c)), h = c->x.h; /* rows */
    int images = most / (h + 2) ? most / (h + 2) : 1;
    int parts = most < h + 2 ? launch_times(h, most - 2) : 1, rows = launch_times(h, parts);
    CUresult result = CUDA_SUCCESS;
    for (int n = 0; n < c->x.n; n += images)
        for (int y = 0; y < h && result == CUDA_SUCCESS; y += rows)
            result = launch_part(g, c, way, n, images < c->x.n - n ? images : c->x.n - n, y,
                                 rows < h - y ? rows : h - y);
    return result;
}

CUresult launch_conv3(const struct gpu *g, const struct conv3 *c, int i)
{
    const struct way *way = way_of(g, c, i);
    if (!way)
        return CUDA_ERROR_NOT_SUPPORTED;
    return c->pairs ? launch_pairs(g, c, way) : launch_products(g, c, way);
}
