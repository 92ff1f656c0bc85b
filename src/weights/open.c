/* open.c - finding the weights of a component: one file, shards with an index, another variant. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "weights/gguf.h"
#include "weights/safetensors.h"

/* What a file is, by its first bytes: those of a safetensors file are a length (whose bytes may be
 * anything) and then the brace of its header. */
static int sniff(const char *path, unsigned char first[9], styx_error *err)
{
    struct file_map map = { 0 };
    int rc = file_map(path, &map, err);
    memset(first, 0, 9);
    if (!rc && map.bytes)
        memcpy(first, map.data, map.bytes < 9 ? map.bytes : 9);
    file_unmap(&map);
    return rc;
}

int store_open_file(const char *path, struct store **out, styx_error *err)
{
    unsigned char first[9];
    int rc = sniff(path, first, err);

    *out = NULL;
    if (rc)
        return rc;
    if (first[8] == '{' && !first[5] && !first[6] && !first[7])
        return safetensors_open(path, out, err);
    if (!memcmp(first, "GGUF", 4))
        return gguf_open(path, out, err);
    if (!memcmp(first, "version ", 8))
        return fail(err, STYX_ERR_FORMAT,
                    "%s: is a Git LFS pointer, not the weights themselves: run 'git lfs pull'",
                    path);
    if (!memcmp(first, "PK\3\4", 4) || (first[0] == 0x80 && first[1] >= 2 && first[1] <= 5))
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: is a Python pickle, which can run any program when it is opened: get the "
                    "model as .safetensors, or convert it with 'styx convert --allow-pickle'",
                    path);
    return safetensors_open(path, out, err);
}

/* FOLDER/STEM.VARIANTsuffix in new memory; the pieces are joined with dots where there are any. */
static char *spell(const char *folder, const char *stem, const char *first, const char *second,
                   const char *third)
{
    const char *parts[] = { stem, first, second, third };
    char name[512], *end = name;

    for (int i = 0; i < 4; i++)
        if (parts[i] && *parts[i])
            end +=
                snprintf(end, sizeof name - (size_t)(end - name), "%s%s", i ? "." : "", parts[i]);
    return path_join(folder, name);
}

/* A shard's name comes from a file: it must not lead out of the folder. */
static bool plain_name(const char *name)
{
    return *name && *name != '.' && !strchr(name, '/') && !strchr(name, '\\') && strlen(name) < 256;
}

/* Adds the tensors that the index promises in this shard. */
static int add_shard(struct store *whole, const char *folder, const char *file,
                     const json_t *weight_map, styx_error *err)
{
    struct store *shard = NULL;
    char *path = path_join(folder, file);
    const char *name;
    json_t *in;
    int rc = path ? store_open_file(path, &shard, err) : fail_nomem(err, strlen(folder));

    free(path);
    if (rc)
        return rc;
    rc = store_keep_store(whole, shard, err);
    store_unref(shard);
    if (rc)
        return rc;
    json_object_foreach((json_t *)weight_map, name, in)
    {
        if (strcmp(json_string_value(in), file))
            continue;
        const struct entry *e = store_find(shard, name);
        if (!e)
            return fail(err, STYX_ERR_FORMAT, "%s: tensor '%s' should be in %s and is not",
                        store_path(whole), SHOW(name), file);
        if ((rc = store_add(whole, e, err)))
            return rc;
    }
    return rc;
}

