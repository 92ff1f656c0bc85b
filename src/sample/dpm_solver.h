/* dpm_solver.h - the exponential integrator that DPM-Solver and DPM-Solver++ share, multistep and
 * singlestep alike (Lu et al. 2022, "DPM-Solver" and "DPM-Solver++"). */
#ifndef STYX_SAMPLE_DPM_SOLVER_H
#define STYX_SAMPLE_DPM_SOLVER_H
#include "sample/sampler.h"

/* x(to) = x * x(from) + d0 * D0 + d1 * D1 + d2 * D2 + noise * z, where Di approximates the i-th
 * derivative of the model's output along lambda, times h^i. */
struct dpm_weights {
    double x, d0, d1, d2, noise;
};
/* heun: the exact integral of D1; otherwise the midpoint rule, half of D0's weight. */
struct dpm_weights dpm_weights(enum algorithm_type algorithm, bool heun, struct level from,
                               struct level to);

bool dpm_is_sde(const struct scheduler *s);

/* What the history holds: x0 for the ++ algorithms, else noise. Sets s->x0 in either case. */
void dpm_convert(struct scheduler *s, const struct step_args *args, float *out);

/* sample = w.x from + m[0] history[0] + ... + m[order - 1] history[order - 1], and the noise of the
 * SDE forms. */
void dpm_advance(struct scheduler *s, const struct dpm_weights *w, const float *from,
                 const double *m, int order, float *sample);

extern const struct knob_alias dpm_aliases[]; /* what other solvers' configs mean here */

/* final_sigmas_type and algorithm_type must fit. */
int dpm_check(const struct scheduler *s, styx_error *err);

#endif
