/* draw.c - see draw.h. */
#include "draw.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compose.h"
#include "hash.h"
#include "infotext.h"
#include "paths.h"
#include "progress.h"
#include "recipe.h"
#include "request.h"
#include "say.h"
#include "show.h"
#include "value.h"

static int check_refiner(const struct options *o)
{
    static const char *const needs[] = { "refiner-mode", "refiner-at", "refiner-strength" };
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (flag_is_set(o, needs[i]) && !o->refiner)
            return complain(EXIT_USAGE, "--%s needs a --refiner", needs[i]);
    if (o->refiner && o->refiner_mode == 0 && flag_is_set(o, "refiner-at"))
        return complain(EXIT_USAGE, "--refiner-at belongs to --refiner-mode ensemble");
    if (o->refiner && o->refiner_mode == 1 && flag_is_set(o, "refiner-strength"))
        return complain(EXIT_USAGE, "--refiner-strength belongs to --refiner-mode img2img");
    if (o->refiner && flag_is_set(o, "denoising-end"))
        return complain(EXIT_USAGE, "--denoising-end and --refiner exclude each other; use "
                                    "--refiner-mode ensemble --refiner-at");
    return 0;
}

static int check_flags(const struct options *o)
{
    if (o->timesteps.count && o->sigmas.count)
        return complain(EXIT_USAGE, "--timesteps and --sigmas exclude each other");
    if (o->steps && (o->timesteps.count || o->sigmas.count))
        return complain(EXIT_USAGE, "--steps and a schedule of your own exclude each other");
    if (o->json && o->show)
        return complain(EXIT_USAGE, "--json and --show exclude each other");
    if (o->no_norm && !o->emphasis)
        return complain(EXIT_USAGE, "--no-norm needs --emphasis");
    if ((o->feather || o->no_paste) && !o->mask)
        return complain(EXIT_USAGE, "--%s needs a --mask", o->feather ? "feather" : "no-paste");
    return check_refiner(o);
}

int draw_check(struct options *o)
{
    int pictures;
    int rc = check_flags(o);
    if (rc == 0)
        rc = settle_seeds(o);
    pictures = o->only ? 1 : o->count;
    if (rc == 0 && pictures > 1 && !output_is_folder(o->output))
        return complain(EXIT_USAGE,
                        "-o %s is one file, but %d pictures will be drawn; name a "
                        "folder (%s/)",
                        o->output, pictures, o->output);
    if (rc == 0)
        rc = output_check(o->output, o->force);
    if (rc == 0 && o->save_latents)
        rc = output_check_file("--save-latents", o->save_latents, o->force);
    if (rc == 0 && o->trace)
        rc = output_check_file("--trace", o->trace, o->force);
    return rc;
}

static int on_progress(void *user, const struct styx_progress *progress)
{
    (void)user;
    progress_report(progress);
    return studio_interrupted();
}

static void on_trace(void *user, const char *name, const struct styx_tensor *value)
{
    trace_add(&((struct job *)user)->trace, name, value);
}

/* Runs one request; *result is replaced. */
static int run(struct job *job, const struct options *o, const styx_model *model,
               struct request *request, struct styx_result *result)
{
    struct styx_result fresh = STYX_RESULT_INIT;
    styx_error err;
    request->r.progress = on_progress;
    request->r.trace = o->trace ? on_trace : NULL;
    request->r.offload = !job->more;
    request->r.user = job;
    int failed = styx_generate(job->studio->session, model, &request->r, &fresh, &err);
    progress_clear();
    if (failed)
        return complain_of(&err);
    styx_result_free(result);
    *result = fresh;
    return 0;
}

static void add_seconds(struct styx_result *to, const double seconds[5])
{
    for (int i = 0; i < 5; i++)
        to->seconds[i] += seconds[i];
}

static int run_both(struct job *job, const struct options *o, struct styx_result *result)
{
    struct generators g = { 0 };
    struct request request;
    double seconds[5];
    int rc = generators_new(o, &g);
    if (rc)
        return rc;
    rc = request_new(&request, o, job->model, &g, job->source);
    if (rc == 0) {
        rc = run(job, o, job->model, &request, result);
        request_free(&request);
    }
    if (rc == 0 && job->refiner) {
        memcpy(seconds, result->seconds, sizeof seconds);
        rc = request_refine(&request, o, job->refiner, &g, result);
        if (rc == 0) {
            rc = run(job, o, job->refiner, &request, result);
            request_free(&request);
        }
        if (rc == 0)
            add_seconds(result, seconds);
    }
    generators_free(&g);
    return rc;
}

/* Picture k's share of the latents, as a view. */
static struct styx_tensor latents_of(const struct styx_result *result, size_t k)
{
    struct styx_tensor x = result->latents;
    size_t n = 1;
    for (int i = 1; i < x.dims; i++)
        n *= (size_t)x.shape[i];
    x.data += k * n;
    x.shape[0] = 1;
    return x;
}

static int keep_latents(const struct styx_result *result, size_t k, const char *picture)
{
    struct styx_tensor latents = latents_of(result, k);
    char *path = latents_path(picture);
    int rc = path ? latents_save(path, &latents, true) : complain_memory();
    free(path);
    return rc;
}

