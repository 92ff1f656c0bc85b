#include "sample/scheduler.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sample/sampler.h"
#include "sample/schedule.h"

enum { MAX_STEPS = 100000 };

static const struct sampler_ops *const CLASSES[] = {
    &pndm_ops, &ddim_ops,           &ddpm_ops, &euler_ops, &euler_ancestral_ops, &heun_ops,
    &dpm2_ops, &dpm2_ancestral_ops, &lms_ops,  &dpmpp_ops, &dpmpp_sde_ops,       &unipc_ops,
    &deis_ops, &dpmpp_single_ops,   &lcm_ops,  &tcd_ops,
};
enum { NCLASSES = sizeof CLASSES / sizeof *CLASSES };

/* ---- life ---- */

static const struct sampler_ops *find_class(const char *name)
{
    for (int i = 0; i < NCLASSES; i++) {
        if (!strcmp(CLASSES[i]->class.name, name))
            return CLASSES[i];
    }
    return NULL;
}

static int make_tables(struct scheduler *s, styx_error *err)
{
    int n = s->k.num_train_timesteps;
    s->abar = malloc((size_t)n * 3 * sizeof *s->abar);
    if (!s->abar)
        return fail_nomem(err, (size_t)n * 3 * sizeof *s->abar);
    s->sigma_table = s->abar + n;
    s->log_sigma_table = s->abar + 2 * (size_t)n;
    int rc = schedule_alphas_cumprod(&s->k, s->ops->class.name, s->abar, err);
    if (rc)
        return rc;
    if (s->k.rescale_betas_zero_snr && s->ops->keeps_last_snr)
        s->abar[n - 1] = 0x1p-24f;
    schedule_sigma_table(s->abar, n, s->sigma_table, s->log_sigma_table);
    return STYX_OK;
}

static int check(const struct scheduler *s, styx_error *err)
{
    if (s->k.prediction_type == PREDICT_SAMPLE && !s->ops->predicts_sample)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: prediction_type \"sample\" is not possible, only \"epsilon\" and "
                    "\"v_prediction\"",
                    s->ops->class.name);
    if (s->k.beta_schedule > BETA_SQUAREDCOS && s->ops != &ddpm_ops)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: beta_schedule \"sigmoid\" and \"laplace\" are for DDPMScheduler alone",
                    s->ops->class.name);
    return s->ops->check ? s->ops->check(s, err) : STYX_OK;
}

int scheduler_new_with(const char *class_name, const json_t *config, const json_t *overrides,
                       struct scheduler **out, styx_error *err)
{
    struct scheduler *s;
    int rc;

    *out = NULL;
    if (!class_name)
        class_name = json_string_value(json_object_get(config, "_class_name"));
    if (!class_name)
        return fail(err, STYX_ERR_FORMAT, "the scheduler's configuration has no \"_class_name\"");
    s = calloc(1, sizeof *s);
    if (!s)
        return fail_nomem(err, sizeof *s);
    s->ops = find_class(class_name);
    if (!s->ops) {
        rc = fail(err, STYX_ERR_UNSUPPORTED, "'%.80s' is no scheduler that this library knows",
                  class_name);
        goto done;
    }
    if ((rc = knobs_from_config(&s->ops->class, config, overrides, &s->config, err)) ||
        (rc = knobs_read(&s->ops->class, s->config, &s->k, err)) || (rc = check(s, err)) ||
        (rc = make_tables(s, err)))
        goto done;
    scheduler_reset(s);
    *out = s;
    s = NULL;
done:
    scheduler_free(s);
    return rc;
}

int scheduler_new(const char *class_name, const json_t *config, struct scheduler **out,
                  styx_error *err)
{
    return scheduler_new_with(class_name, config, NULL, out, err);
}

void scheduler_free(struct scheduler *s)
{
    if (!s)
        return;
    json_decref(s->config);
    free(s->abar);
    free(s->timesteps);
    free(s->sigmas);
    free(s->memory);
    free(s);
}

static float *copy_of(const float *from, size_t n, int *failed)
{
    if (!from)
        return NULL;
    float *to = malloc(n * sizeof *to);
    if (to)
        memcpy(to, from, n * sizeof *to);
    else
        *failed = 1;
    return to;
}

/* The arrays of values, which are pieces of one allocation. */
static void list_buffers(struct scheduler *s, float **list[BUFFERS])
{
    float **named[] = { &s->saved, &s->sum, &s->x0, &s->eps, &s->noise };
    for (int i = 0; i < HISTORY; i++)
        list[i] = &s->history[i];
    for (int i = HISTORY; i < BUFFERS; i++)
        list[i] = named[i - HISTORY];
}

