#include "sample/rng.h"
#include "sample/rng_internal.h"

void rng_init(struct rng *rng, enum rng_kind kind, uint64_t seed)
{
    memset(rng, 0, sizeof *rng);
    rng->kind = kind;
    if (kind == RNG_TORCH_CPU) {
        mt19937_seed(&rng->mt, seed);
    } else {
        rng->philox.seed = seed;
        rng_set_card(rng, 132, 2048);
    }
}

void rng_set_card(struct rng *rng, int multiprocessors, int threads_each)
{
    /* torch launches blocks of 256 threads. */
    if (rng->kind == RNG_TORCH_CUDA)
        rng->philox.threads = (uint32_t)multiprocessors * ((uint32_t)threads_each / 256) * 256;
}

void rng_normal_part(struct rng *rng, enum dtype type, size_t total, size_t first, float *out,
                     size_t n)
{
    struct rng_part part = { first, first + n, out };
    if (rng->kind == RNG_TORCH_CPU)
        mt19937_normal(&rng->mt, type, total, part);
    else
        philox_normal(&rng->philox, type, total, part);
}

void rng_normal(struct rng *rng, enum dtype type, float *out, size_t n)
{
    rng_normal_part(rng, type, n, 0, out, n);
}
