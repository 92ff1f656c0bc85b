/* choose.c - see choose.h. */
#include "choose.h"

#include <stdio.h>
#include <string.h>

#include "options.h"
#include "say.h"
#include "small.h"

/* The file's name if it lies right in the folder of that component. */
static const char *inside(const char *path, const char *component)
{
    size_t length = strlen(component);
    if (strncmp(path, component, length) != 0 || path[length] != '/')
        return NULL;
    return strchr(path + length + 1, '/') ? NULL : path + length + 1;
}

/* STEM.safetensors, STEM-00001-of-00002.safetensors and STEM.safetensors.index.json; with a variant
 * STEM.fp16.safetensors, STEM.fp16-00001-of-00002.safetensors, and three spellings of the index. */
static bool is_weights(const char *file, const char *variant)
{
    static const char *const stems[] = { "diffusion_pytorch_model", "model" };
    char plain[64], other[80];
    for (size_t i = 0; i < 2; i++) {
        size_t length = strlen(stems[i]);
        if (strncmp(file, stems[i], length) != 0)
            continue;
        const char *rest = file + length;
        if (ends_with(rest, ".json")) {
            snprintf(plain, sizeof plain, ".safetensors.index%s%s.json", *variant ? "." : "",
                     variant);
            snprintf(other, sizeof other, ".safetensors%s%s.index.json", *variant ? "." : "",
                     variant);
            if (strcmp(rest, plain) == 0 || strcmp(rest, other) == 0)
                return true;
            snprintf(other, sizeof other, "%s%s.safetensors.index.json", *variant ? "." : "",
                     variant);
            return strcmp(rest, other) == 0;
        }
        if (!ends_with(rest, ".safetensors"))
            return false;
        snprintf(plain, sizeof plain, "%s%s", *variant ? "." : "", variant);
        size_t used = strlen(plain);
        if (strncmp(rest, plain, used) != 0)
            return false;
        rest += used;
        return strcmp(rest, ".safetensors") == 0 || (*rest == '-' && strstr(rest, "-of-"));
    }
    return false;
}

static bool is_text(const char *file)
{
    static const char *const foreign[] = { "index", "openvino", "onnx", "flax", "_ort" };
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (strstr(file, foreign[i]))
            return false;
    return ends_with(file, ".json") || ends_with(file, ".txt");
}

static int mark_weights(const struct hub_listing *list, const char *component, const char *variant,
                        bool *chosen)
{
    int n = 0;
    for (size_t i = 0; i < list->count; i++) {
        const char *file = inside(list->files[i].path, component);
        if (file && is_weights(file, variant)) {
            chosen[i] = true;
            n += ends_with(file, ".safetensors");
        }
    }
    return n;
}

static bool has_weights(const char *component)
{
    static const char *const networks[] = { "unet", "vae", "text_encoder", "text_encoder_2",
                                            "safety_checker" };
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++)
        if (strcmp(component, networks[i]) == 0)
            return true;
    return false;
}

static int choose_component(const struct hub_listing *list, const char *component,
                            const char *variant, bool *chosen)
{
    int files = 0;
    for (size_t i = 0; i < list->count; i++) {
        const char *file = inside(list->files[i].path, component);
        if (file && is_text(file)) {
            chosen[i] = true;
            files++;
        }
    }
    if (!has_weights(component))
        return files ? 0
                     : complain(EXIT_FAILED, "%s: the repository has no such folder", component);
    if (mark_weights(list, component, variant ? variant : "fp16", chosen))
        return 0;
    if (mark_weights(list, component, "", chosen)) {
        if (variant)
            say("%s has no variant %s: the plain one is taken", component, variant);
        return 0;
    }
    return complain(EXIT_FAILED,
                    "%s: the repository has no safetensors of it, only what could run programs or "
                    "nothing; nothing is fetched",
                    component);
}

/* Is name one of "a,b,c"? */
static bool listed(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = list; at; at = strchr(at, ','), at += at != NULL)
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || !at[length]))
            return true;
    return false;
}

static bool is_component(const json_t *value)
{
    return json_is_array(value) && json_array_size(value) == 2 &&
           json_is_string(json_array_get(value, 1));
}

/* Every word of --only must name a component. */
static int check_only(const json_t *index, const char *only)
{
    char word[64];
    for (const char *at = only; at; at = strchr(at, ','), at += at != NULL) {
        snprintf(word, sizeof word, "%.*s", (int)strcspn(at, ","), at);
        if (!is_component(json_object_get(index, word)))
            return complain(EXIT_USAGE, "--only: the model has no component '%s'", word);
    }
    return 0;
}

int choose_files(const struct hub_listing *list, const json_t *index, const char *variant,
                 const char *only, bool *chosen)
{
    const char *key;
    json_t *value;
    int rc = only ? check_only(index, only) : 0;
    json_object_foreach((json_t *)index, key, value)
    {
        if (rc || !is_component(value) || (only && !listed(only, key)))
            continue;
        if (strcmp(key, "image_encoder") == 0) {
            say("%s is left out: Styx has no use for it", key);
            continue;
        }
        rc = choose_component(list, key, variant, chosen);
    }
    for (size_t i = 0; i < list->count; i++)
        chosen[i] |= strcmp(list->files[i].path, "model_index.json") == 0;
    return rc;
}

int choose_single(const struct hub_listing *list)
{
    int found = -1;
    for (size_t i = 0; i < list->count; i++) {
        const char *path = list->files[i].path;
        if (!strchr(path, '/') && (ends_with(path, ".safetensors") || ends_with(path, ".gguf"))) {
            if (found >= 0)
                return -1;
            found = (int)i;
        }
    }
    return found;
}
