/* latents.c - where sampling starts: noise, or the latents of pictures with noise on them
 * (diffusers' prepare_latents and prepare_mask_latents), and the masks of inpainting. */
#include "engine/job.h"
#include "image/mask.h"
#include "image/pixels.h"
#include "image/resize.h"
#include <math.h>
#include <stdlib.h>

static float *numbers(size_t n, styx_error *err)
{
    float *x = malloc(n * sizeof *x);
    if (!x)
        fail_nomem(err, n * sizeof *x);
    return x;
}

/* Rows [0, have) once more until there are batch: a, b, a, b (torch.cat of copies). */
static int repeat_to_batch(const struct job *j, float *x, size_t have, size_t one, const char *what,
                           styx_error *err)
{
    if (have == 0 || have > j->batch || j->batch % have)
        return fail(err, STYX_ERR_INVALID,
                    "%zu %s for %zu pictures; a number that divides it was wanted", have, what,
                    j->batch);
    for (size_t i = have; i < j->batch; i++)
        memcpy(x + i * one, x + (i - have) * one, one * sizeof *x);
    return 0;
}

/* z = mean + sigma eps of the posterior, scaled (Kingma & Welling 2013). */
static void sample_posterior(const struct job *j, const float *moments, const float *eps, float *z)
{
    const struct vae_config *m = &j->m->part[SLOT_VAE]->vae;
    size_t area = (size_t)j->lh * (size_t)j->lw;
    for (size_t i = 0; i < j->one; i++) {
        float logvar = moments[j->one + i];
        logvar = logvar < -30 ? -30 : logvar > 20 ? 20 : logvar;
        float x = moments[i] + expf(0.5f * logvar) * eps[i];
        if (m->normalised && j->xl && j->task == TASK_IMAGE) /* inpainting does not, as diffusers */
            z[i] = (x - m->mean[i / area]) * m->scaling / m->std[i / area];
        else
            z[i] = x * m->scaling;
    }
}

/* The latents of pictures: encoded, sampled from the posterior, scaled. [n, channels, lh, lw] */
static int encode_images(struct job *j, const float *pixels, size_t n, float *latents,
                         styx_error *err)
{
    const styx_component *vae = j->m->part[SLOT_VAE];
    size_t picture = 3 * (size_t)j->h * (size_t)j->w;
    /* in an fp16 pipeline that upcasts its VAE the posterior's noise is drawn in fp32 */
    enum dtype type = j->xl && vae->vae.force_upcast ? DT_F32 : j->noise_type;
    float *moments = numbers(2 * n * j->one, err), *eps = numbers(n * j->one, err);
    int code = moments && eps ? 0 : STYX_ERR_NOMEM;
    struct vae_call call = { j->s, vae, j->vae_type, j->r.vae_tiling, j->r.vae_tile };
    for (size_t i = 0; i < n && !code; i++)
        code =
            vae_call_encode(&call, j->h, j->w, pixels + i * picture, moments + 2 * i * j->one, err);
    /* each picture by itself when each has its own generator */
    size_t each = j->ngenerators > 1 ? 1 : n;
    for (size_t i = 0; i < n && !code; i += each)
        job_draw_from(j, i, type, eps + i * j->one, each, j->channels);
    for (size_t i = 0; i < n && !code; i++)
        sample_posterior(j, moments + 2 * i * j->one, eps + i * j->one, latents + i * j->one);
    free(moments);
    free(eps);
    return code;
}

/* ---- pictures of the request as floats ---- */

static int resized_pixels(const struct job *j, const struct styx_image *from, float *to,
                          styx_error *err)
{
    struct image in = { from->width, from->height, from->channels, from->pixels }, out = { 0 };
    int code = image_resize(&in, j->w, j->h, RESIZE_LANCZOS, &out, err);
    if (!code)
        pixels_to_floats(&out, to);
    image_free(&out);
    return code;
}

/* Arrays in [0, 1] become [-1, 1]; those with negative values are taken to be so already. */
static void tensor_pixels(const struct job *j, const struct styx_tensor *x, float *to)
{
    size_t n = (size_t)x->shape[0] * 3 * (size_t)j->h * (size_t)j->w, all = tensor_numbers(x);
    bool centred = false;
    floats_resize_nearest(x->data, x->shape[0] * 3, x->shape[2], x->shape[3], to, j->h, j->w);
    for (size_t i = 0; i < all && !centred; i++)
        centred = x->data[i] < 0;
    if (centred)
        session_warn(j->s, "The image has negative values: it is taken to be in [-1, 1] already.");
    for (size_t i = 0; i < n && !centred; i++)
        to[i] = 2 * to[i] - 1;
}

static size_t count_images(const struct job *j)
{
    return j->r.image_tensor ? (size_t)j->r.image_tensor->shape[0] : j->r.image_count;
}

