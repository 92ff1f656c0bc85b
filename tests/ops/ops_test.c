/* Every operation of each backend, alone and fused as the networks use it, against the plain loops
 * of the reference backend: the CPU in every instruction set that this machine runs, and a card if
 * there is one. STYX_BACKEND=cpu or cuda: only that one, which then must be there. */
#include "engine/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Shapes are written positionally; the fields left out are 0. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

/* What is tested, open all the time: a card takes a second to start. */
struct device {
    const struct backend *be;
    void *dev;
    const char *name;
};
static struct device devices[8];
static int ndevices;

static const char *const isas[] = { "portable", "avx2", "avx512", "avx512bf16", "amx" };

static uint32_t random_state;
static size_t weight_budget; /* of solve(); 0: all weights are resident */

static float uniform(void) /* [-1, 1) */
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(int32_t)random_state * 0x1p-31f;
}

/* Numbers of a case; what they mean is up to its recorder. */
struct shape {
    int n, h, w, c, cout, k, a, b;
};

typedef void record_fn(tape *t, const struct shape *s);

struct problem {
    tape *t;
    struct weights w;
    struct span *span;
    void *in[TAPE_MAX_IN];
    float *out[TAPE_MAX_OUT];
};

static void fill_weights(struct problem *p)
{
    p->span = calloc((size_t)p->t->nparams + 1, sizeof *p->span);
    p->w = (struct weights){ .span = p->span, .count = p->t->nparams };
    random_state = 7;
    for (int i = 0; i < p->t->nparams; i++) {
        const param *q = &p->t->params[i];
        struct span *s = &p->span[i];
        s->type = DT_F32;
        s->dims = q->dims;
        memcpy(s->shape, q->shape, sizeof s->shape);
        size_t n = span_count(s), fan = q->dims > 1 ? n / (size_t)q->shape[0] : 1;
        float *data = malloc(n * sizeof *data);
        for (size_t j = 0; j < n; j++) /* exact in bf16, so that only the arithmetic differs */
            data[j] = bf16_to_f32(f32_to_bf16(uniform() * 1.7f / sqrtf((float)fan)));
        s->data = data;
    }
}

static void fill_inputs(struct problem *p)
{
    random_state = 99;
    for (int i = 0; i < p->t->nin; i++) {
        const tensor *x = p->t->in[i];
        size_t n = tensor_count(x);
        p->in[i] = malloc(n * 4);
        for (size_t j = 0; j < n; j++) {
            if (x->type == DT_I32)
                ((int32_t *)p->in[i])[j] = (int32_t)((unsigned)(uniform() * 1e6f) % 7);
            else
                ((float *)p->in[i])[j] = bf16_to_f32(f32_to_bf16(uniform() * 1.7f + 0.3f));
        }
    }
    for (int i = 0; i < p->t->nout; i++)
        p->out[i] = malloc(tensor_count(p->t->out[i]) * sizeof(float));
}

static void passes(tape *t, const struct backend *be)
{
    styx_error err = { 0 };
    if (tape_finish(t, be->merge, be->halo, &err))
        fail_msg("%s", err.text);
}

