/* image/pixels: numpy's roundings, previews, and colours that match. */
#include "image/pixels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void make_noise(struct image *img, int w, int h, uint64_t x, int base, int range)
{
    assert_int_equal(image_new(img, w, h, 3, NULL), STYX_OK);
    for (size_t i = 0; i < image_bytes(img); i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        img->data[i] = (unsigned char)(base + (int)(x >> 33) % range);
    }
}

/* numpy: uint8 / float32(255) * 2 - 1 */
static void bytes_become_floats(void **state)
{
    (void)state;
    unsigned char bytes[] = { 0, 1, 77, 128, 254, 255 };
    const struct image img = { 1, 2, 3, bytes };
    float out[6];

    pixels_to_floats(&img, out);
    assert_true(out[0] == -0x1p+0f && out[1] == 0x1.0102p-8f);          /* red: 0, 128 */
    assert_true(out[2] == -0x1.fbfbfcp-1f && out[3] == 0x1.fbfbfcp-1f); /* green: 1, 254 */
    assert_true(out[4] == -0x1.959594p-2f && out[5] == 0x1p+0f);        /* blue: 77, 255 */
}

/* numpy: round(clip(x / 2 + 0.5, 0, 1) * 255), on values that land between two levels. */
static void floats_become_bytes(void **state)
{
    (void)state;
    static const struct {
        float x;
        int byte;
    } cases[] = {
        { -0x1.01010ep-7f, 126 },
        { 0.0f, 128 },
        { 0x1.252524p-1f, 200 },
        { 0x1.f9f9f6p-1f, 254 },
        { 0x1.fdfdfcp-1f, 254 },
        { -1.0f, 0 },
        { 1.0f, 255 },
        { 7.5f, 255 },
        { -3.0f, 0 },
        { INFINITY, 255 },
        { -INFINITY, 0 },
        { NAN, 0 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct image out;
        const float planes[] = { cases[i].x, 0, 0.5f, -0.5f, 1, -1 };
        assert_int_equal(pixels_from_floats(planes, 2, 1, 3, &out, NULL), STYX_OK);
        const unsigned char want[] = { (unsigned char)cases[i].byte, 191, 255, 128, 64, 0 };
        assert_memory_equal(out.data, want, 6);
        image_free(&out);
    }
}

static void every_level_survives_the_round_trip(void **state)
{
    (void)state;
    struct image img, back;
    float *floats;

    make_noise(&img, 64, 50, 3, 0, 256);
    floats = malloc(image_bytes(&img) * sizeof *floats);
    pixels_to_floats(&img, floats);
    assert_int_equal(pixels_from_floats(floats, 64, 50, 3, &back, NULL), STYX_OK);
    assert_memory_equal(back.data, img.data, image_bytes(&img));
    free(floats);
    image_free(&img);
    image_free(&back);
}

static void previews_are_linear(void **state)
{
    (void)state;
    const float latent[8] = { 0, 1, 0, -2, 0, 0.5f, 0, 0 }; /* two pixels of four channels */
    struct image out;

    assert_int_equal(pixels_preview(latent, 2, 1, &LATENT_COLOURS_SDXL, &out, NULL), STYX_OK);
    assert_true(out.w == 2 && out.h == 1 && out.channels == 3);
    const unsigned char sdxl[] = { 150, 140, 130, 255, 218, 168 };
    assert_memory_equal(out.data, sdxl, 6);
    image_free(&out);
    assert_int_equal(pixels_preview(latent, 2, 1, &LATENT_COLOURS_SD15, &out, NULL), STYX_OK);
    const unsigned char sd15[] = { 128, 128, 128, 108, 93, 127 };
    assert_memory_equal(out.data, sd15, 6);
    image_free(&out);
}

/* Mean and standard deviation of a channel. */
static void measure(const struct image *img, int channel, double *mean, double *spread)
{
    size_t n = image_bytes(img) / 3;
    double sum = 0, squares = 0;

    for (size_t i = 0; i < n; i++) {
        double v = img->data[3 * i + (size_t)channel];
        sum += v;
        squares += v * v;
    }
    *mean = sum / (double)n;
    *spread = sqrt(squares / (double)n - *mean * *mean);
}

static void colours_match(void **state)
{
    (void)state;
    struct image img, same, reference;

    make_noise(&reference, 60, 50, 1, 90, 60);
    make_noise(&img, 40, 40, 2, 60, 40);
    for (size_t i = 0; i < image_bytes(&img); i += 3)
        img.data[i] = (unsigned char)(img.data[i] + 20); /* a red cast */
    assert_int_equal(pixels_match_colours(&img, &reference, NULL), STYX_OK);
    for (int c = 0; c < 3; c++) {
        double mean, spread, want_mean, want_spread;
        measure(&img, c, &mean, &spread);
        measure(&reference, c, &want_mean, &want_spread);
        assert_true(fabs(mean - want_mean) < 2.5);
        assert_true(fabs(spread - want_spread) < 3.5);
    }
    image_free(&img);

    /* A picture matched to itself stays, but for the rounding of the way there and back. */
    make_noise(&img, 40, 40, 5, 0, 256);
    make_noise(&same, 40, 40, 5, 0, 256);
    assert_int_equal(pixels_match_colours(&img, &same, NULL), STYX_OK);
    for (size_t i = 0; i < image_bytes(&img); i++)
        assert_true(abs(img.data[i] - same.data[i]) <= 1);

    /* A flat one has no spread to scale. */
    memset(same.data, 100, image_bytes(&same));
    assert_int_equal(pixels_match_colours(&same, &reference, NULL), STYX_OK);
    assert_memory_equal(same.data, same.data + 3, image_bytes(&same) - 3);
    image_free(&img);
    image_free(&same);
    image_free(&reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_become_floats),
        cmocka_unit_test(floats_become_bytes),
        cmocka_unit_test(every_level_survives_the_round_trip),
        cmocka_unit_test(previews_are_linear),
        cmocka_unit_test(colours_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
