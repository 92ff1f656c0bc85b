/* request.c - see request.h. */
#include "request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "say.h"

int settle_seeds(struct options *o)
{
    uint32_t random;
    char text[16];
    if (o->seeds.count > 1 && flag_is_set(o, "count") && (size_t)o->count != o->seeds.count)
        return complain(EXIT_USAGE,
                        "--seed lists %zu seeds, but --count is %d; give one seed, or one for each "
                        "picture",
                        o->seeds.count, o->count);
    if (o->seeds.count > 1)
        o->count = (int)o->seeds.count;
    if (o->only > o->count)
        return complain(EXIT_USAGE, "--only is %d, but --count is %d", o->only, o->count);
    if (o->seeds.count)
        return 0;
    /* 32 bits are enough to be surprised by, and short enough to be typed again. */
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return complain(EXIT_FAILED, "the system gave no random number; give a --seed");
    snprintf(text, sizeof text, "%u", random);
    return option_parse(o, flag_find("seed"), "--seed", text);
}

int generators_new(const struct options *o, struct generators *g)
{
    styx_error err;
    g->list = calloc(o->seeds.count, sizeof *g->list);
    if (!g->list)
        return complain_memory();
    for (; g->count < o->seeds.count; g->count++)
        if (styx_generator_new((enum styx_generator_kind)o->generator, o->seeds.values[g->count],
                               &g->list[g->count], &err)) {
            generators_free(g);
            return complain_of(&err);
        }
    return 0;
}

void generators_free(struct generators *g)
{
    for (size_t i = 0; i < g->count; i++)
        styx_generator_free(g->list[i]);
    free(g->list);
    *g = (struct generators){ 0 };
}

/* --sampler on the model's own config, or on that of --scheduler-config. */
static int scheduler_of_options(const struct options *o, const styx_model *model,
                                styx_scheduler **scheduler)
{
    styx_scheduler *own = NULL;
    char *config = NULL;
    json_t *file = NULL;
    styx_error err = { 0 };
    int failed = 0;
    if (o->scheduler_config) {
        json_error_t where;
        file = json_load_file(o->scheduler_config, 0, &where);
        if (!file)
            return complain(EXIT_FAILED, "--scheduler-config: %s: %s (line %d)",
                            o->scheduler_config, where.text, where.line);
        config = json_dumps(file, 0);
    } else {
        failed =
            styx_model_scheduler(model, &own, &err) || styx_scheduler_config(own, &config, &err);
    }
    if (!failed)
        failed = styx_scheduler_new(o->sampler, config, NULL, scheduler, &err);
    styx_scheduler_free(own);
    json_decref(file);
    if (o->scheduler_config)
        free(config);
    else
        styx_text_free(config);
    return failed ? complain_of(&err) : 0;
}

static void set_size(int to[2], struct pair size)
{
    to[0] = size.b; /* height first, as diffusers has it */
    to[1] = size.a;
}

static void set_sdxl(struct styx_request *r, const struct options *o)
{
    set_size(r->original_size, o->original_size);
    set_size(r->target_size, o->target_size);
    set_size(r->negative_original_size, o->negative_original_size);
    set_size(r->negative_target_size, o->negative_target_size);
    r->crop[0] = o->crop.a;
    r->crop[1] = o->crop.b;
    r->negative_crop[0] = o->negative_crop.a;
    r->negative_crop[1] = o->negative_crop.b;
    r->aesthetic_score = o->aesthetic_score;
    r->negative_aesthetic_score = o->negative_aesthetic_score;
}

