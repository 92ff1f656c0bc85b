#include "image/mask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "image/resize.h"

enum { WHITE = 128 /* 127 / 255 < 0.5 <= 128 / 255 */ };

static unsigned char luma(const unsigned char *rgb)
{
    return (unsigned char)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

int mask_from_image(const struct image *img, struct image *mask, styx_error *err)
{
    size_t channels = (size_t)img->channels;
    int rc = image_new(mask, img->w, img->h, 1, err);

    if (rc)
        return rc;
    for (size_t i = 0; i < image_bytes(mask); i++) {
        const unsigned char *p = img->data + i * channels;
        mask->data[i] = channels < 3 ? *p : luma(p);
    }
    return STYX_OK;
}

int mask_from_opacity(const struct image *opacity, struct image *mask, styx_error *err)
{
    int rc = image_new(mask, opacity->w, opacity->h, 1, err);

    for (size_t i = 0; !rc && i < image_bytes(mask); i++)
        mask->data[i] = 255 - opacity->data[i];
    return rc;
}

int mask_to_floats(const struct image *img, int w, int h, float *out, styx_error *err)
{
    struct image sized = { 0 }, grey = { 0 };
    int rc = image_resize(img, w, h, RESIZE_LANCZOS, &sized, err);

    if (!rc)
        rc = mask_from_image(&sized, &grey, err);
    for (size_t i = 0; !rc && i < image_bytes(&grey); i++)
        out[i] = grey.data[i] >= WHITE;
    image_free(&sized);
    image_free(&grey);
    return rc;
}

/* For every white pixel the distance to the nearest black one, up to limit, and 0 for black ones:
 * first within columns, then the smallest hypotenuse within rows. What lies beyond the picture is
 * no edge. */
static void distances(const struct image *mask, int limit, int *column, float *out)
{
    int w = mask->w, h = mask->h;

    for (int x = 0; x < w; x++) {
        int d = limit;
        for (int y = 0; y < h; y++) {
            size_t i = (size_t)y * (size_t)w + (size_t)x;
            d = mask->data[i] < WHITE ? 0 : d < limit ? d + 1 : limit;
            column[i] = d;
        }
        d = limit;
        for (int y = h - 1; y >= 0; y--) {
            size_t i = (size_t)y * (size_t)w + (size_t)x;
            d = mask->data[i] < WHITE ? 0 : d < limit ? d + 1 : limit;
            column[i] = d < column[i] ? d : column[i];
        }
    }
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const int *row = column + (size_t)y * (size_t)w;
            int best = limit * limit;
            int lo = x - limit > 0 ? x - limit : 0, hi = x + limit < w - 1 ? x + limit : w - 1;
            for (int k = lo; k <= hi && best; k++) {
                int d = (x - k) * (x - k) + row[k] * row[k];
                best = d < best ? d : best;
            }
            *out++ = sqrtf((float)best);
        }
}

/* How much of the new picture each pixel takes: 0 outside, rising to 1 inside. */
static int weights(const struct image *mask, int feather, float *weight, styx_error *err)
{
    size_t n = image_bytes(mask);

    if (!feather) {
        for (size_t i = 0; i < n; i++)
            weight[i] = mask->data[i] >= WHITE;
        return STYX_OK;
    }
    int *column = malloc(n * sizeof *column);
    if (!column)
        return fail_nomem(err, n * sizeof *column);
    distances(mask, feather + 1, column, weight);
    for (size_t i = 0; i < n; i++)
        weight[i] /= (float)(feather + 1);
    free(column);
    return STYX_OK;
}

int mask_paste(const struct image *original, const struct image *mask, int feather,
               struct image *painted, styx_error *err)
{
    enum { MAX_FEATHER = 1024 };
    int w = original->w, h = original->h;
    size_t n = (size_t)w * (size_t)h, channels = (size_t)original->channels;

    if (mask->w != w || mask->h != h || mask->channels != 1 || painted->w != w || painted->h != h ||
        painted->channels != original->channels)
        return fail(err, STYX_ERR_INVALID,
                    "a picture of %d x %d, a mask of %d x %d and a result of %d x %d pixels do not "
                    "lie over each other",
                    w, h, mask->w, mask->h, painted->w, painted->h);
    if (feather < 0 || feather > MAX_FEATHER)
        return fail(err, STYX_ERR_INVALID,
                    "a feather of %d pixels was asked for; 0 to %d is "
                    "possible",
                    feather, MAX_FEATHER);
    float *weight = malloc(n * sizeof *weight);
    if (!weight)
        return fail_nomem(err, n * sizeof *weight);
    int rc = weights(mask, feather, weight, err);
    for (size_t i = 0; !rc && i < n * channels; i++) {
        float a = weight[i / channels];
        float mixed = (float)original->data[i] * (1 - a) + (float)painted->data[i] * a;
        painted->data[i] = a == 0   ? original->data[i]
                           : a == 1 ? painted->data[i]
                                    : (unsigned char)nearbyintf(mixed);
    }
    free(weight);
    return rc;
}
