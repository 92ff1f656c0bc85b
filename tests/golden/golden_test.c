/* golden_test.c - every case of a goldens folder (README.md there) through the public API: the call
 * of the manifest becomes a request, and what the run traces is held against what diffusers did.
 *
 * STYX_GOLDENS names another folder of the same form, STYX_BACKEND a backend other than cpu. What
 * diffusers computed in halves runs in halves where the backend has them: cuda. */
#include "base/json.h"
#include "styx.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_CASES = 512, MAX_VALUES = 512 };

static const char *root;
static json_t *manifest;
static styx_session *session;
static int halves; /* the backend computes in f16 */

struct values {
    char **names;
    struct styx_tensor *tensors;
    size_t count;
};

static size_t numbers(const struct styx_tensor *x)
{
    size_t n = 1;
    for (int i = 0; i < x->dims; i++)
        n *= (size_t)x->shape[i];
    return n;
}

static const struct styx_tensor *find(const struct values *v, const char *name)
{
    for (size_t i = 0; i < v->count; i++)
        if (strcmp(v->names[i], name) == 0)
            return &v->tensors[i];
    return NULL;
}

static void keep(void *user, const char *name, const struct styx_tensor *value)
{
    struct values *v = user;
    assert_true(v->count < MAX_VALUES);
    struct styx_tensor *to = &v->tensors[v->count];
    *to = *value;
    to->data = malloc(numbers(value) * sizeof(float));
    memcpy(to->data, value->data, numbers(value) * sizeof(float));
    v->names[v->count++] = strdup(name);
}

/* How far apart, at most, relative to numbers above 1; a NaN is infinitely far. */
static double distance(const struct styx_tensor *a, const struct styx_tensor *b, size_t *at)
{
    double most = 0;
    for (size_t i = 0; i < numbers(a); i++) {
        double d = fabs((double)a->data[i] - b->data[i]) / fmax(1, fabs(a->data[i]));
        if (!(d <= most)) {
            most = isnan(d) ? INFINITY : d;
            *at = i;
        }
    }
    return most;
}

static void check_value(const char *name, const struct styx_tensor *want,
                        const struct styx_tensor *got, double tolerance)
{
    size_t at = 0;
    if (numbers(want) != numbers(got))
        fail_msg("%s: %zu numbers, %zu were wanted", name, numbers(got), numbers(want));
    double d = distance(want, got, &at);
    if (d > tolerance)
        fail_msg("%s: off by %g at %zu (%g instead of %g), %g allowed", name, d, at,
                 (double)got->data[at], (double)want->data[at], tolerance);
}

/* ---- from the manifest to handles ---- */

static void must(int code, const styx_error *err)
{
    if (code)
        fail_msg("%s", err->text);
}

static void path_of(char *path, size_t n, const char *name)
{
    snprintf(path, n, "%s/%s", root, name);
}

struct parts {
    const char *names[16];
    styx_component *parts[16];
    size_t count;
};

static void borrow(struct parts *p, json_t *from)
{
    const char *name;
    json_t *folder;
    char path[1024];
    styx_error err;
    json_object_foreach(from, name, folder)
    {
        path_of(path, sizeof path, json_string_value(folder));
        must(styx_component_open(path, name, NULL, &p->parts[p->count], &err), &err);
        p->names[p->count++] = name;
    }
}

struct extras {
    char paths[8][1024];
    struct styx_lora loras[4];
    struct styx_embedding words[4];
};

/* "loras": [[file, scale]], "words": [[file, token]] */
static void take_extras(json_t *entry, struct extras *e, struct styx_model_options *o)
{
    json_t *loras = json_object_get(entry, "loras"), *words = json_object_get(entry, "words"), *x;
    size_t i;
    assert_true(json_array_size(loras) <= 4 && json_array_size(words) <= 4);
    json_array_foreach(loras, i, x)
    {
        path_of(e->paths[i], sizeof e->paths[i], json_string_value(json_array_get(x, 0)));
        e->loras[i] = (struct styx_lora){ e->paths[i], json_number_value(json_array_get(x, 1)) };
    }
    json_array_foreach(words, i, x)
    {
        char *path = e->paths[4 + i];
        path_of(path, sizeof e->paths[0], json_string_value(json_array_get(x, 0)));
        e->words[i] = (struct styx_embedding){ path, json_string_value(json_array_get(x, 1)) };
    }
    o->loras = e->loras;
    o->lora_count = json_array_size(loras);
    o->embeddings = e->words;
    o->embedding_count = json_array_size(words);
}

