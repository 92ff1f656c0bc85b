/* sharing_test.c - components that two pipelines share are one copy: one component, loaded once,
 * measured in the bytes that the session holds, as the notebook's base and refiner do. */
#include "engine/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MODELS STYX_TEST_DATA "/golden/models/"
enum { SIDE = 32 }; /* of the pictures */

static void must(int code, const styx_error *err)
{
    if (code)
        fail_msg("%s", err->text);
}

static json_int_t held(const styx_session *s)
{
    char *text = NULL;
    styx_error err;
    must(styx_session_info(s, &text, &err), &err);
    json_t *info = json_loads(text, 0, NULL);
    json_int_t bytes = json_integer_value(json_object_get(info, "held_bytes"));
    json_decref(info);
    styx_text_free(text);
    return bytes;
}

static styx_model *open_refiner(styx_component *vae, styx_component *encoder)
{
    const char *names[] = { "vae", "text_encoder_2" };
    styx_component *parts[] = { vae, encoder };
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    styx_model *m = NULL;
    styx_error err;
    o.names = names;
    o.components = parts;
    o.component_count = 2;
    must(styx_model_open(MODELS "tiny_refiner", &o, &m, &err), &err);
    return m;
}

/* One step of the refiner over a picture that the base drew; what that added to the session. */
static json_int_t refine(styx_session *s, const styx_model *base, const styx_model *refiner)
{
    struct styx_request r = STYX_REQUEST_INIT;
    struct styx_result drawn = STYX_RESULT_INIT, refined = STYX_RESULT_INIT;
    styx_error err;
    r.prompt = "a castle";
    r.width = r.height = SIDE;
    r.steps = 1;
    r.seed_set = 1;
    r.dtype = r.vae_dtype = STYX_F32;
    must(styx_generate(s, base, &r, &drawn, &err), &err);
    json_int_t before = held(s);
    r.images = drawn.images;
    r.image_count = 1;
    r.strength = 1;
    must(styx_generate(s, refiner, &r, &refined, &err), &err);
    styx_result_free(&drawn);
    styx_result_free(&refined);
    return held(s) - before;
}

/* What the base's copy of a network holds: weights and the program that ran. */
static json_int_t footprint_of(styx_session *s, struct program_key key)
{
    struct footprint need;
    tape *t = NULL;
    styx_error err;
    key.type = DT_F32;
    key.n = 1;
    must(program_record(&key, s->backend, &t, &err), &err);
    s->backend->measure(s->device, t, 0, &need);
    tape_free(t);
    return (json_int_t)(need.weights + need.arena + need.workspace);
}

/* The second encoder and the decoder: what both pipelines use. */
static json_int_t footprint_of_shared(void)
{
    styx_model *base = NULL;
    styx_session *s = NULL;
    styx_error err;
    must(styx_session_new(NULL, &s, &err), &err);
    must(styx_model_open(MODELS "tiny_sdxl", NULL, &base, &err), &err);
    const styx_component *encoder = base->part[SLOT_TEXT_ENCODER_2], *vae = base->part[SLOT_VAE];
    int scale = vae_scale(&vae->vae);
    json_int_t bytes = footprint_of(
        s, (struct program_key){ .component = encoder,
                                 .network = NET_TEXT,
                                 .h = 1,
                                 .w = tokenizer_max_length(base->part[SLOT_TOKENIZER_2]->tokenizer),
                                 .layer = encoder->clip.layers - 1 });
    bytes += footprint_of(
        s, (struct program_key){
               .component = vae, .network = NET_VAE_DECODE, .h = SIDE / scale, .w = SIDE / scale });
    styx_session_free(s);
    styx_model_free(base);
    return bytes;
}

static json_int_t added_by_refiner(int share)
{
    styx_model *base = NULL, *refiner;
    styx_component *vae = NULL, *encoder = NULL;
    styx_session *s = NULL;
    styx_error err;
    must(styx_session_new(NULL, &s, &err), &err);
    must(styx_model_open(MODELS "tiny_sdxl", NULL, &base, &err), &err);
    if (share) {
        must(styx_model_component(base, "vae", &vae, &err), &err);
        must(styx_model_component(base, "text_encoder_2", &encoder, &err), &err);
    } else {
        must(styx_component_open(MODELS "tiny_sdxl/vae", "vae", NULL, &vae, &err), &err);
        must(styx_component_open(MODELS "tiny_sdxl/text_encoder_2", "text_encoder_2", NULL,
                                 &encoder, &err),
             &err);
    }
    refiner = open_refiner(vae, encoder);
    styx_component_free(vae);
    styx_component_free(encoder);
    json_int_t bytes = refine(s, base, refiner);
    styx_session_free(s);
    styx_model_free(base);
    styx_model_free(refiner);
    return bytes;
}

