/* ddim.c - DDIM (Song, Meng and Ermon 2021, "Denoising Diffusion Implicit Models"). */
#include <math.h>

#include "sample/sampler.h"

/* Equation 12, with sigma_t = eta * sqrt(variance) of equation 16. */
static int step(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    int rc = check_timestep(s, args->timestep, err);
    if (rc)
        return rc;
    int t = (int)args->timestep, before = t - s->k.num_train_timesteps / s->nsteps;
    float a = alpha_at(s, t), ap = alpha_at(s, before), alpha = sqrtf(a), sigma = sqrtf(1 - a);
    float variance = (1 - ap) / (1 - a) * (1 - a / ap);
    float deviation = args->eta > 0 ? (float)args->eta * sqrtf(variance) : 0;

    predict_x0(s, alpha, sigma, args->sample, args->model_output, s->x0);
    predict_eps(s, alpha, sigma, args->sample, args->model_output, s->eps);
    limit_x0(s, args, s->x0);
    if (args->use_clipped_model_output)
        COMBINE(s, s->eps, { 1 / sigma, args->sample }, { -alpha / sigma, s->x0 });
    float direction = sqrtf(1 - ap - deviation * deviation);
    COMBINE(s, args->sample, { direction, s->eps }, { sqrtf(ap), s->x0 });
    if (args->eta > 0) {
        if ((rc = draw_noise(s, args, false, err)))
            return rc;
        COMBINE(s, args->sample, { 1, args->sample }, { deviation, s->noise });
    }
    return STYX_OK;
}

static const struct knob_default knobs[] = {
    BETA_KNOBS(0.0001, 0.02, "linear"),
    BOOL_KNOB("clip_sample", true),
    BOOL_KNOB("set_alpha_to_one", true),
    PREDICTION_KNOB,
    THRESHOLD_KNOBS,
    REAL_KNOB("clip_sample_range", 1),
    SPACING_KNOBS("leading"),
    BOOL_KNOB("rescale_betas_zero_snr", false),
    LAST_KNOB,
};

const struct sampler_ops ddim_ops = {
    .class = { "DDIMScheduler", knobs, NULL },
    .space = SPACE_ALPHA,
    .order = 1,
    .predicts_sample = true,
    .schedule = alpha_space_schedule,
    .step = step,
};
