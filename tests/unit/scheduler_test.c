/* scheduler_test.c - every scheduler against diffusers' own numbers (goldens), from_config's rules,
 * names, and what must be refused. */
#include "sample/scheduler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "goldens.h"
#include "sample/rng.h"

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { ROWS = 4, PER_ROW = 192, N = ROWS * PER_ROW };

static int draw(void *user, bool f32, float *out, size_t n, styx_error *err)
{
    (void)f32;
    (void)err;
    rng_normal(user, DT_F32, out, n);
    return STYX_OK;
}

/* The goldens have plain normals in place of torchsde's tree. */
static int draw_increment(void *user, double from, double to, float *out, size_t n, styx_error *err)
{
    assert_true(from > to);
    return draw(user, true, out, n, err);
}

/* The goldens' dummy model. */
static void dummy_model(const float *x, float t, float *out)
{
    for (int i = 0; i < N; i++)
        out[i] = x[i] * t / (t + 1);
}

/* 0 .. 1, in the order that the goldens' permuted array has. */
static void first_sample(float *x, double scale)
{
    for (int i = 0; i < N; i++) {
        int row = i / PER_ROW, place = i % PER_ROW;
        x[i] = (float)(place * ROWS + row) / N * (float)scale;
    }
}

static bool near(double got, double want)
{
    if (isnan(want))
        return isnan(got);
    return fabs(got - want) <= 1e-4 * fmax(1, fabs(want));
}

/* The numbers of json list `name` (absent is fine). Returns how many differ. */
static int compare_list(const json_t *entry, const char *name, const float *got, int n)
{
    const json_t *list = json_object_get(entry, name), *value;
    size_t i;
    if (!list)
        return 0;
    if (json_array_size(list) != (size_t)n) {
        print_error("%s: %d, wanted %zu\n", name, n, json_array_size(list));
        return 1;
    }
    json_array_foreach((json_t *)list, i, value)
    {
        if (!near(got[i], json_number_value(value))) {
            print_error("%s[%zu]: %.9g, wanted %.9g\n", name, i, got[i], json_number_value(value));
            return 1;
        }
    }
    return 0;
}

/* Every 37th value. 1 if one differs, or if they are missing though they must be there. */
static int compare_values(const struct goldens *g, const json_t *entry, const char *suffix,
                          bool needed, const float *x)
{
    char name[64];
    size_t n = 0;
    int bad = 0;
    snprintf(name, sizeof name, "%s%s", json_string_value(json_object_get(entry, "key")), suffix);
    float *want = goldens_tensor(g, name, &n);
    for (size_t i = 0; i < n && !bad; i++) {
        if (!near(x[i * 37], want[i])) {
            print_error("%s[%zu]: %.9g, wanted %.9g\n", name, i * 37, x[i * 37], want[i]);
            bad = 1;
        }
    }
    free(want);
    return bad || (needed && !want);
}

/* add_noise: the unscaled first sample, noise of seed 1, the middle timestep. */
static int compare_noised(struct scheduler *s, const struct goldens *g, const json_t *entry)
{
    float x[N], noise[N], timesteps[ROWS];
    styx_error err = { 0 };
    struct rng rng;
    int n;
    scheduler_reset(s);
    const float *list = scheduler_timesteps(s, &n);
    for (int row = 0; row < ROWS; row++)
        timesteps[row] = list[n / 2];
    rng_init(&rng, RNG_TORCH_CPU, 1);
    rng_normal(&rng, DT_F32, noise, N);
    first_sample(x, 1);
    if (scheduler_add_noise(s, x, noise, timesteps, ROWS, PER_ROW, &err))
        print_error("%s\n", err.text);
    return err.code || compare_values(g, entry, ".noised", false, x);
}

