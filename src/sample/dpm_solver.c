#include "sample/dpm_solver.h"

#include <math.h>

struct dpm_weights dpm_weights(enum algorithm_type algorithm, bool heun, struct level from,
                               struct level to)
{
    double h = to.lambda - from.lambda;
    struct dpm_weights w = { 0 };
    double integral1 = 0;
    switch (algorithm) {
    case ALGORITHM_PP: /* DPM-Solver++, eq. 8; its appendix B for the higher orders */
        w.x = to.sigma / from.sigma;
        w.d0 = -to.alpha * expm1(-h);
        integral1 = to.alpha * (expm1(-h) / h + 1);
        w.d2 = -to.alpha * ((expm1(-h) + h) / (h * h) - 0.5);
        break;
    case ALGORITHM_SDE_PP:
        w.x = to.sigma / from.sigma * exp(-h);
        w.d0 = -to.alpha * expm1(-2 * h);
        integral1 = to.alpha * (expm1(-2 * h) / (2 * h) + 1);
        w.d2 = -to.alpha * ((expm1(-2 * h) + 2 * h) / (4 * h * h) + 0.5);
        w.noise = to.sigma * sqrt(-expm1(-2 * h));
        break;
    case ALGORITHM_EPS: /* DPM-Solver, eq. 3.4 and appendix B */
        w.x = to.alpha / from.alpha;
        w.d0 = -to.sigma * expm1(h);
        integral1 = -to.sigma * (expm1(h) / h - 1);
        w.d2 = -to.sigma * ((expm1(h) - h) / (h * h) - 0.5);
        break;
    case ALGORITHM_SDE_EPS:
        w.x = to.alpha / from.alpha;
        w.d0 = -2 * to.sigma * expm1(h);
        integral1 = -2 * to.sigma * (expm1(h) / h - 1);
        w.noise = to.sigma * sqrt(expm1(2 * h));
        break;
    }
    w.d1 = heun ? integral1 : w.d0 / 2;
    return w;
}

bool dpm_is_sde(const struct scheduler *s)
{
    return s->k.algorithm_type == ALGORITHM_SDE_PP || s->k.algorithm_type == ALGORITHM_SDE_EPS;
}

void dpm_convert(struct scheduler *s, const struct step_args *args, float *out)
{
    struct level now = level_at(s, s->step_index);
    bool of_x0 = s->k.algorithm_type == ALGORITHM_PP || s->k.algorithm_type == ALGORITHM_SDE_PP;
    predict_x0(s, now.alpha, now.sigma, args->sample, args->model_output, s->x0);
    limit_x0(s, args, s->x0);
    if (of_x0)
        COMBINE(s, out, { 1, s->x0 });
    else if (s->k.thresholding)
        COMBINE(s, out, { 1 / now.sigma, args->sample }, { -now.alpha / now.sigma, s->x0 });
    else
        predict_eps(s, now.alpha, now.sigma, args->sample, args->model_output, out);
}

void dpm_advance(struct scheduler *s, const struct dpm_weights *w, const float *from,
                 const double *m, int order, float *sample)
{
    COMBINE(s, sample, { w->x, from }, { m[0], s->history[0] });
    for (int k = 1; k < order; k++)
        COMBINE(s, sample, { 1, sample }, { m[k], s->history[k] });
    if (dpm_is_sde(s))
        COMBINE(s, sample, { 1, sample }, { w->noise, s->noise });
}

const struct knob_alias dpm_aliases[] = {
    { "algorithm_type", "deis", "dpmsolver++" },
    { "solver_type", "logrho", "midpoint" },
    { "solver_type", "bh1", "midpoint" },
    { "solver_type", "bh2", "midpoint" },
    { NULL, NULL, NULL },
};

int dpm_check(const struct scheduler *s, styx_error *err)
{
    bool of_eps = s->k.algorithm_type == ALGORITHM_EPS || s->k.algorithm_type == ALGORITHM_SDE_EPS;
    if (of_eps && !s->k.final_sigma_min)
        return fail(err, STYX_ERR_INVALID,
                    "%s: algorithm_type \"dpmsolver\" and \"sde-dpmsolver\" cannot end at sigma 0; "
                    "set final_sigmas_type to \"sigma_min\"",
                    s->ops->class.name);
    return STYX_OK;
}
