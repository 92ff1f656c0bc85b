/* fake_kernels.c - launch.h in plain loops over host memory. */
#include "cuda/fake.h"
#include "cuda/kernels/args.h"
#include "cuda/launch.h"
#include "e4m3.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int kernels_load(struct gpu *g, styx_error *err)
{
    (void)g, (void)err;
    return STYX_OK;
}

void kernels_unload(struct gpu *g)
{
    (void)g;
}

static float of(const struct gview *x, long pixel, int c)
{
    return fake_get(x->data, x->type, pixel * x->row + c);
}

static void to(const struct gview *x, long pixel, int c, float value)
{
    fake_put(x->data, x->type, pixel * x->row + c, value);
}

static float activate(enum act a, float x)
{
    switch (a) {
    case ACT_SILU:
        return x / (1 + expf(-x));
    case ACT_GELU:
    case ACT_GEGLU:
        return 0.5f * x * (1 + erff(x * 0.70710678f));
    case ACT_QUICK_GELU:
        return x / (1 + expf(-1.702f * x));
    case ACT_RELU:
        return x > 0 ? x : 0;
    default:
        return x;
    }
}

static long area(const struct gview *x)
{
    return (long)x->h * x->w;
}

size_t launch_group_norm_scratch(int n, long pixels, int channels, int groups)
{
    (void)pixels, (void)channels;
    return (size_t)n * (size_t)groups * 8;
}

CUresult launch_group_norm(const struct gpu *g, const struct gview *x, const struct gview *second,
                           CUdeviceptr bias, const struct gview *shift, int groups, float eps,
                           CUdeviceptr gamma, CUdeviceptr beta, enum act act,
                           const struct gview *out, CUdeviceptr scratch)
{
    int c = x->c + (second ? second->c : 0), width = c / groups;
    long px = area(x);
    float *in = malloc((size_t)px * (size_t)c * sizeof *in);
    (void)g, (void)scratch;
    for (int n = 0; n < x->n; n++) {
        for (long p = 0; p < px; p++)
            for (int k = 0; k < c; k++)
                in[p * c + k] =
                    (k < x->c ? of(x, n * px + p, k) : of(second, n * px + p, k - x->c)) +
                    (bias ? fake_get(bias, x->type, k) : 0) + (shift ? of(shift, n, k) : 0);
        for (int first = 0; first < c; first += width) {
            double mean = 0, var = 0, count = (double)px * width;
            for (long p = 0; p < px; p++)
                for (int k = first; k < first + width; k++)
                    mean += in[p * c + k] / count;
            for (long p = 0; p < px; p++)
                for (int k = first; k < first + width; k++)
                    var += (in[p * c + k] - mean) * (in[p * c + k] - mean) / count;
            for (long p = 0; p < px; p++)
                for (int k = first; k < first + width; k++)
                    to(out, n * px + p, k,
                       activate(act, (float)((in[p * c + k] - mean) / sqrt(var + (double)eps)) *
                                             fake_get(gamma, DT_F32, k) +
                                         fake_get(beta, DT_F32, k)));
        }
    }
    free(in);
    return CUDA_SUCCESS;
}

CUresult launch_eight(const struct gpu *g, const struct gview *x, CUdeviceptr out,
                      CUdeviceptr scales)
{
    (void)g;
    for (long p = 0; p < gview_pixels(x); p++) {
        float most = 1e-30f;
        for (int c = 0; c < x->c; c++)
            most = fmaxf(most, fabsf(of(x, p, c)));
        fake_put(scales, DT_F32, p, most / 448);
        for (int c = 0; c < x->c; c++)
            ((uint8_t *)out)[p * x->c + c] = e4m3_code(of(x, p, c) * (448 / most));
    }
    return CUDA_SUCCESS;
}

/* What was written as numbers, as e4m3. */
static void code(const struct gview *x, CUdeviceptr scales)
{
    size_t bytes = (size_t)(gview_pixels(x) * x->row) * dtype_bytes(x->type);
    struct gview copy = *x;
    copy.data = (CUdeviceptr)malloc(bytes);
    memcpy((void *)copy.data, (void *)x->data, bytes);
    launch_eight(NULL, &copy, x->data, scales);
    free((void *)copy.data);
}

