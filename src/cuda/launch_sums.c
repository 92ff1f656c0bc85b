/* launch_sums.c - the launches of norms, softmax and convolutions. */
#include "cuda/launching.h"

enum { THREADS = 256, SHARED = 48 * 1024 }; /* shared memory that every card has, unasked */

/* ---- norms */

enum { MOST_CHUNKS = 384 }; /* three blocks on each multiprocessor of the largest cards */

/* Groups of a block: as few as fill `enough` bytes of a pixel in whole vectors. */
static int slab_of(const struct group_norm_args *a, enum dtype type, int enough)
{
    int bytes = (int)dtype_bytes(type), width = a->channels / a->groups;
    for (int slab = 1; slab < a->groups; slab++)
        if (a->groups % slab == 0 && slab * width * bytes >= enough &&
            (!a->vector || slab * width * bytes % 16 == 0))
            return slab;
    return a->groups;
}

/* Cuts every image into `chunks` or fewer blocks. */
static void cut(struct group_norm_args *a, int chunks)
{
    a->chunk = chunks > 1 ? (a->area + chunks - 1) / chunks : a->area;
    a->chunks = (a->area + a->chunk - 1) / a->chunk;
}

/* The threads of a block, and the blocks for the groups of every image. */
static struct grid group_norm_block(struct group_norm_args *a, int images, enum dtype type,
                                    int enough, unsigned threads)
{
    a->slab = slab_of(a, type, enough);
    struct grid grid = launch_grid(1, a->slab * a->width, a->vector, type);
    grid.block_y = threads / grid.block_x;
    grid.y = (unsigned)(a->groups / a->slab);
    grid.z = (unsigned)images;
    return grid;
}

/* Shared memory for the sums of a block's threads. */
static unsigned sums_bytes(const struct group_norm_args *a, const struct grid *grid,
                           enum dtype type)
{
    int vectors =
        a->vector ? 2 * a->slab * a->width * (int)dtype_bytes(type) / 16 : a->slab * a->width;
    return (unsigned)vectors * (grid->block_y | 1) * (unsigned)sizeof(struct group_sum);
}

static unsigned groups_bytes(const struct group_norm_args *a)
{
    return (unsigned)a->slab * (unsigned)sizeof(struct group_sum);
}

/* How many blocks share an image does not depend on the card, so that sums do not either. */
static struct grid group_norm_grid(struct group_norm_args *a, int images, enum dtype type)
{
    struct grid grid = group_norm_block(a, images, type, 128, STREAMED_THREADS);
    int most = MOST_CHUNKS / ((int)grid.y * images), rows = 4 * (int)grid.block_y;
    cut(a, a->area / rows < most ? a->area / rows : most);
    grid.x = (unsigned)a->chunks;
    return grid;
}

/* For one launch: `blocks` blocks or fewer, whatever the card, if all of them run at once on this
 * one, `each` on a multiprocessor. An image of up to `alone` pixels is one block's: several would
 * wait for each other for longer. */
static bool group_norm_at_once(const struct gpu *g, struct group_norm_args *a, struct grid *grid,
                               enum dtype type, int blocks, int each, int alone)
{
    int apart = (int)(grid->y * grid->z), most = a->area / (2 * (int)grid->block_y);
    int pieces = a->area > alone ? blocks / apart : 1; /* apart: blocks that do not meet */
    bool whole = (int)grid->block_x * 16 == a->slab * a->width * (int)dtype_bytes(type);
    pieces = pieces < most ? pieces : most;
    cut(a, pieces < MOST_SHARING ? pieces : MOST_SHARING);
    grid->x = (unsigned)a->chunks;
    grid->shared = sums_bytes(a, grid, type) + groups_bytes(a);
    return a->vector && whole && apart <= blocks && a->chunks * apart <= each * g->processors &&
           a->chunks * apart * a->slab <= MOST_NOTES;
}

