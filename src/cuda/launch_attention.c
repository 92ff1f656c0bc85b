/* launch_attention.c - the launches of attention. */
#include "cuda/launching.h"
#include <math.h>

/* The kernels of flash.cu: for heads up to `width`, `queries` at a time. */
static const struct flash {
    int width, queries;
    enum kernel_name name;
} flashes[] = {
    { 40, 128, KERNEL_flash40_wide }, { 40, 64, KERNEL_flash40 },
    { 64, 128, KERNEL_flash64_wide }, { 64, 64, KERNEL_flash64 },
    { 80, 64, KERNEL_flash80 },       { 96, 64, KERNEL_flash96 },
    { 128, 64, KERNEL_flash128 },     { 160, 64, KERNEL_flash160 },
};

/* NULL if none will do. Wide blocks only where there are enough of them for the card. */
static const struct flash *choose_flash(const struct gpu *g, enum dtype type, bool vector,
                                        const struct attention_args *a, int images)
{
    if (g->sm < 80 || type == DT_F32 || !vector || a->width % 8)
        return NULL;
    for (size_t i = 0; i < sizeof flashes / sizeof *flashes; i++) {
        const struct flash *f = &flashes[i];
        long blocks = (long)((a->queries + f->queries - 1) / f->queries) * a->heads * images;
        if (a->width <= f->width && (f->queries == 64 || blocks >= 2L * g->processors))
            return f;
    }
    return NULL;
}

/* Four buffers of 64 rows, each padded to an odd number of 16-byte chunks. */
static unsigned flash_shared(const struct flash *f)
{
    unsigned chunks = (unsigned)(f->width + 15) / 16 * 2 + 1;
    return 4 * 64 * chunks * 16;
}

/* Four warps of 8 queries, or of 4 for very wide heads, and a tile of 32 keys: attention.cu. */
static struct grid plain_attention_grid(int width, int *queries)
{
    int slices = width <= 192 ? (width + 63) / 64 : 8;
    *queries = width <= 192 ? 32 : 16;
    struct grid grid = { .block_x = 128, .block_y = 1 };
    grid.shared = (unsigned)(*queries * slices * 64 + 32 * 65) * (unsigned)sizeof(float);
    return grid;
}

/* The kernels of hopper_flash.cu, for heads up to `width`: `keys` at a time, or at most where there
 * are no stages; 64 queries for each of `groups` of a block; `blocks` run on a multiprocessor. */
static const struct hopper_flash {
    int width, keys, groups, stages, blocks;
    enum kernel_name name;
} hopper_flashes[] = {
    { 40, 80, 2, 0, 3, KERNEL_hopper_short40 },   { 40, 64, 4, 4, 1, KERNEL_hopper_flash40 },
    { 64, 80, 1, 0, 5, KERNEL_hopper_short64 },   { 64, 64, 2, 4, 2, KERNEL_hopper_flash64 },
    { 80, 80, 2, 0, 2, KERNEL_hopper_short80 },   { 80, 64, 2, 4, 1, KERNEL_hopper_flash80 },
    { 160, 80, 1, 0, 2, KERNEL_hopper_short160 }, { 160, 64, 1, 2, 1, KERNEL_hopper_flash160 },
};

bool launch_attention_leads(const struct gpu *g, enum dtype type, int width, bool causal)
{
    return g->sm == 90 && type != DT_F32 && !causal && width % 8 == 0 && width <= 160;
}

/* For heads that launch_attention_leads with: there is one. */
static const struct hopper_flash *choose_hopper_flash(const struct attention_args *a)
{
    const struct hopper_flash *f = hopper_flashes;
    while (a->width > f->width || (!f->stages && a->keys > f->keys))
        f++;
    return f;
}

/* Tiles of `rows` tokens of a head. */
static CUresult head_tiles(const struct gpu *g, const struct gview *x, int heads, int rows,
                           struct tile_map *map)
{
    int width = x->c / heads;
    long tokens = (long)x->h * x->w;
    struct tiles tiles = { .dims = 4,
                           .size = { width, heads, tokens, x->n },
                           .stride = { 1, width, x->row, tokens * x->row },
                           .tile = { 64, 1, rows, 1 } };
    return launch_tiles(g, x->type, x->data, &tiles, map);
}

