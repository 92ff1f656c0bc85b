/* backend_test.c - the CUDA backend without a card: everything of it but kernels and libraries,
 * over a card made of host memory (fake_driver.c). Programs must give what the reference gives,
 * however their weights get there, and memory must be what was told. */
#include "cuda/compare.h"
#include "plan/recordings.h"
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

static void compare_all(void *dev, size_t budget, enum dtype type, float tolerance)
{
    record_fn *const networks[] = { narrow_sd15, narrow_sdxl, narrow_refiner, narrow_vae,
                                    narrow_clip };
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++)
        for (unsigned seed = 0; seed < 2; seed++)
            compare(networks[i], seed, dev, budget, type, tolerance);
    for (unsigned seed = 0; seed < 6; seed++)
        compare(random_net, seed, dev, budget, type, tolerance);
    backend_cuda.close(dev);
}

static void test_resident(void **state)
{
    (void)state;
    fake.launched = 0;
    compare_all(card(OFFLOAD_NONE), 0, DT_F32, 2e-3f);
    assert_int_equal(fake.launched, 16); /* the second step of each is a graph */
}

static void must_run(void *dev, const tape *t, void *loaded, float *out)
{
    struct run_args args = { 0 };
    int32_t ids[64] = { 0 };
    void *plan;
    styx_error err;
    must(backend_cuda.prepare(dev, t, loaded, &plan, &err), &err);
    for (int i = 0; i < t->nin; i++)
        args.in[i] = ids;
    args.out[0] = out;
    must(backend_cuda.run(plan, &args, &err), &err);
    backend_cuda.release(plan);
}

/* Without a projection nobody reads the layers after the one that is wanted. */
static void clip_to(tape *t, unsigned layer)
{
    struct clip_config m;
    json_t *c = parse(NARROW_CLIP);
    assert_int_equal(clip_text_read(c, "test", &m, NULL), 0);
    m.projection = 0;
    clip_text(t, &m, 2, 9, (int)layer, false);
    json_decref(c);
}

/* A text encoder's programs end at different layers; its weights are loaded for the first of them,
 * which may be the shortest. */
static void test_programs_share_weights(void **state)
{
    (void)state;
    for (int offload = OFFLOAD_NONE; offload <= OFFLOAD_STREAM; offload++) {
        void *dev = card((enum offload)offload), *loaded;
        tape *brief = optimised(clip_to, 1, DT_F32, false, true);
        tape *whole = optimised(clip_to, 3, DT_F32, false, true);
        struct filled f = fill(brief);
        struct weights w = { f.spans, brief->nparams };
        float *out = calloc(tensor_count(whole->out[0]), sizeof *out);
        styx_error err;
        assert_int_equal(brief->nparams, whole->nparams);
        assert_true(brief->ncode < whole->ncode);
        must(backend_cuda.load(dev, brief, &w, 0, &loaded, &err), &err);
        must_run(dev, whole, loaded, out);
        for (size_t i = 0; i < tensor_count(whole->out[0]); i++)
            assert_true(isfinite(out[i]));
        backend_cuda.unload(dev, loaded);
        backend_cuda.close(dev);
        for (int i = 0; i < brief->nparams; i++)
            free(f.data[i]);
        free(f.data);
        free(f.spans);
        free(out);
        tape_free(brief);
        tape_free(whole);
    }
}

static void test_offloaded_networks(void **state)
{
    (void)state;
    compare_all(card(OFFLOAD_MODEL), 0, DT_F32, 2e-3f);
}

static void test_streamed_weights(void **state)
{
    (void)state;
    compare_all(card(OFFLOAD_STREAM), 0, DT_F32, 2e-3f);
}

static void test_budgets(void **state)
{
    (void)state;
    for (size_t budget = 1; budget < 200000; budget = 5 * budget + 5000) {
        void *dev = card(OFFLOAD_NONE);
        compare(narrow_sdxl, 0, dev, budget, DT_F32, 2e-3f);
        backend_cuda.close(dev);
    }
}

