/* config.c - the networks' config.json files. Defaults are those of the diffusers and transformers
 * classes; a knob whose value Styx does not have is refused by name, never ignored. */
#include "model/model.h"
#include <math.h>

/* Knobs that must have one of these values (JSON) where they are given. */
struct fixed {
    const char *key, *allowed;
};

static const struct fixed unet_fixed[] = {
    { "act_fn", "[\"silu\", \"swish\"]" },
    { "attention_type", "[\"default\"]" },
    { "center_input_sample", "[false]" },
    { "class_embed_type", "[null]" },
    { "class_embeddings_concat", "[false, null]" },
    { "num_class_embeds", "[null]" },
    { "conv_in_kernel", "[3]" },
    { "conv_out_kernel", "[3]" },
    { "cross_attention_norm", "[null]" },
    { "downsample_padding", "[1]" },
    { "dual_cross_attention", "[false]" },
    { "encoder_hid_dim", "[null]" },
    { "encoder_hid_dim_type", "[null]" },
    { "mid_block_only_cross_attention", "[null, false]" },
    { "mid_block_scale_factor", "[1]" },
    { "num_attention_heads", "[null]" },
    { "only_cross_attention", "[false]" },
    { "resnet_out_scale_factor", "[1]" },
    { "resnet_skip_time_act", "[false]" },
    { "resnet_time_scale_shift", "[\"default\"]" },
    { "reverse_transformer_layers_per_block", "[null]" },
    { "time_embedding_act_fn", "[null]" },
    { "time_embedding_dim", "[null]" },
    { "time_embedding_type", "[\"positional\"]" },
    { "timestep_post_act", "[null]" },
    { NULL, NULL },
};

static const struct fixed vae_fixed[] = {
    { "act_fn", "[\"silu\", \"swish\"]" },
    { NULL, NULL },
};

static bool allowed(const json_t *value, const json_t *list)
{
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one)
    {
        if (json_equal(value, one))
            return true;
        if (json_is_number(value) && json_is_number(one) &&
            json_number_value(value) == json_number_value(one))
            return true; /* 1 and 1.0 */
    }
    return false;
}

static int check_fixed(const json_t *config, const char *where, const struct fixed *f,
                       styx_error *err)
{
    for (; f->key; f++) {
        const json_t *value = json_object_get(config, f->key);
        if (!value)
            continue;
        json_t *list = json_loads(f->allowed, 0, NULL);
        bool ok = list && allowed(value, list);
        json_decref(list);
        if (ok)
            continue;
        char *found = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        int code = fail(err, STYX_ERR_UNSUPPORTED,
                        "%s: '%s' is %.80s, which Styx does not have; it supports %s", where,
                        f->key, found ? found : "?", f->allowed);
        free(found);
        return code;
    }
    return 0;
}

/* A list of n integers, or one that counts for all. */
static int ints_or_one(const json_t *config, const char *where, const char *key, int fallback,
                       int max, int *out, int n, styx_error *err)
{
    int given = 0, code = json_ints(config, where, key, 1, max, out, n, &given, err);
    if (code)
        return code;
    if (given == 0)
        out[0] = fallback;
    if (given > 1 && given != n)
        return fail(err, STYX_ERR_FORMAT, "%s: '%s' has %d entries for %d blocks", where, key,
                    given, n);
    for (int i = given > 1 ? n : 1; i < n; i++)
        out[i] = out[0];
    return 0;
}

static int channels(const json_t *config, const char *where, int *ch, int *levels,
                    const int *fallback, int nfallback, styx_error *err)
{
    int code =
        json_ints(config, where, "block_out_channels", 1, 65536, ch, MODEL_MAX_LEVELS, levels, err);
    if (code || *levels)
        return code;
    for (*levels = 0; *levels < nfallback; ++*levels)
        ch[*levels] = fallback[*levels];
    return 0;
}

