/* published.c - see published.h. The texts are our own writing of what the models' papers and cards
 * say (Rombach et al. 2022; Podell et al. 2023, arXiv:2307.01952). */
#include "engine/published.h"
#include <stdlib.h>

#define COMMON_UNET                                                                                \
    "\"_class_name\": \"UNet2DConditionModel\", \"act_fn\": \"silu\", \"in_channels\": 4,"         \
    " \"out_channels\": 4, \"layers_per_block\": 2, \"norm_num_groups\": 32, \"norm_eps\": 1e-5,"  \
    " \"downsample_padding\": 1, \"flip_sin_to_cos\": true, \"freq_shift\": 0,"                    \
    " \"center_input_sample\": false, \"mid_block_type\": \"UNetMidBlock2DCrossAttn\","
#define X_DOWN "\"CrossAttnDownBlock2D\""
#define X_UP "\"CrossAttnUpBlock2D\""
#define ADDED                                                                                      \
    " \"use_linear_projection\": true, \"addition_embed_type\": \"text_time\","                    \
    " \"addition_time_embed_dim\": 256, \"sample_size\": 128,"

static const char unet_sd[] =
    "{" COMMON_UNET " \"sample_size\": 64, \"block_out_channels\": [320, 640, 1280, 1280],"
    " \"down_block_types\": [" X_DOWN ", " X_DOWN ", " X_DOWN ", \"DownBlock2D\"],"
    " \"up_block_types\": [\"UpBlock2D\", " X_UP ", " X_UP ", " X_UP "],"
    " \"attention_head_dim\": 8, \"cross_attention_dim\": 768,"
    " \"transformer_layers_per_block\": 1, \"use_linear_projection\": false}";

static const char unet_sdxl[] =
    "{" COMMON_UNET ADDED " \"block_out_channels\": [320, 640, 1280],"
    " \"down_block_types\": [\"DownBlock2D\", " X_DOWN ", " X_DOWN "],"
    " \"up_block_types\": [" X_UP ", " X_UP ", \"UpBlock2D\"],"
    " \"attention_head_dim\": [5, 10, 20], \"cross_attention_dim\": 2048,"
    " \"transformer_layers_per_block\": [1, 2, 10],"
    " \"projection_class_embeddings_input_dim\": 2816}";

static const char unet_refiner[] =
    "{" COMMON_UNET ADDED " \"block_out_channels\": [384, 768, 1536, 1536],"
    " \"down_block_types\": [\"DownBlock2D\", " X_DOWN ", " X_DOWN ", \"DownBlock2D\"],"
    " \"up_block_types\": [\"UpBlock2D\", " X_UP ", " X_UP ", \"UpBlock2D\"],"
    " \"attention_head_dim\": [6, 12, 24, 24], \"cross_attention_dim\": 1280,"
    " \"transformer_layers_per_block\": 4, \"projection_class_embeddings_input_dim\": 2560}";

#define COMMON_VAE                                                                                 \
    "\"_class_name\": \"AutoencoderKL\", \"act_fn\": \"silu\", \"in_channels\": 3,"                \
    " \"out_channels\": 3, \"latent_channels\": 4, \"layers_per_block\": 2,"                       \
    " \"norm_num_groups\": 32, \"block_out_channels\": [128, 256, 512, 512],"                      \
    " \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\","                      \
    " \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"                                            \
    " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\","      \
    " \"UpDecoderBlock2D\"], \"force_upcast\": true,"

static const char vae_sd[] = "{" COMMON_VAE " \"sample_size\": 512, \"scaling_factor\": 0.18215}";
static const char vae_sdxl[] =
    "{" COMMON_VAE " \"sample_size\": 1024, \"scaling_factor\": 0.13025}";

#define COMMON_CLIP                                                                                \
    " \"model_type\": \"clip_text_model\", \"vocab_size\": 49408,"                                 \
    " \"max_position_embeddings\": 77, \"layer_norm_eps\": 1e-5, \"bos_token_id\": 0,"             \
    " \"eos_token_id\": 2, \"pad_token_id\": 1,"

static const char clip_l[] =
    "{\"architectures\": [\"CLIPTextModel\"]," COMMON_CLIP " \"hidden_act\": \"quick_gelu\","
    " \"hidden_size\": 768, \"intermediate_size\": 3072, \"num_attention_heads\": 12,"
    " \"num_hidden_layers\": 12, \"projection_dim\": 768}";

static const char clip_g[] =
    "{\"architectures\": [\"CLIPTextModelWithProjection\"]," COMMON_CLIP
    " \"hidden_act\": \"gelu\", \"hidden_size\": 1280, \"intermediate_size\": 5120,"
    " \"num_attention_heads\": 20, \"num_hidden_layers\": 32, \"projection_dim\": 1280}";

