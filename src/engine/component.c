/* component.c - opens one folder of a model and says what it is. */
#include "base/file.h"
#include "engine/engine.h"
#include <stdlib.h>

const char *const slot_names[SLOT_COUNT] = {
    [SLOT_TEXT_ENCODER] = "text_encoder",
    [SLOT_TEXT_ENCODER_2] = "text_encoder_2",
    [SLOT_TOKENIZER] = "tokenizer",
    [SLOT_TOKENIZER_2] = "tokenizer_2",
    [SLOT_UNET] = "unet",
    [SLOT_VAE] = "vae",
    [SLOT_SCHEDULER] = "scheduler",
    [SLOT_SAFETY_CHECKER] = "safety_checker",
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

/* What a component's folder holds. */
static const struct holding {
    const char *config, *weights;
} holdings[SLOT_COUNT] = {
    [SLOT_TEXT_ENCODER] = { "config.json", "model" },
    [SLOT_TEXT_ENCODER_2] = { "config.json", "model" },
    [SLOT_UNET] = { "config.json", "diffusion_pytorch_model" },
    [SLOT_VAE] = { "config.json", "diffusion_pytorch_model" },
    [SLOT_SCHEDULER] = { "scheduler_config.json", NULL },
    [SLOT_SAFETY_CHECKER] = { "config.json", "model" },
    [SLOT_FEATURE_EXTRACTOR] = { "preprocessor_config.json", NULL },
};

const char *slot_config_file(enum slot slot)
{
    return holdings[slot].config;
}

const char *slot_weights_stem(enum slot slot)
{
    return holdings[slot].weights;
}

/* The class that the config names, which may be no other than `wanted` (NULL: any). */
static int read_class(styx_component *c, const char *where, const char *wanted, const char **name,
                      styx_error *err)
{
    int code = json_text(c->config, where, "_class_name", wanted ? wanted : "", name, err);
    if (code)
        return code;
    if (wanted && strcmp(*name, wanted) != 0)
        return fail(err, STYX_ERR_UNSUPPORTED, "%s: a %s, where a %s was wanted", where, *name,
                    wanted);
    return 0;
}

/* Reads what the config says; where names it. */
static int read_config(styx_component *c, const char *where, styx_error *err)
{
    const char *name = NULL;
    int code = 0;
    switch (c->slot) {
    case SLOT_TEXT_ENCODER:
    case SLOT_TEXT_ENCODER_2:
        code = clip_text_read(c->config, where, &c->clip, err);
        name = c->clip.projection ? "CLIPTextModelWithProjection" : "CLIPTextModel";
        break;
    case SLOT_UNET:
        if (!(code = read_class(c, where, "UNet2DConditionModel", &name, err)))
            code = unet_read(c->config, where, &c->unet, err);
        break;
    case SLOT_VAE:
        if (!(code = read_class(c, where, "AutoencoderKL", &name, err)))
            code = vae_read(c->config, where, &c->vae, err);
        break;
    case SLOT_SCHEDULER:
        code = read_class(c, where, NULL, &name, err);
        break;
    case SLOT_SAFETY_CHECKER:
        code = clip_vision_read(c->config, where, &c->clip, err);
        name = "StableDiffusionSafetyChecker";
        break;
    case SLOT_FEATURE_EXTRACTOR:
        name = "CLIPImageProcessor";
        break;
    case SLOT_TOKENIZER:
    case SLOT_TOKENIZER_2:
    case SLOT_COUNT:
        code = fail(err, STYX_ERR_INTERNAL, "%s: no config was wanted", where);
    }
    if (code)
        return code;
    c->class_name = strdup(name);
    return c->class_name ? 0 : fail_nomem(err, strlen(name));
}

static int component_new(enum slot slot, const char *path, styx_component **out, styx_error *err)
{
    styx_component *c = calloc(1, sizeof *c);
    if (!c || !(c->path = strdup(path))) {
        free(c);
        return fail_nomem(err, sizeof *c);
    }
    atomic_init(&c->refs, 1);
    c->slot = slot;
    *out = c;
    return 0;
}

static int open_network(styx_component *c, const char *variant, styx_error *err)
{
    const struct holding *h = &holdings[c->slot];
    char *path = path_join(c->path, h->config);
    int code = path ? json_file(path, &c->config, err) : fail_nomem(err, 256);
    if (!code)
        code = read_config(c, path, err);
    if (!code && h->weights)
        code = store_open_component(c->path, h->weights, variant, &c->weights, err);
    if (!code && c->slot == SLOT_SAFETY_CHECKER)
        c->vision_prefix = store_has_prefix(c->weights, "vision_model.vision_model.")
                               ? "vision_model.vision_model"
                               : "vision_model";
    free(path);
    return code;
}

static int open_tokenizer(styx_component *c, styx_error *err)
{
    c->class_name = strdup("CLIPTokenizer");
    if (!c->class_name)
        return fail_nomem(err, 16);
    return tokenizer_open(c->path, &c->tokenizer, err);
}

int styx_component_open(const char *folder, const char *name, const char *variant,
                        styx_component **component, styx_error *err)
{
    int slot = name ? slot_find(name) : -1, code;
    styx_component *c = NULL;
    if (!folder || !component)
        return fail(err, STYX_ERR_INVALID, "styx_component_open needs a folder and a place for it");
    if (slot < 0)
        return fail(err, STYX_ERR_INVALID,
                    "'%s' is no component; text_encoder, tokenizer, unet, "
                    "vae, scheduler, safety_checker and feature_extractor are",
                    name ? name : "");
    if (!file_is_dir(folder))
        return fail(err, STYX_ERR_IO, "%s: no such folder; the model's %s was wanted there", folder,
                    name);
    if ((code = component_new((enum slot)slot, folder, &c, err)))
        return code;
    code = holdings[slot].config ? open_network(c, variant, err) : open_tokenizer(c, err);
    if (code) {
        styx_component_free(c);
        return code;
    }
    *component = c;
    return 0;
}

int component_make(enum slot slot, const char *path, json_t *config, const char *where,
                   struct store *weights, styx_component **out, styx_error *err)
{
    styx_component *c = NULL;
    int code = component_new(slot, path, &c, err);
    if (code)
        return code;
    c->config = json_incref(config);
    c->weights = weights ? store_ref(weights) : NULL;
    code = read_config(c, where, err);
    if (code)
        styx_component_free(c);
    else
        *out = c;
    return code;
}

int component_change(const styx_component *from, struct store *weights, struct tokenizer *tokenizer,
                     styx_component **out, styx_error *err)
{
    styx_component *c = NULL;
    int code = component_new(from->slot, from->path, &c, err);
    if (code)
        return code;
    c->class_name = strdup(from->class_name);
    c->config = json_incref(from->config);
    c->weights = weights ? store_ref(weights) : NULL;
    c->unet = from->unet;
    c->vae = from->vae;
    c->clip = from->clip;
    c->vision_prefix = from->vision_prefix;
    if (!c->class_name) {
        styx_component_free(c);
        return fail_nomem(err, strlen(from->class_name));
    }
    c->tokenizer = tokenizer;
    *out = c;
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
        /* the store of a part of a single file goes by another name than the file */
        json_object_set_new(root, "file",
                            json_string(file_is_dir(c->path) ? store_path(c->weights) : c->path));
        json_object_set_new(root, "parameters", json_integer((json_int_t)sum.parameters));
        json_object_set_new(root, "bytes", json_integer((json_int_t)sum.bytes));
        json_object_set_new(root, "dtype", json_string(sum.ntypes ? sum.types[0].type : ""));
    }
    *json = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(root);
    return *json ? 0 : fail_nomem(err, 1024);
}
