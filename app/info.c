/* info.c - styx info: what lies at a path. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "hash.h"
#include "paths.h"
#include "recipe.h"
#include "say.h"
#include "small.h"
#include "studio.h"

static int print_json(const json_t *value)
{
    char *text = json_text_of(value, JSON_INDENT(2));
    if (!text)
        return complain_memory();
    puts(text);
    free(text);
    return 0;
}

static long long number_at(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static void print_part(const char *name, const json_t *part, const json_t *hash)
{
    size_t i;
    json_t *shard;
    printf("  %-18s %-28s", name, text_at(part, "class"));
    if (number_at(part, "parameters"))
        printf(" %13lld parameters, %s", number_at(part, "parameters"), text_at(part, "dtype"));
    if (json_is_string(hash))
        printf(", %.10s", json_string_value(hash));
    json_array_foreach((json_t *)hash, i, shard) printf(", %.10s", json_string_value(shard));
    putchar('\n');
}

/* Each component with the hashes of its files (their first ten digits, as AutoV2 shortens them). */
static int about_model(const char *path, bool json)
{
    static const struct options nothing = { 0 };
    struct parts none = { 0 };
    struct hashes hashes = { 0 };
    styx_model *model;
    const char *name;
    json_t *part;
    int rc = model_open(path, NULL, &none, NULL, NULL, &model);
    if (rc)
        return rc;
    json_t *info = model_info(model);
    rc = info ? hashing_finish(hashing_start(model, NULL, &nothing), &hashes) : EXIT_FAILED;
    if (rc == 0 && json) {
        json_object_set(info, "sha256", hashes.model);
        rc = print_json(info);
    } else if (rc == 0) {
        printf("%s: %s (%s), %lldx%lld, predicts %s\n", path, text_at(info, "class"),
               text_at(info, "family"), number_at(info, "size"), number_at(info, "size"),
               text_at(info, "prediction_type"));
        json_object_foreach(json_object_get(info, "components"), name, part)
            print_part(name, part, json_object_get(hashes.model, name));
    }
    json_decref(hashes.model);
    json_decref(hashes.refiner);
    json_decref(hashes.extras);
    json_decref(info);
    styx_model_free(model);
    return rc;
}

/* ---- parts of models ---- */

/* What the config.json of a component's folder says it is; NULL if nothing that is known. */
static const char *component_of(const char *folder)
{
    static const char *const classes[][2] = {
        { "UNet2DConditionModel", "unet" },
        { "AutoencoderKL", "vae" },
        { "CLIPTextModel", "text_encoder" },
        { "CLIPTextModelWithProjection", "text_encoder_2" },
        { "StableDiffusionSafetyChecker", "safety_checker" },
    };
    char *path = path_add(folder, "/config.json"), *index = path_add(folder, "/model_index.json");
    bool part = path && index && !path_exists(index);
    json_t *config = part ? json_load_file(path, 0, NULL) : NULL;
    const char *class = json_string_value(json_object_get(config, "_class_name")), *found = NULL;
    if (!class)
        class = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    for (size_t i = 0; class && i < sizeof classes / sizeof *classes; i++)
        if (strcmp(classes[i][0], class) == 0)
            found = classes[i][1];
    json_decref(config);
    free(index);
    free(path);
    return found;
}

static json_t *component_info(const char *folder, const char *name)
{
    styx_component *component;
    char *text = NULL;
    styx_error err;
    json_t *info = NULL;
    if (styx_component_open(folder, name, NULL, &component, &err)) {
        complain_of(&err);
        return NULL;
    }
    if (styx_component_info(component, &text, &err))
        complain_of(&err);
    else
        info = json_loads(text, 0, NULL);
    styx_text_free(text);
    styx_component_free(component);
    return info;
}

static int about_component(const char *folder, const char *name, bool json)
{
    json_t *info = component_info(folder, name);
    const char *file = json_string_value(json_object_get(info, "file"));
    char hash[65] = "";
    int rc = info ? 0 : EXIT_FAILED;
    if (file && strstr(file, ".json"))
        file = NULL; /* an index of shards */
    if (rc == 0 && file && (rc = hash_file(file, hash)) == 0)
        json_object_set_new(info, "sha256", json_string(hash));
    if (rc == 0 && json) {
        rc = print_json(info);
    } else if (rc == 0) {
        printf("%s: %s (%s), %lld parameters, %s\n", folder, text_at(info, "class"), name,
               number_at(info, "parameters"), text_at(info, "dtype"));
        if (file)
            printf("  SHA-256 %s (AutoV2 %.10s)\n", hash, hash);
    }
    json_decref(info);
    return rc;
}