int scheduler_clone(const struct scheduler *s, struct scheduler **out, styx_error *err)
{
    size_t ntrain = (size_t)s->k.num_train_timesteps;
    int failed = 0, rc = STYX_OK;
    float **buffers[BUFFERS];
    struct scheduler *c = malloc(sizeof *c);
    *out = NULL;
    if (!c)
        return fail_nomem(err, sizeof *c);
    *c = *s;
    c->config = json_deep_copy(s->config);
    c->abar = copy_of(s->abar, 3 * ntrain, &failed);
    c->timesteps = copy_of(s->timesteps, (size_t)s->ntimesteps, &failed);
    c->sigmas = copy_of(s->sigmas, (size_t)s->nsigmas, &failed);
    c->memory = copy_of(s->memory, BUFFERS * s->n, &failed);
    if (failed || !c->config) {
        rc = fail_nomem(err, BUFFERS * s->n * sizeof(float));
        goto done;
    }
    c->sigma_table = c->abar + ntrain;
    c->log_sigma_table = c->abar + 2 * ntrain;
    list_buffers(c, buffers);
    for (int i = 0; i < BUFFERS && c->memory; i++)
        *buffers[i] = c->memory + (*buffers[i] - s->memory);      /* history may be rotated */
    if ((rc = knobs_read(&c->ops->class, c->config, &c->k, err))) /* its own trained_betas */
        goto done;
    *out = c;
    c = NULL;
done:
    scheduler_free(c);
    return rc;
}

/* ---- what it is ---- */

int scheduler_fix_for_sd(struct scheduler *s, styx_error *err)
{
    const json_t *offset = json_object_get(s->config, "steps_offset");
    const json_t *clip = json_object_get(s->config, "clip_sample");
    int failed = 0;
    if (offset && !(json_is_integer(offset) && json_integer_value(offset) == 1))
        failed |= json_object_set_new(s->config, "steps_offset", json_integer(1));
    if (json_is_true(clip))
        failed |= json_object_set_new(s->config, "clip_sample", json_false());
    if (failed)
        return fail_nomem(err, sizeof(json_t));
    return knobs_read(&s->ops->class, s->config, &s->k, err);
}

const char *const *scheduler_class_names(void)
{
    static const char *const names[] = {
        "PNDMScheduler",
        "DDIMScheduler",
        "DDPMScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "LMSDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSDEScheduler",
        "UniPCMultistepScheduler",
        "DEISMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "LCMScheduler",
        "TCDScheduler",
        NULL,
    };
    return names;
}

const json_t *scheduler_config(const struct scheduler *s)
{
    return s->config;
}

int scheduler_order(const struct scheduler *s)
{
    return s->ops->order;
}

int scheduler_num_train_timesteps(const struct scheduler *s)
{
    return s->k.num_train_timesteps;
}

/* ---- the schedule ---- */

static int check_list(const char *what, const double *values, int n, styx_error *err)
{
    if (!values || n < 1 || n > MAX_STEPS)
        return fail(err, STYX_ERR_INVALID, "custom %s: 1 to %d values were wanted", what,
                    MAX_STEPS);
    for (int i = 0; i < n; i++) {
        if (!isfinite(values[i]) || values[i] < 0)
            return fail(err, STYX_ERR_INVALID, "custom %s: number %d is %g", what, i + 1,
                        values[i]);
    }
    return STYX_OK;
}

static int check_custom(const struct scheduler *s, const struct schedule_request *custom,
                        styx_error *err)
{
    const char *name = s->ops->class.name;
    bool reshaped = s->k.use_karras_sigmas || s->k.use_exponential_sigmas || s->k.use_beta_sigmas ||
                    s->k.use_lu_lambdas;
    if (custom->ntimesteps && custom->nsigmas)
        return fail(err, STYX_ERR_INVALID, "custom timesteps and custom sigmas exclude each other");
    if (custom->ntimesteps && !s->ops->custom_timesteps)
        return fail(err, STYX_ERR_INVALID, "%s takes no custom timesteps", name);
    if (custom->nsigmas && !s->ops->custom_sigmas)
        return fail(err, STYX_ERR_INVALID, "%s takes no custom sigmas", name);
    if (custom->ntimesteps && reshaped)
        return fail(err, STYX_ERR_INVALID,
                    "%s takes no custom timesteps together with use_karras_sigmas, "
                    "use_exponential_sigmas, use_beta_sigmas or use_lu_lambdas",
                    name);
    if (custom->ntimesteps && s->k.continuous && s->k.prediction_type == PREDICT_V)
        return fail(err, STYX_ERR_INVALID,
                    "%s takes no custom timesteps with timestep_type \"continuous\"", name);
    if (custom->nsigmas == 1)
        return fail(err, STYX_ERR_INVALID,
                    "custom sigmas: at least two were wanted, the last being where to end");
    return custom->ntimesteps ? check_list("timesteps", custom->timesteps, custom->ntimesteps, err)
                              : check_list("sigmas", custom->sigmas, custom->nsigmas, err);
}

