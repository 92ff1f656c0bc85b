/* plan_test.c - the property that guards fusion, hoisting, halos and the planner: a program that
 * went through every pass and runs in an arena full of NaN, where values turn to NaN when their
 * last reader is done, gives the bits of the same recording run naively, each value in its own
 * place.
 *
 * Also: the published parameter counts, and how long recording and planning take. */
#include "base/json.h"
#include "engine/engine.h"
#include "model/model.h"
#include "plan/networks.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

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

/* A net of arbitrary instructions over one shape, with values read late and twice. */
static void random_net(tape *t, unsigned seed)
{
    enum { C = 12, MAX = 40 };
    tensor *v[MAX], *once = input(t, "once", 2, 1, 1, C, DT_F32, true);
    int n = 0, h = 5, w = 4;
    v[n++] = input(t, "x", 2, h, w, C, DT_F32, false);
    while (n < MAX) {
        char at[16];
        tensor *a = v[next(&seed) % (unsigned)n], *b = v[n - 1], *y;
        snprintf(at, sizeof at, "layer%d", n);
        switch (next(&seed) % 9) {
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

static void fill_input(const tensor *x, float *to, unsigned seed)
{
    for (size_t i = 0; i < tensor_count(x); i++) {
        if (x->type == DT_I32)
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

/* Runs the program twice as the pipeline does: a first step, then one with another sample. */
static struct outcome run(const struct backend *b, void *dev, tape *t)
{
    struct filled f = fill(t);
    struct weights w = { f.spans, t->nparams };
    struct outcome result = { .nout = t->nout, .arena = t->arena };
    struct run_args args = { 0 };
    float *in[TAPE_MAX_IN];
    void *loaded, *plan;
    styx_error err;
    must(b->load(dev, t, &w, 0, &loaded, &err), &err);
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
                fill_input(t->in[i], in[i], (unsigned)(i * 10 + step));
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

static tape *optimised(record_fn *record, unsigned seed, bool halo, bool merge)
{
    tape *t = tape_new("optimised", DT_F32);
    record(t, seed);
    tape_fuse(t);
    if (merge) {
        tape_merge(t);
        tape_defer(t);
    }
    tape_hoist(t);
    if (halo)
        tape_halo(t);
    if (tape_plan(t, &t->err))
        fail_msg("%s", t->err.text);
    return t;
}

static void *device(const struct backend *b, bool hard)
{
    struct device_options o = { .hard = hard, .threads = 2 };
    void *dev;
    styx_error err;
    must(b->open(&o, &dev, &err), &err);
    return dev;
}

static void compare(record_fn *record, unsigned seed, const struct backend *b, void *dev,
                    bool merge, float tolerance)
{
    tape *plain = naive(record, seed), *fused = optimised(record, seed, b->halo, merge);
    void *ref = device(&backend_ref, false);
    struct outcome x = run(&backend_ref, ref, plain), y = run(b, dev, fused);
    backend_ref.close(ref);
    assert_true(fused->ncode <= plain->ncode);
    assert_int_equal(x.nout, y.nout);
    for (int i = 0; i < x.nout; i++) {
        assert_int_equal(x.n[i], y.n[i]);
        for (size_t k = 0; k < x.n[i]; k++)
            if (!(fabsf(x.out[i][k] - y.out[i][k]) <= tolerance * fmaxf(1, fabsf(x.out[i][k]))))
                fail_msg("seed %u, output %d at %zu: %g, naively %g", seed, i, k,
                         (double)y.out[i][k], (double)x.out[i][k]);
        free(x.out[i]);
        free(y.out[i]);
    }
    tape_free(plain);
    tape_free(fused);
}

static void compare_all(const struct backend *b, bool merge, unsigned nets, float tolerance)
{
    record_fn *const networks[] = { narrow_sd15, narrow_sdxl, narrow_refiner, narrow_vae,
                                    narrow_clip };
    void *dev = device(b, true);
    for (unsigned seed = 0; seed < nets; seed++)
        compare(random_net, seed, b, dev, merge, tolerance);
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++)
        for (unsigned seed = 0; seed < 4; seed++)
            compare(networks[i], seed, b, dev, merge, tolerance);
    b->close(dev);
}

static void test_programs(void **state)
{
    (void)state;
    compare_all(&backend_ref, false, 200, 0);
}

/* Merged products keep the bits; a sum that moved into a norm is rounded at another place. */
static void test_merged_programs(void **state)
{
    (void)state;
    compare_all(&backend_ref, true, 200, 1e-3f);
}

static void test_programs_on_cpu(void **state)
{
    (void)state;
    compare_all(&backend_cpu, false, 50, 2e-3f); /* 40 layers of f32 sums */
}

/* With STYX_BACKEND=cuda the card must be there. */
static void test_programs_on_card(void **state)
{
    const char *only = getenv("STYX_BACKEND");
    const struct backend *cuda = backend_find("cuda");
    styx_error err = { .text = "it was not compiled in" };
    void *dev;
    (void)state;
    if (cuda && cuda->open(&(struct device_options){ 0 }, &dev, &err) == 0) {
        cuda->close(dev);
        compare_all(cuda, cuda->merge, 50, 2e-3f);
        return;
    }
    if (only && strcmp(only, "cuda") == 0)
        fail_msg("cuda: %s", err.text);
    print_message("cuda is not tested: %s\n", err.text);
    skip();
}

/* One product for a self-attention, one for all time embeddings, few for the text. */
static void test_merging_saves_products(void **state)
{
    tape *apart = optimised(narrow_sd15, 0, false, false);
    tape *merged = optimised(narrow_sd15, 0, false, true);
    int products = 0, shifts = 0;
    (void)state;
    for (int i = 0; i < merged->ncode; i++) {
        const instr *o = &merged->code[i];
        products += o->op == OP_LINEAR && o->u.many.count > 1;
        shifts += o->op == OP_CONV2D && o->shift;
    }
    assert_true(products > 2);
    assert_int_equal(shifts, 0);
    assert_true(merged->ncode < apart->ncode);
    tape_free(apart);
    tape_free(merged);
}

/* ---- counts and times ---- */

static tape *real_unet(const char *config, int h, int w, int tokens, int ids)
{
    struct unet_config m;
    tape *t = tape_new("unet", DT_BF16);
    json_t *c = parse(config);
    styx_error err;
    if (unet_read(c, "test", &m, &err))
        fail_msg("%s", err.text);
    unet(t, &m, 2, h, w, tokens, ids);
    json_decref(c);
    return t;
}

static void check_count(tape *t, size_t want)
{
    if (t->err.code)
        fail_msg("%s", t->err.text);
    assert_int_equal(tape_parameters(t), want);
    tape_free(t);
}

static void test_counts(void **state)
{
    struct clip_config clip;
    struct vae_config vae;
    json_t *c;
    tape *t;
    (void)state;
    check_count(real_unet(SD15_UNET, 64, 64, 77, 0), 859520964);
    check_count(real_unet(SDXL_UNET, 128, 128, 77, 6), 2567463684);
    check_count(real_unet(REFINER_UNET, 128, 128, 77, 5), 2259526660);
    c = parse(VAE);
    assert_int_equal(vae_read(c, "test", &vae, NULL), 0);
    json_decref(c);
    t = tape_new("vae", DT_F32);
    vae_encode(t, &vae, 1, 512, 512);
    vae_decode(t, &vae, 1, 64, 64);
    check_count(t, 83653863);
    c = parse(CLIP_L);
    assert_int_equal(clip_text_read(c, "test", &clip, NULL), 0);
    json_decref(c);
    t = tape_new("text", DT_F32);
    clip_text(t, &clip, 1, 77, 12, true);
    check_count(t, 123060480);
    c = parse(BIG_G);
    assert_int_equal(clip_text_read(c, "test", &clip, NULL), 0);
    json_decref(c);
    t = tape_new("text", DT_F32);
    clip_text(t, &clip, 1, 77, 31, false);
    check_count(t, 694659840);
}

static double milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* tests share the machine */
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* 10 ms are promised for SDXL, of an optimised build: sanitizers and -O0 get more. */
static void test_planning_is_fast(void **state)
{
    double best = 1e9;
    (void)state;
    for (int i = 0; i < 20; i++) {
        double since = milliseconds();
        tape *t = real_unet(SDXL_UNET, 128, 128, 77, 6);
        tape_fuse(t);
        tape_hoist(t);
        tape_halo(t);
        assert_int_equal(tape_plan(t, NULL), 0);
        double took = milliseconds() - since;
        best = took < best ? took : best;
        tape_free(t);
    }
    print_message("SDXL's UNet recorded and planned in %.2f ms\n", best);
#ifdef __OPTIMIZE__
#ifndef __SANITIZE_ADDRESS__
    assert_true(best <= 10);
#endif
#endif
}

/* A program's arena must hold its largest instruction, and reuse must save most of the rest. */
static void test_arena(void **state)
{
    tape *t = real_unet(SD15_UNET, 64, 64, 77, 0);
    (void)state;
    tape_fuse(t);
    tape_hoist(t);
    tape_halo(t);
    assert_int_equal(tape_plan(t, NULL), 0);
    print_message("SD 1.5's UNet, guided, 512 x 512: %d instructions (%d once), arena %.1f MB of "
                  "%.1f MB\n",
                  t->ncode, t->once, (double)t->arena / 1e6, (double)t->sum / 1e6);
    assert_true(t->arena < 110000000);
    assert_true(t->once >= 32); /* keys and values of 16 cross-attentions */
    tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),          cmocka_unit_test(test_planning_is_fast),
        cmocka_unit_test(test_arena),           cmocka_unit_test(test_merging_saves_products),
        cmocka_unit_test(test_programs),        cmocka_unit_test(test_merged_programs),
        cmocka_unit_test(test_programs_on_cpu), cmocka_unit_test(test_programs_on_card),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