/* What every part of a job has in common. */
static void set_common(struct styx_request *r, const struct options *o, const struct generators *g)
{
    static const enum styx_tiling tilings[] = { STYX_TILING_AUTO, STYX_TILING_OFF,
                                                STYX_TILING_DIFFUSERS, STYX_TILING_SEAMLESS };
    *r = (struct styx_request)STYX_REQUEST_INIT;
    r->prompt = o->prompt ? o->prompt : "";
    r->prompt_2 = o->prompt_2;
    r->negative_prompt = o->negative;
    r->negative_prompt_2 = o->negative_2;
    r->clip_skip = o->clip_skip;
    r->emphasis = !o->emphasis ? STYX_EMPHASIS_OFF
                  : o->no_norm ? STYX_EMPHASIS_NO_NORM
                               : STYX_EMPHASIS_ORIGINAL;
    r->steps = o->steps;
    r->guidance_scale = o->guidance;
    r->guidance_rescale = o->guidance_rescale;
    r->eta = o->eta;
    r->timesteps = o->timesteps.values;
    r->timestep_count = o->timesteps.count;
    r->sigmas = o->sigmas.values;
    r->sigma_count = o->sigmas.count;
    r->generators = g ? g->list : NULL;
    r->generator_count = g ? g->count : 0;
    r->noise_dtype = (enum styx_dtype)o->noise_dtype;
    r->dtype = (enum styx_dtype)o->dtype;
    r->vae_dtype = (enum styx_dtype)o->vae_dtype;
    r->vae_slicing = o->vae_slicing;
    r->vae_tiling = tilings[o->tiling];
    r->safety = (enum styx_safety)o->safety;
    set_sdxl(r, o);
}

static void set_source(struct styx_request *r, const struct options *o, const struct source *s)
{
    r->strength = o->strength;
    r->denoising_start = o->denoising_start;
    r->width = s->width;
    r->height = s->height;
    if (s->latents.data) {
        r->image_tensor = &s->latents;
    } else {
        r->images = &s->image;
        r->image_count = 1;
    }
    if (s->mask.pixels)
        r->mask = &s->mask;
}

int request_new(struct request *request, const struct options *o, const styx_model *model,
                const struct generators *g, const struct source *source)
{
    struct styx_request *r = &request->r;
    bool ensemble = o->refiner && o->refiner_mode == 1;
    int rc = 0;
    *request = (struct request){ 0 };
    set_common(r, o, g);
    r->images_per_prompt = o->count;
    r->width = o->size.a;
    r->height = o->size.b;
    r->denoising_end = ensemble ? o->refiner_at : o->denoising_end;
    r->output = ensemble ? STYX_OUTPUT_LATENTS : STYX_OUTPUT_IMAGE;
    if (source)
        set_source(r, o, source);
    if (o->sampler || o->scheduler_config)
        rc = scheduler_of_options(o, model, &request->scheduler);
    r->scheduler = request->scheduler;
    if (rc == 0 && o->latents) {
        rc = latents_load(o->latents, &request->latents);
        r->latents = &request->latents;
    }
    if (rc)
        request_free(request);
    return rc;
}

/* The same text for every picture of the batch; NULL stays NULL. */
static const char **repeated(const char *text, size_t count, int *rc)
{
    const char **list = text && *rc == 0 ? calloc(count, sizeof *list) : NULL;
    if (text && !list && *rc == 0)
        *rc = complain_memory();
    for (size_t i = 0; list && i < count; i++)
        list[i] = text;
    return list;
}

int request_refine(struct request *request, const struct options *o, const styx_model *refiner,
                   const struct generators *g, const struct styx_result *base)
{
    struct styx_request *r = &request->r;
    bool ensemble = o->refiner_mode == 1;
    int rc = 0;
    *request = (struct request){ 0 };
    set_common(r, o, g);
    r->clip_skip = -1;
    r->prompts = request->prompts = repeated(r->prompt, base->count, &rc);
    r->prompts_2 = request->prompts_2 = repeated(r->prompt_2, base->count, &rc);
    r->negative_prompts = request->negatives = repeated(r->negative_prompt, base->count, &rc);
    r->negative_prompts_2 = request->negatives_2 = repeated(r->negative_prompt_2, base->count, &rc);
    r->prompt = r->prompt_2 = r->negative_prompt = r->negative_prompt_2 = NULL;
    r->prompt_count = base->count;
    if (ensemble) {
        r->denoising_start = o->refiner_at;
        r->image_tensor = &base->latents;
    } else {
        r->strength = isnan(o->refiner_strength) ? 0.3 : o->refiner_strength;
        r->images = base->images;
        r->image_count = base->count;
    }
    if (rc == 0 && (o->sampler || o->scheduler_config))
        rc = scheduler_of_options(o, refiner, &request->scheduler);
    r->scheduler = request->scheduler;
    if (rc)
        request_free(request);
    return rc;
}

void request_free(struct request *request)
{
    styx_scheduler_free(request->scheduler);
    styx_tensor_free(&request->latents);
    free(request->prompts);
    free(request->prompts_2);
    free(request->negatives);
    free(request->negatives_2);
    *request = (struct request){ 0 };
}