/* A second step must not find anything missing, and gives the same bytes. */
static void run_again(const struct problem *p, const struct backend *be, void *plan,
                      struct run_args *args)
{
    float *first[TAPE_MAX_OUT];
    styx_error err = { 0 };
    for (int i = 0; i < p->t->nout; i++) {
        size_t bytes = tensor_count(p->t->out[i]) * sizeof(float);
        first[i] = malloc(bytes);
        memcpy(first[i], p->out[i], bytes);
        memset(p->out[i], 0xff, bytes);
    }
    args->again = true;
    if (be->run(plan, args, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < p->t->nout; i++) {
        assert_memory_equal(first[i], p->out[i], tensor_count(p->t->out[i]) * sizeof(float));
        free(first[i]);
    }
}

/* Records, plans and runs a program; its outputs are then in p->out. */
static void solve(const struct device *d, enum dtype type, record_fn *record, const struct shape *s,
                  struct problem *p)
{
    const struct backend *be = d->be;
    void *loaded = NULL, *plan = NULL;
    styx_error err = { 0 };
    *p = (struct problem){ .t = tape_new("test", type) };
    record(p->t, s);
    passes(p->t, be);
    fill_weights(p);
    fill_inputs(p);
    struct run_args args = { 0 };
    memcpy(args.in, p->in, sizeof args.in);
    memcpy(args.out, p->out, sizeof args.out);
    if (be->load(d->dev, p->t, &p->w, weight_budget, &loaded, &err) ||
        be->prepare(d->dev, p->t, loaded, &plan, &err) || be->run(plan, &args, &err))
        fail_msg("%s in %s: %s", d->name, dtype_name(type), err.text);
    run_again(p, be, plan, &args);
    be->release(plan);
    be->unload(d->dev, loaded);
}

static struct device device_open(const struct backend *be, const struct device_options *o,
                                 const char *name)
{
    struct device d = { be, NULL, name };
    styx_error err = { 0 };
    if (be->open(o, &d.dev, &err))
        fail_msg("%s: %s", name, err.text);
    return d;
}

static void problem_free(struct problem *p)
{
    for (int i = 0; i < p->t->nparams; i++)
        free((void *)(uintptr_t)p->span[i].data);
    for (int i = 0; i < p->t->nin; i++)
        free(p->in[i]);
    for (int i = 0; i < p->t->nout; i++)
        free(p->out[i]);
    free(p->span);
    tape_free(p->t);
}

static double nmse(const struct problem *a, const struct problem *b)
{
    double error = 0, power = 0;
    for (int i = 0; i < a->t->nout; i++)
        for (size_t j = 0; j < tensor_count(a->t->out[i]); j++) {
            double d = (double)a->out[i][j] - b->out[i][j];
            error += isfinite(d) ? d * d : 1e30;
            power += (double)b->out[i][j] * b->out[i][j];
        }
    return error / (power + 1e-30);
}

/* Sums in f32 in another order: 1e-6 of the size. Halves: 2^-9 (bf16) or 2^-12 (f16) for each
 * rounding of a value. */
static const double bounds[DT_COUNT] = { [DT_F32] = 4e-12, [DT_BF16] = 1e-4, [DT_F16] = 1e-4 / 64 };

static void check(const char *name, record_fn *record, const struct shape *s)
{
    static const struct device_options hard = { .hard = true };
    struct device ref = device_open(&backend_ref, &hard, "ref");
    struct problem want, got;
    solve(&ref, DT_F32, record, s, &want);
    for (int i = 0; i < ndevices; i++)
        for (enum dtype type = 0; type < DT_COUNT; type++) {
            if (!devices[i].be->dtype[type])
                continue;
            solve(&devices[i], type, record, s, &got);
            double is = nmse(&got, &want);
            problem_free(&got);
            if (!(is < bounds[type]))
                fail_msg("%s n%d h%d w%d c%d cout%d k%d a%d b%d, %s %s: NMSE %.1e, want %.0e", name,
                         s->n, s->h, s->w, s->c, s->cout, s->k, s->a, s->b, devices[i].name,
                         dtype_name(type), is, bounds[type]);
        }
    problem_free(&want);
    ref.be->close(ref.dev);
}

static tensor *map(tape *t, const char *name, const struct shape *s, int c)
{
    return input(t, name, s->n, s->h, s->w, c, t->type, false);
}

#define CHECK(record, ...)                                                                         \
    do {                                                                                           \
        static const struct shape shapes[] = { __VA_ARGS__ };                                      \
        for (size_t i_ = 0; i_ < sizeof shapes / sizeof *shapes; i_++)                             \
            check(#record, record, &shapes[i_]);                                                   \
    } while (0)

/* ---- linear layers: a = activation, b = 1 residual, 2 shift, 4 two parts ---- */

static void record_linear(tape *t, const struct shape *s)
{
    tensor *x = map(t, "x", s, s->c), *y, *shift = NULL;
    if (s->b & 2)
        shift = input(t, "shift", s->n, 1, 1, s->cout, t->type, false);
    if (s->b & 4)
        x = concat(t, x, map(t, "second", s, s->c + 2));
    y = linear(t, x, "linear", s->a == ACT_GEGLU ? 2 * s->cout : s->cout);
    if (shift)
        y = add(t, y, shift);
    if (s->a == ACT_GEGLU)
        y = geglu(t, y);
    else if (s->a)
        y = act(t, y, (enum act)s->a);
    if (s->b & 1)
        y = add(t, y, map(t, "residual", s, s->cout));
    output(t, y);
}

static void linear_layers(void **state)
{
    (void)state;
    CHECK(record_linear, { 1, 1, 1, 7, 5 }, { 3, 1, 1, 64, 96 }, { 1, 1, 1, 1280, 320 },
          { 2, 1, 77, 48, 40 }, { 1, 9, 5, 24, 33 }, { 1, 1, 200, 3, 8 }, { 2, 8, 8, 4000, 36 },
          { 1, 1, 30, 9000, 24 });
    CHECK(record_linear, { 2, 1, 31, 24, 40, 0, ACT_SILU }, { 2, 1, 31, 24, 40, 0, ACT_GELU },
          { 2, 1, 31, 24, 40, 0, ACT_QUICK_GELU }, { 2, 1, 31, 24, 40, 0, ACT_RELU },
          { 2, 1, 31, 24, 40, 0, ACT_GEGLU }, { 1, 4, 4, 24, 21, 0, ACT_GEGLU, 1 },
          { 2, 1, 75, 136, 160, 0, ACT_GEGLU }, { 1, 1, 3, 584, 32, 0, ACT_GEGLU });
    CHECK(record_linear, { 2, 5, 7, 24, 40, 0, ACT_NONE, 1 }, { 2, 5, 7, 24, 36, 0, ACT_NONE, 2 },
          { 2, 5, 7, 24, 40, 0, ACT_SILU, 3 }, { 2, 5, 7, 24, 40, 0, ACT_NONE, 4 },
          { 2, 5, 7, 23, 40, 0, ACT_NONE, 5 }, { 2, 9, 15, 136, 352, 0, ACT_NONE, 1 },
          { 2, 9, 15, 64, 160, 0, ACT_NONE, 4 });
}

/* ---- convolutions: a = stride, b as above ---- */

static void record_conv(tape *t, const struct shape *s)
{
    tensor *x = map(t, "x", s, s->c), *y, *shift = NULL, *same = NULL;
    if (s->b & 4)
        x = concat(t, x, map(t, "second", s, s->c + 2));
    if (s->b & 2)
        shift = input(t, "shift", s->n, 1, 1, s->cout, t->type, false);
    if (s->b & 1)
        same = map(t, "residual", s, s->cout);
    y = conv2d(t, x, "conv", s->cout, s->k, s->a);
    if (shift)
        y = add(t, y, shift);
    if (same)
        y = add(t, y, same);
    output(t, y);
}

/* a: zeros before, b: zeros after */
static void record_conv_pad(tape *t, const struct shape *s)
{
    output(t, conv2d_pad(t, map(t, "x", s, s->c), "conv", s->cout, s->k, s->k > 3 ? s->k : 2, s->a,
                         s->b, true));
}

/* a, b: the size it is upsampled to */
static void record_conv_up(tape *t, const struct shape *s)
{
    tensor *x = act(t, map(t, "x", s, s->c), ACT_SILU);
    output(t, conv2d(t, upsample(t, x, s->a, s->b), "conv", s->cout, 3, 1));
}

/* A shortcut of c + 8 channels is added to it. */
static void record_shortcut(tape *t, const struct shape *s)
{
    tensor *y = conv2d(t, map(t, "x", s, s->c), "conv", s->cout, 3, 1);
    output(t, add(t, conv1x1(t, map(t, "second", s, s->c + 8), "shortcut", s->cout), y));
}

/* Cards of 9.0 compute these in pairs of pixels. */
static void wide_convolutions(void **state)
{
    (void)state;
    CHECK(record_conv, { 1, 64, 64, 8, 1280, 3, 1 }, { 3, 47, 31, 16, 1280, 3, 1, 1 });
    CHECK(record_shortcut, { 1, 64, 63, 8, 1280 });
}

static void convolutions(void **state)
{
    (void)state;
    CHECK(record_conv, { 1, 5, 5, 4, 8, 3, 1 }, { 2, 8, 8, 32, 64, 3, 1 },
          { 1, 9, 17, 40, 24, 3, 1 }, { 1, 6, 6, 3, 128, 3, 1 }, { 1, 16, 15, 24, 3, 3, 1 },
          { 2, 4, 4, 1000, 40, 3, 1 }, { 1, 7, 7, 20, 20, 1, 1 }, { 2, 8, 9, 24, 40, 3, 2 },
          { 1, 1, 1, 8, 8, 3, 1 }, { 1, 40, 70, 8, 8, 3, 1, 7 }, { 2, 6, 7, 24, 40, 3, 1, 3 },
          { 1, 9, 9, 5, 7, 1, 1, 4 });
    CHECK(record_conv_pad, { 1, 8, 10, 12, 16, 3, 0, 1 }, { 1, 9, 9, 12, 16, 3, 1, 1 },
          { 1, 28, 28, 3, 40, 14, 0, 0 }, { 1, 7, 8, 5, 6, 3, 0, 1 });
    CHECK(record_conv, { 2, 17, 33, 136, 320, 3, 1, 1 }, { 3, 9, 9, 72, 64, 3, 1 });
    CHECK(record_conv_up, { 2, 9, 17, 136, 320, 3, 18, 34 }, { 2, 9, 17, 136, 320, 3, 17, 33 },
          { 3, 4, 4, 64, 96, 3, 8, 8 });
    CHECK(record_conv_up, { 2, 4, 5, 24, 40, 3, 8, 10 }, { 2, 4, 5, 24, 40, 3, 7, 9 },
          { 1, 3, 3, 7, 9, 3, 6, 6 }, { 1, 16, 16, 48, 32, 3, 32, 32 });
}

/* The copy of a large input is made some rows at a time. */
static void large_convolutions(void **state)
{
    (void)state;
    CHECK(record_conv, { 1, 96, 520, 100, 4, 3, 1, 3 }, { 1, 90, 514, 100, 4, 3, 2 });
    CHECK(record_conv_up, { 1, 90, 260, 100, 3, 3, 180, 520 }, { 1, 90, 260, 100, 3, 3, 181, 520 });
}

/* ---- a resnet: norms written into a border, concat, shortcut, time shift ---- */

static void record_resnet(tape *t, const struct shape *s)
{
    tensor *x = map(t, "x", s, s->c), *skip = map(t, "skip", s, s->a), *y, *shift;
    shift = linear(t, input(t, "time", s->n, 1, 1, 16, t->type, false), "time", s->cout);
    x = concat(t, x, skip);
    y = conv2d(t, act(t, group_norm(t, x, "norm1", s->k, 1e-5f), ACT_SILU), "conv1", s->cout, 3, 1);
    y = add(t, y, shift);
    y = conv2d(t, act(t, group_norm(t, y, "norm2", s->k, 1e-5f), ACT_SILU), "conv2", s->cout, 3, 1);
    output(t, add(t, conv1x1(t, x, "shortcut", s->cout), y));
}

static void resnets(void **state)
{
    (void)state;
    CHECK(record_resnet, { 2, 8, 8, 32, 32, 8, 32 }, { 1, 12, 10, 40, 32, 4, 24 },
          { 2, 5, 9, 20, 16, 4, 12 }, { 1, 40, 40, 64, 64, 32, 128 },
          { 2, 17, 33, 72, 160, 8, 136 });
}

/* ---- attention: c = head dim, k = heads, cout = tokens of k and v, a = causal, b = doublings of
 * the queries: large scores need the running maximum ---- */

static void record_attention(tape *t, const struct shape *s)
{
    int c = s->c * s->k;
    tensor *q = input(t, "q", s->n, s->h, s->w, c, t->type, false);
    tensor *k = input(t, "k", s->n, 1, s->cout, c, t->type, false);
    tensor *v = input(t, "v", s->n, 1, s->cout, c, t->type, false);
    for (int i = 0; i < s->b; i++)
        q = add(t, q, q);
    output(t, attention(t, q, k, v, s->k, s->a));
}

static void attentions(void **state)
{
    (void)state;
    CHECK(record_attention, { 1, 1, 1, 8, 1, 1 }, { 2, 8, 8, 40, 64, 2 }, { 1, 16, 20, 40, 320, 2 },
          { 2, 6, 6, 64, 77, 3 }, { 1, 10, 10, 80, 300, 2 }, { 1, 5, 5, 160, 77, 2 },
          { 1, 24, 24, 512, 576, 1 }, { 1, 7, 5, 96, 40, 1 }, { 1, 7, 5, 24, 40, 1 },
          { 1, 7, 5, 56, 40, 2 }, { 1, 7, 5, 48, 40, 2 }, { 1, 7, 5, 120, 40, 2 },
          { 1, 7, 5, 13, 40, 2 }, { 1, 3, 11, 6, 33, 3 }, { 1, 4, 4, 16, 600, 1 });
    CHECK(record_attention, { 2, 1, 77, 64, 77, 2, 1 }, { 1, 1, 300, 32, 300, 1, 1 },
          { 1, 1, 9, 40, 9, 1, 1 });
    CHECK(record_attention, { 1, 16, 20, 40, 320, 2, 0, 6 }, { 2, 6, 6, 64, 77, 3, 0, 4 },
          { 1, 10, 10, 80, 600, 2, 0, 5 }, { 1, 1, 300, 32, 300, 1, 1, 6 });
}

/* ---- norms and the rest ---- */

static void record_group_norm(tape *t, const struct shape *s)
{
    tensor *x = map(t, "x", s, s->c);
    if (s->a)
        x = concat(t, x, map(t, "second", s, s->a));
    output(t, group_norm(t, x, "norm", s->k, 1e-5f));
}

static void record_layer_norm(tape *t, const struct shape *s)
{
    output(t, layer_norm(t, map(t, "x", s, s->c), "norm", 1e-5f));
}

/* Products behind a norm as the UNet's transformers have them, in which cards of 9.0 may do the
 * norm: what it reads is still wanted after them. */
static void record_normed(tape *t, const struct shape *s)
{
    static const char *const names[] = { "q", "k", "v" };
    tensor *x = map(t, "x", s, s->c), *n = layer_norm(t, x, "norm", 1e-5f);
    t->coarse = true;
    if (s->a == ACT_GEGLU)
        output(t, geglu(t, linear(t, n, "wide", 2 * s->cout)));
    for (int i = 0; i < s->b; i++)
        output(t, upsample(t, linear_nobias(t, n, names[i], s->cout), 2 * s->h, s->w));
    t->coarse = false;
    output(t, act(t, x, ACT_SILU));
}

static void norms(void **state)
{
    (void)state;
    CHECK(record_group_norm, { 2, 8, 8, 32, 0, 8 }, { 1, 33, 65, 20, 0, 4 }, { 1, 1, 1, 64, 0, 2 },
          { 1, 7, 9, 40, 0, 4, 24 }, { 1, 64, 64, 64, 0, 32 });
    CHECK(record_layer_norm, { 2, 1, 77, 768 }, { 1, 3, 5, 19 }, { 1, 1, 1, 4 });
    CHECK(record_normed, { 2, 8, 9, 320, 64, 0, ACT_NONE, 1 }, { 1, 5, 7, 80, 96, 0, ACT_NONE, 3 },
          { 2, 9, 15, 640, 160, 0, ACT_GEGLU }, { 1, 1, 300, 1280, 128, 0, ACT_GEGLU });
}

static void record_text(tape *t, const struct shape *s)
{
    tensor *ids = input(t, "ids", s->n, 1, s->w, 1, DT_I32, false);
    tensor *at = input(t, "at", s->n, 1, 1, 1, DT_I32, false);
    tensor *x = position(t, embed(t, ids, "token", 9, s->c), "position", s->w + 3);
    x = prepend(t, x, "class");
    output(t, row(t, x, at));
    output(t, x);
}

static void record_time(tape *t, const struct shape *s)
{
    tensor *x = input(t, "t", s->n, 1, 1, s->c, DT_F32, false);
    output(t, timestep(t, x, s->cout, s->a, (float)s->b));
    output(t, linear(t, timestep(t, x, s->cout, s->a, (float)s->b), "linear", 24));
}

/* Nothing here can be fused: the same sums as separate instructions. */
static void record_elementwise(tape *t, const struct shape *s)
{
    tensor *x = map(t, "x", s, s->c), *y = map(t, "y", s, s->c), *z;
    tensor *v = input(t, "v", s->n, 1, 1, s->c, t->type, true);
    z = concat(t, add(t, x, y), add(t, x, v));
    output(t, z);
    output(t, geglu(t, z));
    output(t, upsample(t, z, 2 * s->h + 1, 3 * s->w));
    output(t, repeat(t, z, 3));
    for (enum act a = ACT_SILU; a <= ACT_RELU; a++)
        output(t, act(t, x, a));
    output(t, act(t, v, ACT_SILU));
}

static void other_operations(void **state)
{
    (void)state;
    CHECK(record_text, { 2, 1, 11, 24 }, { 1, 1, 77, 768 });
    CHECK(record_time, { 2, 1, 1, 1, 320, 0, 1, 0 }, { 1, 1, 1, 6, 256, 0, 0, 1 });
    CHECK(record_elementwise, { 2, 3, 5, 24 }, { 1, 4, 4, 7 });
}

/* ---- the same bytes for any number of threads ---- */

static void same_for_any_threads(void **state)
{
    static const struct {
        record_fn *record;
        struct shape s;
    } cases[] = {
        { record_resnet, { 2, 24, 24, 64, 96, 32, 128 } },
        { record_attention, { 2, 20, 20, 40, 400, 2 } },
        { record_linear, { 1, 1, 300, 9000, 64, 0, ACT_GEGLU } },
        { record_conv_up, { 1, 30, 30, 24, 40, 3, 60, 60 } },
    };
    (void)state;
    static const int threads[] = { 1, 2, 5 };
    struct device d[3];
    for (int j = 0; j < 3; j++)
        d[j] = device_open(&backend_cpu, &(struct device_options){ .threads = threads[j] }, "cpu");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            struct problem p[3];
            for (int j = 0; j < 3; j++)
                solve(&d[j], bf16 ? DT_BF16 : DT_F32, cases[i].record, &cases[i].s, &p[j]);
            for (int j = 1; j < 3; j++)
                assert_memory_equal(p[j].out[0], p[0].out[0],
                                    tensor_count(p[0].t->out[0]) * sizeof(float));
            for (int j = 0; j < 3; j++)
                problem_free(&p[j]);
        }
    for (int j = 0; j < 3; j++)
        d[j].be->close(d[j].dev);
}

/* 8-bit products: 127 steps to the largest number of a row give errors of a percent; all variants
 * sum the same integers, so they agree as f32 does, and so do threads and streamed weights. */
static void check_eight_bits(record_fn *record, const struct shape *s, struct device *device,
                             const struct problem *want, const struct problem *first)
{
    for (enum dtype type = DT_F32; type <= DT_BF16; type++) {
        struct problem got;
        solve(device, type, record, s, &got);
        double error = nmse(&got, want), other = nmse(&got, first);
        problem_free(&got);
        if (!(error > 1e-7 && error < 1e-3))
            fail_msg("%s %s: NMSE %.1e, want 1e-7 to 1e-3", device->name, dtype_name(type), error);
        if (!(other < (type == DT_F32 ? 1e-11 : 2e-4)))
            fail_msg("%s %s: NMSE %.1e from the first variant", device->name, dtype_name(type),
                     other);
    }
}

/* Queries and keys share the bytes of their input; what comes next has another one. */
static void record_many(tape *t, const struct shape *s)
{
    tensor *x = map(t, "x", s, s->c), *q = linear(t, x, "q", s->cout);
    tensor *k = linear(t, x, "k", s->c);
    output(t, q);
    output(t, k);
    output(t, linear(t, k, "v", s->cout));
}

static void eight_bits(void **state)
{
    static const struct {
        record_fn *record;
        struct shape s;
    } cases[] = {
        { record_linear, { 2, 5, 7, 40, 40 } },
        { record_linear, { 1, 1, 200, 1283, 96, 0, ACT_GEGLU } },
        { record_linear, { 1, 9, 15, 4000, 33, 0, ACT_GELU, 3 } },
        { record_linear, { 2, 5, 7, 45, 40, 0, ACT_NONE, 4 } },
        { record_many, { 2, 5, 7, 45, 40 } },
        { record_many, { 1, 1, 40, 96, 64 } },
        { record_conv, { 2, 9, 17, 40, 70, 3, 1 } },
        { record_conv, { 2, 8, 9, 330, 40, 3, 2, 2 } },
        { record_conv, { 1, 9, 9, 37, 40, 1, 1, 4 } },
        { record_conv_up, { 1, 16, 16, 48, 32, 3, 32, 32 } },
        { record_conv_up, { 2, 4, 5, 33, 40, 3, 7, 9 } },
    };
    (void)state;
    struct device ref = device_open(&backend_ref, &(struct device_options){ .hard = true }, "ref");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct problem want, first;
        solve(&ref, DT_F32, cases[i].record, &cases[i].s, &want);
        for (size_t j = 0; j < sizeof isas / sizeof *isas; j++) {
            struct device_options o = {
                .threads = 1 + 2 * (int)j, .isa = isas[j], .hard = true, .int8 = true
            };
            struct device device = { .be = &backend_cpu, .name = isas[j] };
            if (backend_cpu.open(&o, &device.dev, NULL))
                continue; /* not on this CPU: open_devices() has said so */
            if (j == 0)
                solve(&device, DT_F32, cases[i].record, &cases[i].s, &first);
            check_eight_bits(cases[i].record, &cases[i].s, &device, &want, &first);
            weight_budget = 1;
            check_eight_bits(cases[i].record, &cases[i].s, &device, &want, &first);
            weight_budget = 0;
            backend_cpu.close(device.dev);
        }
        problem_free(&want);
        problem_free(&first);
    }
    ref.be->close(ref.dev);
}