/* The one launch, if registers hold the map. */
static bool group_norm_held(const struct gpu *g, struct group_norm_args *a, int images,
                            enum dtype type, struct grid *grid)
{
    enum { BLOCKS = 256, SHARED_OF_TWO = 32 * 1024 }; /* the smallest cards' multiprocessors: 64 */
    struct group_norm_args k = *a;
    *grid = group_norm_block(&k, images, type, 128, STREAMED_THREADS);
    int holds = HELD * (int)grid->block_y;
    if (!group_norm_at_once(g, &k, grid, type, BLOCKS, HELD_BLOCKS, holds) || k.chunk > holds ||
        grid->shared > SHARED_OF_TWO)
        return false;
    *a = k;
    return true;
}

/* The one launch, if shared memory holds the map or a part of it: on 9.0. Long rows of a pixel are
 * read fastest; but the more blocks share an image, the more they tell each other. */
static bool group_norm_kept(const struct gpu *g, struct group_norm_args *a, int images,
                            enum dtype type, struct grid *grid)
{
    enum { BLOCKS = 112, APART = 4 }; /* no card of 9.0 has fewer multiprocessors */
    struct group_norm_args k = *a;
    if (!g->kernel[kernel_index(KERNEL_group_norm_kept, type)])
        return false;
    int enough = 512;
    do
        *grid = group_norm_block(&k, images, type, enough, KEPT_THREADS);
    while (grid->y * grid->z < APART && (enough /= 2) >= 128);
    if (!group_norm_at_once(g, &k, grid, type, BLOCKS, 1, 0) || grid->shared > (unsigned)g->shared)
        return false;
    unsigned row = 16 * grid->block_x * grid->block_y;
    unsigned most = ((unsigned)g->shared - grid->shared) / row;
    unsigned pixels = ((unsigned)k.chunk + grid->block_y - 1) / grid->block_y;
    k.kept = (int)(pixels < most ? pixels : most);
    grid->shared += (unsigned)k.kept * row;
    *a = k;
    return true;
}

CUresult launch_group_norm(const struct gpu *g, const struct gview *x, const struct gview *second,
                           CUdeviceptr bias, const struct gview *shift, int groups, float eps,
                           CUdeviceptr gamma, CUdeviceptr beta, enum act act,
                           const struct gview *out, CUdeviceptr scratch)
{
    struct group_norm_args a = {
        .x = launch_rows(x),
        .second = launch_rows(second),
        .out = launch_rows(out),
        .bias = bias,
        .shift = launch_rows(shift),
        .gamma = gamma,
        .beta = beta,
        .partial = scratch,
        .channels = out->c,
        .split = x->c,
        .groups = groups,
        .width = groups > 0 ? out->c / groups : 0,
        .area = out->h * out->w,
        .act = act,
        .vector = launch_wide(x) && (!second || launch_wide(second)) && launch_wide_address(bias) &&
                  (!shift || launch_wide(shift)) && launch_wide(out) &&
                  launch_wide_address(gamma) && launch_wide_address(beta),
        .eps = eps,
    };
    if (groups < 1 || a.channels % groups)
        return CUDA_ERROR_INVALID_VALUE;
    int vector = 16 / (int)dtype_bytes(out->type); /* which may lie in two groups, not in three */
    a.vector = a.vector && (a.width >= vector || 2 * a.width == vector);
    struct grid grid;
    if (group_norm_held(g, &a, out->n, out->type, &grid))
        return launch_kernel(g, KERNEL_group_norm_held, out->type, grid, &a);
    if (group_norm_kept(g, &a, out->n, out->type, &grid))
        return launch_kernel(g, KERNEL_group_norm_kept, out->type, grid, &a);
    grid = group_norm_grid(&a, out->n, out->type);
    grid.shared = sums_bytes(&a, &grid, out->type);
    if (grid.shared > SHARED)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = launch_kernel(g, KERNEL_group_sums, out->type, grid, &a);
    grid.shared = groups_bytes(&a);
    return result ? result : launch_kernel(g, KERNEL_group_norm, out->type, grid, &a);
}

size_t launch_group_norm_scratch(int n, long pixels, int channels, int groups)
{
    (void)channels;
    long chunks = pixels < MOST_CHUNKS ? pixels : MOST_CHUNKS;
    return (size_t)n * (size_t)chunks * (size_t)groups * sizeof(struct group_sum);
}

