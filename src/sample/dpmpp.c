/* dpmpp.c - DPM-Solver(++) multistep, orders 1 to 3, with its SDE forms (Lu et al. 2022). */
#include <math.h>

#include "sample/dpm_solver.h"

enum { FEW_STEPS = 15 }; /* below this many the last steps lower their order */

static int schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                    styx_error *err)
{
    struct lambda_rules rules = { .cosine_keeps_fractions = true };
    return lambda_space_schedule(s, nsteps, custom, rules, err);
}

static int order_now(const struct scheduler *s)
{
    int left = s->ntimesteps - s->step_index, order = s->k.solver_order;
    bool few = s->k.lower_order_final && s->ntimesteps < FEW_STEPS;
    if (left == 1 && (s->k.euler_at_final || few || !s->k.final_sigma_min))
        order = 1;
    if (left == 2 && few && order > 2)
        order = 2;
    return order < s->nhistory ? order : s->nhistory;
}

/* The derivatives D1 and D2 are differences of the last outputs, so the step is a sum of these. */
static void advance(struct scheduler *s, float *sample, int order)
{
    int i = s->step_index;
    struct level to = level_at(s, i + 1), now = level_at(s, i);
    bool heun = order == 3 || s->k.solver_type == SOLVER_HEUN;
    struct dpm_weights w = dpm_weights(s->k.algorithm_type, heun, now, to);
    double h = to.lambda - now.lambda, m[3] = { w.d0, 0, 0 };
    if (order >= 2) { /* D1 = (m0 - m1) / r0 */
        double r0 = (now.lambda - level_at(s, i - 1).lambda) / h;
        double slope = w.d1, bend = 0;
        if (order == 3) { /* and both corrected by (D1 - D1 one call ago) */
            double r1 = (level_at(s, i - 1).lambda - level_at(s, i - 2).lambda) / h;
            bend = (w.d1 * r0 + w.d2) / (r0 + r1);
            m[1] += bend / -r1;
            m[2] += bend / r1;
        }
        m[0] += (slope + bend) / r0;
        m[1] -= (slope + bend) / r0;
    }
    dpm_advance(s, &w, sample, m, order, sample);
}

static int step(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    dpm_convert(s, args, push_history(s));
    if (dpm_is_sde(s)) {
        int rc = draw_noise(s, args, true, err);
        if (rc)
            return rc;
    }
    advance(s, args->sample, order_now(s));
    return STYX_OK;
}

static int check(const struct scheduler *s, styx_error *err)
{
    if (s->k.algorithm_type == ALGORITHM_SDE_EPS && s->k.solver_order == 3)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: algorithm_type \"sde-dpmsolver\" has no third order", s->ops->class.name);
    return dpm_check(s, err);
}

static const struct knob_default knobs[] = {
    BETA_KNOBS(0.0001, 0.02, "linear"),
    INT_KNOB("solver_order", 2),
    PREDICTION_KNOB,
    THRESHOLD_KNOBS,
    TEXT_KNOB("algorithm_type", "dpmsolver++"),
    TEXT_KNOB("solver_type", "midpoint"),
    BOOL_KNOB("lower_order_final", true),
    BOOL_KNOB("euler_at_final", false),
    SIGMA_KNOBS,
    BOOL_KNOB("use_lu_lambdas", false),
    FLOW_KNOBS,
    TEXT_KNOB("final_sigmas_type", "zero"),
    REAL_KNOB("lambda_min_clipped", -INFINITY),
    NULL_KNOB("variance_type"),
    SPACING_KNOBS("linspace"),
    BOOL_KNOB("rescale_betas_zero_snr", false),
    LAST_KNOB,
};

const struct sampler_ops dpmpp_ops = {
    .class = { "DPMSolverMultistepScheduler", knobs, dpm_aliases },
    .space = SPACE_LAMBDA,
    .order = 1,
    .by_index = true,
    .custom_timesteps = true,
    .predicts_sample = true,
    .keeps_last_snr = true,
    .check = check,
    .schedule = schedule,
    .step = step,
};
