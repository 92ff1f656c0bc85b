/* schedule.c - styx schedule: the timesteps and sigmas of a scheduler. */
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "recipe.h"
#include "say.h"
#include "studio.h"

/* JSON text of the config: --config's file, or the scheduler of the model. */
static int config_text(const struct options *o, char **config)
{
    styx_scheduler *own = NULL;
    styx_model *model = NULL;
    char *text = NULL;
    styx_error err;
    int rc = 0;
    if (o->config) {
        json_error_t where;
        json_t *file = json_load_file(o->config, 0, &where);
        if (!file)
            return complain(EXIT_FAILED, "--config: %s: %s (line %d)", o->config, where.text,
                            where.line);
        *config = json_dumps(file, JSON_COMPACT);
        json_decref(file);
        return *config ? 0 : complain_memory();
    }
    rc = model_of_options(o, &model);
    if (rc == 0 &&
        (styx_model_scheduler(model, &own, &err) || styx_scheduler_config(own, &text, &err)))
        rc = complain_of(&err);
    if (rc == 0) {
        json_t *copy = json_loads(text, 0, NULL);
        *config = json_dumps(copy, JSON_COMPACT);
        json_decref(copy);
    }
    styx_text_free(text);
    styx_scheduler_free(own);
    styx_model_free(model);
    return rc;
}

static json_t *floats(const float *values, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; values && i < count; i++)
        json_array_append_new(list, json_real(values[i]));
    return list;
}

static int print_json(const styx_scheduler *s, const char *config)
{
    size_t nt, ns;
    const float *timesteps = styx_scheduler_timesteps(s, &nt);
    const float *sigmas = styx_scheduler_sigmas(s, &ns);
    json_t *root =
        json_pack("{s:o, s:o, s:f, s:i, s:o}", "timesteps", floats(timesteps, nt), "sigmas",
                  floats(sigmas, ns), "init_noise_sigma", styx_scheduler_init_noise_sigma(s),
                  "order", styx_scheduler_order(s), "config", json_loads(config, 0, NULL));
    /* Nine digits are what a float holds. */
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    if (!text)
        return complain_memory();
    puts(text);
    free(text);
    return 0;
}

static void print_plain(const styx_scheduler *s)
{
    size_t nt, ns;
    const float *timesteps = styx_scheduler_timesteps(s, &nt);
    const float *sigmas = styx_scheduler_sigmas(s, &ns);
    printf("%5s %12s%s\n", "step", "timestep", ns ? "        sigma" : "");
    for (size_t i = 0; i < nt || (ns && i < ns); i++) {
        printf("%5zu", i + 1);
        if (i < nt)
            printf(" %12.6g", (double)timesteps[i]);
        else
            printf(" %12s", "");
        if (i < ns)
            printf(" %12.6g", (double)sigmas[i]);
        putchar('\n');
    }
}

int run_schedule(struct options *o)
{
    styx_scheduler *s = NULL;
    char *config = NULL, *used = NULL;
    styx_error err;
    int rc;
    if (o->model && o->config)
        return complain(EXIT_USAGE, "--model and --config exclude each other");
    rc = config_text(o, &config);
    if (rc == 0 && (styx_scheduler_new(o->sampler, config, NULL, &s, &err) ||
                    styx_scheduler_set_timesteps(s, o->steps ? o->steps : 50, o->timesteps.values,
                                                 o->timesteps.count, o->sigmas.values,
                                                 o->sigmas.count, &err) ||
                    styx_scheduler_config(s, &used, &err)))
        rc = complain_of(&err);
    if (rc == 0 && o->json)
        rc = print_json(s, used);
    else if (rc == 0)
        print_plain(s);
    styx_text_free(used);
    styx_scheduler_free(s);
    free(config);
    return rc;
}
