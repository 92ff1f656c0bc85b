/* single.c - a whole model in one file, as Stability AI published them and as people share them:
 * all networks under the names of the training code, without configs and vocabulary. */
#include "base/file.h"
#include "engine/published.h"
#include "engine/vocabulary.h"
#include <stdlib.h>

struct single {
    struct store *file;
    enum single_file kind;
    const char *config; /* folder of configs, or NULL */
    const struct styx_model_options *o;
};

static bool has_lora(const struct store *s)
{
    for (int i = 0; i < store_count(s); i++)
        if (strstr(store_at(s, i)->name, "lora_") || strstr(store_at(s, i)->name, ".lora."))
            return true;
    return false;
}

static int refuse(const struct single *s, styx_error *err)
{
    const char *path = store_path(s->file);
    if (s->kind == SINGLE_SD2)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: a model of SD 2.x; SD 1.x, SDXL and its refiner are supported", path);
    if (has_lora(s->file))
        return fail(err, STYX_ERR_FORMAT,
                    "%s: a LoRA, which changes a model and is none: open the model with it", path);
    return fail(err, STYX_ERR_FORMAT,
                "%s: no Stable Diffusion checkpoint: none of its %d tensors is a UNet's under the "
                "names of single files (model.diffusion_model.input_blocks...)",
                path, store_count(s->file));
}

/* FOLDER/NAME/FILE of the configs, if it is there. */
static int read_config(const struct single *s, const char *name, const char *file, char **where,
                       json_t **config, styx_error *err)
{
    char *folder = s->config ? path_join(s->config, name) : NULL;
    char *path = folder ? path_join(folder, file) : NULL;
    free(folder);
    if (s->config && !path)
        return fail_nomem(err, 256);
    if (!path || !file_exists(path)) {
        free(path);
        return 0;
    }
    *where = path;
    return json_file(path, config, err);
}

static int open_network(styx_model *m, const struct single *s, enum slot slot, styx_error *err)
{
    const char *name = slot_names[slot];
    struct store *weights = NULL;
    json_t *config = NULL;
    char *where = NULL;
    int code = read_config(s, name, slot_config_file(slot), &where, &config, err);
    if (!code && slot != SLOT_SCHEDULER)
        code = single_file_component(s->file, name, &weights, err);
    if (!code && !config && slot == SLOT_SCHEDULER)
        code = published_scheduler(s->kind, s->file, &config, err);
    else if (!code && !config)
        code = published_config(s->kind, slot, weights, store_path(weights), &config, err);
    if (!code)
        code = component_make(slot, m->path, config, where ? where : m->path, weights,
                              &m->part[slot], err);
    free(where);
    json_decref(config);
    store_unref(weights);
    return code;
}

static int missing(const struct single *s, const char *name, styx_error *err)
{
    return fail(err, STYX_ERR_FORMAT, "%s: a model of %s without its %s: name one to take instead",
                store_path(s->file), single_file_name(s->kind), name);
}

static int open_encoder(styx_model *m, const struct single *s, int i, styx_error *err)
{
    enum slot slot = SLOT_TEXT_ENCODER + i, words = SLOT_TOKENIZER + i;
    bool taken, theirs;
    int code = 0;
    model_take_override(m, slot, s->o, &taken);
    model_take_override(m, words, s->o, &theirs);
    if (!taken) {
        if (!single_file_has(s->file, slot_names[slot]))
            return missing(s, slot_names[slot], err);
        code = open_network(m, s, slot, err);
    }
    if (!code && !theirs && m->part[slot])
        code = vocabulary_open(m->path, s->config, words, m->part[slot]->clip.vocabulary,
                               &m->part[words], err);
    return code;
}

static int open_parts(styx_model *m, const struct single *s, styx_error *err)
{
    static const enum slot plain[] = { SLOT_UNET, SLOT_VAE, SLOT_SCHEDULER, SLOT_SAFETY_CHECKER,
                                       SLOT_FEATURE_EXTRACTOR };
    bool xl = s->kind == SINGLE_SDXL || s->kind == SINGLE_SDXL_INPAINT, taken;
    int code = 0;
    for (size_t i = 0; i < sizeof plain / sizeof *plain && !code; i++) {
        enum slot slot = plain[i];
        model_take_override(m, slot, s->o, &taken);
        if (taken || slot > SLOT_SCHEDULER)
            continue;
        if (slot != SLOT_SCHEDULER && !single_file_has(s->file, slot_names[slot]))
            return missing(s, slot_names[slot], err);
        code = open_network(m, s, slot, err);
    }
    if (!code && s->kind != SINGLE_REFINER)
        code = open_encoder(m, s, 0, err);
    if (!code && (xl || s->kind == SINGLE_REFINER))
        code = open_encoder(m, s, 1, err);
    return code;
}

/* The folder of the file, if a whole model's configs lie there. */
static int find_config(const char *path, char **folder, styx_error *err)
{
    char *own = strdup(path), *index = NULL;
    if (own) {
        own[path_base(path) - path] = '\0';
        index = path_join(own, "model_index.json");
    }
    if (!index) {
        free(own);
        return fail_nomem(err, strlen(path));
    }
    if (file_exists(index) && !(*folder = path_join(own, "."))) {
        free(index);
        free(own);
        return fail_nomem(err, strlen(path));
    }
    free(index);
    free(own);
    return 0;
}

static int take_index(styx_model *m, const struct single *s, styx_error *err)
{
    json_t *index = NULL;
    char *where = NULL;
    int code = read_config(s, "", "model_index.json", &where, &index, err);
    if (!code && !index && !(index = published_index(s->kind)))
        code = fail_nomem(err, 256);
    if (!code)
        code = model_take_index(m, index, where ? where : m->path, err);
    free(where);
    json_decref(index);
    return code;
}

int model_take_single(styx_model *m, struct store *file, const struct styx_model_options *o,
                      styx_error *err)
{
    struct single s = { .file = file, .config = o->config, .o = o };
    char *beside = NULL;
    int code = 0;
    if (o->config && !file_is_dir(o->config))
        return fail(err, STYX_ERR_IO, "%s: no such folder; config.json files were wanted there",
                    o->config);
    if (!o->config)
        code = find_config(m->path, &beside, err);
    if (beside)
        s.config = beside;
    s.kind = single_file_kind(file);
    if (!code && (s.kind == SINGLE_UNKNOWN || s.kind == SINGLE_SD2))
        code = refuse(&s, err);
    else if (!code && !(code = take_index(m, &s, err)))
        code = open_parts(m, &s, err);
    free(beside);
    return code;
}

int model_open_single(styx_model *m, const struct styx_model_options *o, styx_error *err)
{
    struct store *file = NULL;
    int code = store_open_file(m->path, &file, err);
    if (!code)
        code = model_take_single(m, file, o, err);
    store_unref(file);
    return code;
}
