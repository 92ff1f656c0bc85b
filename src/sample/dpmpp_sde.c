/* dpmpp_sde.c - DPM-Solver++ (2S) as an SDE solver in sigma (K. Crowson's k-diffusion,
 * sample_dpmpp_sde): an ancestral step to the middle of ln sigma, then the whole one with what the
 * model says there.
 *
 * diffusers takes the noise of both from one Brownian path kept in a tree (torchsde). Without a
 * noise_source.brownian the path is made of independent draws as it is walked: same law, other
 * numbers. */
#include <math.h>

#include "sample/sampler.h"
#include "sample/schedule.h"

static double middle_of(double from, double to)
{
    return to > 0 ? sqrt(from * to) : 0;
}

/* At the middle sigma. */
static double second(const struct scheduler *s, const struct sigma_list *list, int step)
{
    return schedule_t_of(s->log_sigma_table, s->k.num_train_timesteps,
                         middle_of(list->sigma[step], list->sigma[step + 1]));
}

static int schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                    styx_error *err)
{
    return call_pairs_schedule(s, nsteps, custom, (struct call_pairs){ second, 1, false }, err);
}

static double input_sigma(const struct scheduler *s)
{
    int i = s->step_index;
    return s->has_saved ? middle_of(s->sigmas[i - 1], s->sigmas[i]) : s->sigmas[i];
}

/* s->noise = (W(to) - W(from)) / sqrt(from - to). A step's second increment starts where its first
 * one did and goes further: it is the first (kept in s->sum) and an independent rest. */
static int draw_increment(struct scheduler *s, const struct step_args *args, double from, double to,
                          styx_error *err)
{
    int rc;
    if (args->noise.brownian)
        return args->noise.brownian(args->noise.user, from, to, s->noise, s->n, err);
    if ((rc = draw_noise(s, args, false, err)))
        return rc;
    if (!s->has_saved) {
        COMBINE(s, s->sum, { 1, s->noise });
    } else {
        double middle = middle_of(from, to), whole = from - to;
        COMBINE(s, s->noise, { sqrt((from - middle) / whole), s->sum },
                { sqrt((middle - to) / whole), s->noise });
    }
    return STYX_OK;
}

static int step(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    int i = s->has_saved ? s->step_index - 1 : s->step_index, rc;
    double from = s->sigmas[i], next = s->sigmas[i + 1], middle = middle_of(from, next);
    double here = s->has_saved ? middle : from;

    predict_x0_sigma(s, here, args->sample, args->model_output, s->x0);
    if (next == 0) { /* the end, without noise: Euler */
        COMBINE(s, args->sample, { 1, s->x0 });
        return STYX_OK;
    }
    float start = (float)from, to = (float)(s->has_saved ? next : middle);
    float up = fminf(to, sqrtf(to * to * (start * start - to * to) / (start * start)));
    float down = sqrtf(to * to - up * up); /* in float as in dpm2.c */
    if ((rc = draw_increment(s, args, from, to, err)))
        return rc;
    if (!s->has_saved)
        COMBINE(s, s->saved, { 1, args->sample });
    COMBINE(s, args->sample, { down / from, s->saved }, { 1 - down / from, s->x0 },
            { args->s_noise * up, s->noise });
    s->has_saved = !s->has_saved;
    return STYX_OK;
}

static const struct knob_default knobs[] = {
    BETA_KNOBS(0.00085, 0.012, "linear"), PREDICTION_KNOB,           SIGMA_KNOBS,
    NULL_KNOB("noise_sampler_seed"),      SPACING_KNOBS("linspace"), LAST_KNOB,
};

const struct sampler_ops dpmpp_sde_ops = {
    .class = { "DPMSolverSDEScheduler", knobs, NULL },
    .space = SPACE_SIGMA,
    .order = 2,
    .by_index = true,
    .schedule = schedule,
    .step = step,
    .input_sigma = input_sigma,
};