static int run_loop(struct scheduler *s, const json_t *entry, float *x)
{
    const json_t *knobs = json_object_get(entry, "step_kw");
    const json_t *eta = json_object_get(knobs, "eta");
    float model[N];
    int n;
    const float *timesteps = scheduler_timesteps(s, &n);
    styx_error err = { 0 };
    struct rng rng;
    rng_init(&rng, RNG_TORCH_CPU, 0);
    first_sample(x, scheduler_init_noise_sigma(s));
    for (int i = 0; i < n; i++) {
        struct step_args args = scheduler_step_defaults(s);
        if (scheduler_scale_model_input(s, x, N, timesteps[i], &err))
            break;
        dummy_model(x, timesteps[i], model);
        args.model_output = model;
        args.timestep = timesteps[i];
        args.sample = x;
        args.rows = ROWS;
        args.per_row = PER_ROW;
        args.noise.normal = draw;
        args.noise.brownian = draw_increment;
        args.noise.user = &rng;
        args.use_clipped_model_output =
            json_is_true(json_object_get(knobs, "use_clipped_model_output"));
        if (eta)
            args.eta = json_number_value(eta);
        if (scheduler_step(s, &args, &err))
            break;
    }
    if (err.code)
        print_error("%s\n", err.text);
    return err.code;
}

static int run_entry(const struct goldens *g, const json_t *entry)
{
    struct scheduler *s = NULL;
    styx_error err = { 0 };
    float x[N];
    int n, bad = 0;
    if (scheduler_new(json_string_value(json_object_get(entry, "class")),
                      json_object_get(entry, "config"), &s, &err) ||
        scheduler_set_timesteps(s, (int)json_integer_value(json_object_get(entry, "steps")), NULL,
                                &err)) {
        print_error("%s\n", err.text);
        bad = 1;
    } else {
        const float *list = scheduler_timesteps(s, &n);
        bad |= compare_list(entry, "timesteps", list, n);
        list = scheduler_sigmas(s, &n);
        if (list)
            bad |= compare_list(entry, "sigmas", list, n);
        bad |= !near(scheduler_init_noise_sigma(s),
                     json_number_value(json_object_get(entry, "init_noise_sigma")));
        bad |= scheduler_order(s) != json_integer_value(json_object_get(entry, "order"));
        bad |= run_loop(s, entry, x) || compare_values(g, entry, "", true, x);
        bad |= compare_noised(s, g, entry);
    }
    scheduler_free(s);
    return bad;
}

static void goldens(void **state)
{
    struct goldens g;
    size_t i;
    json_t *entry;
    int bad = 0;
    (void)state;
    assert_int_equal(goldens_open(&g, "schedulers"), 0);
    const json_t *matrix = json_object_get(g.list, "matrix");
    assert_true(json_array_size(matrix) > 100);
    json_array_foreach((json_t *)matrix, i, entry)
    {
        if (run_entry(&g, entry)) {
            char *text = json_dumps(json_object_get(entry, "config"), JSON_COMPACT);
            print_error("-- %s %s %d steps %s\n", json_string_value(json_object_get(entry, "key")),
                        json_string_value(json_object_get(entry, "class")),
                        (int)json_integer_value(json_object_get(entry, "steps")), text);
            free(text);
            bad++;
        }
    }
    print_message("%zu loops, %d differ\n", json_array_size(matrix), bad);
    goldens_close(&g);
    assert_int_equal(bad, 0);
}

/* ---- configurations ---- */

static const char SD15[] =
    "{\"_class_name\": \"PNDMScheduler\", \"_diffusers_version\": \"0.6.0\","
    " \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085,"
    " \"num_train_timesteps\": 1000, \"set_alpha_to_one\": false, \"skip_prk_steps\": true,"
    " \"steps_offset\": 1, \"trained_betas\": null, \"clip_sample\": false}";

/* The scheduler or a failed test; text is JSON or NULL. */
static struct scheduler *make(const char *class_name, const char *text)
{
    struct scheduler *s = NULL;
    styx_error err = { 0 };
    json_t *config = text ? json_loads(text, 0, NULL) : NULL;
    if (text)
        assert_non_null(config);
    if (scheduler_new(class_name, config, &s, &err))
        fail_msg("%s", err.text);
    json_decref(config);
    return s;
}

static void set_steps(struct scheduler *s, int nsteps)
{
    styx_error err = { 0 };
    if (scheduler_set_timesteps(s, nsteps, NULL, &err))
        fail_msg("%s", err.text);
}

