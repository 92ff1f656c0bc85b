/* launch.c - what every launch shares, and the kernels of simple.cu and pack.cu. */
#include "cuda/launching.h"

enum { THREADS = 256, MOST_PIXELS = 1 << 30 };

CUresult launch_kernel(const struct gpu *g, enum kernel_name name, enum dtype type,
                       struct grid grid, void *args)
{
    if (type > DT_F16 || !g->kernel[kernel_index(name, type)])
        return CUDA_ERROR_NOT_SUPPORTED;
    /* Set up while what was launched before still runs, for which the kernels wait (begin()). */
    CUlaunchAttribute early = { .id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                                .value.programmaticStreamSerializationAllowed = 1 };
    CUlaunchConfig config = { .gridDimX = grid.x,
                              .gridDimY = grid.y,
                              .gridDimZ = grid.z,
                              .blockDimX = grid.block_x,
                              .blockDimY = grid.block_y,
                              .blockDimZ = 1,
                              .sharedMemBytes = grid.shared,
                              .hStream = g->stream,
                              .attrs = &early,
                              .numAttrs = g->sm >= 90 };
    return g->cu->cuLaunchKernelEx(&config, g->kernel[kernel_index(name, type)], (void *[]){ args },
                                   NULL);
}

bool launch_wide_address(CUdeviceptr p)
{
    return p % 16 == 0;
}

bool launch_wide(const struct gview *x)
{
    size_t bytes = dtype_bytes(x->type);
    return launch_wide_address(x->data) && (size_t)x->c * bytes % 16 == 0 &&
           (size_t)x->row * bytes % 16 == 0;
}

struct rows launch_rows(const struct gview *x)
{
    return x ? (struct rows){ x->data, x->row } : (struct rows){ 0, 0 };
}

