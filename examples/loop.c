/* loop.c - the denoising loop written by hand, out of the parts that styx_generate is made of.
 *
 *     example_loop MODEL PROMPT STEPS OUT.png          (a Stable Diffusion 1.x model) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <styx.h>

enum { SIDE = 64 }; /* pixels; latents are an eighth */
enum { LATENTS = 4 * (SIDE / 8) * (SIDE / 8) };

static const double guidance = 7.5;

struct parts {
    styx_session *session;
    styx_model *model;
    styx_scheduler *scheduler;
    styx_generator *generator;
    struct styx_tensor positive, negative, text; /* text: both, the negative row first */
};

static int open_parts(struct parts *p, const char *path, const char *prompt, styx_error *err)
{
    struct styx_request request = STYX_REQUEST_INIT;
    request.prompt = prompt;
    if (styx_model_open(path, NULL, &p->model, err) || styx_session_new(NULL, &p->session, err) ||
        styx_model_scheduler(p->model, &p->scheduler, err) ||
        styx_generator_new(STYX_TORCH_CPU, 1, &p->generator, err) ||
        styx_encode_prompt(p->session, p->model, &request, &p->positive, &p->negative, NULL, NULL,
                           err))
        return err->code;
    size_t n = (size_t)p->positive.shape[1] * (size_t)p->positive.shape[2];
    p->text = p->positive;
    p->text.shape[0] = 2;
    p->text.data = malloc(2 * n * sizeof *p->text.data);
    if (!p->text.data) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return err->code = STYX_ERR_NOMEM;
    }
    memcpy(p->text.data, p->negative.data, n * sizeof *p->text.data);
    memcpy(p->text.data + n, p->positive.data, n * sizeof *p->text.data);
    return 0;
}

/* One step: the UNet on two copies, guidance between its answers, the sampler. */
static int step(struct parts *p, float timestep, float latents[LATENTS], styx_error *err)
{
    float input[2 * LATENTS], noise[LATENTS];
    const float timesteps[2] = { timestep, timestep };
    struct styx_tensor sample = { 4, { 2, 4, SIDE / 8, SIDE / 8 }, input }, out = { 0 };
    struct styx_step_options options = { .size = sizeof options, .generator = p->generator };
    memcpy(input, latents, LATENTS * sizeof *latents);
    if (styx_scheduler_scale_model_input(p->scheduler, input, LATENTS, timestep, err))
        return err->code;
    memcpy(input + LATENTS, input, LATENTS * sizeof *input);
    if (styx_unet(p->session, p->model, STYX_F32, &sample, timesteps, &p->text, NULL, NULL, NULL,
                  &out, err))
        return err->code;
    for (int i = 0; i < LATENTS; i++)
        noise[i] = (float)(out.data[i] + guidance * (out.data[LATENTS + i] - out.data[i]));
    styx_tensor_free(&out);
    return styx_scheduler_step(p->scheduler, noise, timestep, latents, 1, LATENTS, &options, err);
}

static int decode(struct parts *p, float latents[LATENTS], const char *path, styx_error *err)
{
    unsigned char pixels[3 * SIDE * SIDE];
    struct styx_tensor z = { 4, { 1, 4, SIDE / 8, SIDE / 8 }, latents }, out = { 0 };
    struct styx_image image = { SIDE, SIDE, 3, pixels };
    struct styx_save_options save = { .size = sizeof save, .overwrite = 1 };
    for (int i = 0; i < LATENTS; i++)
        latents[i] /= 0.18215f; /* the scaling factor of SD 1.x */
    if (styx_vae_decode(p->session, p->model, STYX_F32, &z, STYX_TILING_AUTO, 0, &out, err))
        return err->code;
    for (int i = 0; i < 3 * SIDE * SIDE; i++) {
        float value = out.data[i % 3 * SIDE * SIDE + i / 3] * 0.5f + 0.5f; /* planes to RGB */
        pixels[i] = (unsigned char)(255 * (value < 0 ? 0 : value > 1 ? 1 : value) + 0.5f);
    }
    styx_tensor_free(&out);
    return styx_image_save(&image, path, &save, err);
}

static int draw(struct parts *p, int steps, const char *path, styx_error *err)
{
    float latents[LATENTS];
    size_t count;
    if (styx_scheduler_set_timesteps(p->scheduler, steps, NULL, 0, NULL, 0, err) ||
        styx_generator_normal(p->generator, STYX_F32, latents, LATENTS, err))
        return err->code;
    const float *timesteps = styx_scheduler_timesteps(p->scheduler, &count);
    for (int i = 0; i < LATENTS; i++)
        latents[i] *= (float)styx_scheduler_init_noise_sigma(p->scheduler);
    for (size_t i = 0; i < count; i++)
        if (step(p, timesteps[i], latents, err))
            return err->code;
    return decode(p, latents, path, err);
}

int main(int argc, char **argv)
{
    struct parts p = { 0 };
    styx_error err = { 0 };
    if (argc != 5 || atoi(argv[3]) < 1) {
        fprintf(stderr, "usage: %s MODEL PROMPT STEPS OUT.png\n", argv[0]);
        return 2;
    }
    if (open_parts(&p, argv[1], argv[2], &err) || draw(&p, atoi(argv[3]), argv[4], &err))
        fprintf(stderr, "%s\n", err.text);
    styx_tensor_free(&p.positive);
    styx_tensor_free(&p.negative);
    free(p.text.data);
    styx_scheduler_free(p.scheduler);
    styx_generator_free(p.generator);
    styx_session_free(p.session);
    styx_model_free(p.model);
    return err.code ? 1 : 0;
}
