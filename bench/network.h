/* network.h - the published networks, recorded, with weights and inputs of no meaning: only their
 * speed is of interest. */
#ifndef STYX_BENCH_NETWORK_H
#define STYX_BENCH_NETWORK_H
#include "engine/published.h"
#include <stdio.h>
#include <stdlib.h>

static void must(int status, const styx_error *err)
{
    if (status) {
        fprintf(stderr, "bench: %s\n", err->text);
        exit(1);
    }
}

/* A step of a UNet, or a decoder's run: of rows of size x size pixels. */
struct net {
    const char *name;
    enum single_file kind;
    bool vae;
    int rows, size;
};

static bool find_net(const char *name, struct net *n)
{
    static const struct net all[] = {
        { "sd15", SINGLE_SD15, false, 2, 512 },       { "sdxl", SINGLE_SDXL, false, 2, 1024 },
        { "refiner", SINGLE_REFINER, false, 2, 512 }, { "vae", SINGLE_SD15, true, 1, 512 },
        { "vae512", SINGLE_SD15, true, 1, 512 },      { "vae1024", SINGLE_SD15, true, 1, 1024 },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(name, all[i].name) == 0) {
            *n = all[i];
            return true;
        }
    return false;
}

/* As a request has it: pictures twice, with guidance, if the rows are even. */
static tape *record_net(const struct net *n, enum dtype type, const struct backend *be)
{
    json_t *config = NULL;
    styx_component *c = NULL;
    tape *t = NULL;
    styx_error err = { 0 };
    enum slot slot = n->vae ? SLOT_VAE : SLOT_UNET;
    must(published_config(n->kind, slot, NULL, n->name, &config, &err), &err);
    must(component_make(slot, n->name, config, n->name, NULL, &c, &err), &err);
    struct program_key key = { .component = c,
                               .network = n->vae ? NET_VAE_DECODE : NET_UNET,
                               .type = type,
                               .n = n->rows,
                               .h = n->size / 8,
                               .w = n->size / 8,
                               .tokens = 77,
                               .ids = n->kind == SINGLE_REFINER ? 5 : 6,
                               .copies = n->rows % 2 ? 1 : 2 };
    must(program_record(&key, be, &t, &err), &err);
    styx_component_free(c);
    json_decref(config);
    return t;
}

static float random_number(void) /* [-1, 1) */
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)state * 0x1p-31f;
}

/* All of them are views of one buffer of F16 numbers. */
static struct weights random_weights(const tape *t)
{
    struct span *span = calloc((size_t)t->nparams + 1, sizeof *span);
    size_t most = 0;
    for (int i = 0; i < t->nparams; i++) {
        span[i].type = DT_F16;
        span[i].dims = t->params[i].dims;
        memcpy(span[i].shape, t->params[i].shape, sizeof span[i].shape);
        size_t n = span_count(&span[i]);
        most = n > most ? n : most;
    }
    uint16_t *data = malloc(most * sizeof *data);
    for (size_t i = 0; i < most; i++)
        data[i] = f32_to_f16(random_number() * 0.03f);
    for (int i = 0; i < t->nparams; i++)
        span[i].data = data;
    return (struct weights){ span, t->nparams };
}

static void random_inputs(const tape *t, struct run_args *args)
{
    for (int i = 0; i < t->nin; i++) {
        size_t n = tensor_count(t->in[i]);
        float *x = malloc(n * sizeof *x);
        for (size_t j = 0; j < n; j++)
            x[j] = random_number();
        args->in[i] = x;
    }
}

static void random_free(const tape *t, const struct weights *w, const struct run_args *args)
{
    for (int i = 0; i < t->nin; i++)
        free((void *)(uintptr_t)args->in[i]);
    free((void *)(uintptr_t)w->span->data);
    free((void *)(uintptr_t)w->span);
}

#endif
