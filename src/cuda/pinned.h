/* pinned.h - a large piece of the host's memory that is copied at the bus's speed. */
#ifndef STYX_CUDA_PINNED_H
#define STYX_CUDA_PINNED_H
#include "cuda/gpu.h"

struct pinned {
    char *at; /* NULL: none */
    size_t bytes;
};

int pinned_take(const struct gpu *g, size_t bytes, struct pinned *p, styx_error *err);
void pinned_give(const struct gpu *g, struct pinned *p);

#endif
