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

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static long long number_at(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static int about_model(const char *path, bool json)
{
    struct parts none = { 0 };
    styx_model *model;
    const char *name;
    json_t *part;
    int rc = model_open(path, NULL, &none, NULL, NULL, &model);
    if (rc)
        return rc;
    json_t *info = model_info(model);
    if (!info) {
        rc = EXIT_FAILED;
    } else if (json) {
        rc = print_json(info);
    } else {
        printf("%s: %s (%s), %lldx%lld\n", path, text_at(info, "class"), text_at(info, "family"),
               number_at(info, "size"), number_at(info, "size"));
        json_object_foreach(json_object_get(info, "components"), name, part)
        {
            printf("  %-18s %-28s", name, text_at(part, "class"));
            if (number_at(part, "parameters"))
                printf(" %13lld parameters, %s", number_at(part, "parameters"),
                       text_at(part, "dtype"));
            putchar('\n');
        }
    }
    json_decref(info);
    styx_model_free(model);
    return rc;
}

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
        printf("%s: %zu tensors, %lld parameters, %lld bytes\n", path, json_array_size(tensors),
               number_at(info, "parameters"), number_at(info, "bytes"));
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
                 : path_is_folder(found) ? about_model(found, o->json)
                                         : about_weights(found, o->json);
        free(found);
        return rc;
    }
    if (path_is_folder(path))
        return about_model(path, o->json);
    FILE *file = fopen(path, "rb");
    if (!file)
        return complain(EXIT_FAILED, "%s: %s", path, strerror(errno));
    size_t got = fread(first, 1, sizeof first, file);
    fclose(file);
    if (got == sizeof first && is_picture(first))
        return about_picture(path, o->json);
    return about_weights(path, o->json);
}