static int open_shards(const char *folder, const char *index, struct store **out, styx_error *err)
{
    struct store *whole = NULL;
    json_t *root = NULL, *in;
    const json_t *weight_map;
    const char *name, **files = NULL;
    int nfiles = 0, rc = json_file(index, &root, err);

    *out = NULL;
    if (rc || (rc = json_object_of(root, index, "weight_map", &weight_map, err)))
        goto done;
    whole = store_new(index);
    files = calloc(json_object_size(weight_map) + 1, sizeof *files);
    if (!whole || !files) {
        rc = fail_nomem(err, json_object_size(weight_map) * sizeof *files);
        goto done;
    }
    json_object_foreach((json_t *)weight_map, name, in)
    {
        const char *file = json_string_value(in);
        int i = 0;
        if (!file || !plain_name(file)) {
            rc = fail(err, STYX_ERR_FORMAT, "%s: tensor '%s' is not in a file of this folder",
                      index, SHOW(name));
            goto done;
        }
        while (i < nfiles && strcmp(files[i], file))
            i++;
        if (i < nfiles)
            continue;
        files[nfiles++] = file;
        if ((rc = add_shard(whole, folder, file, weight_map, err)))
            goto done;
    }
    if (!nfiles)
        rc = fail(err, STYX_ERR_FORMAT, "%s: names no tensors in 'weight_map'", index);
    if (rc || (rc = store_seal(whole, err)))
        goto done;
    *out = whole;
    whole = NULL;
done:
    store_unref(whole);
    free(files);
    json_decref(root);
    return rc;
}

/* Tries the spellings of one variant ("" is the plain one); leaves *out NULL if there is none. */
static int open_variant(const char *folder, const char *stem, const char *variant,
                        struct store **out, styx_error *err)
{
    /* The index has been spelled in three ways: by diffusers and transformers now, by both before,
     * and by people. */
    const char *const spellings[][3] = {
        { variant, "safetensors", NULL },
        { "safetensors.index", variant, "json" },
        { "safetensors", variant, "index.json" },
        { variant, "safetensors.index", "json" },
        { variant, "gguf", NULL },
    };
    int rc = STYX_OK;

    for (size_t i = 0; !rc && !*out && i < sizeof spellings / sizeof *spellings; i++) {
        const char *const *s = spellings[i];
        char *path = spell(folder, stem, s[0], s[1], s[2]);
        if (!path)
            return fail_nomem(err, strlen(folder));
        if (file_exists(path) && !strcmp(path_extension(path), "json"))
            rc = open_shards(folder, path, out, err);
        else if (file_exists(path))
            rc = store_open_file(path, out, err);
        free(path);
    }
    return rc;
}

/* Why there is nothing to open. */
static int nothing_found(const char *folder, const char *stem, styx_error *err)
{
    static const char *const pickles[] = { "diffusion_pytorch_model", "pytorch_model", "model" };
    static const char *const endings[] = { "bin", "fp16.bin", "ckpt", "pt" };

    if (!file_is_dir(folder))
        return fail(err, STYX_ERR_IO, "%s: is not a folder with weights", folder);
    for (int i = 0; i < 12; i++) {
        char *path = spell(folder, pickles[i / 4], endings[i % 4], NULL, NULL);
        bool there = path && file_exists(path);
        free(path);
        if (there)
            return fail(err, STYX_ERR_UNSUPPORTED,
                        "%s: holds only the pickle %s.%s, which can run any program when it is "
                        "opened: get the model as .safetensors",
                        folder, pickles[i / 4], endings[i % 4]);
    }
    return fail(err, STYX_ERR_IO, "%s: has no weights (%s.safetensors was wanted)", folder, stem);
}

int store_open_component(const char *folder, const char *stem, const char *variant,
                         struct store **out, styx_error *err)
{
    char note[600];
    int rc = STYX_OK;

    *out = NULL;
    if (!variant)
        variant = "";
    if (strlen(variant) > 64 || strchr(variant, '/'))
        return fail(err, STYX_ERR_INVALID, "'%s' is no name of a variant", SHOW(variant));
    if (*variant)
        rc = open_variant(folder, stem, variant, out, err);
    if (rc || *out)
        return rc;
    rc = open_variant(folder, stem, "", out, err);
    if (!rc && !*out && !*variant) /* published models often come as halves alone */
        return (rc = open_variant(folder, stem, "fp16", out, err)) || *out
                   ? rc
                   : nothing_found(folder, stem, err);
    if (rc)
        return rc;
    if (!*out)
        return nothing_found(folder, stem, err);
    if (!*variant)
        return STYX_OK;
    snprintf(note, sizeof note, "%s has no variant '%s': the plain %s is used", folder, variant,
             path_base(store_path(*out)));
    if ((rc = store_set_note(*out, note, err))) {
        store_unref(*out);
        *out = NULL;
    }
    return rc;
}