static bool image_is_latents(const struct job *j)
{
    return j->r.image_tensor && j->r.image_tensor->shape[1] == j->channels;
}

static int request_pixels(const struct job *j, float **pixels, styx_error *err)
{
    size_t n = count_images(j), picture = 3 * (size_t)j->h * (size_t)j->w;
    int code = 0;
    if (!(*pixels = numbers(n * picture, err)))
        return STYX_ERR_NOMEM;
    if (j->r.image_tensor)
        tensor_pixels(j, j->r.image_tensor, *pixels);
    for (size_t i = 0; i < j->r.image_count && !code; i++)
        code = resized_pixels(j, &j->r.images[i], *pixels + i * picture, err);
    return code;
}

/* With a generator for each picture a single image is encoded once for each of them. */
static int encode_request(struct job *j, float *pixels, styx_error *err)
{
    size_t n = count_images(j), picture = 3 * (size_t)j->h * (size_t)j->w;
    int code = 0;
    if (j->ngenerators > 1 && n < j->batch && j->task == TASK_IMAGE) {
        float *copies = numbers(j->batch * picture, err);
        if (!copies)
            return STYX_ERR_NOMEM;
        memcpy(copies, pixels, n * picture * sizeof *copies);
        code = repeat_to_batch(j, copies, n, picture, "images", err);
        if (!code)
            code = encode_images(j, copies, j->batch, j->image_latents, err);
        free(copies);
        return code;
    }
    if (n > j->batch)
        return repeat_to_batch(j, NULL, n, 0, "images", err);
    if ((code = encode_images(j, pixels, n, j->image_latents, err)))
        return code;
    return repeat_to_batch(j, j->image_latents, n, j->one, "images", err);
}

static int take_latents(struct job *j, styx_error *err)
{
    const struct styx_tensor *x = j->r.image_tensor;
    size_t n = (size_t)x->shape[0];
    if (n <= j->batch)
        memcpy(j->image_latents, x->data, n * j->one * sizeof(float));
    return repeat_to_batch(j, j->image_latents, n, j->one, "latents", err);
}

/* ---- the three tasks ---- */

static void scale_by(float *x, size_t n, double by)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= (float)by;
}

static void start_from_noise(struct job *j)
{
    size_t n = j->batch * j->one;
    if (j->r.latents)
        memcpy(j->latents, j->r.latents->data, n * sizeof(float));
    else
        job_draw(j, j->noise_type, j->latents, j->batch, j->channels);
    scale_by(j->latents, n, scheduler_init_noise_sigma(j->scheduler));
}

static int add_noise(struct job *j, styx_error *err)
{
    float t = j->timesteps[0];
    int code = 0;
    for (size_t b = 0; b < j->batch && !code; b++)
        code = scheduler_add_noise(j->scheduler, j->latents + b * j->one, j->noise + b * j->one, &t,
                                   1, j->one, err);
    return code;
}

static int start_from_image(struct job *j, styx_error *err)
{
    size_t n = j->batch * j->one;
    float *pixels = NULL;
    int code = 0;
    if (j->r.latents) { /* taken as they are */
        memcpy(j->latents, j->r.latents->data, n * sizeof(float));
        return 0;
    }
    if (image_is_latents(j))
        code = take_latents(j, err);
    else if (!(code = request_pixels(j, &pixels, err)))
        code = encode_request(j, pixels, err);
    free(pixels);
    if (code)
        return code;
    memcpy(j->latents, j->image_latents, n * sizeof(float));
    if (!j->noisy)
        return 0;
    job_draw(j, j->noise_type, j->noise, j->batch, j->channels);
    return add_noise(j, err);
}

/* [n,1,h,w] in {0, 1}: 1 is repainted. */
static int request_mask(const struct job *j, float **mask, size_t *n, styx_error *err)
{
    const struct styx_tensor *x = j->r.mask_tensor;
    size_t area = (size_t)j->h * (size_t)j->w;
    if (!x) {
        const struct styx_image *from = j->r.mask;
        struct image in = { from->width, from->height, from->channels, from->pixels };
        *n = 1;
        if (!(*mask = numbers(area, err)))
            return STYX_ERR_NOMEM;
        return mask_to_floats(&in, j->w, j->h, *mask, err);
    }
    if (x->dims != 4 || x->shape[1] != 1 || x->shape[0] < 1)
        return fail(err, STYX_ERR_INVALID,
                    "mask_tensor has %d dimensions; [n, 1, height, width] was wanted", x->dims);
    *n = (size_t)x->shape[0];
    if (!(*mask = numbers(*n * area, err)))
        return STYX_ERR_NOMEM;
    floats_resize_nearest(x->data, x->shape[0], x->shape[2], x->shape[3], *mask, j->h, j->w);
    for (size_t i = 0; i < *n * area; i++)
        (*mask)[i] = (*mask)[i] >= 0.5f;
    return 0;
}

