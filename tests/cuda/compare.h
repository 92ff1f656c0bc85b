/* compare.h - programs on the card made of memory (fake_driver.c), against the reference. */
#ifndef STYX_TESTS_CUDA_COMPARE_H
#define STYX_TESTS_CUDA_COMPARE_H
#include "plan/programs.h"

#include "cuda/fake.h"
#include "cuda/gpu.h"

static void *card(enum offload offload)
{
    struct device_options o = { .offload = offload, .hard = true };
    void *dev;
    styx_error err;
    fake.limit = (size_t)1 << 30;
    must(backend_cuda.open(&o, &dev, &err), &err);
    return dev;
}

static void compare(record_fn *record, unsigned seed, void *dev, size_t budget, enum dtype type,
                    float tolerance)
{
    struct device_options easy = { 0 };
    tape *plain = naive(record, seed), *fused = optimised(record, seed, type, false, true);
    void *ref;
    styx_error err;
    must(backend_ref.open(&easy, &ref, &err), &err);
    struct outcome x = run(&backend_ref, ref, 0, plain);
    struct outcome y = run(&backend_cuda, dev, budget, fused);
    backend_ref.close(ref);
    compare_outcomes(&x, &y, seed, tolerance);
    tape_free(plain);
    tape_free(fused);
}

/* The i-th outcome has the bytes of the first, which is kept. */
static void same_as_first(struct outcome *first, struct outcome x, int i)
{
    if (i == 0) {
        *first = x;
        return;
    }
    assert_memory_equal(x.out[0], first->out[0], x.n[0] * sizeof(float));
    free(x.out[0]);
}

/* A transformer block as the UNet's: products that share an input, slices, sums, GEGLU; and two
 * layers that do not bear 8 bits, one of them too narrow. */
static void coarse_block(tape *t, unsigned seed)
{
    (void)seed;
    tensor *x = input(t, "x", 2, 3, 5, 64, t->type, false);
    tensor *text = input(t, "text", 2, 1, 7, 48, t->type, true);
    tensor *k = linear_nobias(t, text, "text_k", 64), *v = linear_nobias(t, text, "text_v", 64);
    t->coarse = true;
    tensor *n = layer_norm(t, linear(t, x, "in", 64), "norm1", 1e-5f);
    tensor *q = linear_nobias(t, n, "q", 64), *own_k = linear_nobias(t, n, "k", 64);
    tensor *own_v = linear_nobias(t, n, "v", 64);
    tensor *y = attention(t, q, own_k, own_v, 2, false);
    x = add(t, linear(t, y, "out", 64), x);
    q = linear_nobias(t, layer_norm(t, x, "norm2", 1e-5f), "q2", 64);
    x = add(t, linear(t, attention(t, q, k, v, 2, false), "out2", 64), x);
    y = geglu(t, linear(t, layer_norm(t, x, "norm3", 1e-5f), "ff1", 256));
    x = add(t, linear(t, y, "ff2", 64), x);
    t->coarse = false;
    output(t, linear(t, x, "narrow", 24));
}

#endif
