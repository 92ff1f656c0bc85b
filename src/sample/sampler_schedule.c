/* sampler_schedule.c - the three kinds of schedules, one for each space. */
#include <math.h>
#include <stdlib.h>

#include "sample/sampler.h"
#include "sample/schedule.h"

static bool reshapes(const struct knobs *k)
{
    return k->use_karras_sigmas || k->use_exponential_sigmas || k->use_beta_sigmas ||
           k->use_lu_lambdas;
}

/* Room for timesteps and, behind them, sigmas with one or two final ones. */
static double *list_alloc(int nsteps, styx_error *err)
{
    size_t count = (size_t)schedule_capacity(nsteps) * 2 + 2;
    double *list = malloc(count * sizeof *list);
    if (!list)
        fail_nomem(err, count * sizeof *list);
    return list;
}

static void copy_values(double *to, const double *from, int n)
{
    for (int i = 0; i < n; i++)
        to[i] = from[i];
}

/* ---- alpha space ---- */

/* LCM, TCD and DDPM want their timesteps falling and below the model's last. */
static int check_falling(const struct scheduler *s, const struct schedule_request *custom,
                         styx_error *err)
{
    for (int i = 1; i < custom->ntimesteps; i++) {
        if (custom->timesteps[i] >= custom->timesteps[i - 1])
            return fail(err, STYX_ERR_INVALID, "%s: custom timesteps must fall, but %g follows %g",
                        s->ops->class.name, custom->timesteps[i], custom->timesteps[i - 1]);
    }
    return check_timestep(s, custom->timesteps[0], err);
}

int check_steps_fit(const struct scheduler *s, int nsteps, styx_error *err)
{
    if (nsteps <= s->k.num_train_timesteps)
        return STYX_OK;
    return fail(err, STYX_ERR_INVALID, "%s: %d steps are more than the model's %d timesteps",
                s->ops->class.name, nsteps, s->k.num_train_timesteps);
}

int alpha_space_custom(struct scheduler *s, const struct schedule_request *custom, styx_error *err)
{
    int rc = check_falling(s, custom, err);
    if (rc)
        return rc;
    double *t = list_alloc(custom->ntimesteps, err);
    if (!t)
        return STYX_ERR_NOMEM;
    for (int i = 0; i < custom->ntimesteps; i++)
        t[i] = trunc(custom->timesteps[i]);
    rc = sampler_set_schedule(s, t, custom->ntimesteps, NULL, 0, err);
    free(t);
    return rc;
}

int alpha_space_schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                         styx_error *err)
{
    int rc;
    double *t;
    if (custom)
        return alpha_space_custom(s, custom, err);
    if ((rc = check_steps_fit(s, nsteps, err)))
        return rc;
    if (!(t = list_alloc(nsteps, err)))
        return STYX_ERR_NOMEM;
    int n = schedule_space(s->k.timestep_spacing, s->k.num_train_timesteps, nsteps,
                           s->k.steps_offset, true, t);
    rc = sampler_set_schedule(s, t, n, NULL, 0, err);
    free(t);
    return rc;
}

/* ---- sigma space ---- */

/* Log-linear interpolation replaces the sigmas by n + 1 even ones in log sigma; they end at the
 * least sigma, and the final one comes on top, as in diffusers. */
static int log_linear(const struct scheduler *s, double *sigma, int nsteps)
{
    int ntrain = s->k.num_train_timesteps;
    double first = s->log_sigma_table[ntrain - 1], last = s->log_sigma_table[0];
    for (int i = 0; i <= nsteps; i++)
        sigma[i] = exp(first + (last - first) * i / nsteps);
    return nsteps + 1;
}

static void from_sigmas(const struct scheduler *s, const struct schedule_request *custom,
                        struct sigma_list *list)
{
    list->n = custom->nsigmas - 1;
    list->nsigmas = custom->nsigmas;
    copy_values(list->sigma, custom->sigmas, custom->nsigmas);
    for (int i = 0; i < list->n; i++)
        list->t[i] =
            schedule_t_of(s->log_sigma_table, s->k.num_train_timesteps, (float)custom->sigmas[i]);
}

static void from_timesteps(const struct scheduler *s, int nsteps,
                           const struct schedule_request *custom, bool whole,
                           struct sigma_list *list)
{
    const struct knobs *k = &s->k;
    int ntrain = k->num_train_timesteps;
    if (custom)
        copy_values(list->t, custom->timesteps, nsteps);
    list->n = custom ? nsteps
                     : schedule_space(k->timestep_spacing, ntrain, nsteps, k->steps_offset, false,
                                      list->t);
    list->nsigmas = list->n;
    for (int i = 0; i < list->n; i++)
        list->sigma[i] = schedule_sigma_at(s->sigma_table, ntrain, (float)list->t[i]);
    if (k->log_linear)
        list->nsigmas = log_linear(s, list->sigma, nsteps);
    if (reshapes(k)) {
        double first = isnan(k->sigma_max) ? list->sigma[0] : k->sigma_max;
        double last = isnan(k->sigma_min) ? list->sigma[list->nsigmas - 1] : k->sigma_min;
        schedule_reshape(k, first, last, list->sigma, nsteps);
        list->n = list->nsigmas = nsteps;
        for (int i = 0; i < nsteps; i++) {
            list->t[i] = schedule_t_of(s->log_sigma_table, ntrain, list->sigma[i]);
            if (whole && k->use_karras_sigmas)
                list->t[i] = rint(list->t[i]);
        }
    }
    list->sigma[list->nsigmas++] = k->final_sigma_min ? s->sigma_table[0] : 0;
}

