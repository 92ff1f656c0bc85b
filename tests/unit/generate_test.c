/* generate_test.c - what a request promises and no golden case shows: refusals that say why, the
 * same bytes for any number of threads, rows that do not see each other, offloading that changes
 * nothing. */
#include "styx.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define MODELS STYX_TEST_DATA "/golden/models/"

static styx_model *sd, *sdxl;
static styx_session *session;

static void must(int code, const styx_error *err)
{
    if (code)
        fail_msg("%s", err->text);
}

static styx_session *open_session(int threads)
{
    struct styx_session_options o = STYX_SESSION_OPTIONS_INIT;
    styx_session *s = NULL;
    styx_error err;
    o.threads = threads;
    must(styx_session_new(&o, &s, &err), &err);
    return s;
}

static int set_up(void **state)
{
    styx_error err;
    (void)state;
    must(styx_model_open(MODELS "tiny_sd15", NULL, &sd, &err), &err);
    must(styx_model_open(MODELS "tiny_sdxl", NULL, &sdxl, &err), &err);
    session = open_session(2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    styx_session_free(session);
    styx_model_free(sd);
    styx_model_free(sdxl);
    return 0;
}

static struct styx_request small(void)
{
    struct styx_request r = STYX_REQUEST_INIT;
    r.prompt = "a castle on a cliff";
    r.width = r.height = 32;
    r.steps = 3;
    r.seed_set = 1;
    r.seed = 5;
    r.dtype = r.vae_dtype = STYX_F32;
    return r;
}

static struct styx_result draw(styx_session *s, const styx_model *m, const struct styx_request *r)
{
    struct styx_result result = STYX_RESULT_INIT;
    styx_error err;
    must(styx_generate(s, m, r, &result, &err), &err);
    return result;
}

static void assert_same_latents(const struct styx_result *a, size_t i, const struct styx_result *b,
                                size_t k, double tolerance)
{
    size_t one =
        (size_t)a->latents.shape[1] * (size_t)a->latents.shape[2] * (size_t)a->latents.shape[3];
    for (size_t n = 0; n < one; n++) {
        double d = (double)a->latents.data[i * one + n] - b->latents.data[k * one + n];
        assert_true(fabs(d) <= tolerance);
    }
}

static void assert_refused(const struct styx_request *r, const styx_model *m, int code,
                           const char *part)
{
    struct styx_result result = STYX_RESULT_INIT;
    styx_error err = { 0 };
    assert_int_equal(styx_generate(session, m, r, &result, &err), code);
    assert_int_equal(err.code, code);
    if (!strstr(err.text, part))
        fail_msg("'%s' does not speak of '%s'", err.text, part);
    assert_null(result.images);
}

/* Explaining refuses what drawing refuses, in the same words. */
static void explain_refused(const styx_model *m, const struct styx_request *r, const char *part)
{
    char *text = NULL;
    styx_error err = { 0 };
    int code = styx_explain(session, m, r, NULL, 0, &text, &err);
    assert_true(code < 0 && code == err.code);
    if (!strstr(err.text, part))
        fail_msg("'%s' does not speak of '%s'", err.text, part);
    assert_null(text);
}

static void test_explain_refuses(void **state)
{
    struct {
        struct styx_request known;
        int later;
    } newer = { .known = small() };
    struct styx_request r = small();
    const char *const name = "scheduler";
    styx_component *scheduler = NULL;
    styx_model *loose = NULL;
    styx_error err;
    (void)state;
    must(styx_component_open(MODELS "tiny_sd15/scheduler", name, NULL, &scheduler, &err), &err);
    must(styx_model_assemble(NULL, NULL, &name, &scheduler, 1, &loose, &err), &err);
    explain_refused(loose, &r, "loose set");
    explain_refused(NULL, &r, "a model");
    explain_refused(sd, NULL, "STYX_REQUEST_INIT");
    newer.known.size = sizeof newer;
    newer.later = 1;
    explain_refused(sd, &newer.known, "does not know");
    styx_model_free(loose);
    styx_component_free(scheduler);
}

static void test_refusals(void **state)
{
    struct styx_request r = small();
    struct styx_image tiny = { 1, 1, 3, (unsigned char[]){ 0, 0, 0 } };
    (void)state;
    r.prompt = NULL;
    assert_refused(&r, sd, STYX_ERR_INVALID, "prompt");
    r = small();
    r.width = 36;
    assert_refused(&r, sd, STYX_ERR_INVALID, "36");
    r = small();
    r.width = 100000;
    assert_refused(&r, sd, STYX_ERR_INVALID, "100000");
    r = small();
    r.steps = -5;
    assert_refused(&r, sd, STYX_ERR_INVALID, "-5");
    r = small();
    r.images = &tiny;
    r.image_count = 1;
    assert_refused(&r, sd, STYX_ERR_INVALID, "1 x 1");
    r = small();
    r.clip_skip = 99;
    assert_refused(&r, sd, STYX_ERR_INVALID, "clip_skip");
    r = small();
    r.safety = (enum styx_safety)3;
    assert_refused(&r, sd, STYX_ERR_INVALID, "safety is 3; 0 to 2 was wanted");
    r.safety = STYX_SAFETY_BLACK;
    r.vae_tiling = (enum styx_tiling) - 1;
    assert_refused(&r, sd, STYX_ERR_INVALID, "vae_tiling is -1; 0 to 3 was wanted");
    r = small();
    r.prompt = "\xff\xfe";
    assert_refused(&r, sd, STYX_ERR_INVALID, "UTF-8");
    r = small();
    r.denoising_end = 0.5;
    assert_refused(&r, sd, STYX_ERR_INVALID, "SDXL");
}

static void test_threads_do_not_matter(void **state)
{
    struct styx_request r = small();
    struct styx_result a = draw(session, sdxl, &r);
    (void)state;
    for (int threads = 1; threads <= 5; threads += 2) {
        styx_session *s = open_session(threads);
        struct styx_result b = draw(s, sdxl, &r);
        assert_same_latents(&a, 0, &b, 0, 0);
        assert_memory_equal(a.images[0].pixels, b.images[0].pixels, 32 * 32 * 3);
        styx_result_free(&b);
        styx_session_free(s);
    }
    styx_result_free(&a);
}

/* Requests at different steps can share a UNet call: every row has its own timestep and text. */
static void test_timestep_per_row(void **state)
{
    enum { N = 4 * 5 * 4, TEXT = 7 * 16 };
    float sample[2 * N], text[2 * TEXT], times[2] = { 981, 21 };
    struct styx_tensor x = { 4, { 2, 4, 5, 4 }, sample }, t = { 3, { 2, 7, 16 }, text }, both, one;
    styx_error err;
    (void)state;
    for (int i = 0; i < 2 * N; i++)
        sample[i] = sinf((float)i);
    for (int i = 0; i < 2 * TEXT; i++)
        text[i] = cosf((float)i * 0.7f);
    must(styx_unet(session, sd, STYX_F32, &x, times, &t, NULL, NULL, NULL, &both, &err), &err);
    for (int row = 0; row < 2; row++) {
        struct styx_tensor xr = { 4, { 1, 4, 5, 4 }, sample + row * N };
        struct styx_tensor tr = { 3, { 1, 7, 16 }, text + row * TEXT };
        must(styx_unet(session, sd, STYX_F32, &xr, times + row, &tr, NULL, NULL, NULL, &one, &err),
             &err);
        for (int i = 0; i < N; i++)
            assert_true(fabsf(both.data[row * N + i] - one.data[i]) < 1e-5f);
        styx_tensor_free(&one);
    }
    styx_tensor_free(&both);
}

static long long held(const styx_session *s)
{
    char *text = NULL;
    styx_error err;
    must(styx_session_info(s, &text, &err), &err);
    json_t *info = json_loads(text, 0, NULL);
    long long bytes = json_integer_value(json_object_get(info, "held_bytes"));
    json_decref(info);
    styx_text_free(text);
    return bytes;
}

static void test_loading_is_told(void **state)
{
    struct styx_request r = small();
    styx_session *s = open_session(2);
    (void)state;
    for (int again = 0; again < 2; again++) {
        struct styx_result made = draw(s, sd, &r);
        assert_true(again ? made.seconds[0] == 0 : made.seconds[0] > 0);
        assert_true(made.seconds[1] > 0 && made.seconds[2] > 0 && made.seconds[3] > 0);
        styx_result_free(&made);
    }
    styx_session_free(s);
}

static void test_offload_changes_nothing(void **state)
{
    struct styx_request r = small();
    styx_session *s = open_session(2);
    struct styx_result a = draw(s, sdxl, &r), b;
    (void)state;
    assert_true(held(s) > 0);
    r.offload = 1;
    b = draw(s, sdxl, &r);
    assert_int_equal(held(s), 0);
    assert_same_latents(&a, 0, &b, 0, 0);
    styx_result_free(&a);
    styx_result_free(&b);
    styx_session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_explain_refuses),
        cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_timestep_per_row),
        cmocka_unit_test(test_loading_is_told),
        cmocka_unit_test(test_offload_changes_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