static void test_half_precision(void **state)
{
    void *dev = card(OFFLOAD_NONE);
    (void)state;
    compare(narrow_sd15, 0, dev, 0, DT_F16, 0.02f);
    compare(narrow_vae, 1, dev, 0, DT_F16, 0.02f);
    compare(narrow_clip, 2, dev, 0, DT_BF16, 0.1f);
    backend_cuda.close(dev);
}

/* Two shapes, one of them three times, once with a sum. */
static void like_layers(tape *t, unsigned seed)
{
    (void)seed;
    tensor *x = input(t, "x", 1, 4, 4, 16, t->type, false);
    tensor *y = linear(t, linear(t, x, "first", 16), "second", 16);
    y = add(t, y, linear(t, y, "third", 16));
    output(t, linear(t, linear(t, y, "wide", 24), "narrow", 16));
}

static void test_like_products_share_a_plan(void **state)
{
    void *dev = card(OFFLOAD_NONE);
    (void)state;
    fake.products = 0;
    compare(like_layers, 0, dev, 0, DT_F32, 2e-3f);
    assert_int_equal(fake.products, 4);
    backend_cuda.close(dev);
}

/* ---- 8-bit floats ---- */

static int fp8_card(enum offload offload, void **dev, styx_error *err)
{
    struct device_options o = { .offload = offload, .hard = true, .fp8 = true };
    fake.limit = (size_t)1 << 30;
    return backend_cuda.open(&o, dev, err);
}

/* The card's own numbers, as they are the same bytes however the weights get there. */
static void test_eight_bits(void **state)
{
    static const size_t budgets[] = { 0, 1, 9000, 40000 };
    tape *t = optimised(coarse_block, 0, DT_F16, false, true);
    struct outcome first = { 0 };
    (void)state;
    for (int i = 0; i < 6; i++) {
        void *dev;
        styx_error err;
        must(fp8_card(i < 3 ? (enum offload)i : OFFLOAD_NONE, &dev, &err), &err);
        compare(coarse_block, 0, dev, i < 3 ? 0 : budgets[i - 2], DT_F16, 0.25f);
        struct outcome x = run(&backend_cuda, dev, i < 3 ? 0 : budgets[i - 2], t);
        same_as_first(&first, x, i);
        backend_cuda.close(dev);
    }
    free(first.out[0]);
    tape_free(t);
}

/* A byte for each number that bears it, and a scale for each of their rows; but no shifts of norms,
 * which three products have, in places of 256 bytes. */
static void test_eight_bits_take_half_the_memory(void **state)
{
    enum { SHIFTS = 512 + 256 + 512 };
    tape *t = optimised(coarse_block, 0, DT_BF16, false, true);
    void *half = card(OFFLOAD_NONE), *eight;
    struct footprint two, one;
    size_t bytes = 0, coarse = 0;
    styx_error err;
    (void)state;
    must(fp8_card(OFFLOAD_NONE, &eight, &err), &err);
    for (int i = 0; i < t->nparams; i++)
        if (t->params[i].coarse) {
            coarse++;
            bytes += param_count(&t->params[i]) - 4 * (size_t)t->params[i].shape[0];
        }
    assert_int_equal(coarse, 9);
    backend_cuda.measure(half, t, 0, &two);
    backend_cuda.measure(eight, t, 0, &one);
    assert_int_equal(two.weights - one.weights, bytes + SHIFTS); /* all are multiples of 256 */
    backend_cuda.close(half);
    backend_cuda.close(eight);
    tape_free(t);
}

static void test_eight_bits_are_refused(void **state)
{
    void *dev = NULL;
    styx_error err;
    (void)state;
    fake.capability = 89;
    assert_int_equal(fp8_card(OFFLOAD_NONE, &dev, &err), STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "has compute capability 8.9; fp8 wants 9.0"));
    fake.capability = 0;
    fake.old = true;
    assert_int_equal(fp8_card(OFFLOAD_NONE, &dev, &err), STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "fp8 wants 12.9"));
    fake.old = false;
}

