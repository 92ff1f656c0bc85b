/* repack.c - the same model in another layout: a folder as a single file, a single file as a
 * folder, weights in another container or type. */
#include "base/file.h"
#include "engine/published.h"
#include "weights/convert.h"
#include "weights/pickle.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const enum slot networks[] = { SLOT_UNET, SLOT_VAE, SLOT_TEXT_ENCODER, SLOT_TEXT_ENCODER_2 };
enum { NNETWORKS = sizeof networks / sizeof *networks };

/* ---- reading ---- */

static bool is_pickle(const char *path)
{
    static const char *const endings[] = { "ckpt", "pt", "pth", "bin" };
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (strcmp(path_extension(path), endings[i]) == 0)
            return true;
    return false;
}

static int open_file(const char *path, bool pickles, struct store **out, styx_error *err)
{
    return pickles && is_pickle(path) ? pickle_open(path, out, err)
                                      : store_open_file(path, out, err);
}

static int read_type(const char *name, enum convert_type *type, styx_error *err)
{
    static const char *const names[] = { "f32", "f16", "bf16", "q8_0" };
    *type = CONVERT_SAME;
    for (int i = 0; name && i < 4; i++)
        if (strcmp(name, names[i]) == 0)
            *type = CONVERT_F32 + i;
    if (name && *type == CONVERT_SAME)
        return fail(err, STYX_ERR_INVALID, "type '%s'; f32, f16, bf16 or q8_0 was wanted", name);
    return 0;
}

struct repacking {
    const char *in, *out;
    const struct styx_convert_options *o;
    struct convert_options convert;
    uint64_t before, all; /* bytes of earlier parts, of all parts */
};

static int on_progress(void *ctx, uint64_t done, uint64_t all)
{
    struct repacking *r = ctx;
    (void)all;
    return r->o->progress(r->o->user, r->before + done, r->all);
}

static uint64_t bytes_of(const struct store *s)
{
    struct store_summary sum;
    store_summarize(s, &sum);
    return sum.bytes;
}

/* ---- to a single file ---- */

/* The networks of a single file under diffusers' names, or of a folder. */
static int collect(const struct repacking *r, struct store *file, struct convert_part *parts,
                   int *n, styx_error *err)
{
    int code = 0;
    for (int i = 0; i < NNETWORKS && !code; i++) {
        const char *name = slot_names[networks[i]];
        char *folder = file ? NULL : path_join(r->in, name);
        parts[*n] = (struct convert_part){ .component = name };
        if (file && single_file_has(file, name))
            code = single_file_component(file, name, &parts[*n].store, err);
        else if (!file && !folder)
            code = fail_nomem(err, 256);
        else if (!file && file_is_dir(folder))
            code = store_open_component(folder, slot_weights_stem(networks[i]), NULL,
                                        &parts[*n].store, err);
        free(folder);
        *n += parts[*n].store != NULL;
    }
    if (!code && !*n)
        code = fail(err, STYX_ERR_FORMAT,
                    "%s: no unet, vae or text_encoder there; a model's folder was wanted", r->in);
    return code;
}

static int to_file(struct repacking *r, struct store *file, styx_error *err)
{
    struct convert_part parts[NNETWORKS];
    enum single_file kind = file ? single_file_kind(file) : SINGLE_UNKNOWN;
    int n = 0, code = 0;
    r->convert.single = !file || (kind != SINGLE_UNKNOWN && kind != SINGLE_SD2);
    if (r->convert.single)
        code = collect(r, file, parts, &n, err);
    else /* weights of another kind: their names are theirs */
        parts[n++] = (struct convert_part){ .component = "weights", .store = store_ref(file) };
    for (int i = 0; i < n; i++)
        r->all += bytes_of(parts[i].store);
    if (!code)
        code = convert_write(r->out, parts, n, &r->convert, err);
    for (int i = 0; i < n; i++)
        store_unref(parts[i].store);
    return code;
}

/* ---- to a folder ---- */

static int make_folder(const char *path, styx_error *err)
{
    if (mkdir(path, 0777) == 0)
        return 0;
    return fail(err, STYX_ERR_IO, "%s: cannot make this folder: %s", path, strerror(errno));
}

static int write_json(const char *folder, const char *name, const json_t *value, styx_error *err)
{
    char *path = path_join(folder, name);
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    int code =
        path && text ? file_write(path, text, strlen(text), FILE_NEW, err) : fail_nomem(err, 4096);
    free(path);
    free(text);
    return code;
}

