/* model.c - a pipeline: model_index.json and the components it names. */
#include "base/file.h"
#include "engine/engine.h"
#include <stdlib.h>

void styx_model_free(styx_model *m)
{
    if (!m)
        return;
    for (int i = 0; i < SLOT_COUNT; i++)
        styx_component_free(m->part[i]);
    json_decref(m->config);
    free(m->class_name);
    free(m->path);
    free(m);
}

/* What the components must have in common for the pipeline to make sense. */
static int check_parts(const styx_model *m, styx_error *err)
{
    const styx_component *unet = m->part[SLOT_UNET], *vae = m->part[SLOT_VAE];
    const char *path = m->path ? m->path : "the model";
    int width = 0;
    if (!unet || !vae)
        return fail(err, STYX_ERR_FORMAT, "%s: no %s; a pipeline needs unet and vae", path,
                    unet ? "vae" : "unet");
    for (int i = 0; i < 2; i++) {
        const styx_component *encoder = m->part[SLOT_TEXT_ENCODER + i];
        if (encoder && !m->part[SLOT_TOKENIZER + i])
            return fail(err, STYX_ERR_FORMAT, "%s: %s has no %s", path,
                        slot_names[SLOT_TEXT_ENCODER + i], slot_names[SLOT_TOKENIZER + i]);
        if (encoder)
            width += encoder->clip.dim;
    }
    if (width && width != unet->unet.context)
        return fail(err, STYX_ERR_FORMAT,
                    "%s: the text encoders give embeddings of width %d, the UNet wants %d; %s",
                    path, width, unet->unet.context,
                    m->part[SLOT_TEXT_ENCODER] && !m->part[SLOT_TEXT_ENCODER_2] &&
                            unet->unet.time_dim
                        ? "is text_encoder_2 missing?"
                        : "do the components belong together?");
    int in = unet->unet.in, latent = vae->vae.latent;
    if (in != latent && in != 2 * latent + 1)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: a UNet of %d input channels with latents of %d; %d, or %d for inpainting, "
                    "was wanted",
                    path, in, latent, latent, 2 * latent + 1);
    return 0;
}

static int settle(styx_model *m, styx_error *err)
{
    bool xl = m->part[SLOT_UNET] && m->part[SLOT_UNET]->unet.time_dim > 0;
    const char *where = m->path ? m->path : "the model";
    m->family = !xl ? FAMILY_SD : m->part[SLOT_TEXT_ENCODER] ? FAMILY_SDXL : FAMILY_REFINER;
    int code;
    if ((code = json_bool(m->config, where, "requires_aesthetics_score", false, &m->aesthetics,
                          err)) ||
        (code =
             json_bool(m->config, where, "force_zeros_for_empty_prompt", xl, &m->force_zeros, err)))
        return code;
    return check_parts(m, err);
}

void model_take_override(styx_model *m, enum slot slot, const struct styx_model_options *o,
                         bool *taken)
{
    *taken = false;
    for (size_t i = 0; i < o->component_count && !*taken; i++) {
        *taken = o->names[i] && strcmp(o->names[i], slot_names[slot]) == 0;
        if (*taken)
            m->part[slot] = styx_component_ref(o->components[i]);
    }
}

/* model_index.json: "unet": ["diffusers", "UNet2DConditionModel"]; [null, null]: left out. */
static bool is_component(const json_t *entry)
{
    return json_is_array(entry) && json_array_size(entry) == 2;
}

static bool is_left_out(const json_t *entry)
{
    return !is_component(entry) || json_is_null(json_array_get(entry, 1));
}

static int open_part(styx_model *m, const json_t *index, enum slot slot,
                     const struct styx_model_options *o, styx_error *err)
{
    const char *name = slot_names[slot], *note;
    bool taken;
    int code;
    model_take_override(m, slot, o, &taken);
    if (taken || is_left_out(json_object_get(index, name)))
        return 0;
    char *folder = path_join(m->path, name);
    if (!folder)
        return fail_nomem(err, 256);
    code = styx_component_open(folder, name, o->variant, &m->part[slot], err);
    free(folder);
    if (code)
        return code;
    note = m->part[slot]->weights ? store_note(m->part[slot]->weights) : NULL;
    if (note && o->warn)
        o->warn(o->user, note);
    return 0;
}

int model_take_index(styx_model *m, const json_t *index, const char *where, styx_error *err)
{
    const char *key, *name = NULL;
    json_t *value;
    int code = json_text(index, where, "_class_name", "StableDiffusionPipeline", &name, err);
    if (code)
        return code;
    m->class_name = strdup(name);
    m->config = json_object();
    if (!m->class_name || !m->config)
        return fail_nomem(err, 64);
    json_object_foreach((json_t *)index, key, value) /* settings: all that is no component */
    {
        if (!is_component(value) && json_object_set(m->config, key, value))
            return fail_nomem(err, 64);
    }
    return 0;
}

static int open_folder(styx_model *m, const struct styx_model_options *o, styx_error *err)
{
    json_t *index = NULL;
    char *file = path_join(m->path, "model_index.json");
    int code = file ? 0 : fail_nomem(err, 256);
    if (code)
        goto done;
    if (!file_exists(file)) {
        code = fail(err, STYX_ERR_FORMAT,
                    "%s: no model_index.json there; a folder in the diffusers layout was wanted",
                    m->path);
        goto done;
    }
    if ((code = json_file(file, &index, err)) || (code = model_take_index(m, index, file, err)))
        goto done;
    for (int i = 0; i < SLOT_COUNT && !code; i++)
        code = open_part(m, index, (enum slot)i, o, err);
done:
    json_decref(index);
    free(file);
    return code;
}

