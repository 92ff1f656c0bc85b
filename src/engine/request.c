/* request.c - what a request means: diffusers' defaults, and every contradiction in one sentence
 * before any work is done. */
#include "engine/job.h"
#include <math.h>
#include <stdlib.h>

struct styx_request styx_request_default(void)
{
    struct styx_request r = {
        .size = sizeof r,
        .clip_skip = -1,
        .guidance_scale = NAN,
        .denoising_start = NAN,
        .denoising_end = NAN,
        .strength = NAN,
        .aesthetic_score = NAN,
        .negative_aesthetic_score = NAN,
    };
    return r;
}

void styx_request_init(struct styx_request *request, size_t size)
{
    struct styx_request r = styx_request_default();
    r.size = size < sizeof r ? size : sizeof r;
    memcpy(request, &r, r.size);
}

/* Takes what the caller's struct has over our defaults. */
static int copy_request(struct styx_request *to, const struct styx_request *from, styx_error *err)
{
    *to = styx_request_default();
    if (!from || from->size < sizeof(size_t) || from->size > 65536)
        return fail(err, STYX_ERR_INVALID,
                    "a request whose size is not set; use STYX_REQUEST_INIT");
    for (size_t i = sizeof *to; i < from->size; i++)
        if (((const char *)from)[i])
            return fail(err, STYX_ERR_UNSUPPORTED,
                        "the request has fields that this library (%s) does not know",
                        STYX_VERSION);
    memcpy(to, from, from->size < sizeof *to ? from->size : sizeof *to);
    to->size = sizeof *to;
    return 0;
}

double job_working(const struct job *j)
{
    return clock_seconds() - j->s->loading;
}

int job_progress(struct job *j, const char *stage, int done, int total, double since,
                 const struct styx_image *preview, styx_error *err)
{
    struct styx_progress p = { sizeof p, stage, done, total, job_working(j) - since, preview };
    if (j->r.progress && j->r.progress(j->r.user, &p))
        return fail(err, STYX_ERR_CANCELLED, "cancelled");
    if (atomic_load(&j->s->cancel))
        return fail(err, STYX_ERR_CANCELLED, "cancelled");
    return 0;
}

void job_trace(const struct job *j, const char *name, int dims, const int *shape, float *data)
{
    struct styx_tensor x = { .dims = dims, .data = data };
    if (!j->r.trace)
        return;
    memcpy(x.shape, shape, (size_t)dims * sizeof *shape);
    j->r.trace(j->r.user, name, &x);
}

void job_trace_latents(const struct job *j, const char *name, size_t rows, int channels,
                       float *data)
{
    job_trace(j, name, 4, (int[]){ (int)rows, channels, j->lh, j->lw }, data);
}

static int check_number(const char *name, double x, double min, double max, styx_error *err)
{
    if (x >= min && x <= max)
        return 0;
    return fail(err, STYX_ERR_INVALID, "%s is %g; %g to %g was wanted", name, x, min, max);
}

static int count_prompts(struct job *j, styx_error *err)
{
    struct styx_request *r = &j->r;
    if (r->prompt && r->prompts)
        return fail(err, STYX_ERR_INVALID, "both prompt and prompts are given; one was wanted");
    if ((r->prompt || r->prompts) && r->prompt_embeds)
        return fail(err, STYX_ERR_INVALID,
                    "both a prompt and prompt_embeds are given; one was wanted");
    if ((r->negative_prompt || r->negative_prompts) && r->negative_prompt_embeds)
        return fail(err, STYX_ERR_INVALID,
                    "both a negative prompt and negative_prompt_embeds are given; one was wanted");
    if (r->prompts && !r->prompt_count)
        return fail(err, STYX_ERR_INVALID, "an empty list of prompts");
    if (r->prompt_embeds) {
        if (r->prompt_embeds->dims != 3)
            return fail(err, STYX_ERR_INVALID,
                        "prompt_embeds has %d dimensions; 3 [prompts, tokens, width] were wanted",
                        r->prompt_embeds->dims);
        j->prompts = (size_t)r->prompt_embeds->shape[0];
    } else if (r->prompts) {
        j->prompts = r->prompt_count;
    } else if (r->prompt) {
        j->prompts = 1;
    } else {
        return fail(err, STYX_ERR_INVALID, "no prompt; a text or prompt_embeds was wanted");
    }
    if (r->images_per_prompt < 0 || r->images_per_prompt > 4096)
        return fail(err, STYX_ERR_INVALID, "%d images per prompt; 1 to 4096 were wanted",
                    r->images_per_prompt);
    j->per = r->images_per_prompt ? (size_t)r->images_per_prompt : 1;
    j->batch = j->prompts * j->per;
    if (j->batch < 1 || j->batch > 4096)
        return fail(err, STYX_ERR_INVALID, "%zu pictures at once; 1 to 4096 were wanted", j->batch);
    return 0;
}