static int write_weights(struct repacking *r, const styx_component *c, const char *folder,
                         styx_error *err)
{
    struct convert_part part = { slot_names[c->slot], c->weights };
    char name[64];
    snprintf(name, sizeof name, "%s.safetensors", slot_weights_stem(c->slot));
    char *path = path_join(folder, name);
    int code = path ? convert_write(path, &part, 1, &r->convert, err) : fail_nomem(err, 256);
    r->before += bytes_of(c->weights);
    free(path);
    return code;
}

static int copy_file(const char *from, const char *to, const char *name, styx_error *err)
{
    char *source = path_join(from, name), *target = path_join(to, name), *data = NULL;
    size_t bytes;
    int code = source && target ? 0 : fail_nomem(err, 256);
    if (!code && file_exists(source) &&
        !(code = file_read(source, JSON_FILE_BYTES, &data, &bytes, err)))
        code = file_write(target, data, bytes, FILE_NEW, err);
    free(data);
    free(source);
    free(target);
    return code;
}

/* The files of a vocabulary; pad: the token that its text is to be padded with, or NULL. */
static int write_vocabulary(const styx_component *c, const char *folder, const char *pad,
                            styx_error *err)
{
    static const char *const plain[] = { "vocab.json", "merges.txt", "tokenizer.json",
                                         "added_tokens.json" };
    static const char *const roles[] = { "tokenizer_config.json", "special_tokens_map.json" };
    int code = 0;
    for (size_t i = 0; i < sizeof plain / sizeof *plain && !code; i++)
        code = copy_file(c->path, folder, plain[i], err);
    for (size_t i = 0; i < sizeof roles / sizeof *roles && !code; i++) {
        char *path = path_join(c->path, roles[i]);
        json_t *root = NULL;
        if (!path)
            return fail_nomem(err, 256);
        if (file_exists(path))
            code = json_file(path, &root, err);
        else if (i == 0)
            root = json_pack("{s:i, s:s}", "model_max_length", tokenizer_max_length(c->tokenizer),
                             "tokenizer_class", "CLIPTokenizer");
        if (root && pad)
            json_object_set_new(root, "pad_token", json_string(pad));
        if (!code && root)
            code = write_json(folder, roles[i], root, err);
        json_decref(root);
        free(path);
    }
    return code;
}

static int write_part(struct repacking *r, const styx_component *c, enum slot slot,
                      const char *root, styx_error *err)
{
    bool borrowed = slot == SLOT_TOKENIZER_2 && strcmp(path_base(c->path), "tokenizer_2") != 0;
    char *folder = path_join(root, slot_names[slot]);
    int code = folder ? make_folder(folder, err) : fail_nomem(err, 256);
    if (!code && c->config)
        code = write_json(folder, slot_config_file(slot), c->config, err);
    if (!code && c->tokenizer)
        code = write_vocabulary(c, folder, borrowed ? "!" : NULL, err);
    if (!code && c->weights)
        code = write_weights(r, c, folder, err);
    free(folder);
    return code;
}

static const char *library_of(enum slot slot)
{
    return slot == SLOT_UNET || slot == SLOT_VAE || slot == SLOT_SCHEDULER ? "diffusers"
           : slot == SLOT_SAFETY_CHECKER                                   ? "stable_diffusion"
                                                                           : "transformers";
}

/* Does the pipeline know of such a part, even if it has none? */
static bool belongs(const styx_model *m, enum slot slot)
{
    bool xl = m->part[SLOT_UNET]->unet.time_dim > 0;
    if (slot == SLOT_TEXT_ENCODER_2 || slot == SLOT_TOKENIZER_2)
        return xl;
    return !xl || (slot != SLOT_SAFETY_CHECKER && slot != SLOT_FEATURE_EXTRACTOR);
}

static int write_index(const styx_model *m, const char *root, styx_error *err)
{
    json_t *index = json_deep_copy(m->config);
    json_object_set_new(index, "_class_name", json_string(m->class_name));
    for (int i = 0; i < SLOT_COUNT; i++) {
        const styx_component *c = m->part[i];
        if (!c && !belongs(m, (enum slot)i))
            continue;
        json_object_set_new(index, slot_names[i],
                            c ? json_pack("[s, s]", library_of((enum slot)i), c->class_name)
                              : json_pack("[n, n]"));
    }
    int code = index ? write_json(root, "model_index.json", index, err) : fail_nomem(err, 4096);
    json_decref(index);
    return code;
}

