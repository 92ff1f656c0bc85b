/* launch_winograd.c - 3x3 convolutions with 4/9 of the products (kernels/hopper_winograd.cu). */
#include "cuda/launching.h"

enum { TILE = 2 }; /* pixels a side */

/* In bytes, for each tile: its numbers before and after the products. */
static size_t before(const struct winograd *c)
{
    return WINOGRAD_TAPS * (size_t)c->x.c * dtype_bytes(c->x.type);
}

static size_t after(const struct winograd *c)
{
    return WINOGRAD_TAPS * (size_t)c->out.c * dtype_bytes(c->x.type);
}

static long tiles(const struct winograd *c)
{
    return (long)c->out.n * launch_times(c->out.h, TILE) * launch_times(c->out.w, TILE);
}

/* The products of so many tiles, whose numbers begin at the workspace. */
static struct linear products(const struct winograd *c, long count)
{
    CUdeviceptr sums = c->workspace + (size_t)count * before(c);
    return (struct linear){
        .x = { c->workspace, c->x.type, 1, 1, (int)count, c->x.c, c->x.c },
        .out = { sums, c->x.type, 1, 1, (int)count, c->out.c, c->out.c },
        .weight = c->weight,
        .weight_row = c->x.c,
        .phases = WINOGRAD_TAPS,
    };
}

int launch_winograd_ways(const struct gpu *g, const struct winograd *c)
{
    const struct gview *x = &c->x, *out = &c->out;
    bool wide = launch_wide(x) && launch_wide(out) && launch_wide(&c->residual) &&
                launch_wide_address(c->bias) && launch_wide_address(c->workspace);
    bool same = x->n == out->n && x->h == out->h && x->w == out->w && x->type == out->type;
    if (!wide || !same || tiles(c) * (x->c + out->c) > 1 << 30 || c->bytes < before(c) + after(c) ||
        !g->kernel[kernel_index(KERNEL_winograd_in, x->type)])
        return 0;
    struct linear l = products(c, 1);
    return launch_linear_ways(g, &l);
}

static CUresult launch_side(const struct gpu *g, enum kernel_name name, const struct winograd *c,
                            struct winograd_args *a, int channels, CUdeviceptr phases)
{
    int each = name == KERNEL_winograd_in ? WINOGRAD_IN : WINOGRAD_OUT;
    long threads = (long)a->count * (channels / each);
    struct grid grid = {
        (unsigned)launch_times(threads, WINOGRAD_THREADS), 1, 1, WINOGRAD_THREADS, 1, 0
    };
    a->channels = channels;
    a->phases = phases;
    return launch_kernel(g, name, c->x.type, grid, a);
}

/* As many tiles at once as the workspace holds. */
CUresult launch_winograd(const struct gpu *g, const struct winograd *c, int way)
{
    struct winograd_args a = {
        .x = launch_rows(&c->x),
        .out = launch_rows(&c->out),
        .residual = launch_rows(&c->residual),
        .bias = c->bias,
        .h = c->out.h,
        .w = c->out.w,
        .across = launch_times(c->out.w, TILE),
        .down = launch_times(c->out.h, TILE),
    };
    long left = tiles(c), most = (long)(c->bytes / (before(c) + after(c)));
    CUresult result = CUDA_SUCCESS;
    for (; left > 0 && result == CUDA_SUCCESS; left -= a.count, a.first += a.count) {
        a.count = (int)(left < most ? left : most);
        struct linear l = products(c, a.count);
        result = launch_side(g, KERNEL_winograd_in, c, &a, c->x.c, l.x.data);
        if (result == CUDA_SUCCESS)
            result = launch_linear(g, &l, way);
        if (result == CUDA_SUCCESS)
            result = launch_side(g, KERNEL_winograd_out, c, &a, c->out.c, l.out.data);
    }
    return result;
}