/* ---- single runs ---- */

struct net {
    tape *t;
    struct filled f;
    void *dev, *loaded, *plan;
    struct run_args args;
};

static void net_open(struct net *n, record_fn *record, void *dev)
{
    styx_error err;
    *n = (struct net){ .t = optimised(record, 0, DT_F32, false, true), .dev = dev };
    n->f = fill(n->t);
    struct weights w = { n->f.spans, n->t->nparams };
    must(backend_cuda.load(n->dev, n->t, &w, 0, &n->loaded, &err), &err);
    must(backend_cuda.prepare(n->dev, n->t, n->loaded, &n->plan, &err), &err);
    for (int i = 0; i < n->t->nin; i++)
        n->args.in[i] = calloc(tensor_count(n->t->in[i]), sizeof(float));
    n->args.out[0] = calloc(tensor_count(n->t->out[0]), sizeof(float));
}

static void net_close(struct net *n)
{
    backend_cuda.release(n->plan);
    backend_cuda.unload(n->dev, n->loaded);
    for (int i = 0; i < n->t->nin; i++)
        free((void *)(uintptr_t)n->args.in[i]);
    free(n->args.out[0]);
    for (int i = 0; i < n->t->nparams; i++)
        free(n->f.data[i]);
    free(n->f.data);
    free(n->f.spans);
    tape_free(n->t);
}

static void test_a_refusal_is_told(void **state)
{
    styx_error err = { 0 };
    struct net n;
    (void)state;
    net_open(&n, narrow_sd15, card(OFFLOAD_NONE));
    fake.refusal = "the library has had enough";
    assert_int_equal(backend_cuda.run(n.plan, &n.args, &err), STYX_ERR_BACKEND);
    assert_non_null(strstr(err.text, "linear on a card made of memory refused to run: "));
    assert_non_null(strstr(err.text, ".weight: the library has had enough"));
    fake.refusal = NULL;
    must(backend_cuda.run(n.plan, &n.args, &err), &err);
    net_close(&n);
    backend_cuda.close(n.dev);
}

/* A timed run is no graph, and leaves what it was. */
static void test_instructions_are_timed(void **state)
{
    styx_error err;
    struct net n;
    (void)state;
    net_open(&n, narrow_sdxl, card(OFFLOAD_NONE));
    double *seconds = calloc((size_t)n.t->ncode, sizeof *seconds);
    assert_in_range(n.t->once, 1, n.t->ncode - 1);
    for (int again = 0; again < 3; again++) {
        fake.launched = 0;
        n.args.again = again;
        n.args.seconds = again < 2 ? seconds : NULL;
        must(backend_cuda.run(n.plan, &n.args, &err), &err);
        double want = 1e-3 * (double)(fake.ms > 0 ? fake.ms : 1);
        for (int i = 0; i < n.t->ncode; i++)
            assert_float_equal(seconds[i], again < 2 && (i >= n.t->once || !again) ? want : 0,
                               1e-9);
        memset(seconds, 0, (size_t)n.t->ncode * sizeof *seconds);
    }
    must(backend_cuda.run(n.plan, &n.args, &err), &err);
    assert_int_equal(fake.launched, 1);
    n.args.seconds = seconds;
    must(backend_cuda.run(n.plan, &n.args, &err), &err);
    assert_int_equal(fake.launched, 1);
    free(seconds);
    net_close(&n);
    backend_cuda.close(n.dev);
}

/* A round of networks that share the card, with the call of some number failing, which may be told
 * or made good: the next round gives what the first one gave. */
