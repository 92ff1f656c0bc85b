/* lms.c - linear multistep in sigma (K. Crowson's k-diffusion): the slope is a polynomial through
 * the last 4 slopes, integrated from one sigma to the next. */
#include <math.h>

#include "sample/sampler.h"

enum { LMS_ORDER = 4 };

/* The value at sigma of the polynomial that is 1 at the sigma `which` calls back, else 0. */
static double lagrange(const struct scheduler *s, int order, int which, double sigma)
{
    const float *now = s->sigmas + s->step_index;
    double product = 1;
    for (int k = 0; k < order; k++) {
        if (k != which)
            product *= (sigma - now[-k]) / ((double)now[-which] - now[-k]);
    }
    return product;
}

/* Its integral over the step. Two Gauss-Legendre points are exact: the degree is at most 3. */
static double weight(const struct scheduler *s, int order, int which)
{
    double from = s->sigmas[s->step_index], to = s->sigmas[s->step_index + 1];
    double middle = (from + to) / 2, half = (to - from) / 2, node = half / sqrt(3);
    return half *
           (lagrange(s, order, which, middle - node) + lagrange(s, order, which, middle + node));
}

static int step(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    double sigma = s->sigmas[s->step_index];
    int order = s->step_index + 1 < LMS_ORDER ? s->step_index + 1 : LMS_ORDER;
    (void)err;

    predict_x0_sigma(s, sigma, args->sample, args->model_output, s->x0);
    slope_of(s, sigma, args->sample, s->x0, push_history(s));
    COMBINE(s, s->sum, { weight(s, order, 0), s->history[0] });
    for (int k = 1; k < order && k < s->nhistory; k++)
        COMBINE(s, s->sum, { 1, s->sum }, { weight(s, order, k), s->history[k] });
    COMBINE(s, args->sample, { 1, args->sample }, { 1, s->sum });
    return STYX_OK;
}

static const struct knob_default knobs[] = {
    BETA_KNOBS(0.0001, 0.02, "linear"), SIGMA_KNOBS, PREDICTION_KNOB,
    SPACING_KNOBS("linspace"),          LAST_KNOB,
};

const struct sampler_ops lms_ops = {
    .class = { "LMSDiscreteScheduler", knobs, NULL },
    .space = SPACE_SIGMA,
    .order = 1,
    .by_index = true,
    .predicts_sample = true,
    .schedule = sigma_space_schedule,
    .step = step,
};
