/* noise.c - the generators of a request and what they draw, in diffusers' order. */
#include "engine/job.h"
#include <stdlib.h>
#include <sys/random.h>

int styx_generator_new(enum styx_generator_kind kind, uint64_t seed, styx_generator **generator,
                       styx_error *err)
{
    styx_generator *g;
    if (kind != STYX_TORCH_CPU && kind != STYX_TORCH_CUDA)
        return fail(err, STYX_ERR_INVALID, "generator kind %d; cpu or cuda was wanted", kind);
    g = calloc(1, sizeof *g);
    if (!g)
        return fail_nomem(err, sizeof *g);
    rng_init(&g->rng, kind == STYX_TORCH_CPU ? RNG_TORCH_CPU : RNG_TORCH_CUDA, seed);
    g->seed = seed;
    *generator = g;
    return 0;
}

void styx_generator_free(styx_generator *g)
{
    free(g);
}

void styx_generator_seed(styx_generator *g, uint64_t seed)
{
    rng_init(&g->rng, g->rng.kind, seed);
    g->seed = seed;
}

uint64_t styx_generator_initial_seed(const styx_generator *g)
{
    return g->seed;
}

enum styx_generator_kind styx_generator_kind_of(const styx_generator *g)
{
    return g->rng.kind == RNG_TORCH_CPU ? STYX_TORCH_CPU : STYX_TORCH_CUDA;
}

static enum dtype noise_dtype(enum styx_dtype d)
{
    return d == STYX_BF16 ? DT_BF16 : d == STYX_F16 ? DT_F16 : DT_F32;
}

int styx_generator_normal(styx_generator *g, enum styx_dtype dtype, float *out, size_t n,
                          styx_error *err)
{
    if ((unsigned)dtype > STYX_F16)
        return fail(err, STYX_ERR_INVALID, "dtype %d; AUTO, F32, BF16 or F16 was wanted", dtype);
    rng_normal(&g->rng, noise_dtype(dtype), out, n);
    return 0;
}

/* Short enough to be typed again. */
static uint64_t random_seed(void)
{
    uint32_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        seed = (uint32_t)(clock_seconds() * 1e6);
    return seed;
}

static int own_generators(struct job *j, styx_error *err)
{
    const struct styx_request *r = &j->r;
    size_t n = r->seed_count ? r->seed_count : 1;
    enum rng_kind kind = r->generator_kind == STYX_TORCH_CUDA ? RNG_TORCH_CUDA : RNG_TORCH_CPU;
    j->own = calloc(n, sizeof *j->own);
    j->generators = calloc(n, sizeof *j->generators);
    if (!j->own || !j->generators)
        return fail_nomem(err, n * sizeof *j->own);
    for (size_t i = 0; i < n; i++) {
        uint64_t seed = r->seed_count ? r->seeds[i] : r->seed_set ? r->seed : random_seed();
        rng_init(&j->own[i].rng, kind, seed);
        j->own[i].seed = seed;
        j->generators[i] = &j->own[i];
    }
    j->ngenerators = n;
    return 0;
}

int job_generators(struct job *j, styx_error *err)
{
    size_t n = j->r.generator_count;
    int code = 0;
    if (!n) {
        code = own_generators(j, err);
    } else {
        j->generators = malloc(n * sizeof *j->generators);
        if (!j->generators)
            return fail_nomem(err, n * sizeof *j->generators);
        memcpy(j->generators, j->r.generators, n * sizeof *j->generators);
        j->ngenerators = n;
    }
    if (!code && j->ngenerators != 1 && j->ngenerators != j->batch)
        return fail(err, STYX_ERR_INVALID,
                    "%zu generators or seeds for %zu pictures; one, or one for each, was wanted",
                    j->ngenerators, j->batch);
    return code;
}

void job_draw_from(struct job *j, size_t first, enum dtype type, float *out, size_t rows,
                   int channels)
{
    size_t one = (size_t)channels * (size_t)j->lh * (size_t)j->lw;
    char name[32];
    if (j->ngenerators == 1)
        rng_normal(&j->generators[0]->rng, type, out, rows * one);
    else
        for (size_t i = 0; i < rows; i++)
            rng_normal(&j->generators[first + i]->rng, type, out + i * one, one);
    snprintf(name, sizeof name, "noise.%03d", j->draws++);
    job_trace_latents(j, name, rows, channels, out);
}

void job_draw(struct job *j, enum dtype type, float *out, size_t rows, int channels)
{
    job_draw_from(j, 0, type, out, rows, channels);
}