static void test_networks_take_turns_whatever_fails(void **state)
{
    record_fn *const record[] = { narrow_clip, narrow_sdxl, narrow_vae };
    enum { NETS = sizeof record / sizeof *record };
    void *dev = card(OFFLOAD_MODEL);
    struct net net[NETS];
    float *right[NETS];
    styx_error err;
    bool failed = true;
    int told = 0, made_good = 0;
    (void)state;
    for (int i = 0; i < NETS; i++) {
        net_open(&net[i], record[i], dev);
        must(backend_cuda.run(net[i].plan, &net[i].args, &err), &err);
        right[i] = net[i].args.out[0];
        net[i].args.out[0] = calloc(tensor_count(net[i].t->out[0]), sizeof(float));
    }
    for (int call = 1; failed; call++) {
        int code = STYX_OK;
        fake.fails_in = call;
        for (int i = 0; i < NETS && !code; i++)
            code = backend_cuda.run(net[i].plan, &net[i].args, &err);
        backend_cuda.rest(dev);
        failed = fake.fails_in == 0;
        fake.fails_in = 0;
        told += code != STYX_OK;
        made_good += failed && !code;
        for (int i = 0; i < NETS; i++) {
            size_t bytes = tensor_count(net[i].t->out[0]) * sizeof(float);
            must(backend_cuda.run(net[i].plan, &net[i].args, &err), &err);
            assert_memory_equal(net[i].args.out[0], right[i], bytes);
        }
    }
    assert_true(told > 50 && made_good > 10);
    for (int i = 0; i < NETS; i++) {
        free(right[i]);
        net_close(&net[i]);
    }
    backend_cuda.close(dev);
    assert_int_equal(fake.held, 0);
}

/* What measure tells is what is taken, up to the size of a page for each region. */
static void test_memory_is_what_was_told(void **state)
{
    enum { PAGES = 4 * 4096 };
    for (int offload = OFFLOAD_NONE; offload <= OFFLOAD_STREAM; offload++) {
        void *dev = card((enum offload)offload), *loaded, *plan;
        tape *t = optimised(narrow_sdxl, 0, DT_F16, false, true);
        struct filled f = fill(t);
        struct weights w = { f.spans, t->nparams };
        struct footprint need;
        styx_error err;
        (void)state;
        backend_cuda.measure(dev, t, 0, &need);
        must(backend_cuda.load(dev, t, &w, 0, &loaded, &err), &err);
        must(backend_cuda.prepare(dev, t, loaded, &plan, &err), &err);
        size_t told = need.weights + need.arena + need.workspace;
        assert_in_range(fake.held, told, told + PAGES);
        backend_cuda.release(plan);
        backend_cuda.unload(dev, loaded);
        backend_cuda.close(dev);
        assert_int_equal(fake.held, 0);
        for (int i = 0; i < t->nparams; i++)
            free(f.data[i]);
        free(f.data);
        free(f.spans);
        tape_free(t);
    }
}

static void test_a_full_card_is_one_sentence(void **state)
{
    void *dev = card(OFFLOAD_NONE), *loaded = NULL, *plan = NULL;
    tape *t = optimised(narrow_sd15, 0, DT_F32, false, true);
    struct filled f = fill(t);
    struct weights w = { f.spans, t->nparams };
    styx_error err = { 0 };
    (void)state;
    fake.limit = 100000;
    assert_int_equal(backend_cuda.load(dev, t, &w, 0, &loaded, &err), STYX_ERR_NOMEM);
    assert_non_null(strstr(err.text, "MiB"));
    assert_null(loaded);
    fake.limit = (size_t)1 << 30; /* the card serves on */
    must(backend_cuda.load(dev, t, &w, 0, &loaded, &err), &err);
    must(backend_cuda.prepare(dev, t, loaded, &plan, &err), &err);
    backend_cuda.release(plan);
    backend_cuda.unload(dev, loaded);
    backend_cuda.close(dev);
    for (int i = 0; i < t->nparams; i++)
        free(f.data[i]);
    free(f.data);
    free(f.spans);
    tape_free(t);
}

/* ---- what is kept for later processes ---- */

