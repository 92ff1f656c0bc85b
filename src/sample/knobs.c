#include "sample/knobs.h"

#include <math.h>
#include <string.h>

#include "base/json.h"

static bool knobs_have(const struct knob_class *class, const char *name)
{
    for (const struct knob_default *knob = class->defaults; knob->name; knob++) {
        if (!strcmp(knob->name, name))
            return true;
    }
    return false;
}

/* ---- from_config ---- */

static json_t *default_value(const struct knob_default *knob)
{
    switch (knob->kind) {
    case KNOB_BOOL:
        return json_boolean(knob->number != 0);
    case KNOB_INT:
        return json_integer((json_int_t)knob->number);
    case KNOB_REAL: /* JSON has no infinity: base/json.h reads a number this large as one */
        return json_real(isinf(knob->number) ? copysign(1e308, knob->number) : knob->number);
    case KNOB_TEXT:
        return json_string(knob->text);
    case KNOB_LIST:
        return json_array();
    case KNOB_NULL:
        break;
    }
    return json_null();
}

static bool lists(const json_t *array, const char *name)
{
    size_t i;
    const json_t *entry;
    json_array_foreach((json_t *)array, i, entry)
    {
        if (json_is_string(entry) && !strcmp(json_string_value(entry), name))
            return true;
    }
    return false;
}

/* The keys that the config's writer really set: without those that hold another class's default. */
static int keep_set_values(const json_t *config, json_t *full)
{
    const json_t *defaulted = json_object_get(config, "_use_default_values");
    const char *key;
    json_t *value;
    int rc = 0;
    json_object_foreach((json_t *)config, key, value)
    {
        if (strcmp(key, "_use_default_values") && !lists(defaulted, key))
            rc |= json_object_set(full, key, value);
    }
    return rc;
}

static int translate(const struct knob_alias *alias, json_t *full)
{
    int rc = 0;
    for (; alias && alias->name; alias++) {
        const char *text = json_string_value(json_object_get(full, alias->name));
        if (text && !strcmp(text, alias->from))
            rc |= json_object_set_new(full, alias->name, json_string(alias->to));
    }
    return rc;
}

int knobs_from_config(const struct knob_class *class, const json_t *config, const json_t *overrides,
                      json_t **full, styx_error *err)
{
    json_t *all = json_object(), *defaulted = json_array(), *value;
    const char *key;
    int failed = !all || !defaulted, rc = STYX_OK;

    *full = NULL;
    if (!failed && config)
        failed = keep_set_values(config, all);
    json_object_foreach((json_t *)overrides, key, value)
    {
        if (!knobs_have(class, key)) {
            rc = fail(err, STYX_ERR_INVALID, "%s has no setting '%s'", class->name, key);
            goto done;
        }
        failed |= json_object_set(all, key, value);
    }
    for (const struct knob_default *knob = class->defaults; knob->name && !failed; knob++) {
        if (json_object_get(all, knob->name))
            continue;
        failed |= json_object_set_new(all, knob->name, default_value(knob));
        failed |= json_array_append_new(defaulted, json_string(knob->name));
    }
    failed |= translate(class->aliases, all);
    failed |= json_object_set(all, "_use_default_values", defaulted);
    failed |= json_object_set_new(all, "_class_name", json_string(class->name));
    if (failed) {
        rc = fail_nomem(err, sizeof *all);
        goto done;
    }
    *full = json_incref(all);
done:
    json_decref(all);
    json_decref(defaulted);
    return rc;
}

/* ---- reading ---- */

/* Where a message says the trouble is, and what went wrong first. */
struct reader {
    const json_t *full;
    const char *where;
    styx_error *err;
    int rc;
};

static int int_of(struct reader *r, const char *key, int fallback, int min, int max)
{
    int out = fallback;
    if (!r->rc)
        r->rc = json_int(r->full, r->where, key, fallback, min, max, &out, r->err);
    return out;
}

