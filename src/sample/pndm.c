/* pndm.c - pseudo numerical methods (Liu, Ren, Lin and Zhao 2022, "Pseudo Numerical Methods for
 * Diffusion Models on Manifolds"): PLMS, and PRK for its first steps if skip_prk_steps is false. */
#include <math.h>
#include <stdlib.h>

#include "sample/sampler.h"
#include "sample/schedule.h"

enum { PRK_STEPS = 4, PRK_CALLS = 12 }; /* 3 Runge-Kutta steps of 4 calls between 4 timesteps */

/* The first timesteps t0 .. t3 with one half way between, each but the first and last twice:
 * t0, h1, h1, t1, t1, h2, h2, t2, ... where hi lies half an interval above ti. */
static void prk_list(const struct scheduler *s, int nsteps, const double *t, double *list)
{
    int half = s->k.num_train_timesteps / nsteps / 2;
    for (int i = 0; i < PRK_CALLS; i++) {
        int point = (i + 1) / 2; /* 0: t0, 1: h1, 2: t1, 3: h2, ... */
        list[i] = t[(point + 1) / 2] + (point % 2 ? half : 0);
    }
}

static int schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                    styx_error *err)
{
    int capacity = schedule_capacity(nsteps), count = 0, rc;
    double *t = malloc((size_t)(2 * capacity + PRK_CALLS) * sizeof *t), *list = t + capacity;
    (void)custom; /* PNDM takes none */
    if (!t)
        return fail_nomem(err, (size_t)(2 * capacity + PRK_CALLS) * sizeof *t);
    int n = schedule_space(s->k.timestep_spacing, s->k.num_train_timesteps, nsteps,
                           s->k.steps_offset, true, t);
    if (!s->k.skip_prk_steps && n < PRK_STEPS) {
        free(t);
        return fail(err, STYX_ERR_INVALID,
                    "%s: with skip_prk_steps false at least %d steps are "
                    "needed, not %d",
                    s->ops->class.name, PRK_STEPS, n);
    }
    if (s->k.skip_prk_steps) { /* the second timestep twice: its first pass is thrown away */
        for (int i = 0; i < n; i++) {
            list[count++] = t[i];
            if (i == 1)
                list[count++] = t[i];
        }
    } else {
        prk_list(s, nsteps, t, list);
        count = PRK_CALLS;
        for (int i = PRK_STEPS - 1; i < n; i++)
            list[count++] = t[i];
    }
    rc = sampler_set_schedule(s, list, count, NULL, 0, err);
    free(t);
    return rc;
}

/* Equation 11: from timestep t to `before` along the noise in s->eps. */
static int transfer(struct scheduler *s, const struct step_args *args, const float *sample, int t,
                    int before, styx_error *err)
{
    int rc = check_timestep(s, t, err);
    if (rc)
        return rc;
    float a = alpha_at(s, t), ap = alpha_at(s, before);
    float keep = sqrtf(ap / a), weight = ap - a;
    float divisor = a * sqrtf(1 - ap) + sqrtf(a * (1 - a) * ap);
    predict_x0(s, sqrtf(a), sqrtf(1 - a), sample, s->eps, s->x0);
    if (s->k.prediction_type == PREDICT_V)
        COMBINE(s, s->eps, { sqrtf(a), s->eps }, { sqrtf(1 - a), sample });
    /* Near pure noise both terms are thousands: rounded step by step as diffusers does. */
    for (size_t i = 0; i < s->n; i++)
        args->sample[i] = keep * sample[i] - weight * s->eps[i] / divisor;
    return STYX_OK;
}

/* Runge-Kutta of order 4 over each group of 4 calls. */
static int step_prk(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    static const double weights[4] = { 1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6 };
    int phase = s->ncalls % 4, half = s->k.num_train_timesteps / s->nsteps / 2;
    int before = (int)args->timestep - (s->ncalls % 2 ? 0 : half);

    COMBINE(s, s->eps, { 1, args->model_output });
    if (phase == 0) {
        COMBINE(s, push_history(s), { 1, args->model_output });
        COMBINE(s, s->saved, { 1, args->sample });
        COMBINE(s, s->sum, { weights[0], args->model_output });
    } else {
        COMBINE(s, s->sum, { 1, s->sum }, { weights[phase], args->model_output });
    }
    if (phase == 3)
        COMBINE(s, s->eps, { 1, s->sum });
    return transfer(s, args, s->saved, (int)s->timesteps[s->ncalls / 4 * 4], before, err);
}

/* Adams-Bashforth of the highest order that the history allows (equation 12). */
static void combine_history(struct scheduler *s)
{
    float *const *e = s->history;
    if (s->nhistory == 1)
        COMBINE(s, s->eps, { 1, e[0] });
    else if (s->nhistory == 2)
        COMBINE(s, s->eps, { 3.0 / 2, e[0] }, { -1.0 / 2, e[1] });
    else if (s->nhistory == 3)
        COMBINE(s, s->eps, { 23.0 / 12, e[0] }, { -16.0 / 12, e[1] }, { 5.0 / 12, e[2] });
    else
        COMBINE(s, s->eps, { 55.0 / 24, e[0] }, { -59.0 / 24, e[1] }, { 37.0 / 24, e[2] },
                { -9.0 / 24, e[3] });
}

static int step_plms(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    int ratio = s->k.num_train_timesteps / s->nsteps;
    int t = (int)args->timestep, before = t - ratio;
    const float *sample = args->sample;

    if (!s->k.skip_prk_steps && s->nhistory < 3)
        return fail(err, STYX_ERR_INVALID,
                    "%s: with skip_prk_steps false the first 12 calls must come first",
                    s->ops->class.name);
    if (s->ncalls == 1) { /* the first step once more, with the mean of both ends (Heun) */
        before = t;
        t += ratio;
        sample = s->saved;
        COMBINE(s, s->eps, { 0.5, args->model_output }, { 0.5, s->history[0] });
    } else {
        COMBINE(s, push_history(s), { 1, args->model_output });
        combine_history(s);
        if (s->ncalls == 0)
            COMBINE(s, s->saved, { 1, sample });
    }
    return transfer(s, args, sample, t, before, err);
}

static int step(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    int rc = check_timestep(s, args->timestep, err);
    if (rc)
        return rc;
    if (!s->k.skip_prk_steps && s->ncalls < PRK_CALLS)
        return step_prk(s, args, err);
    return step_plms(s, args, err);
}

static const struct knob_default knobs[] = {
    BETA_KNOBS(0.0001, 0.02, "linear"),
    BOOL_KNOB("skip_prk_steps", false),
    BOOL_KNOB("set_alpha_to_one", false),
    PREDICTION_KNOB,
    SPACING_KNOBS("leading"),
    LAST_KNOB,
};

const struct sampler_ops pndm_ops = {
    .class = { "PNDMScheduler", knobs, NULL },
    .space = SPACE_ALPHA,
    .order = 1,
    .schedule = schedule,
    .step = step,
};
