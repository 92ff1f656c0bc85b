/* recipe.c - see recipe.h. A recipe holds nothing that changes from run to run (no dates, no
 * durations), so that the same picture gets the same bytes. */
#include "recipe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "infotext.h"
#include "say.h"
#include "small.h"

char *json_text_of(const json_t *value, size_t dump_flags)
{
    for (size_t digits = 6;; digits++) {
        char *text = json_dumps(value, dump_flags | JSON_REAL_PRECISION(digits));
        json_t *back = text && digits < 17 ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
        bool same = back && json_equal(value, back);
        json_decref(back);
        if (same || !text || digits == 17)
            return text;
        free(text);
    }
}

static json_t *describe_model(const json_t *info)
{
    return json_pack("{s:s, s:s}", "class", text_at(info, "class"), "path", text_at(info, "path"));
}

static char *base_name(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return strndup(path + start, length - start);
}

static const char *dtype_name(enum styx_dtype dtype)
{
    return flag_find("dtype")->words[dtype];
}

static json_t *describe_machine(const struct studio *s, const struct styx_result *result)
{
    static const char *const keys[] = { "backend", "isa" }; /* not threads: they change nothing */
    json_t *info = session_info(s->session), *machine = json_object();
    for (size_t i = 0; info && i < sizeof keys / sizeof *keys; i++) {
        json_t *value = json_object_get(info, keys[i]);
        if (value)
            json_object_set(machine, keys[i], value);
    }
    json_decref(info);
    json_object_set_new(machine, "dtype", json_string(dtype_name(result->dtype)));
    json_object_set_new(machine, "vae_dtype", json_string(dtype_name(result->vae_dtype)));
    return machine;
}

/* The class of the scheduler that was used. */
static char *sampler_class(const struct options *o, const styx_model *model)
{
    styx_scheduler *own = NULL;
    char *config = NULL, *name = NULL;
    if (o->sampler)
        return strdup(o->sampler);
    if (styx_model_scheduler(model, &own, NULL) == 0 &&
        styx_scheduler_config(own, &config, NULL) == 0) {
        json_t *root = json_loads(config, 0, NULL);
        name = strdup(text_at(root, "_class_name"));
        json_decref(root);
    }
    styx_text_free(config);
    styx_scheduler_free(own);
    return name;
}

static void fill_defaults(struct record *r, const struct options *o, const struct source *source)
{
    bool inpaint = source && source->mask.pixels;
    r->guidance = !isnan(o->guidance) ? o->guidance : r->sdxl && !inpaint ? 5.0 : 7.5;
    r->strength = !isnan(o->strength) ? o->strength
                  : inpaint           ? (r->sdxl ? 0.9999 : 1.0)
                                      : (r->sdxl ? 0.3 : 0.8);
}

int record_new(struct record *r, const struct options *o, const struct studio *s,
               const styx_model *model, const styx_model *refiner, const struct source *source,
               const struct styx_result *result)
{
    json_t *info = model_info(model), *second = refiner ? model_info(refiner) : NULL;
    *r = (struct record){ 0 };
    if (!info || (refiner && !second)) {
        json_decref(info);
        return EXIT_FAILED;
    }
    r->model = describe_model(info);
    r->refiner = second ? describe_model(second) : NULL;
    r->machine = describe_machine(s, result);
    r->sampler = sampler_class(o, model);
    r->model_name = base_name(text_at(info, "path"));
    r->sdxl = strcmp(text_at(info, "family"), "sd") != 0;
    fill_defaults(r, o, source);
    json_decref(info);
    json_decref(second);
    if (r->model && r->machine && r->sampler && r->model_name && (!refiner || r->refiner))
        return 0;
    record_free(r);
    return complain_memory();
}

void record_add_hashes(struct record *r, const struct hashes *hashes)
{
    snprintf(r->hash, sizeof r->hash, "%.10s", text_at(hashes->model, "unet"));
    json_object_set(r->model, "sha256", hashes->model);
    if (r->refiner)
        json_object_set(r->refiner, "sha256", hashes->refiner);
    r->extras = json_incref(hashes->extras);
}

void record_free(struct record *r)
{
    json_decref(r->model);
    json_decref(r->refiner);
    json_decref(r->machine);
    json_decref(r->extras);
    free(r->sampler);
    free(r->model_name);
    *r = (struct record){ 0 };
}

