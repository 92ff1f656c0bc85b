/* schedulers.c - the public face of sample/scheduler.h. */
#include "engine/job.h"
#include <stdlib.h>

static int wrap(struct scheduler *s, styx_scheduler **out, styx_error *err)
{
    styx_scheduler *made = malloc(sizeof *made);
    if (!made) {
        scheduler_free(s);
        return fail_nomem(err, sizeof *made);
    }
    made->s = s;
    *out = made;
    return 0;
}

static bool is_class(const char *name)
{
    for (const char *const *c = scheduler_class_names(); *c; c++)
        if (strcmp(*c, name) == 0)
            return true;
    return false;
}

int styx_scheduler_new(const char *name, const char *config, const char *overrides,
                       styx_scheduler **scheduler, styx_error *err)
{
    json_t *c = NULL, *o = NULL;
    struct scheduler *s = NULL;
    int code = 0;
    if (config)
        code = json_bytes(config, strlen(config), "the scheduler config", &c, err);
    if (!code && overrides)
        code = json_bytes(overrides, strlen(overrides), "the scheduler's overrides", &o, err);
    if (code)
        goto done;
    if (!name || is_class(name)) {
        code = scheduler_new_with(name, c, o, &s, err);
    } else {
        code = scheduler_by_name(name, c, &s, err);
        if (!code && o) { /* the short name's knobs, then the caller's */
            struct scheduler *with = NULL;
            code = scheduler_new_with(NULL, scheduler_config(s), o, &with, err);
            scheduler_free(s);
            s = with;
        }
    }
    if (!code)
        code = wrap(s, scheduler, err);
done:
    json_decref(c);
    json_decref(o);
    return code;
}

int styx_model_scheduler(const styx_model *model, styx_scheduler **scheduler, styx_error *err)
{
    struct scheduler *s = NULL;
    const styx_component *c = model->part[SLOT_SCHEDULER];
    if (!c)
        return fail(err, STYX_ERR_INVALID, "%s has no scheduler", model->path);
    int code = scheduler_new(NULL, c->config, &s, err);
    if (!code && model->family == FAMILY_SD)
        code = scheduler_fix_for_sd(s, err);
    if (code) {
        scheduler_free(s);
        return code;
    }
    return wrap(s, scheduler, err);
}

void styx_scheduler_free(styx_scheduler *scheduler)
{
    if (scheduler)
        scheduler_free(scheduler->s);
    free(scheduler);
}

int styx_scheduler_config(const styx_scheduler *scheduler, char **json, styx_error *err)
{
    *json = json_dumps(scheduler_config(scheduler->s), JSON_COMPACT);
    return *json ? 0 : fail_nomem(err, 1024);
}

const char *styx_scheduler_name(size_t i)
{
    size_t n;
    const struct sampler_name *names = scheduler_names(&n);
    return i < n ? names[i].name : NULL;
}

const char *styx_scheduler_class(size_t i)
{
    const char *const *names = scheduler_class_names();
    for (size_t k = 0; k < i && *names; k++)
        names++;
    return *names;
}

int styx_scheduler_set_timesteps(styx_scheduler *scheduler, int steps, const double *timesteps,
                                 size_t timestep_count, const double *sigmas, size_t sigma_count,
                                 styx_error *err)
{
    struct schedule_request custom = { timesteps, (int)timestep_count, sigmas, (int)sigma_count };
    bool given = timestep_count || sigma_count;
    return scheduler_set_timesteps(scheduler->s, steps, given ? &custom : NULL, err);
}

const float *styx_scheduler_timesteps(const styx_scheduler *scheduler, size_t *count)
{
    int n = 0;
    const float *t = scheduler_timesteps(scheduler->s, &n);
    *count = (size_t)n;
    return t;
}

const float *styx_scheduler_sigmas(const styx_scheduler *scheduler, size_t *count)
{
    int n = 0;
    const float *s = scheduler_sigmas(scheduler->s, &n);
    *count = (size_t)n;
    return s;
}

double styx_scheduler_init_noise_sigma(const styx_scheduler *scheduler)
{
    return scheduler_init_noise_sigma(scheduler->s);
}

int styx_scheduler_order(const styx_scheduler *scheduler)
{
    return scheduler_order(scheduler->s);
}

void styx_scheduler_set_begin_index(styx_scheduler *scheduler, int index)
{
    scheduler_set_begin_index(scheduler->s, index);
}

int styx_scheduler_scale_model_input(styx_scheduler *scheduler, float *sample, size_t n,
                                     float timestep, styx_error *err)
{
    return scheduler_scale_model_input(scheduler->s, sample, n, timestep, err);
}

struct draw {
    styx_generator *generator;
    enum styx_dtype dtype;
};

static int draw_normal(void *user, bool f32, float *out, size_t n, styx_error *err)
{
    struct draw *d = user;
    if (!d->generator)
        return fail(err, STYX_ERR_INVALID, "this scheduler draws noise: a generator is wanted");
    return styx_generator_normal(d->generator, f32 ? STYX_F32 : d->dtype, out, n, err);
}

static int draw_increment(void *user, double from, double to, float *out, size_t n, styx_error *err)
{
    (void)from, (void)to;
    return draw_normal(user, false, out, n, err);
}

int styx_scheduler_step(styx_scheduler *scheduler, const float *model_output, float timestep,
                        float *sample, size_t rows, size_t per_row,
                        const struct styx_step_options *options, styx_error *err)
{
    struct styx_step_options o = { .size = sizeof o };
    struct step_args args = scheduler_step_defaults(scheduler->s);
    struct draw draw;
    if (options)
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    draw = (struct draw){ o.generator, o.noise_dtype };
    args.model_output = model_output;
    args.timestep = timestep;
    args.sample = sample;
    args.rows = rows;
    args.per_row = per_row;
    args.noise.normal = draw_normal;
    args.noise.brownian = draw_increment;
    args.noise.user = &draw;
    args.pred_original = o.pred_original;
    args.use_clipped_model_output = o.use_clipped_model_output != 0;
    if (options) {
        args.eta = o.eta;
        args.s_churn = o.s_churn;
        args.s_tmin = o.s_tmin;
        if (o.s_tmax > 0)
            args.s_tmax = o.s_tmax;
        if (o.s_noise > 0)
            args.s_noise = o.s_noise;
    }
    return scheduler_step(scheduler->s, &args, err);
}

int styx_scheduler_add_noise(const styx_scheduler *scheduler, float *sample, const float *noise,
                             const float *timesteps, size_t rows, size_t per_row, styx_error *err)
{
    return scheduler_add_noise(scheduler->s, sample, noise, timesteps, rows, per_row, err);
}