static const json_t *knob(const struct scheduler *s, const char *name)
{
    return json_object_get(scheduler_config(s), name);
}

static const char *class_of(const struct scheduler *s)
{
    return json_string_value(knob(s, "_class_name"));
}

static bool defaulted(const struct scheduler *s, const char *name)
{
    const json_t *list = knob(s, "_use_default_values"), *entry;
    size_t i;
    json_array_foreach((json_t *)list, i, entry)
    {
        if (!strcmp(json_string_value(entry), name))
            return true;
    }
    return false;
}

/* What diffusers says of the same chain: Euler takes SD 1.5's betas and offset, but its own
 * spacing; keys that it has not are carried on to the next class. */
static void from_config(void **state)
{
    struct scheduler *pndm = make(NULL, SD15), *euler = NULL, *ddim = NULL;
    styx_error err;
    int n;
    (void)state;
    assert_string_equal(class_of(pndm), "PNDMScheduler");
    assert_string_equal(json_string_value(knob(pndm, "timestep_spacing")), "leading");
    assert_true(defaulted(pndm, "timestep_spacing"));
    assert_false(defaulted(pndm, "steps_offset"));

    assert_int_equal(scheduler_new("EulerDiscreteScheduler", scheduler_config(pndm), &euler, &err),
                     0);
    assert_string_equal(json_string_value(knob(euler, "_class_name")), "EulerDiscreteScheduler");
    assert_string_equal(json_string_value(knob(euler, "timestep_spacing")), "linspace");
    assert_int_equal(json_integer_value(knob(euler, "steps_offset")), 1);
    assert_true(json_is_false(knob(euler, "set_alpha_to_one")));
    assert_true(json_is_null(knob(euler, "sigma_min")));
    set_steps(euler, 10);
    const float *timesteps = scheduler_timesteps(euler, &n);
    assert_int_equal(n, 10);
    assert_true(timesteps[0] == 999 && timesteps[1] == 888 && timesteps[9] == 0);

    assert_int_equal(scheduler_new("DDIMScheduler", scheduler_config(euler), &ddim, &err), 0);
    assert_string_equal(json_string_value(knob(ddim, "timestep_spacing")), "leading");
    assert_true(json_is_false(knob(ddim, "clip_sample")));
    assert_true(json_is_false(knob(ddim, "set_alpha_to_one")));
    assert_null(knob(ddim, "interpolation_type"));
    assert_true(json_is_true(knob(ddim, "skip_prk_steps"))); /* still there for a PNDM */
    scheduler_free(pndm);
    scheduler_free(euler);
    scheduler_free(ddim);
}

static void overrides(void **state)
{
    struct scheduler *s = NULL;
    styx_error err;
    json_t *config = json_loads(SD15, 0, NULL);
    json_t *karras = json_pack("{s:b}", "use_karras_sigmas", 1);
    (void)state;
    assert_int_equal(scheduler_new_with("DPMSolverMultistepScheduler", config, karras, &s, &err),
                     0);
    assert_true(json_is_true(knob(s, "use_karras_sigmas")));
    assert_false(defaulted(s, "use_karras_sigmas"));
    scheduler_free(s);
    assert_int_equal(scheduler_new_with("DDIMScheduler", config, karras, &s, &err),
                     STYX_ERR_INVALID);
    assert_null(s);
    assert_non_null(strstr(err.text, "use_karras_sigmas"));
    json_decref(config);
    json_decref(karras);
}

/* A key of another class has no say, whatever it holds. */
static void foreign_keys_are_ignored(void **state)
{
    struct scheduler *s = make("EulerDiscreteScheduler",
                               "{\"thresholding\": \"?\", \"solver_order\": 77, \"bogus\": [1]}");
    (void)state;
    set_steps(s, 5);
    assert_int_equal(json_integer_value(knob(s, "solver_order")), 77);
    scheduler_free(s);
    /* ... and what another solver calls its own is taken to mean one's own. */
    s = make("DPMSolverMultistepScheduler", "{\"solver_type\": \"bh2\"}");
    assert_string_equal(json_string_value(knob(s, "solver_type")), "midpoint");
    scheduler_free(s);
}

