/* decode.c - latents to pictures: unscale, decode one picture at a time, check, round. */
#include "engine/job.h"
#include "image/pixels.h"
#include <math.h>
#include <stdlib.h>

static void unscale(const struct job *j, const float *latents, float *z)
{
    const struct vae_config *m = &j->m->part[SLOT_VAE]->vae;
    size_t area = (size_t)j->lh * (size_t)j->lw;
    for (size_t i = 0; i < j->one; i++) {
        if (m->normalised && j->xl)
            z[i] = latents[i] * m->std[i / area] / m->scaling + m->mean[i / area];
        else
            z[i] = latents[i] / m->scaling;
    }
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* Half precision can overflow in the decoder: nobody gets a black picture for that. */
static int decode_one(struct job *j, const float *z, float *pixels, styx_error *err)
{
    const styx_component *vae = j->m->part[SLOT_VAE];
    size_t n = 3 * (size_t)j->h * (size_t)j->w;
    int code = decode_latents(j->s, vae, j->vae_type, j->lh, j->lw, z, j->r.vae_tiling, pixels, err);
    if (code || j->vae_type == DT_F32 || all_finite(pixels, n) || !all_finite(z, j->one))
        return code;
    session_warn(j->s, "The VAE overflowed in %s; the picture is decoded again in F32.",
                 dtype_name(j->vae_type));
    j->vae_type = DT_F32;
    return decode_latents(j->s, vae, DT_F32, j->lh, j->lw, z, j->r.vae_tiling, pixels, err);
}

static int check(struct job *j, struct styx_image *image, float *pixels, size_t i,
                 struct styx_result *r, styx_error *err)
{
    size_t n = 3 * (size_t)j->h * (size_t)j->w;
    double since = job_clock();
    bool nsfw = false;
    int code;
    if (!r->nsfw)
        return 0;
    code = check_picture(j->s, j->m, j->type, image, &nsfw, err);
    j->seconds[STAGE_SAFETY] += job_clock() - since;
    if (code || !nsfw)
        return code;
    r->nsfw[i] = 1;
    session_warn(j->s, "Potential NSFW content was detected in one or more images.%s",
                 j->r.safety == STYX_SAFETY_BLACK
                     ? " A black image will be returned instead. Try again with a different prompt "
                       "and/or seed."
                     : "");
    if (j->r.safety == STYX_SAFETY_BLACK) {
        memset(image->pixels, 0, n);
        memset(pixels, 0, n * sizeof *pixels);
    }
    return 0;
}

static int picture(struct job *j, const float *latents, size_t i, struct styx_result *r, float *z,
                   float *pixels, styx_error *err)
{
    size_t n = 3 * (size_t)j->h * (size_t)j->w;
    struct image image = { 0 };
    char name[32];
    int code;
    unscale(j, latents, z);
    snprintf(name, sizeof name, j->batch > 1 ? "vae.decode_in.%zu" : "vae.decode_in", i);
    job_trace_latents(j, name, 1, j->channels, z);
    if ((code = decode_one(j, z, pixels, err)))
        return code;
    if ((code = pixels_from_floats(pixels, j->w, j->h, 3, &image, err)))
        return code;
    for (size_t k = 0; k < n; k++) /* [-1, 1] -> [0, 1]; NaN becomes 0 */
        pixels[k] = fmaxf(0, fminf(1, pixels[k] * 0.5f + 0.5f));
    r->images[i] = (struct styx_image){ image.w, image.h, image.channels, image.data };
    if ((code = check(j, &r->images[i], pixels, i, r, err)))
        return code;
    snprintf(name, sizeof name, j->batch > 1 ? "out.image.%zu" : "out.image", i);
    job_trace(j, name, 4, (int[]){ 1, 3, j->h, j->w }, pixels);
    return 0;
}

static int allocate(struct job *j, struct styx_result *r, styx_error *err)
{
    int shape[4] = { (int)j->batch, 3, j->h, j->w };
    r->images = calloc(j->batch, sizeof *r->images);
    if (!r->images)
        return fail_nomem(err, j->batch * sizeof *r->images);
    if (j->r.output == STYX_OUTPUT_PIXELS) {
        int code = tensor_new(&r->pixels, 4, shape, err);
        if (code)
            return code;
    }
    if (j->m->part[SLOT_SAFETY_CHECKER] && j->r.safety != STYX_SAFETY_OFF) {
        r->nsfw = calloc(j->batch, 1);
        if (!r->nsfw)
            return fail_nomem(err, j->batch);
    }
    return 0;
}

int job_decode(struct job *j, struct styx_result *r, styx_error *err)
{
    size_t n = 3 * (size_t)j->h * (size_t)j->w;
    double since = job_clock();
    float *z = NULL, *pixels = NULL;
    int code = allocate(j, r, err);
    if (code)
        return code;
    z = malloc(j->one * sizeof *z);
    pixels = malloc(n * sizeof *pixels);
    if (!z || !pixels) {
        code = fail_nomem(err, n * sizeof *pixels);
        goto done;
    }
    for (size_t i = 0; i < j->batch; i++) {
        if ((code = picture(j, j->latents + i * j->one, i, r, z, pixels, err)))
            goto done;
        if (r->pixels.data)
            memcpy(r->pixels.data + i * n, pixels, n * sizeof *pixels);
        if ((code = job_progress(j, "decode", (int)i + 1, (int)j->batch, since, NULL, err)))
            goto done;
    }
done:
    free(z);
    free(pixels);
    return code;
}
