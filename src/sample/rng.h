/* rng.h - normal random numbers, named after whom they imitate.
 *
 * A struct rng is a torch.Generator as a value: copy it to fork it, keep it to draw on. Every draw
 * advances it exactly as torch's own call does, so a sequence of draws equals torch's sequence.
 *
 *     struct rng rng;
 *     rng_init(&rng, RNG_TORCH_CPU, 42);
 *     rng_normal(&rng, DT_F32, latents, 4 * 64 * 64);      torch.randn(1, 4, 64, 64)
 *
 * The numbers of one draw depend on how many there are, so picture k of a batch is not picture 0 of
 * a smaller one: rng_normal_part takes it out of the whole draw without the rest. */
#ifndef STYX_SAMPLE_RNG_H
#define STYX_SAMPLE_RNG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"

enum rng_kind {
    RNG_TORCH_CPU, /* torch.Generator("cpu"): mt19937 */
    RNG_TORCH_CUDA /* torch.Generator("cuda"): Philox4x32-10 */
};

struct rng_mt19937 {
    uint32_t state[624];
    int next; /* the word of state that comes next; 624: refill first */
    bool has_spare;
    double spare; /* the second half of a Box-Muller pair, kept for the next small draw */
};

struct rng_philox {
    uint64_t seed;
    uint64_t offset;  /* advances by 4 for every round of every thread */
    uint32_t threads; /* the most that torch launches at once: it depends on the card */
};

struct rng {
    enum rng_kind kind;
    union {
        struct rng_mt19937 mt;
        struct rng_philox philox;
    };
};

/* The CUDA kind imitates a card of 132 multiprocessors with 2048 threads each (H100, H200). */
void rng_init(struct rng *rng, enum rng_kind kind, uint64_t seed);

/* Imitate another card: only draws of more than multiprocessors * threads_each numbers differ. */
void rng_set_card(struct rng *rng, int multiprocessors, int threads_each);

/* torch.randn(n, dtype=type, generator=rng), as floats. type is DT_F32, DT_F16, DT_BF16, DT_F64. */
void rng_normal(struct rng *rng, enum dtype type, float *out, size_t n);

/* The numbers [first, first + n) out of a draw of total, with rng left as after the whole draw.
 * n = 0 skips the draw (out may then be NULL). */
void rng_normal_part(struct rng *rng, enum dtype type, size_t total, size_t first, float *out,
                     size_t n);

#endif
