/* euler.c - Euler's method in sigma, plain and ancestral (Karras, Aittala, Aila and Laine 2022,
 * "Elucidating the Design Space of Diffusion-Based Generative Models", algorithm 2; the ancestral
 * step as in K. Crowson's k-diffusion). */
#include <math.h>

#include "sample/sampler.h"

/* With churn > 0 noise is put on first, up to sigma_hat. */
static int churn(struct scheduler *s, const struct step_args *args, double *sigma, styx_error *err)
{
    double gamma = 0, before = *sigma;
    if (args->s_tmin <= before && before <= args->s_tmax)
        gamma = fmin(args->s_churn / (s->nsigmas - 1), sqrt(2) - 1);
    if (!(gamma > 0))
        return STYX_OK;
    int rc = draw_noise(s, args, false, err);
    if (rc)
        return rc;
    *sigma = before * (gamma + 1);
    COMBINE(s, args->sample, { 1, args->sample },
            { args->s_noise * sqrt(*sigma * *sigma - before * before), s->noise });
    return STYX_OK;
}

static int step_euler(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    double sigma = s->sigmas[s->step_index], next = s->sigmas[s->step_index + 1];
    double before = sigma;
    int rc = churn(s, args, &sigma, err);
    if (rc)
        return rc;
    /* diffusers reads a v-prediction at the sigma before churning. */
    predict_x0_sigma(s, s->k.prediction_type == PREDICT_V ? before : sigma, args->sample,
                     args->model_output, s->x0);
    slope_of(s, sigma, args->sample, s->x0, s->eps);
    COMBINE(s, args->sample, { 1, args->sample }, { next - sigma, s->eps });
    return STYX_OK;
}

/* Down to a lower sigma than the next one, and up again by fresh noise. */
static int step_ancestral(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    float from = s->sigmas[s->step_index], to = s->sigmas[s->step_index + 1];
    float up = sqrtf(to * to * (from * from - to * to) / (from * from));
    float down = sqrtf(to * to - up * up);    /* float: the difference is all rounding at times */
    int rc = draw_noise(s, args, false, err); /* in the last step too, though up is 0 there */
    if (rc)
        return rc;
    predict_x0_sigma(s, from, args->sample, args->model_output, s->x0);
    slope_of(s, from, args->sample, s->x0, s->eps);
    COMBINE(s, args->sample, { 1, args->sample }, { down - from, s->eps }, { up, s->noise });
    return STYX_OK;
}

static const struct knob_default euler_knobs[] = {
    BETA_KNOBS(0.0001, 0.02, "linear"),
    PREDICTION_KNOB,
    TEXT_KNOB("interpolation_type", "linear"),
    SIGMA_KNOBS,
    NULL_KNOB("sigma_min"),
    NULL_KNOB("sigma_max"),
    SPACING_KNOBS("linspace"),
    TEXT_KNOB("timestep_type", "discrete"),
    BOOL_KNOB("rescale_betas_zero_snr", false),
    TEXT_KNOB("final_sigmas_type", "zero"),
    LAST_KNOB,
};

static const struct knob_default ancestral_knobs[] = {
    BETA_KNOBS(0.0001, 0.02, "linear"),         PREDICTION_KNOB, SPACING_KNOBS("linspace"),
    BOOL_KNOB("rescale_betas_zero_snr", false), LAST_KNOB,
};

const struct sampler_ops euler_ops = {
    .class = { "EulerDiscreteScheduler", euler_knobs, NULL },
    .space = SPACE_SIGMA,
    .order = 1,
    .by_index = true,
    .custom_timesteps = true,
    .custom_sigmas = true,
    .predicts_sample = true,
    .keeps_last_snr = true,
    .schedule = sigma_space_schedule,
    .step = step_euler,
};

const struct sampler_ops euler_ancestral_ops = {
    .class = { "EulerAncestralDiscreteScheduler", ancestral_knobs, NULL },
    .space = SPACE_SIGMA,
    .order = 1,
    .by_index = true,
    .keeps_last_snr = true,
    .schedule = sigma_space_schedule,
    .step = step_ancestral,
};
