/* knobs.h - the configuration of a scheduler: diffusers' keys, defaults and from_config rules. */
#ifndef STYX_SAMPLE_KNOBS_H
#define STYX_SAMPLE_KNOBS_H
#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

enum beta_schedule { BETA_LINEAR, BETA_SCALED_LINEAR, BETA_SQUAREDCOS, BETA_SIGMOID, BETA_LAPLACE };
enum prediction { PREDICT_EPSILON, PREDICT_V, PREDICT_SAMPLE };
enum spacing { SPACING_LINSPACE, SPACING_LEADING, SPACING_TRAILING };
enum variance_type { VARIANCE_SMALL, VARIANCE_SMALL_LOG, VARIANCE_LARGE, VARIANCE_LARGE_LOG };
enum algorithm_type { ALGORITHM_PP, ALGORITHM_SDE_PP, ALGORITHM_EPS, ALGORITHM_SDE_EPS };
enum solver_type { SOLVER_MIDPOINT, SOLVER_HEUN, SOLVER_BH1, SOLVER_BH2, SOLVER_LOGRHO };

enum { MAX_TRAIN_TIMESTEPS = 100000, MAX_SOLVER_ORDER = 3, MAX_DISABLED = 64 };

/* One value each; a class reads those that it has. */
struct knobs {
    int num_train_timesteps;
    double beta_start, beta_end;
    enum beta_schedule beta_schedule;
    const json_t *trained_betas; /* a list, or NULL */
    bool rescale_betas_zero_snr;

    enum prediction prediction_type;
    enum spacing timestep_spacing;
    int steps_offset;
    bool skip_prk_steps, set_alpha_to_one;
    bool clip_sample, thresholding;
    double clip_sample_range, dynamic_thresholding_ratio, sample_max_value;
    enum variance_type variance_type;

    bool use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas, use_lu_lambdas;
    double sigma_min, sigma_max; /* NaN: as the schedule has it */
    bool log_linear;             /* interpolation_type */
    bool continuous;             /* timestep_type */
    bool final_sigma_min;        /* final_sigmas_type */
    double lambda_min_clipped;

    int solver_order;
    enum algorithm_type algorithm_type;
    enum solver_type solver_type;
    bool lower_order_final, euler_at_final, predict_x0;
    int disable_corrector[MAX_DISABLED], ndisabled;

    int original_inference_steps;
    double timestep_scaling;
};

/* A knob of a class with its default. */
enum knob_kind { KNOB_NULL, KNOB_BOOL, KNOB_INT, KNOB_REAL, KNOB_TEXT, KNOB_LIST };
struct knob_default {
    const char *name;
    enum knob_kind kind;
    double number;
    const char *text;
};
/* clang-format off */
#define NULL_KNOB(name) { name, KNOB_NULL, 0, NULL }
#define BOOL_KNOB(name, value) { name, KNOB_BOOL, value, NULL }
#define INT_KNOB(name, value) { name, KNOB_INT, value, NULL }
#define REAL_KNOB(name, value) { name, KNOB_REAL, value, NULL }
#define TEXT_KNOB(name, value) { name, KNOB_TEXT, 0, value }
#define LIST_KNOB(name) { name, KNOB_LIST, 0, NULL } /* empty */
#define LAST_KNOB { NULL, KNOB_NULL, 0, NULL }
/* clang-format on */

/* Groups that many classes share. */
#define BETA_KNOBS(start, end, schedule)                                                           \
    INT_KNOB("num_train_timesteps", 1000), REAL_KNOB("beta_start", start),                         \
        REAL_KNOB("beta_end", end), TEXT_KNOB("beta_schedule", schedule),                          \
        NULL_KNOB("trained_betas")
#define SPACING_KNOBS(spacing) TEXT_KNOB("timestep_spacing", spacing), INT_KNOB("steps_offset", 0)
#define PREDICTION_KNOB TEXT_KNOB("prediction_type", "epsilon")
#define SIGMA_KNOBS                                                                                \
    BOOL_KNOB("use_karras_sigmas", false), BOOL_KNOB("use_exponential_sigmas", false),             \
        BOOL_KNOB("use_beta_sigmas", false)
#define THRESHOLD_KNOBS                                                                            \
    BOOL_KNOB("thresholding", false), REAL_KNOB("dynamic_thresholding_ratio", 0.995),              \
        REAL_KNOB("sample_max_value", 1)
/* Flow matching: the keys are there; other values than these are refused. */
#define FLOW_KNOBS                                                                                 \
    BOOL_KNOB("use_flow_sigmas", false), REAL_KNOB("flow_shift", 1),                               \
        BOOL_KNOB("use_dynamic_shifting", false), TEXT_KNOB("time_shift_type", "exponential")

/* A value of another class's knob that this class takes to mean one of its own. */
struct knob_alias {
    const char *name, *from, *to;
};

struct knob_class {
    const char *name;
    const struct knob_default *defaults; /* ended by LAST_KNOB */
    const struct knob_alias *aliases;    /* ended by one without a name; may be NULL */
};

/* CLASS.from_config(config, **overrides): the whole configuration, yours to json_decref. */
int knobs_from_config(const struct knob_class *class, const json_t *config, const json_t *overrides,
                      json_t **full, styx_error *err);

/* Reads the class's knobs out of a whole configuration; trained_betas stays borrowed from it. */
int knobs_read(const struct knob_class *class, const json_t *full, struct knobs *k,
               styx_error *err);

#endif
