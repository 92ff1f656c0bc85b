/* infotext.c - see infotext.h. */
#include "infotext.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "say.h"

/* A1111's names of samplers; ours and diffusers' beside them. */
static const struct {
    const char *a1111, *name, *class_name;
} samplers[] = {
    { "Euler", "euler", "EulerDiscreteScheduler" },
    { "Euler a", "euler a", "EulerAncestralDiscreteScheduler" },
    { "LMS", "lms", "LMSDiscreteScheduler" },
    { "Heun", "heun", "HeunDiscreteScheduler" },
    { "DPM2", "dpm2", "KDPM2DiscreteScheduler" },
    { "DPM2 a", "dpm2 a", "KDPM2AncestralDiscreteScheduler" },
    { "DPM++ 2S a", "dpm++ 2s a", NULL },
    { "DPM++ 2M", "dpm++ 2m", "DPMSolverMultistepScheduler" },
    { "DPM++ SDE", "dpm++ sde", "DPMSolverSDEScheduler" },
    { "DPM++ 2M SDE", "dpm++ 2m sde", NULL },
    { "DDIM", "ddim", "DDIMScheduler" },
    { "PLMS", "pndm", "PNDMScheduler" },
    { "PLMS", "plms", NULL },
    { "UniPC", "unipc", "UniPCMultistepScheduler" },
    { "LCM", "lcm", "LCMScheduler" },
};
enum { SAMPLERS = sizeof samplers / sizeof *samplers };

static const char *const schedule_types[] = { "Karras", "Exponential", "Beta" };

static bool ends_with(const char *text, size_t length, const char *word)
{
    size_t n = strlen(word);
    return length > n + 1 && text[length - n - 1] == ' ' &&
           strncasecmp(text + length - n, word, n) == 0;
}

static const char *a1111_name(const char *name, size_t length)
{
    for (size_t i = 0; i < SAMPLERS; i++)
        if ((strlen(samplers[i].name) == length &&
             strncasecmp(samplers[i].name, name, length) == 0) ||
            (samplers[i].class_name && strcmp(samplers[i].class_name, name) == 0))
            return samplers[i].a1111;
    return NULL;
}

static void put(json_t *object, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void put(json_t *object, const char *key, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    json_object_set_new(object, key, json_vsprintf(fmt, args));
    va_end(args);
}

/* "dpm++ 2m karras" is a sampler and a schedule type to A1111. */
static void put_sampler(json_t *object, const char *name)
{
    const char *type = NULL;
    size_t length = strlen(name);
    for (size_t i = 0; i < 3 && !type; i++)
        if (ends_with(name, length, schedule_types[i]))
            type = schedule_types[i];
    if (type)
        length -= strlen(type) + 1;
    const char *known = a1111_name(name, length);
    if (known)
        put(object, "Sampler", "%s", known);
    else
        put(object, "Sampler", "%.*s", (int)length, name);
    if (type)
        put(object, "Schedule type", "%s", type);
}

char *infotext_write(const struct record *r, const struct options *o, const struct source *source,
                     const struct styx_result *result, size_t k)
{
    json_t *object = json_object();
    char *json, *text = NULL;
    put(object, "Prompt", "%s", o->prompt ? o->prompt : "");
    if (o->negative && *o->negative)
        put(object, "Negative prompt", "%s", o->negative);
    put(object, "Steps", "%d", o->steps ? o->steps : 50);
    put_sampler(object, r->sampler);
    put(object, "CFG scale", "%g", r->guidance);
    put(object, "Seed", "%" PRIu64, o->seeds.values[o->seeds.count > 1 ? k : 0]);
    put(object, "Size", "%dx%d", result->images[k].width, result->images[k].height);
    if (*r->hash)
        put(object, "Model hash", "%s", r->hash);
    put(object, "Model", "%s", r->model_name);
    if (o->clip_skip > 0)
        put(object, "Clip skip", "%d", o->clip_skip + 1); /* theirs counts the last layer as 1 */
    if (source)
        put(object, "Denoising strength", "%g", r->strength);
    if (o->refiner) {
        const char *slash = strrchr(o->refiner, '/');
        put(object, "Refiner", "%s", slash && slash[1] ? slash + 1 : o->refiner);
        if (o->refiner_mode == 1)
            put(object, "Refiner switch at", "%g", o->refiner_at);
    }
    put(object, "Version", "Styx %s", styx_version());
    json = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (!json || styx_parameters_write(json, &text, NULL))
        text = NULL;
    free(json);
    return text;
}

/* A value of the text for a flag that is not set yet. */
static int take(struct options *o, const char *flag, const char *value, const char *where)
{
    const struct flag *f = flag_find(flag);
    char what[300];
    if (!value || o->set[f - flags])
        return 0;
    snprintf(what, sizeof what, "%.200s: %s", where, flag);
    return option_parse(o, f, what, value);
}

static int take_sampler(struct options *o, const char *sampler, const char *type, const char *where)
{
    char name[128] = "";
    if (!sampler)
        return 0;
    for (size_t i = 0; i < SAMPLERS && !*name; i++)
        if (strcasecmp(samplers[i].a1111, sampler) == 0)
            snprintf(name, sizeof name, "%s", samplers[i].name);
    if (!*name)
        snprintf(name, sizeof name, "%.60s", sampler);
    if (type && strcasecmp(type, "automatic") != 0 && strcasecmp(type, "normal") != 0) {
        size_t used = strlen(name);
        snprintf(name + used, sizeof name - used, " %.30s", type);
    }
    for (char *c = name; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return take(o, "sampler", name, where);
}

static int take_clip_skip(struct options *o, const char *value, const char *where)
{
    char text[16];
    int skip = value ? atoi(value) : 0;
    if (skip <= 1)
        return 0;
    snprintf(text, sizeof text, "%d", skip - 1);
    return take(o, "clip-skip", text, where);
}

int infotext_take(struct options *o, const char *text, const char *where)
{
    static const char *const same[][2] = {
        { "Prompt", "prompt" }, { "Negative prompt", "negative" },
        { "Steps", "steps" },   { "CFG scale", "guidance" },
        { "Seed", "seed" },     { "Size", "size" },
        { "Eta", "eta" },       { "Denoising strength", "strength" },
    };
    char *json;
    styx_error err;
    int rc = 0;
    if (styx_parameters_read(text, &json, &err))
        return complain_of(&err);
    json_t *object = json_loads(json, 0, NULL);
    styx_text_free(json);
    for (size_t i = 0; i < sizeof same / sizeof *same && rc == 0; i++)
        rc = take(o, same[i][1], json_string_value(json_object_get(object, same[i][0])), where);
    if (rc == 0)
        rc = take_sampler(o, json_string_value(json_object_get(object, "Sampler")),
                          json_string_value(json_object_get(object, "Schedule type")), where);
    if (rc == 0)
        rc = take_clip_skip(o, json_string_value(json_object_get(object, "Clip skip")), where);
    json_decref(object);
    return rc;
}
