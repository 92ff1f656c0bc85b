/* Every kernel of src/cuda/kernels, compiled for the processor and run by emulate.c, through the
 * launches of launch.h, against the plain formula in double precision. */
#include "e4m3.h"

#include <math.h>
#include <stdlib.h>

#include "card.h"

static void every_type(void (*test)(enum dtype type))
{
    for (enum dtype type = DT_F32; type <= DT_F16; type++) {
        test(type);
        forget_memory();
    }
}

/* ---- norms */

struct norm {
    int n, h, w, c, second, groups;
    bool bias, shift;
    float mean;
    enum act act;
};

/* The number that is normed: as it would be stored after the sum. */
static double before_norm(const struct norm *k, enum dtype type, const struct gview *x,
                          const struct gview *second, CUdeviceptr bias, const struct gview *shift,
                          long pixel, int c)
{
    float v = c < k->c ? at(x, pixel, c) : at(second, pixel, c - k->c), add = 0;
    if (k->bias)
        add += get(bias, type, c);
    if (k->shift)
        add += at(shift, pixel / (k->h * k->w), c);
    return k->bias || k->shift ? rounded(type, v + add) : v;
}

static void group_norm_case(const struct norm *k, enum dtype type)
{
    int all = k->c + k->second, width = all / k->groups, area = k->h * k->w;
    struct gview x = filled(type, k->n, k->h, k->w, k->c, 8, k->mean, 1);
    struct gview second = filled(type, k->n, k->h, k->w, k->second + 8, 0, k->mean, 2);
    struct gview shift = filled(type, k->n, 1, 1, all, 2 * all, 0, 1);
    struct gview out = value(type, k->n, k->h, k->w, all, 0);
    CUdeviceptr bias = numbers(type, all, 0, 1);
    CUdeviceptr gamma = numbers(DT_F32, all, 1, 0.5f), beta = numbers(DT_F32, all, 0, 0.5f);
    CUdeviceptr scratch = memory(launch_group_norm_scratch(k->n, area, all, k->groups));
    double *v = calloc((size_t)(area * width), sizeof *v);
    second.c = k->second;
    CUresult result = launch_group_norm(&gpu, &x, k->second ? &second : NULL, k->bias ? bias : 0,
                                        k->shift ? &shift : NULL, k->groups, 1e-5f, gamma, beta,
                                        k->act, &out, scratch);
    for (int i = 0; i < k->n * k->groups; i++) {
        long first = (long)(i / k->groups) * area;
        int group = i % k->groups * width, count = area * width;
        double mean = 0, spread = 0;
        for (int j = 0; j < count; j++)
            mean += v[j] = before_norm(k, type, &x, &second, bias, &shift, first + j / width,
                                       group + j % width);
        mean /= count;
        for (int j = 0; j < count; j++)
            spread += (v[j] - mean) * (v[j] - mean);
        for (int j = 0; j < count; j++) {
            int c = group + j % width;
            double y = (v[j] - mean) / sqrt(spread / count + 1e-5f) * get(gamma, DT_F32, c) +
                       get(beta, DT_F32, c);
            compare(at(&out, first + j / width, c), act_of(k->act, y));
        }
    }
    free(v);
    conclude(type, result, "group norm");
}

static void group_norms_on(int processors, int shared, enum dtype type)
{
    static const struct norm cases[] = {
        { 2, 16, 16, 320, 0, 32, false, false, 0, ACT_SILU },
        { 2, 9, 7, 320, 0, 32, true, true, 0, ACT_SILU },
        { 1, 8, 8, 1280, 640, 32, false, true, 0, ACT_NONE },
        { 1, 5, 5, 36, 0, 6, true, false, 0, ACT_SILU },
        { 2, 24, 24, 128, 0, 32, false, false, 5, ACT_SILU },
        { 1, 3, 3, 30, 12, 3, false, true, 0, ACT_NONE },
        { 1, 1, 1, 64, 0, 16, false, false, 0, ACT_NONE },
        { 1, 40, 40, 64, 64, 1, false, false, 0, ACT_NONE },
        { 3, 20, 20, 256, 0, 32, true, false, 0, ACT_SILU },
        { 2, 12, 12, 64, 0, 16, true, true, 0, ACT_SILU },
        { 1, 40, 40, 64, 0, 8, true, false, 3, ACT_SILU },
    };
    struct gpu before = gpu;
    gpu.processors = processors;
    gpu.shared = shared;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        group_norm_case(&cases[i], type);
        forget_memory();
    }
    gpu = before;
}

