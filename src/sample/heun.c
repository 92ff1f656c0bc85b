/* heun.c - Heun's method in sigma (Karras et al. 2022, algorithm 1): Euler to the next sigma, then
 * once more with the mean of the slopes at both ends. */
#include <math.h>

#include "sample/sampler.h"

/* At the next step's sigma. */
static double second(const struct scheduler *s, const struct sigma_list *list, int step)
{
    (void)s;
    return list->t[step + 1];
}

static int schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                    styx_error *err)
{
    return call_pairs_schedule(s, nsteps, custom, (struct call_pairs){ second, 1, false }, err);
}

static int step(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    int i = s->has_saved ? s->step_index - 1 : s->step_index;
    double from = s->sigmas[i], to = s->sigmas[i + 1], here = s->has_saved ? to : from;
    (void)err;

    predict_x0_sigma(s, here, args->sample, args->model_output, s->x0);
    limit_x0(s, args, s->x0);
    slope_of(s, here, args->sample, s->x0, s->eps);
    if (!s->has_saved) {
        COMBINE(s, s->saved, { 1, args->sample });
        COMBINE(s, s->sum, { 1, s->eps });
        COMBINE(s, args->sample, { 1, args->sample }, { to - from, s->eps });
    } else {
        COMBINE(s, s->eps, { 0.5, s->sum }, { 0.5, s->eps });
        COMBINE(s, args->sample, { 1, s->saved }, { to - from, s->eps });
    }
    s->has_saved = !s->has_saved;
    return STYX_OK;
}

static const struct knob_default knobs[] = {
    BETA_KNOBS(0.00085, 0.012, "linear"),
    PREDICTION_KNOB,
    SIGMA_KNOBS,
    BOOL_KNOB("clip_sample", false),
    REAL_KNOB("clip_sample_range", 1),
    SPACING_KNOBS("linspace"),
    LAST_KNOB,
};

const struct sampler_ops heun_ops = {
    .class = { "HeunDiscreteScheduler", knobs, NULL },
    .space = SPACE_SIGMA,
    .order = 2,
    .by_index = true,
    .custom_timesteps = true,
    .predicts_sample = true,
    .schedule = schedule,
    .step = step,
};