static int find_task(struct job *j, styx_error *err)
{
    const struct styx_request *r = &j->r;
    bool image = r->image_count || r->image_tensor, mask = r->mask || r->mask_tensor;
    if (r->image_count && r->image_tensor)
        return fail(err, STYX_ERR_INVALID,
                    "both images and image_tensor are given; one was wanted");
    if (r->mask && r->mask_tensor)
        return fail(err, STYX_ERR_INVALID, "both mask and mask_tensor are given; one was wanted");
    if (mask && !image)
        return fail(err, STYX_ERR_INVALID, "a mask without an image; inpainting wants both");
    j->task = mask ? TASK_INPAINT : image ? TASK_IMAGE : TASK_TEXT;
    int in = j->m->part[SLOT_UNET]->unet.in;
    if (in != j->channels && j->task != TASK_INPAINT)
        return fail(
            err, STYX_ERR_INVALID,
            "the UNet of %s is made for inpainting (%d input channels): an image and a mask "
            "are wanted",
            j->m->path, in);
    if (j->m->family == FAMILY_REFINER && j->task == TASK_TEXT)
        return fail(err, STYX_ERR_INVALID,
                    "%s is a refiner: it works on an image (or latents as image), none was given",
                    j->m->path);
    return 0;
}

static int multiple(struct job *j, const char *what, int pixels, styx_error *err)
{
    if (pixels < j->scale || pixels > MAX_SIDE || pixels % j->scale)
        return fail(err, STYX_ERR_INVALID, "%s is %d; a multiple of %d from %d to %d was wanted",
                    what, pixels, j->scale, j->scale, MAX_SIDE);
    return 0;
}

static int down(const struct job *j, int pixels)
{
    return pixels - pixels % j->scale;
}

/* The size of image to image is the first image's, rounded down, unless one is asked for. */
static void image_size(const struct job *j, int *h, int *w)
{
    const struct styx_tensor *x = j->r.image_tensor;
    if (!x) {
        *h = down(j, j->r.images[0].height);
        *w = down(j, j->r.images[0].width);
    } else if (x->shape[1] == j->channels) {
        *h = x->shape[2] * j->scale;
        *w = x->shape[3] * j->scale;
    } else {
        *h = down(j, x->shape[2]);
        *w = down(j, x->shape[3]);
    }
}

static int check_image_tensor(const struct job *j, styx_error *err)
{
    const struct styx_tensor *x = j->r.image_tensor;
    if (!x)
        return 0;
    if (x->dims != 4 || (x->shape[1] != 3 && x->shape[1] != j->channels) || x->shape[0] < 1)
        return fail(err, STYX_ERR_INVALID,
                    "image_tensor has %d dimensions and %d channels; [n, 3, height, width] (or %d "
                    "for latents) was wanted",
                    x->dims, x->dims > 1 ? x->shape[1] : 0, j->channels);
    return 0;
}

static int check_images(const struct job *j, styx_error *err)
{
    for (size_t i = 0; i < j->r.image_count; i++) {
        const struct styx_image *x = &j->r.images[i];
        if (x->channels != 3 || !x->pixels || x->width < j->scale || x->height < j->scale ||
            x->width > MAX_SIDE || x->height > MAX_SIDE)
            return fail(err, STYX_ERR_INVALID,
                        "the image is %d x %d with %d channels; RGB of %d to %d pixels a side was "
                        "wanted",
                        x->width, x->height, x->channels, j->scale, MAX_SIDE);
    }
    return check_image_tensor(j, err);
}