/* The folders that model_index.json names and that are not there: a new list, or NULL if all is
 * well or there is no index. */
static json_t *missing_parts(const char *folder)
{
    char *path = path_add(folder, "/model_index.json");
    json_t *index = path ? json_load_file(path, 0, NULL) : NULL, *missing = json_array(), *value;
    const char *name;
    json_object_foreach(index, name, value)
    {
        if (json_array_size(value) != 2 || !json_is_string(json_array_get(value, 1)))
            continue;
        char *slash = path_add(folder, "/"), *part = slash ? path_add(slash, name) : NULL;
        if (part && !path_is_folder(part))
            json_array_append_new(missing, json_string(name));
        free(part);
        free(slash);
    }
    json_decref(index);
    free(path);
    if (json_array_size(missing))
        return missing;
    json_decref(missing);
    return NULL;
}

static int about_folder(const char *path, bool json)
{
    const char *component = component_of(path);
    json_t *missing = missing_parts(path), *name;
    size_t i;
    int rc = 0;
    if (component)
        return about_component(path, component, json);
    if (!missing)
        return about_model(path, json);
    if (json) {
        json_t *info = json_pack("{s:s, s:o}", "path", path, "missing", json_incref(missing));
        rc = print_json(info);
        json_decref(info);
    } else {
        printf("%s: a pipeline that lacks parts; --vae, --tokenizer or 'styx run' may lend them\n",
               path);
        json_array_foreach(missing, i, name) printf("  %-18s missing\n", json_string_value(name));
    }
    json_decref(missing);
    return rc;
}

/* ---- files of weights ---- */

static void print_tensor(const json_t *tensor)
{
    size_t i;
    json_t *side;
    printf("  %-8s [", text_at(tensor, "dtype"));
    json_array_foreach(json_object_get(tensor, "shape"), i, side)
        printf("%s%lld", i ? ", " : "", (long long)json_integer_value(side));
    printf("] %s\n", text_at(tensor, "name"));
}

/* Of a whole model in one file: its parts, and by what hash people call it. */
static int print_single(const char *path, const json_t *info, const char *hash)
{
    const char *name;
    json_t *part, *missing;
    size_t i;
    printf("%s: %s, predicts %s\n  SHA-256 %s (AutoV2 %.10s)\n", path, text_at(info, "kind"),
           text_at(info, "prediction_type"), hash, hash);
    json_object_foreach(json_object_get(info, "components"), name, part)
        printf("  %-18s %13lld parameters, %s\n", name, number_at(part, "parameters"),
               text_at(part, "dtype"));
    json_array_foreach(json_object_get(info, "missing"), i, missing)
        printf("  %-18s missing\n", json_string_value(missing));
    return 0;
}

/* Of a LoRA or a textual inversion: whom it fits, or why it fits nobody here. */
static void print_extra(const json_t *info)
{
    const json_t *changes = json_object_get(info, "changes");
    const json_t *ranks = json_object_get(info, "ranks"), *widths = json_object_get(info, "widths");
    const char *family = text_at(info, "family");
    if (*text_at(info, "refused"))
        printf("  refused: %s\n", text_at(info, "refused"));
    if (changes)
        printf("  changes %lld modules of the unet, %lld of text_encoder, %lld of text_encoder_2\n",
               number_at(changes, "unet"), number_at(changes, "text_encoder"),
               number_at(changes, "text_encoder_2"));
    if (ranks)
        printf("  ranks %lld to %lld\n", json_integer_value(json_array_get(ranks, 0)),
               json_integer_value(json_array_get(ranks, 1)));
    if (widths) {
        long long first = json_integer_value(json_array_get(widths, 0));
        long long second = json_integer_value(json_array_get(widths, 1));
        printf("  the word %s, %lld vectors of ", text_at(info, "word"),
               number_at(info, "vectors"));
        if (first && second)
            printf("%lld and %lld numbers\n", first, second);
        else
            printf("%lld numbers\n", first ? first : second);
    }
    if (*family)
        printf("  for %s\n", family);
}