static void fix_for_sd(void **state)
{
    struct scheduler *s = make("DDIMScheduler", NULL);
    styx_error err;
    int n;
    (void)state;
    assert_int_equal(scheduler_fix_for_sd(s, &err), 0);
    assert_int_equal(json_integer_value(knob(s, "steps_offset")), 1);
    assert_true(json_is_false(knob(s, "clip_sample")));
    set_steps(s, 10);
    assert_true(scheduler_timesteps(s, &n)[9] == 1);
    scheduler_free(s);
    s = make("LMSDiscreteScheduler", NULL); /* has no clip_sample, and gets none */
    assert_int_equal(scheduler_fix_for_sd(s, &err), 0);
    assert_null(knob(s, "clip_sample"));
    scheduler_free(s);
}

static void every_class(void **state)
{
    const char *const *name = scheduler_class_names();
    (void)state;
    for (; *name; name++) {
        struct scheduler *s = make(*name, NULL);
        assert_string_equal(class_of(s), *name);
        assert_int_equal(scheduler_num_train_timesteps(s), 1000);
        assert_true(scheduler_init_noise_sigma(s) >= 1);
        scheduler_free(s);
    }
}

static void names(void **state)
{
    static const struct {
        const char *name, *class_name, *knob;
    } cases[] = {
        { "Euler a", "EulerAncestralDiscreteScheduler", NULL },
        { "euler_a", "EulerAncestralDiscreteScheduler", NULL },
        { "DPM++ 2M Karras", "DPMSolverMultistepScheduler", "use_karras_sigmas" },
        { "dpmpp_2m_karras", "DPMSolverMultistepScheduler", "use_karras_sigmas" },
        { "dpm++ 2m lu", "DPMSolverMultistepScheduler", "use_lu_lambdas" },
        { "DPM++ SDE", "DPMSolverSDEScheduler", NULL },
        { "heun exponential", "HeunDiscreteScheduler", "use_exponential_sigmas" },
        { "UniPC beta", "UniPCMultistepScheduler", "use_beta_sigmas" },
        { "DDIMScheduler", "DDIMScheduler", NULL },
        { "DEISMultistep", "DEISMultistepScheduler", NULL },
    };
    struct scheduler *s = NULL;
    styx_error err;
    size_t n;
    json_t *config = json_loads(SD15, 0, NULL);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (scheduler_by_name(cases[i].name, config, &s, &err))
            fail_msg("%s", err.text);
        assert_string_equal(class_of(s), cases[i].class_name);
        assert_true(!cases[i].knob || json_is_true(knob(s, cases[i].knob)));
        scheduler_free(s);
    }
    const struct sampler_name *list = scheduler_names(&n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(scheduler_by_name(list[i].name, NULL, &s, &err), 0);
        assert_string_equal(class_of(s), list[i].class_name);
        set_steps(s, 8);
        scheduler_free(s);
    }
    static const char *const bad[] = { "", "eulr", "karras", "ddim karras", "euler a karras" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(scheduler_by_name(bad[i], config, &s, &err), STYX_ERR_INVALID);
        assert_null(s);
    }
    json_decref(config);
}

/* ---- what must be refused, and which word the message must hold ---- */

