/* dpmpp_single.c - DPM-Solver(++) singlestep (Lu et al. 2022): groups of 1, 2 or 3 calls, each call
 * starting anew from the group's first sample with one more output to go by. */
#include <math.h>

#include "sample/dpm_solver.h"

static int schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                    styx_error *err)
{
    return lambda_space_schedule(s, nsteps, custom, (struct lambda_rules){ 0 }, err);
}

/* The order of call i: 1 2 .. n 1 2 .. n, ending so that the last group fits; 1 at sigma 0.
 * lower_order_final counts as true where diffusers switches it on: if the groups do not fit. */
static int order_of(const struct scheduler *s, int i)
{
    int n = s->nsteps, order = s->k.solver_order, place = i % order;
    bool lower = s->k.lower_order_final || n % order != 0 || !s->k.final_sigma_min;
    if (i == n - 1 && !s->k.final_sigma_min)
        return 1;
    if (lower && order > 1 && n % order == 0 && i == n - 1)
        return 1; /* ... 1 2 1 rather than 1 2 3 */
    return place + 1;
}

/* As dpmpp.c, but expanded around the first output of the group. */
static void advance(struct scheduler *s, float *sample, int order)
{
    int i = s->step_index, first = i - order + 1;
    struct level from = level_at(s, first), to = level_at(s, i + 1);
    bool third_midpoint = order == 3 && s->k.solver_type == SOLVER_MIDPOINT;
    bool heun = order == 3 || s->k.solver_type == SOLVER_HEUN;
    struct dpm_weights w = dpm_weights(s->k.algorithm_type, heun, from, to);
    double h = to.lambda - from.lambda, m[3] = { 0 }; /* of history[0], [1] and [2] */
    m[order - 1] = w.d0;
    if (order >= 2) {
        double r0 = (level_at(s, i).lambda - from.lambda) / h; /* of the newest output */
        double newest = w.d1, middle = 0;
        if (order == 3 && !third_midpoint) {
            double r1 = (level_at(s, i - 1).lambda - from.lambda) / h;
            newest = (-w.d1 * r1 + 2 * w.d2) / (r0 - r1);
            middle = (w.d1 * r0 - 2 * w.d2) / (r0 - r1) / r1;
        }
        m[0] += newest / r0;
        m[1] += middle;
        m[order - 1] -= newest / r0 + middle;
    }
    dpm_advance(s, &w, s->saved, m, order, sample);
}

static int step(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    int order = order_of(s, s->step_index);
    dpm_convert(s, args, push_history(s));
    if (dpm_is_sde(s)) {
        int rc = draw_noise(s, args, false, err);
        if (rc)
            return rc;
    }
    if (order > s->nhistory) /* started in the middle of a group */
        order = s->nhistory;
    if (order == 1)
        COMBINE(s, s->saved, { 1, args->sample });
    advance(s, args->sample, order);
    return STYX_OK;
}

static int check(const struct scheduler *s, styx_error *err)
{
    if (s->k.algorithm_type == ALGORITHM_SDE_EPS)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: algorithm_type \"sde-dpmsolver\" is not possible here",
                    s->ops->class.name);
    return dpm_check(s, err);
}

static const struct knob_default knobs[] = {
    BETA_KNOBS(0.0001, 0.02, "linear"),
    INT_KNOB("solver_order", 2),
    PREDICTION_KNOB,
    THRESHOLD_KNOBS,
    TEXT_KNOB("algorithm_type", "dpmsolver++"),
    TEXT_KNOB("solver_type", "midpoint"),
    BOOL_KNOB("lower_order_final", false),
    SIGMA_KNOBS,
    FLOW_KNOBS,
    TEXT_KNOB("final_sigmas_type", "zero"),
    REAL_KNOB("lambda_min_clipped", -INFINITY),
    NULL_KNOB("variance_type"),
    LAST_KNOB,
};

const struct sampler_ops dpmpp_single_ops = {
    .class = { "DPMSolverSinglestepScheduler", knobs, dpm_aliases },
    .space = SPACE_LAMBDA,
    .order = 1,
    .by_index = true,
    .custom_timesteps = true,
    .predicts_sample = true,
    .check = check,
    .schedule = schedule,
    .step = step,
};
