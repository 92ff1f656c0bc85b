/* notebook.c - a notebook of five cells in C: a picture with Stable Diffusion 1.5, then three edits
 * of edits with SDXL's refiner, which shares two parts of the SDXL base.
 *
 *     example_notebook SD BASE REFINER FOLDER [STEPS] */
#include <stdio.h>
#include <stdlib.h>
#include <styx.h>

struct models {
    styx_model *sd, *base, *refiner;
};

/* The SDXL base lends its tokenizer to SD 1.5, its second text encoder and its VAE to the refiner:
 * each is in memory once. */
static int open_models(char **paths, struct models *m, styx_error *err)
{
    static const char *const lent_to_sd[] = { "tokenizer" };
    static const char *const lent_to_refiner[] = { "text_encoder_2", "vae" };
    styx_component *tokenizer = NULL, *lent[2] = { NULL, NULL };
    struct styx_model_options sd = STYX_MODEL_OPTIONS_INIT, refiner = STYX_MODEL_OPTIONS_INIT;
    sd.names = lent_to_sd;
    sd.components = &tokenizer;
    sd.component_count = 1;
    refiner.names = lent_to_refiner;
    refiner.components = lent;
    refiner.component_count = 2;
    int code;
    if ((code = styx_model_open(paths[1], NULL, &m->base, err)) ||
        (code = styx_model_component(m->base, "tokenizer", &tokenizer, err)) ||
        (code = styx_model_component(m->base, "text_encoder_2", &lent[0], err)) ||
        (code = styx_model_component(m->base, "vae", &lent[1], err)) ||
        (code = styx_model_open(paths[0], &sd, &m->sd, err)))
        goto done;
    code = styx_model_open(paths[2], &refiner, &m->refiner, err);
done:
    styx_component_free(tokenizer);
    styx_component_free(lent[0]);
    styx_component_free(lent[1]);
    return code;
}

/* One cell: *picture is what the prompt is drawn over (no pixels: from nothing), and becomes the
 * result. */
static int cell(styx_session *session, const styx_model *model, struct styx_request *request,
                struct styx_image *picture, const char *folder, const char *name, styx_error *err)
{
    struct styx_result result = STYX_RESULT_INIT;
    struct styx_save_options save = { .size = sizeof save, .overwrite = 1 };
    char path[4096];
    if (picture->pixels) {
        request->images = picture;
        request->image_count = 1;
    }
    int code = styx_generate(session, model, request, &result, err);
    if (code)
        return code;
    snprintf(path, sizeof path, "%s/%s.png", folder, name);
    styx_image_free(picture);
    *picture = result.images[0];
    result.images[0].pixels = NULL; /* ours now */
    printf("%s: %d UNet calls\n", path, result.steps);
    styx_result_free(&result);
    return styx_image_save(picture, path, &save, err);
}

static int notebook(const struct models *m, styx_session *session, const char *folder, int steps,
                    styx_error *err)
{
    struct styx_image picture = { 0 };
    struct styx_request r = STYX_REQUEST_INIT;
    r.prompt = "a burning underworld of brimstone, demons in the air, souls on a dark river";
    r.steps = steps ? steps : 125;
    int code = cell(session, m->sd, &r, &picture, folder, "1-underworld", err);

    r = (struct styx_request)STYX_REQUEST_INIT; /* strength 0.3 and guidance 5 by default */
    r.prompt = "a calm fantasy landscape, bright sky, still water, glowing crystals, soft light";
    r.steps = steps;
    if (!code)
        code = cell(session, m->refiner, &r, &picture, folder, "2-landscape", err);

    r = (struct styx_request)STYX_REQUEST_INIT;
    r.prompt = "the same landscape on a clear night, stars over the water";
    r.strength = 0.5;
    r.guidance_scale = 8;
    r.steps = steps;
    if (!code)
        code = cell(session, m->refiner, &r, &picture, folder, "3-night", err);

    r.prompt = "a sprawling underground city with hundreds of busy dwarves, hyper realistic";
    if (!code)
        code = cell(session, m->refiner, &r, &picture, folder, "4-city", err);
    styx_image_free(&picture);
    return code;
}

int main(int argc, char **argv)
{
    struct models m = { 0 };
    styx_session *session = NULL;
    styx_error err = { 0 };
    if (argc < 5 || argc > 6) {
        fprintf(stderr, "usage: %s SD BASE REFINER FOLDER [STEPS]\n", argv[0]);
        return 2;
    }
    if (open_models(argv + 1, &m, &err) || styx_session_new(NULL, &session, &err) ||
        notebook(&m, session, argv[4], argc > 5 ? atoi(argv[5]) : 0, &err))
        fprintf(stderr, "%s\n", err.text);
    styx_session_free(session);
    styx_model_free(m.refiner);
    styx_model_free(m.sd);
    styx_model_free(m.base);
    return err.code ? 1 : 0;
}