/* ---- 8-bit floats: a card of 9.0 ---- */

static void record_coarse(tape *t, const struct shape *s)
{
    t->coarse = true;
    record_linear(t, s);
}

/* Products that become one; what reads them keeps their numbers. */
static void record_coarse_many(tape *t, const struct shape *s)
{
    tensor *x = map(t, "x", s, s->c);
    static const char *const names[] = { "q", "k", "v" };
    t->coarse = true;
    for (int i = 0; i < 3; i++)
        output(t, upsample(t, linear_nobias(t, x, names[i], (i + 1) * s->cout), 2 * s->h, s->w));
}

/* Two roundings of at most 2^-4 a product: 7e-4 each of its square, on average, in a sum whose
 * terms know nothing of each other. Streamed weights give the same bytes. */
static void check_eight_bit_floats(record_fn *record, const struct shape *s, struct device *card,
                                   enum dtype type)
{
    struct device ref = device_open(&backend_ref, &(struct device_options){ .hard = true }, "ref");
    struct problem want, got, streamed;
    solve(&ref, DT_F32, record, s, &want);
    solve(card, type, record, s, &got);
    weight_budget = 1;
    solve(card, type, record, s, &streamed);
    weight_budget = 0;
    double error = nmse(&got, &want);
    if (!(error > 1e-5 && error < 2.5e-3))
        fail_msg("fp8 %s n%d h%d w%d c%d cout%d a%d b%d: NMSE %.1e, want 1e-5 to 2.5e-3",
                 dtype_name(type), s->n, s->h, s->w, s->c, s->cout, s->a, s->b, error);
    for (int i = 0; i < got.t->nout; i++)
        assert_memory_equal(streamed.out[i], got.out[i],
                            tensor_count(got.t->out[i]) * sizeof(float));
    problem_free(&want);
    problem_free(&got);
    problem_free(&streamed);
    ref.be->close(ref.dev);
}

