/* programs.h - weights and inputs of recorded programs, and how to run them: for the tests of the
 * passes and of backends. Everything is static: each test program includes it once. */
#ifndef STYX_TESTS_PROGRAMS_H
#define STYX_TESTS_PROGRAMS_H
#include "tape/backend.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

typedef void record_fn(tape *t, unsigned seed);

static unsigned next(unsigned *s)
{
    *s = *s * 1664525u + 1013904223u;
    return *s >> 8;
}

static float number(unsigned *s)
{
    return (float)next(s) / 8388608.0f - 1;
}

struct filled {
    struct span *spans;
    float **data;
};

/* Weights by the name of their parameter, so that both recordings get the same. */
static struct filled fill(const tape *t)
{
    struct filled f = { calloc((size_t)t->nparams + 1, sizeof *f.spans),
                        calloc((size_t)t->nparams + 1, sizeof *f.data) };
    for (int i = 0; i < t->nparams; i++) {
        const param *p = &t->params[i];
        unsigned seed = 7;
        for (const char *c = p->name; *c; c++)
            seed = seed * 31 + (unsigned char)*c;
        struct span *s = &f.spans[i];
        *s = (struct span){ .type = DT_F32, .dims = p->dims };
        memcpy(s->shape, p->shape, sizeof s->shape);
        size_t n = span_count(s), fan = n / (size_t)s->shape[0];
        f.data[i] = malloc(n * sizeof(float));
        for (size_t k = 0; k < n; k++)
            f.data[i][k] = number(&seed) * (p->dims > 1 ? sqrtf(3.0f / (float)fan) : 0.5f) +
                           (p->dims == 1 && strstr(p->name, "weight") ? 1 : 0);
        s->data = f.data[i];
    }
    return f;
}

/* Rows that repeat are all there before tape_share, and of vectors behind it. */
static void fill_input(const tape *t, const tensor *x, float *to, unsigned seed)
{
    int rows = x->repeats ? t->out[0]->n / t->copies : x->n;
    size_t different = tensor_count(x) / (size_t)x->n * (size_t)rows;
    for (size_t i = 0; i < tensor_count(x); i++) {
        if (i >= different)
            to[i] = to[i - different];
        else if (x->type == DT_I32)
            ((int32_t *)to)[i] = (int32_t)(next(&seed) % 9);
        else
            to[i] = number(&seed) * (x->c == 1 ? 500 : 1);
    }
}

static void must(int code, const styx_error *err)
{
    if (code)
        fail_msg("%s", err->text);
}

struct outcome {
    float *out[TAPE_MAX_OUT];
    size_t n[TAPE_MAX_OUT];
    int nout;
    size_t arena;
};

/* Runs the program twice as the pipeline does: a first step, then one with another sample. The
 * weights are loaded for another program of the network. */
static struct outcome run_after(const struct backend *b, void *dev, size_t budget,
                                const tape *other, tape *t)
{
    struct filled f = fill(t);
    struct weights w = { f.spans, t->nparams };
    struct outcome result = { .nout = t->nout, .arena = t->arena };
    struct run_args args = { 0 };
    float *in[TAPE_MAX_IN];
    void *loaded, *plan;
    styx_error err;
    must(b->load(dev, other, &w, budget, &loaded, &err), &err);
    must(b->prepare(dev, t, loaded, &plan, &err), &err);
    for (int i = 0; i < t->nin; i++)
        args.in[i] = in[i] = malloc(tensor_count(t->in[i]) * sizeof(float));
    for (int i = 0; i < t->nout; i++) {
        result.n[i] = tensor_count(t->out[i]);
        args.out[i] = result.out[i] = malloc(result.n[i] * sizeof(float));
    }
    for (int step = 0; step < 2; step++) {
        for (int i = 0; i < t->nin; i++)
            if (!(step && t->in_once[i]))
                fill_input(t, t->in[i], in[i], (unsigned)(i * 10 + step));
        args.again = step > 0;
        must(b->run(plan, &args, &err), &err);
    }
    b->release(plan);
    b->unload(dev, loaded);
    for (int i = 0; i < t->nin; i++)
        free(in[i]);
    for (int i = 0; i < t->nparams; i++)
        free(f.data[i]);
    free(f.data);
    free(f.spans);
    return result;
}

static struct outcome run(const struct backend *b, void *dev, size_t budget, tape *t)
{
    return run_after(b, dev, budget, t, t);
}

/* Every value in its own place, nothing fused: what the recording says, word for word. */
static tape *naive(record_fn *record, unsigned seed)
{
    tape *t = tape_new("naive", DT_F32);
    size_t at = 0;
    record(t, seed);
    assert_int_equal(tape_plan(t, &t->err), 0);
    for (int i = -t->nin; i < t->ncode; i++) {
        tensor *x = i < 0 ? t->in[i + t->nin] : t->code[i].out;
        x->alias = NULL;
        x->offset = at;
        at += x->bytes;
    }
    t->arena = at;
    return t;
}

static tape *optimised(record_fn *record, unsigned seed, enum dtype type, bool halo, bool merge)
{
    tape *t = tape_new("optimised", type);
    t->large = 1; /* every map: these are small */
    record(t, seed);
    if (tape_finish(t, merge, halo, &t->err))
        fail_msg("%s", t->err.text);
    return t;
}

/* Frees both. */
static void compare_outcomes(struct outcome *x, struct outcome *y, unsigned seed, float tolerance)
{
    assert_int_equal(x->nout, y->nout);
    for (int i = 0; i < x->nout; i++) {
        assert_int_equal(x->n[i], y->n[i]);
        for (size_t k = 0; k < x->n[i]; k++)
            if (!(fabsf(x->out[i][k] - y->out[i][k]) <= tolerance * fmaxf(1, fabsf(x->out[i][k]))))
                fail_msg("seed %u, output %d at %zu: %g, naively %g", seed, i, k,
                         (double)y->out[i][k], (double)x->out[i][k]);
        free(x->out[i]);
        free(y->out[i]);
    }
}

#endif
