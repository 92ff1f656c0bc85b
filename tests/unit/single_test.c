/* engine/single, published, vocabulary, adapt: models in one file give the pictures of their
 * folders; LoRA and learnt words change what they should and nothing else. */
#include "engine/published.h"
#include "weights/convert.h"
#include "weights/save.h"
#include "weights_file.h"

#include <math.h>
#include <sys/stat.h>

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MODELS STYX_TEST_DATA "/golden/models/"

static const char *folder;
static styx_session *session;

static int begin(void **state)
{
    (void)state;
    folder = test_folder();
    setenv("HF_HUB_CACHE", folder, 1); /* the machine's own is none of our business */
    unsetenv("STYX_TOKENIZER");
    return !folder || styx_session_new(NULL, &session, NULL);
}

static int end(void **state)
{
    (void)state;
    char command[400];
    styx_session_free(session);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static const char *file(const char *name)
{
    static char paths[4][600];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void must(int code, const styx_error *err)
{
    if (code)
        fail_msg("%s", err->text);
}

/* A model's networks in one file; SDXL borrows nothing, the refiner would. */
static const char *pack(const char *model, const char *name, enum convert_type type)
{
    static const char *const names[] = { "unet", "vae", "text_encoder", "text_encoder_2" };
    struct convert_part parts[4];
    struct convert_options o = { .type = type, .single = true };
    char path[600];
    styx_error err;
    int n = 0;
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, MODELS "%s/%s", model, names[i]);
        if (access(path, F_OK) != 0)
            continue;
        parts[n].component = names[i];
        must(store_open_component(path, i < 2 ? "diffusion_pytorch_model" : "model", NULL,
                                  &parts[n++].store, &err),
             &err);
    }
    must(convert_write(file(name), parts, n, &o, &err), &err);
    while (n-- > 0)
        store_unref(parts[n].store);
    return file(name);
}

static int open(const char *path, struct styx_model_options *o, styx_model **model, styx_error *err)
{
    struct styx_model_options none = STYX_MODEL_OPTIONS_INIT;
    return styx_model_open(path, o ? o : &none, model, err);
}

static struct styx_result draw(const styx_model *m, const char *prompt)
{
    struct styx_request r = STYX_REQUEST_INIT;
    struct styx_result result = STYX_RESULT_INIT;
    styx_error err;
    r.prompt = prompt;
    r.steps = 2;
    r.width = r.height = 64;
    r.seed_set = 1;
    r.seed = 3;
    r.dtype = STYX_F32;
    must(styx_generate(session, m, &r, &result, &err), &err);
    return result;
}

static bool same_picture(const styx_model *a, const styx_model *b, const char *prompt)
{
    struct styx_result x = draw(a, prompt), y = draw(b, prompt);
    assert_int_equal(x.images[0].width, y.images[0].width);
    bool same = memcmp(x.images[0].pixels, y.images[0].pixels,
                       (size_t)x.images[0].width * (size_t)x.images[0].height * 3) == 0;
    styx_result_free(&x);
    styx_result_free(&y);
    return same;
}

static void test_pictures(void **state)
{
    static const char *const models[] = { "tiny_sd15", "tiny_sdxl", "tiny_inpaint" };
    static const char *const files[] = { "m.safetensors", "m.gguf" };
    (void)state;
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 2; k++) {
            struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
            styx_model *whole, *single;
            char path[600];
            styx_error err;
            snprintf(path, sizeof path, MODELS "%s", models[i]);
            o.config = path;
            if (open(path, NULL, &whole, &err)) /* a model that borrows */
                continue;
            must(open(pack(models[i], files[k], CONVERT_SAME), &o, &single, &err), &err);
            assert_true(i == 2 || same_picture(whole, single, "a castle"));
            assert_string_equal(single->class_name, whole->class_name);
            styx_model_free(whole);
            styx_model_free(single);
        }
    }
}

static void test_needs(void **state)
{
    (void)state;
    styx_model *m = NULL;
    styx_error err;
    const char *path = pack("tiny_sd15", "lone.safetensors", CONVERT_SAME);
    assert_int_equal(open(path, NULL, &m, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "config"));
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    o.config = "/nonexistent";
    assert_int_equal(open(path, &o, &m, &err), STYX_ERR_IO);
    o.config = STYX_TEST_DATA; /* a folder without configs: as published */
    assert_int_equal(open(path, &o, &m, &err), STYX_ERR_FORMAT);
    assert_null(m);
}