CUresult launch_layer_norm(const struct gpu *g, const struct gview *x, CUdeviceptr gamma,
                           CUdeviceptr beta, float eps, const struct gview *out, CUdeviceptr scales)
{
    (void)g;
    fake.ms = 0;
    for (long p = 0; p < gview_pixels(x); p++) {
        double mean = 0, var = 0;
        for (int k = 0; k < x->c; k++)
            mean += of(x, p, k) / (double)x->c;
        for (int k = 0; k < x->c; k++)
            var += (of(x, p, k) - mean) * (of(x, p, k) - mean) / x->c;
        for (int k = 0; k < x->c; k++)
            to(out, p, k,
               (float)((of(x, p, k) - mean) / sqrt(var + (double)eps)) *
                       (gamma ? fake_get(gamma, DT_F32, k) : 1) +
                   (beta ? fake_get(beta, DT_F32, k) : 0));
    }
    if (scales)
        code(out, scales);
    return CUDA_SUCCESS;
}

CUresult launch_geglu(const struct gpu *g, const struct gview *x, const struct gview *out,
                      CUdeviceptr scales)
{
    (void)g;
    for (long p = 0; p < gview_pixels(out); p++)
        for (int k = 0; k < out->c; k++)
            to(out, p, k, of(x, p, k) * activate(ACT_GELU, of(x, p, k + out->c)));
    if (scales)
        code(out, scales);
    return CUDA_SUCCESS;
}

static bool wide(const struct gview *x)
{
    return x->data % 16 == 0 && x->row % 8 == 0 && x->c % 8 == 0;
}

int launch_linear_ways(const struct gpu *g, const struct linear *l)
{
    (void)g;
    return l->x.type != DT_F32 && wide(&l->x) && wide(&l->out) && wide(&l->residual) ? 2 : 0;
}

/* What a layer norm without gain and offset multiplies a row with, once its mean is gone. */
static double factor_of(const struct linear *l, long p)
{
    double mean = 0, var = 0;
    for (int k = 0; k < l->x.c; k++)
        mean += of(&l->x, p, k) / (double)l->x.c;
    for (int k = 0; k < l->x.c; k++)
        var += (of(&l->x, p, k) - mean) * (of(&l->x, p, k) - mean) / l->x.c;
    return 1 / sqrt(var + (double)l->eps);
}

CUresult launch_linear(const struct gpu *g, const struct linear *l, int way)
{
    (void)g, (void)way;
    if (l->normed) {
        fake.ms = fake.normed_ms;
        fake.normed++;
    }
    for (long p = 0; p < gview_pixels(&l->out); p++) {
        double factor = l->normed ? factor_of(l, p) : 1;
        for (int c = 0; c < l->out.c; c++) {
            double sum[2] = { 0, 0 };
            for (int half = 0; half <= l->geglu; half++) {
                long row = c + half * l->out.c;
                for (int k = 0; k < l->x.c; k++)
                    sum[half] += (double)of(&l->x, p, k) *
                                 fake_get(l->weight, l->x.type, row * l->weight_row + k) * factor;
                sum[half] += l->bias ? (double)fake_get(l->bias, l->x.type, row) : 0;
            }
            sum[0] *= l->geglu ? (double)activate(ACT_GELU, (float)sum[1]) : 1;
            to(&l->out, p, c, (float)sum[0] + (l->residual.data ? of(&l->residual, p, c) : 0));
        }
    }
    return CUDA_SUCCESS;
}

CUresult launch_finish(const struct gpu *g, const struct gview *x, CUdeviceptr bias,
                       const struct gview *shift, enum act act, const struct gview *residual,
                       const struct gview *out)
{
    (void)g;
    for (long p = 0; p < gview_pixels(out); p++)
        for (int k = 0; k < out->c; k++)
            to(out, p, k,
               activate(act, of(x, p, k) + (bias ? fake_get(bias, x->type, k) : 0) +
                                 (shift ? of(shift, p / area(x), k) : 0)) +
                   (residual ? of(residual, p, k) : 0));
    return CUDA_SUCCESS;
}

