/* rng_internal.h - what a generator must offer to rng.c: one file per generator. */
#ifndef STYX_SAMPLE_RNG_INTERNAL_H
#define STYX_SAMPLE_RNG_INTERNAL_H
#include "sample/rng.h"

/* Which numbers of a draw are wanted, and where they go: out[0] is number first. */
struct rng_part {
    size_t first, end;
    float *out;
};

void mt19937_seed(struct rng_mt19937 *mt, uint64_t seed);
void mt19937_normal(struct rng_mt19937 *mt, enum dtype type, size_t total, struct rng_part part);

void philox_normal(struct rng_philox *philox, enum dtype type, size_t total, struct rng_part part);

#endif
