/* deis.c - DEIS (Zhang and Chen 2023, "Fast Sampling of Diffusion Models with Exponential
 * Integrator"), tAB in log rho, of orders 1 to 3; rho is sigma here. */
#include <math.h>

#include "sample/sampler.h"

enum { FEW_STEPS = 15 };

static int schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                    styx_error *err)
{
    struct lambda_rules rules = { .ends_above_zero = true, .reshaped_end = true };
    return lambda_space_schedule(s, nsteps, custom, rules, err);
}

/* Antiderivatives in rho of the Lagrange polynomials in u = ln rho through b and one or two others:
 * (u - c) / (b - c), and (u - c) (u - d) / ((b - c) (b - d)); b, c and d are logarithms. */
static double linear_integral(double rho, double b, double c)
{
    return rho * (log(rho) - 1 - c) / (b - c);
}

static double square_integral(double rho, double b, double c, double d)
{
    double u = log(rho);
    return rho * (u * u - 2 * u + 2 - (c + d) * (u - 1) + c * d) / ((b - c) * (b - d));
}

static int order_now(const struct scheduler *s)
{
    int left = s->ntimesteps - s->step_index, order = s->k.solver_order;
    if (s->k.lower_order_final && s->ntimesteps < FEW_STEPS && left < order)
        order = left;
    return order < s->nhistory ? order : s->nhistory;
}

static void advance(struct scheduler *s, float *sample, int order)
{
    const float *rho = s->sigmas + s->step_index; /* rho[1] is where the step ends */
    struct level to = level_at(s, s->step_index + 1), from = level_at(s, s->step_index);
    double m[3] = { (double)rho[1] - rho[0], 0, 0 }, u[3];
    for (int k = 0; k < order; k++)
        u[k] = log(rho[-k]);
    for (int k = 0; k < order && order == 2; k++)
        m[k] = linear_integral(rho[1], u[k], u[1 - k]) - linear_integral(rho[0], u[k], u[1 - k]);
    for (int k = 0; k < order && order == 3; k++) {
        double c = u[(k + 1) % 3], d = u[(k + 2) % 3];
        m[k] = square_integral(rho[1], u[k], c, d) - square_integral(rho[0], u[k], c, d);
    }
    COMBINE(s, sample, { to.alpha / from.alpha, sample }, { to.alpha * m[0], s->history[0] });
    for (int k = 1; k < order; k++)
        COMBINE(s, sample, { 1, sample }, { to.alpha * m[k], s->history[k] });
}

static int step(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    struct level now = level_at(s, s->step_index);
    (void)err;
    predict_x0(s, now.alpha, now.sigma, args->sample, args->model_output, s->x0);
    limit_x0(s, args, s->x0);
    COMBINE(s, push_history(s), { 1 / now.sigma, args->sample }, { -now.alpha / now.sigma, s->x0 });
    advance(s, args->sample, order_now(s));
    return STYX_OK;
}

static int check(const struct scheduler *s, styx_error *err)
{
    if (s->k.algorithm_type == ALGORITHM_SDE_PP || s->k.algorithm_type == ALGORITHM_SDE_EPS)
        return fail(err, STYX_ERR_UNSUPPORTED, "%s: algorithm_type must be \"deis\"",
                    s->ops->class.name);
    return STYX_OK;
}

static const struct knob_default knobs[] = {
    BETA_KNOBS(0.0001, 0.02, "linear"),
    INT_KNOB("solver_order", 2),
    PREDICTION_KNOB,
    THRESHOLD_KNOBS,
    TEXT_KNOB("algorithm_type", "deis"),
    TEXT_KNOB("solver_type", "logrho"),
    BOOL_KNOB("lower_order_final", true),
    SIGMA_KNOBS,
    FLOW_KNOBS,
    SPACING_KNOBS("linspace"),
    LAST_KNOB,
};

static const struct knob_alias aliases[] = {
    { "algorithm_type", "dpmsolver", "deis" },
    { "algorithm_type", "dpmsolver++", "deis" },
    { "solver_type", "midpoint", "logrho" },
    { "solver_type", "heun", "logrho" },
    { "solver_type", "bh1", "logrho" },
    { "solver_type", "bh2", "logrho" },
    { NULL, NULL, NULL },
};

const struct sampler_ops deis_ops = {
    .class = { "DEISMultistepScheduler", knobs, aliases },
    .space = SPACE_LAMBDA,
    .order = 1,
    .by_index = true,
    .predicts_sample = true,
    .check = check,
    .schedule = schedule,
    .step = step,
};
