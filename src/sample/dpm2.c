/* dpm2.c - DPM-Solver-2 in sigma, plain and ancestral, as in K. Crowson's k-diffusion (Karras et
 * al. 2022, algorithm 2; Lu et al. 2022, "DPM-Solver"): Euler to the middle of ln sigma, then the
 * whole step with the slope found there. */
#include <math.h>

#include "sample/sampler.h"
#include "sample/schedule.h"

static bool is_ancestral(const struct scheduler *s)
{
    return s->ops == &dpm2_ancestral_ops;
}

/* Noise to add after a step from one sigma to a lower one, and where the step must end for it. In
 * float: the second is a difference that can be all rounding, and then that of diffusers. */
static float ancestral_up(float from, float to)
{
    return sqrtf(to * to * (from * from - to * to) / (from * from));
}

static float ancestral_down(float from, float to)
{
    float up = ancestral_up(from, to);
    return sqrtf(to * to - up * up);
}

/* The geometric mean, 0 if the step ends at 0. */
static float middle_of(const struct scheduler *s, float from, float to)
{
    float end = is_ancestral(s) ? ancestral_down(from, to) : to;
    return end > 0 ? expf(logf(from) + 0.5f * (logf(end) - logf(from))) : 0;
}

/* At the middle sigma. */
static double second(const struct scheduler *s, const struct sigma_list *list, int step)
{
    return schedule_t_of(s->log_sigma_table, s->k.num_train_timesteps,
                         middle_of(s, (float)list->sigma[step], (float)list->sigma[step + 1]));
}

static int schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                    styx_error *err)
{
    return call_pairs_schedule(s, nsteps, custom, (struct call_pairs){ second, 3, true }, err);
}

static double input_sigma(const struct scheduler *s)
{
    int i = s->step_index;
    return s->has_saved ? middle_of(s, s->sigmas[i - 1], s->sigmas[i]) : s->sigmas[i];
}

static int step(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    int i = s->has_saved ? s->step_index - 1 : s->step_index, rc;
    float from = s->sigmas[i], to = s->sigmas[i + 1], middle = middle_of(s, from, to);
    float here = s->has_saved ? middle : from;

    predict_x0_sigma(s, here, args->sample, args->model_output, s->x0);
    slope_of(s, here, args->sample, s->x0, s->eps);
    if (!s->has_saved) {
        COMBINE(s, s->saved, { 1, args->sample });
        COMBINE(s, args->sample, { 1, args->sample }, { middle - from, s->eps });
    } else if (is_ancestral(s)) {
        if ((rc = draw_noise(s, args, false, err)))
            return rc;
        COMBINE(s, args->sample, { 1, s->saved }, { ancestral_down(from, to) - from, s->eps },
                { ancestral_up(from, to), s->noise });
    } else {
        COMBINE(s, args->sample, { 1, s->saved }, { to - from, s->eps });
    }
    s->has_saved = !s->has_saved;
    return STYX_OK;
}

static const struct knob_default knobs[] = {
    BETA_KNOBS(0.00085, 0.012, "linear"),
    SIGMA_KNOBS,
    PREDICTION_KNOB,
    SPACING_KNOBS("linspace"),
    LAST_KNOB,
};

const struct sampler_ops dpm2_ops = {
    .class = { "KDPM2DiscreteScheduler", knobs, NULL },
    .space = SPACE_SIGMA,
    .order = 2,
    .by_index = true,
    .schedule = schedule,
    .step = step,
    .input_sigma = input_sigma,
};

const struct sampler_ops dpm2_ancestral_ops = {
    .class = { "KDPM2AncestralDiscreteScheduler", knobs, NULL },
    .space = SPACE_SIGMA,
    .order = 2,
    .by_index = true,
    .schedule = schedule,
    .step = step,
    .input_sigma = input_sigma,
};
