/* denoise.c - the loop: predict the noise, guide, take a step. Ho et al. 2020, Ho and Salimans
 * 2022. */
#include "engine/job.h"
#include "image/pixels.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>

struct loop {
    struct job *j;
    float *input;  /* [rows, in, lh, lw]: what the UNet sees */
    float *output; /* [rows, channels, lh, lw] */
    float *guided; /* [batch, channels, lh, lw] */
    float *times;  /* [rows] */
    double since;
    int ticks;
};

static int step_noise(void *user, bool f32, float *out, size_t n, styx_error *err)
{
    struct job *j = user;
    (void)err;
    job_draw(j, f32 ? DT_F32 : j->noise_type, out, n / j->one, j->channels);
    return 0;
}

/* DPMSolverSDE: each increment is one draw (torchsde's tree of draws is nobody else's). */
static int step_increment(void *user, double from, double to, float *out, size_t n, styx_error *err)
{
    (void)from, (void)to;
    return step_noise(user, false, out, n, err);
}

static double deviation(const float *x, size_t n)
{
    double mean = 0, sum = 0;
    for (size_t i = 0; i < n; i++)
        mean += x[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)(n - 1)); /* torch.std: Bessel's correction */
}

/* Lin et al. 2023, section 3.4: bring the guided prediction back to the deviation of the text's. */
static void rescale(const struct job *j, float *guided, const float *text)
{
    float r = (float)j->r.guidance_rescale;
    for (size_t b = 0; b < j->batch; b++) {
        float *x = guided + b * j->one;
        float ratio = (float)(deviation(text + b * j->one, j->one) / deviation(x, j->one));
        for (size_t i = 0; i < j->one; i++)
            x[i] = r * (x[i] * ratio) + (1 - r) * x[i];
    }
}

static float *guide(struct loop *l)
{
    struct job *j = l->j;
    size_t n = j->batch * j->one;
    const float *empty = l->output, *text = l->output + n;
    float g = (float)j->guidance;
    if (!j->guided)
        return l->output;
    for (size_t i = 0; i < n; i++)
        l->guided[i] = empty[i] + g * (text[i] - empty[i]);
    if (j->r.guidance_rescale > 0)
        rescale(j, l->guided, text);
    return l->guided;
}

/* The latents twice under guidance; inpainting UNets get the mask and the masked picture too. */
static int make_input(struct loop *l, float t, styx_error *err)
{
    struct job *j = l->j;
    int in = j->m->part[SLOT_UNET]->unet.in;
    size_t area = (size_t)j->lh * (size_t)j->lw, row = (size_t)in * area;
    for (size_t r = 0; r < j->rows; r++) {
        float *to = l->input + r * row;
        size_t b = r % j->batch;
        memcpy(to, j->latents + b * j->one, j->one * sizeof *to);
        int code = scheduler_scale_model_input(j->scheduler, to, j->one, t, err);
        if (code)
            return code;
        if (in == j->channels)
            continue;
        memcpy(to + j->one, j->mask + b * area, area * sizeof *to);
        memcpy(to + j->one + area, j->masked + b * j->one, j->one * sizeof *to);
    }
    return 0;
}

static int predict(struct loop *l, float t, styx_error *err)
{
    struct job *j = l->j;
    const styx_component *unet = j->m->part[SLOT_UNET];
    size_t skip = 0; /* guidance switched off on the way: only the positive rows are run */
    char name[32];
    int code = make_input(l, t, err);
    if (code)
        return code;
    if (!j->guided && j->r.guidance_scale > 1 && j->rows == 2 * j->batch)
        skip = j->batch;
    for (size_t r = 0; r < j->rows; r++)
        l->times[r] = t;
    struct unet_call call = {
        .unet = unet,
        .type = j->type,
        .n = (int)(j->rows - skip),
        .h = j->lh,
        .w = j->lw,
        .tokens = j->tokens,
        .ids = j->ids,
        .copies = (int)((j->rows - skip) / j->batch),
        .sample = l->input,
        .timesteps = l->times,
        .text = j->text + skip * (size_t)j->tokens * (size_t)j->width,
        .pooled = j->pooled ? j->pooled + skip * (size_t)j->pooled_width : NULL,
        .time_ids = j->time_ids ? j->time_ids + skip * (size_t)j->ids : NULL,
        .guidance = j->guidance_embed,
        .out = l->output,
    };
    snprintf(name, sizeof name, "unet.%03d.in", j->calls);
    job_trace_latents(j, name, (size_t)call.n, unet->unet.in, l->input);
    if ((code = run_unet(j->s, &call, err)))
        return code;
    snprintf(name, sizeof name, "unet.%03d.out", j->calls++);
    job_trace_latents(j, name, (size_t)call.n, unet->unet.out, l->output);
    return 0;
}

/* A 4-channel UNet inpaints by putting the original, as noisy as the step left the rest, back
 * outside the mask; after the last step it is clean. */
