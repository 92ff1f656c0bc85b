/* memory_test.c - a limit is kept by streaming weights, which changes no bit of the picture, and a
 * limit that cannot be kept is refused. Files of weights are read; their mappings stay empty, and
 * what lies there in blocks is expanded nowhere. */
#include "engine/engine.h"

#include "weights_file.h"

#include <setjmp.h>
#include <stdarg.h>

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
    struct program_key key = { .component = model->part[SLOT_UNET],
                               .network = NET_UNET,
                               .type = DT_F32,
                               .n = 2,
                               .h = side,
                               .w = side,
                               .tokens = 77,
                               .copies = 2 };
    tape *t = NULL;
    styx_error err;
    must(program_record(&key, s->backend, &t, &err), &err);
    s->backend->measure(s->device, t, 0, all);
    s->backend->measure(s->device, t, 1, least);
    tape_free(t);
    styx_session_free(s);
}

static int draw_with(styx_session *s, const styx_model *m, struct styx_result *result,
                     styx_error *err)
{
    struct styx_request r = STYX_REQUEST_INIT;
    r.prompt = "a castle on a cliff";
    r.width = r.height = SIDE;
    r.steps = 2;
    r.seed_set = 1;
    r.dtype = STYX_F32;
    r.output = STYX_OUTPUT_LATENTS;
    *result = (struct styx_result)STYX_RESULT_INIT;
    return styx_generate(s, m, &r, result, err);
}

static int draw(styx_session *s, struct styx_result *result, styx_error *err)
{
    return draw_with(s, model, result, err);
}

static uint64_t limit_for(const struct footprint *f, size_t weights)
{
    return host_overhead(SIDE, SIDE) + HOST_MAPPED + f->arena + f->workspace + weights;
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

/* Resident bytes of all mapped files with this extension; how many mappings. */
static size_t resident_weights(const char *extension, int *mappings)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[1024];
    bool weights = false;
    size_t all = 0, kilobytes;
    unsigned long begin, end;
    assert_non_null(f);
    *mappings = 0;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2) { /* the next mapping */
            weights = strstr(line, extension) != NULL;
            *mappings += weights;
        } else if (weights && sscanf(line, "Rss: %zu kB", &kilobytes) == 1) {
            all += kilobytes * 1024;
        }
    }
    fclose(f);
    return all;
}

/* How much the system maps around a page that is touched is its own choice: no page may be. */
static void test_mappings_stay_empty(void **state)
{
    struct footprint all, least;
    struct styx_result result;
    styx_error err;
    int mappings;
    (void)state;
    measure(&all, &least);
    const uint64_t limits[] = { 0, limit_for(&all, least.weights) };
    for (int i = 0; i < 2; i++) {
        styx_session *s = open_session(limits[i]);
        must(draw(s, &result, &err), &err);
        assert_int_equal(resident_weights(".safetensors", &mappings), 0);
        assert_true(mappings >= 3);
        styx_result_free(&result);
        styx_session_free(s);
    }
}

static styx_model *converted(const char *from, const char *to, const char *type)
{
    struct styx_convert_options how = STYX_CONVERT_OPTIONS_INIT;
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    styx_model *m = NULL;
    styx_error err;
    how.type = type;
    how.config = o.config = MODELS "tiny_sd15";
    must(styx_convert(from, to, &how, &err), &err);
    must(styx_model_open(to, &o, &m, &err), &err);
    return m;
}

/* The tensors of a component that lie in blocks; none of its tensors may have left the file. */
static int count_blocks(const styx_component *c)
{
    int blocks = 0;
    for (int i = 0; i < store_count(c->weights); i++) {
        const struct entry *e = store_at(c->weights, i);
        struct span span;
        assert_int_equal(store_span(c->weights, e, &span, NULL), STYX_OK);
        assert_non_null(span.file);
        assert_ptr_equal(span.data, e->raw);
        blocks += span.blocks != NULL;
    }
    return blocks;
}

/* Blocks of a GGUF file are decoded on their way into the packed weights, a slice at a time: with a
 * limit or without one they give the picture of the same numbers as I8 with scales, and take no
 * memory besides. */
static void test_blocks(void **state)
{
    const char *folder = test_folder();
    char gguf[600], plain[600], command[700];
    struct footprint all, least;
    struct styx_result want, result;
    styx_error err;
    int mappings;
    (void)state;
    assert_non_null(folder);
    snprintf(gguf, sizeof gguf, "%s/eight.gguf", folder);
    snprintf(plain, sizeof plain, "%s/eight.safetensors", folder);
    styx_model *blocks = converted(MODELS "tiny_sd15", gguf, "q8_0");
    styx_model *scales = converted(gguf, plain, NULL);
    styx_session *s = open_session(0);
    must(draw_with(s, scales, &want, &err), &err);
    styx_session_free(s);
    measure(&all, &least);
    const uint64_t limits[] = { 0, limit_for(&all, least.weights) };
    for (int i = 0; i < 2; i++) {
        s = open_session(limits[i]);
        must(draw_with(s, blocks, &result, &err), &err);
        assert_memory_equal(want.latents.data, result.latents.data,
                            tensor_numbers(&want.latents) * sizeof(float));
        assert_int_equal(resident_weights(".gguf", &mappings), 0);
        assert_true(mappings > 0);
        styx_result_free(&result);
        styx_session_free(s);
    }
    assert_true(count_blocks(blocks->part[SLOT_UNET]) > 0);
    assert_true(count_blocks(blocks->part[SLOT_TEXT_ENCODER]) > 0);
    assert_int_equal(count_blocks(scales->part[SLOT_UNET]), 0);
    styx_result_free(&want);
    styx_model_free(blocks);
    styx_model_free(scales);
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
}

/* A file that loses its end while it is used is an error, not a crash. */
static void test_cut_file(void **state)
{
    const char *folder = test_folder();
    char command[1024], cut[600];
    styx_model *copy = NULL;
    struct footprint all, least;
    struct styx_result result;
    styx_error err;
    (void)state;
    assert_non_null(folder);
    snprintf(command, sizeof command, "cp -r '%s' '%s/copy'", MODELS "tiny_sd15", folder);
    assert_int_equal(system(command), 0);
    snprintf(cut, sizeof cut, "%s/copy/unet/diffusion_pytorch_model.safetensors", folder);
    must(styx_model_open(in_folder(folder, "copy"), NULL, &copy, &err), &err);
    measure(&all, &least);

    styx_session *streaming = open_session(limit_for(&all, least.weights));
    must(draw_with(streaming, copy, &result, &err), &err);
    styx_result_free(&result);
    assert_int_equal(truncate(cut, 100000), 0);
    assert_int_equal(draw_with(streaming, copy, &result, &err), STYX_ERR_IO);
    assert_non_null(strstr(err.text, "unet/diffusion_pytorch_model.safetensors: cannot read: the "
                                     "file ended early"));
    styx_session_free(streaming);

    styx_session *loading = open_session(0);
    assert_int_equal(draw_with(loading, copy, &result, &err), STYX_ERR_IO);
    assert_non_null(strstr(err.text, "the file ended early"));
    styx_session_free(loading);
    styx_model_free(copy);
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streaming),
        cmocka_unit_test(test_too_little),
        cmocka_unit_test(test_mappings_stay_empty),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_cut_file),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