/* A model that has only its vocabulary left. */
static void copy_vocabulary(const char *to)
{
    char command[2000];
    snprintf(command, sizeof command, "mkdir -p '%s' && cp " MODELS "tiny_sd15/tokenizer/* '%s'",
             to, to);
    assert_int_equal(system(command), 0);
}

static void test_vocabulary(void **state)
{
    (void)state;
    char config[600], command[2000];
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    styx_model *m = NULL, *whole = NULL;
    styx_error err;
    snprintf(config, sizeof config, "%s", file("configs"));
    snprintf(command, sizeof command, "cp -r " MODELS "tiny_sd15 %s && rm -r %s/tokenizer", config,
             config);
    assert_int_equal(system(command), 0);
    o.config = config;
    const char *path = pack("tiny_sd15", "words.safetensors", CONVERT_SAME);
    must(open(MODELS "tiny_sd15", NULL, &whole, &err), &err);

    assert_int_equal(open(path, &o, &m, &err), STYX_ERR_IO);
    assert_non_null(strstr(err.text, "vocabulary"));
    assert_non_null(strstr(err.text, "styx pull"));

    setenv("STYX_TOKENIZER", file("nothing"), 1);
    assert_int_equal(open(path, &o, &m, &err), STYX_ERR_IO);
    setenv("STYX_TOKENIZER", MODELS "tiny_sd15/tokenizer", 1);
    must(open(path, &o, &m, &err), &err);
    assert_true(same_picture(whole, m, "a castle"));
    styx_model_free(m);
    unsetenv("STYX_TOKENIZER");

    copy_vocabulary(file("models--o--n/snapshots/0123/tokenizer"));
    must(open(path, &o, &m, &err), &err);
    assert_non_null(strstr(m->part[SLOT_TOKENIZER]->path, "models--o--n"));
    styx_model_free(m);

    copy_vocabulary(file("tokenizer"));
    must(open(path, &o, &m, &err), &err);
    assert_null(strstr(m->part[SLOT_TOKENIZER]->path, "models--o--n"));
    styx_model_free(m);
    styx_model_free(whole);
}

/* ---- the published configs ---- */

static uint64_t record(const styx_component *c, enum network network, struct store **shapes)
{
    struct program_key key = {
        .component = c, .network = network, .n = 1, .h = 64, .w = 64, .tokens = 77, .ids = 6
    };
    uint64_t sum = 0;
    tape *t = NULL;
    styx_error err;
    if (network == NET_TEXT) {
        key.h = 1;
        key.w = 77;
        key.layer = c->clip.layers;
        key.normed = true;
    }
    must(program_record(&key, &backend_ref, &t, &err), &err);
    *shapes = store_new("shapes");
    for (int i = 0; i < t->nparams; i++) {
        const param *p = &t->params[i];
        struct entry e = { .name = p->name, .type = "F16", .dims = p->dims, .count = 1 };
        for (int d = 0; d < p->dims; d++)
            e.count *= (uint64_t)(e.shape[d] = p->shape[d]);
        sum += e.count;
        must(store_add(*shapes, &e, &err), &err);
    }
    must(store_seal(*shapes, &err), &err);
    tape_free(t);
    return sum;
}

static uint64_t published(enum single_file kind, enum slot slot, enum network network)
{
    json_t *config = NULL, *fitted = NULL;
    styx_component *c = NULL, *d = NULL;
    struct store *shapes = NULL;
    styx_error err;
    must(published_config(kind, slot, NULL, "published", &config, &err), &err);
    must(component_make(slot, "published", config, "published", NULL, &c, &err), &err);
    uint64_t sum = record(c, network, &shapes);
    if (network == NET_UNET || network == NET_TEXT) { /* fitting to itself changes nothing */
        must(published_config(kind, slot, shapes, "published", &fitted, &err), &err);
        must(component_make(slot, "published", fitted, "published", NULL, &d, &err), &err);
        if (kind != SINGLE_REFINER || network == NET_TEXT) { /* (a depth without attention) */
            assert_memory_equal(&c->unet, &d->unet, sizeof c->unet);
            assert_memory_equal(&c->clip, &d->clip, sizeof c->clip);
        }
        struct store *again = NULL;
        assert_int_equal(record(d, network, &again), sum);
        store_unref(again);
        styx_component_free(d);
        json_decref(fitted);
    }
    store_unref(shapes);
    styx_component_free(c);
    json_decref(config);
    return sum;
}