/* Block types of one side; attn[i] says whether block i has cross-attention. */
static int block_types(const json_t *config, const char *where, const char *key, const char *plain,
                       const char *cross, int levels, bool *attn, styx_error *err)
{
    const char *names[MODEL_MAX_LEVELS];
    int n = 0, code = json_texts(config, where, key, names, MODEL_MAX_LEVELS, &n, err);
    if (code)
        return code;
    if (n == 0 && levels == 4) { /* the class's own default: SD 1.x */
        for (int i = 0; i < 4; i++)
            attn[i] = key[0] == 'd' ? i < 3 : i > 0;
        return 0;
    }
    if (n != levels)
        return fail(err, STYX_ERR_FORMAT, "%s: '%s' has %d entries for %d blocks", where, key, n,
                    levels);
    for (int i = 0; i < n; i++) {
        attn[i] = cross && strcmp(names[i], cross) == 0;
        if (!attn[i] && strcmp(names[i], plain) != 0)
            return fail(err, STYX_ERR_UNSUPPORTED,
                        "%s: '%s' names a %s, which Styx does not have; it supports %s%s%s", where,
                        key, names[i], plain, cross ? " and " : "", cross ? cross : "");
    }
    return 0;
}

static int unet_read_blocks(const json_t *config, const char *where, struct unet_config *m,
                            styx_error *err)
{
    static const int sd15[4] = { 320, 640, 1280, 1280 };
    static const char *const mid[] = { "UNetMidBlock2DCrossAttn", "UNetMidBlock2D" };
    bool up[MODEL_MAX_LEVELS];
    int code, choice = 0;
    if ((code = channels(config, where, m->ch, &m->levels, sd15, 4, err)) ||
        (code = block_types(config, where, "down_block_types", "DownBlock2D",
                            "CrossAttnDownBlock2D", m->levels, m->down_attn, err)) ||
        (code = block_types(config, where, "up_block_types", "UpBlock2D", "CrossAttnUpBlock2D",
                            m->levels, up, err)) ||
        (code = json_choice(config, where, "mid_block_type", mid, 2, 0, &choice, err)) ||
        (code = ints_or_one(config, where, "layers_per_block", 2, 6, m->layers, m->levels, err)) ||
        (code = ints_or_one(config, where, "transformer_layers_per_block", 1, 64, m->depth,
                            m->levels, err)) ||
        (code =
             ints_or_one(config, where, "attention_head_dim", 8, 1024, m->heads, m->levels, err)))
        return code;
    m->mid = !json_is_null(json_object_get(config, "mid_block_type")); /* null is no default */
    m->mid_attn = choice == 0;
    for (int i = 0; i < m->levels; i++)
        m->up_attn[m->levels - 1 - i] = up[i]; /* listed from the middle outwards */
    return 0;
}

static int unet_read_added(const json_t *config, const char *where, struct unet_config *m,
                           styx_error *err)
{
    static const char *const types[] = { "text_time" };
    int code, type = -1;
    if ((code = json_choice(config, where, "addition_embed_type", types, 1, -1, &type, err)) ||
        type < 0)
        return code;
    if ((code =
             json_int(config, where, "addition_time_embed_dim", 0, 2, 65536, &m->time_dim, err)) ||
        (code = json_int(config, where, "projection_class_embeddings_input_dim", 0, 2, 1 << 20,
                         &m->added, err)))
        return code;
    if (!m->time_dim || !m->added)
        return fail(err, STYX_ERR_FORMAT,
                    "%s: addition_embed_type text_time needs addition_time_embed_dim and "
                    "projection_class_embeddings_input_dim",
                    where);
    return 0;
}

