/* networks.c - one call of one network on arrays in PyTorch's order. The programs are NHWC; latents
 * and pictures are small, so the two transpositions cost little. */
#include "engine/engine.h"
#include <stdlib.h>

static inline void planes_to_pixels(const float *from, float *to, size_t c, size_t area)
{
    for (size_t p = 0; p < area; p++)
        for (size_t k = 0; k < c; k++)
            to[p * c + k] = from[k * area + p];
}

static inline void pixels_to_planes(const float *from, float *to, size_t c, size_t area)
{
    for (size_t p = 0; p < area; p++)
        for (size_t k = 0; k < c; k++)
            to[k * area + p] = from[p * c + k];
}

/* Latents have four channels, pictures three: constants that the compiler unrolls, since beside a
 * card's step of milliseconds these loops are not nothing. */
static void to_nhwc(const float *from, float *to, int n, int c, int area)
{
    size_t one = (size_t)c * (size_t)area;
    for (int i = 0; i < n; i++, from += one, to += one) {
        if (c == 3)
            planes_to_pixels(from, to, 3, (size_t)area);
        else if (c == 4)
            planes_to_pixels(from, to, 4, (size_t)area);
        else
            planes_to_pixels(from, to, (size_t)c, (size_t)area);
    }
}

static void to_nchw(const float *from, float *to, int n, int c, int area)
{
    size_t one = (size_t)c * (size_t)area;
    for (int i = 0; i < n; i++, from += one, to += one) {
        if (c == 3)
            pixels_to_planes(from, to, 3, (size_t)area);
        else if (c == 4)
            pixels_to_planes(from, to, 4, (size_t)area);
        else
            pixels_to_planes(from, to, (size_t)c, (size_t)area);
    }
}

/* The end of the text in a row of ids. Configs with the legacy eos id 2 mean the largest id. */
static int32_t end_position(const struct clip_config *m, const int32_t *ids, int tokens)
{
    int at = 0;
    for (int i = 0; i < tokens; i++) {
        if (m->eos == 2 ? ids[i] > ids[at] : ids[i] == m->eos) {
            at = i;
            if (m->eos != 2)
                break;
        }
    }
    return at;
}

int run_text(styx_session *s, const struct text_call *call, const int32_t *ids, float *hidden,
             float *pooled, styx_error *err)
{
    const struct clip_config *m = &call->encoder->clip;
    struct program_key key = { .component = call->encoder,
                               .network = NET_TEXT,
                               .type = call->type,
                               .n = 1,
                               .h = 1,
                               .w = call->tokens,
                               .layer = call->layer,
                               .normed = call->normed };
    struct program *p;
    int32_t end = end_position(m, ids, call->tokens);
    int code;
    for (int i = 0; i < call->tokens; i++)
        if (ids[i] < 0 || ids[i] >= m->vocabulary)
            return fail(err, STYX_ERR_INVALID,
                        "token id %d at position %d; the text encoder knows 0 to %d: the tokenizer "
                        "does not belong to it",
                        (int)ids[i], i, m->vocabulary - 1);
    if ((code = program_get(s, &key, &p, err)))
        return code;
    const void *in[] = { ids, &end };
    float *out[2] = { hidden, m->projection ? pooled : NULL };
    return program_run(s, p, in, out, err);
}

int run_unet(styx_session *s, const struct unet_call *call, styx_error *err)
{
    const struct unet_config *m = &call->unet->unet;
    struct program_key key = { .component = call->unet,
                               .network = NET_UNET,
                               .type = call->type,
                               .n = call->n,
                               .h = call->h,
                               .w = call->w,
                               .tokens = call->tokens,
                               .ids = m->time_dim ? call->ids : 0,
                               .copies = call->copies };
    struct program *p;
    int area = call->h * call->w, code, k = 3;
    size_t nin = (size_t)call->n * m->in * area, nout = (size_t)call->n * m->out * area;
    float *sample = malloc((nin + nout) * sizeof *sample), *made = sample + nin;
    if (!sample)
        return fail_nomem(err, (nin + nout) * sizeof *sample);
    if ((code = program_get(s, &key, &p, err)))
        goto done;
    to_nhwc(call->sample, sample, program_tape(p)->in[0]->n, m->in, area);
    const void *in[TAPE_MAX_IN] = { sample, call->timesteps, call->text };
    if (m->time_dim) {
        in[k++] = call->pooled;
        in[k++] = call->time_ids;
    }
    if (m->cond_proj)
        in[k++] = call->guidance;
    if ((code = program_run(s, p, in, &made, err)))
        goto done;
    to_nchw(made, call->out, call->n, m->out, area);
done:
    free(sample);
    return code;
}

/* One map in, one map out: the two halves of the autoencoder and the vision tower's picture. */
static int run_map(styx_session *s, const struct program_key *key, int cin, const float *from,
                   const void *second, float *to, styx_error *err)
{
    struct program *p;
    int code = program_get(s, key, &p, err);
    if (code)
        return code;
    const tensor *x = program_tape(p)->in[0], *y = program_tape(p)->out[0];
    size_t nin = tensor_count(x), nout = tensor_count(y);
    float *in = malloc((nin + nout) * sizeof *in), *out = in + nin;
    if (!in)
        return fail_nomem(err, (nin + nout) * sizeof *in);
    to_nhwc(from, in, x->n, cin, x->h * x->w);
    const void *bound[] = { in, second };
    code = program_run(s, p, bound, &out, err);
    if (!code)
        to_nchw(out, to, y->n, y->c, y->h * y->w);
    free(in);
    return code;
}

int run_vae_encode(styx_session *s, const styx_component *vae, enum dtype type, int h, int w,
                   const float *pixels, float *moments, styx_error *err)
{
    struct program_key key = {
        .component = vae, .network = NET_VAE_ENCODE, .type = type, .n = 1, .h = h, .w = w
    };
    return run_map(s, &key, vae->vae.in, pixels, NULL, moments, err);
}

int run_vae_decode(styx_session *s, const styx_component *vae, enum dtype type, int h, int w,
                   const float *latents, float *pixels, styx_error *err)
{
    struct program_key key = {
        .component = vae, .network = NET_VAE_DECODE, .type = type, .n = 1, .h = h, .w = w
    };
    return run_map(s, &key, vae->vae.latent, latents, NULL, pixels, err);
}

int run_vision(styx_session *s, const styx_component *checker, enum dtype type, const float *pixels,
               float *embeds, styx_error *err)
{
    static const int32_t first = 0;
    struct program_key key = { .component = checker, .network = NET_VISION, .type = type, .n = 1 };
    return run_map(s, &key, checker->clip.channels, pixels, &first, embeds, err);
}