/* Where no size is asked for, latents say it; but text to image tells SDXL its usual one. */
static void size_of_latents(struct job *j)
{
    const struct styx_tensor *x = j->r.latents;
    if (!x || x->dims != 4 || j->task == TASK_INPAINT || x->shape[2] > MAX_SIDE / j->scale ||
        x->shape[3] > MAX_SIDE / j->scale)
        return;
    j->h = x->shape[2] * j->scale;
    j->w = x->shape[3] * j->scale;
    if (j->task == TASK_IMAGE) {
        j->told_h = j->h;
        j->told_w = j->w;
    }
}

static int find_size(struct job *j, styx_error *err)
{
    const struct unet_config *u = &j->m->part[SLOT_UNET]->unet;
    int code, side = u->sample_size * j->scale, h = side, w = side;
    if (j->task != TASK_TEXT) {
        if ((code = check_images(j, err)))
            return code;
        if (j->task == TASK_IMAGE) /* inpainting resizes to the UNet's own size */
            image_size(j, &h, &w);
    }
    if (j->task == TASK_TEXT && !j->xl && (!j->r.height || !j->r.width))
        j->r.height = j->r.width = 0; /* SD replaces both, SDXL each */
    j->told_h = j->h = j->r.height ? j->r.height : h;
    j->told_w = j->w = j->r.width ? j->r.width : w;
    if (!j->r.height && !j->r.width)
        size_of_latents(j);
    if ((code = multiple(j, "the height", j->h, err)) ||
        (code = multiple(j, "the width", j->w, err)))
        return code;
    j->lh = j->h / j->scale;
    j->lw = j->w / j->scale;
    j->one = (size_t)j->channels * (size_t)j->lh * (size_t)j->lw;
    j->s->overhead = j->s->card ? 0 : host_overhead(j->w, j->h);
    return 0;
}

static void fill(double *x, double value)
{
    if (isnan(*x))
        *x = value;
}

/* Nobody passes NaN to a number on purpose; STYX_REQUEST_INIT means "the default" by it. */
static void default_numbers(struct job *j)
{
    struct styx_request *r = &j->r;
    static const double strength[2][3] = { { 0, 0.8, 1.0 }, { 0, 0.3, 0.9999 } };
    fill(&r->guidance_scale, !j->xl || j->task == TASK_INPAINT ? 7.5 : 5.0);
    fill(&r->strength, strength[j->xl][j->task]);
    fill(&r->aesthetic_score, 6.0);
    fill(&r->negative_aesthetic_score, 2.5);
    if (r->steps == 0 && !r->timestep_count && !r->sigma_count)
        r->steps = 50;
}

static int check_enums(const struct styx_request *r, styx_error *err)
{
    const struct {
        const char *name;
        int value, last;
    } all[] = {
        { "noise_dtype", (int)r->noise_dtype, STYX_F16 },
        { "output", (int)r->output, STYX_OUTPUT_LATENTS },
        { "safety", (int)r->safety, STYX_SAFETY_OFF },
        { "vae_tiling", (int)r->vae_tiling, STYX_TILING_SEAMLESS },
        { "emphasis", (int)r->emphasis, STYX_EMPHASIS_NO_NORM },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].value < 0 || all[i].value > all[i].last)
            return fail(err, STYX_ERR_INVALID, "%s is %d; 0 to %d was wanted", all[i].name,
                        all[i].value, all[i].last);
    return 0;
}

static int check_numbers(struct job *j, styx_error *err)
{
    struct styx_request *r = &j->r;
    int code;
    default_numbers(j);
    if (r->steps < 0 || r->steps > 10000)
        return fail(err, STYX_ERR_INVALID, "%d steps; 1 to 10000 were wanted", r->steps);
    if ((code = check_number("guidance_scale", r->guidance_scale, -1000, 1000, err)) ||
        (code = check_number("guidance_rescale", r->guidance_rescale, 0, 1, err)) ||
        (code = check_number("eta", r->eta, 0, 1, err)))
        return code;
    if (j->task != TASK_TEXT && (code = check_number("strength", r->strength, 0, 1, err)))
        return code;
    if (r->timestep_count && r->sigma_count)
        return fail(err, STYX_ERR_INVALID, "both timesteps and sigmas are given; one was wanted");
    if (r->clip_skip < -1)
        return fail(err, STYX_ERR_INVALID, "clip_skip is %d; 0 or more was wanted", r->clip_skip);
    if ((code = check_enums(r, err)))
        return code;
    /* LCM-style UNets are told the guidance scale instead of being run twice */
    j->guided = r->guidance_scale > 1 && !j->m->part[SLOT_UNET]->unet.cond_proj;
    j->guidance = r->guidance_scale;
    j->rows = j->guided ? 2 * j->batch : j->batch;
    return 0;
}

