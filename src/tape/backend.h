/* backend.h - what a device must be able to do. A backend sees programs, offsets and spans of
 * weights; it knows neither files nor models nor samplers. ref.c, cpu.c and cuda.cu each define
 * exactly one of these tables.
 *
 * Life: open -> load (weights of a component, once) -> prepare (a planned program on those
 * weights) -> run, run, run -> release -> unload -> close. */
#ifndef STYX_TAPE_BACKEND_H
#define STYX_TAPE_BACKEND_H
#include "tape/span.h"
#include "tape/tape.h"
#include <stdatomic.h>

/* Where weights stay that no program needs right now: on the card, in the host's memory until
 * their network runs, or there always, to pass through the card piece by piece in every step. */
enum offload { OFFLOAD_NONE, OFFLOAD_MODEL, OFFLOAD_STREAM };

struct device_options {
    int threads;          /* 0: as many as the process may use */
    int index;            /* which card */
    const char *isa;      /* NULL: the best; "portable", "avx2", "avx512", "avx512bf16", "amx" */
    bool direct;          /* no Winograd convolutions */
    bool int8;            /* 8-bit products in linear layers and convolutions */
    bool fp8;             /* 8-bit floats in the layers that bear them (param.coarse): cards only,
                             and programs with such layers are in F16 or BF16 */
    enum offload offload; /* cards only */
    bool hard;            /* poison the arena with NaN and dead values after use (tests) */
};

/* Bytes a program needs, computed without reading a weight. */
struct footprint {
    size_t weights;   /* packed for this backend */
    size_t arena;     /* tape.arena */
    size_t workspace; /* scratch of the kernels, all threads */
};

struct run_args {
    const void *in[TAPE_MAX_IN]; /* f32 or i32, dense NHWC, in host memory */
    float *out[TAPE_MAX_OUT];    /* dense NHWC f32 in host memory; NULL: not wanted */
    bool again;                  /* the once-inputs are those of the last run: skip the prologue */
    const atomic_int *cancel;    /* non-zero: stop between instructions (STYX_ERR_CANCELLED) */
    double *seconds; /* [ncode]: what each instruction that ran took, from a backend that can tell;
                        NULL: not wanted */
};

struct backend {
    const char *name;
    bool halo;  /* wants tape_halo before the plan */
    bool merge; /* wants tape_merge and tape_defer: few large products, sums in the norms */
    bool apart; /* telling the seconds of instructions slows a run: time a whole one without */
    bool mixes; /* runs a program whose sums are F32 though its activations are not (tape.sums) */
    bool dtype[DT_COUNT]; /* activation types it can run */

    /* MUST fail with one sentence when the device, driver or library is not there. */
    int (*open)(const struct device_options *options, void **dev, styx_error *err);
    void (*close)(void *dev);

    /* One line about the device: ISA, threads, card. Written to text[n]. */
    void (*describe)(void *dev, char *text, size_t n);

    /* Pure arithmetic. budget as in load. */
    void (*measure)(void *dev, const tape *t, size_t budget, struct footprint *need);

    /* Brings the weights into the form that the kernels read, in parallel. The spans stay valid
     * while loaded. budget 0: everything resident. Otherwise at most budget bytes of converted
     * weights are kept, and the rest is converted again each time it is needed, in program order.
     * MUST serve every program of the component at any size and batch (same params, same order). */
    int (*load)(void *dev, const tape *t, const struct weights *w, size_t budget, void **loaded,
                styx_error *err);
    void (*unload)(void *dev, void *loaded);

    /* Chooses kernels, allocates arena and workspace. Nothing allocates afterwards. */
    int (*prepare)(void *dev, const tape *t, void *loaded, void **plan, styx_error *err);

    /* MUST give the same bytes for any number of threads. MUST NOT keep a partial state that
     * changes the next run when it is cancelled. */
    int (*run)(void *plan, const struct run_args *args, styx_error *err);
    void (*release)(void *plan);

    /* Nothing is run for a while: what that begins with may come to the device meanwhile. Changes
     * no result. NULL: everything is where it is wanted. */
    void (*rest)(void *dev);

    /* FLOP/s that the device's multiply-adds reach by themselves, measured now: what the speed of a
     * kernel is compared with. NULL or 0: not known. */
    double (*peak)(void *dev, enum dtype type);

    /* Kernels that a library had to compile since the device was opened. NULL: nothing ever is. */
    int (*compiled)(void *dev);
};

extern const struct backend backend_ref, backend_cpu, backend_cuda;

#endif