int unet_read(const json_t *config, const char *where, struct unet_config *m, styx_error *err)
{
    int code, context[MODEL_MAX_LEVELS];
    double eps, shift;
    memset(m, 0, sizeof *m);
    if ((code = check_fixed(config, where, unet_fixed, err)) ||
        (code = unet_read_blocks(config, where, m, err)) ||
        (code = unet_read_added(config, where, m, err)) ||
        (code = json_int(config, where, "sample_size", 64, 1, 65536, &m->sample_size, err)) ||
        (code = json_int(config, where, "in_channels", 4, 1, 65536, &m->in, err)) ||
        (code = json_int(config, where, "out_channels", 4, 1, 65536, &m->out, err)) ||
        (code = json_int(config, where, "norm_num_groups", 32, 1, 65536, &m->groups, err)) ||
        (code = ints_or_one(config, where, "cross_attention_dim", 1280, 65536, context, m->levels,
                            err)) ||
        (code = json_int(config, where, "time_cond_proj_dim", 0, 1, 65536, &m->cond_proj, err)) ||
        (code = json_bool(config, where, "use_linear_projection", false, &m->linear_projection,
                          err)) ||
        (code = json_bool(config, where, "flip_sin_to_cos", true, &m->flip, err)) ||
        (code = json_double(config, where, "norm_eps", 1e-5, 0, 1, &eps, err)) ||
        (code = json_double(config, where, "freq_shift", 0, 0, 1, &shift, err)))
        return code;
    for (int i = 1; i < m->levels; i++)
        if (context[i] != context[0])
            return fail(err, STYX_ERR_UNSUPPORTED,
                        "%s: 'cross_attention_dim' differs between blocks (%d and %d)", where,
                        context[0], context[i]);
    m->context = context[0];
    m->eps = (float)eps;
    m->freq_shift = (float)shift;
    return 0;
}

static int vae_read_numbers(const json_t *config, const char *where, struct vae_config *m,
                            styx_error *err)
{
    double scaling, shift, mean[16], std[16], colours[15];
    int code, nmean = 0, nstd = 0, ncolours = 0;
    if ((code = json_double(config, where, "scaling_factor", 0.18215, 1e-6, 1e6, &scaling, err)) ||
        (code = json_double(config, where, "shift_factor", 0, -1e6, 1e6, &shift, err)) ||
        (code = json_doubles(config, where, "latents_mean", mean, 16, &nmean, err)) ||
        (code = json_doubles(config, where, "latents_std", std, 16, &nstd, err)) ||
        (code = json_doubles(config, where, "_latent_colours", colours, 15, &ncolours, err)))
        return code;
    m->scaling = (float)scaling;
    m->shift = (float)shift;
    m->normalised = nmean && nstd;
    if (m->normalised && (nmean != m->latent || nstd != m->latent))
        return fail(err, STYX_ERR_FORMAT,
                    "%s: latents_mean and latents_std have %d and %d entries for %d channels",
                    where, nmean, nstd, m->latent);
    for (int i = 0; i < nmean && m->normalised; i++) {
        m->mean[i] = (float)mean[i];
        m->std[i] = (float)std[i];
    }
    m->coloured = ncolours > 0;
    if (m->coloured && (ncolours != 15 || m->latent != 4))
        return fail(err, STYX_ERR_FORMAT,
                    "%s: _latent_colours has %d entries for %d channels; 15 for 4 were wanted",
                    where, ncolours, m->latent);
    for (int i = 0; i < ncolours; i++)
        m->colours[i] = (float)colours[i];
    return 0;
}

int vae_read(const json_t *config, const char *where, struct vae_config *m, styx_error *err)
{
    static const int plain[1] = { 64 };
    bool none[MODEL_MAX_LEVELS];
    int code;
    memset(m, 0, sizeof *m);
    if ((code = check_fixed(config, where, vae_fixed, err)) ||
        (code = channels(config, where, m->ch, &m->levels, plain, 1, err)) ||
        (code = json_int(config, where, "in_channels", 3, 1, 65536, &m->in, err)) ||
        (code = json_int(config, where, "out_channels", 3, 1, 65536, &m->out, err)) ||
        (code = json_int(config, where, "latent_channels", 4, 1, 16, &m->latent, err)) ||
        (code = json_int(config, where, "layers_per_block", 1, 1, 16, &m->layers, err)) ||
        (code = json_int(config, where, "norm_num_groups", 32, 1, 65536, &m->groups, err)) ||
        (code = json_int(config, where, "sample_size", 32, 1, 65536, &m->sample_size, err)) ||
        (code = json_bool(config, where, "mid_block_add_attention", true, &m->mid_attn, err)) ||
        (code = json_bool(config, where, "use_quant_conv", true, &m->quant, err)) ||
        (code = json_bool(config, where, "use_post_quant_conv", true, &m->post_quant, err)) ||
        (code = json_bool(config, where, "force_upcast", true, &m->force_upcast, err)) ||
        (code = block_types(config, where, "down_block_types", "DownEncoderBlock2D", NULL,
                            m->levels, none, err)) ||
        (code = block_types(config, where, "up_block_types", "UpDecoderBlock2D", NULL, m->levels,
                            none, err)))
        return code;
    return vae_read_numbers(config, where, m, err);
}