static void no_warning(void *user, const char *text)
{
    (void)user;
    fail_msg("%s", text);
}

static styx_model *open_model(json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "model"));
    json_t *m = json_object_get(json_object_get(manifest, "models"), name);
    struct parts p = { 0 };
    struct extras extras;
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    char path[1024];
    styx_model *model = NULL;
    styx_error err;
    borrow(&p, json_object_get(m, "borrow"));
    borrow(&p, json_object_get(entry, "borrow"));
    path_of(path, sizeof path, json_string_value(json_object_get(m, "dir")));
    o.names = p.names;
    o.components = p.parts;
    o.component_count = p.count;
    o.warn = no_warning; /* every key of a LoRA is used */
    take_extras(entry, &extras, &o);
    must(styx_model_open(path, &o, &model, &err), &err);
    for (size_t i = 0; i < p.count; i++)
        styx_component_free(p.parts[i]);
    return model;
}

/* ---- from call to request ---- */

struct lists { /* what the request borrows */
    const char *text[4][16];
    double numbers[2][64];
    uint64_t seeds[16];
    struct styx_image images[8], mask;
};

static size_t texts(json_t *value, const char **to)
{
    for (size_t i = 0; i < json_array_size(value); i++)
        to[i] = json_string_value(json_array_get(value, i));
    return json_array_size(value);
}

static size_t list_of(json_t *value, double *to)
{
    for (size_t i = 0; i < json_array_size(value); i++)
        to[i] = json_number_value(json_array_get(value, i));
    return json_array_size(value);
}

static void two(json_t *value, int *to)
{
    to[0] = (int)json_integer_value(json_array_get(value, 0));
    to[1] = (int)json_integer_value(json_array_get(value, 1));
}

static int set_number(struct styx_request *r, const char *key, json_t *value)
{
    struct {
        const char *key;
        double *to;
    } reals[] = {
        { "guidance_scale", &r->guidance_scale },
        { "guidance_rescale", &r->guidance_rescale },
        { "eta", &r->eta },
        { "strength", &r->strength },
        { "denoising_start", &r->denoising_start },
        { "denoising_end", &r->denoising_end },
        { "aesthetic_score", &r->aesthetic_score },
        { "negative_aesthetic_score", &r->negative_aesthetic_score },
    };
    struct {
        const char *key;
        int *to;
    } ints[] = {
        { "num_inference_steps", &r->steps },
        { "num_images_per_prompt", &r->images_per_prompt },
        { "height", &r->height },
        { "width", &r->width },
        { "clip_skip", &r->clip_skip },
    };
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (strcmp(key, reals[i].key) == 0) {
            *reals[i].to = json_number_value(value);
            return 1;
        }
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if (strcmp(key, ints[i].key) == 0) {
            *ints[i].to = (int)json_integer_value(value);
            return 1;
        }
    return 0;
}

static int set_pair(struct styx_request *r, const char *key, json_t *value)
{
    struct {
        const char *key;
        int *to;
    } pairs[] = {
        { "original_size", r->original_size },
        { "target_size", r->target_size },
        { "crops_coords_top_left", r->crop },
        { "negative_original_size", r->negative_original_size },
        { "negative_target_size", r->negative_target_size },
        { "negative_crops_coords_top_left", r->negative_crop },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strcmp(key, pairs[i].key) == 0) {
            two(value, pairs[i].to);
            return 1;
        }
    return 0;
}

