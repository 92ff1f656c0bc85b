/* random.h - weights and inputs of no meaning: only their speed is of interest. */
#ifndef STYX_BENCH_RANDOM_H
#define STYX_BENCH_RANDOM_H
#include "tape/backend.h"
#include <stdlib.h>

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

#endif