/* In one launch where registers hold a map, or shared memory does, the whole of it or a part; in
 * two. */
static void group_norms(enum dtype type)
{
    group_norms_on(20, 227 * 1024, type);
    group_norms_on(12, 227 * 1024, type);
    late = true;
    group_norms_on(12, 24 * 1024, type);
    late = false;
    group_norms_on(2, 227 * 1024, type);
}

/* With gain and offset, and without. */
static void layer_norms(enum dtype type)
{
    static const int widths[] = { 32, 37, 320, 640, 768, 1024, 1280, 1536, 2048, 2560 };
    for (size_t i = 0; i < 2 * sizeof widths / sizeof *widths; i++) {
        int c = widths[i / 2], alone = i % 2;
        struct gview x = filled(type, 1, 1, 7, c, 8, 3, 1), out = value(type, 1, 1, 7, c, 0);
        CUdeviceptr gamma = numbers(DT_F32, c, 1, 0.5f), beta = numbers(DT_F32, c, 0, 0.5f);
        CUresult result =
            launch_layer_norm(&gpu, &x, alone ? 0 : gamma, alone ? 0 : beta, 1e-5f, &out, 0);
        for (int p = 0; p < 7; p++) {
            double mean = 0, spread = 0;
            for (int j = 0; j < c; j++)
                mean += at(&x, p, j) / (double)c;
            for (int j = 0; j < c; j++)
                spread += (at(&x, p, j) - mean) * (at(&x, p, j) - mean) / c;
            for (int j = 0; j < c; j++) {
                double y = (at(&x, p, j) - mean) / sqrt(spread + 1e-5f);
                compare(at(&out, p, j),
                        alone ? y : y * get(gamma, DT_F32, j) + get(beta, DT_F32, j));
            }
        }
        conclude(type, result, "layer norm");
        forget_memory();
    }
}

static void softmaxes(enum dtype type)
{
    static const int columns[] = { 64, 77, 1000, 2500, 4096 };
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        int c = columns[i];
        CUdeviceptr scores = numbers(DT_F32, 2L * c, 100, 300), out = memory((size_t)c * 8);
        CUresult result = launch_softmax(&gpu, scores, 2, c, 0.3f, out, type);
        for (int row = 0; row < 2; row++) {
            double total = 0, most = 0.3f * 400.0;
            for (int j = 0; j < c; j++)
                total += exp(0.3f * (double)get(scores, DT_F32, row * c + j) - most);
            for (int j = 0; j < c; j++)
                compare(get(out, type, row * c + j),
                        exp(0.3f * (double)get(scores, DT_F32, row * c + j) - most) / total);
        }
        conclude(type, result, "softmax");
        forget_memory();
    }
}

/* ---- attention */

struct heads {
    int n, heads, width, queries, keys;
    bool causal;
    int gap;   /* the values are slices of wider ones */
    int slope; /* keys grow to as many times from the last to the first, or if < 0, back */
};

static void attention_row(const struct heads *k, const struct gview *v[4], long image, int head,
                          int query)
{
    const struct gview *q = v[0], *key = v[1], *value_of = v[2], *out = v[3];
    int seen = k->causal && query + 1 < k->keys ? query + 1 : k->keys;
    double score[512], most = -INFINITY, total = 0;
    for (int j = 0; j < seen; j++) {
        score[j] = 0;
        for (int c = head * k->width; c < (head + 1) * k->width; c++)
            score[j] += (double)at(q, image * k->queries + query, c) *
                        at(key, image * k->keys + j, c) / sqrt(k->width);
        most = fmax(most, score[j]);
    }
    for (int j = 0; j < seen; j++)
        total += score[j] = exp(score[j] - most);
    for (int c = head * k->width; c < (head + 1) * k->width; c++) {
        double sum = 0;
        for (int j = 0; j < seen; j++)
            sum += score[j] * at(value_of, image * k->keys + j, c);
        compare(at(out, image * k->queries + query, c), sum / total);
    }
}