static void print_json(const struct options *o, const struct styx_result *result, size_t k,
                       const char *path, const char *recipe)
{
    static const char *const stages[] = { "load", "encode", "denoise", "decode", "safety" };
    json_t *seconds = json_object();
    json_t *seed = seed_to_json(o->seeds.values[o->seeds.count > 1 ? k : 0]);
    for (int i = 0; i < 5; i++)
        json_object_set_new(seconds, stages[i], json_real(round(result->seconds[i] * 1e4) / 1e4));
    json_t *line = json_pack("{s:s, s:o, s:i, s:i, s:i, s:i, s:o, s:o}", "output", path, "seed",
                             seed, "picture", (int)k + 1, "width", result->images[k].width,
                             "height", result->images[k].height, "unet_calls", result->steps,
                             "seconds", seconds, "recipe", json_loads(recipe, 0, NULL));
    if (line && result->nsfw)
        json_object_set_new(line, "nsfw", json_boolean(result->nsfw[k]));
    char *text = line ? json_text_of(line, JSON_COMPACT) : NULL;
    puts(text ? text : "{}");
    free(text);
    json_decref(line);
}

static void tell(const struct options *o, const struct styx_result *result, size_t k)
{
    double total = 0;
    uint64_t seed = o->seeds.values[o->seeds.count > 1 ? k : 0];
    for (int i = 0; i < 5; i++)
        total += result->seconds[i];
    if (result->nsfw && result->nsfw[k])
        say("the safety checker objects to picture %zu%s", k + 1,
            o->safety == STYX_SAFETY_BLACK ? ", which is therefore black; --safety off keeps it"
                                           : "");
    if (result->count > 1 && o->seeds.count == 1)
        say("seed %" PRIu64 ", picture %zu of %zu, %.1f s in all", seed, k + 1, result->count,
            total);
    else
        say("seed %" PRIu64 ", %.1f s", seed, total);
}

/* The texts that go into the picture; recipe is also what --json prints. */
static int make_texts(struct job *job, const struct options *o, const struct record *record,
                      const struct styx_result *result, size_t k, char **recipe, char **parameters)
{
    char *fresh = recipe_write(record, o, job->source, result, k);
    if (!fresh)
        return complain(EXIT_FAILED, "the recipe cannot be written: out of memory, or a text that "
                                     "is not UTF-8");
    if (job->recipe) {
        free(job->fresh_recipe);
        job->fresh_recipe = fresh;
        *recipe = strdup(job->recipe);
        *parameters = job->parameters ? strdup(job->parameters) : NULL;
        return *recipe && (*parameters || !job->parameters) ? 0 : complain_memory();
    }
    *recipe = fresh;
    *parameters = infotext_write(record, o, job->source, result, k);
    return *parameters ? 0 : complain_memory();
}

static int announce(const struct options *o, const struct styx_result *result, size_t k,
                    const char *path, const char *recipe)
{
    tell(o, result, k);
    if (o->json)
        print_json(o, result, k, path, recipe);
    else
        puts(path);
    return o->show ? show(&result->images[k]) : 0;
}

/* A full disk must not cost the picture: another one may have room. */
static int rescue(const struct styx_image *image, const struct styx_save_options *options,
                  uint64_t seed, const styx_error *why)
{
    const char *folder = getenv("TMPDIR");
    struct styx_save_options fresh = *options;
    fresh.overwrite = 0;
    char *path = output_name(folder && *folder ? folder : "/tmp", seed);
    if (why->code != STYX_ERR_IO || !path || styx_image_save(image, path, &fresh, NULL)) {
        free(path);
        return complain_of(why);
    }
    complain(EXIT_FAILED, "%s; the picture is in %s instead", why->text, path);
    free(path);
    return EXIT_FAILED;
}

static int save(struct job *job, const struct options *o, const struct record *record,
                struct styx_result *result, size_t k)
{
    struct styx_save_options options = { .size = sizeof options };
    struct styx_image *image = &result->images[k];
    styx_error err;
    bool folder = output_is_folder(o->output);
    char *recipe = NULL, *parameters = NULL;
    uint64_t seed = o->seeds.values[o->seeds.count > 1 ? k : 0];
    char *path = folder ? output_name(o->output, seed) : strdup(o->output);
    int rc = path ? make_texts(job, o, record, result, k, &recipe, &parameters) : complain_memory();
    if (rc == 0 && job->source)
        rc = compose(image, job->source, o);
    options.recipe = recipe;
    options.parameters = parameters;
    options.overwrite = o->force && !folder;
    if (rc == 0 && styx_image_save(image, path, &options, &err))
        rc = rescue(image, &options, seed, &err);
    if (rc == 0 && o->keep_latents)
        rc = keep_latents(result, k, path);
    if (rc == 0 && !job->recipe)
        rc = announce(o, result, k, path, recipe);
    free(recipe);
    free(parameters);
    free(path);
    return rc;
}

static int save_all(struct job *job, const struct options *o, const struct record *record,
                    struct styx_result *result)
{
    int rc = 0;
    for (size_t k = 0; k < result->count && rc == 0; k++)
        if (!o->only || (size_t)o->only == k + 1)
            rc = save(job, o, record, result, k);
    if (rc == 0 && o->save_latents)
        rc = latents_save(o->save_latents, &result->latents, o->force);
    if (rc == 0 && o->trace)
        rc = trace_save(&job->trace, o->trace, o->force);
    return rc;
}

int draw(struct job *job, const struct options *o)
{
    struct styx_result result = STYX_RESULT_INIT;
    struct record record = { 0 };
    struct hashes hashes;
    struct hashing *hashing = hashing_start(job->model, job->refiner, o);
    progress_begin(o->quiet);
    int rc = run_both(job, o, &result);
    int hashed = hashing_finish(hashing, &hashes);
    if (rc == 0)
        rc = hashed;
    if (rc == 0)
        rc = record_new(&record, o, job->studio, job->model, job->refiner, job->source, &result);
    if (rc == 0) {
        record_add_hashes(&record, &hashes);
        rc = save_all(job, o, &record, &result);
    }
    json_decref(hashes.model);
    json_decref(hashes.refiner);
    json_decref(hashes.extras);
    record_free(&record);
    styx_result_free(&result);
    trace_free(&job->trace);
    return rc;
}
