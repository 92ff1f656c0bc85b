/* names.c - samplers under the names that people give them (those of A1111's interface and of
 * k-diffusion), as a class of diffusers and its settings. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sample/scheduler.h"

static const struct sampler_name NAMES[] = {
    { "euler", "EulerDiscreteScheduler", NULL },
    { "euler a", "EulerAncestralDiscreteScheduler", NULL },
    { "heun", "HeunDiscreteScheduler", NULL },
    { "lms", "LMSDiscreteScheduler", NULL },
    { "dpm2", "KDPM2DiscreteScheduler", NULL },
    { "dpm2 a", "KDPM2AncestralDiscreteScheduler", NULL },
    { "dpm++ 2m", "DPMSolverMultistepScheduler", "{\"algorithm_type\": \"dpmsolver++\"}" },
    { "dpm++ 2m sde", "DPMSolverMultistepScheduler", "{\"algorithm_type\": \"sde-dpmsolver++\"}" },
    { "dpm++ 3m sde", "DPMSolverMultistepScheduler",
      "{\"algorithm_type\": \"sde-dpmsolver++\", \"solver_order\": 3}" },
    { "dpm++ 2s", "DPMSolverSinglestepScheduler", NULL },
    { "dpm++ sde", "DPMSolverSDEScheduler", NULL },
    { "unipc", "UniPCMultistepScheduler", NULL },
    { "deis", "DEISMultistepScheduler", NULL },
    { "ddim", "DDIMScheduler", NULL },
    { "ddpm", "DDPMScheduler", NULL },
    { "pndm", "PNDMScheduler", "{\"skip_prk_steps\": true}" },
    { "plms", "PNDMScheduler", "{\"skip_prk_steps\": true}" },
    { "lcm", "LCMScheduler", NULL },
    { "tcd", "TCDScheduler", NULL },
};
enum { NNAMES = sizeof NAMES / sizeof *NAMES, NAME_BYTES = 64 };

static const struct {
    const char *suffix, *knob;
} RESHAPINGS[] = {
    { "karras", "use_karras_sigmas" },
    { "exponential", "use_exponential_sigmas" },
    { "beta", "use_beta_sigmas" },
    { "lu", "use_lu_lambdas" },
};
enum { NRESHAPINGS = sizeof RESHAPINGS / sizeof *RESHAPINGS };

const struct sampler_name *scheduler_names(size_t *nnames)
{
    *nnames = NNAMES;
    return NAMES;
}

/* Letters and digits only, small, with + as p: "DPM++ 2M", "dpmpp_2m" and "dpm++-2m" are one. */
static void normalise(const char *name, char out[NAME_BYTES])
{
    size_t n = 0;
    for (; *name && n + 1 < NAME_BYTES; name++) {
        unsigned char c = (unsigned char)*name;
        if (c == '+')
            out[n++] = 'p';
        else if (isalnum(c))
            out[n++] = (char)tolower(c);
    }
    out[n] = 0;
}

/* Takes a reshaping off the end of a normalised name. */
static const char *take_suffix(char name[NAME_BYTES])
{
    size_t n = strlen(name);
    for (int i = 0; i < NRESHAPINGS; i++) {
        size_t length = strlen(RESHAPINGS[i].suffix);
        if (n > length && !strcmp(name + n - length, RESHAPINGS[i].suffix)) {
            name[n - length] = 0;
            return RESHAPINGS[i].knob;
        }
    }
    return NULL;
}

static const struct sampler_name *find_name(const char *wanted)
{
    char known[NAME_BYTES];
    for (int i = 0; i < NNAMES; i++) {
        normalise(NAMES[i].name, known);
        if (!strcmp(known, wanted))
            return &NAMES[i];
    }
    return NULL;
}

/* The class itself, with or without "Scheduler" at its end. */
static const char *find_class_name(const char *wanted)
{
    char known[NAME_BYTES];
    for (const char *const *name = scheduler_class_names(); *name; name++) {
        normalise(*name, known);
        if (!strcmp(known, wanted))
            return *name;
        known[strlen(known) - strlen("scheduler")] = 0;
        if (!strcmp(known, wanted))
            return *name;
    }
    return NULL;
}

static int unknown_name(const char *name, styx_error *err)
{
    char list[400] = "";
    size_t used = 0;
    for (int i = 0; i < NNAMES; i++)
        used +=
            (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", NAMES[i].name);
    return fail(err, STYX_ERR_INVALID,
                "no sampler is called '%.60s'; there are: %s; most with ' karras', ' exponential' "
                "or ' beta' behind",
                name, list);
}

int scheduler_by_name(const char *name, const json_t *config, struct scheduler **out,
                      styx_error *err)
{
    char wanted[NAME_BYTES];
    json_t *knobs = NULL;
    int rc;

    *out = NULL;
    normalise(name, wanted);
    const char *class_name = find_class_name(wanted), *reshaping = NULL;
    const struct sampler_name *known = NULL;
    if (!class_name && !(known = find_name(wanted))) {
        reshaping = take_suffix(wanted);
        known = find_name(wanted);
    }
    if (!class_name && !known)
        return unknown_name(name, err);
    knobs = known && known->knobs ? json_loads(known->knobs, 0, NULL) : json_object();
    if (!knobs || (reshaping && json_object_set_new(knobs, reshaping, json_true()))) {
        rc = fail_nomem(err, sizeof *knobs);
        goto done;
    }
    rc = scheduler_new_with(known ? known->class_name : class_name, config, knobs, out, err);
done:
    json_decref(knobs);
    return rc;
}
