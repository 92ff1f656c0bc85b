/* ddpm.c - ancestral sampling (Ho, Jain and Abbeel 2020, "Denoising Diffusion Probabilistic
 * Models", algorithm 2 and equations 6 and 7). */
#include <math.h>

#include "sample/sampler.h"

/* The timestep that follows t in the list; -1 after the last. */
static int previous_timestep(const struct scheduler *s, int t)
{
    for (int i = 0; i + 1 < s->ntimesteps; i++) {
        if (s->timesteps[i] == t)
            return (int)s->timesteps[i + 1];
    }
    return -1;
}

static float deviation_of(const struct scheduler *s, float a, float ap)
{
    float beta = 1 - a / ap;
    if (s->k.variance_type == VARIANCE_LARGE)
        return sqrtf(beta);
    return sqrtf(fmaxf((1 - ap) / (1 - a) * beta, 1e-20f));
}

static int step(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    int rc = check_timestep(s, args->timestep, err);
    if (rc)
        return rc;
    int t = (int)args->timestep, before = previous_timestep(s, t);
    float a = alpha_at(s, t), ap = before >= 0 ? alpha_at(s, before) : 1;
    float alpha = a / ap, beta = 1 - alpha;

    predict_x0(s, sqrtf(a), sqrtf(1 - a), args->sample, args->model_output, s->x0);
    limit_x0(s, args, s->x0);
    COMBINE(s, args->sample, { sqrtf(ap) * beta / (1 - a), s->x0 },
            { sqrtf(alpha) * (1 - ap) / (1 - a), args->sample });
    if (t > 0) {
        if ((rc = draw_noise(s, args, false, err)))
            return rc;
        COMBINE(s, args->sample, { 1, args->sample }, { deviation_of(s, a, ap), s->noise });
    }
    return STYX_OK;
}

/* diffusers takes the root of the logarithm of a variance, which is NaN; the DPM-Solvers have the
 * knob too and nothing to do with this value. */
static int check(const struct scheduler *s, styx_error *err)
{
    if (s->k.variance_type != VARIANCE_LARGE_LOG)
        return STYX_OK;
    return fail(err, STYX_ERR_UNSUPPORTED,
                "%s: variance_type \"fixed_large_log\" is not possible, only \"fixed_small\", "
                "\"fixed_small_log\" and \"fixed_large\"",
                s->ops->class.name);
}

static const struct knob_default knobs[] = {
    BETA_KNOBS(0.0001, 0.02, "linear"),
    TEXT_KNOB("variance_type", "fixed_small"),
    BOOL_KNOB("clip_sample", true),
    PREDICTION_KNOB,
    THRESHOLD_KNOBS,
    REAL_KNOB("clip_sample_range", 1),
    SPACING_KNOBS("leading"),
    BOOL_KNOB("rescale_betas_zero_snr", false),
    LAST_KNOB,
};

const struct sampler_ops ddpm_ops = {
    .class = { "DDPMScheduler", knobs, NULL },
    .space = SPACE_ALPHA,
    .order = 1,
    .custom_timesteps = true,
    .predicts_sample = true,
    .check = check,
    .schedule = alpha_space_schedule,
    .step = step,
};