static void eight_bit_floats(void **state)
{
    static const struct {
        record_fn *record;
        struct shape s;
    } cases[] = {
        { record_coarse, { 1, 1, 1, 64, 64 } },
        { record_coarse, { 2, 5, 7, 80, 400 } },
        { record_coarse, { 2, 16, 16, 320, 320, 0, ACT_NONE, 1 } },
        { record_coarse, { 1, 9, 15, 4096, 112, 0, ACT_NONE, 1 } },
        { record_coarse, { 1, 1, 200, 1280, 96, 0, ACT_GEGLU } },
        { record_coarse, { 2, 4, 5, 320, 160, 0, ACT_SILU, 3 } },
        { record_coarse_many, { 2, 9, 5, 320, 80 } },
    };
    const struct backend *cuda = backend_find("cuda");
    struct device_options o = { .hard = true, .fp8 = true };
    struct device card = { .be = cuda, .name = "cuda" };
    const char *only = getenv("STYX_BACKEND");
    styx_error err = { 0 };
    (void)state;
    if (!cuda || (only && strcmp(only, "cuda") != 0))
        return;
    int code = cuda->open(&o, &card.dev, &err);
    if (code == STYX_ERR_NODEVICE || code == STYX_ERR_UNSUPPORTED) {
        print_message("fp8 is not tested: %s\n", err.text);
        return;
    }
    if (code)
        fail_msg("fp8: %s", err.text);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (enum dtype type = DT_BF16; type <= DT_F16; type++)
            check_eight_bit_floats(cases[i].record, &cases[i].s, &card, type);
    cuda->close(card.dev);
}

