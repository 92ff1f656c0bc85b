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
    double a = alpha_at(s, t), ap = alpha_at(s, before);
    double variance = (1 - ap) / (1 - a) * (1 - a / ap);
    double deviation = args->eta > 0 ? args->eta * sqrt(variance) : 0;

    predict_x0(s, sqrt(a), sqrt(1 - a), args->sample, args->model_output, s->x0);
    predict_eps(s, sqrt(a), sqrt(1 - a), args->sample, args->model_output, s->eps);
    limit_x0(s, args, s->x0);
    if (args->use_clipped_model_output) {
        double b = sqrt(1 - a);
        COMBINE(s, s->eps, { 1 / b, args->sample }, { -sqrt(a) / b, s->x0 });
    }
    double direction = sqrt(1 - ap - deviation * deviation);
    COMBINE(s, args->sample, { sqrt(ap), s->x0 }, { direction, s->eps });
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
    .noise = NOISE_WITH_ETA,
    .takes_eta = true,
    .predicts_sample = true,
    .schedule = alpha_space_schedule,
    .step = step,
};
