/* lcm.c - consistency models: LCM (Luo, Tan, Huang, Li and Zhao 2023, "Latent Consistency Models")
 * and TCD (Zheng et al. 2024, "Trajectory Consistency Distillation"). */
#include <math.h>
#include <stdlib.h>

#include "sample/sampler.h"
#include "sample/schedule.h"

/* The teacher's timesteps k - 1, 2k - 1, ... from above, evenly picked. */
static int schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                    styx_error *err)
{
    int norigin = s->k.original_inference_steps, ntrain = s->k.num_train_timesteps, rc;
    double *t;
    if (custom)
        return alpha_space_custom(s, custom, err);
    if ((rc = check_steps_fit(s, nsteps, err)))
        return rc;
    if (nsteps > norigin)
        return fail(err, STYX_ERR_INVALID,
                    "%s: %d steps are more than the %d (original_inference_steps) it was made of",
                    s->ops->class.name, nsteps, norigin);
    if (!(t = malloc((size_t)nsteps * sizeof *t)))
        return fail_nomem(err, (size_t)nsteps * sizeof *t);
    for (int i = 0; i < nsteps; i++) {
        int place = (int)floor(i * ((double)norigin / nsteps)); /* from above */
        t[i] = (double)(norigin - place) * (ntrain / norigin) - 1;
    }
    rc = sampler_set_schedule(s, t, nsteps, NULL, 0, err);
    free(t);
    return rc;
}

static int check(const struct scheduler *s, styx_error *err)
{
    if (s->k.original_inference_steps <= s->k.num_train_timesteps)
        return STYX_OK;
    return fail(err, STYX_ERR_INVALID,
                "%s: original_inference_steps %d is more than num_train_timesteps %d",
                s->ops->class.name, s->k.original_inference_steps, s->k.num_train_timesteps);
}

/* Algorithm 3: jump to the picture, and unless this is the end put noise on it again. */
static int step_lcm(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    int rc = check_timestep(s, args->timestep, err), i = s->step_index;
    if (rc)
        return rc;
    float a = alpha_at(s, (int)args->timestep);
    double scaled = args->timestep * s->k.timestep_scaling;
    /* The boundary condition f(x, 0) = x, with sigma_data = 1/2 (Song et al. 2023, eq. 5). */
    double skip = 0.25 / (scaled * scaled + 0.25), out = scaled / sqrt(scaled * scaled + 0.25);

    predict_x0(s, sqrtf(a), sqrtf(1 - a), args->sample, args->model_output, s->x0);
    limit_x0(s, args, s->x0);
    COMBINE(s, s->x0, { out, s->x0 }, { skip, args->sample });
    if (i == s->nsteps - 1) {
        COMBINE(s, args->sample, { 1, s->x0 });
        return STYX_OK;
    }
    float ap = i + 1 < s->ntimesteps ? alpha_at(s, (int)s->timesteps[i + 1]) : a;
    if ((rc = draw_noise(s, args, false, err)))
        return rc;
    COMBINE(s, args->sample, { sqrtf(ap), s->x0 }, { sqrtf(1 - ap), s->noise });
    return STYX_OK;
}

/* Strategic stochastic sampling: along the trajectory beyond the next timestep, to
 * (1 - eta) of it, and back up by noise. eta is the paper's gamma. */
static int step_tcd(struct scheduler *s, const struct step_args *args, styx_error *err)
{
    int rc = check_timestep(s, args->timestep, err), i = s->step_index;
    if (rc)
        return rc;
    if (!(args->eta >= 0 && args->eta <= 1))
        return fail(err, STYX_ERR_INVALID, "%s: eta is %g, a value from 0 to 1 was wanted",
                    s->ops->class.name, args->eta);
    int next = i + 1 < s->ntimesteps ? (int)s->timesteps[i + 1] : 0;
    float a = alpha_at(s, (int)args->timestep), ap = alpha_at(s, next);
    float beyond = alpha_at(s, (int)floor((float)(1 - args->eta) * (float)next));

    predict_x0(s, sqrtf(a), sqrtf(1 - a), args->sample, args->model_output, s->x0);
    predict_eps(s, sqrtf(a), sqrtf(1 - a), args->sample, args->model_output, s->eps);
    COMBINE(s, args->sample, { sqrtf(beyond), s->x0 }, { sqrtf(1 - beyond), s->eps });
    if (args->eta > 0 && i != s->nsteps - 1) {
        if ((rc = draw_noise(s, args, false, err)))
            return rc;
        COMBINE(s, args->sample, { sqrtf(ap / beyond), args->sample },
                { sqrtf(1 - ap / beyond), s->noise });
    }
    return STYX_OK;
}

static const struct knob_default knobs[] = {
    BETA_KNOBS(0.00085, 0.012, "scaled_linear"),
    INT_KNOB("original_inference_steps", 50),
    BOOL_KNOB("clip_sample", false),
    REAL_KNOB("clip_sample_range", 1),
    BOOL_KNOB("set_alpha_to_one", true),
    PREDICTION_KNOB,
    THRESHOLD_KNOBS,
    SPACING_KNOBS("leading"),
    REAL_KNOB("timestep_scaling", 10),
    BOOL_KNOB("rescale_betas_zero_snr", false),
    LAST_KNOB,
};

const struct sampler_ops lcm_ops = {
    .class = { "LCMScheduler", knobs, NULL },
    .space = SPACE_ALPHA,
    .order = 1,
    .by_index = true,
    .custom_timesteps = true,
    .predicts_sample = true,
    .check = check,
    .schedule = schedule,
    .step = step_lcm,
};

const struct sampler_ops tcd_ops = {
    .class = { "TCDScheduler", knobs, NULL },
    .space = SPACE_ALPHA,
    .order = 1,
    .default_eta = 0.3,
    .by_index = true,
    .custom_timesteps = true,
    .predicts_sample = true,
    .check = check,
    .schedule = schedule,
    .step = step_tcd,
};