static int write_model(struct repacking *r, const styx_model *m, const char *root, styx_error *err)
{
    int code = 0;
    for (int i = 0; i < SLOT_COUNT; i++)
        r->all += m->part[i] && m->part[i]->weights ? bytes_of(m->part[i]->weights) : 0;
    for (int i = 0; i < SLOT_COUNT && !code; i++)
        if (m->part[i])
            code = write_part(r, m->part[i], (enum slot)i, root, err);
    return code ? code : write_index(m, root, err);
}

/* Removes what a failed conversion wrote: only names that write_part gives. */
static void remove_model(const char *root)
{
    static const char *const names[] = {
        "config.json",
        "scheduler_config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "diffusion_pytorch_model.safetensors",
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "added_tokens.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    };
    char path[4096];
    for (int i = 0; i < SLOT_COUNT; i++) {
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            snprintf(path, sizeof path, "%s/%s/%s", root, slot_names[i], names[k]);
            unlink(path);
        }
        snprintf(path, sizeof path, "%s/%s", root, slot_names[i]);
        rmdir(path);
    }
    snprintf(path, sizeof path, "%s/model_index.json", root);
    unlink(path);
    rmdir(root);
}

/* The folder appears under its name when all of it is there. */
static int to_folder(struct repacking *r, struct store *file, styx_error *err)
{
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    styx_model *m = NULL;
    size_t length = strlen(r->out);
    int code = 0;
    if (file_exists(r->out))
        return fail(err, STYX_ERR_INVALID, "%s: is there already; a new folder was wanted", r->out);
    o.config = r->o->config;
    char *temp = malloc(length + 16);
    if (!temp)
        return fail_nomem(err, length);
    while (length > 1 && r->out[length - 1] == '/')
        length--;
    snprintf(temp, length + 16, "%.*s.XXXXXX", (int)length, r->out);
    if (!file)
        code = styx_model_open(r->in, &o, &m, err);
    else if (!(m = calloc(1, sizeof *m)) || !(m->path = strdup(r->in)))
        code = fail_nomem(err, sizeof *m);
    else
        code = model_take_single(m, file, &o, err);
    if (code)
        goto done;
    if (!mkdtemp(temp)) {
        code = fail(err, STYX_ERR_IO, "%s: cannot be made: %s", r->out, strerror(errno));
        goto done;
    }
    chmod(temp, 0755); /* mkdtemp is more private than a model need be */
    if (!(code = write_model(r, m, temp, err)) && rename(temp, r->out) != 0)
        code = fail(err, STYX_ERR_IO, "%s: cannot be made: %s", r->out, strerror(errno));
    if (code)
        remove_model(temp);
done:
    styx_model_free(m);
    free(temp);
    return code;
}

int styx_convert(const char *in, const char *out, const struct styx_convert_options *options,
                 styx_error *err)
{
    struct styx_convert_options o = STYX_CONVERT_OPTIONS_INIT;
    struct repacking r = { .in = in, .out = out, .o = &o };
    struct store *file = NULL;
    int code;
    if (!in || !out || !*out)
        return fail(err, STYX_ERR_INVALID, "styx_convert needs a path to read and one to write");
    if (options && options->size > sizeof o)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "convert options of %zu bytes; this library knows %zu", options->size,
                    sizeof o);
    if (options)
        memcpy(&o, options, options->size);
    if ((code = read_type(o.type, &r.convert.type, err)))
        return code;
    r.convert.flags = o.overwrite ? FILE_REPLACE : FILE_NEW;
    r.convert.progress = o.progress ? on_progress : NULL;
    r.convert.ctx = &r;
    if (!file_exists(in))
        return fail(err, STYX_ERR_IO, "%s: no such file or folder", in);
    if (!file_is_dir(in) && (code = open_file(in, o.allow_pickle, &file, err)))
        return code;
    const char *kind = path_extension(out);
    code = strcmp(kind, "safetensors") == 0 || strcmp(kind, "gguf") == 0 ? to_file(&r, file, err)
                                                                         : to_folder(&r, file, err);
    store_unref(file);
    return code;
}
