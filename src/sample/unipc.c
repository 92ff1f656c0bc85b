/* unipc.c - UniPC (Zhao, Bai, Rao, Zhou and Lu 2023, "UniPC: A Unified Predictor-Corrector
 * Framework for Fast Sampling of Diffusion Models"), multistep, of orders 1 to 3. */
#include <math.h>

#include "sample/sampler.h"

static int schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                    styx_error *err)
{
    return lambda_space_schedule(s, nsteps, custom, (struct lambda_rules){ .reshaped_end = true },
                                 err);
}

/* Gaussian elimination with pivoting: a x = b, x in b. */
static void solve(int n, double a[MAX_SOLVER_ORDER][MAX_SOLVER_ORDER], double b[MAX_SOLVER_ORDER])
{
    for (int column = 0; column < n; column++) {
        int pivot = column;
        for (int row = column + 1; row < n; row++) {
            if (fabs(a[row][column]) > fabs(a[pivot][column]))
                pivot = row;
        }
        for (int k = 0; k < n; k++) {
            double swapped = a[column][k];
            a[column][k] = a[pivot][k];
            a[pivot][k] = swapped;
        }
        double swapped = b[column];
        b[column] = b[pivot];
        b[pivot] = swapped;
        for (int row = column + 1; row < n; row++) {
            double factor = a[row][column] / a[column][column];
            for (int k = column; k < n; k++)
                a[row][k] -= factor * a[column][k];
            b[row] -= factor * b[column];
        }
    }
    for (int row = n - 1; row >= 0; row--) {
        for (int k = row + 1; k < n; k++)
            b[row] -= a[row][k] * b[k];
        b[row] /= a[row][row];
    }
}

/* One interval, from sigma i to sigma i + 1, as both formulas see it. */
struct interval {
    double x, m0;               /* of the sample and of the output at its start */
    double scale;               /* of the rest: alpha B(h), or sigma B(h) */
    double r[MAX_SOLVER_ORDER]; /* where earlier outputs lie, in units of h; then 1 */
    double b[MAX_SOLVER_ORDER]; /* what the weights must sum to (theorem 3.1) */
};

static struct interval interval_of(const struct scheduler *s, int i, int order)
{
    struct level from = level_at(s, i), to = level_at(s, i + 1);
    double h = to.lambda - from.lambda, hh = s->k.predict_x0 ? -h : h;
    double phi1 = expm1(hh), phi = phi1 / hh - 1, factorial = 1;
    double bh = s->k.solver_type == SOLVER_BH1 ? hh : phi1;
    struct interval v = { 0 };

    v.x = s->k.predict_x0 ? to.sigma / from.sigma : to.alpha / from.alpha;
    v.m0 = -(s->k.predict_x0 ? to.alpha : to.sigma) * phi1;
    v.scale = -(s->k.predict_x0 ? to.alpha : to.sigma) * bh;
    for (int k = 0; k + 1 < order; k++)
        v.r[k] = (level_at(s, i - k - 1).lambda - from.lambda) / h;
    v.r[order - 1] = 1;
    for (int k = 0; k < order; k++) {
        v.b[k] = phi * factorial / bh;
        factorial *= k + 2;
        phi = phi / hh - 1 / factorial;
    }
    return v;
}

/* rho: the weights of n differences, from sum_j rho_j r_j^k = b_k. */
static void weights(const struct interval *v, int n, double rho[MAX_SOLVER_ORDER])
{
    double powers[MAX_SOLVER_ORDER][MAX_SOLVER_ORDER];
    for (int k = 0; k < n; k++) {
        rho[k] = v->b[k];
        for (int j = 0; j < n; j++)
            powers[k][j] = pow(v->r[j], k);
    }
    solve(n, powers, rho);
}

/* out = x sample + m0 + scale * sum of rho_k (m_k - m0) / r_k. With no differences scale counts all
 * the same: bh1 that ends at sigma 0 is not a number in diffusers either. */