static void bad_configurations(void **state)
{
    static const struct {
        const char *class_name, *config, *word;
    } cases[] = {
        { NULL, "{}", "_class_name" },
        { NULL, "{\"_class_name\": 3}", "_class_name" },
        { "FlowMatchEulerDiscreteScheduler", "{}", "FlowMatch" },
        { "EulerDiscreteScheduler", "{\"beta_schedule\": \"sigmoid\"}", "beta_schedule" },
        { "EulerDiscreteScheduler", "{\"beta_schedule\": \"laplace\"}", "beta_schedule" },
        { "EulerDiscreteScheduler", "{\"beta_schedule\": 7}", "beta_schedule" },
        { "EulerDiscreteScheduler", "{\"num_train_timesteps\": 0}", "num_train_timesteps" },
        { "EulerDiscreteScheduler", "{\"num_train_timesteps\": 1e9}", "num_train_timesteps" },
        { "EulerDiscreteScheduler", "{\"num_train_timesteps\": \"x\"}", "num_train_timesteps" },
        { "EulerDiscreteScheduler", "{\"beta_start\": \"x\"}", "beta_start" },
        { "EulerDiscreteScheduler", "{\"beta_end\": -1}", "beta_end" },
        { "EulerDiscreteScheduler", "{\"trained_betas\": [0.1, 0.2]}", "trained_betas" },
        { "EulerDiscreteScheduler", "{\"trained_betas\": 5}", "trained_betas" },
        { "EulerDiscreteScheduler", "{\"trained_betas\": [0.1, \"x\"], \"num_train_timesteps\": 2}",
          "trained_betas" },
        { "EulerDiscreteScheduler", "{\"prediction_type\": \"flow_prediction\"}",
          "prediction_type" },
        { "EulerAncestralDiscreteScheduler", "{\"prediction_type\": \"sample\"}",
          "prediction_type" },
        { "EulerDiscreteScheduler", "{\"timestep_spacing\": \"even\"}", "timestep_spacing" },
        { "EulerDiscreteScheduler", "{\"use_karras_sigmas\": true, \"use_beta_sigmas\": true}",
          "only one" },
        { "EulerDiscreteScheduler", "{\"final_sigmas_type\": \"one\"}", "final_sigmas_type" },
        { "DDPMScheduler", "{\"variance_type\": \"learned_range\"}", "variance_type" },
        { "DDPMScheduler", "{\"variance_type\": \"fixed_large_log\"}", "variance_type" },
        { "DPMSolverMultistepScheduler", "{\"use_flow_sigmas\": true}", "use_flow_sigmas" },
        { "DPMSolverMultistepScheduler", "{\"use_dynamic_shifting\": true}",
          "use_dynamic_shifting" },
        { "DPMSolverMultistepScheduler", "{\"solver_order\": 4}", "solver_order" },
        { "DPMSolverMultistepScheduler", "{\"algorithm_type\": \"dpmsolver\"}", "sigma_min" },
        { "DPMSolverMultistepScheduler", "{\"algorithm_type\": \"euler\"}", "algorithm_type" },
        { "DPMSolverSinglestepScheduler", "{\"algorithm_type\": \"sde-dpmsolver\"}",
          "algorithm_type" },
        { "DEISMultistepScheduler", "{\"algorithm_type\": \"sde-dpmsolver++\"}", "algorithm_type" },
        { "UniPCMultistepScheduler", "{\"solver_p\": {}}", "solver_p" },
        { "UniPCMultistepScheduler", "{\"disable_corrector\": [\"x\"]}", "disable_corrector" },
        { "LCMScheduler", "{\"original_inference_steps\": 2000}", "original_inference_steps" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scheduler *s = NULL;
        styx_error err = { 0 };
        json_t *config = json_loads(cases[i].config, 0, NULL);
        assert_non_null(config);
        int rc = scheduler_new(cases[i].class_name, config, &s, &err);
        if (rc >= 0 || rc != err.code || s || !strstr(err.text, cases[i].word))
            fail_msg("%s: %d %s", cases[i].config, rc, err.text);
        json_decref(config);
    }
}

static void refuse_schedule(const char *class_name, const char *config, int nsteps,
                            struct schedule_request custom, const char *word)
{
    struct scheduler *s = make(class_name, config);
    styx_error err = { 0 };
    int rc = scheduler_set_timesteps(s, nsteps, &custom, &err), n;
    if (rc != STYX_ERR_INVALID || !strstr(err.text, word))
        fail_msg("%s: %d %s", class_name, rc, err.text);
    scheduler_timesteps(s, &n);
    assert_int_equal(n, 0);
    scheduler_free(s);
}

static void bad_schedules(void **state)
{
    static const double falling[] = { 900, 500, 100 }, rising[] = { 100, 500 },
                        high[] = { 1000, 2 }, nan[] = { NAN, 1 }, sigmas[] = { 9, 3, 0 };
    struct schedule_request none = { 0 }, some = { .timesteps = falling, .ntimesteps = 3 };
    struct schedule_request both = { falling, 3, sigmas, 3 };
    (void)state;
    refuse_schedule("EulerDiscreteScheduler", NULL, 0, none, "0 steps");
    refuse_schedule("EulerDiscreteScheduler", NULL, -5, none, "-5 steps");
    refuse_schedule("EulerDiscreteScheduler", NULL, 2000000000, none, "steps");
    refuse_schedule("DDIMScheduler", NULL, 1001, none, "1000");
    refuse_schedule("LCMScheduler", NULL, 51, none, "original_inference_steps");
    refuse_schedule("PNDMScheduler", NULL, 3, none, "skip_prk_steps");
    refuse_schedule("PNDMScheduler", NULL, 0, some, "no custom timesteps");
    refuse_schedule("DDIMScheduler", NULL, 0, some, "no custom timesteps");
    refuse_schedule("EulerDiscreteScheduler", NULL, 0, both, "exclude");
    refuse_schedule("EulerDiscreteScheduler", "{\"use_karras_sigmas\": true}", 0, some, "karras");
    refuse_schedule("DDPMScheduler", NULL, 0,
                    (struct schedule_request){ .timesteps = rising, .ntimesteps = 2 }, "fall");
    refuse_schedule("TCDScheduler", NULL, 0,
                    (struct schedule_request){ .timesteps = high, .ntimesteps = 2 }, "999");
    refuse_schedule("EulerDiscreteScheduler", NULL, 0,
                    (struct schedule_request){ .timesteps = nan, .ntimesteps = 2 }, "nan");
    refuse_schedule("HeunDiscreteScheduler", NULL, 0,
                    (struct schedule_request){ .sigmas = sigmas, .nsigmas = 3 },
                    "no custom sigmas");
    refuse_schedule("EulerDiscreteScheduler", NULL, 0,
                    (struct schedule_request){ .sigmas = sigmas, .nsigmas = 1 }, "two");
}

static void bad_steps(void **state)
{
    struct scheduler *s = make("EulerAncestralDiscreteScheduler", SD15);
    float x[4] = { 1, 2, 3, 4 }, model[4] = { 0 };
    struct step_args args = scheduler_step_defaults(s);
    styx_error err;
    int n;
    (void)state;
    args.sample = x;
    args.model_output = model;
    args.rows = 1;
    args.per_row = 4;
    args.timestep = 999;
    assert_int_equal(scheduler_step(s, &args, &err), STYX_ERR_INVALID); /* no schedule */
    set_steps(s, 2);
    assert_int_equal(scheduler_step(s, &args, &err), STYX_ERR_INVALID); /* no noise source */
    assert_non_null(strstr(err.text, "noise"));
    scheduler_reset(s);
    args.timestep = 998.5f;
    assert_int_equal(scheduler_step(s, &args, &err), STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "998.5"));
    scheduler_free(s);

    s = make("DDIMScheduler", SD15);
    set_steps(s, 2);
    args.timestep = 1000;
    assert_int_equal(scheduler_step(s, &args, &err), STYX_ERR_INVALID);
    args.timestep = scheduler_timesteps(s, &n)[0];
    args.sample = NULL;
    assert_int_equal(scheduler_step(s, &args, &err), STYX_ERR_INVALID);
    args.sample = x;
    assert_int_equal(scheduler_step(s, &args, &err), 0);
    args.per_row = 3; /* the history holds four values */
    assert_int_equal(scheduler_step(s, &args, &err), STYX_ERR_INVALID);
    scheduler_free(s);

    s = make("LMSDiscreteScheduler", SD15); /* one step too many */
    set_steps(s, 1);
    args.per_row = 4;
    args.timestep = scheduler_timesteps(s, &n)[0];
    assert_int_equal(scheduler_step(s, &args, &err), 0);
    assert_int_equal(scheduler_step(s, &args, &err), STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "over"));
    scheduler_free(s);
}

