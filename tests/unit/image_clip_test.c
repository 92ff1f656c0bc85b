/* image/clipvision: transformers' pixel values, and configs that are refused. */
#include "image/clipvision.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Values by transformers 5.17's CLIPImageProcessor (its PIL backend) on the same noise. */
static void values_are_those_of_transformers(void **state)
{
    (void)state;
    static const struct {
        int w, h, c, y, x;
        float want;
    } cases[] = {
        { 40, 30, 0, 0, 0, 1.2442101f },      { 40, 30, 0, 5, 7, 0.8646511f },
        { 40, 30, 1, 100, 200, 1.02434f },    { 40, 30, 2, 223, 223, 0.5816899f },
        { 40, 30, 2, 111, 3, 0.93719155f },   { 20, 50, 0, 0, 0, -0.31782144f },
        { 20, 50, 0, 5, 7, -1.1499318f },     { 20, 50, 1, 100, 200, -0.5664834f },
        { 20, 50, 2, 223, 223, 0.21196808f }, { 20, 50, 2, 111, 3, 0.15508783f },
    };
    float *out = malloc(3 * 224 * 224 * sizeof *out);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct image img;
        uint64_t x = 1;
        assert_int_equal(image_new(&img, cases[i].w, cases[i].h, 3, NULL), STYX_OK);
        for (size_t k = 0; k < image_bytes(&img); k++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            img.data[k] = (unsigned char)(x >> 56);
        }
        assert_int_equal(clip_preprocess(&CLIP_PROCESSOR, &img, out, NULL), STYX_OK);
        float got = out[(cases[i].c * 224 + cases[i].y) * 224 + cases[i].x];
        assert_true(fabsf(got - cases[i].want) < 1e-6f);
        image_free(&img);
    }
    free(out);
}

static void narrow_pictures_are_refused(void **state)
{
    (void)state;
    struct image img;
    float out[1];
    styx_error err = { 0 };

    assert_int_equal(image_new(&img, 1, 100000, 3, NULL), STYX_OK);
    assert_int_equal(clip_preprocess(&CLIP_PROCESSOR, &img, out, &err), STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "1 x 100000"));
    img.channels = 1;
    assert_int_equal(clip_preprocess(&CLIP_PROCESSOR, &img, out, &err), STYX_ERR_INVALID);
    image_free(&img);
}

static int load(const char *text, struct clip_processor *p, styx_error *err)
{
    char path[] = "/tmp/styx-clip-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(file_write(path, text, strlen(text), FILE_REPLACE, NULL), STYX_OK);
    int rc = clip_processor_load(path, p, err);
    unlink(path);
    return rc;
}

static void configs_are_read(void **state)
{
    (void)state;
    struct clip_processor p;
    styx_error err = { 0 };

    assert_int_equal(load("{}", &p, &err), STYX_OK);
    assert_memory_equal(&p, &CLIP_PROCESSOR, sizeof p);
    assert_int_equal(load("{\"size\": 30, \"crop_size\": 28, \"resample\": 3, \"do_resize\": true,"
                          "\"image_mean\": [0.1, 0.2, 0.3], \"image_std\": [1, 2, 4]}",
                          &p, &err),
                     STYX_OK);
    assert_true(p.shortest_edge == 30 && p.crop_w == 28 && p.crop_h == 28);
    assert_true(p.mean[1] == 0.2f && p.std[2] == 4);
    assert_int_equal(
        load("{\"size\": {\"shortest_edge\": 32}, \"rescale_factor\": 0.00392156862745098,"
             " \"crop_size\": {\"width\": 30, \"height\": 28}}",
             &p, &err),
        STYX_OK);
    assert_true(p.shortest_edge == 32 && p.crop_w == 30 && p.crop_h == 28);
}

static void other_processing_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *json, *message;
    } cases[] = {
        { "{\"do_center_crop\": false}", "'do_center_crop' is false" },
        { "{\"resample\": 2}", "'resample' is 2" },
        { "{\"rescale_factor\": 1}", "'rescale_factor' is 1" },
        { "{\"size\": {\"width\": 224, \"height\": 224}}", "no 'shortest_edge'" },
        { "{\"size\": 100}", "would need a border" },
        { "{\"size\": 0}", "'size' is 0" },
        { "{\"crop_size\": \"x\"}", "'crop_size'" },
        { "{\"image_mean\": [1, 2]}", "'image_mean' must be three numbers" },
        { "{\"image_std\": [1, 0, 1]}", "'image_std' must be positive" },
        { "[]", "list" },
    };
    struct clip_processor p;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        styx_error err = { 0 };
        assert_true(load(cases[i].json, &p, &err) < 0);
        if (!strstr(err.text, cases[i].message))
            fail_msg("'%s' does not say: %s", err.text, cases[i].message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_transformers),
        cmocka_unit_test(narrow_pictures_are_refused),
        cmocka_unit_test(configs_are_read),
        cmocka_unit_test(other_processing_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
