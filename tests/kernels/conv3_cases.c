/* conv3_cases.c - launch_conv3, every way, against the plain sums over the map, upsampled or not.
 */
#include "card.h"

#include <string.h>

struct map {
    int n, h, w, c, columns;
    bool bias, residual; /* no residual where the map is doubled */
    int shortcut[2];     /* nor a shortcut: channels of its parts */
    int gap;             /* the values are slices of wider ones */
};

/* filter: [cout][cin][9] of x's type, as a file has it. */
static double sum_of(const struct conv3 *c, CUdeviceptr filter, long pixel, int o)
{
    int scale = c->doubled ? 2 : 1, x = (int)(pixel % c->out.w);
    int y = (int)(pixel / c->out.w % c->out.h);
    long image = pixel / c->out.w / c->out.h;
    double sum = 0;
    for (int tap = 0; tap < 9; tap++) {
        int yy = y + tap / 3 - 1, xx = x + tap % 3 - 1;
        if (yy < 0 || xx < 0 || yy >= c->out.h || xx >= c->out.w)
            continue;
        long from = (image * c->x.h + yy / scale) * c->x.w + xx / scale;
        for (int i = 0; i < c->x.c; i++)
            sum += (double)at(&c->x, from, i) *
                   get(filter, c->x.type, ((long)o * c->x.c + i) * 9 + tap);
    }
    return sum;
}

static double shortcut_of(const struct conv3 *c, long pixel, int o)
{
    const struct gview *a = &c->shortcut[0], *b = &c->shortcut[1];
    double sum = c->shortcut_bias ? (double)get(c->shortcut_bias, c->x.type, o) : 0;
    for (int i = 0; i < a->c + b->c; i++)
        sum += (double)(i < a->c ? at(a, pixel, i) : at(b, pixel, i - a->c)) *
               get(c->shortcut_weight, c->x.type, (long)o * (a->c + b->c) + i);
    return sum;
}

static void every_way(const struct conv3 *c, CUdeviceptr filter)
{
    enum dtype type = c->x.type;
    int ways = launch_conv3_ways(&gpu, c);
    assert_int_equal(ways, c->doubled ? 4 : 5);
    for (int way = 0; way < ways; way++) {
        CUresult result = launch_conv3(&gpu, c, way);
        for (long p = 0; p < gview_pixels(&c->out); p++)
            for (int o = 0; o < c->out.c; o++)
                compare(at(&c->out, p, o), sum_of(c, filter, p, o) + shortcut_of(c, p, o) +
                                               (c->bias ? get(c->bias, type, o) : 0) +
                                               (c->residual.data ? at(&c->residual, p, o) : 0));
        conclude(type, result, "3x3 convolution");
        untouched(&c->out);
        memset((void *)(uintptr_t)c->out.data, 0xff,
               (size_t)(gview_pixels(&c->out) * c->out.row) * dtype_bytes(type));
    }
}

static void conv3_case(const struct map *k, enum dtype type, bool doubled)
{
    int h = k->h * (doubled ? 2 : 1), w = k->w * (doubled ? 2 : 1);
    CUdeviceptr filter = numbers(type, (long)k->columns * k->c * 9, 0, 0.3f);
    struct conv3 c = { .x = filled(type, k->n, k->h, k->w, k->c, k->gap, 0, 1),
                       .out = value(type, k->n, h, w, k->columns, k->gap),
                       .weight = memory((size_t)(k->columns * k->c * DOUBLED_TAPS * 2)),
                       .doubled = doubled };
    CUresult packed =
        doubled ? launch_pack_doubled(&gpu, filter, type, c.weight, type, k->columns, k->c)
                : launch_pack(&gpu, filter, type, c.weight, type, k->columns, k->c, 9);
    assert_int_equal(packed, CUDA_SUCCESS);
    if (k->bias)
        c.bias = numbers(type, k->columns, 0, 1);
    if (k->residual && !doubled)
        c.residual = filled(type, k->n, h, w, k->columns, k->gap, 0, 1);
    for (int i = 0; i < 2 && k->shortcut[i] && !doubled; i++)
        c.shortcut[i] = filled(type, k->n, h, w, k->shortcut[i], k->gap, 0, 1);
    if (c.shortcut[0].data) {
        int channels = k->shortcut[0] + k->shortcut[1];
        c.shortcut_weight = numbers(type, (long)k->columns * channels, 0, 0.3f);
        c.shortcut_bias = k->bias ? numbers(type, k->columns, 0, 1) : 0;
    }
    every_way(&c, filter);
    forget_memory();
}

void conv3s(enum dtype type)
{ /* boxes of every kind, not whole; channels that are no whole steps; columns that are no whole
   * tiles
   */
    static const struct map cases[] = {
        { 1, 5, 9, 72, 96, true, true, { 0, 0 }, 8 },
        { 3, 9, 9, 8, 32, false, false, { 24, 0 }, 0 },
        { 1, 2, 70, 64, 32, true, false, { 40, 136 }, 8 },
        { 2, 9, 3, 16, 288, false, true, { 0, 0 }, 16 },
    };
    for (size_t i = 0; type != DT_F32 && i < sizeof cases / sizeof *cases; i++)
        for (int doubled = 0; doubled < 2; doubled++) {
            late = i % 2;
            conv3_case(&cases[i], type, doubled);
        }
    late = false;
    struct conv3 odd = { .x = value(type, 1, 4, 4, 64, 0), .out = value(type, 1, 7, 7, 64, 0) };
    odd.doubled = true;
    assert_int_equal(launch_conv3_ways(&gpu, &odd), 0);
    odd.out = value(type, 1, 8, 8, 48, 0);
    assert_int_equal(launch_conv3_ways(&gpu, &odd), type == DT_F32 ? 0 : 1);
    struct conv3 with = odd;
    with.residual = odd.out;
    assert_int_equal(launch_conv3_ways(&gpu, &with), 0);
    odd.shortcut[0] = odd.out;
    assert_int_equal(launch_conv3_ways(&gpu, &odd), 0);
    odd.doubled = false;
    odd.out = odd.x;
    assert_int_equal(launch_conv3_ways(&gpu, &odd), type == DT_F32 ? 0 : 5);
    odd.shortcut[1] = value(type, 1, 4, 4, 12, 0); /* rows 24 bytes apart */
    assert_int_equal(launch_conv3_ways(&gpu, &odd), 0);
}