/* ---- schedules ---- */

static void custom_lists(void **state)
{
    static const double timesteps[] = { 900, 500, 100 };
    static const double sigmas[] = { 14.6, 3.5, 0.4, 0 };
    struct schedule_request request = { .timesteps = timesteps, .ntimesteps = 3 };
    struct scheduler *s = make("EulerDiscreteScheduler", SD15);
    styx_error err;
    int n, nsigmas;
    (void)state;
    assert_int_equal(scheduler_set_timesteps(s, 99, &request, &err), 0);
    const float *t = scheduler_timesteps(s, &n), *sigma = scheduler_sigmas(s, &nsigmas);
    const float *abar = scheduler_alphas_cumprod(s);
    assert_int_equal(n, 3);
    assert_int_equal(nsigmas, 4);
    assert_true(t[0] == 900 && t[2] == 100 && sigma[3] == 0);
    assert_true(near(sigma[1], sqrt((1 - abar[500]) / abar[500])));

    request = (struct schedule_request){ .sigmas = sigmas, .nsigmas = 4 };
    assert_int_equal(scheduler_set_timesteps(s, 0, &request, &err), 0);
    t = scheduler_timesteps(s, &n);
    sigma = scheduler_sigmas(s, &nsigmas);
    assert_int_equal(n, 3);
    assert_int_equal(nsigmas, 4);
    for (int i = 0; i < 4; i++)
        assert_true(sigma[i] == (float)sigmas[i]);
    for (int i = 0; i < 3; i++) { /* each timestep is where the model has that sigma */
        int low = (int)t[i];
        double below = sqrt((1 - abar[low]) / abar[low]);
        assert_true(below <= sigmas[i] * 1.0001);
        assert_true(sqrt((1 - abar[low + 1]) / abar[low + 1]) >= sigmas[i] * 0.9999);
    }
    scheduler_free(s);
}

