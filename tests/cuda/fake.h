/* fake.h - what tests may ask of, and set on, the card made of memory. */
#ifndef STYX_TESTS_CUDA_FAKE_H
#define STYX_TESTS_CUDA_FAKE_H
#include <stddef.h>

extern struct fake_state {
    size_t limit;      /* bytes of the card */
    size_t held, peak; /* bytes with memory behind them */
    size_t copied;     /* bytes from host to card */
    int launched;      /* graphs */
} fake;

#endif
