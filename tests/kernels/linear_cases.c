/* linear_cases.c - launch_linear, every way, against the plain sums. */
#include "card.h"

#include <math.h>
#include <string.h>

struct layer {
    int rows, k, columns;
    bool geglu, bias, residual;
    int gap; /* the values are slices of wider ones */
};

/* What a layer norm without gain and offset makes of a row: (x - mean) times a factor. */
static void norm_row(const struct linear *l, long p, double *mean, double *factor)
{
    double spread = 0;
    *mean = 0;
    for (int i = 0; i < l->x.c; i++)
        *mean += at(&l->x, p, i) / (double)l->x.c;
    for (int i = 0; i < l->x.c; i++)
        spread += (at(&l->x, p, i) - *mean) * (at(&l->x, p, i) - *mean) / l->x.c;
    *factor = 1 / sqrt(spread + (double)l->eps);
}

static void linear_row(const struct layer *k, const struct linear *l, long p)
{
    double mean = 0, factor = 1;
    if (l->normed)
        norm_row(l, p, &mean, &factor);
    for (int c = 0; c < k->columns; c++) {
        double sum[2] = { 0, 0 };
        for (int half = 0; half <= k->geglu; half++) {
            long row = c + (half ? k->columns : 0);
            for (int i = 0; i < k->k; i++)
                sum[half] += (at(&l->x, p, i) - mean) * factor *
                             get(l->weight, l->x.type, row * l->weight_row + i);
            sum[half] += l->bias ? (double)get(l->bias, l->x.type, row) : 0;
        }
        double wanted = sum[0] * (k->geglu ? act_of(ACT_GELU, sum[1]) : 1);
        compare(at(&l->out, p, c), wanted + (k->residual ? (double)at(&l->residual, p, c) : 0));
    }
}

/* Rows of weights as launch_fold leaves them. */
static void fold(const struct layer *k, struct linear *l, int outputs)
{
    CUdeviceptr gamma = numbers(DT_F32, k->k, 1, 0.5f), beta = numbers(DT_F32, k->k, 0, 0.3f);
    CUdeviceptr shift = memory((size_t)outputs * 4);
    assert_int_equal(launch_fold(&gpu, l->weight, l->x.type, outputs, k->k, gamma, beta, 0, shift),
                     CUDA_SUCCESS);
    if (k->bias)
        l->bias = shift;
}

static void linear_case(const struct layer *k, enum dtype type, bool normed)
{
    int outputs = k->columns * (k->geglu ? 2 : 1);
    struct linear l = { .x = filled(type, 1, 1, k->rows, k->k, k->gap, normed ? 0.5f : 0, 1),
                        .weight_row = k->k + (normed ? 0 : k->gap),
                        .geglu = k->geglu,
                        .normed = normed,
                        .eps = 1e-2f };
    l.weight = numbers(type, outputs * l.weight_row, 0, 0.3f);
    if (k->bias)
        l.bias = numbers(type, outputs, 0, 1);
    if (normed)
        fold(k, &l, outputs);
    if (k->residual)
        l.residual = filled(type, 1, 1, k->rows, k->columns, k->gap, 0, 1);
    l.out = value(type, 1, 1, k->rows, k->columns, k->gap);
    bool pair = (k->columns + 159) / 160 % 2 == 0; /* tiles beside each other */
    assert_int_equal(launch_linear_ways(&gpu, &l), k->geglu || normed ? 2 : pair ? 4 : 3);
    for (int way = 0; way < launch_linear_ways(&gpu, &l); way++) {
        CUresult result = launch_linear(&gpu, &l, way);
        for (long p = 0; p < k->rows; p++)
            linear_row(k, &l, p);
        conclude(type, result, "linear layer");
        untouched(&l.out);
        memset((void *)(uintptr_t)l.out.data, 0xff,
               (size_t)(k->rows * l.out.row) * dtype_bytes(type));
    }
    forget_memory();
}

/* Several products at once. */
static void phases_case(enum dtype type)
{
    enum { ROWS = 70, K = 72, COLUMNS = 192, PHASES = 3 };
    struct linear l = { .x = filled(type, 1, 1, ROWS * PHASES, K, 0, 0, 1),
                        .out = value(type, 1, 1, ROWS * PHASES, COLUMNS, 0),
                        .weight = numbers(type, COLUMNS * PHASES * K, 0, 0.3f),
                        .weight_row = K,
                        .phases = PHASES };
    struct gview x = l.x, out = l.out;
    l.x.w = l.out.w = ROWS;
    assert_int_equal(launch_linear_ways(&gpu, &l), 4);
    for (int way = 0; way < 4; way++) {
        CUresult result = launch_linear(&gpu, &l, way);
        for (long p = 0; p < gview_pixels(&x); p++)
            for (int c = 0; c < COLUMNS; c++) {
                double sum = 0;
                for (int i = 0; i < K; i++)
                    sum += (double)at(&x, p, i) *
                           get(l.weight, type, (p / ROWS * COLUMNS + c) * K + i);
                compare(at(&out, p, c), sum);
            }
        conclude(type, result, "products in phases");
        memset((void *)(uintptr_t)out.data, 0xff, (size_t)(ROWS * PHASES * COLUMNS) * 2);
    }
    l.bias = l.weight;
    assert_int_equal(launch_linear_ways(&gpu, &l), 0);
    forget_memory();
}

void linears(enum dtype type)
{
    static const struct layer cases[] = {
        { 300, 200, 160, true, true, false, 8 },  { 128, 64, 128, true, false, false, 0 },
        { 7, 328, 32, true, true, false, 16 },    { 300, 200, 352, false, true, true, 8 },
        { 130, 64, 160, false, false, false, 0 }, { 7, 584, 32, false, true, false, 0 },
        { 270, 520, 320, false, true, true, 8 },
    };
    for (size_t i = 0; type != DT_F32 && i < sizeof cases / sizeof *cases; i++)
        for (int normed = 0; normed < 2; normed++) {
            late = i % 2;
            linear_case(&cases[i], type, normed);
        }
    if (type != DT_F32)
        phases_case(type);
    late = false;
    struct linear narrow = { .x = value(type, 1, 1, 8, 64, 0), .out = value(type, 1, 1, 8, 40, 0) };
    assert_int_equal(launch_linear_ways(&gpu, &narrow), 0); /* 16 does not divide 40 */
    narrow.out = value(type, 1, 1, 8, 48, 0);
    assert_int_equal(launch_linear_ways(&gpu, &narrow), type == DT_F32 ? 0 : 1);
    narrow.out = value(type, 1, 1, 8, 64, 4);
    assert_int_equal(launch_linear_ways(&gpu, &narrow), 0); /* rows 136 bytes apart */
}