#define COMMON_SCHEDULER                                                                           \
    " \"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\","         \
    " \"num_train_timesteps\": 1000, \"steps_offset\": 1, \"trained_betas\": null,"

static const char pndm[] = "{\"_class_name\": \"PNDMScheduler\"," COMMON_SCHEDULER
                           " \"skip_prk_steps\": true, \"set_alpha_to_one\": false,"
                           " \"clip_sample\": false}";
static const char euler[] = "{\"_class_name\": \"EulerDiscreteScheduler\"," COMMON_SCHEDULER
                            " \"prediction_type\": \"epsilon\", \"interpolation_type\": \"linear\","
                            " \"use_karras_sigmas\": false, \"timestep_spacing\": \"leading\"}";

static const struct published {
    const char *index, *unet, *vae, *scheduler;
} families[] = {
    [SINGLE_SD15] = { "{\"_class_name\": \"StableDiffusionPipeline\"}", unet_sd, vae_sd, pndm },
    [SINGLE_SD15_INPAINT] = { "{\"_class_name\": \"StableDiffusionInpaintPipeline\"}", unet_sd,
                              vae_sd, pndm },
    [SINGLE_SDXL] = { "{\"_class_name\": \"StableDiffusionXLPipeline\","
                      " \"force_zeros_for_empty_prompt\": true}",
                      unet_sdxl, vae_sdxl, euler },
    [SINGLE_SDXL_INPAINT] = { "{\"_class_name\": \"StableDiffusionXLInpaintPipeline\","
                              " \"force_zeros_for_empty_prompt\": true}",
                              unet_sdxl, vae_sdxl, euler },
    [SINGLE_REFINER] = { "{\"_class_name\": \"StableDiffusionXLImg2ImgPipeline\","
                         " \"requires_aesthetics_score\": true,"
                         " \"force_zeros_for_empty_prompt\": false}",
                         unet_refiner, vae_sdxl, euler },
};

json_t *published_index(enum single_file kind)
{
    return json_loads(families[kind].index, 0, NULL);
}

/* ---- what shapes tell ---- */

static int extent(const struct store *s, const char *name, int dimension)
{
    const struct entry *e = store_find(s, name);
    return e && e->dims > dimension ? e->shape[dimension] : 0;
}

/* How many of PREFIX0. PREFIX1. PREFIX2. ... there are. */
static int count(const struct store *s, const char *prefix, int most)
{
    char name[NAME_BYTES];
    int n = 0;
    for (; n < most; n++) {
        snprintf(name, sizeof name, "%.200s%d.", prefix, n);
        if (!store_has_prefix(s, name))
            break;
    }
    return n;
}

static void set_int(json_t *config, const char *key, int value)
{
    if (value > 0)
        json_object_set_new(config, key, json_integer(value));
}

static void set_ints(json_t *config, const char *key, const int *values, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_integer(values[i]));
    json_object_set_new(config, key, list);
}

/* Block types of one side; the up side is listed from the middle outwards. */
static void set_blocks(json_t *config, const char *key, const char *plain, const char *cross,
                       const bool *attn, int n, bool reverse)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_string(attn[reverse ? n - 1 - i : i] ? cross : plain));
    json_object_set_new(config, key, list);
}

static int unlike(const char *where, const char *what, int found, int wanted, styx_error *err)
{
    return fail(err, STYX_ERR_FORMAT,
                "%s: %s, %d, is unlike the published model's, %d, and what else differs cannot be "
                "told from weights: give a folder with the config.json files as 'config'",
                where, what, found, wanted);
}

/* Channels decide about heads and groups, so they must be the published ones. */
static int check_channels(const json_t *config, const struct store *s, const char *format,
                          const char *where, styx_error *err)
{
    const json_t *ch = json_object_get(config, "block_out_channels");
    char name[NAME_BYTES];
    size_t i;
    json_t *value;
    json_array_foreach((json_t *)ch, i, value)
    {
        int wanted = (int)json_integer_value(value);
        snprintf(name, sizeof name, format, (int)i);
        int found = extent(s, name, 0);
        if (found != wanted)
            return unlike(where, "the number of channels", found, wanted, err);
    }
    return 0;
}