int model_options_take(struct styx_model_options *o, const struct styx_model_options *given,
                       styx_error *err)
{
    if (given && given->size > sizeof *o)
        return fail(err, STYX_ERR_UNSUPPORTED, "model options of %zu bytes; this library knows %zu",
                    given->size, sizeof *o);
    if (given)
        memcpy(o, given, given->size);
    return 0;
}

int styx_model_open(const char *path, const struct styx_model_options *options, styx_model **model,
                    styx_error *err)
{
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    if (!path || !model)
        return fail(err, STYX_ERR_INVALID,
                    "styx_model_open needs a path and a place for the model");
    int code = model_options_take(&o, options, err);
    if (code)
        return code;
    if (!file_exists(path))
        return fail(err, STYX_ERR_IO, "%s: no such file or folder; a model was wanted there", path);
    styx_model *m = calloc(1, sizeof *m);
    if (!m)
        return fail_nomem(err, sizeof *m);
    m->path = strdup(path);
    if (!m->path)
        code = fail_nomem(err, strlen(path));
    else
        code = file_is_dir(path) ? open_folder(m, &o, err) : model_open_single(m, &o, err);
    if (!code && !(code = settle(m, err)))
        code = model_adapt(m, &o, err);
    if (code) {
        styx_model_free(m);
        return code;
    }
    *model = m;
    return 0;
}

int styx_model_assemble(const char *class_name, const char *config, const char *const *names,
                        styx_component *const *components, size_t count, styx_model **model,
                        styx_error *err)
{
    int code = 0;
    styx_model *m = calloc(1, sizeof *m);
    if (!m)
        return fail_nomem(err, sizeof *m);
    m->class_name = strdup(class_name ? class_name : "");
    m->path = strdup("the pipeline");
    if (!m->class_name || !m->path)
        code = fail_nomem(err, 64);
    if (!code && config)
        code = json_bytes(config, strlen(config), "the pipeline's config", &m->config, err);
    for (size_t i = 0; i < count && !code; i++) {
        int slot = slot_find(names[i]);
        if (slot < 0)
            code = fail(err, STYX_ERR_INVALID, "'%s' is no component of a pipeline", names[i]);
        else if (components[i])
            m->part[slot] = styx_component_ref(components[i]);
    }
    if (!code && class_name) /* without: a loose set, for the calls of single components */
        code = settle(m, err);
    if (code) {
        styx_model_free(m);
        return code;
    }
    *model = m;
    return 0;
}

int model_share(const styx_model *from, styx_model **out, styx_error *err)
{
    styx_model *m = malloc(sizeof *m);
    if (!m)
        return fail_nomem(err, sizeof *m);
    *m = *from;
    for (int i = 0; i < SLOT_COUNT; i++)
        styx_component_ref(m->part[i]);
    json_incref(m->config);
    m->class_name = strdup(from->class_name);
    m->path = strdup(from->path);
    if (!m->class_name || !m->path) {
        styx_model_free(m);
        return fail_nomem(err, strlen(from->path));
    }
    *out = m;
    return 0;
}

int styx_model_component(const styx_model *model, const char *name, styx_component **component,
                         styx_error *err)
{
    int slot = slot_find(name);
    if (slot < 0)
        return fail(err, STYX_ERR_INVALID, "'%s' is no component of a pipeline", name);
    *component = styx_component_ref(model->part[slot]);
    return 0;
}

static json_t *describe_part(const styx_component *c)
{
    char *text = NULL;
    json_t *part = NULL;
    if (styx_component_info(c, &text, NULL) == 0)
        part = json_loads(text, 0, NULL);
    free(text);
    if (part)
        json_object_del(part, "config");
    return part;
}

static const char *prediction_type(const styx_model *m)
{
    const styx_component *scheduler = m->part[SLOT_SCHEDULER];
    const json_t *type = scheduler ? json_object_get(scheduler->config, "prediction_type") : NULL;
    return json_is_string(type) ? json_string_value(type) : "epsilon";
}

int styx_model_info(const styx_model *m, char **json, styx_error *err)
{
    static const char *const families[] = { "sd", "sdxl", "refiner" };
    if (!m->part[SLOT_UNET] || !m->part[SLOT_VAE])
        return fail(err, STYX_ERR_INVALID, "a loose set of components has no facts of its own");
    json_t *root = json_object(), *parts = json_object();
    int pixels = m->part[SLOT_UNET]->unet.sample_size * vae_scale(&m->part[SLOT_VAE]->vae);
    for (int i = 0; i < SLOT_COUNT; i++)
        if (m->part[i])
            json_object_set_new(parts, slot_names[i], describe_part(m->part[i]));
    json_object_set_new(root, "class", json_string(m->class_name));
    json_object_set_new(root, "path", json_string(m->path));
    json_object_set_new(root, "family", json_string(families[m->family]));
    json_object_set_new(root, "size", json_integer(pixels));
    json_object_set_new(root, "prediction_type", json_string(prediction_type(m)));
    json_object_set_new(root, "in_channels", json_integer(m->part[SLOT_UNET]->unet.in));
    json_object_set_new(root, "requires_aesthetics_score", json_boolean(m->aesthetics));
    json_object_set_new(root, "force_zeros_for_empty_prompt", json_boolean(m->force_zeros));
    json_object_set_new(root, "components", parts);
    *json = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(root);
    return *json ? 0 : fail_nomem(err, 1024);
}
