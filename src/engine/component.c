/* component.c - opens one folder of a model and says what it is. */
#include "base/file.h"
#include "engine/engine.h"
#include <stdlib.h>

const char *const slot_names[SLOT_COUNT] = {
    [SLOT_TEXT_ENCODER] = "text_encoder",   [SLOT_TEXT_ENCODER_2] = "text_encoder_2",
    [SLOT_TOKENIZER] = "tokenizer",         [SLOT_TOKENIZER_2] = "tokenizer_2",
    [SLOT_UNET] = "unet",                   [SLOT_VAE] = "vae",
    [SLOT_SCHEDULER] = "scheduler",         [SLOT_SAFETY_CHECKER] = "safety_checker",
    [SLOT_FEATURE_EXTRACTOR] = "feature_extractor",
};

int slot_find(const char *name)
{
    for (int i = 0; i < SLOT_COUNT; i++)
        if (strcmp(slot_names[i], name) == 0)
            return i;
    return -1;
}

styx_component *styx_component_ref(styx_component *component)
{
    if (component)
        atomic_fetch_add(&component->refs, 1);
    return component;
}

void styx_component_free(styx_component *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) > 1)
        return;
    free(c->class_name);
    free(c->path);
    json_decref(c->config);
    store_unref(c->weights);
    tokenizer_free(c->tokenizer);
    free(c);
}

/* "unet/config.json": what messages call a file of this component. */
static void name_file(const styx_component *c, const char *file, char *text, size_t n)
{
    snprintf(text, n, "%s/%s", c->path, file);
}

static int read_config(styx_component *c, const char *file, styx_error *err)
{
    char *path = path_join(c->path, file);
    int code = path ? json_file(path, &c->config, err) : fail_nomem(err, 256);
    free(path);
    return code;
}

static int open_weights(styx_component *c, const char *stem, const char *variant, styx_error *err)
{
    return store_open_component(c->path, stem, variant, &c->weights, err);
}

static int set_class(styx_component *c, const char *fallback, styx_error *err)
{
    const char *name = fallback;
    char where[600];
    name_file(c, "config.json", where, sizeof where);
    int code = json_text(c->config, where, "_class_name", fallback, &name, err);
    if (code)
        return code;
    if (fallback && strcmp(name, fallback) != 0)
        return fail(err, STYX_ERR_UNSUPPORTED, "%s: a %s, where a %s was wanted", where, name,
                    fallback);
    c->class_name = strdup(name);
    return c->class_name ? 0 : fail_nomem(err, strlen(name));
}

static int open_unet(styx_component *c, const char *variant, styx_error *err)
{
    char where[600];
    int code;
    name_file(c, "config.json", where, sizeof where);
    if ((code = read_config(c, "config.json", err)) ||
        (code = set_class(c, "UNet2DConditionModel", err)) ||
        (code = unet_read(c->config, where, &c->unet, err)))
        return code;
    return open_weights(c, "diffusion_pytorch_model", variant, err);
}

static int open_vae(styx_component *c, const char *variant, styx_error *err)
{
    char where[600];
    int code;
    name_file(c, "config.json", where, sizeof where);
    if ((code = read_config(c, "config.json", err)) ||
        (code = set_class(c, "AutoencoderKL", err)) ||
        (code = vae_read(c->config, where, &c->vae, err)))
        return code;
    return open_weights(c, "diffusion_pytorch_model", variant, err);
}

static int open_text_encoder(styx_component *c, const char *variant, styx_error *err)
{
    char where[600];
    int code;
    name_file(c, "config.json", where, sizeof where);
    if ((code = read_config(c, "config.json", err)) ||
        (code = clip_text_read(c->config, where, &c->clip, err)))
        return code;
    c->class_name = strdup(c->clip.projection ? "CLIPTextModelWithProjection" : "CLIPTextModel");
    if (!c->class_name)
        return fail_nomem(err, 32);
    return open_weights(c, "model", variant, err);
}