/* The least budget streams everything through one window, the next ones a part of it. */
static void streamed_weights_are_the_same(void **state)
{
    static const struct shape s = { 2, 8, 8, 32, 32, 8, 32 };
    struct problem want, got;
    (void)state;
    for (int i = 0; i < ndevices; i++) {
        solve(&devices[i], DT_BF16, record_resnet, &s, &want);
        for (size_t budget = 1; budget < 200000; budget = 3 * budget + 5000) {
            weight_budget = budget;
            solve(&devices[i], DT_BF16, record_resnet, &s, &got);
            weight_budget = 0;
            assert_memory_equal(got.out[0], want.out[0],
                                tensor_count(want.t->out[0]) * sizeof(float));
            problem_free(&got);
        }
        problem_free(&want);
    }
}

/* measure() tells what load() takes: all, the budget, or the least that works. */
static void budgets_are_measured(void **state)
{
    static const struct shape s = { 2, 8, 8, 32, 32, 8, 32 };
    struct footprint all, least, some;
    tape *t = tape_new("test", DT_BF16);
    void *dev;
    (void)state;
    record_resnet(t, &s);
    tape_fuse(t);
    tape_prune(t);
    assert_int_equal(tape_plan(t, NULL), STYX_OK);
    assert_int_equal(backend_cpu.open(&(struct device_options){ 0 }, &dev, NULL), STYX_OK);
    backend_cpu.measure(dev, t, 0, &all);
    backend_cpu.measure(dev, t, 1, &least);
    backend_cpu.measure(dev, t, least.weights + 100, &some);
    assert_true(least.weights < all.weights);
    assert_true(some.weights == least.weights + 100);
    backend_cpu.close(dev);
    tape_free(t);
}

