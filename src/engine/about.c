/* about.c - what files say about themselves: weights, hashes, the parameters in a picture. */
#include "base/json.h"
#include "base/sha256.h"
#include "engine/published.h"
#include "image/infotext.h"
#include "styx.h"
#include "weights/embedding.h"
#include "weights/lora.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int styx_file_hash(const char *path, char hex[65], styx_error *err)
{
    return sha256_file(path, hex, err);
}

struct styx_hash {
    struct sha256 sha256;
};

int styx_hash_new(styx_hash **hash, styx_error *err)
{
    *hash = malloc(sizeof **hash);
    if (!*hash)
        return fail_nomem(err, sizeof **hash);
    sha256_start(&(*hash)->sha256);
    return 0;
}

void styx_hash_add(styx_hash *hash, const void *data, size_t bytes)
{
    sha256_add(&hash->sha256, data, bytes);
}

void styx_hash_end(styx_hash *hash, char hex[65])
{
    unsigned char digest[SHA256_BYTES];
    sha256_finish(&hash->sha256, digest);
    for (int i = 0; i < SHA256_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

void styx_hash_free(styx_hash *hash)
{
    free(hash);
}

static json_t *describe_tensors(const struct store *file)
{
    json_t *list = json_array();
    for (int i = 0; i < store_count(file); i++) {
        const struct entry *e = store_at(file, i);
        json_t *shape = json_array();
        for (int k = 0; k < e->dims; k++)
            json_array_append_new(shape, json_integer(e->shape[k]));
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o}", "name", e->name, "dtype", e->type, "shape", shape));
    }
    return list;
}

static json_t *describe_metadata(const struct store *file)
{
    const char *key, *value;
    json_t *object = json_object();
    for (int i = 0; store_metadata_at(file, i, &key, &value); i++)
        json_object_set_new(object, key, json_string(value));
    return object;
}

static bool has_name_with(const struct store *file, const char *part)
{
    for (int i = 0; i < store_count(file); i++)
        if (strstr(store_at(file, i)->name, part))
            return true;
    return false;
}

/* The keys of textual inversions; or one short table that no module would have. */
static bool is_word(const struct store *file)
{
    const struct entry *only = store_count(file) == 1 ? store_at(file, 0) : NULL;
    return store_find(file, "clip_l") || store_find(file, "clip_g") ||
           store_find(file, "emb_params") || store_find(file, "string_to_param.*") ||
           (only && !strchr(only->name, '.') &&
            (only->dims == 1 || (only->dims == 2 && only->shape[0] < 256)));
}

/* Whose text is that wide? "" if nobody's that is known. */
static const char *family_of(int width)
{
    static const struct {
        int width;
        const char *family;
    } known[] = {
        { 768, "SD 1.x" },
        { 1024, "SD 2.x" },
        { 1280, "SDXL refiner" },
        { 2048, "SDXL" },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].width == width)
            return known[i].family;
    return "";
}

/* What a LoRA or a textual inversion is for; why it cannot be used, if it cannot. */
static void describe_extra(const char *path, const char *kind, json_t *root)
{
    struct lora *lora = NULL;
    struct embedding *word = NULL;
    struct lora_facts f;
    styx_error err;
    bool is_lora = strcmp(kind, "LoRA") == 0;
    if (!is_lora && strcmp(kind, "textual inversion") != 0)
        return;
    if (is_lora ? lora_open(path, &lora, &err) : embedding_open(path, NULL, &word, &err)) {
        json_object_set_new(root, "refused", json_string(err.text));
    } else if (is_lora) {
        lora_describe(lora, &f);
        json_object_set_new(root, "family",
                            json_string(f.modules[2] ? "SDXL" : family_of(f.context)));
        json_object_set_new(root, "changes",
                            json_pack("{s:i, s:i, s:i}", "unet", f.modules[0], "text_encoder",
                                      f.modules[1], "text_encoder_2", f.modules[2]));
        json_object_set_new(root, "ranks", json_pack("[i, i]", f.least_rank, f.most_rank));
    } else {
        int first = embedding_width(word, "text_encoder");
        int second = embedding_width(word, "text_encoder_2");
        json_object_set_new(root, "family", json_string(second ? "SDXL" : family_of(first)));
        json_object_set_new(root, "word", json_string(embedding_word(word)));
        json_object_set_new(root, "vectors", json_integer(embedding_rows(word)));
        json_object_set_new(root, "widths", json_pack("[i, i]", first, second));
    }
    lora_free(lora);
    embedding_free(word);
}

