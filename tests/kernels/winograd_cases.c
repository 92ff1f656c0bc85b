/* winograd_cases.c - launch_winograd, every way, against the plain sums over the map. */
#include "card.h"

#include <string.h>

struct map {
    int n, h, w, c, columns;
    bool bias, residual;
    int gap;   /* the values are slices of wider ones */
    int tiles; /* that the workspace holds */
};

/* filter: [cout][cin][9] of x's type, as a file has it. */
static double sum_of(const struct winograd *c, CUdeviceptr filter, long pixel, int o)
{
    int x = (int)(pixel % c->out.w), y = (int)(pixel / c->out.w % c->out.h);
    long image = pixel / c->out.w / c->out.h;
    double sum = c->bias ? (double)get(c->bias, c->x.type, o) : 0;
    for (int tap = 0; tap < 9; tap++) {
        int yy = y + tap / 3 - 1, xx = x + tap % 3 - 1;
        if (yy < 0 || xx < 0 || yy >= c->out.h || xx >= c->out.w)
            continue;
        for (int i = 0; i < c->x.c; i++)
            sum += (double)at(&c->x, (image * c->x.h + yy) * c->x.w + xx, i) *
                   get(filter, c->x.type, ((long)o * c->x.c + i) * 9 + tap);
    }
    return sum + (c->residual.data ? (double)at(&c->residual, pixel, o) : 0);
}

/* What is rounded before the sums and after them makes the error three times that of the result's
 * own rounding, and that is half of what is allowed without. */
static void every_way(const struct winograd *c, CUdeviceptr filter)
{
    int ways = launch_winograd_ways(&gpu, c);
    assert_in_range(ways, 3, 4);
    for (int way = 0; way < ways; way++) {
        CUresult result = launch_winograd(&gpu, c, way);
        for (long p = 0; p < gview_pixels(&c->out); p++)
            for (int o = 0; o < c->out.c; o++)
                compare(at(&c->out, p, o), sum_of(c, filter, p, o));
        conclude_within(2, c->x.type, result, "3x3 convolution by Winograd's algorithm");
        untouched(&c->out);
        memset((void *)(uintptr_t)c->out.data, 0xff,
               (size_t)(gview_pixels(&c->out) * c->out.row) * dtype_bytes(c->x.type));
    }
}

/* Filters are packed in two pieces, as a loader does it. */
static CUresult pack(CUdeviceptr filter, enum dtype type, const struct map *k, CUdeviceptr to)
{
    long first = k->columns / 3, rest = k->columns - first, cin = k->c;
    CUresult result = launch_pack_winograd(&gpu, filter, type, to, type, first, cin, k->columns);
    if (result != CUDA_SUCCESS)
        return result;
    return launch_pack_winograd(&gpu, filter + (size_t)(first * cin * 9) * dtype_bytes(type), type,
                                to + (size_t)(first * cin) * dtype_bytes(type), type, rest, cin,
                                k->columns);
}

static void winograd_case(const struct map *k, enum dtype type)
{
    CUdeviceptr filter = numbers(type, (long)k->columns * k->c * 9, 0, 0.3f);
    struct winograd c = { .x = filled(type, k->n, k->h, k->w, k->c, k->gap, 0, 1),
                          .out = value(type, k->n, k->h, k->w, k->columns, k->gap),
                          .weight = memory((size_t)(k->columns * k->c * WINOGRAD_TAPS * 2)),
                          .bytes = (size_t)(k->tiles * WINOGRAD_TAPS * (k->c + k->columns) * 2) };
    c.workspace = memory(c.bytes);
    assert_int_equal(pack(filter, type, k, c.weight), CUDA_SUCCESS);
    if (k->bias)
        c.bias = numbers(type, k->columns, 0, 1);
    if (k->residual)
        c.residual = filled(type, k->n, k->h, k->w, k->columns, k->gap, 0, 1);
    every_way(&c, filter);
    c.bytes = 0;
    assert_int_equal(launch_winograd_ways(&gpu, &c), 0);
    forget_memory();
}

void winograds(enum dtype type)
{ /* odd sizes; channels that are no whole steps; all tiles at once and some at a time */
    static const struct map cases[] = {
        { 2, 5, 9, 72, 96, true, true, 8, 40 },
        { 1, 6, 4, 8, 320, false, false, 0, 4 },
    };
    for (size_t i = 0; type != DT_F32 && i < sizeof cases / sizeof *cases; i++) {
        late = i % 2;
        winograd_case(&cases[i], type);
    }
    late = false;
    struct winograd none = { .x = value(DT_F32, 1, 4, 4, 64, 0),
                             .out = value(DT_F32, 1, 4, 4, 64, 0),
                             .bytes = 1 << 20 };
    assert_int_equal(launch_winograd_ways(&gpu, &none), 0);
    forget_memory();
}
