/* api_test.c - the promises of styx.h that are about calling: sizes of structs, cancelling,
 * threads, hooks, batches, sharing. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#include "styx.h"

#define MODELS STYX_TEST_DATA "/golden/models/"

enum { SIDE = 64 };

struct fixture {
    styx_model *model;
    styx_session *session;
};

static int setup(void **state)
{
    static struct fixture f;
    styx_error err;
    struct styx_session_options options = STYX_SESSION_OPTIONS_INIT;
    options.threads = 2;
    *state = &f;
    return styx_model_open(MODELS "tiny_sd15", NULL, &f.model, &err) ||
           styx_session_new(&options, &f.session, &err);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    styx_session_free(f->session);
    styx_model_free(f->model);
    return 0;
}

static struct styx_request small_request(void)
{
    struct styx_request r = STYX_REQUEST_INIT;
    r.prompt = "a red apple";
    r.width = r.height = SIDE;
    r.steps = 2;
    r.seed_set = 1;
    r.seed = 7;
    r.dtype = STYX_F32;
    return r;
}

static void draw(struct fixture *f, const struct styx_request *r, struct styx_result *result)
{
    styx_error err = { 0 };
    *result = (struct styx_result)STYX_RESULT_INIT;
    int code = styx_generate(f->session, f->model, r, result, &err);
    if (code)
        fail_msg("%s", err.text);
}

static void same_picture(const struct styx_image *a, const struct styx_image *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_memory_equal(a->pixels, b->pixels, (size_t)a->width * (size_t)a->height * 3);
}

/* A program that was built against an older, shorter struct. */
static void old_structs_are_taken(void **state)
{
    struct styx_request now = small_request(), old = small_request();
    struct styx_result a, b;
    draw(*state, &now, &a);
    old.size = offsetof(struct styx_request, generator_kind);
    old.generators = NULL;
    memset((char *)&old + old.size, 0x5a, sizeof old - old.size); /* not to be looked at */
    draw(*state, &old, &b);
    assert_int_equal(b.count, 1);
    styx_result_free(&a);
    styx_result_free(&b);
}

static void newer_structs_are_taken_if_they_ask_for_nothing_new(void **state)
{
    struct fixture *f = *state;
    struct {
        struct styx_request request;
        char more[64];
    } newer = { small_request(), { 0 } };
    struct styx_result result;
    styx_error err = { 0 };
    newer.request.size = sizeof newer;
    draw(f, &newer.request, &result);
    styx_result_free(&result);
    newer.more[40] = 1;
    result = (struct styx_result)STYX_RESULT_INIT;
    assert_int_equal(styx_generate(f->session, f->model, &newer.request, &result, &err),
                     STYX_ERR_UNSUPPORTED);
    assert_true(*err.text);
    assert_int_equal(result.count, 0);
}

static void *cancel_soon(void *session)
{
    nanosleep(&(struct timespec){ .tv_nsec = 100 * 1000 * 1000 }, NULL);
    styx_cancel(session);
    return NULL;
}

static void cancel_from_another_thread(void **state)
{
    struct fixture *f = *state;
    struct styx_request r = small_request();
    struct styx_result result = STYX_RESULT_INIT;
    styx_error err = { 0 };
    pthread_t thread;
    r.steps = 500;
    r.width = r.height = 256;
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, f->session), 0);
    int code = styx_generate(f->session, f->model, &r, &result, &err);
    pthread_join(thread, NULL);
    assert_int_equal(code, STYX_ERR_CANCELLED);
    assert_int_equal(err.code, STYX_ERR_CANCELLED);
    assert_int_equal(result.count, 0);

    r = small_request();
    styx_cancel(f->session); /* with nothing running: no effect */
    draw(f, &r, &result);
    styx_result_free(&result);
}

struct callers {
    struct fixture *f;
    int code;
};

static int call_again(void *user, const struct styx_progress *p)
{
    struct callers *c = user;
    struct styx_request r = small_request();
    struct styx_result result = STYX_RESULT_INIT;
    (void)p;
    c->code = styx_generate(c->f->session, c->f->model, &r, &result, NULL);
    return 0;
}