/* What a file of weights is for. */
static const char *kind_of(const struct store *file)
{
    enum single_file kind = single_file_kind(file);
    if (kind != SINGLE_UNKNOWN)
        return single_file_name(kind);
    if (has_name_with(file, "lora_") || has_name_with(file, ".lora."))
        return "LoRA";
    if (is_word(file))
        return "textual inversion";
    if (single_file_has(file, "unet"))
        return "UNet";
    if (single_file_has(file, "vae"))
        return "VAE";
    return single_file_has(file, "text_encoder") ? "text encoder" : "unknown";
}

/* The networks of a single file, and which of them it lacks. */
static int describe_parts(struct store *file, json_t *parts, json_t *missing, styx_error *err)
{
    static const char *const names[] = { "unet", "vae", "text_encoder", "text_encoder_2" };
    enum single_file kind = single_file_kind(file);
    bool first = kind != SINGLE_REFINER, second = kind >= SINGLE_SDXL;
    for (int i = 0; i < 4; i++) {
        struct store *part = NULL;
        struct store_summary sum;
        if ((i == 2 && !first) || (i == 3 && !second))
            continue;
        if (!single_file_has(file, names[i])) {
            json_array_append_new(missing, json_string(names[i]));
            continue;
        }
        int code = single_file_component(file, names[i], &part, err);
        if (code)
            return code;
        store_summarize(part, &sum);
        json_object_set_new(parts, names[i],
                            json_pack("{s:I, s:s}", "parameters", (json_int_t)sum.parameters,
                                      "dtype", sum.ntypes ? sum.types[0].type : ""));
        store_unref(part);
    }
    json_array_append_new(missing, json_string("tokenizer"));
    return 0;
}

static int describe_single(struct store *file, json_t *root, styx_error *err)
{
    enum single_file kind = single_file_kind(file);
    json_t *parts = json_object(), *missing = json_array(), *scheduler = NULL;
    int code = 0;
    if (kind != SINGLE_UNKNOWN)
        code = describe_parts(file, parts, missing, err);
    if (!code && kind != SINGLE_UNKNOWN && kind != SINGLE_SD2 &&
        !(code = published_scheduler(kind, file, &scheduler, err))) {
        const json_t *type = json_object_get(scheduler, "prediction_type");
        json_object_set_new(root, "prediction_type",
                            json_string(type ? json_string_value(type) : "epsilon"));
        json_object_set(root, "components", parts);
        json_object_set(root, "missing", missing);
    }
    json_decref(scheduler);
    json_decref(parts);
    json_decref(missing);
    return code;
}

int styx_weights_info(const char *path, char **json, styx_error *err)
{
    struct store *file = NULL;
    struct store_summary sum;
    int code = store_open_file(path, &file, err);
    if (code)
        return code;
    store_summarize(file, &sum);
    json_t *types = json_object();
    for (int i = 0; i < sum.ntypes; i++)
        json_object_set_new(types, sum.types[i].type,
                            json_integer((json_int_t)sum.types[i].parameters));
    json_t *root = json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "path", path, "kind",
                             kind_of(file), "parameters", (json_int_t)sum.parameters, "bytes",
                             (json_int_t)sum.bytes, "dtypes", types, "metadata",
                             describe_metadata(file), "tensors", describe_tensors(file));
    describe_extra(path, kind_of(file), root);
    code = describe_single(file, root, err);
    char *text = root && !code ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    store_unref(file);
    if (code)
        return code;
    *json = text;
    return text ? 0 : fail_nomem(err, 1024);
}

int styx_parameters_read(const char *parameters, char **json, styx_error *err)
{
    struct infotext info = { 0 };
    int code = infotext_parse(parameters, &info, err);
    if (code)
        return code;
    json_t *object = json_object();
    for (int i = 0; i < info.nitems; i++)
        json_object_set_new(object, info.items[i].key, json_string(info.items[i].value));
    *json = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    infotext_free(&info);
    return *json ? 0 : fail_nomem(err, 1024);
}

int styx_parameters_write(const char *json, char **parameters, styx_error *err)
{
    struct infotext info = { 0 };
    json_t *object = NULL, *value;
    const char *key;
    int code = json_bytes(json, strlen(json), "the parameters", &object, err);
    if (code)
        return code;
    json_object_foreach(object, key, value)
    {
        if (!code && !json_is_string(value))
            code = fail(err, STYX_ERR_INVALID, "the parameters: '%s' is no text", key);
        if (!code)
            code = infotext_set(&info, key, json_string_value(value), err);
    }
    if (!code)
        code = infotext_write(&info, parameters, err);
    json_decref(object);
    infotext_free(&info);
    return code;
}