CUresult launch_upsample(const struct gpu *g, const struct gview *x, const struct gview *out)
{
    (void)g;
    for (int n = 0; n < out->n; n++)
        for (int y = 0; y < out->h; y++)
            for (int v = 0; v < out->w; v++)
                for (int k = 0; k < out->c; k++)
                    to(out, ((long)n * out->h + y) * out->w + v, k,
                       of(x, ((long)n * x->h + y * x->h / out->h) * x->w + v * x->w / out->w, k));
    return CUDA_SUCCESS;
}

CUresult launch_concat(const struct gpu *g, const struct gview *a, const struct gview *b,
                       const struct gview *out)
{
    (void)g;
    for (long p = 0; p < gview_pixels(out); p++)
        for (int k = 0; k < out->c; k++)
            to(out, p, k, k < a->c ? of(a, p, k) : of(b, p, k - a->c));
    return CUDA_SUCCESS;
}

CUresult launch_repeat(const struct gpu *g, const struct gview *x, const struct gview *out)
{
    (void)g;
    for (long p = 0; p < gview_pixels(out); p++)
        for (int k = 0; k < out->c; k++)
            to(out, p, k, of(x, p % gview_pixels(x), k));
    return CUDA_SUCCESS;
}

CUresult launch_timestep(const struct gpu *g, const struct gview *x, int dim, bool flip,
                         float shift, const struct gview *out)
{
    int half = dim / 2;
    (void)g;
    for (int n = 0; n < x->n; n++)
        for (int j = 0; j < x->c; j++)
            for (int i = 0; i < half; i++) {
                float f = expf(-logf(10000) * (float)i / ((float)half - shift));
                float t = of(x, n, j) * f;
                to(out, n, j * dim + i + (flip ? half : 0), sinf(t));
                to(out, n, j * dim + i + (flip ? 0 : half), cosf(t));
            }
    return CUDA_SUCCESS;
}

static int integer(const struct gview *x, long i)
{
    return ((const int32_t *)x->data)[i * x->row];
}

CUresult launch_embed(const struct gpu *g, const struct gview *ids, CUdeviceptr table,
                      const struct gview *out)
{
    (void)g;
    for (long p = 0; p < gview_pixels(out); p++)
        for (int k = 0; k < out->c; k++)
            to(out, p, k, fake_get(table, out->type, (long)integer(ids, p) * out->c + k));
    return CUDA_SUCCESS;
}

CUresult launch_position(const struct gpu *g, const struct gview *x, CUdeviceptr table,
                         const struct gview *out)
{
    (void)g;
    for (long p = 0; p < gview_pixels(out); p++)
        for (int k = 0; k < out->c; k++)
            to(out, p, k, of(x, p, k) + fake_get(table, out->type, p % area(x) * out->c + k));
    return CUDA_SUCCESS;
}

CUresult launch_prepend(const struct gpu *g, const struct gview *x, CUdeviceptr token,
                        const struct gview *out)
{
    (void)g;
    for (int n = 0; n < out->n; n++)
        for (long p = 0; p < area(out); p++)
            for (int k = 0; k < out->c; k++)
                to(out, n * area(out) + p, k,
                   p ? of(x, n * area(x) + p - 1, k) : fake_get(token, out->type, k));
    return CUDA_SUCCESS;
}

CUresult launch_row(const struct gpu *g, const struct gview *x, const struct gview *index,
                    const struct gview *out)
{
    (void)g;
    for (int n = 0; n < out->n; n++)
        for (int k = 0; k < out->c; k++)
            to(out, n, k, of(x, n * area(x) + integer(index, n), k));
    return CUDA_SUCCESS;
}

CUresult launch_from_f32(const struct gpu *g, CUdeviceptr from, const struct gview *x)
{
    (void)g;
    for (long p = 0; p < gview_pixels(x); p++)
        for (int k = 0; k < x->c; k++)
            to(x, p, k, fake_get(from, DT_F32, p * x->c + k));
    return CUDA_SUCCESS;
}

CUresult launch_to_f32(const struct gpu *g, const struct gview *x, CUdeviceptr at)
{
    (void)g;
    for (long p = 0; p < gview_pixels(x); p++)
        for (int k = 0; k < x->c; k++)
            fake_put(at, DT_F32, p * x->c + k, of(x, p, k));
    return CUDA_SUCCESS;
}

bool launch_attention_leads(const struct gpu *g, enum dtype type, int width, bool causal)
{
    (void)g, (void)type, (void)width, (void)causal;
    return false;
}