static int open_safety_checker(styx_component *c, const char *variant, styx_error *err)
{
    char where[600];
    int code;
    name_file(c, "config.json", where, sizeof where);
    if ((code = read_config(c, "config.json", err)) ||
        (code = clip_vision_read(c->config, where, &c->clip, err)))
        return code;
    c->class_name = strdup("StableDiffusionSafetyChecker");
    if (!c->class_name)
        return fail_nomem(err, 32);
    if ((code = open_weights(c, "model", variant, err)))
        return code;
    c->vision_prefix = store_has_prefix(c->weights, "vision_model.vision_model.")
                           ? "vision_model.vision_model"
                           : "vision_model";
    return 0;
}

static int open_scheduler(styx_component *c, styx_error *err)
{
    const char *name = NULL;
    char where[600];
    int code;
    name_file(c, "scheduler_config.json", where, sizeof where);
    if ((code = read_config(c, "scheduler_config.json", err)) ||
        (code = json_text(c->config, where, "_class_name", "", &name, err)))
        return code;
    c->class_name = strdup(name);
    return c->class_name ? 0 : fail_nomem(err, strlen(name));
}

static int open_tokenizer(styx_component *c, styx_error *err)
{
    c->class_name = strdup("CLIPTokenizer");
    if (!c->class_name)
        return fail_nomem(err, 16);
    return tokenizer_open(c->path, &c->tokenizer, err);
}

static int open_feature_extractor(styx_component *c, styx_error *err)
{
    c->class_name = strdup("CLIPImageProcessor");
    if (!c->class_name)
        return fail_nomem(err, 32);
    return read_config(c, "preprocessor_config.json", err);
}

static int open_as(styx_component *c, const char *variant, styx_error *err)
{
    switch (c->slot) {
    case SLOT_TEXT_ENCODER:
    case SLOT_TEXT_ENCODER_2:
        return open_text_encoder(c, variant, err);
    case SLOT_TOKENIZER:
    case SLOT_TOKENIZER_2:
        return open_tokenizer(c, err);
    case SLOT_UNET:
        return open_unet(c, variant, err);
    case SLOT_VAE:
        return open_vae(c, variant, err);
    case SLOT_SCHEDULER:
        return open_scheduler(c, err);
    case SLOT_SAFETY_CHECKER:
        return open_safety_checker(c, variant, err);
    case SLOT_FEATURE_EXTRACTOR:
        return open_feature_extractor(c, err);
    case SLOT_COUNT:
        break;
    }
    return fail(err, STYX_ERR_INTERNAL, "no such component");
}

int styx_component_open(const char *folder, const char *name, const char *variant,
                        styx_component **component, styx_error *err)
{
    int slot = name ? slot_find(name) : -1, code;
    if (!folder || !component)
        return fail(err, STYX_ERR_INVALID, "styx_component_open needs a folder and a place for it");
    if (slot < 0)
        return fail(err, STYX_ERR_INVALID, "'%s' is no component; text_encoder, tokenizer, unet, "
                    "vae, scheduler, safety_checker and feature_extractor are", name ? name : "");
    if (!file_is_dir(folder))
        return fail(err, STYX_ERR_IO, "%s: no such folder; the model's %s was wanted there", folder,
                    name);
    styx_component *c = calloc(1, sizeof *c);
    if (!c)
        return fail_nomem(err, sizeof *c);
    atomic_init(&c->refs, 1);
    c->slot = (enum slot)slot;
    c->path = strdup(folder);
    code = c->path ? open_as(c, variant, err) : fail_nomem(err, strlen(folder));
    if (code) {
        styx_component_free(c);
        return code;
    }
    *component = c;
    return 0;
}

int styx_component_info(const styx_component *c, char **json, styx_error *err)
{
    json_t *root = json_object();
    struct store_summary sum = { 0 };
    if (c->weights)
        store_summarize(c->weights, &sum);
    json_object_set_new(root, "name", json_string(slot_names[c->slot]));
    json_object_set_new(root, "class", json_string(c->class_name));
    json_object_set_new(root, "path", json_string(c->path));
    if (c->config)
        json_object_set(root, "config", c->config);
    if (c->weights) {
        json_object_set_new(root, "file", json_string(store_path(c->weights)));
        json_object_set_new(root, "parameters", json_integer((json_int_t)sum.parameters));
        json_object_set_new(root, "bytes", json_integer((json_int_t)sum.bytes));
        json_object_set_new(root, "dtype", json_string(sum.ntypes ? sum.types[0].type : ""));
    }
    *json = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(root);
    return *json ? 0 : fail_nomem(err, 1024);
}
