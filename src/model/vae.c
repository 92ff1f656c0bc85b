/* vae.c - the autoencoder of SD and SDXL (AutoencoderKL). Esser et al. 2021, Rombach et al.
 * 2022. */
#include "model/model.h"

static const float EPS = 1e-6f; /* everywhere in this network */

static tensor *block(tape *t, const struct vae_config *m, tensor *x, int j, int cout)
{
    enter(t, "resnets.%d", j);
    x = resnet(t, x, NULL, cout, m->groups, EPS);
    leave(t);
    return x;
}

/* Self-attention over all positions, one head as wide as the map. */
static tensor *attend(tape *t, const struct vae_config *m, tensor *x)
{
    enter(t, "attentions.0");
    tensor *n = group_norm(t, x, "group_norm", m->groups, EPS);
    tensor *q = linear(t, n, "to_q", x->c), *k = linear(t, n, "to_k", x->c);
    tensor *v = linear(t, n, "to_v", x->c);
    x = add(t, x, linear(t, attention(t, q, k, v, 1, false), "to_out.0", x->c));
    leave(t);
    return x;
}

static tensor *middle(tape *t, const struct vae_config *m, tensor *x)
{
    enter(t, "mid_block");
    x = block(t, m, x, 0, x->c);
    if (m->mid_attn)
        x = attend(t, m, x);
    x = block(t, m, x, 1, x->c);
    leave(t);
    return x;
}

static tensor *last_conv(tape *t, const struct vae_config *m, tensor *x, int cout)
{
    x = act(t, group_norm(t, x, "conv_norm_out", m->groups, EPS), ACT_SILU);
    return conv2d(t, x, "conv_out", cout, 3, 1);
}

int vae_scale(const struct vae_config *m)
{
    return 1 << (m->levels - 1);
}

void vae_encode(tape *t, const struct vae_config *m, int n, int h, int w)
{
    tensor *x = input(t, "pixels", n, h, w, m->in, t->type, false);
    enter(t, "encoder");
    x = conv2d(t, x, "conv_in", m->ch[0], 3, 1);
    for (int i = 0; i < m->levels; i++) {
        enter(t, "down_blocks.%d", i);
        for (int j = 0; j < m->layers; j++)
            x = block(t, m, x, j, m->ch[i]);
        if (i < m->levels - 1) /* pads right and bottom only */
            x = conv2d_pad(t, x, "downsamplers.0.conv", x->c, 3, 2, 0, 1, true);
        leave(t);
    }
    x = last_conv(t, m, middle(t, m, x), 2 * m->latent);
    leave(t);
    if (m->quant)
        x = conv1x1(t, x, "quant_conv", 2 * m->latent);
    output(t, x);
}

void vae_decode(tape *t, const struct vae_config *m, int n, int h, int w)
{
    tensor *x = input(t, "latents", n, h, w, m->latent, t->type, false);
    if (m->post_quant)
        x = conv1x1(t, x, "post_quant_conv", m->latent);
    enter(t, "decoder");
    x = middle(t, m, conv2d(t, x, "conv_in", m->ch[m->levels - 1], 3, 1));
    for (int i = m->levels - 1; i >= 0; i--) {
        enter(t, "up_blocks.%d", m->levels - 1 - i);
        for (int j = 0; j <= m->layers; j++)
            x = block(t, m, x, j, m->ch[i]);
        if (i > 0)
            x = conv2d(t, upsample(t, x, 2 * x->h, 2 * x->w), "upsamplers.0.conv", x->c, 3, 1);
        leave(t);
    }
    x = last_conv(t, m, x, m->out);
    leave(t);
    output(t, x);
}
