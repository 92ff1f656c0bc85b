/* conv3_cases.c - launch_conv3, every way, against the plain sums over the map, upsampled or not;
 * in pairs too. */
#include "card.h"

#include <string.h>

struct map {
    int n, h, w, c, columns;
    bool bias, residual; /* no residual where the map is doubled */
    int shortcut[2];     /* nor a shortcut: channels of its parts */
    int gap;             /* the values are slices of wider ones */
    int rows;            /* that the workspace of pairs holds */
};

enum form { PLAIN, DOUBLED, PAIRS, FORMS };

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
    assert_int_equal(ways, c->pairs ? 2 : c->doubled ? 4 : 5);
    for (int way = 0; way < ways; way++) {
        CUresult result = launch_conv3(&gpu, c, way);
        for (long p = 0; p < gview_pixels(&c->out); p++)
            for (int o = 0; o < c->out.c; o++)
                compare(at(&c->out, p, o), sum_of(c, filter, p, o) + shortcut_of(c, p, o) +
                                               (c->bias ? get(c->bias, type, o) : 0) +
                                               (c->residual.data ? at(&c->residual, p, o) : 0));
        /* of pairs, x and the filter are rounded once more before the sums */
        conclude_within(c->pairs ? 1.25 : 1, type, result, "3x3 convolution");
        untouched(&c->out);
        memset((void *)(uintptr_t)c->out.data, 0xff,
               (size_t)(gview_pixels(&c->out) * c->out.row) * dtype_bytes(type));
    }
}

/* Filters are packed in two pieces, as a loader does it. */
static CUresult pack(CUdeviceptr filter, enum dtype type, const struct map *k, enum form form,
                     CUdeviceptr to)
{
    static const int taps[] = { [PLAIN] = 9, [DOUBLED] = DOUBLED_TAPS, [PAIRS] = PAIRS_TAPS };
    CUresult result = CUDA_SUCCESS;
    for (int i = 0, first = 0, count = k->columns / 3; i < 2 && result == CUDA_SUCCESS; i++) {
        CUdeviceptr from = filter + (size_t)(first * k->c * 9) * dtype_bytes(type);
        CUdeviceptr at = to + (size_t)(first * k->c * taps[form]) * dtype_bytes(type);
        result = form == PAIRS     ? launch_pack_pairs(&gpu, from, type, at, type, count, k->c)
                 : form == DOUBLED ? launch_pack_doubled(&gpu, from, type, at, type, count, k->c)
                                   : launch_pack(&gpu, from, type, at, type, count, k->c, 9);
        first = count;
        count = k->columns - count;
    }
    return result;
}

static void conv3_case(const struct map *k, enum dtype type, enum form form)
{
    bool doubled = form == DOUBLED;
    int h = k->h * (doubled ? 2 : 1), w = k->w * (doubled ? 2 : 1);
    CUdeviceptr filter = numbers(type, (long)k->columns * k->c * 9, 0, 0.3f);
    struct conv3 c = { .x = filled(type, k->n, k->h, k->w, k->c, k->gap, 0, 1),
                       .out = value(type, k->n, h, w, k->columns, k->gap),
                       .weight = memory((size_t)(k->columns * k->c * DOUBLED_TAPS * 2)),
                       .doubled = doubled,
                       .pairs = form == PAIRS,
                       .bytes = (size_t)(k->rows * 4 * ((k->w + 1) / 2) * k->c * 2) };
    c.workspace = memory(c.bytes);
    assert_int_equal(pack(filter, type, k, form, c.weight), CUDA_SUCCESS);
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
   * tiles; of pairs all images at once, one, and some rows, the last of them fewer */
    static const struct map cases[] = {
        { 1, 5, 9, 72, 96, true, true, { 0, 0 }, 8, 5 },
        { 3, 9, 9, 8, 32, false, false, { 24, 0 }, 0, 11 },
        { 1, 2, 70, 64, 32, true, false, { 40, 136 }, 8, 4 },
        { 2, 9, 3, 16, 288, false, true, { 0, 0 }, 16, 22 },
        { 2, 7, 1, 24, 64, true, false, { 16, 0 }, 8, 4 },
        { 5, 3, 4, 8, 32, false, true, { 0, 0 }, 0, 11 },
    };
    for (size_t i = 0; type != DT_F32 && i < sizeof cases / sizeof *cases; i++)
        for (int form = PLAIN; form < FORMS; form++) {
            late = i % 2;
            conv3_case(&cases[i], type, (enum form)form);
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
    struct conv3 pairs = odd;
    pairs.pairs = true;
    pairs.bytes = 3 * 4 * 2 * 64 * 2 - 1; /* three rows want one more */
    assert_int_equal(launch_conv3_ways(&gpu, &pairs), 0);
    pairs.bytes++;
    assert_int_equal(launch_conv3_ways(&gpu, &pairs), type == DT_F32 ? 0 : 2);
    odd.shortcut[1] = value(type, 1, 4, 4, 12, 0); /* rows 24 bytes apart */
    assert_int_equal(launch_conv3_ways(&gpu, &odd), 0);
}