static const char *first_key(const json_t *object)
{
    const char *key = json_object_iter_key(json_object_iter((json_t *)object));
    return key ? key : "no type";
}

static int about_weights(const char *path, bool json)
{
    char *text;
    styx_error err;
    size_t i;
    json_t *tensor;
    if (styx_weights_info(path, &text, &err))
        return complain_of(&err);
    char hash[65];
    json_t *info = json_loads(text, 0, NULL), *tensors = json_object_get(info, "tensors");
    int rc = hash_file(path, hash);
    styx_text_free(text);
    if (rc == 0)
        json_object_set_new(info, "sha256", json_string(hash));
    if (rc == 0 && json) {
        rc = print_json(info);
    } else if (rc == 0 && json_object_get(info, "components")) {
        rc = print_single(path, info, hash);
    } else if (rc == 0) {
        printf("%s: %s, SHA-256 %s (AutoV2 %.10s)\n", path, text_at(info, "kind"), hash, hash);
        printf("%s: %zu tensors, %lld parameters, %s, %lld bytes\n", path, json_array_size(tensors),
               number_at(info, "parameters"), first_key(json_object_get(info, "dtypes")),
               number_at(info, "bytes"));
        print_extra(info);
        json_array_foreach(tensors, i, tensor) print_tensor(tensor);
    }
    json_decref(info);
    return rc;
}

static int print_picture(const char *path, const struct styx_image *image, const char *note,
                         const char *parameters, json_t *recipe, bool json)
{
    if (json) {
        json_t *info = json_pack("{s:s, s:i, s:i, s:s?, s:s?, s:O?}", "path", path, "width",
                                 image->width, "height", image->height, "note", note, "parameters",
                                 parameters, "recipe", recipe);
        int rc = print_json(info);
        json_decref(info);
        return rc;
    }
    printf("%s: %dx%d%s%s\n", path, image->width, image->height, note ? ", " : "",
           note ? note : "");
    if (parameters)
        printf("\n%s\n", parameters);
    if (recipe) {
        putchar('\n');
        return print_json(recipe);
    }
    return 0;
}

static int about_picture(const char *path, bool json)
{
    struct styx_image image = { 0 };
    char *note = NULL, *parameters = NULL;
    json_t *recipe = NULL;
    styx_error err;
    int rc = 0;
    if (styx_image_load(path, &image, NULL, &note, &err) ||
        styx_image_text(path, &parameters, NULL, &err))
        rc = complain_of(&err);
    if (rc == 0)
        rc = recipe_read(path, &recipe);
    if (rc == 0)
        rc = print_picture(path, &image, note, parameters, recipe, json);
    styx_text_free(note);
    styx_text_free(parameters);
    json_decref(recipe);
    styx_image_free(&image);
    return rc;
}

/* PNG, JPEG or WebP by the first bytes. */
static bool is_picture(const unsigned char first[12])
{
    return memcmp(first, "\x89PNG", 4) == 0 || memcmp(first, "\xff\xd8\xff", 3) == 0 ||
           (memcmp(first, "RIFF", 4) == 0 && memcmp(first + 8, "WEBP", 4) == 0);
}

int run_info(struct options *o)
{
    unsigned char first[12] = { 0 };
    const char *path = o->subject;
    if (path_is_model_id(path)) {
        char *found = path_of_model(path);
        int rc = !found                  ? EXIT_FAILED
                 : path_is_folder(found) ? about_folder(found, o->json)
                                         : about_weights(found, o->json);
        free(found);
        return rc;
    }
    if (path_is_folder(path))
        return about_folder(path, o->json);
    FILE *file = fopen(path, "rb");
    if (!file)
        return complain(EXIT_FAILED, "%s: %s", path, strerror(errno));
    size_t got = fread(first, 1, sizeof first, file);
    fclose(file);
    if (got == sizeof first && is_picture(first))
        return about_picture(path, o->json);
    return about_weights(path, o->json);
}