static void slope_keys(const struct heads *k, struct gview *key)
{
    for (long p = 0; p < gview_pixels(key); p++)
        for (int c = 0; c < key->c; c++) {
            long j = p % k->keys, far = k->slope < 0 ? j : k->keys - j;
            float times = 1 + (float)abs(k->slope) * (float)far / (float)k->keys;
            put(key->data, key->type, p * key->row + c, times * at(key, p, c));
        }
}

static void check_attention(enum dtype type, const struct heads *k)
{
    int c = k->heads * k->width;
    struct gview q = filled(type, k->n, 1, k->queries, c, k->gap, 0, 3);
    struct gview key = filled(type, k->n, 1, k->keys, c, k->gap, 0, 2);
    struct gview v = filled(type, k->n, 1, k->keys, c, 0, 0.5f, 1);
    struct gview out = value(type, k->n, 1, k->queries, c, 8);
    slope_keys(k, &key);
    CUresult result = launch_attention(&gpu, &q, &key, &v, k->heads, k->causal, &out);
    for (int image = 0; image < k->n; image++)
        for (int head = 0; head < k->heads; head++)
            for (int query = 0; query < k->queries; query++)
                attention_row(k, (const struct gview *[4]){ &q, &key, &v, &out }, image, head,
                              query);
    conclude(type, result, "attention");
    untouched(&out);
    forget_memory();
}