static int fit_unet(json_t *config, const struct store *s, const char *where, styx_error *err)
{
    int levels = (int)json_array_size(json_object_get(config, "block_out_channels"));
    int layers[MODEL_MAX_LEVELS], depth[MODEL_MAX_LEVELS], code;
    bool attn[MODEL_MAX_LEVELS];
    char name[NAME_BYTES];
    if ((code = check_channels(config, s, "down_blocks.%d.resnets.0.conv1.weight", where, err)))
        return code;
    int found = count(s, "down_blocks.", MODEL_MAX_LEVELS);
    if (found != levels)
        return unlike(where, "the number of blocks", found, levels, err);
    for (int i = 0; i < levels; i++) {
        snprintf(name, sizeof name, "down_blocks.%d.resnets.", i);
        layers[i] = count(s, name, 16);
        snprintf(name, sizeof name, "down_blocks.%d.attentions.0.transformer_blocks.", i);
        depth[i] = count(s, name, 64);
        attn[i] = depth[i] > 0;
    }
    /* the mid block has the depth of the last level, which may have no attention of its own */
    found = count(s, "mid_block.attentions.0.transformer_blocks.", 64);
    depth[levels - 1] = found ? found : depth[levels - 1];
    for (int i = 0; i < levels; i++)
        depth[i] = depth[i] ? depth[i] : 1;
    set_ints(config, "layers_per_block", layers, levels);
    set_ints(config, "transformer_layers_per_block", depth, levels);
    set_blocks(config, "down_block_types", "DownBlock2D", "CrossAttnDownBlock2D", attn, levels,
               false);
    set_blocks(config, "up_block_types", "UpBlock2D", "CrossAttnUpBlock2D", attn, levels, true);
    set_int(config, "in_channels", extent(s, "conv_in.weight", 1));
    set_int(config, "out_channels", extent(s, "conv_out.weight", 0));
    set_int(config, "cross_attention_dim",
            extent(s, "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1));
    set_int(config, "projection_class_embeddings_input_dim",
            extent(s, "add_embedding.linear_1.weight", 1));
    set_int(config, "time_cond_proj_dim", extent(s, "time_embedding.cond_proj.weight", 1));
    return 0;
}

static int fit_vae(json_t *config, const struct store *s, const char *where, styx_error *err)
{
    int code =
        check_channels(config, s, "encoder.down_blocks.%d.resnets.0.conv1.weight", where, err);
    if (code)
        return code;
    set_int(config, "layers_per_block", count(s, "encoder.down_blocks.0.resnets.", 16));
    set_int(config, "latent_channels", extent(s, "decoder.conv_in.weight", 1));
    return 0;
}

static int fit_clip(json_t *config, const struct store *s, const char *where, styx_error *err)
{
    int wanted = (int)json_integer_value(json_object_get(config, "hidden_size"));
    int found = extent(s, "text_model.embeddings.token_embedding.weight", 1);
    if (found != wanted)
        return unlike(where, "the width of the text encoder", found, wanted, err);
    set_int(config, "vocab_size", extent(s, "text_model.embeddings.token_embedding.weight", 0));
    set_int(config, "max_position_embeddings",
            extent(s, "text_model.embeddings.position_embedding.weight", 0));
    set_int(config, "num_hidden_layers", count(s, "text_model.encoder.layers.", 256));
    set_int(config, "intermediate_size",
            extent(s, "text_model.encoder.layers.0.mlp.fc1.weight", 0));
    set_int(config, "projection_dim", extent(s, "text_projection.weight", 0));
    return 0;
}

int published_config(enum single_file kind, enum slot slot, const struct store *weights,
                     const char *where, json_t **config, styx_error *err)
{
    const struct published *p = &families[kind];
    const char *text = slot == SLOT_UNET             ? p->unet
                       : slot == SLOT_VAE            ? p->vae
                       : slot == SLOT_TEXT_ENCODER   ? clip_l
                       : slot == SLOT_TEXT_ENCODER_2 ? clip_g
                                                     : p->scheduler;
    json_t *c = json_loads(text, 0, NULL);
    int code = 0;
    if (!c)
        return fail_nomem(err, strlen(text));
    if (!weights)
        *config = c;
    else if (slot == SLOT_UNET)
        code = fit_unet(c, weights, where, err);
    else if (slot == SLOT_VAE)
        code = fit_vae(c, weights, where, err);
    else
        code = fit_clip(c, weights, where, err);
    if (code)
        json_decref(c);
    else
        *config = c;
    return code;
}

/* Models trained for v say so in the metadata of the model spec (modelspec.prediction_type) or by
 * empty tensors called v_pred and, for a schedule that ends in pure noise, ztsnr. */
int published_scheduler(enum single_file kind, const struct store *file, json_t **config,
                        styx_error *err)
{
    const char *said = store_metadata(file, "modelspec.prediction_type");
    int code = published_config(kind, SLOT_SCHEDULER, NULL, store_path(file), config, err);
    if (code)
        return code;
    if (store_find(file, "v_pred") || (said && *said == 'v'))
        json_object_set_new(*config, "prediction_type", json_string("v_prediction"));
    if (store_find(file, "ztsnr"))
        json_object_set_new(*config, "rescale_betas_zero_snr", json_true());
    return 0;
}
