/* launching.h - what the files behind launch.h share. */
#ifndef STYX_CUDA_LAUNCHING_H
#define STYX_CUDA_LAUNCHING_H
#include "cuda/kernels/args.h"
#include "cuda/launch.h"

struct grid {
    unsigned x, y, z, block_x, block_y, shared;
};

/* The kernel for values of a type, with its one argument. */
CUresult launch_kernel(const struct gpu *g, enum kernel_name name, enum dtype type,
                       struct grid grid, void *args);

/* How many times `each` are `count` numbers or more. */
static inline int launch_times(long count, int each)
{
    return (int)((count + each - 1) / each);
}

/* May 16 bytes move at once? An absent address (0) does not forbid it. */
bool launch_wide_address(CUdeviceptr p);
bool launch_wide(const struct gview *x);

struct rows launch_rows(const struct gview *x); /* NULL: address 0 */

/* How kernels for 9.0 copy a tile (kernels/hopper.cuh) of a matrix of f16 or bf16, or of many:
 * size, the tile's own (64 columns at most, 256 of the rest), and from the second dimension on the
 * stride, of each of `dims` dimensions, columns first. data and strides are multiples of 16 bytes.
 */
struct tiles {
    int dims;
    long size[5], stride[5];
    int tile[5];
};
CUresult launch_tiles(const struct gpu *g, enum dtype type, CUdeviceptr data,
                      const struct tiles *tiles, struct tile_map *map);

/* Rows of weights, `count` of `columns` numbers, in the order that gives a lane of a product a run
 * of a result whose tiles are `width` wide (kernels/hopper_product.cuh): row 8j + 2t + e of 4 * run
 * in shared memory is row run * t + 2j + e of them. */
CUresult launch_rows_in_runs(const struct gpu *g, enum dtype type, const struct rows *w, long count,
                             long columns, int width, struct tile_map *map);

/* Blocks for a kernel of simple.cu: threads along the channels of a pixel, then along pixels. */
struct grid launch_grid(long pixels, int channels, bool vector, enum dtype type);

#endif
