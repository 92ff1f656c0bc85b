/* scheduler.h - the samplers of diffusers, under its names and with its numbers.
 *
 * A scheduler turns noise into a picture's latents, one model call at a time:
 *
 *     scheduler_new(NULL, config, &s, err);                   the file scheduler_config.json
 *     scheduler_set_timesteps(s, 25, NULL, err);
 *     x *= scheduler_init_noise_sigma(s);                     x ~ N(0, 1)
 *     for (int i = 0; i < ntimesteps; i++) {
 *         input = copy of x;
 *         scheduler_scale_model_input(s, input, n, timesteps[i], err);
 *         struct step_args args = scheduler_step_defaults(s);
 *         args.model_output = unet(input, timesteps[i]); args.timestep = timesteps[i];
 *         args.sample = x; args.rows = 1; args.per_row = n; args.noise = ...;
 *         scheduler_step(s, &args, err);                      x is now at the next timestep
 *     }
 *
 * Arrays are f32 and any memory layout will do: every operation is elementwise, except dynamic
 * thresholding, which looks at each row (picture) by itself. One thread at a time per scheduler. */
#ifndef STYX_SAMPLE_SCHEDULER_H
#define STYX_SAMPLE_SCHEDULER_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct scheduler;

/* diffusers' CLASS.from_config(config). class_name may be NULL: config's "_class_name" then says
 * it. Keys that the class does not have are carried along in its config and ignored; keys listed in
 * config's "_use_default_values" are dropped, so that CLASS's own default holds. config may be NULL
 * (all defaults) if class_name is given. */
int scheduler_new(const char *class_name, const json_t *config, struct scheduler **out,
                  styx_error *err);
/* The same with overrides on top: CLASS.from_config(config, **overrides). overrides may be NULL;
 * a key in it that the class does not have is an error. */
int scheduler_new_with(const char *class_name, const json_t *config, const json_t *overrides,
                       struct scheduler **out, styx_error *err);
/* A short name as people write it ("euler a", "dpm++ 2m sde karras", "DPMPP_2M", a class name), on
 * the model's own config (or NULL). An unknown name is an error that lists the known ones. */
int scheduler_by_name(const char *name, const json_t *config, struct scheduler **out,
                      styx_error *err);
/* A deep copy, history included. */
int scheduler_clone(const struct scheduler *s, struct scheduler **out, styx_error *err);
void scheduler_free(struct scheduler *s); /* NULL is fine */

/* What the constructor of diffusers' StableDiffusionPipeline (SD 1.x and 2.x, not SDXL) does to the
 * scheduler it is given: steps_offset becomes 1 and clip_sample false where the config has them. */
int scheduler_fix_for_sd(struct scheduler *s, styx_error *err);

struct sampler_name {
    const char *name;       /* "dpm++ 2m sde" */
    const char *class_name; /* "DPMSolverMultistepScheduler" */
    const char *knobs;      /* the overrides it stands for, as JSON text, or NULL */
};
/* The short names; " karras", " exponential", " beta" and " lu" may follow where the class can. */
const struct sampler_name *scheduler_names(size_t *nnames);
/* The class names that scheduler_new knows, ended by NULL. */
const char *const *scheduler_class_names(void);

/* ---- what it is ---- */
/* Every knob with its value, "_class_name" and "_use_default_values": what save_config would write
 * and the next from_config should read. Borrowed. */
const json_t *scheduler_config(const struct scheduler *s);
int scheduler_order(const struct scheduler *s); /* model calls per step: 1 or 2 */
int scheduler_num_train_timesteps(const struct scheduler *s);

/* ---- the schedule ---- */
struct schedule_request { /* at most one of the two */
    const double *timesteps;
    int ntimesteps;
    const double *sigmas; /* with the final one (usually 0), as diffusers wants it */
    int nsigmas;
};
/* Makes the schedule and forgets the history and the begin index. custom may be NULL; with custom
 * values nsteps is ignored. What diffusers refuses is STYX_ERR_INVALID with the reason. */
int scheduler_set_timesteps(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                            styx_error *err);
/* Borrowed until the next set_timesteps. Alpha-space classes (DDIM...) have no sigmas: NULL, 0. */
const float *scheduler_timesteps(const struct scheduler *s, int *ntimesteps);
const float *scheduler_sigmas(const struct scheduler *s, int *nsigmas);
/* Cumulative products of alpha, num_train_timesteps of them. */
const float *scheduler_alphas_cumprod(const struct scheduler *s);
double scheduler_init_noise_sigma(const struct scheduler *s);

/* Where in the schedule the first step is (image to image starts late). Without it the first
 * timestep handed in is looked up in the list. */
void scheduler_set_begin_index(struct scheduler *s, int index);
/* Back to the first step of the same schedule: history and begin index are forgotten. */
void scheduler_reset(struct scheduler *s);

/* ---- running ---- */
struct noise_source {
    /* n independent normals. diffusers draws them in the model's type, except where f32 is true.
     * Returns a styx_status. */
    int (*normal)(void *user, bool f32, float *out, size_t n, styx_error *err);
    /* DPMSolverSDE only: the increment of a Brownian motion from sigma `from` to sigma `to`, over
     * sqrt(|to - from|). NULL: made out of normal(). */
    int (*brownian)(void *user, double from, double to, float *out, size_t n, styx_error *err);
    void *user;
};

struct step_args {
    const float *model_output;
    float timestep;
    float *sample; /* in: at timestep; out: at the next one */
    size_t rows, per_row;
    struct noise_source noise; /* may be empty for a step that draws none */
    float *pred_original;      /* gets what the sample will become (x0), or NULL */
    /* The optional arguments of diffusers' step() of DDIM and TCD; DDIM; Euler and Heun. */
    double eta;
    bool use_clipped_model_output;
    double s_churn, s_tmin, s_tmax, s_noise;
};
/* All zero, except the options: they get the defaults of diffusers' step(). (Its pipelines always
 * pass an eta, 0 if the user gave none: do the same.) */
struct step_args scheduler_step_defaults(const struct scheduler *s);

/* In place; to be called before every step, as in diffusers, though most classes do nothing. */
int scheduler_scale_model_input(struct scheduler *s, float *x, size_t n, float timestep,
                                styx_error *err);
int scheduler_step(struct scheduler *s, const struct step_args *args, styx_error *err);
/* x (rows x per_row) becomes x with noise as of timesteps[row]. */
int scheduler_add_noise(const struct scheduler *s, float *x, const float *noise,
                        const float *timesteps, size_t rows, size_t per_row, styx_error *err);

#endif