struct clip_defaults {
    int dim, ff, layers, heads;
};

static int clip_read(const json_t *config, const char *where, const struct clip_defaults *d,
                     struct clip_config *m, styx_error *err)
{
    static const char *const acts[] = { "quick_gelu", "gelu", "silu" };
    static const enum act kind[] = { ACT_QUICK_GELU, ACT_GELU, ACT_SILU };
    int code, a = 0;
    double eps;
    if ((code = json_int(config, where, "hidden_size", d->dim, 1, 65536, &m->dim, err)) ||
        (code = json_int(config, where, "intermediate_size", d->ff, 1, 1 << 20, &m->ff, err)) ||
        (code = json_int(config, where, "num_hidden_layers", d->layers, 1, 256, &m->layers, err)) ||
        (code =
             json_int(config, where, "num_attention_heads", d->heads, 1, 1024, &m->heads, err)) ||
        (code = json_choice(config, where, "hidden_act", acts, 3, 0, &a, err)) ||
        (code = json_double(config, where, "layer_norm_eps", 1e-5, 0, 1, &eps, err)))
        return code;
    if (m->dim % m->heads)
        return fail(err, STYX_ERR_FORMAT, "%s: hidden_size %d does not divide into %d heads", where,
                    m->dim, m->heads);
    m->act = kind[a];
    m->eps = (float)eps;
    return 0;
}

int clip_text_read(const json_t *config, const char *where, struct clip_config *m, styx_error *err)
{
    static const struct clip_defaults text = { 512, 2048, 12, 8 };
    const char *class_name = NULL;
    int code, n = 0, projection;
    memset(m, 0, sizeof *m);
    if ((code = clip_read(config, where, &text, m, err)) ||
        (code = json_int(config, where, "vocab_size", 49408, 1, 1 << 24, &m->vocabulary, err)) ||
        (code = json_int(config, where, "max_position_embeddings", 77, 3, 65536, &m->positions,
                         err)) ||
        (code = json_int(config, where, "eos_token_id", 49407, 0, 1 << 24, &m->eos, err)) ||
        (code = json_int(config, where, "projection_dim", 512, 1, 65536, &projection, err)) ||
        (code = json_texts(config, where, "architectures", &class_name, 1, &n, err)))
        return code;
    if (n && strcmp(class_name, "CLIPTextModelWithProjection") == 0)
        m->projection = projection;
    else if (n && strcmp(class_name, "CLIPTextModel") != 0)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: a %s, which Styx does not have; it supports CLIPTextModel and "
                    "CLIPTextModelWithProjection",
                    where, class_name);
    return 0;
}

int clip_vision_read(const json_t *config, const char *where, struct clip_config *m,
                     styx_error *err)
{
    static const struct clip_defaults vision = { 768, 3072, 12, 12 };
    const json_t *inner = NULL;
    int code;
    memset(m, 0, sizeof *m);
    if ((code = json_object_of(config, where, "vision_config", &inner, err)))
        return code;
    if (!inner) /* the safety checker nests it, a lone vision model does not */
        inner = config;
    if ((code = clip_read(inner, where, &vision, m, err)) ||
        (code = json_int(inner, where, "image_size", 224, 1, 4096, &m->image, err)) ||
        (code = json_int(inner, where, "patch_size", 32, 1, 4096, &m->patch, err)) ||
        (code = json_int(inner, where, "num_channels", 3, 1, 64, &m->channels, err)) ||
        (code = json_int(config, where, "projection_dim", 512, 1, 65536, &m->projection, err)))
        return code;
    return 0;
}
