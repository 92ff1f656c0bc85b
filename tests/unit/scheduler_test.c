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
    json_array_foreach ((json_t *)list, i, value) {
        if (!near(got[i], json_number_value(value))) {
            print_error("%s[%zu]: %.9g, wanted %.9g\n", name, i, got[i], json_number_value(value));
            return 1;
        }
    }
    return 0;
}

static int compare_result(const struct goldens *g, const json_t *entry, const float *x)
{
    const json_t *want_sum = json_object_get(entry, "sum");
    size_t n = 0;
    double sum = 0;
    float *want = goldens_tensor(g, json_string_value(json_object_get(entry, "key")), &n);
    int bad = want == NULL;
    for (int i = 0; i < N; i++)
        sum += fabs(x[i]);
    for (size_t i = 0; i < n && !bad; i++) {
        if (!near(x[i * 37], want[i])) {
            print_error("x[%zu]: %.9g, wanted %.9g\n", i * 37, x[i * 37], want[i]);
            bad = 1;
        }
    }
    if (json_is_number(want_sum) && !near(sum, json_number_value(want_sum))) {
        print_error("sum: %.9g, wanted %.9g\n", sum, json_number_value(want_sum));
        bad = 1;
    }
    free(want);
    return bad;
}

static int run_loop(struct scheduler *s, const json_t *entry, float *x)
{
    const json_t *eta = json_object_get(json_object_get(entry, "step_kw"), "eta");
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
        args.noise.user = &rng;
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
        bad |= run_loop(s, entry, x) || compare_result(g, entry, x);
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
    json_array_foreach ((json_t *)matrix, i, entry) {
        if (run_entry(&g, entry)) {
            char *text = json_dumps(json_object_get(entry, "config"), JSON_COMPACT);
            print_error("-- %s %s %d steps %s\n",
                        json_string_value(json_object_get(entry, "key")),
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
