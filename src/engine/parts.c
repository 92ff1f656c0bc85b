/* parts.c - the components called by themselves, and the small public things. */
#include "engine/job.h"
#include <stdlib.h>

const char *styx_version(void)
{
    return STYX_VERSION;
}

const char *styx_status_text(int status)
{
    static const char *const texts[] = {
        "done",          "cancelled",     "out of memory",   "no such device", "input or output",
        "broken format", "not supported", "invalid request", "backend failed", "internal mistake",
    };
    return status > 0 || status < STYX_ERR_INTERNAL ? "unknown status" : texts[-status];
}

void styx_text_free(char *text)
{
    free(text);
}

void styx_image_free(struct styx_image *image)
{
    if (!image)
        return;
    free(image->pixels);
    memset(image, 0, sizeof *image);
}

void styx_tensor_free(struct styx_tensor *x)
{
    if (!x)
        return;
    free(x->data);
    memset(x, 0, sizeof *x);
}

size_t tensor_numbers(const struct styx_tensor *x)
{
    size_t n = 1;
    for (int i = 0; i < x->dims; i++)
        n *= (size_t)x->shape[i];
    return n;
}

int tensor_new(struct styx_tensor *x, int dims, const int *shape, styx_error *err)
{
    struct styx_tensor made = { .dims = dims };
    memcpy(made.shape, shape, (size_t)dims * sizeof *shape);
    made.data = malloc(tensor_numbers(&made) * sizeof(float));
    if (!made.data)
        return fail_nomem(err, tensor_numbers(&made) * sizeof(float));
    *x = made;
    return 0;
}

static int want(const struct styx_tensor *x, const char *name, int dims, const int *shape,
                styx_error *err)
{
    bool ok = x && x->data && x->dims == dims;
    for (int i = 0; i < dims && ok; i++)
        ok = shape[i] > 0 ? x->shape[i] == shape[i] : x->shape[i] > 0;
    if (ok)
        return 0;
    char wanted[64];
    int at = 0;
    for (int i = 0; i < dims; i++)
        at += snprintf(wanted + at, sizeof wanted - (size_t)at, shape[i] > 0 ? "%s%d" : "%s*",
                       i ? ", " : "", shape[i]);
    return fail(err, STYX_ERR_INVALID, "%s has the wrong shape; [%s] was wanted", name, wanted);
}

static const styx_component *part_of(const styx_model *m, enum slot slot, styx_error *err)
{
    if (!m->part[slot])
        fail(err, STYX_ERR_INVALID, "%s has no %s", m->path, slot_names[slot]);
    return m->part[slot];
}

static const struct tokenizer *tokenizer_of(const styx_model *m, int encoder, styx_error *err)
{
    if (encoder != 1 && encoder != 2) {
        fail(err, STYX_ERR_INVALID, "encoder %d; 1 or 2 was wanted", encoder);
        return NULL;
    }
    const styx_component *c = part_of(m, encoder == 1 ? SLOT_TOKENIZER : SLOT_TOKENIZER_2, err);
    return c ? c->tokenizer : NULL;
}

int styx_tokenize(const styx_model *model, int encoder, const char *text, int32_t **ids,
                  size_t *count, char **cut, styx_error *err)
{
    struct token_report report = { 0 };
    const struct tokenizer *t = tokenizer_of(model, encoder, err);
    if (!t)
        return STYX_ERR_INVALID;
    int length = tokenizer_max_length(t);
    int32_t *made = malloc((size_t)length * sizeof *made);
    if (!made)
        return fail_nomem(err, (size_t)length * sizeof *made);
    int code = tokenizer_encode(t, text, strlen(text), made, length, &report, err);
    if (code) {
        free(made);
        return code;
    }
    *ids = made;
    *count = (size_t)length;
    if (cut)
        *cut = report.cut;
    else
        free(report.cut);
    return 0;
}

void styx_ids_free(int32_t *ids)
{
    free(ids);
}

int styx_detokenize(const styx_model *model, int encoder, const int32_t *ids, size_t count,
                    char **text, styx_error *err)
{
    const struct tokenizer *t = tokenizer_of(model, encoder, err);
    return t ? tokenizer_decode(t, ids, count, text, err) : STYX_ERR_INVALID;
}

