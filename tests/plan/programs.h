/* programs.h - programs to record, their weights and inputs, and how to run them: for the tests of
 * the passes and of backends. Everything is static: each test program includes it once. */
#ifndef STYX_TESTS_PROGRAMS_H
#define STYX_TESTS_PROGRAMS_H
#include "base/json.h"
#include "model/model.h"
#include "plan/networks.h"
#include "tape/backend.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- programs ---- */

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

static json_t *parse(const char *text)
{
    json_t *root = NULL;
    styx_error err;
    if (json_bytes(text, strlen(text), "a test config", &root, &err))
        fail_msg("%s", err.text);
    return root;
}

static void record_unet(tape *t, const char *config, int h, int w, int ids)
{
    struct unet_config m;
    json_t *c = parse(config);
    assert_int_equal(unet_read(c, "test", &m, NULL), 0);
    unet(t, &m, 2, h, w, 5, ids);
    json_decref(c);
    t->copies = 2; /* as under guidance */
    t->in[0]->repeats = t->in[1]->repeats = true;
}

static void narrow_sd15(tape *t, unsigned seed)
{
    record_unet(t, NARROW_SD15, 8 + (int)seed % 3, 9, 0); /* odd sides: upsampling to the skip */
}

static void narrow_sdxl(tape *t, unsigned seed)
{
    record_unet(t, NARROW_SDXL, 8, 6 + (int)seed % 3, 6);
}

static void narrow_refiner(tape *t, unsigned seed)
{
    record_unet(t, NARROW_REFINER, 8 + (int)seed % 2, 8, 5);
}

static void narrow_vae(tape *t, unsigned seed)
{
    struct vae_config m;
    json_t *c = parse(NARROW_VAE);
    assert_int_equal(vae_read(c, "test", &m, NULL), 0);
    if (seed % 2)
        vae_encode(t, &m, 1, 24, 17);
    else
        vae_decode(t, &m, 2, 3, 4);
    json_decref(c);
}

static void narrow_clip(tape *t, unsigned seed)
{
    struct clip_config m;
    json_t *c = parse(NARROW_CLIP);
    assert_int_equal(clip_text_read(c, "test", &m, NULL), 0);
    clip_text(t, &m, 2, 9, (int)seed % 4, seed % 3 == 0);
    json_decref(c);
}

/* A net of arbitrary instructions over one shape, with values read late and twice. Of most nets the
 * rows of two inputs repeat: then those of all values do until the third is read. */
static void random_net(tape *t, unsigned seed)
{
    enum { C = 12, MAX = 40 };
    int n = 0, h = 5, w = 4, copies = 1 + (int)seed % 3, rows = copies == 2 ? 4 : 3;
    tensor *v[MAX], *once = input(t, "once", rows, 1, 1, C, DT_F32, true);
    tensor *time = input(t, "time", rows, 1, 1, C, DT_F32, false);
    v[n++] = input(t, "x", rows, h, w, C, DT_F32, false);
    t->copies = copies;
    v[0]->repeats = time->repeats = true;
    while (n < MAX) {
        char at[24];
        tensor *a = v[next(&seed) % (unsigned)n], *b = v[n - 1], *y;
        snprintf(at, sizeof at, "layer%d", n);
        switch (next(&seed) % 10) {
        case 0:
            y = conv2d(t, a, at, C, 3, 1);
            break;
        case 1:
            y = act(t, group_norm(t, a, at, 3, 1e-5f), ACT_SILU);
            break;
        case 2:
            y = add(t, a, b);
            break;
        case 3:
            y = add(t, linear(t, a, at, C), linear(t, once, "once", C));
            break;
        case 4:
            y = linear(t, concat(t, a, b), at, C);
            break;
        case 5:
            y = geglu(t, linear(t, a, at, 2 * C));
            break;
        case 6:
            y = attention(t, a, b, a, 3, false);
            break;
        case 7:
            y = conv2d(t, upsample(t, conv2d(t, b, at, C, 3, 2), h, w), "up", C, 3, 1);
            break;
        case 8:
            y = add(t, conv2d(t, a, at, C, 3, 1), act(t, linear(t, time, "time", C), ACT_SILU));
            break;
        default:
            y = act(t, layer_norm(t, a, at, 1e-5f), ACT_GELU);
        }
        v[n++] = y;
    }
    output(t, v[n - 1]);
    output(t, v[n / 2]);
}

/* ---- running them ---- */

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