static void advance(struct scheduler *s, const struct interval *v, const float *sample, int n,
                    const double *rho, float *out)
{
    double m0 = v->m0 + v->scale * 0;
    for (int k = 0; k < n; k++)
        m0 -= v->scale * rho[k] / v->r[k];
    COMBINE(s, out, { v->x, sample }, { m0, s->history[0] });
    for (int k = 0; k < n; k++)
        COMBINE(s, out, { 1, out }, { v->scale * rho[k] / v->r[k], s->history[k + 1] });
}

/* UniC: redo the last step, now that the output at its end is known (in s->eps). */
static void correct(struct scheduler *s, float *sample)
{
    int order = s->last_order;
    struct interval v = interval_of(s, s->step_index - 1, order);
    double rho[MAX_SOLVER_ORDER] = { 0.5 };
    if (order > 1)
        weights(&v, order, rho);
    advance(s, &v, s->saved, order - 1, rho, sample);
    double last = v.scale * rho[order - 1];
    COMBINE(s, sample, { 1, sample }, { last, s->eps }, { -last, s->history[0] });
}

/* UniP. */
static void predict(struct scheduler *s, float *sample, int order)
{
    struct interval v = interval_of(s, s->step_index, order);
    double rho[MAX_SOLVER_ORDER] = { 0.5 };
    if (order > 2)
        weights(&v, order - 1, rho);
    advance(s, &v, s->saved, order - 1, rho, sample);
}

static bool corrects(const struct scheduler *s)
{
    for (int i = 0; i < s->k.ndisabled; i++) {
        if (s->k.disable_corrector[i] == s->step_index - 1)
            return false;
    }
    return s->step_index > 0 && s->has_saved;
}

static int step(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    struct level now = level_at(s, s->step_index);
    int order = s->k.solver_order, left = s->ntimesteps - s->step_index;
    (void)err;

    predict_x0(s, now.alpha, now.sigma, args->sample, args->model_output, s->x0);
    if (s->k.predict_x0) {
        limit_x0(s, args, s->x0);
        COMBINE(s, s->eps, { 1, s->x0 });
    } else {
        predict_eps(s, now.alpha, now.sigma, args->sample, args->model_output, s->eps);
    }
    if (corrects(s))
        correct(s, args->sample);
    COMBINE(s, push_history(s), { 1, s->eps });
    COMBINE(s, s->saved, { 1, args->sample });
    s->has_saved = true;
    if (s->k.lower_order_final && order > left)
        order = left;
    if (order > s->ncalls + 1)
        order = s->ncalls + 1;
    predict(s, args->sample, order);
    s->last_order = order;
    return STYX_OK;
}

static const struct knob_default knobs[] = {
    BETA_KNOBS(0.0001, 0.02, "linear"),
    INT_KNOB("solver_order", 2),
    PREDICTION_KNOB,
    THRESHOLD_KNOBS,
    BOOL_KNOB("predict_x0", true),
    TEXT_KNOB("solver_type", "bh2"),
    BOOL_KNOB("lower_order_final", true),
    LIST_KNOB("disable_corrector"),
    NULL_KNOB("solver_p"),
    SIGMA_KNOBS,
    FLOW_KNOBS,
    SPACING_KNOBS("linspace"),
    TEXT_KNOB("final_sigmas_type", "zero"),
    BOOL_KNOB("rescale_betas_zero_snr", false),
    NULL_KNOB("sigma_min"),
    NULL_KNOB("sigma_max"),
    NULL_KNOB("shift_terminal"),
    LAST_KNOB,
};

static const struct knob_alias aliases[] = {
    { "solver_type", "midpoint", "bh2" },
    { "solver_type", "heun", "bh2" },
    { "solver_type", "logrho", "bh2" },
    { NULL, NULL, NULL },
};

const struct sampler_ops unipc_ops = {
    .class = { "UniPCMultistepScheduler", knobs, aliases },
    .space = SPACE_LAMBDA,
    .order = 1,
    .by_index = true,
    .predicts_sample = true,
    .keeps_last_snr = true,
    .schedule = schedule,
    .step = step,
};