static void a_busy_session_refuses(void **state)
{
    struct callers c = { *state, 0 };
    struct styx_request r = small_request();
    struct styx_result result;
    r.progress = call_again;
    r.user = &c;
    draw(*state, &r, &result);
    assert_int_equal(c.code, STYX_ERR_INVALID);
    styx_result_free(&result);
}

static int refuse(void *user, const struct styx_progress *p)
{
    (void)user;
    return strcmp(p->stage, "denoise") == 0;
}

static void a_callback_cancels(void **state)
{
    struct fixture *f = *state;
    struct styx_request r = small_request();
    struct styx_result result = STYX_RESULT_INIT;
    r.progress = refuse;
    assert_int_equal(styx_generate(f->session, f->model, &r, &result, NULL), STYX_ERR_CANCELLED);
}

static int count_steps(void *user, struct styx_step *step)
{
    int *counted = user;
    assert_int_equal(step->index, *counted);
    assert_int_equal(step->latents->shape[1], 4);
    ++*counted;
    step->interrupt = *counted == 2;
    return 0;
}

static void the_step_hook_interrupts(void **state)
{
    struct styx_request r = small_request();
    struct styx_result result;
    int counted = 0;
    r.steps = 10;
    r.step = count_steps;
    r.user = &counted;
    draw(*state, &r, &result);
    assert_int_equal(counted, 2);
    assert_int_equal(result.count, 1);
    styx_result_free(&result);
}

static int blank(void *user, struct styx_step *step)
{
    (void)user;
    if (step->index == step->count - 1)
        memset(step->latents->data, 0, 4 * (SIDE / 8) * (SIDE / 8) * sizeof(float));
    return 0;
}

static void the_step_hook_replaces_latents(void **state)
{
    struct styx_request r = small_request();
    struct styx_result a, b;
    r.step = blank;
    draw(*state, &r, &a);
    r.seed = 8;
    draw(*state, &r, &b);
    same_picture(&a.images[0], &b.images[0]); /* both decode the same zeros */
    styx_result_free(&a);
    styx_result_free(&b);
}

static void a_batch_of_seeds_is_its_singles(void **state)
{
    const uint64_t seeds[] = { 7, 8, 9 };
    struct styx_request r = small_request();
    struct styx_result batch, one;
    r.seed_set = 0;
    r.seeds = seeds;
    r.seed_count = 3;
    r.images_per_prompt = 3;
    draw(*state, &r, &batch);
    assert_int_equal(batch.count, 3);
    for (int i = 0; i < 3; i++) {
        r = small_request();
        r.seed = seeds[i];
        draw(*state, &r, &one);
        assert_true(batch.seeds[i] == seeds[i]);
        /* Rows share a matrix product, so the last bit may differ. */
        for (int k = 0; k < SIDE * SIDE * 3; k++)
            assert_true(abs(batch.images[i].pixels[k] - one.images[0].pixels[k]) <= 1);
        styx_result_free(&one);
    }
    styx_result_free(&batch);
}

static void a_random_seed_is_told_and_gives_the_picture_again(void **state)
{
    struct styx_request r = small_request();
    struct styx_result a, b;
    r.seed_set = 0;
    draw(*state, &r, &a);
    r.seed_set = 1;
    r.seed = a.seeds[0];
    draw(*state, &r, &b);
    same_picture(&a.images[0], &b.images[0]);
    styx_result_free(&a);
    styx_result_free(&b);
}

static json_int_t held(styx_session *session)
{
    char *text;
    assert_int_equal(styx_session_info(session, &text, NULL), 0);
    json_t *info = json_loads(text, 0, NULL);
    json_int_t bytes = json_integer_value(json_object_get(info, "held_bytes"));
    json_decref(info);
    styx_text_free(text);
    return bytes;
}

/* Draws with both models in one session and says what it then holds. */
static json_int_t held_by_both(const styx_model *a, const styx_model *b)
{
    struct fixture f = { NULL, NULL };
    struct styx_request r = small_request();
    struct styx_result result;
    assert_int_equal(styx_session_new(NULL, &f.session, NULL), 0);
    f.model = (styx_model *)a;
    draw(&f, &r, &result);
    styx_result_free(&result);
    f.model = (styx_model *)b;
    draw(&f, &r, &result);
    styx_result_free(&result);
    json_int_t bytes = held(f.session);
    styx_session_free(f.session);
    return bytes;
}