static int set_text(struct styx_request *r, struct lists *l, const char *key, json_t *value)
{
    static const char *const keys[] = { "prompt", "prompt_2", "negative_prompt",
                                        "negative_prompt_2" };
    const char **ones[] = { &r->prompt, &r->prompt_2, &r->negative_prompt, &r->negative_prompt_2 };
    const char *const **lists[] = { &r->prompts, &r->prompts_2, &r->negative_prompts,
                                    &r->negative_prompts_2 };
    for (int i = 0; i < 4; i++) {
        if (strcmp(key, keys[i]) != 0)
            continue;
        if (json_is_string(value)) {
            *ones[i] = json_string_value(value);
            return 1;
        }
        size_t n = texts(value, l->text[i]);
        *lists[i] = l->text[i];
        if (i == 0)
            r->prompt_count = n;
        return 1;
    }
    return 0;
}

static void set_call(struct styx_request *r, struct lists *l, json_t *call)
{
    const char *key;
    json_t *value;
    json_object_foreach(call, key, value)
    {
        if (json_is_null(value) || set_text(r, l, key, value) || set_pair(r, key, value) ||
            set_number(r, key, value))
            continue;
        if (strcmp(key, "output_type") == 0) {
            if (strcmp(json_string_value(value), "latent") == 0)
                r->output = STYX_OUTPUT_LATENTS;
        } else if (strcmp(key, "timesteps") == 0) {
            r->timestep_count = list_of(value, l->numbers[0]);
            r->timesteps = l->numbers[0];
        } else if (strcmp(key, "sigmas") == 0) {
            r->sigma_count = list_of(value, l->numbers[1]);
            r->sigmas = l->numbers[1];
        } else {
            fail_msg("the call has '%s', which this runner does not know", key);
        }
    }
}

/* U8 [h,w,3], [h,w] or [n,h,w,3], loaded as floats */
static size_t pictures(const struct styx_tensor *x, struct styx_image *to)
{
    int grey = x->dims == 2, many = x->dims == 4;
    size_t n = many ? (size_t)x->shape[0] : 1, one = numbers(x) / n;
    for (size_t i = 0; i < n; i++) {
        to[i] =
            (struct styx_image){ x->shape[many + 1], x->shape[many], grey ? 1 : 3, malloc(one) };
        for (size_t k = 0; k < one; k++)
            to[i].pixels[k] = (unsigned char)x->data[i * one + k];
    }
    return n;
}