/* What AUTO means: the fastest type, but bf16 weights can hold numbers that f16 cannot. */
static enum dtype automatic(const struct job *j)
{
    struct store_summary sum = { 0 };
    const struct store *unet = j->m->part[SLOT_UNET]->weights;
    if (j->s->fastest == DT_F16 && j->s->backend->dtype[DT_BF16] && unet) {
        store_summarize(unet, &sum);
        if (sum.ntypes && strcmp(sum.types[0].type, "BF16") == 0)
            return DT_BF16;
    }
    return j->s->fastest;
}

/* A VAE that asks for more than f16 has (force_upcast) overflows its range, not its digits: on a
 * card bf16 does, at a fraction of the time. */
static enum dtype automatic_vae(const struct job *j)
{
    if (!j->xl || !j->m->part[SLOT_VAE]->vae.force_upcast || j->type == DT_F32)
        return j->type;
    return j->s->card && j->s->backend->dtype[DT_BF16] ? DT_BF16 : DT_F32;
}

static int find_types(struct job *j, styx_error *err)
{
    int code;
    if ((code = check_unet_dtype(j->s, j->r.dtype, err)) ||
        (code = check_dtype(j->s, j->r.vae_dtype, err)))
        return code;
    j->type = j->r.dtype == STYX_AUTO ? automatic(j) : resolve_dtype(j->s, j->r.dtype);
    j->vae_type =
        j->r.vae_dtype == STYX_AUTO ? automatic_vae(j) : resolve_dtype(j->s, j->r.vae_dtype);
    j->noise_type = j->r.noise_dtype == STYX_AUTO ? DT_F32 : resolve_dtype(j->s, j->r.noise_dtype);
    return 0;
}

static int check_latents(const struct job *j, styx_error *err)
{
    const struct styx_tensor *x = j->r.latents;
    if (!x)
        return 0;
    if (x->dims != 4 || x->shape[0] != (int)j->batch || x->shape[1] != j->channels ||
        x->shape[2] != j->lh || x->shape[3] != j->lw)
        return fail(err, STYX_ERR_INVALID,
                    "latents are [%d, %d, %d, %d]; [%zu, %d, %d, %d] was wanted for %d x %d pixels",
                    x->shape[0], x->shape[1], x->shape[2], x->shape[3], j->batch, j->channels,
                    j->lh, j->lw, j->w, j->h);
    return 0;
}

int job_init(struct job *j, styx_session *s, const styx_model *m, const struct styx_request *r,
             styx_error *err)
{
    int code;
    memset(j, 0, sizeof *j);
    if (!s || !m)
        return fail(err, STYX_ERR_INVALID, "a session and a model are wanted");
    if (!m->part[SLOT_UNET] || !m->part[SLOT_VAE])
        return fail(err, STYX_ERR_INVALID,
                    "a loose set of components cannot draw; a pipeline was "
                    "wanted");
    j->s = s;
    j->m = m;
    j->xl = m->family != FAMILY_SD;
    j->scale = vae_scale(&m->part[SLOT_VAE]->vae);
    j->channels = m->part[SLOT_VAE]->vae.latent;
    if ((code = copy_request(&j->r, r, err)) || (code = count_prompts(j, err)) ||
        (code = find_task(j, err)) || (code = find_size(j, err)) ||
        (code = check_numbers(j, err)) || (code = find_types(j, err)) ||
        (code = check_latents(j, err)))
        return code;
    return 0;
}

void job_free(struct job *j)
{
    scheduler_free(j->scheduler);
    free(j->generators);
    free(j->own);
    free(j->text);
    free(j->pooled);
    free(j->time_ids);
    free(j->guidance_embed);
    free(j->latents);
    free(j->noise);
    free(j->image_latents);
    free(j->mask);
    free(j->masked);
    memset(j, 0, sizeof *j);
}