int scheduler_set_timesteps(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                            styx_error *err)
{
    int rc;
    if (custom && !custom->ntimesteps && !custom->nsigmas)
        custom = NULL;
    if (custom && (rc = check_custom(s, custom, err)))
        return rc;
    if (custom)
        nsteps = custom->ntimesteps ? custom->ntimesteps : custom->nsigmas - 1;
    if (nsteps < 1 || nsteps > MAX_STEPS)
        return fail(err, STYX_ERR_INVALID, "%d steps: 1 to %d were wanted", nsteps, MAX_STEPS);
    if ((rc = s->ops->schedule(s, nsteps, custom, err)))
        return rc;
    s->nsteps = nsteps;
    scheduler_reset(s);
    return STYX_OK;
}

int sampler_set_schedule(struct scheduler *s, const double *timesteps, int ntimesteps,
                         const double *sigmas, int nsigmas, styx_error *err)
{
    float *t = malloc(((size_t)ntimesteps + 1) * sizeof *t);
    float *sigma = nsigmas ? malloc((size_t)nsigmas * sizeof *sigma) : NULL;
    if (!t || (nsigmas && !sigma)) {
        free(t);
        free(sigma);
        return fail_nomem(err, (size_t)(ntimesteps + nsigmas) * sizeof *t);
    }
    for (int i = 0; i < ntimesteps; i++)
        t[i] = (float)timesteps[i];
    for (int i = 0; i < nsigmas; i++)
        sigma[i] = (float)sigmas[i];
    free(s->timesteps);
    free(s->sigmas);
    s->timesteps = t;
    s->ntimesteps = ntimesteps;
    s->sigmas = sigma;
    s->nsigmas = nsigmas;
    return STYX_OK;
}

const float *scheduler_timesteps(const struct scheduler *s, int *ntimesteps)
{
    *ntimesteps = s->ntimesteps;
    return s->timesteps;
}

const float *scheduler_sigmas(const struct scheduler *s, int *nsigmas)
{
    *nsigmas = s->nsigmas;
    return s->sigmas;
}

const float *scheduler_alphas_cumprod(const struct scheduler *s)
{
    return s->abar;
}

double scheduler_init_noise_sigma(const struct scheduler *s)
{
    double max = 0;
    if (s->ops->space != SPACE_SIGMA)
        return 1;
    for (int i = 0; i < s->nsigmas; i++) /* gcc 12 for ARM fails on fmax here */
        max = s->sigmas[i] > max ? s->sigmas[i] : max;
    if (!s->sigmas)
        max = s->sigma_table[s->k.num_train_timesteps - 1];
    return s->k.timestep_spacing == SPACING_LEADING ? sqrt(max * max + 1) : max;
}

void scheduler_set_begin_index(struct scheduler *s, int index)
{
    s->begin_index = index;
}

void scheduler_reset(struct scheduler *s)
{
    s->begin_index = s->step_index = -1;
    s->ncalls = s->nhistory = s->last_order = 0;
    s->has_saved = false;
}

/* ---- running ---- */

/* The second place of a timestep that is there twice (order 2), so that a step begins there. A
 * solver in lambda space takes an unknown timestep for the last one. */
static int index_of(const struct scheduler *s, float timestep, int *index, styx_error *err)
{
    int found = 0;
    *index = -1;
    for (int i = 0; i < s->ntimesteps && found < 2; i++) {
        if (s->timesteps[i] == timestep) {
            *index = i;
            found++;
        }
    }
    if (*index < 0 && s->ops->space == SPACE_LAMBDA)
        *index = s->ntimesteps - 1;
    if (*index < 0)
        return fail(err, STYX_ERR_INVALID, "%s: %g is not one of the schedule's timesteps",
                    s->ops->class.name, timestep);
    return STYX_OK;
}