CUresult launch_tiles(const struct gpu *g, enum dtype type, CUdeviceptr data,
                      const struct tiles *tiles, struct tile_map *map)
{
    CUtensorMapDataType of =
        type == DT_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    cuuint64_t size[5], stride[5];
    cuuint32_t tile[5], every[5] = { 1, 1, 1, 1, 1 };
    for (int i = 0; i < tiles->dims; i++) {
        size[i] = (cuuint64_t)tiles->size[i];
        stride[i] = (cuuint64_t)tiles->stride[i] * dtype_bytes(type);
        tile[i] = (cuuint32_t)tiles->tile[i];
    }
    return g->cu->cuTensorMapEncodeTiled(
        (CUtensorMap *)map, of, (cuuint32_t)tiles->dims, (void *)data, size, stride + 1, tile,
        every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

struct grid launch_grid(long pixels, int channels, bool vector, enum dtype type)
{
    int lanes = channels / (vector ? 16 / (int)dtype_bytes(type) : 1);
    int turns = (lanes + THREADS - 1) / THREADS;
    struct grid grid = { .y = 1, .z = 1 };
    grid.block_x = (unsigned)((lanes + turns - 1) / turns);
    grid.block_y = THREADS / grid.block_x;
    grid.x = (unsigned)((pixels + grid.block_y - 1) / grid.block_y);
    return grid;
}

static CUresult launch_spread(const struct gpu *g, enum kernel_name name, const struct gview *out,
                              bool vector, void *args)
{
    long pixels = gview_pixels(out);
    if (pixels < 1 || pixels > MOST_PIXELS)
        return CUDA_ERROR_INVALID_VALUE;
    return launch_kernel(g, name, out->type, launch_grid(pixels, out->c, vector, out->type), args);
}

/* Rows of c numbers of e4m3, a block each whose threads take EIGHT_HELD vectors. */
static CUresult launch_rows_eight(const struct gpu *g, enum kernel_name name, const struct gview *x,
                                  CUdeviceptr out, CUdeviceptr scales, int c)
{
    int lanes = c * (int)dtype_bytes(x->type) / 16;
    unsigned warps = (unsigned)(lanes + 32 * EIGHT_HELD - 1) / (32 * EIGHT_HELD);
    struct eight_args a = { launch_rows(x), out, scales, c };
    struct grid grid = { (unsigned)gview_pixels(x), 1, 1, 0, 1, 0 };
    if (!launch_wide(x) || !launch_wide_address(out) || c % 16)
        return CUDA_ERROR_INVALID_VALUE;
    grid.block_x = 32 * (warps < THREADS / 32 ? warps : THREADS / 32);
    return launch_kernel(g, name, x->type, grid, &a);
}

CUresult launch_geglu(const struct gpu *g, const struct gview *x, const struct gview *out,
                      CUdeviceptr scales)
{
    struct geglu_args a = { launch_rows(x), launch_rows(out), (int)gview_pixels(out), out->c,
                            launch_wide(x) && launch_wide(out) };
    if (!scales)
        return launch_spread(g, KERNEL_geglu, out, a.vector, &a);
    if (out->c > EIGHT_HELD * THREADS * 16 / (int)dtype_bytes(x->type))
        return CUDA_ERROR_INVALID_VALUE;
    return launch_rows_eight(g, KERNEL_geglu_eight, x, out->data, scales, out->c);
}

CUresult launch_finish(const struct gpu *g, const struct gview *x, CUdeviceptr bias,
                       const struct gview *shift, enum act act, const struct gview *residual,
                       const struct gview *out)
{
    struct finish_args a = {
        .x = launch_rows(x),
        .shift = launch_rows(shift),
        .residual = launch_rows(residual),
        .out = launch_rows(out),
        .bias = bias,
        .pixels = (int)gview_pixels(out),
        .area = out->h * out->w,
        .channels = out->c,
        .act = act,
        .vector = launch_wide(x) && launch_wide_address(bias) && (!shift || launch_wide(shift)) &&
                  (!residual || launch_wide(residual)) && launch_wide(out),
    };
    return launch_spread(g, KERNEL_finish, out, a.vector, &a);
}

CUresult launch_upsample(const struct gpu *g, const struct gview *x, const struct gview *out)
{
    struct upsample_args a = { launch_rows(x),
                               launch_rows(out),
                               out->n,
                               x->h,
                               x->w,
                               out->h,
                               out->w,
                               out->c,
                               launch_wide(x) && launch_wide(out) };
    return launch_spread(g, KERNEL_upsample, out, a.vector, &a);
}

CUresult launch_concat(const struct gpu *g, const struct gview *a, const struct gview *b,
                       const struct gview *out)
{
    struct concat_args c = { launch_rows(a),
                             launch_rows(b),
                             launch_rows(out),
                             (int)gview_pixels(out),
                             out->c,
                             a->c,
                             launch_wide(a) && launch_wide(b) && launch_wide(out) };
    return launch_spread(g, KERNEL_concat, out, c.vector, &c);
}

CUresult launch_repeat(const struct gpu *g, const struct gview *x, const struct gview *out)
{
    struct repeat_args a = { launch_rows(x),
                             launch_rows(out),
                             (int)gview_pixels(x),
                             out->n / x->n,
                             x->c,
                             launch_wide(x) && launch_wide(out) };
    return launch_spread(g, KERNEL_repeat, x, a.vector, &a);
}

CUresult launch_timestep(const struct gpu *g, const struct gview *x, int dim, bool flip,
                         float shift, const struct gview *out)
{
    struct timestep_args a = { launch_rows(x), launch_rows(out), x->c, dim, flip, shift };
    struct grid grid = { (unsigned)(x->n * x->c), 1, 1, THREADS / 2, 1, 0 };
    return launch_kernel(g, KERNEL_timestep, out->type, grid, &a);
}

/* embed, position, prepend, row */
static struct gather_args gather(const struct gview *x, CUdeviceptr table, const struct gview *out,
                                 bool vector)
{
    return (struct gather_args){
        .x = launch_rows(x),
        .out = launch_rows(out),
        .table = table,
        .pixels = (int)gview_pixels(out),
        .area = out->h * out->w,
        .channels = out->c,
        .vector = vector && launch_wide(out),
        .x_area = x->h * x->w,
    };
}

CUresult launch_embed(const struct gpu *g, const struct gview *ids, CUdeviceptr table,
                      const struct gview *out)
{
    struct gather_args a = gather(ids, table, out, launch_wide_address(table));
    return launch_spread(g, KERNEL_embed, out, a.vector, &a);
}

CUresult launch_position(const struct gpu *g, const struct gview *x, CUdeviceptr table,
                         const struct gview *out)
{
    struct gather_args a = gather(x, table, out, launch_wide(x) && launch_wide_address(table));
    return launch_spread(g, KERNEL_position, out, a.vector, &a);
}

CUresult launch_prepend(const struct gpu *g, const struct gview *x, CUdeviceptr token,
                        const struct gview *out)
{
    struct gather_args a = gather(x, token, out, launch_wide(x) && launch_wide_address(token));
    return launch_spread(g, KERNEL_prepend, out, a.vector, &a);
}

CUresult launch_row(const struct gpu *g, const struct gview *x, const struct gview *index,
                    const struct gview *out)
{
    struct gather_args a = gather(x, index->data, out, launch_wide(x));
    return launch_spread(g, KERNEL_row, out, a.vector, &a);
}

CUresult launch_from_f32(const struct gpu *g, CUdeviceptr from, const struct gview *x)
{
    struct cast_args a = { launch_rows(x), from, (int)gview_pixels(x), x->c,
                           launch_wide(x) && launch_wide_address(from) };
    return launch_spread(g, KERNEL_from_f32, x, a.vector, &a);
}

CUresult launch_to_f32(const struct gpu *g, const struct gview *x, CUdeviceptr to)
{
    struct cast_args a = { launch_rows(x), to, (int)gview_pixels(x), x->c,
                           launch_wide(x) && launch_wide_address(to) };
    return launch_spread(g, KERNEL_to_f32, x, a.vector, &a);
}

static CUresult launch_cast(const struct gpu *g, enum dtype type, struct pack_args a)
{
    long count = a.cout * a.cin;
    a.vector = launch_wide_address(a.from) && launch_wide_address(a.to) && count % 8 == 0;
    long each = THREADS * (a.vector ? 8 : 1), blocks = (count + each - 1) / each;
    long most = (long)g->processors * 32;
    struct grid grid = { (unsigned)(blocks < most ? blocks : most), 1, 1, THREADS, 1, 0 };
    return launch_kernel(g, KERNEL_cast, type, grid, &a);
}

/* [cout][cin][a.taps] to rows of `taps` by cin; a: from, its type and taps, to, cin. */
static CUresult launch_filters(const struct gpu *g, enum kernel_name name, enum dtype type,
                               long cout, int taps, struct pack_args a)
{
    enum { NUMBERS = 4096, MOST_FILTERS = 65535 }; /* of a block in shared memory; gridDim.y */
    CUresult result = CUDA_SUCCESS;
    size_t read = (size_t)(a.cin * a.taps) * dtype_bytes((enum dtype)a.from_type);
    size_t written = (size_t)(a.cin * taps) * dtype_bytes(type);
    if (a.taps > NUMBERS)
        return CUDA_ERROR_INVALID_VALUE;
    a.run = NUMBERS / a.taps < a.cin ? NUMBERS / a.taps : (int)a.cin;
    for (long left = cout; left > 0 && result == CUDA_SUCCESS; left -= a.cout) {
        a.cout = left < MOST_FILTERS ? left : MOST_FILTERS;
        struct grid grid = { (unsigned)((a.cin + a.run - 1) / a.run),
                             (unsigned)a.cout,
                             1,
                             THREADS,
                             1,
                             (unsigned)(a.run * a.taps) * (unsigned)sizeof(float) };
        result = launch_kernel(g, name, type, grid, &a);
        a.from += (size_t)a.cout * read;
        a.to += (size_t)a.cout * written;
    }
    return result;
}

CUresult launch_pack(const struct gpu *g, CUdeviceptr from, enum dtype from_type, CUdeviceptr to,
                     enum dtype type, long cout, long cin, int taps)
{
    struct pack_args a = { from, to, (int)from_type, cout, cin, 0, taps, 0, 0 };
    if (from_type > DT_F16 || cout < 1 || cin < 1 || taps < 1)
        return CUDA_ERROR_INVALID_VALUE;
    return taps == 1 ? launch_cast(g, type, a)
                     : launch_filters(g, KERNEL_pack, type, cout, taps, a);
}

/* Filters of 3x3 taps to another form, of which `taps` lie one behind the other. */
static CUresult launch_form(const struct gpu *g, enum kernel_name name, int taps, enum dtype type,
                            struct pack_args a)
{
    if (a.from_type > DT_F16 || a.cout < 1 || a.cin < 1)
        return CUDA_ERROR_INVALID_VALUE;
    return launch_filters(g, name, type, a.cout, taps, a);
}

CUresult launch_pack_doubled(const struct gpu *g, CUdeviceptr from, enum dtype from_type,
                             CUdeviceptr to, enum dtype type, long cout, long cin)
{
    struct pack_args a = { from, to, (int)from_type, cout, cin, 0, 9, 0, 0 };
    return launch_form(g, KERNEL_pack_doubled, DOUBLED_TAPS, type, a);
}

CUresult launch_pack_pairs(const struct gpu *g, CUdeviceptr from, enum dtype from_type,
                           CUdeviceptr to, enum dtype type, long cout, long cin)
{
    struct pack_args a = { from, to, (int)from_type, cout, cin, 0, 9, 0, 0 };
    return launch_form(g, KERNEL_pack_pairs, PAIRS_TAPS, type, a);
}

CUresult launch_pack_winograd(const struct gpu *g, CUdeviceptr from, enum dtype from_type,
                              CUdeviceptr to, enum dtype type, long cout, long cin, long all)
{
    struct pack_args a = { from, to, (int)from_type, cout, cin, all * cin, 9, 0, 0 };
    return all < cout ? CUDA_ERROR_INVALID_VALUE : launch_form(g, KERNEL_pack_winograd, 1, type, a);
}

CUresult launch_fold(const struct gpu *g, CUdeviceptr weight, enum dtype type, long cout, long cin,
                     CUdeviceptr gamma, CUdeviceptr beta, CUdeviceptr bias, CUdeviceptr shift)
{
    enum { WARPS = THREADS / 32 };
    struct fold_args a = { weight, shift, gamma, beta, bias, (int)cout, (int)cin };
    struct grid grid = { (unsigned)((cout + WARPS - 1) / WARPS), 1, 1, 32, WARPS, 0 };
    return launch_kernel(g, KERNEL_fold, type, grid, &a);
}

CUresult launch_eight(const struct gpu *g, const struct gview *x, CUdeviceptr out,
                      CUdeviceptr scales)
{
    return launch_rows_eight(g, KERNEL_eight, x, out, scales, x->c);
}
