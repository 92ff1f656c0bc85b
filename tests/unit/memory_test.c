/* memory_test.c - a limit is kept by streaming weights, which changes no bit of the picture, and a
 * limit that cannot be kept is refused. */
#include "engine/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define MODELS STYX_TEST_DATA "/golden/models/"
enum { SIDE = 64 };

static styx_model *model;

static void must(int code, const styx_error *err)
{
    if (code)
        fail_msg("%s", err->text);
}

static int set_up(void **state)
{
    styx_error err;
    (void)state;
    must(styx_model_open(MODELS "tiny_sd15", NULL, &model, &err), &err);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    styx_model_free(model);
    return 0;
}

static styx_session *open_session(uint64_t limit)
{
    struct styx_session_options o = STYX_SESSION_OPTIONS_INIT;
    styx_session *s = NULL;
    styx_error err;
    o.max_memory = limit;
    o.threads = 2;
    must(styx_session_new(&o, &s, &err), &err);
    return s;
}

/* What the UNet needs with all its weights in memory and with as few as possible. */
static void measure(struct footprint *all, struct footprint *least)
{
    styx_session *s = open_session(0);
    int side = SIDE / vae_scale(&model->part[SLOT_VAE]->vae);
    struct program_key key = { .component = model->part[SLOT_UNET], .network = NET_UNET,
                               .type = DT_F32, .n = 2, .h = side, .w = side, .tokens = 77 };
    tape *t = NULL;
    styx_error err;
    must(program_record(&key, s->backend, &t, &err), &err);
    s->backend->measure(s->device, t, 0, all);
    s->backend->measure(s->device, t, 1, least);
    tape_free(t);
    styx_session_free(s);
}

static int draw(styx_session *s, struct styx_result *result, styx_error *err)
{
    struct styx_request r = STYX_REQUEST_INIT;
    r.prompt = "a castle on a cliff";
    r.width = r.height = SIDE;
    r.steps = 2;
    r.seed_set = 1;
    r.dtype = STYX_F32;
    r.output = STYX_OUTPUT_LATENTS;
    *result = (struct styx_result)STYX_RESULT_INIT;
    return styx_generate(s, model, &r, result, err);
}

static uint64_t limit_for(const struct footprint *f, size_t weights)
{
    return HOST_OVERHEAD + HOST_MAPPED + f->arena + f->workspace + weights;
}

static void test_streaming(void **state)
{
    struct footprint all, least;
    struct styx_result whole, streamed;
    styx_session *s = open_session(0);
    styx_error err;
    (void)state;
    measure(&all, &least);
    assert_true(least.weights < all.weights / 2);
    must(draw(s, &whole, &err), &err);
    styx_session_free(s);
    for (int part = 0; part <= 4; part++) { /* from a bare window to all but one byte */
        size_t weights = least.weights + (size_t)part * (all.weights - 1 - least.weights) / 4;
        s = open_session(limit_for(&all, weights));
        must(draw(s, &streamed, &err), &err);
        assert_true(s->held <= session_room(s));
        assert_int_equal(s->held, all.arena + all.workspace + weights);
        assert_memory_equal(whole.latents.data, streamed.latents.data,
                            tensor_numbers(&whole.latents) * sizeof(float));
        styx_result_free(&streamed);
        styx_session_free(s);
    }
    styx_result_free(&whole);
}

static void test_too_little(void **state)
{
    struct footprint all, least;
    struct styx_result result;
    styx_error err;
    (void)state;
    measure(&all, &least);
    styx_session *s = open_session(limit_for(&all, least.weights - 1));
    assert_int_equal(draw(s, &result, &err), STYX_ERR_NOMEM);
    assert_non_null(strstr(err.text, "the limit is"));
    styx_session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streaming),
        cmocka_unit_test(test_too_little),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
