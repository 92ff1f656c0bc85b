/* sampler.h - what a class of schedulers is made of; scheduler.c drives it.
 *
 * A new sampler is one file with a struct sampler_ops, listed in scheduler.c. Its step() is a few
 * lines of arithmetic on a struct scheduler, whose history the helpers below keep. */
#ifndef STYX_SAMPLE_SAMPLER_H
#define STYX_SAMPLE_SAMPLER_H
#include "sample/knobs.h"
#include "sample/scheduler.h"

/* How the sample relates to the picture x0, for noise level t:
 * ALPHA: sqrt(abar) x0 + sqrt(1 - abar) noise, by timestep (DDIM...);
 * SIGMA: x0 + sigma noise, scaled for the model (k-diffusion);
 * LAMBDA: alpha x0 + alpha sigma noise with alpha = 1 / sqrt(sigma^2 + 1) (DPM++...). */
enum sample_space { SPACE_ALPHA, SPACE_SIGMA, SPACE_LAMBDA };

struct sampler_ops {
    struct knob_class class;
    enum sample_space space;
    int order;
    double default_eta;
    bool by_index; /* steps count along the list; else the timestep alone decides */
    bool custom_timesteps, custom_sigmas; /* set_timesteps takes them */
    bool predicts_sample;                 /* prediction_type "sample" is possible */
    bool keeps_last_snr; /* with rescale_betas_zero_snr, the last abar stays 2^-24, not 0 */
    /* More that a configuration must fulfil; may be NULL. */
    int (*check)(const struct scheduler *s, styx_error *err);
    /* Fills timesteps and, but for SPACE_ALPHA, sigmas. */
    int (*schedule)(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                    styx_error *err);
    int (*step)(struct scheduler *s, const struct step_args *args, styx_error *err);
    /* The sigma that the model's input has now; NULL: that of the current step. */
    double (*input_sigma)(const struct scheduler *s);
};

enum { HISTORY = 4, BUFFERS = HISTORY + 5 };

struct scheduler {
    const struct sampler_ops *ops;
    json_t *config;
    struct knobs k;
    float *abar, *sigma_table, *log_sigma_table; /* k.num_train_timesteps each, one allocation */

    /* The schedule. */
    float *timesteps, *sigmas;
    int ntimesteps, nsigmas, nsteps;

    /* Where we are. */
    int begin_index, step_index; /* -1: not known yet */
    int ncalls;                  /* steps done */
    int nhistory;                /* outputs in history, newest first */
    bool has_saved;
    int last_order;

    /* Arrays of n values, one allocation: history[0..3], then the named ones in this order. */
    size_t n;
    float *memory;
    float *history[HISTORY];
    float *saved;            /* the sample at the start of a group of steps */
    float *sum;              /* a running sum of outputs */
    float *x0, *eps, *noise; /* scratch within a step */
};

/* ---- for ops->schedule ---- */

/* Room for a list of ntimesteps and nsigmas (0: none), which become the schedule. */
int sampler_set_schedule(struct scheduler *s, const double *timesteps, int ntimesteps,
                         const double *sigmas, int nsigmas, styx_error *err);

/* Where the sampler goes in sigma space: n timesteps and nsigmas sigmas, the last ones where to
 * end. Both lie in one allocation: free(list.t). */
struct sigma_list {
    double *t, *sigma;
    int n, nsigmas;
};
/* The list as it is. */
int sigma_space_schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                         styx_error *err);

/* Two calls a step: timesteps t0, u0, t1, u1, ..., and sigmas s0, s1, s1, ..., with the last one
 * `ends` times. second: where the second call of a step is. */
struct call_pairs {
    double (*second)(const struct scheduler *s, const struct sigma_list *list, int step);
    int ends;
    bool whole; /* timesteps of Karras sigmas are rounded */
};
int call_pairs_schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                        struct call_pairs pairs, styx_error *err);

/* What the solvers in lambda space do differently. */
struct lambda_rules {
    bool ends_above_zero;        /* at the least sigma, whatever the configuration says */
    bool reshaped_end;           /* ... which is the list's own if the list was reshaped */
    bool cosine_keeps_fractions; /* Karras and Lu timesteps of squaredcos models are cut off */
};
int lambda_space_schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                          struct lambda_rules rules, styx_error *err);

/* DDIM's and DDPM's: whole timesteps, no sigmas; and the caller's own ones. */
int alpha_space_schedule(struct scheduler *s, int nsteps, const struct schedule_request *custom,
                         styx_error *err);
int alpha_space_custom(struct scheduler *s, const struct schedule_request *custom, styx_error *err);
/* More steps than the model has timesteps? Only some classes mind. */
int check_steps_fit(const struct scheduler *s, int nsteps, styx_error *err);

/* ---- for ops->step: arithmetic on s->n values ---- */

struct term {
    double factor;
    const float *values;
};
/* out = sum of factor * values, in float and in this order, so that it rounds as torch does; out
 * may be one of the values. */
void combine(const struct scheduler *s, float *out, int nterms, const struct term *terms);
#define COMBINE(s, out, ...)                                                                       \
    combine(s, out, (int)(sizeof((struct term[]){ __VA_ARGS__ }) / sizeof(struct term)),           \
            (struct term[]){ __VA_ARGS__ })

/* x0 and noise that a model output stands for, of a sample alpha x0 + sigma noise. */
void predict_x0(const struct scheduler *s, double alpha, double sigma, const float *sample,
                const float *output, float *x0);
void predict_eps(const struct scheduler *s, double alpha, double sigma, const float *sample,
                 const float *output, float *eps);
/* x0 of a sample x0 + sigma noise. */
void predict_x0_sigma(const struct scheduler *s, double sigma, const float *sample,
                      const float *output, float *x0);
/* (sample - x0) / sigma: dx / dsigma. */
void slope_of(const struct scheduler *s, double sigma, const float *sample, const float *x0,
              float *slope);
/* Dynamic thresholding (Saharia et al. 2022, "Imagen", section 2.3) or clipping, as configured. */
void limit_x0(const struct scheduler *s, const struct step_args *args, float *x0);

/* s->noise = fresh normals. f32 as in struct noise_source. */
int draw_noise(struct scheduler *s, const struct step_args *args, bool f32, styx_error *err);

/* A slot for the newest output, which becomes history[0]. */
float *push_history(struct scheduler *s);

/* A timestep from the caller must be within the model's; then abar there. t < 0: the final abar. */
int check_timestep(const struct scheduler *s, double t, styx_error *err);
float alpha_at(const struct scheduler *s, int t);

/* alpha = 1 / sqrt(sigma^2 + 1) and alpha * sigma of the i-th sigma, and the log of their ratio. */
struct level {
    double sigma, alpha, lambda;
};
struct level level_at(const struct scheduler *s, int i);

extern const struct sampler_ops pndm_ops, ddim_ops, ddpm_ops, euler_ops, euler_ancestral_ops,
    heun_ops, dpm2_ops, dpm2_ancestral_ops, lms_ops, dpmpp_ops, dpmpp_single_ops, dpmpp_sde_ops,
    unipc_ops, deis_ops, lcm_ops, tcd_ops;

#endif