/* The settings that decide picture k, complete enough to outlive a change of defaults. */
static json_t *settings_of(const struct record *r, const struct options *o,
                           const struct source *source, const struct styx_result *result, size_t k)
{
    static const char *const elsewhere[] = { "output", "picture", "backend", "isa" };
    json_t *settings = options_to_json(o);
    if (!settings)
        return NULL;
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++)
        json_object_del(settings, elsewhere[i]);
    if (result->count > 1)
        json_object_set_new(settings, "only", json_integer((json_int_t)k + 1));
    if (result->count > 1 || o->count > 1)
        json_object_set_new(settings, "count", json_integer(o->count));
    if (!o->steps && !o->timesteps.count && !o->sigmas.count)
        json_object_set_new(settings, "steps", json_integer(50));
    json_object_set_new(settings, "guidance", json_real(r->guidance));
    if (source)
        json_object_set_new(settings, "strength", json_real(r->strength));
    json_object_set_new(settings, "size",
                        json_sprintf("%dx%d", source ? source->width : result->images[k].width,
                                     source ? source->height : result->images[k].height));
    return settings;
}

static json_t *parent_of(const struct options *o, const struct source *s)
{
    json_t *parent = json_pack("{s:s, s:s}", "path", s->path, "sha256", s->hash);
    if (parent && s->latents.data)
        json_object_set_new(parent, "latents", json_true());
    if (parent && *s->mask_hash)
        json_object_set_new(parent, "mask",
                            json_pack("{s:s, s:s}", "path", o->mask, "sha256", s->mask_hash));
    return parent;
}

char *recipe_write(const struct record *r, const struct options *o, const struct source *source,
                   const struct styx_result *result, size_t k)
{
    json_t *settings = settings_of(r, o, source, result, k);
    if (!settings)
        return NULL;
    json_t *recipe = json_pack("{s:s, s:i, s:s, s:o, s:O, s:O}", "styx", styx_version(), "format",
                               RECIPE_FORMAT, "command", source ? "edit" : "generate", "settings",
                               settings, "model", r->model, "machine", r->machine);
    if (recipe && r->refiner)
        json_object_set(recipe, "refiner", r->refiner);
    if (recipe && r->extras)
        json_object_update(recipe, r->extras);
    if (recipe && source)
        json_object_set_new(recipe, "parent", parent_of(o, source));
    char *text = recipe ? json_text_of(recipe, JSON_COMPACT) : NULL;
    json_decref(recipe);
    return text;
}

int recipe_read(const char *picture, json_t **recipe)
{
    char *text = NULL;
    styx_error err;
    json_error_t where;
    int rc = 0;
    *recipe = NULL;
    if (styx_image_text(picture, NULL, &text, &err))
        return complain_of(&err);
    if (text) {
        *recipe = json_loads(text, JSON_REJECT_DUPLICATES, &where);
        if (!*recipe || !json_is_object(json_object_get(*recipe, "settings")))
            rc = complain(EXIT_FAILED, "%s: its recipe is broken%s%s", picture, *recipe ? "" : ": ",
                          *recipe ? "" : where.text);
        else if (json_integer_value(json_object_get(*recipe, "format")) > RECIPE_FORMAT)
            rc = complain(EXIT_FAILED, "%s: its recipe is of a newer Styx (%s)", picture,
                          text_at(*recipe, "styx"));
    }
    styx_text_free(text);
    if (rc) {
        json_decref(*recipe);
        *recipe = NULL;
    }
    return rc;
}

bool recipe_keeps_latents(const json_t *recipe)
{
    return json_is_true(json_object_get(json_object_get(recipe, "settings"), "keep_latents"));
}

int recipe_take(struct options *o, const char *picture)
{
    static const char *const skip[] = { "output", "picture", NULL };
    json_t *recipe = NULL;
    char *text = NULL;
    styx_error err;
    int rc = recipe_read(picture, &recipe);
    if (rc == 0 && recipe) {
        rc = options_from_json(o, json_object_get(recipe, "settings"), picture, skip, true);
    } else if (rc == 0) {
        if (styx_image_text(picture, &text, NULL, &err))
            rc = complain_of(&err);
        else if (!text)
            rc = complain(EXIT_FAILED, "%s: carries no recipe of Styx and no A1111 text", picture);
        else
            rc = infotext_take(o, text, picture);
    }
    styx_text_free(text);
    json_decref(recipe);
    return rc;
}