static void attentions(enum dtype type)
{
    static const struct heads cases[] = {
        { 1, 2, 40, 130, 140, false, 80, 0 }, { 2, 2, 40, 70, 77, false, 0, 0 },
        { 2, 4, 40, 129, 65, false, 0, 0 },   { 1, 2, 64, 150, 150, true, 128, 0 },
        { 1, 4, 64, 256, 77, false, 0, 0 },   { 1, 2, 64, 5, 3, true, 0, 0 },
        { 1, 2, 80, 70, 100, false, 8, 0 },   { 1, 1, 160, 70, 70, false, 0, 0 },
        { 1, 1, 128, 64, 129, true, 0, 0 },   { 1, 2, 96, 33, 64, false, 0, 0 },
        { 1, 2, 48, 65, 65, false, 0, 0 },    { 1, 2, 24, 65, 65, true, 0, 0 },
        { 1, 2, 10, 40, 40, true, 0, 0 },     { 1, 1, 512, 20, 40, false, 0, 0 },
        { 1, 2, 70, 20, 40, false, 3, 0 },    { 1, 1, 150, 20, 40, true, 0, 0 },
        { 1, 1, 32, 1, 1, false, 0, 0 },      { 2, 4, 64, 140, 140, true, 0, 0 },
        { 1, 2, 80, 40, 80, false, 0, 0 },    { 2, 1, 24, 20, 200, false, 8, 0 },
        { 1, 1, 40, 40, 448, false, 0, 8 },   { 1, 1, 64, 130, 400, false, 64, -8 },
        { 1, 1, 80, 65, 330, false, 0, 8 },   { 1, 1, 160, 20, 270, false, 0, 8 },
        { 1, 5, 64, 70, 400, false, 0, 8 },   { 1, 3, 80, 130, 65, false, 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (gpu.sm = 80; gpu.sm <= 90; gpu.sm += 10) { /* what runs there differs */
            late = i % 2;
            check_attention(type, &cases[i]);
        }
    gpu.sm = 90;
}

/* ---- convolutions */

struct conv {
    int n, h, w, c, cout, k, stride, pad, pad_end;
    bool bias, shift, residual;
    int gap, gap_out;
};

static double conv_sum(const struct conv *k, const struct gview *x, CUdeviceptr weight, int n,
                       int y, int v, int o)
{
    double sum = 0;
    for (int tap = 0; tap < k->k * k->k; tap++) {
        int yy = y * k->stride + tap / k->k - k->pad, vv = v * k->stride + tap % k->k - k->pad;
        if (yy < 0 || vv < 0 || yy >= k->h || vv >= k->w)
            continue;
        for (int c = 0; c < k->c; c++)
            sum += (double)at(x, ((long)n * k->h + yy) * k->w + vv, c) *
                   get(weight, x->type, ((long)o * k->k * k->k + tap) * k->c + c);
    }
    return sum;
}

static void conv_case(const struct conv *k, enum dtype type)
{
    int h = (k->h + k->pad + k->pad_end - k->k) / k->stride + 1;
    int w = (k->w + k->pad + k->pad_end - k->k) / k->stride + 1;
    struct gview x = filled(type, k->n, k->h, k->w, k->c, k->gap, 0, 1);
    struct gview shift = filled(type, k->n, 1, 1, k->cout, 0, 0, 1);
    struct gview residual = filled(type, k->n, h, w, k->cout, 2 * k->gap_out, 0, 1);
    struct gview out = value(type, k->n, h, w, k->cout, k->gap_out);
    CUdeviceptr bias = numbers(type, k->cout, 0, 1);
    CUdeviceptr weight = numbers(type, (long)k->cout * k->k * k->k * k->c, 0, 0.3f);
    CUresult result = launch_conv(&gpu, &x, weight, k->k, k->stride, k->pad, k->bias ? bias : 0,
                                  k->shift ? &shift : NULL, k->residual ? &residual : NULL, &out);
    for (long p = 0; p < gview_pixels(&out); p++) {
        int n = (int)(p / (h * w)), y = (int)(p / w % h), v = (int)(p % w);
        for (int o = 0; o < k->cout; o++)
            compare(at(&out, p, o), conv_sum(k, &x, weight, n, y, v, o) +
                                        (k->bias ? get(bias, type, o) : 0) +
                                        (k->shift ? at(&shift, n, o) : 0) +
                                        (k->residual ? at(&residual, p, o) : 0));
    }
    conclude(type, result, "convolution");
    untouched(&out);
}

static void convolutions(enum dtype type)
{ /* few outputs, then many; the same without tensor cores */
    static const struct conv cases[] = {
        { 2, 8, 8, 320, 4, 3, 1, 1, 1, true, false, false, 0, 4 },
        { 1, 9, 7, 128, 3, 3, 1, 1, 1, true, false, true, 0, 4 },
        { 1, 8, 8, 64, 8, 3, 1, 1, 1, true, true, true, 8, 4 },
        { 2, 13, 33, 32, 4, 3, 1, 1, 1, true, true, true, 16, 1 },
        { 1, 30, 18, 32, 3, 3, 1, 1, 1, false, false, false, 0, 0 },
        { 1, 7, 20, 96, 8, 3, 1, 1, 1, true, false, false, 0, 0 },
        { 1, 6, 5, 64, 7, 3, 1, 0, 1, true, true, false, 0, 3 },
        { 1, 3, 2, 32, 1, 3, 1, 1, 1, true, false, false, 8, 0 },
        { 1, 11, 11, 64, 4, 3, 1, 0, 0, true, false, false, 0, 0 },
        { 1, 8, 8, 36, 5, 3, 1, 1, 1, false, false, false, 0, 4 },
        { 1, 9, 9, 64, 4, 3, 2, 1, 1, true, true, true, 0, 4 },
        { 1, 7, 9, 32, 8, 5, 2, 2, 2, true, false, false, 0, 4 },
        { 2, 10, 10, 4, 320, 3, 1, 1, 1, true, true, true, 0, 4 },
        { 2, 9, 15, 4, 320, 3, 1, 1, 1, true, true, true, 0, 8 },
        { 1, 7, 7, 4, 64, 3, 1, 1, 1, true, false, true, 3, 0 },
        { 1, 17, 19, 3, 128, 3, 1, 1, 1, true, false, false, 0, 0 },
        { 1, 11, 5, 3, 40, 3, 2, 0, 1, false, true, false, 1, 0 },
        { 1, 6, 7, 8, 320, 3, 1, 1, 1, true, false, true, 8, 16 },
        { 1, 6, 7, 8, 24, 3, 2, 1, 1, true, false, false, 4, 0 },
        { 2, 9, 9, 9, 352, 3, 1, 1, 1, true, true, true, 0, 8 },
        { 1, 9, 9, 9, 33, 3, 1, 1, 1, true, false, false, 0, 4 },
        { 1, 5, 6, 10, 16, 3, 1, 1, 1, true, false, false, 2, 0 },
        { 1, 5, 6, 12, 32, 2, 2, 0, 0, true, false, false, 0, 0 },
        { 1, 8, 8, 40, 16, 1, 1, 0, 0, true, false, true, 8, 8 },
        { 1, 28, 28, 3, 70, 14, 14, 0, 0, false, false, false, 0, 4 },
        { 1, 9, 9, 16, 24, 3, 2, 0, 1, true, false, false, 0, 4 },
        { 1, 5, 5, 3, 4, 1, 1, 0, 0, true, false, false, 0, 4 },
    };
    static const struct {
        int sm, processors; /* these decide about the size of tiles */
    } cards[] = { { 75, 2 }, { 90, 1 }, { 90, 20 }, { 80, 132 } };
    struct gpu usual = gpu;
    for (size_t card = 0; card < sizeof cards / sizeof *cards; card++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            gpu.sm = cards[card].sm;
            gpu.processors = cards[card].processors;
            conv_case(&cases[i], type);
            forget_memory();
        }
    gpu = usual;
}

/* ---- what only moves or combines */

static void finishes(enum dtype type)
{
    static const struct {
        int c, gap;
        bool bias, shift, residual;
        enum act act;
    } cases[] = {
        { 320, 0, true, true, true, ACT_SILU },          { 37, 3, true, false, true, ACT_GELU },
        { 2560, 0, false, true, false, ACT_QUICK_GELU }, { 64, 8, true, false, false, ACT_NONE },
        { 8, 0, false, false, true, ACT_RELU },          { 4, 0, true, false, false, ACT_NONE },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int c = cases[i].c, gap = cases[i].gap;
        struct gview x = filled(type, 2, 3, 5, c, gap, 0, 2), out = value(type, 2, 3, 5, c, gap);
        struct gview shift = filled(type, 2, 1, 1, c, c, 0, 1);
        struct gview residual = filled(type, 2, 3, 5, c, 0, 0, 1);
        CUdeviceptr bias = numbers(type, c, 0, 1);
        CUresult result =
            launch_finish(&gpu, &x, cases[i].bias ? bias : 0, cases[i].shift ? &shift : NULL,
                          cases[i].act, cases[i].residual ? &residual : NULL, &out);
        for (long p = 0; p < 30; p++)
            for (int j = 0; j < c; j++) {
                double y = at(&x, p, j) + (cases[i].bias ? get(bias, type, j) : 0) +
                           (cases[i].shift ? at(&shift, p / 15, j) : 0);
                compare(at(&out, p, j),
                        act_of(cases[i].act, y) + (cases[i].residual ? at(&residual, p, j) : 0));
            }
        conclude(type, result, "finish");
        untouched(&out);
        forget_memory();
    }
}

static const int widths[] = { 5, 8, 64, 1000 };
#define EVERY_WIDTH(c)                                                                             \
    for (int width_ = 0, c; width_ < 4 && (c = widths[width_], true); width_++, forget_memory())

static void maps(enum dtype type)
{
    EVERY_WIDTH(c)
    {
        struct gview x = filled(type, 2, 5, 7, c, 16, 0, 1), up = value(type, 2, 11, 13, c, 8);
        CUresult result = launch_upsample(&gpu, &x, &up);
        for (int p = 0; p < 2 * 11 * 13; p++)
            for (int j = 0; j < c; j++)
                compare(at(&up, p, j),
                        at(&x, (p / 143 * 5 + p / 13 % 11 * 5 / 11) * 7 + p % 13 * 7 / 13, j));
        conclude(type, result, "upsample");
        untouched(&up);

        struct gview b = filled(type, 2, 5, 7, 2 * c, c, 0, 1),
                     both = value(type, 2, 5, 7, 3 * c, 0);
        result = launch_concat(&gpu, &x, &b, &both);
        for (int p = 0; p < 70; p++)
            for (int j = 0; j < 3 * c; j++)
                compare(at(&both, p, j), j < c ? at(&x, p, j) : at(&b, p, j - c));
        conclude(type, result, "concat");

        struct gview thrice = value(type, 6, 5, 7, c, 8);
        result = launch_repeat(&gpu, &x, &thrice);
        for (int p = 0; p < 210; p++)
            for (int j = 0; j < c; j++)
                compare(at(&thrice, p, j), at(&x, p % 70, j));
        conclude(type, result, "repeat");
        untouched(&thrice);

        struct gview half = value(type, 2, 5, 7, c, 8);
        result = launch_geglu(&gpu, &b, &half, 0);
        for (int p = 0; p < 70; p++)
            for (int j = 0; j < c; j++)
                compare(at(&half, p, j), at(&b, p, j) * act_of(ACT_GELU, at(&b, p, c + j)));
        conclude(type, result, "geglu");
        untouched(&half);

        CUdeviceptr dense = numbers(DT_F32, 70L * c, 0, 1), back = memory((size_t)(70 * c) * 4);
        result = launch_from_f32(&gpu, dense, &half);
        for (int i = 0; i < 70 * c; i++)
            compare(at(&half, i / c, i % c), get(dense, DT_F32, i));
        conclude(type, result, "from f32");
        untouched(&half);
        result = launch_to_f32(&gpu, &half, back);
        for (int i = 0; i < 70 * c; i++)
            compare(get(back, DT_F32, i), at(&half, i / c, i % c));
        conclude(DT_F32, result, "to f32");
    }
}

static void sequences(enum dtype type)
{
    int32_t id[24], last[2] = { 11, 4 };
    for (int i = 0; i < 24; i++)
        id[i] = (i * 7 + 3) % 50;
    struct gview ids = { (CUdeviceptr)(uintptr_t)id, DT_I32, 2, 1, 12, 1, 1 };
    struct gview index = { (CUdeviceptr)(uintptr_t)last, DT_I32, 2, 1, 1, 1, 1 };
    EVERY_WIDTH(c)
    {
        CUdeviceptr table = numbers(type, 50L * c, 0, 1);
        struct gview x = value(type, 2, 1, 12, c, 0), longer = value(type, 2, 1, 13, c, 0);
        struct gview sum = value(type, 2, 1, 12, c, 8), one = value(type, 2, 1, 1, c, 0);
        CUresult result = launch_embed(&gpu, &ids, table, &x);
        for (int i = 0; i < 24 * c; i++)
            compare(at(&x, i / c, i % c), get(table, type, id[i / c] * c + i % c));
        conclude(type, result, "embed");
        result = launch_position(&gpu, &x, table, &sum);
        for (int i = 0; i < 24 * c; i++)
            compare(at(&sum, i / c, i % c),
                    at(&x, i / c, i % c) + get(table, type, i / c % 12 * c + i % c));
        conclude(type, result, "position");
        untouched(&sum);
        result = launch_prepend(&gpu, &x, table, &longer);
        for (int p = 0; p < 26; p++)
            for (int j = 0; j < c; j++)
                compare(at(&longer, p, j),
                        p % 13 ? at(&x, p / 13 * 12 + p % 13 - 1, j) : get(table, type, j));
        conclude(type, result, "prepend");
        result = launch_row(&gpu, &x, &index, &one);
        for (int i = 0; i < 2 * c; i++)
            compare(at(&one, i / c, i % c), at(&x, i / c * 12 + last[i / c], i % c));
        conclude(type, result, "row");
    }
}

static void timesteps(enum dtype type)
{
    float number[] = { 981, 1, 512, 3, 17.5f, 0 };
    struct gview x = { (CUdeviceptr)(uintptr_t)number, DT_F32, 2, 1, 1, 3, 3 };
    struct gview out = value(type, 2, 1, 1, 3 * 32, 0);
    for (int flip = 0; flip < 2; flip++) {
        float shift = 1 - (float)flip;
        CUresult result = launch_timestep(&gpu, &x, 32, flip, shift, &out);
        for (int i = 0; i < 6 * 16; i++) {
            int at_number = i / 16 % 3 * 32, j = i % 16;
            float angle = number[i / 16] * expf(-logf(10000) * (float)j / (16 - shift));
            compare(at(&out, i / 48, at_number + j + (flip ? 16 : 0)), sinf(angle));
            compare(at(&out, i / 48, at_number + j + (flip ? 0 : 16)), cosf(angle));
        }
        conclude(type, result, "timestep");
    }
}

static void packs(enum dtype type)
{
    static const struct {
        long cout, cin;
        int taps, skew; /* numbers that the address is beside 16 bytes */
    } cases[] = { { 16, 64, 1, 0 },  { 5, 7, 1, 0 },  { 16, 64, 1, 1 },
                  { 3, 1000, 9, 0 }, { 7, 33, 9, 1 }, { 4, 3, 196, 0 } };
    for (int i = 0; i < 6 * KERNEL_TYPES; i++) {
        enum dtype from = (enum dtype)(i % KERNEL_TYPES);
        long cout = cases[i / 3].cout, cin = cases[i / 3].cin, taps = cases[i / 3].taps;
        long count = cout * cin * taps;
        CUdeviceptr weights = numbers(from, count + 1, 0, 1), out = memory((size_t)count * 4);
        weights += (size_t)cases[i / 3].skew * dtype_bytes(from);
        CUresult result = launch_pack(&gpu, weights, from, out, type, cout, cin, (int)taps);
        for (long j = 0; j < count; j++) {
            long o = j / (cin * taps), tap = j / cin % taps, c = j % cin;
            compare(get(out, type, j), get(weights, from, (o * cin + c) * taps + tap));
        }
        conclude(type, result, "pack");
        forget_memory();
    }
}

/* A norm's gain and offset in the layer behind it: what its rows become, and what its bias. */
static void folds(enum dtype type)
{
    static const int cases[][2] = { { 5, 64 }, { 19, 320 }, { 1, 77 }, { 8, 1280 } };
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        int rows = cases[i / 2][0], c = cases[i / 2][1];
        CUdeviceptr weight = numbers(type, (long)rows * c, 0.1f, 0.3f);
        CUdeviceptr before = memory((size_t)(rows * c) * 4), shift = memory((size_t)rows * 4);
        CUdeviceptr gamma = numbers(DT_F32, c, 0.8f, 0.5f), beta = numbers(DT_F32, c, 0.2f, 0.5f);
        CUdeviceptr bias = i % 2 ? numbers(DT_F32, rows, 0, 1) : 0;
        memcpy((void *)(uintptr_t)before, (void *)(uintptr_t)weight, (size_t)(rows * c) * 4);
        CUresult result = launch_fold(&gpu, weight, type, rows, c, gamma, beta, bias, shift);
        for (int r = 0; r < rows; r++) {
            double mean = 0, sum = bias ? (double)get(bias, DT_F32, r) : 0;
            for (int j = 0; j < c; j++) {
                mean += (double)get(before, type, r * c + j) * get(gamma, DT_F32, j) / c;
                sum += (double)get(before, type, r * c + j) * get(beta, DT_F32, j);
            }
            for (int j = 0; j < c; j++)
                compare(get(weight, type, r * c + j),
                        (double)get(before, type, r * c + j) * get(gamma, DT_F32, j) - mean);
            compare(get(shift, type, r), sum);
        }
        conclude(type, result, "fold");
        forget_memory();
    }
}

/* Every code is the one that is nearest; a row of zeros has a scale, and what is no number stays
 * none. */
static void eights(enum dtype type)
{
    static const int cases[][2] = { { 5, 16 }, { 3, 320 }, { 2, 5120 }, { 9, 208 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rows = cases[i][0], c = cases[i][1];
        struct gview x = filled(type, rows, 1, 1, c, 16, 0.3f, 1 + (float)i);
        CUdeviceptr out = memory((size_t)(rows * c)), scales = memory((size_t)rows * 4);
        for (int k = 0; k < c; k++)
            put(x.data, type, x.row + k, 0);
        put(x.data, type, 3, NAN);
        assert_int_equal(launch_eight(&gpu, &x, out, scales), CUDA_SUCCESS);
        for (int p = 0; p < rows; p++) {
            float most = 1e-30f;
            for (int k = 0; k < c; k++)
                most = fmaxf(most, fabsf(at(&x, p, k)));
            assert_true(get(scales, DT_F32, p) == most / 448);
            for (int k = 0; k < c; k++)
                assert_int_equal(((uint8_t *)(uintptr_t)out)[p * c + k],
                                 e4m3_code(at(&x, p, k) * (448 / most)));
        }
        untouched(&x);
        forget_memory();
    }
}

/* A norm or GEGLU that writes e4m3 writes what eight makes of its numbers. */
static void eights_at_once(enum dtype type)
{
    static const int cases[] = { 64, 320, 640, 1280, 2048, 5120 };
    enum { ROWS = 6 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int c = cases[i];
        struct gview x = filled(type, 1, 1, ROWS, 2 * c, 8, 1, 2), first = x;
        struct gview out = value(type, 1, 1, ROWS, c, 0), at_once = out;
        CUdeviceptr gamma = numbers(DT_F32, c, 1, 0.5f), beta = numbers(DT_F32, c, 0, 0.5f);
        CUdeviceptr codes = memory((size_t)(ROWS * c)), scales = memory(ROWS * 4);
        CUdeviceptr scales_at_once = memory(ROWS * 4);
        first.c = c;
        at_once.data = memory((size_t)(ROWS * c));
        bool geglus = c <= (type == DT_F32 ? 3072 : 6144);
        for (int norm = 0; norm < 2; norm++) {
            if (norm ? c > 2048 : !geglus)
                continue;
            CUresult two = norm ? launch_layer_norm(&gpu, &first, gamma, beta, 1e-5f, &out, 0)
                                : launch_geglu(&gpu, &x, &out, 0);
            CUresult one =
                norm ? launch_layer_norm(&gpu, &first, gamma, beta, 1e-5f, &at_once, scales_at_once)
                     : launch_geglu(&gpu, &x, &at_once, scales_at_once);
            assert_int_equal(two, CUDA_SUCCESS);
            assert_int_equal(one, CUDA_SUCCESS);
            assert_int_equal(launch_eight(&gpu, &out, codes, scales), CUDA_SUCCESS);
            assert_memory_equal((void *)(uintptr_t)at_once.data, (void *)(uintptr_t)codes,
                                (size_t)(ROWS * c));
            assert_memory_equal((void *)(uintptr_t)scales_at_once, (void *)(uintptr_t)scales,
                                ROWS * 4);
        }
        forget_memory();
    }
}

/* ---- */

#define TEST(cases)                                                                                \
    static void test_##cases(void **state)                                                         \
    {                                                                                              \
        (void)state;                                                                               \
        every_type(cases);                                                                         \
    }
TEST(group_norms)
TEST(layer_norms)
TEST(softmaxes)
TEST(attentions)
TEST(convolutions)
TEST(linears)
TEST(conv3s)
TEST(winograds)
TEST(finishes)
TEST(maps)
TEST(sequences)
TEST(timesteps)
TEST(packs)
TEST(folds)
TEST(eights)
TEST(eights_at_once)

static void test_every_kernel_was_used(void **state)
{
    (void)state;
    int unused = first_unused_kernel();
    if (unused >= 0)
        fail_msg("no case runs kernel %d", unused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_norms),
        cmocka_unit_test(test_layer_norms),
        cmocka_unit_test(test_softmaxes),
        cmocka_unit_test(test_attentions),
        cmocka_unit_test(test_convolutions),
        cmocka_unit_test(test_linears),
        cmocka_unit_test(test_conv3s),
        cmocka_unit_test(test_winograds),
        cmocka_unit_test(test_finishes),
        cmocka_unit_test(test_maps),
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_timesteps),
        cmocka_unit_test(test_packs),
        cmocka_unit_test(test_folds),
        cmocka_unit_test(test_eights),
        cmocka_unit_test(test_eights_at_once),
        cmocka_unit_test(test_every_kernel_was_used),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