/* All keys at once. */
static CUresult launch_hopper_short(const struct gpu *g, const struct hopper_flash *f,
                                    const struct gview *q, struct hopper_attention_args *args)
{
    const struct attention_args *a = &args->a;
    CUresult result = head_tiles(g, q, a->heads, 64, &args->queries);
    if (result != CUDA_SUCCESS)
        return result;
    struct grid grid = { .x = (unsigned)((a->queries + f->groups * 64 - 1) / (f->groups * 64)),
                         .y = (unsigned)a->heads,
                         .z = (unsigned)q->n,
                         .block_x = (unsigned)f->groups * 128,
                         .block_y = 1,
                         .shared = (unsigned)SHORT_SHARED(f->width, f->keys, f->groups) };
    return launch_kernel(g, f->name, q->type, grid, args);
}

/* A last round of blocks that would leave half of the card's places empty is divided: two blocks
 * have the queries of one, half of the keys for each of their two warpgroups. */
static int divided_blocks(const struct gpu *g, const struct hopper_flash *f, int blocks, int keys)
{
    int places = f->blocks * g->processors, rest = blocks % places;
    return f->groups == 2 && rest * 2 <= places && keys > f->keys ? rest : 0;
}

static CUresult launch_hopper_long(const struct gpu *g, const struct hopper_flash *f,
                                   const struct gview *q, struct hopper_attention_args *args)
{
    int queries = f->groups * 64;
    args->tiles = (args->a.queries + queries - 1) / queries;
    int blocks = args->tiles * args->a.heads * q->n;
    int divided = divided_blocks(g, f, blocks, args->a.keys);
    args->whole = blocks - divided;
    struct grid grid = { .x = (unsigned)(blocks + divided),
                         .y = 1,
                         .z = 1,
                         .block_x = (unsigned)f->groups * 128,
                         .block_y = 1,
                         .shared =
                             (unsigned)FLASH_SHARED(f->width, f->keys, f->groups, f->stages) };
    return launch_kernel(g, f->name, q->type, grid, args);
}

static CUresult launch_hopper_flash(const struct gpu *g, const struct attention_args *a,
                                    const struct gview *q, const struct gview *k,
                                    const struct gview *v)
{
    const struct hopper_flash *f = choose_hopper_flash(a);
    struct hopper_attention_args args = { .a = *a };
    CUresult result = head_tiles(g, k, a->heads, f->keys, &args.keys);
    if (result == CUDA_SUCCESS)
        result = head_tiles(g, v, a->heads, f->keys, &args.values);
    if (result != CUDA_SUCCESS)
        return result;
    return f->stages ? launch_hopper_long(g, f, q, &args) : launch_hopper_short(g, f, q, &args);
}

CUresult launch_attention(const struct gpu *g, const struct gview *q, const struct gview *k,
                          const struct gview *v, int heads, bool causal, const struct gview *out)
{
    struct attention_args a = {
        .q = launch_rows(q),
        .k = launch_rows(k),
        .v = launch_rows(v),
        .out = launch_rows(out),
        .heads = heads,
        .width = q->c / heads,
        .queries = q->h * q->w,
        .keys = k->h * k->w,
        .causal = causal,
    };
    a.scale = (float)(1.4426950408889634 / sqrt(a.width));
    if (a.width < 1 || a.width > 512)
        return CUDA_ERROR_INVALID_VALUE;
    bool wide = launch_wide(q) && launch_wide(k) && launch_wide(v) && launch_wide(out);
    if (wide && launch_attention_leads(g, q->type, a.width, causal))
        return launch_hopper_flash(g, &a, q, k, v);
    const struct flash *f = choose_flash(g, q->type, wide, &a, q->n);
    struct grid grid = { .block_x = 128, .block_y = 1 };
    int queries;
    if (f) {
        queries = f->queries;
        grid.shared = flash_shared(f);
    } else {
        grid = plain_attention_grid(a.width, &queries);
    }
    grid.x = (unsigned)((a.queries + queries - 1) / queries);
    grid.y = (unsigned)heads;
    grid.z = (unsigned)q->n;
    return launch_kernel(g, f ? f->name : KERNEL_attention, q->type, grid, &a);
}