static void test_one_copy(void **state)
{
    json_int_t shared = added_by_refiner(1), apart = added_by_refiner(0);
    (void)state;
    print_message("the refiner adds %lld bytes with shared components, %lld without\n",
                  (long long)shared, (long long)apart);
    assert_int_equal(apart - shared, footprint_of_shared());
}

static void test_tokenizer_override(void **state)
{
    const char *names[] = { "tokenizer" };
    styx_component *tokenizer = NULL;
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    styx_model *plain = NULL, *with = NULL;
    int32_t *a = NULL, *b = NULL;
    size_t na, nb;
    styx_error err;
    (void)state;
    must(styx_component_open(MODELS "tiny_sdxl/tokenizer", "tokenizer", NULL, &tokenizer, &err),
         &err);
    o.names = names;
    o.components = &tokenizer;
    o.component_count = 1;
    must(styx_model_open(MODELS "tiny_sd15", NULL, &plain, &err), &err);
    must(styx_model_open(MODELS "tiny_sd15", &o, &with, &err), &err);
    must(styx_tokenize(plain, 1, "a castle in the snow", &a, &na, NULL, &err), &err);
    must(styx_tokenize(with, 1, "a castle in the snow", &b, &nb, NULL, &err), &err);
    assert_int_equal(na, nb);
    assert_memory_equal(a, b, na * sizeof *a);
    styx_ids_free(a);
    styx_ids_free(b);
    styx_component_free(tokenizer);
    styx_model_free(plain);
    styx_model_free(with);
}

#define TO_Q "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q."

/* A LoRA that changes one matrix of tiny_sd15's UNet, on disk. */
static const char *put_lora(char folder[32])
{
    static float numbers[16];
    static char path[64];
    const char *names[] = { TO_Q "lora_A.weight", TO_Q "lora_B.weight" };
    struct styx_tensor x[] = { { 2, { 1, 8 }, numbers }, { 2, { 8, 1 }, numbers + 8 } };
    styx_error err;
    for (int i = 0; i < 16; i++)
        numbers[i] = (float)(i % 7) / 7;
    snprintf(folder, 32, "/tmp/styx-sharing-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/lora.safetensors", folder);
    must(styx_tensors_save(path, names, x, 2, 0, &err), &err);
    return path;
}

/* One step's latents. */
static struct styx_result draw(styx_session *s, const styx_model *m)
{
    struct styx_request r = STYX_REQUEST_INIT;
    struct styx_result drawn = STYX_RESULT_INIT;
    styx_error err;
    r.prompt = "a castle";
    r.width = r.height = 32;
    r.steps = 1;
    r.seed_set = 1;
    r.dtype = r.vae_dtype = STYX_F32;
    must(styx_generate(s, m, &r, &drawn, &err), &err);
    return drawn;
}

static int same(const struct styx_result *a, const struct styx_result *b)
{
    return memcmp(a->latents.data, b->latents.data, 4 * 4 * 4 * sizeof(float)) == 0;
}

static void test_adapted(void **state)
{
    char folder[32];
    struct styx_lora lora = { put_lora(folder), 1 };
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    styx_model *plain = NULL, *opened = NULL, *adapted = NULL;
    styx_session *s = NULL;
    styx_error err;
    (void)state;
    must(styx_model_open(MODELS "tiny_sd15", NULL, &plain, &err), &err);
    assert_int_equal(styx_model_adapt(NULL, NULL, &adapted, &err), STYX_ERR_INVALID);
    o.variant = "fp16";
    assert_int_equal(styx_model_adapt(plain, &o, &adapted, &err), STYX_ERR_INVALID);
    o.variant = NULL;
    o.loras = &lora;
    o.lora_count = 1;
    must(styx_model_open(MODELS "tiny_sd15", &o, &opened, &err), &err);
    must(styx_model_adapt(plain, &o, &adapted, &err), &err);
    for (int i = 0; i < SLOT_COUNT; i++)
        assert_int_equal(adapted->part[i] == plain->part[i], i != SLOT_UNET || !plain->part[i]);

    must(styx_session_new(NULL, &s, &err), &err);
    struct styx_result before = draw(s, plain), with, again, wanted;
    json_int_t one = held(s);
    with = draw(s, adapted);
    json_int_t added = held(s) - one; /* a UNet, and its program; neither text encoder nor VAE */
    again = draw(s, plain);
    assert_int_equal(held(s) - one, added);
    wanted = draw(s, opened);
    assert_true(held(s) - one > 2 * added);
    assert_true(!same(&before, &with) && same(&before, &again) && same(&with, &wanted));
    styx_result_free(&before);
    styx_result_free(&with);
    styx_result_free(&again);
    styx_result_free(&wanted);
    styx_session_free(s);
    styx_model_free(plain);
    styx_model_free(opened);
    styx_model_free(adapted);
    remove(lora.path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_copy),
        cmocka_unit_test(test_tokenizer_override),
        cmocka_unit_test(test_adapted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