static void unknown_isa_is_refused(void **state)
{
    void *dev = NULL;
    styx_error err = { 0 };
    (void)state;
    assert_int_equal(backend_cpu.open(&(struct device_options){ .isa = "sse9" }, &dev, &err),
                     STYX_ERR_NODEVICE);
    assert_non_null(strstr(err.text, "sse9"));
    assert_null(dev);
}

/* ---- what there is to test ---- */

static void add_device(const struct backend *be, const struct device_options *o, const char *name,
                       bool required)
{
    struct device d = { be, NULL, name };
    styx_error err = { 0 };
    if (be->open(o, &d.dev, &err) == 0)
        devices[ndevices++] = d;
    else if (required)
        fail_msg("%s: %s", name, err.text);
    else
        print_message("%s is not tested: %s\n", name, err.text);
}

static int open_devices(void **state)
{
    const char *only = getenv("STYX_BACKEND");
    const struct backend *cuda = backend_find("cuda");
    (void)state;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        if (!only || strcmp(only, "cpu") == 0)
            add_device(&backend_cpu,
                       &(struct device_options){ .threads = 2, .isa = isas[i], .hard = true },
                       isas[i], false);
    if (only && strcmp(only, "cuda") == 0 && !cuda)
        fail_msg("cuda is to be tested, but was not compiled in");
    if (cuda && (!only || strcmp(only, "cuda") == 0))
        add_device(cuda, &(struct device_options){ .hard = true }, "cuda", only);
    else if (!cuda)
        print_message("cuda is not tested: it was not compiled in\n");
    return ndevices ? 0 : -1;
}

static int close_devices(void **state)
{
    (void)state;
    while (ndevices--)
        devices[ndevices].be->close(devices[ndevices].dev);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_layers),
        cmocka_unit_test(convolutions),
        cmocka_unit_test(wide_convolutions),
        cmocka_unit_test(large_convolutions),
        cmocka_unit_test(resnets),
        cmocka_unit_test(attentions),
        cmocka_unit_test(norms),
        cmocka_unit_test(other_operations),
        cmocka_unit_test(same_for_any_threads),
        cmocka_unit_test(eight_bits),
        cmocka_unit_test(streamed_weights_are_the_same),
        cmocka_unit_test(eight_bit_floats),
        cmocka_unit_test(budgets_are_measured),
        cmocka_unit_test(unknown_isa_is_refused),
    };
    return cmocka_run_group_tests(tests, open_devices, close_devices);
}
