/* unet.c - the UNet of SD 1.x, SDXL base, SDXL refiner and their relatives (UNet2DConditionModel).
 * Ronneberger et al. 2015, with the transformer blocks of Rombach et al. 2022. */
#include "model/model.h"

enum { MAX_SKIPS = 64 };

struct cond { /* what every block of the network sees */
    tensor *emb, *text;
};

/* What reads the result of a norm or of GEGLU, at every step, bears 8 bits. */
static tensor *attend(tape *t, tensor *x, tensor *context, const char *at, int heads)
{
    enter(t, "%s", at);
    t->coarse = true;
    tensor *q = linear_nobias(t, x, "to_q", x->c);
    t->coarse = context == x;
    tensor *k = linear_nobias(t, context, "to_k", x->c);
    tensor *v = linear_nobias(t, context, "to_v", x->c);
    t->coarse = false;
    tensor *y = linear(t, attention(t, q, k, v, heads, false), "to_out.0", x->c);
    leave(t);
    return y;
}

/* A feature map [n, h, w, c] is a sequence of h*w tokens: no reshaping. */
static tensor *transformer(tape *t, const struct unet_config *m, tensor *x, tensor *text, int heads,
                           int depth)
{
    tensor *(*project)(tape *, tensor *, const char *, int) =
        m->linear_projection ? linear : conv1x1;
    tensor *h = project(t, group_norm(t, x, "norm", m->groups, 1e-6f), "proj_in", x->c);

    for (int i = 0; i < depth; i++) {
        enter(t, "transformer_blocks.%d", i);
        tensor *n = layer_norm(t, h, "norm1", 1e-5f);
        h = add(t, h, attend(t, n, n, "attn1", heads));
        h = add(t, h, attend(t, layer_norm(t, h, "norm2", 1e-5f), text, "attn2", heads));
        t->coarse = true;
        n = geglu(t, linear(t, layer_norm(t, h, "norm3", 1e-5f), "ff.net.0.proj", 8 * h->c));
        h = add(t, h, linear(t, n, "ff.net.2", h->c));
        t->coarse = false;
        leave(t);
    }
    return add(t, x, project(t, h, "proj_out", x->c));
}

/* One layer of a block at level i: a residual block, then a transformer if the block has them. */
static tensor *layer(tape *t, const struct unet_config *m, int i, int j, bool attn, tensor *x,
                     const struct cond *c)
{
    enter(t, "resnets.%d", j);
    x = resnet(t, x, c->emb, m->ch[i], m->groups, m->eps);
    leave(t);
    if (attn) {
        enter(t, "attentions.%d", j);
        x = transformer(t, m, x, c->text, m->heads[i], m->depth[i]);
        leave(t);
    }
    return x;
}

static tensor *middle(tape *t, const struct unet_config *m, tensor *x, const struct cond *c)
{
    int last = m->levels - 1;
    enter(t, "mid_block");
    enter(t, "resnets.0");
    x = resnet(t, x, c->emb, x->c, m->groups, m->eps);
    leave(t);
    if (m->mid_attn) {
        enter(t, "attentions.0");
        x = transformer(t, m, x, c->text, m->heads[last], m->depth[last]);
        leave(t);
        enter(t, "resnets.1");
        x = resnet(t, x, c->emb, x->c, m->groups, m->eps);
        leave(t);
    }
    leave(t);
    return x;
}

/* The time embedding, with SDXL's added conditioning and LCM's guidance embedding. */
static tensor *embedding(tape *t, const struct unet_config *m, tensor *step, tensor *pooled,
                         tensor *time_ids, tensor *guidance)
{
    int dim = 4 * m->ch[0];
    tensor *emb = timestep(t, step, m->ch[0], m->flip, m->freq_shift);
    if (guidance)
        emb = add(t, emb, linear_nobias(t, guidance, "time_embedding.cond_proj", m->ch[0]));
    emb = act(t, linear(t, emb, "time_embedding.linear_1", dim), ACT_SILU);
    emb = linear(t, emb, "time_embedding.linear_2", dim);
    if (pooled) {
        tensor *a = concat(t, pooled, timestep(t, time_ids, m->time_dim, m->flip, m->freq_shift));
        a = act(t, linear(t, a, "add_embedding.linear_1", dim), ACT_SILU);
        emb = add(t, emb, linear(t, a, "add_embedding.linear_2", dim));
    }
    return act(t, emb, ACT_SILU); /* every resnet starts with it */
}

void unet(tape *t, const struct unet_config *m, int n, int h, int w, int tokens, int ids)
{
    tensor *skip[MAX_SKIPS], *pooled = NULL, *time_ids = NULL, *guidance = NULL;
    int skips = 0, last = m->levels - 1;

    tensor *x = input(t, "sample", n, h, w, m->in, t->type, false);
    tensor *step = input(t, "timestep", n, 1, 1, 1, DT_F32, false);
    struct cond c = { .text = input(t, "text", n, 1, tokens, m->context, t->type, true) };
    if (m->time_dim) {
        pooled = input(t, "text_embeds", n, 1, 1, m->added - ids * m->time_dim, t->type, true);
        time_ids = input(t, "time_ids", n, 1, 1, ids, DT_F32, true);
    }
    if (m->cond_proj)
        guidance = input(t, "timestep_cond", n, 1, 1, m->cond_proj, t->type, true);
    c.emb = embedding(t, m, step, pooled, time_ids, guidance);

    x = skip[skips++] = conv2d(t, x, "conv_in", m->ch[0], 3, 1);
    for (int i = 0; i <= last; i++) {
        enter(t, "down_blocks.%d", i);
        for (int j = 0; j < m->layers[i]; j++)
            x = skip[skips++] = layer(t, m, i, j, m->down_attn[i], x, &c);
        if (i < last)
            x = skip[skips++] = conv2d(t, x, "downsamplers.0.conv", x->c, 3, 2);
        leave(t);
    }

    if (m->mid)
        x = middle(t, m, x, &c);

    for (int i = last; i >= 0; i--) {
        enter(t, "up_blocks.%d", last - i);
        for (int j = 0; j <= m->layers[i]; j++)
            x = layer(t, m, i, j, m->up_attn[i], concat(t, x, skip[--skips]), &c);
        if (i > 0) { /* to the next skip's size: twice, or one less when that is odd */
            x = upsample(t, x, skip[skips - 1]->h, skip[skips - 1]->w);
            x = conv2d(t, x, "upsamplers.0.conv", x->c, 3, 1);
        }
        leave(t);
    }
    x = act(t, group_norm(t, x, "conv_norm_out", m->groups, m->eps), ACT_SILU);
    output(t, conv2d(t, x, "conv_out", m->out, 3, 1));
}