CUresult launch_attention(const struct gpu *g, const struct gview *q, const struct gview *k,
                          const struct gview *v, int heads, bool causal, const struct gview *out)
{
    int d = q->c / heads;
    long keys = area(k);
    float *score = malloc((size_t)keys * sizeof *score);
    (void)g;
    fake.ms = 2;
    for (long p = 0; p < gview_pixels(q); p++)
        for (int h = 0; h < heads; h++) {
            long n = p / area(q), i = p % area(q), seen = causal && i + 1 < keys ? i + 1 : keys;
            float most = -INFINITY, total = 0;
            for (long j = 0; j < seen; j++) {
                score[j] = 0;
                for (int c = h * d; c < h * d + d; c++)
                    score[j] += of(q, p, c) * of(k, n * keys + j, c);
                score[j] /= sqrtf((float)d);
                most = score[j] > most ? score[j] : most;
            }
            for (long j = 0; j < seen; j++)
                total += score[j] = expf(score[j] - most);
            for (int c = h * d; c < h * d + d; c++) {
                float sum = 0;
                for (long j = 0; j < seen; j++)
                    sum += score[j] * of(v, n * keys + j, c);
                to(out, p, c, sum / total);
            }
        }
    free(score);
    return CUDA_SUCCESS;
}

CUresult launch_softmax(const struct gpu *g, CUdeviceptr scores, long rows, int columns,
                        float scale, CUdeviceptr out, enum dtype type)
{
    (void)g;
    for (long r = 0; r < rows; r++) {
        float most = -INFINITY, total = 0;
        for (int i = 0; i < columns; i++)
            most = fmaxf(most, scale * fake_get(scores, DT_F32, r * columns + i));
        for (int i = 0; i < columns; i++)
            total += expf(scale * fake_get(scores, DT_F32, r * columns + i) - most);
        for (int i = 0; i < columns; i++)
            fake_put(out, type, r * columns + i,
                     expf(scale * fake_get(scores, DT_F32, r * columns + i) - most) / total);
    }
    return CUDA_SUCCESS;
}

CUresult launch_conv(const struct gpu *g, const struct gview *x, CUdeviceptr weight, int k,
                     int stride, int pad, CUdeviceptr bias, const struct gview *shift,
                     const struct gview *residual, const struct gview *out)
{
    (void)g;
    for (long p = 0; p < gview_pixels(out); p++) {
        long n = p / area(out);
        int y = (int)(p / out->w % out->h), v = (int)(p % out->w);
        for (int c = 0; c < out->c; c++) {
            float sum = (bias ? fake_get(bias, x->type, c) : 0) + (shift ? of(shift, n, c) : 0) +
                        (residual ? of(residual, p, c) : 0);
            for (int i = 0; i < k * k; i++) {
                int yy = y * stride + i / k - pad, vv = v * stride + i % k - pad;
                if (yy < 0 || vv < 0 || yy >= x->h || vv >= x->w)
                    continue;
                for (int j = 0; j < x->c; j++)
                    sum += of(x, (n * x->h + yy) * x->w + vv, j) *
                           fake_get(weight, x->type, ((long)c * k * k + i) * x->c + j);
            }
            to(out, p, c, sum);
        }
    }
    return CUDA_SUCCESS;
}

static double tap(const struct conv3 *f, long image, int y, int x, CUdeviceptr filter, long from)
{
    double sum = 0;
    if (y < 0 || x < 0 || y >= f->x.h || x >= f->x.w)
        return 0;
    for (int c = 0; c < f->x.c; c++)
        sum += (double)of(&f->x, (image * f->x.h + y) * f->x.w + x, c) *
               fake_get(filter, f->x.type, from + c);
    return sum;
}

static double shortcut(const struct conv3 *f, long pixel, int c)
{
    const struct gview *a = &f->shortcut[0], *b = &f->shortcut[1];
    long row = (long)c * (a->c + b->c);
    double sum = f->shortcut_bias ? (double)fake_get(f->shortcut_bias, f->x.type, c) : 0;
    for (int i = 0; i < a->c + b->c; i++)
        sum += (double)(i < a->c ? of(a, pixel, i) : of(b, pixel, i - a->c)) *
               fake_get(f->shortcut_weight, f->x.type, row + i);
    return sum;
}