/* The published values of SD's noise schedule. */
static void noise_levels(void **state)
{
    static const struct {
        int t;
        double abar;
    } want[] = { { 0, 0.99914998 },
                 { 1, 0.99829602 },
                 { 500, 0.27633250 },
                 { 993, 0.00500884 },
                 { 999, 0.00466010 } };
    struct scheduler *s = make(NULL, SD15);
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_true(fabs(scheduler_alphas_cumprod(s)[want[i].t] - want[i].abar) < 2e-7);
    scheduler_free(s);
    s = make("DDIMScheduler", "{\"rescale_betas_zero_snr\": true}");
    assert_true(scheduler_alphas_cumprod(s)[999] == 0);
    scheduler_free(s);
    s = make("EulerDiscreteScheduler", "{\"rescale_betas_zero_snr\": true}");
    assert_true(scheduler_alphas_cumprod(s)[999] == 0x1p-24f);
    scheduler_free(s);
    s = make("EulerDiscreteScheduler",
             "{\"num_train_timesteps\": 3, \"trained_betas\": [0.5, 0.5, 1]}");
    assert_true(scheduler_alphas_cumprod(s)[1] == 0.25f);
    scheduler_free(s);
}

/* ---- state ---- */

static int steps_between(struct scheduler *s, float *x, int from, int to, struct rng *rng)
{
    int n, rc = 0;
    float model[N];
    styx_error err = { 0 };
    const float *timesteps = scheduler_timesteps(s, &n);
    for (int i = from; i < to && i < n && !rc; i++) {
        struct step_args args = scheduler_step_defaults(s);
        float input[N];
        memcpy(input, x, sizeof input);
        rc = scheduler_scale_model_input(s, input, N, timesteps[i], &err);
        dummy_model(input, timesteps[i], model);
        args.model_output = model;
        args.timestep = timesteps[i];
        args.sample = x;
        args.rows = ROWS;
        args.per_row = PER_ROW;
        args.noise.normal = draw;
        args.noise.user = rng;
        rc = rc ? rc : scheduler_step(s, &args, &err);
    }
    return rc;
}

