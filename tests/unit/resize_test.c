/* image/resize: PIL's bytes (hashes made by tests/data/image/make.py), torch's nearest floats. */
#include "image/resize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void make_noise(struct image *img, uint64_t x)
{
    for (size_t i = 0; i < image_bytes(img); i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        img->data[i] = (unsigned char)(x >> 56);
    }
}

static void pictures_are_those_of_pil(void **state)
{
    (void)state;
    static const struct {
        int w, h, channels, new_w, new_h, filter, black_and_white;
        const char *hash;
    } cases[] = {
#include "data/image/resize.h"
    };
    const size_t ncases = sizeof cases / sizeof *cases;

    assert_int_equal(ncases, 200);
    for (size_t i = 0; i < ncases; i++) {
        struct image in, out;
        char hex[SHA256_HEX];
        assert_int_equal(image_new(&in, cases[i].w, cases[i].h, cases[i].channels, NULL), 0);
        make_noise(&in, i + 5);
        for (size_t k = 0; cases[i].black_and_white && k < image_bytes(&in); k++)
            in.data[k] = in.data[k] >> 7 ? 255 : 0;
        assert_int_equal(image_resize(&in, cases[i].new_w, cases[i].new_h,
                                      (enum resize_filter)cases[i].filter, &out, NULL),
                         STYX_OK);
        sha256_hex(out.data, image_bytes(&out), hex);
        hex[16] = '\0';
        if (strcmp(hex, cases[i].hash))
            fail_msg("case %zu: %d x %d to %d x %d with filter %d differs", i, in.w, in.h, out.w,
                     out.h, cases[i].filter);
        image_free(&in);
        image_free(&out);
    }
}

static void the_same_size_is_a_copy(void **state)
{
    (void)state;
    struct image in, out;

    assert_int_equal(image_new(&in, 7, 5, 4, NULL), STYX_OK);
    make_noise(&in, 1);
    assert_int_equal(image_resize(&in, 7, 5, RESIZE_LANCZOS, &out, NULL), STYX_OK);
    assert_ptr_not_equal(in.data, out.data);
    assert_memory_equal(in.data, out.data, image_bytes(&in));
    image_free(&out);
    assert_int_equal(image_resize(&in, 0, 5, RESIZE_LANCZOS, &out, NULL), STYX_ERR_INVALID);
    assert_null(out.data);
    assert_int_equal(image_resize(&in, 1 << 20, 1 << 20, RESIZE_BOX, &out, NULL), STYX_ERR_INVALID);
    image_free(&in);
}

/* Indices by torch 2.15's interpolate(arange(in), size=out, mode="nearest"). */
static void floats_are_those_of_torch(void **state)
{
    (void)state;
    static const struct {
        int in, out;
        float want[14];
    } cases[] = {
        { 3, 7, { 0, 0, 0, 1, 1, 2, 2 } },
        { 7, 3, { 0, 2, 4 } },
        { 10, 7, { 0, 1, 2, 4, 5, 7, 8 } },
        { 7, 14, { 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6 } },
        { 5, 5, { 0, 1, 2, 3, 4 } },
        { 29, 14, { 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26 } },
    };
    static const float source[30] = { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14,
                                      15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29 };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float out[14];
        size_t bytes = (size_t)cases[i].out * sizeof *out;
        floats_resize_nearest(source, 1, 1, cases[i].in, out, 1, cases[i].out);
        assert_memory_equal(out, cases[i].want, bytes);
        floats_resize_nearest(source, 1, cases[i].in, 1, out, cases[i].out, 1);
        assert_memory_equal(out, cases[i].want, bytes);
    }
    float planes[8];
    floats_resize_nearest(source, 2, 2, 3, planes, 1, 2);
    assert_true(planes[0] == 0 && planes[1] == 1 && planes[2] == 6 && planes[3] == 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_those_of_pil),
        cmocka_unit_test(the_same_size_is_a_copy),
        cmocka_unit_test(floats_are_those_of_torch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
