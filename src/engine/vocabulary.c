/* vocabulary.c - see vocabulary.h. All CLIP models share one vocabulary, so any model's will do;
 * the second tokenizer of SDXL only pads with another token. */
#include "engine/vocabulary.h"
#include "base/file.h"
#include <glob.h>
#include <stdlib.h>

static bool has_file(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    bool yes = path && file_exists(path);
    free(path);
    return yes;
}

static bool has_vocabulary(const char *folder)
{
    return has_file(folder, "tokenizer.json") ||
           (has_file(folder, "vocab.json") && has_file(folder, "merges.txt"));
}

/* Opens folder as the tokenizer of slot; second: its files say already how the second one pads. */
static int open_folder(const char *folder, enum slot slot, bool second, styx_component **out,
                       styx_error *err)
{
    struct tokenizer *padded = NULL;
    styx_component *plain = NULL;
    int code = styx_component_open(folder, slot_names[slot], NULL, &plain, err);
    if (!code && slot == SLOT_TOKENIZER_2 && !second) {
        if (!(code = tokenizer_with_pad(plain->tokenizer, "!", &padded, err)) &&
            (code = component_change(plain, NULL, padded, out, err)))
            tokenizer_free(padded);
        styx_component_free(plain);
    } else if (!code) {
        *out = plain;
    }
    return code;
}

/* Only one that the user named may be smaller than the encoder's table. */
static int check_size(const styx_component *c, int size, bool named, styx_error *err)
{
    int found = tokenizer_vocab_size(c->tokenizer);
    if (found == size || (named && found < size))
        return 0;
    return fail(err, STYX_ERR_FORMAT,
                "%s: a vocabulary of %d tokens, the text encoder knows %d: they do not belong "
                "together",
                c->path, found, size);
}

/* FOLDER/tokenizer_2 or FOLDER/tokenizer, as the slot wants and as far as they exist. */
static int open_inside(const char *folder, enum slot slot, int size, bool named,
                       styx_component **out, styx_error *err)
{
    int code = 0;
    for (enum slot s = slot; !code && !*out && s >= SLOT_TOKENIZER; s--) {
        char *path = path_join(folder, slot_names[s]);
        if (!path)
            return fail_nomem(err, 256);
        if (has_vocabulary(path))
            code = open_folder(path, slot, s == SLOT_TOKENIZER_2, out, err);
        free(path);
    }
    if (!code && *out && (code = check_size(*out, size, named, err))) {
        styx_component_free(*out);
        *out = NULL;
    }
    return code;
}

/* What the user named must be right. */
static int open_named(const char *folder, enum slot slot, int size, styx_component **out,
                      styx_error *err)
{
    int code = open_inside(folder, slot, size, true, out, err);
    if (code || *out)
        return code;
    if (!has_vocabulary(folder))
        return fail(err, STYX_ERR_IO,
                    "%s: no vocabulary there (STYX_TOKENIZER): vocab.json and "
                    "merges.txt, or tokenizer.json, were wanted",
                    folder);
    if ((code = open_folder(folder, slot, false, out, err)))
        return code;
    if ((code = check_size(*out, size, true, err))) {
        styx_component_free(*out);
        *out = NULL;
    }
    return code;
}

/* Models of other kinds (T5, Qwen) lie in the cache too: what does not fit is passed over. */
static int search_cache(const char *cache, enum slot slot, int size, styx_component **out,
                        styx_error *err)
{
    glob_t found = { 0 };
    char *pattern = path_join(cache, "models--*/snapshots/*");
    int code = pattern ? 0 : fail_nomem(err, 256);
    if (!code && glob(pattern, 0, NULL, &found) == GLOB_NOSPACE)
        code = fail_nomem(err, 4096);
    for (size_t i = 0; i < found.gl_pathc && !code && !*out; i++)
        if (open_inside(found.gl_pathv[i], slot, size, false, out, NULL) == STYX_ERR_NOMEM)
            code = fail_nomem(err, 4096);
    globfree(&found);
    free(pattern);
    return code;
}

int vocabulary_open(const char *path, const char *config, enum slot slot, int size,
                    styx_component **out, styx_error *err)
{
    const char *named = getenv("STYX_TOKENIZER");
    char *cache = NULL, *folder = NULL;
    int code = 0;
    *out = NULL;
    if (config)
        code = open_inside(config, slot, size, true, out, err);
    if (!code && !*out && named && *named)
        code = open_named(named, slot, size, out, err);
    if (code || *out)
        return code;
    if (!(folder = strdup(path)))
        return fail_nomem(err, strlen(path));
    folder[path_base(path) - path] = '\0';
    code = open_inside(*folder ? folder : ".", slot, size, false, out, err);
    free(folder);
    if (code || *out)
        return code;
    if (styx_hub_folder(&cache, NULL) == 0)
        code = search_cache(cache, slot, size, out, err);
    if (!code && !*out)
        code = fail(err, STYX_ERR_IO,
                    "%s: a single file has no vocabulary, and none is in $STYX_TOKENIZER (not "
                    "set), in tokenizer/ beside it or in a model of %s: 'styx pull "
                    "stable-diffusion-v1-5/stable-diffusion-v1-5 --only tokenizer' gets one",
                    path, cache ? cache : "a cache");
    free(cache);
    return code;
}