CUresult launch_layer_norm(const struct gpu *g, const struct gview *x, CUdeviceptr gamma,
                           CUdeviceptr beta, float eps, const struct gview *out, CUdeviceptr scales)
{
    long pixels = gview_pixels(out);
    struct layer_norm_args a = {
        .x = launch_rows(x),
        .out = launch_rows(out),
        .gamma = gamma,
        .beta = beta,
        .scales = scales,
        .pixels = (int)pixels,
        .channels = out->c,
        .vector = launch_wide(x) && launch_wide(out) && launch_wide_address(gamma) &&
                  launch_wide_address(beta),
        .eps = eps,
    };
    if (scales && (!a.vector || out->c > NORM_EIGHT_MOST || out->c % 16))
        return CUDA_ERROR_INVALID_VALUE;
    struct grid grid = { (unsigned)((pixels + TOKENS - 1) / TOKENS), 1, 1, 32, TOKENS, 0 };
    return launch_kernel(g, KERNEL_layer_norm, out->type, grid, &a);
}

CUresult launch_softmax(const struct gpu *g, CUdeviceptr scores, long rows, int columns,
                        float scale, CUdeviceptr out, enum dtype type)
{
    struct softmax_args a = { scores, out, columns, scale,
                              launch_wide_address(scores) && launch_wide_address(out) &&
                                  columns % 8 == 0 };
    struct grid grid = { (unsigned)rows, 1, 1, columns < 2 * THREADS ? 64 : THREADS, 1, 0 };
    return launch_kernel(g, KERNEL_softmax, type, grid, &a);
}

/* ---- convolutions */

/* Shared memory for the filters of conv_few, which works on 4 or 8 of them. */
static size_t few_shared(const struct conv_args *a, enum dtype type)
{
    size_t filters = a->vector && a->cout <= 4 ? 4 : 8;
    return filters * (size_t)a->k * (size_t)a->k * (size_t)a->c * dtype_bytes(type);
}

/* How many numbers of every pixel may move at once. */
static int run_of(const struct gview *x)
{
    size_t bytes = dtype_bytes(x->type);
    for (int run = 8; run > 1; run /= 2)
        if (run != 2 && x->c % run == 0 && x->row % run == 0 && x->data % (run * bytes) == 0)
            return run;
    return 1;
}

/* Of what a sum ends with. */
static int run_behind(const struct gview *out, CUdeviceptr bias, const struct gview *shift,
                      const struct gview *residual)
{
    struct gview b = { bias, out->type, 1, 1, 1, out->c, out->c };
    const struct gview *all[] = { out, &b, shift, residual };
    int run = 8;
    for (int i = 0; i < 4; i++)
        if (all[i] && run_of(all[i]) < run)
            run = run_of(all[i]);
    return run;
}

static unsigned over(long count, int each)
{
    return (unsigned)((count + each - 1) / each);
}

/* The largest tiles of which there are three for two multiprocessors. */
static struct grid narrow(const struct gpu *g, struct conv_args *a)
{
    enum { WIDTH = 16, OUTPUTS = 4, WARP_PIXELS = 32, WARP_SHARED = 3 * 128 * 16 }; /* queue */
    static const int rows[] = { 12, 8, 4 }; /* 12: what 8 warps see but 4 pixels */
    unsigned across = over(a->out_w, WIDTH), images = (unsigned)a->images * over(a->cout, OUTPUTS);
    for (int i = 0; i < 3; i++) {
        a->tile = rows[i];
        if (2L * across * over(a->out_h, a->tile) * images >= 3L * g->processors)
            break;
    }
    unsigned warps = over((a->tile + 2L) * (WIDTH + 2), WARP_PIXELS);
    return (struct grid){ across, over(a->out_h, a->tile), images, warps * 32,
                          1,      warps * WARP_SHARED };
}

/* The largest tiles that leave a quarter of the multiprocessors without one at most; blocks that
 * run at once take as many of them each. numbers: under the taps, with the zeros behind them. */