static int restore_outside(struct job *j, int i, styx_error *err)
{
    size_t area = (size_t)j->lh * (size_t)j->lw, n = j->batch * j->one;
    if (j->task != TASK_INPAINT || j->m->part[SLOT_UNET]->unet.in != j->channels)
        return 0;
    float *original = malloc(n * sizeof *original);
    if (!original)
        return fail_nomem(err, n * sizeof *original);
    memcpy(original, j->image_latents, n * sizeof *original);
    int code = 0;
    if (i + 1 < j->ntimesteps) {
        float next = j->timesteps[i + 1];
        for (size_t b = 0; b < j->batch && !code; b++)
            code = scheduler_add_noise(j->scheduler, original + b * j->one, j->noise + b * j->one,
                                       &next, 1, j->one, err);
    }
    for (size_t k = 0; k < n && !code; k++) {
        float m = j->mask[k / j->one * area + k % area];
        j->latents[k] = (1 - m) * original[k] + m * j->latents[k];
    }
    free(original);
    return code;
}

static int call_hook(struct loop *l, int i, bool *interrupt, styx_error *err)
{
    struct job *j = l->j;
    struct styx_tensor latents = { 4, { (int)j->batch, j->channels, j->lh, j->lw }, j->latents };
    struct styx_tensor text = { 3, { (int)j->rows, j->tokens, j->width }, j->text };
    struct styx_tensor pooled = { 2, { (int)j->rows, j->pooled_width }, j->pooled };
    struct styx_tensor ids = { 2, { (int)j->rows, j->ids }, j->time_ids };
    struct styx_step step = {
        .size = sizeof step,
        .index = i,
        .count = j->ntimesteps,
        .timestep = j->timesteps[i],
        .latents = &latents,
        .prompt_embeds = &text,
        .pooled_embeds = j->pooled ? &pooled : NULL,
        .time_ids = j->time_ids ? &ids : NULL,
        .guidance_scale = &j->guidance,
        .guidance_rescale = &j->r.guidance_rescale,
    };
    if (!j->r.step)
        return 0;
    if (j->r.step(j->r.user, &step))
        return fail(err, STYX_ERR_CANCELLED, "cancelled");
    j->guided = j->guided && j->guidance > 1;
    *interrupt = step.interrupt;
    return 0;
}

/* diffusers' bar: extra calls at the start (PLMS) and inner calls of two-call steps do not tick. */
static bool ticks(const struct job *j, int i)
{
    int order = scheduler_order(j->scheduler), warmup = j->ntimesteps - j->ticks * order;
    return i == j->ntimesteps - 1 || (i + 1 > warmup && (i + 1) % order == 0);
}

static int one_step(struct loop *l, int i, bool *interrupt, styx_error *err)
{
    struct job *j = l->j;
    float t = j->timesteps[i];
    char name[32];
    int code = predict(l, t, err);
    if (code)
        return code;
    struct step_args args = scheduler_step_defaults(j->scheduler);
    args.model_output = guide(l);
    args.timestep = t;
    args.sample = j->latents;
    args.rows = j->batch;
    args.per_row = j->one;
    args.noise.normal = step_noise;
    args.noise.brownian = step_increment;
    args.noise.user = j;
    args.eta = j->r.eta; /* the pipelines always pass theirs */
    if ((code = scheduler_step(j->scheduler, &args, err)) || (code = restore_outside(j, i, err)) ||
        (code = call_hook(l, i, interrupt, err)))
        return code;
    snprintf(name, sizeof name, "latents.%03d", i);
    job_trace_latents(j, name, j->batch, j->channels, j->latents);
    return 0;
}

/* The VAE's own colours, or those of the published ones, whose latents most others share. */
static int preview_of(const struct job *j, struct image *out, styx_error *err)
{
    const struct vae_config *vae = &j->m->part[SLOT_VAE]->vae;
    struct latent_colours colours = j->xl ? LATENT_COLOURS_SDXL : LATENT_COLOURS_SD15;
    static_assert(sizeof colours == sizeof vae->colours, "rows of three");
    if (vae->coloured)
        memcpy(&colours, vae->colours, sizeof colours);
    return pixels_preview(j->latents, j->lw, j->lh, &colours, out, err);
}

/* Tells the caller, with a cheap picture of the first latents. */
static int tell(struct loop *l, int i, styx_error *err)
{
    struct job *j = l->j;
    struct image small = { 0 };
    if (!ticks(j, i))
        return 0;
    if (j->r.progress && j->channels == 4 && preview_of(j, &small, err))
        return STYX_ERR_NOMEM;
    struct styx_image preview = { small.w, small.h, small.channels, small.data };
    int code = job_progress(j, "denoise", ++l->ticks, j->ticks, l->since,
                            small.data ? &preview : NULL, err);
    image_free(&small);
    return code;
}

int job_denoise(struct job *j, styx_error *err)
{
    int in = j->m->part[SLOT_UNET]->unet.in, code = 0;
    size_t area = (size_t)j->lh * (size_t)j->lw;
    struct loop l = { .j = j, .since = job_working(j) };
    bool interrupt = false;
    l.input = malloc(j->rows * (size_t)in * area * sizeof(float));
    l.output = malloc(j->rows * j->one * sizeof(float));
    l.guided = malloc(j->batch * j->one * sizeof(float));
    l.times = malloc(j->rows * sizeof(float));
    if (!l.input || !l.output || !l.guided || !l.times)
        code = fail_nomem(err, j->rows * j->one * sizeof(float));
    if (!code)
        code = job_progress(j, "denoise", 0, j->ticks, l.since, NULL, err);
    for (int i = 0; i < j->ntimesteps && !code && !interrupt; i++) {
        if (!(code = one_step(&l, i, &interrupt, err)))
            code = tell(&l, i, err);
    }
    free(l.input);
    free(l.output);
    free(l.guided);
    free(l.times);
    return code;
}