static int list_sigmas(const struct scheduler *s, int nsteps, const struct schedule_request *custom,
                       bool whole, struct sigma_list *list, styx_error *err)
{
    if (!(list->t = list_alloc(nsteps, err)))
        return STYX_ERR_NOMEM;
    list->sigma = list->t + schedule_capacity(nsteps);
    if (custom && custom->nsigmas)
        from_sigmas(s, custom, list);
    else
        from_timesteps(s, nsteps, custom, whole, list);
    /* A continuous v-prediction model (EDM) is told ln(sigma) / 4 instead of a timestep. */
    if (s->k.continuous && s->k.prediction_type == PREDICT_V) {
        for (int i = 0; i < list->n; i++)
            list->t[i] = 0.25 * log(list->sigma[i]);
    }
    return STYX_OK;
}

int call_pairs_schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                        struct call_pairs pairs, styx_error *err)
{
    struct sigma_list list;
    int rc = list_sigmas(s, nsteps, custom, pairs.whole, &list, err);
    if (rc)
        return rc;
    int n = 2 * list.n - 1, nsigmas = n + pairs.ends;
    double *t = malloc((size_t)(n + nsigmas) * sizeof *t), *sigma = t + n;
    if (!t) {
        rc = fail_nomem(err, (size_t)(n + nsigmas) * sizeof *t);
        goto done;
    }
    for (int i = 0; i < n; i++)
        t[i] = i % 2 == 0 ? list.t[i / 2] : pairs.second(s, &list, i / 2);
    for (int i = 0; i < nsigmas; i++)
        sigma[i] = list.sigma[i < n ? (i + 1) / 2 : list.n];
    rc = sampler_set_schedule(s, t, n, sigma, nsigmas, err);
done:
    free(t);
    free(list.t);
    return rc;
}

int sigma_space_schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                         styx_error *err)
{
    struct sigma_list list;
    int rc = list_sigmas(s, nsteps, custom, false, &list, err);
    if (rc)
        return rc;
    rc = sampler_set_schedule(s, list.t, list.n, list.sigma, list.nsigmas, err);
    free(list.t);
    return rc;
}

/* ---- lambda space ---- */

/* The number of noise levels whose lambda = -ln sigma is at least lambda_min_clipped. */
static int last_level(const struct scheduler *s)
{
    int last = s->k.num_train_timesteps;
    while (last > 1 && -s->log_sigma_table[last - 1] < s->k.lambda_min_clipped)
        last--;
    return last;
}

static int lambda_list(const struct scheduler *s, int nsteps, const struct schedule_request *custom,
                       struct lambda_rules rules, double *t, double *sigma)
{
    const struct knobs *k = &s->k;
    int ntrain = k->num_train_timesteps, n = nsteps;
    double first = s->sigma_table[ntrain - 1], last = s->sigma_table[0];
    if (!k->use_lu_lambdas) {
        first = isnan(k->sigma_max) ? first : k->sigma_max;
        last = isnan(k->sigma_min) ? last : k->sigma_min;
    }
    if (schedule_reshape(k, first, last, sigma, nsteps)) {
        bool whole = (k->use_karras_sigmas || k->use_lu_lambdas) &&
                     !(rules.cosine_keeps_fractions && k->beta_schedule == BETA_SQUAREDCOS);
        for (int i = 0; i < nsteps; i++) {
            double fraction = schedule_t_of(s->log_sigma_table, ntrain, sigma[i]);
            t[i] = whole ? rint(fraction) : trunc(fraction);
        }
        return n;
    }
    if (custom)
        copy_values(t, custom->timesteps, nsteps);
    else
        n = schedule_space_solver(k->timestep_spacing, ntrain, last_level(s), nsteps,
                                  k->steps_offset, t);
    for (int i = 0; i < n; i++) {
        t[i] = trunc(t[i]);
        sigma[i] = schedule_sigma_at(s->sigma_table, ntrain, t[i]);
    }
    return n;
}

int lambda_space_schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                          struct lambda_rules rules, styx_error *err)
{
    double *t = list_alloc(nsteps, err);
    if (!t)
        return STYX_ERR_NOMEM;
    double *sigma = t + schedule_capacity(nsteps);
    int n = lambda_list(s, nsteps, custom, rules, t, sigma);
    if (!rules.ends_above_zero && !s->k.final_sigma_min)
        sigma[n] = 0;
    else
        sigma[n] = rules.reshaped_end && reshapes(&s->k) ? sigma[n - 1] : s->sigma_table[0];
    int rc = sampler_set_schedule(s, t, n, sigma, n + 1, err);
    free(t);
    return rc;
}
