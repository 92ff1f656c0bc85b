/* decode.c - latents to pictures: unscale, decode one picture at a time, check, round. */
#include "engine/job.h"
#include "image/pixels.h"
#include <float.h>
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

/* To the end in any case: then it is a loop of vectors. */
static bool all_finite(const float *x, size_t n)
{
    int bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= !(fabsf(x[i]) <= FLT_MAX);
    return !bad;
}

/* Half precision can overflow in the decoder: nobody gets a black picture for that. */
static int decode_one(struct job *j, const float *z, float *pixels, styx_error *err)
{
    struct vae_call call = { j->s, j->m->part[SLOT_VAE], j->vae_type, j->r.vae_tiling,
                             j->r.vae_tile };
    size_t n = 3 * (size_t)j->h * (size_t)j->w;
    int code = vae_call_decode(&call, j->lh, j->lw, z, pixels, err);
    if (code || j->vae_type == DT_F32 || all_finite(pixels, n) || !all_finite(z, j->one))
        return code;
    session_warn(j->s, "The VAE overflowed in %s; the picture is decoded again in F32.",
                 dtype_name(j->vae_type));
    call.type = j->vae_type = DT_F32;
    return vae_call_decode(&call, j->lh, j->lw, z, pixels, err);
}

static int check(struct job *j, struct styx_image *image, float *pixels, size_t i,
                 struct styx_result *r, styx_error *err)
{
    size_t n = 3 * (size_t)j->h * (size_t)j->w;
    double since = job_working(j);
    bool nsfw = false;
    int code;
    if (!r->nsfw)
        return 0;
    code = check_picture(j->s, j->m, j->type, image, &nsfw, err);
    j->seconds[STAGE_SAFETY] += job_working(j) - since;
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

/* Does anybody want the numbers and not only the picture? */
static bool wants_pixels(const struct job *j)
{
    return j->r.output == STYX_OUTPUT_PIXELS || j->r.trace;
}

static int picture(struct job *j, const float *z, size_t i, struct styx_result *r, float *pixels,
                   styx_error *err)
{
    size_t n = 3 * (size_t)j->h * (size_t)j->w;
    struct image image = { 0 };
    int code;
    if ((code = decode_one(j, z, pixels, err)) ||
        (code = pixels_from_floats(pixels, j->w, j->h, 3, &image, err)))
        return code;
    for (size_t k = 0; wants_pixels(j) && k < n; k++) /* [-1, 1] -> [0, 1]; NaN becomes 0 */
        pixels[k] = fmaxf(0, fminf(1, pixels[k] * 0.5f + 0.5f));
    r->images[i] = (struct styx_image){ image.w, image.h, image.channels, image.data };
    return check(j, &r->images[i], pixels, i, r, err);
}

static int allocate(struct job *j, struct styx_result *r, styx_error *err)
{
    r->images = calloc(j->batch, sizeof *r->images);
    if (!r->images)
        return fail_nomem(err, j->batch * sizeof *r->images);
    if (j->m->part[SLOT_SAFETY_CHECKER] && j->r.safety != STYX_SAFETY_OFF) {
        r->nsfw = calloc(j->batch, 1);
        if (!r->nsfw)
            return fail_nomem(err, j->batch);
    }
    int rows = wants_pixels(j) ? (int)j->batch : 1; /* else room for one after the other */
    return tensor_new(&r->pixels, 4, (int[]){ rows, 3, j->h, j->w }, err);
}

int job_decode(struct job *j, struct styx_result *r, styx_error *err)
{
    size_t n = 3 * (size_t)j->h * (size_t)j->w;
    double since = job_working(j);
    float *z = malloc(j->batch * j->one * sizeof *z);
    int code = z ? allocate(j, r, err) : fail_nomem(err, j->batch * j->one * sizeof *z);
    if (code)
        goto done;
    for (size_t i = 0; i < j->batch; i++)
        unscale(j, j->latents + i * j->one, z + i * j->one);
    job_trace_latents(j, "vae.decode_in", j->batch, j->channels, z);
    for (size_t i = 0; i < j->batch; i++) {
        float *pixels = r->pixels.data + (wants_pixels(j) ? i * n : 0);
        code = picture(j, z + i * j->one, i, r, pixels, err);
        if (!code)
            code = job_progress(j, "decode", (int)i + 1, (int)j->batch, since, NULL, err);
        if (code)
            goto done;
    }
    job_trace(j, "out.image", 4, r->pixels.shape, r->pixels.data);
    if (j->r.output != STYX_OUTPUT_PIXELS)
        styx_tensor_free(&r->pixels);
done:
    free(z);
    return code;
}