static struct grid widen(const struct gpu *g, struct conv_args *a, int numbers, long pixels)
{
    enum { PIXELS = 128, FEWEST_PIXELS = 32, OUTPUTS = 32, MOST_WARPS = 10, WARPS_AT_ONCE = 20 };
    unsigned warps = over(a->cout, OUTPUTS), groups = over(warps, MOST_WARPS);
    warps = over(warps, (int)groups);
    for (a->tile = PIXELS; a->tile > FEWEST_PIXELS; a->tile /= 2)
        if (4L * over(pixels, a->tile) * groups >= 3L * g->processors)
            break;
    unsigned tiles = over(pixels, a->tile);
    unsigned turns = over((long)tiles * groups * warps, WARPS_AT_ONCE * g->processors);
    return (struct grid){
        over(tiles, (int)turns), groups, 1, warps * 32, 1, (unsigned)(a->tile * (numbers + 8) * 2)
    };
}

/* Which kernel suits the channels: with tensor cores, conv_narrow (3x3 to 8 outputs or less) and
 * conv_widen (96 numbers or less under the taps, as 3x3 of 9 or 10 inputs, to more than 8);
 * without, or of other channels and filters, conv_few to 8 outputs or less, and conv_tile for the
 * rest. */
static enum kernel_name choose_conv(const struct gpu *g, struct conv_args *a, enum dtype type,
                                    long pixels, struct grid *grid)
{
    enum { FEW = 8, WIDEN_NUMBERS = 48, DEEP_NUMBERS = 96 };
    enum { FEW_PIXELS = 64, FEW_THREADS = 128, TILE_PIXELS = 128, TILE_OUTPUTS = 64 };
    bool tensor_cores = g->sm >= 80 && type != DT_F32, few = a->cout <= FEW;
    int numbers = a->k * a->k * a->c;
    if (tensor_cores && few && a->k == 3 && a->stride == 1 && a->vector && a->c % 32 == 0) {
        *grid = narrow(g, a);
        return KERNEL_conv_narrow;
    }
    if (tensor_cores && !few && numbers <= DEEP_NUMBERS) {
        bool deep = numbers > WIDEN_NUMBERS;
        *grid = widen(g, a, deep ? DEEP_NUMBERS : WIDEN_NUMBERS, pixels);
        return deep ? KERNEL_conv_widen_deep : KERNEL_conv_widen;
    }
    if (few && a->c >= 32 && few_shared(a, type) <= (size_t)g->shared) {
        unsigned blocks = over(pixels, FEW_PIXELS), most = 8 * (unsigned)g->processors;
        *grid = (struct grid){ blocks < most ? blocks : most, 1, 1, FEW_THREADS, 1,
                               (unsigned)few_shared(a, type) };
        return KERNEL_conv_few;
    }
    *grid =
        (struct grid){ over(pixels, TILE_PIXELS), over(a->cout, TILE_OUTPUTS), 1, THREADS, 1, 0 };
    return KERNEL_conv_tile;
}

CUresult launch_conv(const struct gpu *g, const struct gview *x, CUdeviceptr weight, int k,
                     int stride, int pad, CUdeviceptr bias, const struct gview *shift,
                     const struct gview *residual, const struct gview *out)
{
    struct conv_args a = {
        .x = launch_rows(x),
        .shift = launch_rows(shift),
        .residual = launch_rows(residual),
        .out = launch_rows(out),
        .weight = weight,
        .bias = bias,
        .images = out->n,
        .h = x->h,
        .w = x->w,
        .c = x->c,
        .out_h = out->h,
        .out_w = out->w,
        .cout = out->c,
        .k = k,
        .stride = stride,
        .pad = pad,
        .vector = launch_wide(x) && launch_wide_address(weight),
        .run_in = run_of(x),
        .run_out = run_behind(out, bias, shift, residual),
    };
    struct grid grid;
    enum kernel_name name = choose_conv(g, &a, x->type, gview_pixels(out), &grid);
    return launch_kernel(g, name, x->type, grid, &a);
}
