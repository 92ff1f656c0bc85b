/* schedule.h - noise levels of a diffusion model and which of them a sampler visits.
 *
 * Pure functions on arrays. The tables are float, as diffusers has them, because rounding of a
 * timestep can hang on the last digit; what is computed from them is double. */
#ifndef STYX_SAMPLE_SCHEDULE_H
#define STYX_SAMPLE_SCHEDULE_H
#include "sample/knobs.h"

/* abar[t], the cumulative products of alpha = 1 - beta; num_train_timesteps of them. */
int schedule_alphas_cumprod(const struct knobs *k, const char *class_name, float *abar,
                            styx_error *err);

/* sigma[t] = sqrt((1 - abar) / abar) and its logarithm. */
void schedule_sigma_table(const float *abar, int n, float *sigma, float *log_sigma);

/* How many timesteps spacing can give at most, for nsteps. */
int schedule_capacity(int nsteps);

/* nsteps timesteps of a model of ntrain, descending, as most classes space them. Whole numbers,
 * except that linspace keeps fractions if not `whole`. Returns how many (trailing: rounding errors
 * may give one more, as numpy.arange does). */
int schedule_space(enum spacing spacing, int ntrain, int nsteps, int offset, bool whole, double *t);

/* The same as the exponential solvers (DPM++, UniPC, DEIS) space them: one more interval, without
 * the last timestep. Only the noise levels below `last` count, which normally is ntrain. */
int schedule_space_solver(enum spacing spacing, int ntrain, int last, int nsteps, int offset,
                          double *t);

/* The table at a fractional timestep, clamped at its ends, and the timestep of a sigma. */
double schedule_sigma_at(const float *sigma, int n, double t);
double schedule_t_of(const float *log_sigma, int n, double sigma);

/* n sigmas from first down to last in the way that k asks for. false: k asks for none of them. */
bool schedule_reshape(const struct knobs *k, double first, double last, double *sigma, int n);

#endif
