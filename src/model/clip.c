/* clip.c - the text and vision towers of CLIP: ViT-L/14, OpenCLIP bigG/14 and any other config.
 * Radford et al. 2021. */
#include "model/model.h"

static tensor *layer(tape *t, const struct clip_config *m, tensor *x, bool causal)
{
    tensor *n = layer_norm(t, x, "layer_norm1", m->eps);
    tensor *q = linear(t, n, "self_attn.q_proj", x->c), *k = linear(t, n, "self_attn.k_proj", x->c);
    tensor *v = linear(t, n, "self_attn.v_proj", x->c);
    tensor *y = attention(t, q, k, v, m->heads, causal);
    x = add(t, x, linear(t, y, "self_attn.out_proj", x->c));
    n = act(t, linear(t, layer_norm(t, x, "layer_norm2", m->eps), "mlp.fc1", m->ff), m->act);
    return add(t, x, linear(t, n, "mlp.fc2", x->c));
}

void clip_text(tape *t, const struct clip_config *m, int n, int tokens, int at, bool normed)
{
    tensor *ids = input(t, "ids", n, 1, tokens, 1, DT_I32, false);
    tensor *end = input(t, "end", n, 1, 1, 1, DT_I32, false);
    tensor *hidden = NULL, *last;

    enter(t, "text_model");
    tensor *x = embed(t, ids, "embeddings.token_embedding", m->vocabulary, m->dim);
    x = position(t, x, "embeddings.position_embedding", m->positions);
    for (int i = 0; i < m->layers; i++) {
        if (i == at)
            hidden = x;
        enter(t, "encoder.layers.%d", i);
        x = layer(t, m, x, true);
        leave(t);
    }
    if (at >= m->layers)
        hidden = x;
    last = layer_norm(t, x, "final_layer_norm", m->eps);
    if (normed && hidden == x)
        hidden = last;
    else if (normed) /* clip_skip: an earlier layer through the same norm */
        hidden = layer_norm_again(t, hidden, last);
    leave(t);
    output(t, hidden);
    if (m->projection)
        output(t, linear_nobias(t, row(t, last, end), "text_projection", m->projection));
}

void clip_vision(tape *t, const struct clip_config *m, int n, const char *prefix)
{
    tensor *x = input(t, "pixels", n, m->image, m->image, m->channels, t->type, false);

    enter(t, "%s", prefix);
    x = conv2d_pad(t, x, "embeddings.patch_embedding", m->dim, m->patch, m->patch, 0, 0, false);
    x = prepend(t, x, "embeddings.class_embedding");
    x = position(t, x, "embeddings.position_embedding", x->w);
    x = layer_norm(t, x, "pre_layrnorm", m->eps); /* the published name */
    for (int i = 0; i < m->layers; i++) {
        enter(t, "encoder.layers.%d", i);
        x = layer(t, m, x, false);
        leave(t);
    }
    tensor *first = input(t, "class", n, 1, 1, 1, DT_I32, false); /* position 0 of every row */
    x = layer_norm(t, row(t, x, first), "post_layernorm", m->eps);
    leave(t);
    output(t, linear_nobias(t, x, "visual_projection", m->projection));
}