/* In the middle of a run: a clone goes on with the same bits, and a reset scheduler starts anew. */
static void clone_and_reset(void **state)
{
    (void)state;
    for (const char *const *name = scheduler_class_names(); *name; name++) {
        struct scheduler *s = make(*name, SD15), *clone = NULL;
        float x[N], y[N], again[N];
        struct rng rng, fork;
        styx_error err;
        set_steps(s, 6);
        rng_init(&rng, RNG_TORCH_CPU, 3);
        first_sample(x, 1);
        assert_int_equal(steps_between(s, x, 0, 3, &rng), 0);
        memcpy(y, x, sizeof y);
        fork = rng;
        assert_int_equal(scheduler_clone(s, &clone, &err), 0);
        assert_int_equal(steps_between(s, x, 3, 99, &rng), 0);
        scheduler_reset(s);
        rng_init(&rng, RNG_TORCH_CPU, 3);
        first_sample(again, 1);
        assert_int_equal(steps_between(s, again, 0, 99, &rng), 0);
        scheduler_free(s);
        assert_int_equal(steps_between(clone, y, 3, 99, &fork), 0);
        assert_memory_equal(x, y, sizeof x);
        assert_memory_equal(x, again, sizeof x);
        scheduler_free(clone);
    }
}

/* A begin index that names the place of the first timestep changes nothing; one that names another
 * place does, for the timestep is not looked up then. */
static void begin_index(void **state)
{
    float x[3][N];
    (void)state;
    for (int k = 0; k < 3; k++) {
        struct scheduler *s = make("DPMSolverMultistepScheduler", SD15);
        set_steps(s, 6);
        if (k > 0)
            scheduler_set_begin_index(s, k == 1 ? 3 : 2);
        first_sample(x[k], 1);
        assert_int_equal(steps_between(s, x[k], 3, 5, NULL), 0);
        scheduler_free(s);
    }
    assert_memory_equal(x[0], x[1], sizeof x[0]);
    assert_memory_not_equal(x[0], x[2], sizeof x[0]);
}

/* ---- DPM++ SDE's own Brownian path ---- */

static int draw_given(void *user, bool f32, float *out, size_t n, styx_error *err)
{
    float **next = user;
    (void)f32;
    (void)err;
    for (size_t i = 0; i < n; i++)
        out[i] = **next;
    ++*next;
    return STYX_OK;
}

/* With x = 0 and a model that always says x0 = 0, a whole step is up * w with w = a z1 + b z2: the
 * first draw's share a of the increment's standard deviation, and a^2 + b^2 = 1. */
static void brownian_path(void **state)
{
    double w[2];
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct scheduler *s = make("DPMSolverSDEScheduler", SD15);
        float draws[2] = { k == 0, k == 1 }, *next = draws, x = 0, model = 0;
        int n;
        set_steps(s, 3);
        const float *sigma = scheduler_sigmas(s, &n), *t = scheduler_timesteps(s, &n);
        double from = sigma[0], to = sigma[1], middle = sqrt(from * to);
        struct step_args args = scheduler_step_defaults(s);
        args.sample = &x;
        args.model_output = &model;
        args.rows = args.per_row = 1;
        args.noise.normal = draw_given;
        args.noise.user = &next;
        args.timestep = t[0];
        assert_int_equal(scheduler_step(s, &args, NULL), 0);
        model = x / (float)middle; /* epsilon of x0 = 0 */
        args.timestep = t[1];
        assert_int_equal(scheduler_step(s, &args, NULL), 0);
        w[k] = x / sqrt(to * to * (from * from - to * to) / (from * from));
        if (k == 0)
            assert_true(near(w[0], sqrt((from - middle) / (from - to))));
        scheduler_free(s);
    }
    assert_true(near(w[0] * w[0] + w[1] * w[1], 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),         cmocka_unit_test(from_config),
        cmocka_unit_test(overrides),       cmocka_unit_test(foreign_keys_are_ignored),
        cmocka_unit_test(fix_for_sd),      cmocka_unit_test(every_class),
        cmocka_unit_test(names),           cmocka_unit_test(bad_configurations),
        cmocka_unit_test(bad_schedules),   cmocka_unit_test(bad_steps),
        cmocka_unit_test(custom_lists),    cmocka_unit_test(noise_levels),
        cmocka_unit_test(clone_and_reset), cmocka_unit_test(begin_index),
        cmocka_unit_test(brownian_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