static void shared_components_are_loaded_once(void **state)
{
    static const char *const names[] = { "unet", "vae" };
    struct fixture *f = *state;
    styx_component *parts[2];
    styx_model *sharing, *apart;
    struct styx_model_options options = STYX_MODEL_OPTIONS_INIT;
    for (int i = 0; i < 2; i++)
        assert_int_equal(styx_model_component(f->model, names[i], &parts[i], NULL), 0);
    options.names = names;
    options.components = parts;
    options.component_count = 2;
    assert_int_equal(styx_model_open(MODELS "tiny_sd15", &options, &sharing, NULL), 0);
    assert_int_equal(styx_model_open(MODELS "tiny_sd15", NULL, &apart, NULL), 0);
    json_int_t shared = held_by_both(f->model, sharing), twice = held_by_both(f->model, apart);
    assert_true(shared > 0);
    assert_true(twice > shared + shared / 2); /* the UNet is most of it */
    styx_component_free(parts[0]);
    styx_component_free(parts[1]);
    styx_model_free(sharing);
    styx_model_free(apart);
}

static void trimming_gives_memory_back(void **state)
{
    struct fixture *f = *state;
    struct styx_request r = small_request();
    struct styx_result a, b;
    draw(f, &r, &a);
    assert_true(held(f->session) > 0);
    styx_session_trim(f->session);
    assert_int_equal(held(f->session), 0);
    draw(f, &r, &b);
    same_picture(&a.images[0], &b.images[0]);
    styx_result_free(&a);
    styx_result_free(&b);
}

static void a_failure_leaves_the_outputs_alone(void **state)
{
    struct fixture *f = *state;
    struct styx_request r = small_request();
    struct styx_result result = STYX_RESULT_INIT;
    styx_model *model = f->model;
    struct styx_image image = { 3, 4, 3, NULL };
    styx_error err = { 0 };
    r.width = 60;
    assert_int_equal(styx_generate(f->session, f->model, &r, &result, &err), STYX_ERR_INVALID);
    assert_int_equal(result.count, 0);
    assert_null(result.images);
    assert_int_equal(styx_model_open("nowhere", NULL, &model, &err), STYX_ERR_IO);
    assert_ptr_equal(model, f->model);
    assert_int_not_equal(styx_image_load("nowhere.png", &image, NULL, NULL, &err), 0);
    assert_int_equal(image.width, 3);
    assert_non_null(strstr(err.text, "nowhere.png"));
    assert_int_not_equal(styx_image_load("nowhere.png", &image, NULL, NULL, NULL), 0);
}

static void freeing_nothing_is_fine(void **state)
{
    struct styx_result result = STYX_RESULT_INIT;
    (void)state;
    styx_model_free(NULL);
    styx_component_free(NULL);
    styx_session_free(NULL);
    styx_scheduler_free(NULL);
    styx_generator_free(NULL);
    styx_text_free(NULL);
    styx_ids_free(NULL);
    styx_result_free(&result);
    styx_result_free(NULL);
    styx_image_free(NULL);
    styx_tensor_free(NULL);
    styx_tensors_free(NULL, NULL, 0);
    styx_cancel(NULL);
}

static void every_status_has_a_text(void **state)
{
    (void)state;
    for (int status = STYX_ERR_INTERNAL; status <= STYX_OK; status++)
        assert_true(*styx_status_text(status));
    assert_string_equal(styx_version(), STYX_VERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_structs_are_taken),
        cmocka_unit_test(newer_structs_are_taken_if_they_ask_for_nothing_new),
        cmocka_unit_test(cancel_from_another_thread),
        cmocka_unit_test(a_busy_session_refuses),
        cmocka_unit_test(a_callback_cancels),
        cmocka_unit_test(the_step_hook_interrupts),
        cmocka_unit_test(the_step_hook_replaces_latents),
        cmocka_unit_test(a_batch_of_seeds_is_its_singles),
        cmocka_unit_test(a_random_seed_is_told_and_gives_the_picture_again),
        cmocka_unit_test(shared_components_are_loaded_once),
        cmocka_unit_test(trimming_gives_memory_back),
        cmocka_unit_test(a_failure_leaves_the_outputs_alone),
        cmocka_unit_test(freeing_nothing_is_fine),
        cmocka_unit_test(every_status_has_a_text),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