/* The numbers of parameters that the published models have. */
static void test_published(void **state)
{
    (void)state;
    assert_int_equal(published(SINGLE_SD15, SLOT_UNET, NET_UNET), 859520964);
    assert_int_equal(published(SINGLE_SDXL, SLOT_UNET, NET_UNET), 2567463684);
    assert_int_equal(published(SINGLE_REFINER, SLOT_UNET, NET_UNET), 2259526660);
    assert_int_equal(published(SINGLE_SD15, SLOT_TEXT_ENCODER, NET_TEXT), 123060480);
    assert_int_equal(published(SINGLE_SDXL, SLOT_TEXT_ENCODER_2, NET_TEXT), 694659840);
    assert_int_equal(published(SINGLE_SD15, SLOT_VAE, NET_VAE_ENCODE) +
                         published(SINGLE_SDXL, SLOT_VAE, NET_VAE_DECODE),
                     83653863);
}

/* ---- LoRA ---- */

#define MODULE "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"

static void put_lora(const char *path, const char *key)
{
    float down[2][16], up[16][2], alpha = 1;
    char names[3][200];
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 16; k++)
            down[i][k] = up[k][i] = (float)(i + 2 * k) / 16 - 1;
    snprintf(names[0], 200, "%s.lora_down.weight", key);
    snprintf(names[1], 200, "%s.lora_up.weight", key);
    snprintf(names[2], 200, "%s.alpha", key);
    styx_model *m;
    styx_error err;
    must(open(MODELS "tiny_sd15", NULL, &m, &err), &err);
    int width = store_find(m->part[SLOT_UNET]->weights, MODULE ".weight")->shape[0];
    styx_model_free(m);
    struct saved t[] = { { names[0], DT_F32, 2, { 2, width }, down },
                         { names[1], DT_F32, 2, { width, 2 }, up },
                         { names[2], DT_F32, 1, { 1 }, &alpha } };
    save_sort(t, 3);
    must(save_file(path, t, 3, NULL, FILE_REPLACE, &err), &err);
}

static char warned[2000];
static void warn(void *user, const char *text)
{
    (void)user;
    snprintf(warned, sizeof warned, "%s", text);
}

static void test_lora(void **state)
{
    (void)state;
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    styx_model *plain, *changed;
    struct span a, b;
    styx_error err;
    put_lora(file("lora.safetensors"),
             "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q");
    struct styx_lora lora = { file("lora.safetensors"), 0.5 };
    o.loras = &lora;
    o.lora_count = 1;
    o.warn = warn;
    warned[0] = '\0';
    must(open(MODELS "tiny_sd15", NULL, &plain, &err), &err);
    must(open(MODELS "tiny_sd15", &o, &changed, &err), &err);
    assert_string_equal(warned, "");
    assert_ptr_equal(plain->part[SLOT_VAE] == NULL, changed->part[SLOT_VAE] == NULL);
    struct store *x = plain->part[SLOT_UNET]->weights, *y = changed->part[SLOT_UNET]->weights;
    must(store_span(x, store_find(x, MODULE ".weight"), &a, &err), &err);
    must(store_span(y, store_find(y, MODULE ".weight"), &b, &err), &err);
    int width = a.shape[0];
    for (int i = 0; i < width; i++)
        for (int k = 0; k < width; k++) {
            float was, is, delta = 0;
            span_read(&a, (size_t)(i * width + k), 1, &was);
            span_read(&b, (size_t)(i * width + k), 1, &is);
            for (int r = 0; r < 2; r++) /* as put_lora fills it, by flat index */
                delta += 0.5f * 0.5f *
                         ((float)(((2 * i + r) % 2) + 2 * ((2 * i + r) / 2)) / 16 - 1) *
                         ((float)(((r * width + k) / 16) + 2 * ((r * width + k) % 16)) / 16 - 1);
            assert_true(fabsf(is - was - delta) < 1e-6f);
        }
    assert_false(same_picture(plain, changed, "a castle"));

    put_lora(file("lora.safetensors"), "lora_unet_no_such_module");
    styx_model_free(changed);
    must(open(MODELS "tiny_sd15", &o, &changed, &err), &err);
    assert_non_null(strstr(warned, "lora_unet_no_such_module"));
    assert_true(same_picture(plain, changed, "a castle"));
    styx_model_free(changed);
    styx_model_free(plain);
    assert_int_equal(open(file("lora.safetensors"), NULL, &plain, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "LoRA"));
}

