#include "image/pixels.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void pixels_to_floats(const struct image *img, float *out)
{
    size_t n = (size_t)img->w * (size_t)img->h, channels = (size_t)img->channels;
    float value[256];

    for (int i = 0; i < 256; i++)
        value[i] = 2.0f * ((float)i / 255.0f) - 1.0f;
    for (size_t c = 0; c < channels; c++)
        for (size_t i = 0; i < n; i++)
            *out++ = value[img->data[i * channels + c]];
}

/* 0 for NaN, because all its comparisons are false. */
static float unit(float x)
{
    return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
}

enum { RUN = 256 }; /* pixels at a time; their loops are made of vectors */

/* To nearest, ties to even, as nearbyintf does: above 2^23 a float's last bit is worth 1, so that
 * the byte is the last of its bits. */
static inline unsigned char to_byte(float x)
{
    float rounded = unit(x) * 255.0f + 0x1p23f;
    uint32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    return (unsigned char)bits;
}

static void to_bytes(const float *x, size_t n, float scale, float shift, unsigned char *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = to_byte(x[i] * scale + shift);
}

static inline void interleave(unsigned char planes[][RUN], size_t n, size_t channels,
                              unsigned char *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < channels; c++)
            out[i * channels + c] = planes[c][i];
}

int pixels_from_floats(const float *planes, int w, int h, int channels, struct image *out,
                       styx_error *err)
{
    int rc = image_new(out, w, h, channels, err);

    if (rc)
        return rc;
    size_t n = (size_t)w * (size_t)h, each = (size_t)channels;
    for (size_t at = 0; at < n; at += RUN) {
        unsigned char bytes[4][RUN];
        size_t m = n - at < RUN ? n - at : RUN;
        for (size_t c = 0; c < each; c++)
            to_bytes(planes + c * n + at, m, 0.5f, 0.5f, bytes[c]);
        if (channels == 3) /* with a constant there is no inner loop */
            interleave(bytes, m, 3, out->data + 3 * at);
        else
            interleave(bytes, m, each, out->data + each * at);
    }
    return STYX_OK;
}

/* Keturn, "Decoding latents to RGB without upscaling", Hugging Face forum, 2022 (topic 23204): a
 * least-squares fit of SD 1.4's decoder to [-1, 1], here halved and shifted to [0, 1]. */
const struct latent_colours LATENT_COLOURS_SD15 = {
    { { 0.1490f, 0.1035f, 0.1040f },
      { 0.0935f, 0.1430f, 0.0865f },
      { -0.0790f, 0.0945f, 0.1320f },
      { -0.0920f, -0.1355f, -0.2365f } },
    { 0.5f, 0.5f, 0.5f },
};

/* T. A. Vass, "Explaining the SDXL latent space", Hugging Face blog, 2024: (60, -60, 25, -70) and
 * so on, plus (150, 140, 130), of 255. */
const struct latent_colours LATENT_COLOURS_SDXL = {
    { { 60 / 255.0f, 60 / 255.0f, 60 / 255.0f },
      { -60 / 255.0f, -5 / 255.0f, 10 / 255.0f },
      { 25 / 255.0f, 15 / 255.0f, -5 / 255.0f },
      { -70 / 255.0f, -50 / 255.0f, -35 / 255.0f } },
    { 150 / 255.0f, 140 / 255.0f, 130 / 255.0f },
};

int pixels_preview(const float *latent, int w, int h, const struct latent_colours *colours,
                   struct image *out, styx_error *err)
{
    int rc = image_new(out, w, h, 3, err);

    if (rc)
        return rc;
    size_t n = (size_t)w * (size_t)h;
    for (size_t at = 0; at < n; at += RUN) {
        unsigned char bytes[3][RUN];
        float x[RUN];
        size_t m = n - at < RUN ? n - at : RUN;
        for (size_t c = 0; c < 3; c++) {
            for (size_t i = 0; i < m; i++) {
                x[i] = colours->bias[c];
                for (size_t k = 0; k < 4; k++)
                    x[i] += colours->factor[k][c] * latent[k * n + at + i];
            }
            to_bytes(x, m, 1, 0, bytes[c]);
        }
        interleave(bytes, m, 3, out->data + 3 * at);
    }
    return STYX_OK;
}

/* IEC 61966-2-1: sRGB's matrix to XYZ, divided by the white point D65 row by row, and its inverse.
 */
