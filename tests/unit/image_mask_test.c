/* image/mask: PIL's grey, diffusers' mask, and pixels that stay where nothing is painted. */
#include "image/mask.h"

#include <stdlib.h>
#include <string.h>

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void fill(struct image *img, int w, int h, int channels, unsigned seed)
{
    assert_int_equal(image_new(img, w, h, channels, NULL), STYX_OK);
    for (size_t i = 0; i < image_bytes(img); i++)
        img->data[i] = (unsigned char)((i * 2654435761u + seed * 40503u) >> 13);
}

static void grey_is_that_of_pil(void **state)
{
    (void)state;
    unsigned char rgb[] = { 255, 0,   0,   0,   255, 0,   0,   0,   255, 1,   2,  3,   200, 100,
                            50,  127, 128, 129, 128, 128, 128, 255, 255, 255, 13, 250, 77 };
    static const unsigned char want[] = { 76, 150, 29, 2, 124, 128, 128, 255, 159 };
    const struct image img = { 3, 3, 3, rgb };
    struct image grey, copy;

    assert_int_equal(mask_from_image(&img, &grey, NULL), STYX_OK);
    assert_int_equal(grey.channels, 1);
    assert_memory_equal(grey.data, want, sizeof want);
    assert_int_equal(mask_from_image(&grey, &copy, NULL), STYX_OK);
    assert_memory_equal(copy.data, want, sizeof want);
    image_free(&copy);
    assert_int_equal(mask_from_opacity(&grey, &copy, NULL), STYX_OK);
    for (size_t i = 0; i < sizeof want; i++)
        assert_int_equal(copy.data[i], 255 - want[i]);
    image_free(&copy);
    image_free(&grey);
}

static void masks_are_cut_at_one_half(void **state)
{
    (void)state;
    unsigned char grey[] = { 0, 127, 128, 255 };
    const struct image img = { 2, 2, 1, grey };
    float out[64];
    int white = 0;

    assert_int_equal(mask_to_floats(&img, 2, 2, out, NULL), STYX_OK);
    assert_true(out[0] == 0 && out[1] == 0 && out[2] == 1 && out[3] == 1);

    /* Enlarged, and still nothing but 0 and 1: the lower half is white. */
    unsigned char halves[] = { 0, 0, 255, 255 };
    const struct image edge = { 2, 2, 1, halves };
    assert_int_equal(mask_to_floats(&edge, 8, 8, out, NULL), STYX_OK);
    for (int i = 0; i < 64; i++) {
        assert_true(out[i] == 0 || out[i] == 1);
        white += out[i] == 1;
    }
    assert_int_equal(white, 32);
}

static void pixels_outside_stay(void **state)
{
    (void)state;
    enum { W = 37, H = 29 };
    struct image original, painted, mask, result;

    fill(&original, W, H, 3, 1);
    fill(&painted, W, H, 3, 2);
    fill(&mask, W, H, 1, 3);
    for (int y = 0; y < H; y++) /* a disc that reaches over the left edge */
        for (int x = 0; x < W; x++)
            mask.data[y * W + x] = (x - 8) * (x - 8) + (y - 14) * (y - 14) < 100 ? 255 : 127;
    for (int feather = 0; feather <= 5; feather += 5) {
        fill(&result, W, H, 3, 2);
        assert_int_equal(mask_paste(&original, &mask, feather, &result, NULL), STYX_OK);
        for (int i = 0; i < W * H; i++)
            for (int c = 0; c < 3; c++) {
                int k = 3 * i + c, a = original.data[k], b = painted.data[k], r = result.data[k];
                if (mask.data[i] < 128)
                    assert_int_equal(r, a);
                else if (!feather || i == 14 * W ||
                         i == 14 * W + 8) /* the picture's edge is none */
                    assert_int_equal(r, b);
                else
                    assert_true((a <= r && r <= b) || (b <= r && r <= a));
            }
        image_free(&result);
    }
    image_free(&original);
    image_free(&painted);
    image_free(&mask);
}

/* Straight edge: the share of the new picture is distance / (feather + 1). */
static void feathers_are_linear(void **state)
{
    (void)state;
    unsigned char black[10] = { 0 }, white[10], edge[10];
    const struct image original = { 10, 1, 1, black }, mask = { 10, 1, 1, edge };
    struct image painted = { 10, 1, 1, white };
    static const unsigned char want[10] = { 0, 0, 50, 100, 150, 200, 200, 200, 200, 200 };

    memset(white, 200, sizeof white);
    for (int i = 0; i < 10; i++)
        edge[i] = i < 2 ? 0 : 255;
    assert_int_equal(mask_paste(&original, &mask, 3, &painted, NULL), STYX_OK);
    assert_memory_equal(white, want, sizeof want);
}

static void other_sizes_are_refused(void **state)
{
    (void)state;
    struct image original, painted, mask;
    styx_error err = { 0 };

    fill(&original, 4, 4, 3, 1);
    fill(&painted, 4, 4, 3, 2);
    fill(&mask, 4, 5, 1, 3);
    assert_int_equal(mask_paste(&original, &mask, 0, &painted, &err), STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "a mask of 4 x 5"));
    mask.h = 4;
    assert_int_equal(mask_paste(&original, &mask, -1, &painted, &err), STYX_ERR_INVALID);
    assert_int_equal(mask_paste(&original, &mask, 1 << 20, &painted, &err), STYX_ERR_INVALID);
    image_free(&original);
    image_free(&painted);
    image_free(&mask);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grey_is_that_of_pil),     cmocka_unit_test(masks_are_cut_at_one_half),
        cmocka_unit_test(pixels_outside_stay),     cmocka_unit_test(feathers_are_linear),
        cmocka_unit_test(other_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