/* ---- textual inversion ---- */

static void test_embedding(void **state)
{
    (void)state;
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    styx_model *plain, *changed;
    styx_error err;
    must(open(MODELS "tiny_sd15", NULL, &plain, &err), &err);
    int known = plain->part[SLOT_TEXT_ENCODER]->clip.vocabulary;
    int width = plain->part[SLOT_TEXT_ENCODER]->clip.dim;
    float *rows = calloc(2 * (size_t)width, sizeof *rows);
    for (int i = 0; i < 2 * width; i++)
        rows[i] = (float)(i % 7) - 3;
    struct saved t = { "<styx-cat>", DT_F32, 2, { 2, width }, rows };
    must(save_file(file("cat.safetensors"), &t, 1, NULL, FILE_REPLACE, &err), &err);
    struct styx_embedding cat = { file("cat.safetensors"), NULL };
    o.embeddings = &cat;
    o.embedding_count = 1;
    must(open(MODELS "tiny_sd15", &o, &changed, &err), &err);
    assert_int_equal(changed->part[SLOT_TEXT_ENCODER]->clip.vocabulary, known + 2);
    assert_true(same_picture(plain, changed, "a castle"));
    assert_false(same_picture(plain, changed, "a <styx-cat> castle"));

    /* the word alone stands for both of its vectors */
    struct styx_result x = draw(changed, "a <styx-cat> castle");
    struct styx_result z = draw(changed, "a <styx-cat>_1 castle");
    size_t bytes = (size_t)x.images[0].width * (size_t)x.images[0].height * 3;
    assert_int_not_equal(memcmp(x.images[0].pixels, z.images[0].pixels, bytes), 0);
    styx_result_free(&x);
    styx_result_free(&z);
    styx_model_free(changed);

    cat.word = "cat's own";
    must(open(MODELS "tiny_sd15", &o, &changed, &err), &err);
    assert_false(same_picture(plain, changed, "a cat's own castle"));
    styx_model_free(changed);
    styx_model_free(plain);
    free(rows);
}

/* ---- the hub's cache ---- */

static void write_text(const char *path, const char *text)
{
    styx_error err;
    must(file_write(path, text, strlen(text), FILE_REPLACE, &err), &err);
}

static void test_hub(void **state)
{
    (void)state;
    static const char *const bad[] = { "one", "a/b/c", "../b", "a/..", "a/b@../c", "/a/b", "" };
    const char *commit = "89abcdef89abcdef89abcdef89abcdef89abcdef";
    char *path = NULL, command[2000];
    styx_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(styx_hub_find(bad[i], &path, &err), STYX_ERR_INVALID);
    assert_int_equal(styx_hub_find("some/model", &path, &err), STYX_ERR_IO);
    assert_non_null(strstr(err.text, "styx pull some/model"));
    snprintf(command, sizeof command,
             "mkdir -p '%s'/models--some--model/refs/pr "
             "'%s'/models--some--model/snapshots/%s",
             folder, folder, commit);
    assert_int_equal(system(command), 0);
    write_text(file("models--some--model/refs/main"), commit);
    write_text(file("models--some--model/refs/pr/1"), "../../..\n");
    must(styx_hub_find("some/model", &path, &err), &err);
    assert_non_null(strstr(path, commit));
    free(path);
    must(styx_hub_find("some/model@89abcdef89abcdef89abcdef89abcdef89abcdef", &path, &err), &err);
    free(path);
    path = NULL;
    assert_int_equal(styx_hub_find("some/model@pr/1", &path, &err), STYX_ERR_FORMAT);
    assert_int_equal(styx_hub_find("some/model@fp16", &path, &err), STYX_ERR_IO);
    assert_int_equal(styx_hub_find("runwayml/stable-diffusion-v1-5", &path, &err), STYX_ERR_IO);
    assert_non_null(strstr(err.text, "stable-diffusion-v1-5/stable-diffusion-v1-5"));
    assert_null(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_needs),      cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_vocabulary), cmocka_unit_test(test_published),
        cmocka_unit_test(test_lora),       cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_hub),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
