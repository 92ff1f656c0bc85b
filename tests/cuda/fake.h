/* fake.h - what tests may ask of, and set on, the card made of memory. */
#ifndef STYX_TESTS_CUDA_FAKE_H
#define STYX_TESTS_CUDA_FAKE_H
#include "base/dtype.h"
#include <stdbool.h>
#include <stddef.h>

extern struct fake_state {
    size_t limit;        /* bytes of the card */
    size_t held, peak;   /* bytes with memory behind them */
    size_t copied;       /* bytes from host to card */
    size_t waited;       /* of these: by weights, while there was nothing else to do */
    size_t pinned;       /* bytes of the host's memory, ever */
    int created, mapped; /* pieces of memory, ever */
    int unpinned;        /* pieces of the host's memory */
    int fails_in;        /* the call of that number fails; 0: none */
    int launched;        /* graphs */
    float ms;            /* what every measurement tells; 0: 1 */
    int capability;      /* 0: 9.0 */
    bool old;            /* the library has no products of e4m3 */
    const char *refusal; /* why the libraries refuse to run anything; NULL: they run */
    int products;        /* plans that cuBLASLt was asked for */
    float normed_ms;     /* what a product tells that has a layer norm in it; 0: as ms */
    int normed;          /* such products that ran */
    int doubled;         /* convolutions that doubled their map, run */
    int joined;          /* convolutions that added a shortcut, run */
    int winograd;        /* convolutions by Winograd's algorithm, run */
    int paired;          /* convolutions in pairs, run */
    float conv3_ms;      /* what our own 3x3 convolutions tell; 0: as ms */
    int compiled;        /* plans of the library that were made ready without a text */
} fake;

struct driver;
void fake_memory(struct driver *d);
void fake_time_passes(void); /* what is on its way need not be waited for */
bool fake_fails(void);       /* is it the call that fails? */

/* Number i of an array on the card. */
static inline float fake_get(unsigned long long at, enum dtype type, long i)
{
    float x;
    if (type == DT_F32) /* without a call: this is where the test's time goes */
        return ((const float *)at)[i];
    dtype_to_f32(type, (const char *)at + i * (long)dtype_bytes(type), &x, 1);
    return x;
}

static inline void fake_put(unsigned long long at, enum dtype type, long i, float x)
{
    dtype_from_f32(type, &x, (char *)at + i * (long)dtype_bytes(type), 1);
}

#endif