static int encode_ids(styx_session *s, const struct text_call *call, const int32_t *ids, size_t n,
                      struct styx_tensor *hidden, struct styx_tensor *pooled, styx_error *err)
{
    const struct clip_config *m = &call->encoder->clip;
    struct styx_tensor h = { 0 }, p = { 0 };
    int width = m->projection ? m->projection : 1;
    int code = tensor_new(&h, 3, (int[]){ (int)n, call->tokens, m->dim }, err);
    if (!code)
        code = tensor_new(&p, 2, (int[]){ (int)n, width }, err);
    for (size_t i = 0; i < n && !code; i++)
        code = run_text(s, call, ids + i * (size_t)call->tokens,
                        h.data + i * (size_t)call->tokens * (size_t)m->dim,
                        p.data + i * (size_t)width, err);
    if (!code && hidden) {
        *hidden = h;
        h.data = NULL;
    }
    if (!code && pooled) {
        *pooled = p;
        p.data = NULL;
    }
    free(h.data);
    free(p.data);
    return code;
}

int styx_encode_text(styx_session *session, const styx_model *model, int encoder,
                     const int32_t *ids, size_t n, size_t tokens, int layer, enum styx_dtype dtype,
                     struct styx_tensor *hidden, struct styx_tensor *pooled, styx_error *err)
{
    enum slot slot = encoder == 2 ? SLOT_TEXT_ENCODER_2 : SLOT_TEXT_ENCODER;
    const styx_component *c = part_of(model, slot, err);
    int code;
    if (!c)
        return STYX_ERR_INVALID;
    if (n < 1 || tokens < 1 || tokens > (size_t)c->clip.positions || layer < -1 ||
        layer > c->clip.layers)
        return fail(err, STYX_ERR_INVALID,
                    "%zu rows of %zu tokens, layer %d; up to %d tokens and layer -1 to %d were "
                    "wanted",
                    n, tokens, layer, c->clip.positions, c->clip.layers);
    if (pooled && !c->clip.projection)
        return fail(err, STYX_ERR_INVALID, "%s has no projection, so no pooled output", c->path);
    if ((code = check_dtype(session, dtype, err)) || (code = session_enter(session, err)))
        return code;
    struct text_call call = { .encoder = c,
                              .type = resolve_dtype(session, dtype),
                              .tokens = (int)tokens,
                              .layer = layer < 0 ? c->clip.layers : layer,
                              .normed = layer < 0 };
    code = encode_ids(session, &call, ids, n, hidden, pooled, err);
    session_leave(session);
    return code;
}

static int check_unet_inputs(const struct unet_config *m, const struct styx_tensor *sample,
                             const struct styx_tensor *text, const struct styx_tensor *pooled,
                             const struct styx_tensor *ids, const struct styx_tensor *cond,
                             styx_error *err)
{
    int code, n;
    if ((code = want(sample, "sample", 4, (int[]){ 0, m->in, 0, 0 }, err)))
        return code;
    n = sample->shape[0];
    if ((code = want(text, "text", 3, (int[]){ n, 0, m->context }, err)))
        return code;
    if (m->time_dim) {
        if ((code = want(ids, "time_ids", 2, (int[]){ n, 0 }, err)) ||
            (code = want(pooled, "text_embeds", 2,
                         (int[]){ n, m->added - ids->shape[1] * m->time_dim }, err)))
            return code;
    } else if (pooled || ids) {
        return fail(err, STYX_ERR_INVALID, "this UNet takes no text_embeds and time_ids");
    }
    if (m->cond_proj)
        return want(cond, "timestep_cond", 2, (int[]){ n, m->cond_proj }, err);
    return cond ? fail(err, STYX_ERR_INVALID, "this UNet takes no timestep_cond") : 0;
}

