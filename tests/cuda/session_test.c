/* session_test.c - whole requests on the card made of host memory: what a session is told of the
 * card's memory must reach it, keep the picture, and be what styx_explain foretells. */
#include "styx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cuda/fake.h"

static void must(int code, const styx_error *err)
{
    if (code)
        fail_msg("%s", err->text);
}

static styx_session *session_of(enum styx_offload offload, uint64_t max_vram)
{
    struct styx_session_options o = STYX_SESSION_OPTIONS_INIT;
    styx_session *s;
    styx_error err;
    o.backend = "cuda";
    o.offload = offload;
    o.max_vram = max_vram;
    fake.limit = (size_t)1 << 30;
    must(styx_session_new(&o, &s, &err), &err);
    return s;
}

static int side = 64;
static bool drops; /* request.offload; without it only the session's own counts */

static struct styx_request request(void)
{
    struct styx_request r = STYX_REQUEST_INIT;
    styx_request_init(&r, sizeof r);
    r.prompt = "a red apple";
    r.seed = 1;
    r.seed_set = 1;
    r.steps = 2;
    r.offload = drops;
    r.width = r.height = side;
    return r;
}

static uint64_t foretold(styx_session *s, const styx_model *m)
{
    struct styx_request r = request();
    unsigned long long bytes = 0;
    char *text;
    styx_error err;
    must(styx_explain(s, m, &r, NULL, 0, &text, &err), &err);
    const char *at = strstr(text, "peak of the card's memory: ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "peak of the card's memory: %llu", &bytes), 1);
    styx_text_free(text);
    return bytes;
}

/* The picture; *peak is what the card held at most. */
static struct styx_image draw(styx_session *s, const styx_model *m, size_t *peak)
{
    struct styx_request r = request();
    struct styx_result result = STYX_RESULT_INIT;
    styx_error err;
    fake.peak = 0;
    must(styx_generate(s, m, &r, &result, &err), &err);
    *peak = fake.peak;
    struct styx_image image = result.images[0];
    result.images[0].pixels = NULL;
    styx_result_free(&result);
    return image;
}

static styx_model *model(void)
{
    styx_model *m;
    styx_error err;
    must(styx_model_open(STYX_TEST_DATA "/golden/models/tiny_sdxl", NULL, &m, &err), &err);
    return m;
}

/* Regions grow by pages, of which this card has small ones; there are at most two dozens. */
enum { PAGES = 24 * 4096 };

static void test_offloading_reaches_the_card(void **state)
{
    styx_model *m = model();
    struct styx_image first = { 0 };
    size_t peak[3], copied[3];
    (void)state;
    for (int offload = STYX_OFFLOAD_NONE; offload <= STYX_OFFLOAD_STREAM; offload++) {
        styx_session *s = session_of((enum styx_offload)offload, 0);
        uint64_t told = foretold(s, m);
        fake.copied = 0;
        struct styx_image image = draw(s, m, &peak[offload]);
        copied[offload] = fake.copied;
        size_t peak_of_both; /* weights that left the card come back to it */
        struct styx_image again = draw(s, m, &peak_of_both);
        assert_memory_equal(again.pixels, image.pixels, 3 * 64 * 64);
        assert_true(peak_of_both <= peak[offload]);
        styx_image_free(&again);
        assert_in_range(peak[offload], 1, told + PAGES);
        if (offload == STYX_OFFLOAD_NONE)
            first = image;
        else
            assert_memory_equal(image.pixels, first.pixels, 3 * 64 * 64);
        if (offload != STYX_OFFLOAD_NONE)
            styx_image_free(&image);
        styx_session_free(s);
        assert_int_equal(fake.held, 0);
    }
    assert_true(peak[STYX_OFFLOAD_MODEL] < peak[STYX_OFFLOAD_NONE]);
    assert_true(copied[STYX_OFFLOAD_STREAM] > copied[STYX_OFFLOAD_NONE]); /* at every step */
    styx_image_free(&first);
    styx_model_free(m);
}

/* A picture of a session whose networks take turns; last: as the command draws the last one. */
static void draw_in_turn(styx_session *s, const styx_model *m, const struct styx_image *like,
                         bool last)
{
    uint64_t told = foretold(s, m);
    size_t peak;
    fake.copied = fake.waited = fake.pinned = 0;
    fake.created = fake.mapped = 0;
    drops = last;
    struct styx_image image = draw(s, m, &peak);
    drops = false;
    assert_in_range(peak, 1, told + PAGES);
    assert_memory_equal(image.pixels, like->pixels, 3 * 32 * 32);
    styx_image_free(&image);
}

/* The text encoders come while the decoder runs, most of the UNet while nothing does. Once all of
 * them have left the card nothing is pinned, little memory is made, and nothing is unpinned. */
static void test_networks_take_turns(void **state)
{
    styx_model *m = model();
    styx_session *s = session_of(STYX_OFFLOAD_NONE, 0);
    size_t all = 0;
    (void)state;
    side = 32; /* the UNet's weights are the largest piece of memory */
    struct styx_image first = draw(s, m, &all);
    styx_session_free(s);
    s = session_of(STYX_OFFLOAD_MODEL, 0);
    fake.unpinned = 0;
    draw_in_turn(s, m, &first, false);
    all = fake.pinned;
    for (int i = 1; i < 4; i++) {
        fake_time_passes(); /* the picture is written */
        draw_in_turn(s, m, &first, i == 3);
        all += fake.pinned;
        assert_true(fake.copied < 3 * all / 4);
        assert_in_range(fake.waited, 1, all / 5);
        assert_in_range(fake.created, 1, 20);
        assert_in_range(fake.mapped, 1, 40);
        assert_true((fake.pinned == 0) == (i > 1));
    }
    assert_int_equal(fake.unpinned, 0);
    styx_session_free(s);
    assert_int_equal(fake.held, 0);
    s = session_of(STYX_OFFLOAD_MODEL, 0); /* the only picture: what has been used goes */
    draw_in_turn(s, m, &first, true);
    assert_true(fake.pinned < all / 5);
    styx_session_free(s);
    styx_image_free(&first);
    styx_model_free(m);
    side = 64;
}

static void test_a_limit_is_kept(void **state)
{
    styx_model *m = model();
    size_t all, least;
    (void)state;
    styx_session *s = session_of(STYX_OFFLOAD_NONE, 0);
    struct styx_image free_of_limits = draw(s, m, &all);
    styx_session_free(s);
    all -= 150000; /* less than the text encoders, which have to go */
    s = session_of(STYX_OFFLOAD_NONE, all);
    struct styx_image image = draw(s, m, &least);
    assert_in_range(least, 1, all);
    assert_memory_equal(image.pixels, free_of_limits.pixels, 3 * 64 * 64);
    styx_image_free(&image);
    styx_session_free(s);
    styx_image_free(&free_of_limits);
    styx_model_free(m);
}

static void test_a_limit_that_is_too_small(void **state)
{
    styx_model *m = model();
    styx_session *s = session_of(STYX_OFFLOAD_NONE, 1 << 20);
    struct styx_request r = request();
    struct styx_result result = STYX_RESULT_INIT;
    styx_error err;
    (void)state;
    assert_int_equal(styx_generate(s, m, &r, &result, &err), STYX_ERR_NOMEM);
    assert_non_null(strstr(err.text, "the limit is 1048576"));
    styx_session_free(s);
    styx_model_free(m);
}

/* A UNet's step in f32 by itself, with the inputs that tiny_sdxl has. */
static int unet_in_f32(styx_session *s, const styx_model *m, styx_error *err)
{
    float zeros[4 * 8 * 8] = { 0 };
    struct styx_tensor sample = { .dims = 4, .shape = { 1, 4, 8, 8 }, .data = zeros };
    struct styx_tensor text = { .dims = 3, .shape = { 1, 2, 40 }, .data = zeros };
    struct styx_tensor pooled = { .dims = 2, .shape = { 1, 72 - 6 * 8 }, .data = zeros };
    struct styx_tensor ids = { .dims = 2, .shape = { 1, 6 }, .data = zeros }, out = { 0 };
    return styx_unet(s, m, STYX_F32, &sample, zeros, &text, &pooled, &ids, NULL, &out, err);
}

static void refused(int code, const styx_error *err)
{
    assert_int_equal(code, STYX_ERR_INVALID);
    assert_string_equal(err->text, "dtype f32 and fp8; with fp8, f16 or bf16 was wanted");
}

static void test_eight_bits_want_halves(void **state)
{
    struct styx_bench_options b = STYX_BENCH_OPTIONS_INIT;
    struct styx_session_options o = STYX_SESSION_OPTIONS_INIT;
    struct styx_request r = request();
    struct styx_result result = STYX_RESULT_INIT;
    styx_model *m = model();
    styx_session *s;
    styx_error err;
    char *text;
    (void)state;
    o.backend = "cuda";
    o.fp8 = 1;
    fake.limit = (size_t)1 << 30;
    must(styx_session_new(&o, &s, &err), &err);
    r.dtype = STYX_F32;
    refused(styx_generate(s, m, &r, &result, &err), &err);
    refused(unet_in_f32(s, m, &err), &err);
    b.model = "sd15";
    b.network = "unet";
    b.dtype = STYX_F32;
    refused(styx_bench(s, &b, &text, &err), &err);
    r.dtype = STYX_AUTO;
    r.vae_dtype = STYX_F32;
    must(styx_generate(s, m, &r, &result, &err), &err);
    assert_int_equal(result.dtype, STYX_F16);
    styx_result_free(&result);
    styx_session_free(s);
    styx_model_free(m);
}

static void test_the_card_is_listed(void **state)
{
    char *json;
    styx_error err;
    (void)state;
    fake.limit = (size_t)1 << 30;
    must(styx_devices(&json, &err), &err);
    assert_non_null(strstr(json, "\"cards\":[{\"index\":0,"));
    assert_non_null(strstr(json, "\"name\":\"cuda\",\"device\":\"1 card\""));
    styx_text_free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offloading_reaches_the_card),
        cmocka_unit_test(test_networks_take_turns),
        cmocka_unit_test(test_a_limit_is_kept),
        cmocka_unit_test(test_a_limit_that_is_too_small),
        cmocka_unit_test(test_eight_bits_want_halves),
        cmocka_unit_test(test_the_card_is_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