int launch_conv3_ways(const struct gpu *g, const struct conv3 *f)
{
    bool half = f->x.type != DT_F32 && f->x.type == f->out.type;
    int scale = f->doubled ? 2 : 1;
    (void)g;
    return half && wide(&f->x) && wide(&f->out) && wide(&f->residual) && wide(&f->shortcut[0]) &&
                   wide(&f->shortcut[1]) && f->out.c % 16 == 0 && f->out.h == scale * f->x.h &&
                   f->out.w == scale * f->x.w && (!f->pairs || (f->workspace && f->bytes))
               ? 2
               : 0;
}

/* A row of Winograd's G, and of a left inverse of that. */
static const double wino_g[4][3] = {
    { 1, 0, 0 }, { 0.5, 0.5, 0.5 }, { 0.5, -0.5, 0.5 }, { 0, 0, 1 }
};
static const double wino_inverse[3][4] = { { 1, 0, 0, 0 }, { 0, 1, -1, 0 }, { 0, 0, 0, 1 } };

/* By the taps that are in the weights. */
static double paired_tap(const struct conv3 *f, long image, int y, int x, int c, int i)
{
    double sum = 0;
    for (int k = 0; k < 4; k++)
        sum += wino_inverse[i % 3][k] *
               tap(f, image, y, x, f->weight, ((long)c * PAIRS_TAPS + k * 3 + i / 3) * f->x.c);
    return sum;
}

CUresult launch_conv3(const struct gpu *g, const struct conv3 *f, int way)
{
    int scale = f->doubled ? 2 : 1, side = f->doubled ? 2 : 3, taps = side * side;
    (void)g, (void)way;
    fake.doubled += f->doubled;
    fake.joined += f->shortcut[0].data != 0;
    fake.paired += f->pairs;
    if (fake.conv3_ms > 0)
        fake.ms = fake.conv3_ms;
    for (long p = 0; p < gview_pixels(&f->out); p++) {
        long n = p / area(&f->out);
        int y = (int)(p / f->out.w % f->out.h), x = (int)(p % f->out.w);
        int phase = f->doubled ? y % 2 * 2 + x % 2 : 0;
        for (int c = 0; c < f->out.c; c++) {
            long filter = ((long)c * scale * scale + phase) * taps;
            double sum = f->bias ? (double)fake_get(f->bias, f->x.type, c) : 0;
            for (int i = 0; i < taps; i++) {
                int from_y = y / scale - 1 + phase / 2 + i / side;
                int from_x = x / scale - 1 + phase % 2 + i % side;
                sum += f->pairs ? paired_tap(f, n, from_y, from_x, c, i)
                                : tap(f, n, from_y, from_x, f->weight, (filter + i) * f->x.c);
            }
            sum += shortcut(f, p, c);
            to(&f->out, p, c, (float)sum + (f->residual.data ? of(&f->residual, p, c) : 0));
        }
    }
    return CUDA_SUCCESS;
}

int launch_winograd_ways(const struct gpu *g, const struct winograd *f)
{
    struct conv3 c = { .x = f->x, .out = f->out, .residual = f->residual };
    return f->workspace && f->bytes ? launch_conv3_ways(g, &c) : 0;
}

/* A tap g of the filter whose G g G^T the weights are: G has a left inverse. */
static double wino_tap(const struct winograd *f, long c, long i, int tap)
{
    double sum = 0;
    for (int k = 0; k < WINOGRAD_TAPS; k++)
        sum += wino_inverse[tap / 3][k / 4] * wino_inverse[tap % 3][k % 4] *
               (double)fake_get(f->weight, f->x.type, (k * (long)f->out.c + c) * f->x.c + i);
    return sum;
}

/* By the taps that are in the weights. */
CUresult launch_winograd(const struct gpu *g, const struct winograd *f, int way)
{
    (void)g, (void)way;
    fake.winograd++;
    for (long p = 0; p < gview_pixels(&f->out); p++) {
        long n = p / area(&f->out);
        int y = (int)(p / f->out.w % f->out.h), x = (int)(p % f->out.w);
        for (int c = 0; c < f->out.c; c++) {
            double sum = f->bias ? (double)fake_get(f->bias, f->x.type, c) : 0;
            for (int t = 0; t < 9; t++) {
                int yy = y + t / 3 - 1, xx = x + t % 3 - 1;
                bool there = yy >= 0 && xx >= 0 && yy < f->x.h && xx < f->x.w;
                for (int i = 0; i < f->x.c && there; i++)
                    sum += (double)of(&f->x, (n * f->x.h + yy) * f->x.w + xx, i) *
                           wino_tap(f, c, i, t);
            }
            to(&f->out, p, c, (float)sum + (f->residual.data ? of(&f->residual, p, c) : 0));
        }
    }
    return CUDA_SUCCESS;
}

