/* launch_linear.c - linear layers by our own kernels for 9.0 (kernels/hopper_linear.cu). */
#include "cuda/launching.h"

static const struct way {
    enum kernel_name name;
    int columns; /* of a tile, GEGLU's gates included */
    bool geglu, normed;
    bool pair; /* of blocks, whose tiles are beside each other */
} ways[] = {
    { KERNEL_linear256_geglu, 256, true, false, false },
    { KERNEL_normed256_geglu, 256, true, true, false },
    { KERNEL_linear160_geglu, 160, true, false, false },
    { KERNEL_normed160_geglu, 160, true, true, false },
    { KERNEL_linear80, 80, false, false, false },
    { KERNEL_normed80, 80, false, true, false },
    { KERNEL_linear160, 160, false, false, false },
    { KERNEL_linear160_pair, 160, false, false, true },
    { KERNEL_linear160_apart, 160, false, false, false },
    { KERNEL_normed160, 160, false, true, false },
};
enum { WAYS = sizeof ways / sizeof *ways, MOST_ROWS = 1 << 30 };

static int width(const struct way *w)
{
    return w->columns / (w->geglu ? 2 : 1);
}

static int phases(const struct linear *l)
{
    return l->phases > 1 ? l->phases : 1;
}

static bool fits(const struct gpu *g, const struct linear *l, const struct way *w)
{
    return w->geglu == l->geglu && w->normed == l->normed &&
           l->out.c % (4 * LINEAR_RUN(width(w))) == 0 &&
           (!w->pair || launch_times(l->out.c, width(w)) % 2 == 0) &&
           g->kernel[kernel_index(w->name, l->out.type)];
}

static const struct way *way_of(const struct gpu *g, const struct linear *l, int i)
{
    if (!launch_wide(&l->x) || !launch_wide(&l->out) || !launch_wide(&l->residual) ||
        !launch_wide_address(l->weight) || !launch_wide_address(l->bias) ||
        l->weight_row % 8 != 0 || gview_pixels(&l->out) > MOST_ROWS ||
        (phases(l) > 1 && (l->bias || l->residual.data)))
        return NULL;
    for (int k = 0; k < WAYS; k++)
        if (fits(g, l, &ways[k]) && i-- == 0)
            return &ways[k];
    return NULL;
}

int launch_linear_ways(const struct gpu *g, const struct linear *l)
{
    int count = 0;
    while (way_of(g, l, count))
        count++;
    return count;
}

CUresult launch_rows_in_runs(const struct gpu *g, enum dtype type, const struct rows *w, long count,
                             long columns, int width, struct tile_map *map)
{
    long row = w->row;
    int run = LINEAR_RUN(width), group = 4 * run;
    struct tiles tiles = { .dims = 5,
                           .size = { columns, 2, 4, run / 2, count / group },
                           .stride = { 1, row, run * row, 2 * row, group * row },
                           .tile = { LINEAR_STEP, 2, 4, run / 2, width / group } };
    return launch_tiles(g, type, w->data, &tiles, map);
}

static CUresult maps(const struct gpu *g, const struct linear *l, const struct way *way,
                     struct linear_args *a)
{
    struct rows w = { l->weight, l->weight_row };
    struct tiles x = { .dims = 2,
                       .size = { l->x.c, phases(l) * gview_pixels(&l->x) },
                       .stride = { 1, l->x.row },
                       .tile = { LINEAR_STEP, LINEAR_ROWS / (way->pair ? 2 : 1) } };
    CUresult result = launch_tiles(g, l->x.type, l->x.data, &x, &a->x);
    return result == CUDA_SUCCESS
               ? launch_rows_in_runs(g, l->x.type, &w,
                                     (long)phases(l) * l->out.c * (l->geglu ? 2 : 1), l->x.c,
                                     width(way), &a->w)
               : result;
}

CUresult launch_linear(const struct gpu *g, const struct linear *l, int i)
{
    const struct way *way = way_of(g, l, i);
    if (!way)
        return CUDA_ERROR_NOT_SUPPORTED;
    struct linear_args a = {
        .out = launch_rows(&l->out),
        .residual = launch_rows(&l->residual),
        .bias = l->bias,
        .rows = (int)gview_pixels(&l->out),
        .columns = l->out.c,
        .steps = launch_times(l->x.c, LINEAR_STEP),
        .down = launch_times(gview_pixels(&l->out), LINEAR_ROWS),
        .across = launch_times(l->out.c, width(way)),
        .channels = l->x.c,
        .eps = l->eps,
    };
    CUresult result = maps(g, l, way, &a);
    if (result != CUDA_SUCCESS)
        return result;
    a.tiles = a.down * a.across * phases(l);
    struct grid grid = { .y = 1, .z = 1, .block_x = LINEAR_THREADS, .block_y = 1 };
    int places = way->pair ? g->processors / 2 * 2 : g->processors;
    grid.x = (unsigned)(a.tiles < places ? a.tiles : places);
    grid.shared = LINEAR_BYTES(way->columns);
    return launch_kernel(g, way->name, l->out.type, grid, &a);
}