static const float TO_XYZ[3][3] = { { 0.4338873f, 0.3762240f, 0.1898886f },
                                    { 0.2126390f, 0.7151687f, 0.0721923f },
                                    { 0.0177500f, 0.1094476f, 0.8728023f } };
static const float FROM_XYZ[3][3] = { { 3.0803991f, -1.5373832f, -0.5430159f },
                                      { -0.9212234f, 1.8759675f, 0.0452559f },
                                      { 0.0528739f, -0.2039770f, 1.1511030f } };

static void multiply(const float m[3][3], const float in[3], float out[3])
{
    for (int i = 0; i < 3; i++)
        out[i] = m[i][0] * in[0] + m[i][1] * in[1] + m[i][2] * in[2];
}

static float linear_of(int byte)
{
    float x = (float)byte / 255.0f;

    return x <= 0.04045f ? x / 12.92f : powf((x + 0.055f) / 1.055f, 2.4f);
}

static float srgb_of(float x)
{
    return x <= 0.0031308f ? x * 12.92f : 1.055f * powf(x, 1 / 2.4f) - 0.055f;
}

/* CIE 15: f and its inverse, with the threshold (6/29)^3 and the slope of the linear part. */
static float lab_f(float t)
{
    return t > 0.008856452f ? cbrtf(t) : t * 7.787037f + 4 / 29.0f;
}

static float lab_f_inverse(float t)
{
    return t > 6 / 29.0f ? t * t * t : (t - 4 / 29.0f) / 7.787037f;
}

static void to_lab(const unsigned char rgb[3], const float linear[256], float lab[3])
{
    const float light[3] = { linear[rgb[0]], linear[rgb[1]], linear[rgb[2]] };
    float xyz[3];

    multiply(TO_XYZ, light, xyz);
    float x = lab_f(xyz[0]), y = lab_f(xyz[1]), z = lab_f(xyz[2]);
    lab[0] = 116 * y - 16;
    lab[1] = 500 * (x - y);
    lab[2] = 200 * (y - z);
}

static void from_lab(const float lab[3], unsigned char rgb[3])
{
    float y = (lab[0] + 16) / 116, light[3];
    const float xyz[3] = { lab_f_inverse(y + lab[1] / 500), lab_f_inverse(y),
                           lab_f_inverse(y - lab[2] / 200) };

    multiply(FROM_XYZ, xyz, light);
    for (int c = 0; c < 3; c++)
        rgb[c] = to_byte(srgb_of(unit(light[c])));
}

/* Mean and standard deviation of each channel. */
static void measure(const struct image *img, const float linear[256], double mean[3],
                    double spread[3])
{
    size_t n = (size_t)img->w * (size_t)img->h;
    double sum[3] = { 0, 0, 0 }, squares[3] = { 0, 0, 0 };
    float lab[3];

    for (size_t i = 0; i < n; i++) {
        to_lab(img->data + 3 * i, linear, lab);
        for (int c = 0; c < 3; c++) {
            sum[c] += lab[c];
            squares[c] += (double)lab[c] * lab[c];
        }
    }
    for (int c = 0; c < 3; c++) {
        mean[c] = sum[c] / (double)n;
        double variance = squares[c] / (double)n - mean[c] * mean[c];
        spread[c] = variance > 0 ? sqrt(variance) : 0;
    }
}

int pixels_match_colours(struct image *img, const struct image *reference, styx_error *err)
{
    double mean[3], spread[3], want_mean[3], want_spread[3];
    float linear[256], lab[3];

    if (img->channels != 3 || reference->channels != 3)
        return fail(err, STYX_ERR_INVALID,
                    "colours are matched between RGB pictures, not with %d "
                    "and %d channels",
                    img->channels, reference->channels);
    for (int i = 0; i < 256; i++)
        linear[i] = linear_of(i);
    measure(img, linear, mean, spread);
    measure(reference, linear, want_mean, want_spread);
    size_t n = (size_t)img->w * (size_t)img->h;
    for (size_t i = 0; i < n; i++) {
        unsigned char *p = img->data + 3 * i;
        to_lab(p, linear, lab);
        for (int c = 0; c < 3; c++) {
            double gain = spread[c] > 1e-3 ? want_spread[c] / spread[c] : 1; /* flat stays flat */
            lab[c] = (float)((lab[c] - mean[c]) * gain + want_mean[c]);
        }
        from_lab(lab, p);
    }
    return STYX_OK;
}