static int find_place(struct scheduler *s, float timestep, styx_error *err)
{
    if (!s->timesteps)
        return fail(err, STYX_ERR_INVALID, "%s: set the timesteps before the first step",
                    s->ops->class.name);
    if (s->step_index < 0) {
        if (s->begin_index >= 0)
            s->step_index = s->begin_index;
        else if (s->ops->by_index) {
            int rc = index_of(s, timestep, &s->step_index, err);
            if (rc)
                return rc;
        }
    }
    if (s->ops->by_index && s->step_index >= s->ntimesteps)
        return fail(err, STYX_ERR_INVALID, "%s: the schedule's %d timesteps are over",
                    s->ops->class.name, s->ntimesteps);
    return STYX_OK;
}

int scheduler_scale_model_input(struct scheduler *s, float *x, size_t n, float timestep,
                                styx_error *err)
{
    if (s->ops->space != SPACE_SIGMA)
        return STYX_OK;
    int rc = find_place(s, timestep, err);
    if (rc)
        return rc;
    double sigma = s->ops->input_sigma ? s->ops->input_sigma(s) : s->sigmas[s->step_index];
    float divisor = (float)sqrt(sigma * sigma + 1);
    for (size_t i = 0; i < n; i++)
        x[i] /= divisor;
    return STYX_OK;
}

/* Makes the arrays for n values a sample. */
static int reserve(struct scheduler *s, size_t n, styx_error *err)
{
    float **buffers[BUFFERS];
    if (n == s->n)
        return STYX_OK;
    if (s->ncalls > 0)
        return fail(err, STYX_ERR_INVALID, "%s: the sample had %zu values before, now it has %zu",
                    s->ops->class.name, s->n, n);
    free(s->memory);
    s->n = 0;
    s->memory =
        n <= SIZE_MAX / (BUFFERS * sizeof(float)) ? calloc(n, BUFFERS * sizeof(float)) : NULL;
    if (!s->memory)
        return fail_nomem(err, n * BUFFERS * sizeof(float));
    s->n = n;
    list_buffers(s, buffers);
    for (int i = 0; i < BUFFERS; i++)
        *buffers[i] = s->memory + (size_t)i * n;
    return STYX_OK;
}

struct step_args scheduler_step_defaults(const struct scheduler *s)
{
    struct step_args args = { 0 };
    args.eta = s->ops->default_eta;
    args.s_tmax = INFINITY;
    args.s_noise = 1;
    return args;
}

int scheduler_step(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    int rc;
    if (!args->sample || !args->model_output || !args->rows || !args->per_row ||
        args->per_row > SIZE_MAX / args->rows)
        return fail(err, STYX_ERR_INVALID, "%s: a step needs a sample and a model output",
                    s->ops->class.name);
    if ((rc = reserve(s, args->rows * args->per_row, err)) ||
        (rc = find_place(s, args->timestep, err)) || (rc = s->ops->step(s, args, err)))
        return rc;
    if (args->pred_original)
        memcpy(args->pred_original, s->x0, s->n * sizeof *s->x0);
    s->ncalls++;
    s->step_index += s->ops->by_index;
    return STYX_OK;
}

static int noise_level(const struct scheduler *s, float timestep, double *alpha, double *sigma,
                       styx_error *err)
{
    int index, rc;
    if (s->ops->space == SPACE_ALPHA) {
        if ((rc = check_timestep(s, timestep, err)))
            return rc;
        *alpha = sqrt(s->abar[(int)timestep]);
        *sigma = sqrt(1 - s->abar[(int)timestep]);
        return STYX_OK;
    }
    if (s->begin_index >= 0)
        index = s->step_index >= 0 ? s->step_index : s->begin_index;
    else if ((rc = index_of(s, timestep, &index, err)))
        return rc;
    if (!s->sigmas || index >= s->nsigmas)
        return fail(err, STYX_ERR_INVALID, "%s: there is no step %d in the schedule",
                    s->ops->class.name, index);
    *sigma = s->sigmas[index];
    *alpha = 1;
    if (s->ops->space == SPACE_LAMBDA) {
        *alpha = 1 / sqrt(*sigma * *sigma + 1);
        *sigma *= *alpha;
    }
    return STYX_OK;
}

int scheduler_add_noise(const struct scheduler *s, float *x, const float *noise,
                        const float *timesteps, size_t rows, size_t per_row, styx_error *err)
{
    for (size_t row = 0; row < rows; row++) {
        double alpha = 1, sigma = 0;
        int rc = noise_level(s, timesteps[row], &alpha, &sigma, err);
        if (rc)
            return rc;
        for (size_t i = row * per_row; i < (row + 1) * per_row; i++)
            x[i] = (float)alpha * x[i] + (float)sigma * noise[i];
    }
    return STYX_OK;
}
