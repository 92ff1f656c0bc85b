/* model.h - the networks. Each is read from its config.json and recorded on a tape by one
 * function that states names, shapes and data flow once. */
#ifndef STYX_MODEL_H
#define STYX_MODEL_H
#include "base/json.h"
#include "tape/tape.h"

enum { MODEL_MAX_LEVELS = 8 };

/* UNet2DConditionModel */
struct unet_config {
    int sample_size, in, out, levels;
    int ch[MODEL_MAX_LEVELS];
    bool down_attn[MODEL_MAX_LEVELS], up_attn[MODEL_MAX_LEVELS]; /* cross-attention block or not */
    int layers[MODEL_MAX_LEVELS];                                /* per down block */
    int depth[MODEL_MAX_LEVELS];                                 /* transformer layers, per level */
    int heads[MODEL_MAX_LEVELS]; /* "attention_head_dim": really the number of heads */
    bool mid, mid_attn, linear_projection, flip;
    int context, groups;
    float eps, freq_shift;
    int time_dim;  /* addition_time_embed_dim; 0: no text_time conditioning */
    int added;     /* projection_class_embeddings_input_dim */
    int cond_proj; /* time_cond_proj_dim of LCM-style UNets; 0: none */
};

/* AutoencoderKL */
struct vae_config {
    int in, out, latent, levels, layers, groups, sample_size;
    int ch[MODEL_MAX_LEVELS];
    bool mid_attn, quant, post_quant, force_upcast;
    float scaling, shift;
    float mean[16], std[16]; /* latents_mean, latents_std */
    bool normalised;         /* the two above are given */
    float colours[15];       /* _latent_colours, a struct latent_colours */
    bool coloured;           /* they are given */
};

/* CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection */
struct clip_config {
    int dim, ff, layers, heads, positions, vocabulary;
    int projection; /* 0: none */
    int eos;
    float eps;
    enum act act;
    int image, patch, channels; /* vision only */
};

/* `where` names the file in messages. A knob with a value that Styx does not have is
 * STYX_ERR_UNSUPPORTED and named. */
int unet_read(const json_t *config, const char *where, struct unet_config *m, styx_error *err);
int vae_read(const json_t *config, const char *where, struct vae_config *m, styx_error *err);
int clip_text_read(const json_t *config, const char *where, struct clip_config *m, styx_error *err);
int clip_vision_read(const json_t *config, const char *where, struct clip_config *m,
                     styx_error *err);

/* Inputs, in the order in which a run binds them:
 *   sample [n,h,w,in], timestep [n,1,1,1] f32, text [n,1,tokens,context] once, and where the UNet
 *   has them: pooled [n,1,1,*] once, time_ids [n,1,1,ids] once; timestep_cond [n,1,1,cond_proj].
 * Output: [n,h,w,out]. ids: how many time ids (5 or 6); ignored without text_time. */
void unet(tape *t, const struct unet_config *m, int n, int h, int w, int tokens, int ids);

/* pixels [n,h,w,3] -> moments [n,h/8,w/8,2*latent] */
void vae_encode(tape *t, const struct vae_config *m, int n, int h, int w);
/* latents [n,h,w,latent] -> pixels [n,8h,8w,3] */
void vae_decode(tape *t, const struct vae_config *m, int n, int h, int w);
int vae_scale(const struct vae_config *m); /* pixels per latent: 8 for four levels */

/* ids [n,1,tokens,1] i32, and the position of the end token [n,1,1,1] i32.
 * Outputs: hidden [n,1,tokens,dim], and with a projection: text_embeds [n,1,1,projection].
 * layer: hidden_states[layer], before layer `layer`; layer == m->layers: after the last.
 * normed: through the final layer norm. */
void clip_text(tape *t, const struct clip_config *m, int n, int tokens, int layer, bool normed);

/* pixels [n,image,image,3] -> image_embeds [n,1,1,projection].
 * prefix: how the file calls the tower ("vision_model", or "vision_model.vision_model"). */
void clip_vision(tape *t, const struct clip_config *m, int n, const char *prefix);

/* x -> norm -> silu -> conv (+ time) -> norm -> silu -> conv -> + x. emb may be NULL (VAE). */
tensor *resnet(tape *t, tensor *x, tensor *emb, int cout, int groups, float eps);

#endif