static double real_of(struct reader *r, const char *key, double fallback, double min, double max)
{
    double out = fallback;
    if (!r->rc && json_has(r->full, key))
        r->rc = json_double(r->full, r->where, key, fallback, min, max, &out, r->err);
    return out;
}

static bool bool_of(struct reader *r, const char *key, bool fallback)
{
    bool out = fallback;
    if (!r->rc)
        r->rc = json_bool(r->full, r->where, key, fallback, &out, r->err);
    return out;
}

/* names ends with NULL; the first is the fallback. */
static int choice_of(struct reader *r, const char *key, const char *const *names)
{
    int out = 0, n = 0;
    while (names[n])
        n++;
    if (!r->rc)
        r->rc = json_choice(r->full, r->where, key, names, n, 0, &out, r->err);
    return out;
}

#define CHOICES(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void read_diffusion(struct reader *r, struct knobs *k)
{
    int prediction;
    k->num_train_timesteps = int_of(r, "num_train_timesteps", 1000, 2, MAX_TRAIN_TIMESTEPS);
    k->beta_start = real_of(r, "beta_start", 0.0001, 0, 1);
    k->beta_end = real_of(r, "beta_end", 0.02, 0, 1);
    k->beta_schedule = (enum beta_schedule)choice_of(
        r, "beta_schedule",
        CHOICES("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"));
    k->trained_betas =
        json_has(r->full, "trained_betas") ? json_object_get(r->full, "trained_betas") : NULL;
    k->rescale_betas_zero_snr = bool_of(r, "rescale_betas_zero_snr", false);
    prediction = choice_of(r, "prediction_type",
                           CHOICES("epsilon", "v_prediction", "sample", "original_sample"));
    k->prediction_type = (enum prediction)(prediction == 3 ? PREDICT_SAMPLE : prediction);
    k->timestep_spacing =
        (enum spacing)choice_of(r, "timestep_spacing", CHOICES("linspace", "leading", "trailing"));
    k->steps_offset = int_of(r, "steps_offset", 0, 0, MAX_TRAIN_TIMESTEPS);
}

static void read_alpha_space(struct reader *r, struct knobs *k)
{
    k->skip_prk_steps = bool_of(r, "skip_prk_steps", false);
    k->set_alpha_to_one = bool_of(r, "set_alpha_to_one", true);
    k->clip_sample = bool_of(r, "clip_sample", false);
    k->clip_sample_range = real_of(r, "clip_sample_range", 1, 0, INFINITY);
    k->thresholding = bool_of(r, "thresholding", false);
    k->dynamic_thresholding_ratio = real_of(r, "dynamic_thresholding_ratio", 0.995, 0, 1);
    k->sample_max_value = real_of(r, "sample_max_value", 1, 0, INFINITY);
    k->original_inference_steps = int_of(r, "original_inference_steps", 50, 1, MAX_TRAIN_TIMESTEPS);
    k->timestep_scaling = real_of(r, "timestep_scaling", 10, -INFINITY, INFINITY);
}

static void read_sigmas(struct reader *r, struct knobs *k)
{
    k->use_karras_sigmas = bool_of(r, "use_karras_sigmas", false);
    k->use_exponential_sigmas = bool_of(r, "use_exponential_sigmas", false);
    k->use_beta_sigmas = bool_of(r, "use_beta_sigmas", false);
    k->use_lu_lambdas = bool_of(r, "use_lu_lambdas", false);
    k->sigma_min = real_of(r, "sigma_min", NAN, 0, INFINITY);
    k->sigma_max = real_of(r, "sigma_max", NAN, 0, INFINITY);
    k->log_linear = choice_of(r, "interpolation_type", CHOICES("linear", "log_linear"));
    k->continuous = choice_of(r, "timestep_type", CHOICES("discrete", "continuous"));
    k->final_sigma_min = choice_of(r, "final_sigmas_type", CHOICES("zero", "sigma_min"));
    k->lambda_min_clipped = real_of(r, "lambda_min_clipped", -INFINITY, -INFINITY, INFINITY);
    if (!r->rc && k->use_karras_sigmas + k->use_exponential_sigmas + k->use_beta_sigmas > 1)
        r->rc = fail(r->err, STYX_ERR_INVALID,
                     "%s: only one of use_karras_sigmas, use_exponential_sigmas and "
                     "use_beta_sigmas can be true",
                     r->where);
}

