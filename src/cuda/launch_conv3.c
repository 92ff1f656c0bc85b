/* launch_conv3.c - 3x3 convolutions by our own kernels for 9.0 (kernels/hopper_conv.cu). */
#include "cuda/launching.h"

static const struct way {
    enum kernel_name name;
    int columns; /* of a tile */
    bool doubled;
} ways[] = {
    { KERNEL_conv80, 80, false },         { KERNEL_doubled80, 80, true },
    { KERNEL_conv160, 160, false },       { KERNEL_doubled160, 160, true },
    { KERNEL_conv160_apart, 160, false }, { KERNEL_conv192, 192, false },
    { KERNEL_doubled192, 192, true },     { KERNEL_conv256, 256, false },
    { KERNEL_doubled256, 256, true },
};
enum { WAYS = sizeof ways / sizeof *ways, MOST_PIXELS = 1 << 30 };

static int scale(const struct conv3 *c)
{
    return c->doubled ? 2 : 1;
}

static bool fits(const struct gpu *g, const struct conv3 *c, const struct way *w)
{
    return w->doubled == c->doubled && c->out.c % (4 * LINEAR_RUN(w->columns)) == 0 &&
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

static const struct way *way_of(const struct gpu *g, const struct conv3 *c, int i)
{
    if (!launch_wide(&c->x) || !launch_wide(&c->out) || !launch_wide(&c->residual) ||
        !launch_wide_address(c->weight) || !launch_wide_address(c->bias) ||
        c->x.type != c->out.type || (c->doubled && c->residual.data) || !fits_shortcut(c) ||
        c->out.h != scale(c) * c->x.h || c->out.w != scale(c) * c->x.w ||
        gview_pixels(&c->out) > MOST_PIXELS)
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

static int up(int a, int b)
{
    return (a + b - 1) / b;
}

/* The box of LINEAR_ROWS pixels of which the fewest cover x, the widest of these. */
static void choose_box(const struct gview *x, struct conv3_args *a)
{
    enum { LOG = 7 };
    int least = 0;
    for (int w = LOG; w >= 0; w--)
        for (int h = LOG - w; h >= 0; h--) {
            int n = LOG - w - h, across = up(x->w, 1 << w), down = up(x->h, 1 << h);
            int deep = up(x->n, 1 << n), boxes = across * down * deep;
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

static CUresult map_of(const struct gpu *g, const struct gview *x, const struct conv3_args *a,
                       struct tile_map *to)
{
    struct tiles boxes = {
        .dims = 4,
        .size = { x->c, x->w, x->h, x->n },
        .stride = { 1, x->row, x->w * x->row, (long)x->h * x->w * x->row },
        .tile = { LINEAR_STEP, 1 << a->box_w, 1 << a->box_h, 1 << a->box_n },
    };
    return launch_tiles(g, x->type, x->data, &boxes, to);
}

static CUresult weight_of(const struct gpu *g, const struct conv3 *c, CUdeviceptr weight, long row,
                          int columns, struct tile_map *to)
{
    struct rows w = { weight, row };
    return launch_rows_in_runs(g, c->x.type, &w, c->out.c, row, columns, to);
}

static CUresult maps(const struct gpu *g, const struct conv3 *c, int columns, struct conv3_args *a)
{
    long filter = (c->doubled ? DOUBLED_TAPS : 9L) * c->x.c;
    CUresult result = map_of(g, &c->x, a, &a->x);
    if (result == CUDA_SUCCESS)
        result = weight_of(g, c, c->weight, filter, columns, &a->weight);
    return result;
}

/* Its steps; its bias is a residual that is the same for every pixel. */
static CUresult add_shortcut(const struct gpu *g, const struct conv3 *c, int columns,
                             struct conv3_args *a)
{
    CUresult result = CUDA_SUCCESS;
    long channels = 0;
    for (int i = 0; i < 2 && c->shortcut[i].data && result == CUDA_SUCCESS; i++) {
        result = map_of(g, &c->shortcut[i], a, &a->also[i]);
        a->also_steps[i] = up(c->shortcut[i].c, LINEAR_STEP);
        channels += c->shortcut[i].c;
    }
    if (!channels || result != CUDA_SUCCESS)
        return result;
    a->also_split = c->shortcut[0].c;
    a->residual = (struct rows){ c->shortcut_bias, 0 };
    return weight_of(g, c, c->shortcut_weight, channels, columns, &a->also_weight);
}

CUresult launch_conv3(const struct gpu *g, const struct conv3 *c, int i)
{
    const struct way *way = way_of(g, c, i);
    if (!way)
        return CUDA_ERROR_NOT_SUPPORTED;
    struct conv3_args a = {
        .out = launch_rows(&c->out),
        .residual = launch_rows(&c->residual),
        .bias = c->bias,
        .images = c->x.n,
        .h = c->x.h,
        .w = c->x.w,
        .channels = c->x.c,
        .columns = c->out.c,
        .steps = up(c->x.c, LINEAR_STEP),
    };
    choose_box(&c->x, &a);
    CUresult result = maps(g, c, way->columns, &a);
    if (result == CUDA_SUCCESS)
        result = add_shortcut(g, c, way->columns, &a);
    if (result != CUDA_SUCCESS)
        return result;
    a.tiles = a.across * a.down * a.deep * up(c->out.c, way->columns) * scale(c) * scale(c);
    struct grid grid = { .y = 1, .z = 1, .block_x = LINEAR_THREADS, .block_y = 1 };
    grid.x = (unsigned)(a.tiles < g->processors ? a.tiles : g->processors);
    grid.shared = LINEAR_BYTES(way->columns);
    return launch_kernel(g, way->name, c->out.type, grid, &a);
}
