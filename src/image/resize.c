/* Two passes, rows before columns, each a weighted sum of neighbours in fixed point with 22 bits of
 * fraction, rounded to 8 bits in between: PIL's resampling, number by number, because what
 * diffusers computes from a resized picture depends on every one of its bits. When shrinking, the
 * filter is stretched by the ratio, so that every input pixel counts (no aliasing). */
#include "image/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FRACTION_BITS = 32 - 8 - 2 }; /* 8 bits of pixel, 2 for the overshoot of negative lobes */

/* The weights of one axis: output i is the sum of count[i] inputs from first[i] on. */
struct weights {
    int n, room, *first, *count;
    int32_t *value; /* n rows of room */
};

static double box(double x)
{
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Keys, "Cubic convolution interpolation", 1981, with a = -1/2. */
static double bicubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

static double sinc(double x)
{
    if (x == 0.0)
        return 1.0;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos(double x)
{
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

static const struct {
    double (*f)(double);
    double support; /* f is 0 beyond */
} filters[] = {
    [RESIZE_BOX] = { box, 0.5 },
    [RESIZE_BILINEAR] = { bilinear, 1.0 },
    [RESIZE_BICUBIC] = { bicubic, 2.0 },
    [RESIZE_LANCZOS] = { lanczos, 3.0 },
};

static void weights_free(struct weights *w)
{
    free(w->first);
    free(w->count);
    free(w->value);
}

/* One output's weights, scaled to a sum of 1 and rounded half away from zero. */
static void weigh(enum resize_filter filter, double center, double stretch, int in, double *real,
                  struct weights *w, int i)
{
    double support = filters[filter].support * stretch, inverse = 1.0 / stretch, sum = 0.0;
    int lo = (int)(center - support + 0.5), hi = (int)(center + support + 0.5);

    lo = lo < 0 ? 0 : lo;
    hi = hi > in ? in : hi;
    w->first[i] = lo;
    w->count[i] = hi - lo;
    for (int k = 0; k < hi - lo; k++) {
        real[k] = filters[filter].f((k + lo - center + 0.5) * inverse);
        sum += real[k];
    }
    for (int k = 0; k < hi - lo; k++) {
        double v = (sum != 0.0 ? real[k] / sum : real[k]) * (1 << FRACTION_BITS);
        w->value[(size_t)i * (size_t)w->room + (size_t)k] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
    }
}

static int weights_new(struct weights *w, enum resize_filter filter, int in, int out,
                       styx_error *err)
{
    double ratio = (double)in / out, stretch = ratio < 1.0 ? 1.0 : ratio;
    size_t n = (size_t)out;

    *w = (struct weights){ .n = out };
    w->room = (int)ceil(filters[filter].support * stretch) * 2 + 1;
    w->first = malloc(n * sizeof *w->first);
    w->count = malloc(n * sizeof *w->count);
    w->value = malloc(n * (size_t)w->room * sizeof *w->value);
    double *real = malloc((size_t)w->room * sizeof *real);
    if (w->first && w->count && w->value && real) {
        for (int i = 0; i < out; i++)
            weigh(filter, (i + 0.5) * ratio, stretch, in, real, w, i);
        free(real);
        return STYX_OK;
    }
    free(real);
    return fail_nomem(err, n * (size_t)w->room * sizeof *w->value);
}

static unsigned char clip(int32_t sum)
{
    sum >>= FRACTION_BITS;
    return (unsigned char)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void sum_rows(const struct image *in, const struct weights *w, struct image *out)
{
    int c = in->channels;

    for (int y = 0; y < in->h; y++) {
        const unsigned char *row = in->data + (size_t)y * (size_t)in->w * (size_t)c;
        unsigned char *to = out->data + (size_t)y * (size_t)out->w * (size_t)c;
        for (int i = 0; i < w->n; i++) {
            const int32_t *k = w->value + (size_t)i * (size_t)w->room;
            const unsigned char *p = row + (size_t)w->first[i] * (size_t)c;
            int32_t sum[4];
            for (int j = 0; j < 4; j++)
                sum[j] = 1 << (FRACTION_BITS - 1);
            for (int x = 0; x < w->count[i]; x++)
                for (int j = 0; j < c; j++)
                    sum[j] += *p++ * k[x];
            for (int j = 0; j < c; j++)
                *to++ = clip(sum[j]);
        }
    }
}

/* Whole rows at a time: the inner loop runs over memory in order. */
static int sum_columns(const struct image *in, const struct weights *w, struct image *out,
                       styx_error *err)
{
    size_t stride = (size_t)in->w * (size_t)in->channels;
    int32_t *sum = malloc(stride * sizeof *sum);

    if (!sum)
        return fail_nomem(err, stride * sizeof *sum);
    for (int i = 0; i < w->n; i++) {
        const int32_t *k = w->value + (size_t)i * (size_t)w->room;
        for (size_t x = 0; x < stride; x++)
            sum[x] = 1 << (FRACTION_BITS - 1);
        for (int y = 0; y < w->count[i]; y++) {
            const unsigned char *p = in->data + (size_t)(w->first[i] + y) * stride;
            for (size_t x = 0; x < stride; x++)
                sum[x] += p[x] * k[y];
        }
        for (size_t x = 0; x < stride; x++)
            out->data[(size_t)i * stride + x] = clip(sum[x]);
    }
    free(sum);
    return STYX_OK;
}

/* PIL steps through the source by adding the ratio, so that its rounding errors add up too. */
static void nearest_index(int in, int out, int *index)
{
    double ratio = (double)in / out, at = ratio * 0.5;

    for (int i = 0; i < out; i++, at += ratio)
        index[i] = at < in ? (int)at : in - 1;
}

static int resize_nearest(const struct image *in, struct image *out, styx_error *err)
{
    size_t c = (size_t)in->channels, n = (size_t)out->w + (size_t)out->h;
    int *xs = malloc(n * sizeof *xs), *ys = xs + out->w;
    unsigned char *to = out->data;

    if (!xs)
        return fail_nomem(err, n * sizeof *xs);
    nearest_index(in->w, out->w, xs);
    nearest_index(in->h, out->h, ys);
    for (int y = 0; y < out->h; y++)
        for (int x = 0; x < out->w; x++, to += c)
            memcpy(to, in->data + ((size_t)ys[y] * (size_t)in->w + (size_t)xs[x]) * c, c);
    free(xs);
    return STYX_OK;
}

static int resample(const struct image *in, enum resize_filter filter, struct image *out,
                    styx_error *err)
{
    struct weights across = { 0 }, down = { 0 };
    struct image middle = { 0 };
    const struct image *from = in;
    int rc = STYX_OK;

    if (in->w != out->w) {
        struct image *to = in->h == out->h ? out : &middle;
        if ((rc = weights_new(&across, filter, in->w, out->w, err)) ||
            (to == &middle && (rc = image_new(to, out->w, in->h, in->channels, err))))
            goto done;
        sum_rows(in, &across, to);
        from = to;
    }
    if (in->h != out->h && !(rc = weights_new(&down, filter, in->h, out->h, err)))
        rc = sum_columns(from, &down, out, err);
done:
    weights_free(&across);
    weights_free(&down);
    image_free(&middle);
    return rc;
}

int image_resize(const struct image *in, int w, int h, enum resize_filter filter, struct image *out,
                 styx_error *err)
{
    int rc = image_new(out, w, h, in->channels, err);

    if (rc)
        return rc;
    if (in->w == w && in->h == h)
        memcpy(out->data, in->data, image_bytes(in));
    else if (filter == RESIZE_NEAREST)
        rc = resize_nearest(in, out, err);
    else
        rc = resample(in, filter, out, err);
    if (rc)
        image_free(out);
    return rc;
}

/* The source of output i: torch doubles exactly and else multiplies in single precision. */
static int nearest_source(int i, int in, int out)
{
    if (out == in)
        return i;
    if (out == 2 * in)
        return i >> 1;
    int source = (int)floorf((float)i * ((float)in / (float)out));
    return source < in ? source : in - 1;
}

void floats_resize_nearest(const float *in, int nplanes, int in_h, int in_w, float *out, int out_h,
                           int out_w)
{
    for (int p = 0; p < nplanes; p++, in += (size_t)in_h * (size_t)in_w)
        for (int y = 0; y < out_h; y++) {
            const float *row = in + (size_t)nearest_source(y, in_h, out_h) * (size_t)in_w;
            for (int x = 0; x < out_w; x++)
                *out++ = row[nearest_source(x, in_w, out_w)];
        }
}