static void set_arrays(struct styx_request *r, struct lists *l, const struct values *v)
{
    struct {
        const char *name;
        const struct styx_tensor **to;
    } arrays[] = {
        { "arg.latents", &r->latents },
        { "arg.image", &r->image_tensor },
        { "arg.mask_image", &r->mask_tensor },
        { "arg.prompt_embeds", &r->prompt_embeds },
        { "arg.negative_prompt_embeds", &r->negative_prompt_embeds },
        { "arg.pooled_prompt_embeds", &r->pooled_prompt_embeds },
        { "arg.negative_pooled_prompt_embeds", &r->negative_pooled_prompt_embeds },
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        *arrays[i].to = find(v, arrays[i].name);
    if (find(v, "arg.image_u8")) {
        r->image_count = pictures(find(v, "arg.image_u8"), l->images);
        r->images = l->images;
    }
    if (find(v, "arg.mask_image_u8")) {
        pictures(find(v, "arg.mask_image_u8"), &l->mask);
        r->mask = &l->mask;
    }
}

static void set_seed(struct styx_request *r, struct lists *l, json_t *entry)
{
    json_t *seed = json_object_get(entry, "seed");
    const char *kind = json_string_value(json_object_get(entry, "generator"));
    r->generator_kind = kind && strcmp(kind, "cuda") == 0 ? STYX_TORCH_CUDA : STYX_TORCH_CPU;
    r->seed_count = json_is_array(seed) ? json_array_size(seed) : 1;
    for (size_t i = 0; i < r->seed_count; i++)
        l->seeds[i] =
            (uint64_t)json_integer_value(json_is_array(seed) ? json_array_get(seed, i) : seed);
    r->seeds = l->seeds;
}

static void set_scheduler(struct styx_request *r, json_t *entry)
{
    json_t *s = json_object_get(entry, "scheduler");
    styx_error err;
    if (!json_is_object(s))
        return;
    char *config = json_dumps(json_object_get(s, "config"), 0);
    must(styx_scheduler_new(json_string_value(json_object_get(s, "class")), config, NULL,
                            &r->scheduler, &err),
         &err);
    free(config);
}

/* ---- comparing ---- */

static double tolerance(const char *name, int half)
{
    if (half && strcmp(name, "vae.decode_in") == 0) /* see below */
        return 2e-2 / 0.13;
    if (half)
        return strncmp(name, "noise", 5) == 0 ? 2e-3 : 2e-2;
    if (strncmp(name, "cond.", 5) == 0)
        return 1e-5;
    if (strncmp(name, "noise", 5) == 0)
        return 2e-6;
    if (strncmp(name, "unet.000", 8) == 0)
        return 1e-4;
    if (strcmp(name, "vae.decode_in") == 0) /* latents over a scaling factor of 0.13 or 0.18 */
        return 1e-3 / 0.13;
    return 1e-3;
}

static void check_bytes(const struct styx_tensor *want, const struct styx_result *r, double share)
{
    size_t one = numbers(want) / r->count, far = 0;
    for (size_t i = 0; i < r->count; i++)
        for (size_t k = 0; k < one; k++)
            far += fabs(want->data[i * one + k] - r->images[i].pixels[k]) > 1;
    if ((double)far > share * (double)numbers(want))
        fail_msg("out.image_u8: %zu of %zu values are more than 1 apart", far, numbers(want));
}

static void compare(const struct values *want, const struct values *got,
                    const struct styx_result *result, int half)
{
    static const char *const kinds[] = { "cond.", "noise.",    "unet.",      "latents.",
                                         "vae.",  "out.image", "out.latents" };
    int compared = 0;
    for (size_t i = 0; i < want->count; i++) {
        const char *name = want->names[i];
        const struct styx_tensor *x = find(got, name);
        int known = 0;
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            known |= strncmp(name, kinds[k], strlen(kinds[k])) == 0;
        if (!known || strcmp(name, "cond.timestep_cond") == 0)
            continue;
        if (strcmp(name, "out.image_u8") == 0) {
            check_bytes(&want->tensors[i], result, half ? 0.05 : 0.001);
        } else if (!x) {
            fail_msg("%s is missing from the trace", name);
        } else {
            check_value(name, &want->tensors[i], x, tolerance(name, half));
        }
        compared++;
    }
    assert_true(compared > 3);
}

/* ---- the kinds of cases ---- */

static void run_pipeline(json_t *entry, const struct values *v)
{
    struct styx_request r = STYX_REQUEST_INIT;
    struct styx_result result = STYX_RESULT_INIT;
    struct lists l = { 0 };
    struct values got = { calloc(MAX_VALUES, sizeof(char *)),
                          calloc(MAX_VALUES, sizeof(struct styx_tensor)), 0 };
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    int half = dtype && strcmp(dtype, "float16") == 0;
    styx_model *model = open_model(entry);
    styx_error err;
    set_call(&r, &l, json_object_get(entry, "call"));
    set_arrays(&r, &l, v);
    set_seed(&r, &l, entry);
    set_scheduler(&r, entry);
    r.dtype = half && halves ? STYX_F16 : STYX_F32;
    r.vae_dtype = STYX_F32; /* the latents are compared; the decoder has bounds of its own */
    r.noise_dtype = half ? STYX_F16 : STYX_F32;
    r.safety = STYX_SAFETY_BLACK;
    r.trace = keep;
    r.user = &got;
    must(styx_generate(session, model, &r, &result, &err), &err);
    assert_int_equal(result.steps, json_integer_value(json_object_get(entry, "unet_calls")));
    compare(v, &got, &result, half);
    styx_result_free(&result);
    styx_scheduler_free(r.scheduler);
    styx_tensors_free(got.names, got.tensors, got.count);
    for (size_t i = 0; i < 8; i++)
        styx_image_free(&l.images[i]);
    styx_image_free(&l.mask);
    styx_model_free(model);
}

/* The first half of the moments' channels. */
static void check_mean(const char *name, const struct styx_tensor *want,
                       const struct styx_tensor *moments)
{
    size_t n = (size_t)want->shape[0], half = numbers(want) / n;
    for (size_t i = 0; i < n; i++) {
        struct styx_tensor a = { 1, { (int)half }, want->data + i * half };
        struct styx_tensor b = { 1, { (int)half }, moments->data + i * 2 * half };
        check_value(name, &a, &b, 1e-4);
    }
}

static void run_vae(json_t *entry, const struct values *v, int tiled)
{
    styx_model *model = open_model(entry);
    styx_error err;
    for (int i = 0; i < 8; i++) {
        struct styx_tensor moments, pixels;
        char name[32];
        snprintf(name, sizeof name, "%d.image", i);
        const struct styx_tensor *image = find(v, name);
        if (!image)
            break;
        must(styx_vae_encode(session, model, STYX_F32, image,
                             tiled ? STYX_TILING_DIFFUSERS : STYX_TILING_OFF, 32, &moments, &err),
             &err);
        snprintf(name, sizeof name, "%d.mean", i);
        if (find(v, name))
            check_mean(name, find(v, name), &moments);
        snprintf(name, sizeof name, "%d.z", i);
        const struct styx_tensor *z = find(v, name);
        assert_non_null(z);
        must(styx_vae_decode(session, model, STYX_F32, z,
                             tiled ? STYX_TILING_DIFFUSERS : STYX_TILING_OFF, 32, &pixels, &err),
             &err);
        snprintf(name, sizeof name, "%d.decoded", i);
        check_value(name, find(v, name), &pixels, 1e-4);
        styx_tensor_free(&moments);
        styx_tensor_free(&pixels);
    }
    styx_model_free(model);
}

/* shared/goldens: hidden.K of all rows; ours: some rows and positions. Compared where both have it.
 */
static void check_hidden(const char *name, const struct styx_tensor *want,
                         const struct styx_tensor *got)
{
    int tokens = got->shape[1], dim = got->shape[2];
    for (int n = 0; n < want->shape[0]; n++)
        for (int t = 0; t < want->shape[1]; t++)
            for (int c = 0; c < dim; c++) {
                double a = want->data[((size_t)n * want->shape[1] + t) * dim + c];
                double b = got->data[((size_t)n * tokens + t) * dim + c];
                if (!(fabs(a - b) <= 1e-5))
                    fail_msg("%s: %g instead of %g at row %d, token %d", name, b, a, n, t);
            }
}

static void run_clip_text(json_t *entry, const struct values *v)
{
    char name[64];
    snprintf(name, sizeof name, "%s", json_string_value(json_object_get(entry, "model")));
    char *dot = strchr(name, '.');
    assert_non_null(dot);
    *dot = 0;
    int encoder = strcmp(dot + 1, "text_encoder_2") == 0 ? 2 : 1;
    json_t *copy = json_copy(entry);
    json_object_set_new(copy, "model", json_string(name));
    styx_model *model = open_model(copy);
    json_decref(copy);
    const struct styx_tensor *given = find(v, "input_ids");
    size_t n = (size_t)given->shape[0], tokens = (size_t)given->shape[1];
    int32_t *ids = malloc(n * tokens * sizeof *ids);
    styx_error err;
    for (size_t i = 0; i < n * tokens; i++)
        ids[i] = (int32_t)given->data[i];
    for (int layer = -1; layer < 16; layer++) {
        struct styx_tensor hidden;
        snprintf(name, sizeof name, layer < 0 ? "last_hidden_state" : "hidden.%d", layer);
        if (!find(v, name))
            continue;
        must(styx_encode_text(session, model, encoder, ids, n, tokens, layer, STYX_F32, &hidden,
                              NULL, &err),
             &err);
        check_hidden(name, find(v, name), &hidden);
        styx_tensor_free(&hidden);
    }
    if (find(v, "text_embeds")) {
        struct styx_tensor pooled;
        must(styx_encode_text(session, model, encoder, ids, n, tokens, -1, STYX_F32, NULL, &pooled,
                              &err),
             &err);
        check_value("text_embeds", find(v, "text_embeds"), &pooled, 1e-5);
        styx_tensor_free(&pooled);
    }
    free(ids);
    styx_model_free(model);
}

static void run_safety(json_t *entry, const struct values *v)
{
    styx_component *parts[1];
    const char *names[] = { "safety_checker" };
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    json_t *base = json_pack("{s:s}", "model", "tiny_sd15"), *m;
    styx_model *model = NULL;
    char path[1024], dir[1024];
    styx_error err;
    m = json_object_get(json_object_get(manifest, "models"),
                        json_string_value(json_object_get(entry, "model")));
    path_of(dir, sizeof dir, json_string_value(json_object_get(m, "dir")));
    snprintf(path, sizeof path, "%.1000s/safety_checker", dir);
    must(styx_component_open(path, "safety_checker", NULL, &parts[0], &err), &err);
    o.names = names;
    o.components = parts;
    o.component_count = 1;
    m = json_object_get(json_object_get(manifest, "models"), "tiny_sd15");
    path_of(dir, sizeof dir, json_string_value(json_object_get(m, "dir")));
    must(styx_model_open(dir, &o, &model, &err), &err);
    const struct styx_tensor *bad = find(v, "bad");
    assert_non_null(bad);
    for (size_t i = 0; i < numbers(bad); i++) {
        struct styx_image image = { 0 };
        unsigned char nsfw = 9;
        char name[32];
        snprintf(name, sizeof name, "%zu.u8", i);
        pictures(find(v, name), &image);
        must(styx_safety_check(session, model, &image, 1, &nsfw, &err), &err);
        assert_int_equal(nsfw, bad->data[i]);
        styx_image_free(&image);
    }
    styx_component_free(parts[0]);
    styx_model_free(model);
    json_decref(base);
}

static void run_case(void **state)
{
    const char *name = *state;
    json_t *entry = json_object_get(json_object_get(manifest, "cases"), name);
    const char *kind = json_string_value(json_object_get(entry, "kind"));
    struct values v = { 0 };
    char path[1024];
    styx_error err;
    path_of(path, sizeof path, json_string_value(json_object_get(entry, "file")));
    must(styx_tensors_load(path, &v.names, &v.tensors, &v.count, &err), &err);
    if (!kind)
        run_pipeline(entry, &v);
    else if (strcmp(kind, "vae") == 0 || strcmp(kind, "vae_tiling") == 0)
        run_vae(entry, &v, kind[3] == '_');
    else if (strcmp(kind, "clip_text") == 0)
        run_clip_text(entry, &v);
    else if (strcmp(kind, "safety") == 0)
        run_safety(entry, &v);
    styx_tensors_free(v.names, v.tensors, v.count);
}

/* Pictures by themselves are the unit tests' affair (image_golden_test); padding_mask_crop, which
 * cuts pictures and pastes them, is the Python package's own (python/tests/test_golden.py). */
static int is_ours(json_t *entry)
{
    const char *kind = json_string_value(json_object_get(entry, "kind"));
    if (json_object_get(json_object_get(entry, "call"), "padding_mask_crop"))
        return 0;
    return !kind || (strcmp(kind, "image") != 0 && strcmp(kind, "clip_vision") != 0);
}

int main(int argc, char **argv)
{
    static struct CMUnitTest tests[MAX_CASES];
    struct styx_session_options o = STYX_SESSION_OPTIONS_INIT;
    styx_error err;
    char path[1024];
    const char *name;
    json_t *entry;
    size_t n = 0;
    root = getenv("STYX_GOLDENS") ? getenv("STYX_GOLDENS") : STYX_TEST_DATA "/golden";
    o.backend = getenv("STYX_BACKEND") ? getenv("STYX_BACKEND") : "cpu";
    halves = strcmp(o.backend, "cuda") == 0;
    path_of(path, sizeof path, "manifest.json");
    if (json_file(path, &manifest, &err) || styx_session_new(&o, &session, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    json_object_foreach(json_object_get(manifest, "cases"), name, entry)
    {
        if (!is_ours(entry) || (argc > 1 && !strstr(name, argv[1])) || n == MAX_CASES)
            continue;
        tests[n++] = (struct CMUnitTest){ .name = name,
                                          .test_func = run_case,
                                          .initial_state = (void *)name };
    }
    int failed = _cmocka_run_group_tests("golden", tests, n, NULL, NULL);
    styx_session_free(session);
    json_decref(manifest);
    return failed;
}