CUresult launch_pack_winograd(const struct gpu *g, CUdeviceptr from, enum dtype from_type,
                              CUdeviceptr at, enum dtype type, long cout, long cin, long all)
{
    (void)g;
    for (long i = 0; i < cout * cin; i++)
        for (int k = 0; k < WINOGRAD_TAPS; k++) {
            double sum = 0;
            for (int t = 0; t < 9; t++)
                sum += wino_g[k / 4][t / 3] * wino_g[k % 4][t % 3] *
                       (double)fake_get(from, from_type, i * 9 + t);
            fake_put(at, type, k * all * cin + i, (float)sum);
        }
    return CUDA_SUCCESS;
}

CUresult launch_pack_pairs(const struct gpu *g, CUdeviceptr from, enum dtype from_type,
                           CUdeviceptr at, enum dtype type, long cout, long cin)
{
    (void)g;
    for (long i = 0; i < cout * cin; i++)
        for (int k = 0; k < PAIRS_TAPS; k++) {
            double sum = 0;
            for (int t = 0; t < 3; t++)
                sum += wino_g[k / 3][t] * (double)fake_get(from, from_type, i * 9 + k % 3 * 3 + t);
            fake_put(at, type, (i / cin * PAIRS_TAPS + k) * cin + i % cin, (float)sum);
        }
    return CUDA_SUCCESS;
}

CUresult launch_pack_doubled(const struct gpu *g, CUdeviceptr from, enum dtype from_type,
                             CUdeviceptr at, enum dtype type, long cout, long cin)
{
    (void)g;
    for (long i = 0; i < cout * DOUBLED_TAPS * cin; i++) {
        long o = i / cin / DOUBLED_TAPS, c = i % cin;
        int t = (int)(i / cin % DOUBLED_TAPS);
        float sum = 0;
        for (int k = 0; k < 9; k++) /* row and column 1 fall on either */
            if ((k / 3 + (t / 8 == 0)) / 2 == t / 2 % 2 && (k % 3 + (t / 4 % 2 == 0)) / 2 == t % 2)
                sum += fake_get(from, from_type, (o * cin + c) * 9 + k);
        fake_put(at, type, i, sum);
    }
    return CUDA_SUCCESS;
}

CUresult launch_pack(const struct gpu *g, CUdeviceptr from, enum dtype from_type, CUdeviceptr at,
                     enum dtype type, long cout, long cin, int taps)
{
    (void)g;
    for (long o = 0; o < cout; o++)
        for (long i = 0; i < cin; i++)
            for (int t = 0; t < taps; t++)
                fake_put(at, type, (o * taps + t) * cin + i,
                         fake_get(from, from_type, (o * cin + i) * taps + t));
    return CUDA_SUCCESS;
}

CUresult launch_fold(const struct gpu *g, CUdeviceptr weight, enum dtype type, long cout, long cin,
                     CUdeviceptr gamma, CUdeviceptr beta, CUdeviceptr bias, CUdeviceptr shift)
{
    (void)g;
    for (long o = 0; o < cout; o++) {
        double mean = 0, sum = bias ? (double)fake_get(bias, DT_F32, o) : 0;
        for (long i = 0; i < cin; i++) {
            double w = fake_get(weight, type, o * cin + i);
            mean += w * fake_get(gamma, DT_F32, i) / (double)cin;
            sum += w * fake_get(beta, DT_F32, i);
        }
        for (long i = 0; i < cin; i++)
            fake_put(weight, type, o * cin + i,
                     fake_get(weight, type, o * cin + i) * fake_get(gamma, DT_F32, i) -
                         (float)mean);
        fake_put(shift, type, o, (float)sum);
    }
    return CUDA_SUCCESS;
}