/* The latents of the picture with a hole (nobody looks at those of a 4-channel UNet, but diffusers
 * draws noise for them, which later draws feel). One picture and several masks are several. */
static int start_hole(struct job *j, const float *pixels, const float *mask, size_t nmasks,
                      styx_error *err)
{
    size_t have = count_images(j), n = have > nmasks ? have : nmasks;
    size_t area = (size_t)j->h * (size_t)j->w;
    int code;
    if ((n != have && have != 1) || (n != nmasks && nmasks != 1))
        return fail(err, STYX_ERR_INVALID,
                    "%zu images and %zu masks; one of either, or as many of both, were wanted",
                    have, nmasks);
    if (n > j->batch)
        return repeat_to_batch(j, NULL, n, 0, "masks", err);
    float *hole = numbers(n * 3 * area, err);
    if (!hole)
        return STYX_ERR_NOMEM;
    for (size_t i = 0; i < n * 3 * area; i++) {
        float m = mask[(i / (3 * area)) % nmasks * area + i % area];
        hole[i] = m < 0.5f ? pixels[i % (have * 3 * area)] : 0;
    }
    code = encode_images(j, hole, n, j->masked, err);
    free(hole);
    return code ? code : repeat_to_batch(j, j->masked, n, j->one, "images", err);
}

static int start_mask(struct job *j, const float *pixels, styx_error *err)
{
    size_t nmasks = 0, small = (size_t)j->lh * (size_t)j->lw;
    float *mask = NULL;
    int code = request_mask(j, &mask, &nmasks, err);
    if (!code && nmasks > j->batch)
        code = repeat_to_batch(j, NULL, nmasks, 0, "masks", err);
    if (!code) {
        floats_resize_nearest(mask, (int)nmasks, j->h, j->w, j->mask, j->lh, j->lw);
        code = repeat_to_batch(j, j->mask, nmasks, small, "masks", err);
    }
    if (!code && pixels)
        code = start_hole(j, pixels, mask, nmasks, err);
    free(mask);
    return code;
}

/* Latents as the picture: those of SDXL's base that a refiner goes on with. */
static int check_inpaint_latents(const struct job *j, bool blind, styx_error *err)
{
    const struct styx_tensor *x = j->r.image_tensor;
    if (!j->xl || blind)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "inpainting latents takes an SDXL UNet of %d input channels; for others a "
                    "picture was wanted",
                    j->channels);
    if (x->shape[2] != j->lh || x->shape[3] != j->lw)
        return fail(err, STYX_ERR_INVALID,
                    "latents of %d x %d as the image; %d x %d was wanted for %d x %d pixels",
                    x->shape[3], x->shape[2], j->lw, j->lh, j->w, j->h);
    return 0;
}

static int start_inpaint(struct job *j, styx_error *err)
{
    bool blind = j->m->part[SLOT_UNET]->unet.in != j->channels; /* the UNet is told the mask */
    bool given = j->r.latents && j->noisy, all = j->r.strength == 1.0;
    size_t n = j->batch * j->one;
    float *pixels = NULL;
    int code;
    if (image_is_latents(j)) {
        if ((code = check_inpaint_latents(j, blind, err)) || (code = take_latents(j, err)))
            return code;
    } else if ((code = request_pixels(j, &pixels, err))) {
        goto done;
    } else if (!blind || !j->noisy || (!given && !all)) {
        if ((code = encode_request(j, pixels, err)))
            goto done;
    }
    if (given)
        memcpy(j->noise, j->r.latents->data, n * sizeof(float));
    else
        job_draw(j, j->noise_type, j->noise, j->batch, j->channels);
    if (j->noisy && (all || given)) {
        memcpy(j->latents, j->noise, n * sizeof(float));
        scale_by(j->latents, n, scheduler_init_noise_sigma(j->scheduler));
    } else {
        memcpy(j->latents, j->image_latents, n * sizeof(float));
        if (j->noisy && (code = add_noise(j, err)))
            goto done;
    }
    code = start_mask(j, pixels, err);
done:
    free(pixels);
    return code;
}

int job_start(struct job *j, styx_error *err)
{
    size_t n = j->batch * j->one;
    if (!(j->latents = numbers(n, err)))
        return STYX_ERR_NOMEM;
    if (j->task == TASK_TEXT) {
        start_from_noise(j);
        return 0;
    }
    j->noise = numbers(n, err);
    j->image_latents = numbers(n, err);
    if (!j->noise || !j->image_latents)
        return STYX_ERR_NOMEM;
    if (j->task == TASK_IMAGE)
        return start_from_image(j, err);
    j->mask = numbers(j->batch * (size_t)j->lh * (size_t)j->lw, err);
    j->masked = numbers(n, err);
    if (!j->mask || !j->masked)
        return STYX_ERR_NOMEM;
    return start_inpaint(j, err);
}