int styx_unet(styx_session *session, const styx_model *model, enum styx_dtype dtype,
              const struct styx_tensor *sample, const float *timesteps,
              const struct styx_tensor *text, const struct styx_tensor *text_embeds,
              const struct styx_tensor *time_ids, const struct styx_tensor *timestep_cond,
              struct styx_tensor *out, styx_error *err)
{
    const styx_component *c = part_of(model, SLOT_UNET, err);
    struct styx_tensor made = { 0 };
    int code;
    if (!c)
        return STYX_ERR_INVALID;
    if ((code = check_unet_inputs(&c->unet, sample, text, text_embeds, time_ids, timestep_cond,
                                  err)) ||
        (code = check_unet_dtype(session, dtype, err)))
        return code;
    int shape[4] = { sample->shape[0], c->unet.out, sample->shape[2], sample->shape[3] };
    if ((code = tensor_new(&made, 4, shape, err)))
        return code;
    struct unet_call call = {
        .unet = c,
        .type = resolve_dtype(session, dtype),
        .n = shape[0],
        .h = shape[2],
        .w = shape[3],
        .tokens = text->shape[1],
        .ids = time_ids ? time_ids->shape[1] : 0,
        .copies = 1,
        .sample = sample->data,
        .timesteps = timesteps,
        .text = text->data,
        .pooled = text_embeds ? text_embeds->data : NULL,
        .time_ids = time_ids ? time_ids->data : NULL,
        .guidance = timestep_cond ? timestep_cond->data : NULL,
        .out = made.data,
    };
    if (!(code = session_enter(session, err))) {
        code = run_unet(session, &call, err);
        session_leave(session);
    }
    if (code)
        styx_tensor_free(&made);
    else
        *out = made;
    return code;
}

/* Rows of x through one half of the autoencoder, one by one. */
static int run_vae(const struct vae_call *c, bool decode, const struct styx_tensor *x,
                   const int *shape, struct styx_tensor *y, styx_error *err)
{
    struct styx_tensor made = { 0 };
    int n = x->shape[0], h = x->shape[2], w = x->shape[3], code = tensor_new(&made, 4, shape, err);
    if (code)
        return code;
    size_t in = tensor_numbers(x) / (size_t)n, out = tensor_numbers(&made) / (size_t)n;
    if (!(code = session_enter(c->s, err))) {
        for (int i = 0; i < n && !code; i++) {
            const float *from = x->data + (size_t)i * in;
            float *to = made.data + (size_t)i * out;
            code = decode ? vae_call_decode(c, h, w, from, to, err)
                          : vae_call_encode(c, h, w, from, to, err);
        }
        session_leave(c->s);
    }
    if (code)
        styx_tensor_free(&made);
    else
        *y = made;
    return code;
}

int styx_vae_encode(styx_session *session, const styx_model *model, enum styx_dtype dtype,
                    const struct styx_tensor *pixels, enum styx_tiling tiling, int tile,
                    struct styx_tensor *moments, styx_error *err)
{
    const styx_component *c = part_of(model, SLOT_VAE, err);
    int code;
    if (!c)
        return STYX_ERR_INVALID;
    if ((code = want(pixels, "pixels", 4, (int[]){ 0, c->vae.in, 0, 0 }, err)) ||
        (code = check_dtype(session, dtype, err)))
        return code;
    int scale = vae_scale(&c->vae), h = pixels->shape[2], w = pixels->shape[3];
    if (h < scale || w < scale)
        return fail(err, STYX_ERR_INVALID, "%d x %d pixels; at least %d x %d were wanted", w, h,
                    scale, scale);
    struct vae_call call = { session, c, resolve_dtype(session, dtype), tiling, tile };
    int shape[4] = { pixels->shape[0], 2 * c->vae.latent, h / scale, w / scale };
    return run_vae(&call, false, pixels, shape, moments, err);
}

int styx_vae_decode(styx_session *session, const styx_model *model, enum styx_dtype dtype,
                    const struct styx_tensor *z, enum styx_tiling tiling, int tile,
                    struct styx_tensor *pixels, styx_error *err)
{
    const styx_component *c = part_of(model, SLOT_VAE, err);
    int code;
    if (!c)
        return STYX_ERR_INVALID;
    if ((code = want(z, "z", 4, (int[]){ 0, c->vae.latent, 0, 0 }, err)) ||
        (code = check_dtype(session, dtype, err)))
        return code;
    struct vae_call call = { session, c, resolve_dtype(session, dtype), tiling, tile };
    int scale = vae_scale(&c->vae);
    int shape[4] = { z->shape[0], c->vae.out, z->shape[2] * scale, z->shape[3] * scale };
    return run_vae(&call, true, z, shape, pixels, err);
}