static void attend(tape *t, int side)
{
    tensor *x = input(t, "x", 1, side, side, 16, t->type, false);
    tensor *q = linear(t, x, "q", 16), *k = linear(t, x, "k", 16), *v = linear(t, x, "v", 16);
    output(t, linear(t, attention(t, q, k, v, 2, false), "out", 16));
}

static void large_attention(tape *t, unsigned seed)
{
    (void)seed;
    attend(t, 16);
}

static void small_attention(tape *t, unsigned seed)
{
    (void)seed;
    attend(t, 8);
}

/* How many plans a process compiles that runs the program. */
static int compilations(record_fn *record)
{
    void *dev = card(OFFLOAD_NONE);
    fake.compiled = 0;
    compare(record, 0, dev, 0, DT_F16, 0.02f);
    backend_cuda.close(dev);
    return fake.compiled;
}

/* Calls change for every kept plan; returns how many there are. */
static int kept(const char *folder, void (*change)(const char *path))
{
    DIR *d = opendir(folder);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (strncmp(e->d_name, "cuda-plan-", 10))
            continue;
        n++;
        if (change)
            change(path);
    }
    closedir(d);
    return n;
}

static void flip_last_byte(const char *path)
{
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    fseek(f, -1, SEEK_END);
    int c = fgetc(f);
    fseek(f, -1, SEEK_END);
    fputc(c ^ 1, f);
    fclose(f);
}

static void cut(const char *path)
{
    assert_int_equal(truncate(path, 70), 0);
}

static void make_empty(const char *path)
{
    assert_int_equal(truncate(path, 0), 0);
}

static void remove_it(const char *path)
{
    assert_int_equal(unlink(path), 0);
}

static void test_compiled_plans_are_kept(void **state)
{
    void (*const damage[])(const char *) = { flip_last_byte, cut, make_empty, remove_it };
    char folder[] = "/tmp/styx-kept-XXXXXX", path[64];
    (void)state;
    assert_non_null(mkdtemp(folder));
    setenv("STYX_CACHE_DIR", folder, 1);
    assert_int_equal(compilations(small_attention), 0);
    assert_int_equal(kept(folder, NULL), 0);
    assert_int_equal(compilations(large_attention), 2); /* as many as are tried */
    assert_int_equal(kept(folder, NULL), 1);            /* the one that was taken */
    assert_int_equal(compilations(large_attention), 0);
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        assert_int_equal(kept(folder, damage[i]), 1);
        assert_int_equal(compilations(large_attention), 1);
        assert_int_equal(kept(folder, NULL), 1);
        assert_int_equal(compilations(large_attention), 0);
    }
    kept(folder, remove_it);
    snprintf(path, sizeof path, "%s/cuda-choices.txt", folder);
    unlink(path);
    assert_int_equal(rmdir(folder), 0); /* and nothing else was left there */
    setenv("STYX_CACHE_DIR", "/dev/null", 1);
    assert_int_equal(compilations(large_attention), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resident),
        cmocka_unit_test(test_programs_share_weights),
        cmocka_unit_test(test_offloaded_networks),
        cmocka_unit_test(test_streamed_weights),
        cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_half_precision),
        cmocka_unit_test(test_eight_bits),
        cmocka_unit_test(test_eight_bits_take_half_the_memory),
        cmocka_unit_test(test_eight_bits_are_refused),
        cmocka_unit_test(test_like_products_share_a_plan),
        cmocka_unit_test(test_a_refusal_is_told),
        cmocka_unit_test(test_instructions_are_timed),
        cmocka_unit_test(test_networks_take_turns_whatever_fails),
        cmocka_unit_test(test_memory_is_what_was_told),
        cmocka_unit_test(test_a_full_card_is_one_sentence),
        cmocka_unit_test(test_compiled_plans_are_kept),
    };
    setenv("STYX_CACHE_DIR", "/dev/null", 1); /* choices are not kept */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