static void read_solver(struct reader *r, struct knobs *k)
{
    k->solver_order = int_of(r, "solver_order", 2, 1, MAX_SOLVER_ORDER);
    k->lower_order_final = bool_of(r, "lower_order_final", true);
    k->euler_at_final = bool_of(r, "euler_at_final", false);
    k->predict_x0 = bool_of(r, "predict_x0", true);
    if (!r->rc)
        r->rc = json_ints(r->full, r->where, "disable_corrector", 0, MAX_TRAIN_TIMESTEPS,
                          k->disable_corrector, MAX_DISABLED, &k->ndisabled, r->err);
}

/* What another class calls its own was translated before (struct knob_alias). */
static void read_solver_types(struct reader *r, struct knobs *k)
{
    static const char *const algorithms[] = { "dpmsolver++", "sde-dpmsolver++",
                                              "dpmsolver",   "sde-dpmsolver",
                                              "deis",        NULL };
    static const char *const solvers[] = { "midpoint", "heun", "bh1", "bh2", "logrho", NULL };
    int algorithm = choice_of(r, "algorithm_type", algorithms);
    k->algorithm_type = (enum algorithm_type)(algorithm == 4 ? ALGORITHM_PP : algorithm);
    k->solver_type = (enum solver_type)choice_of(r, "solver_type", solvers);
}

/* Values of knobs that would need code which is not here. */
static void refuse_unsupported(struct reader *r)
{
    static const char *const off[] = { "use_flow_sigmas", "use_dynamic_shifting" };
    static const char *const absent[] = { "solver_p", "shift_terminal" };
    for (int i = 0; i < 2 && !r->rc; i++) {
        if (bool_of(r, off[i], false))
            r->rc = fail(r->err, STYX_ERR_UNSUPPORTED, "%s: '%s' (flow matching) is not supported",
                         r->where, off[i]);
    }
    for (int i = 0; i < 2 && !r->rc; i++) {
        if (json_has(r->full, absent[i]))
            r->rc = fail(r->err, STYX_ERR_UNSUPPORTED, "%s: '%s' is not supported", r->where,
                         absent[i]);
    }
}

static void read_variance(struct reader *r, struct knobs *k)
{
    k->variance_type = (enum variance_type)choice_of(
        r, "variance_type",
        CHOICES("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"));
}

/* The class's own keys. Others in the configuration are another class's and mean nothing here, but
 * for the two that diffusers' schedules look up wherever they come from. */
static json_t *own_knobs(const struct knob_class *class, const json_t *full)
{
    json_t *own = json_object(), *value;
    const char *key;
    int rc = 0;
    json_object_foreach((json_t *)full, key, value)
    {
        if (knobs_have(class, key) || !strcmp(key, "sigma_min") || !strcmp(key, "sigma_max"))
            rc |= json_object_set(own, key, value);
    }
    if (rc) {
        json_decref(own);
        return NULL;
    }
    return own;
}

int knobs_read(const struct knob_class *class, const json_t *full, struct knobs *k, styx_error *err)
{
    json_t *own = own_knobs(class, full);
    struct reader r = { own, class->name, err, STYX_OK };
    memset(k, 0, sizeof *k);
    if (!own)
        return fail_nomem(err, sizeof *own);
    refuse_unsupported(&r);
    read_diffusion(&r, k);
    read_alpha_space(&r, k);
    read_sigmas(&r, k);
    read_solver(&r, k);
    read_solver_types(&r, k);
    read_variance(&r, k);
    json_decref(own); /* trained_betas stays alive in full */
    return r.rc;
}
