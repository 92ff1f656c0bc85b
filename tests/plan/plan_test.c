/* plan_test.c - the property that guards fusion, hoisting, halos and the planner: a program that
 * went through every pass and runs in an arena full of NaN, where values turn to NaN when their
 * last reader is done, gives the bits of the same recording run naively, each value in its own
 * place.
 *
 * Also: the published parameter counts, and how long recording and planning take. */
#include "engine/engine.h"
#include "plan/recordings.h"

#include <time.h>

static void *device(const struct backend *b, bool hard)
{
    struct device_options o = { .hard = hard, .threads = 2 };
    void *dev;
    styx_error err;
    must(b->open(&o, &dev, &err), &err);
    return dev;
}

static int count(const tape *t, enum op op)
{
    int n = 0;
    for (int i = 0; i < t->ncode; i++)
        n += t->code[i].op == op;
    return n;
}

static void compare(record_fn *record, unsigned seed, const struct backend *b, void *dev,
                    bool merge, float tolerance)
{
    tape *plain = naive(record, seed), *fused = optimised(record, seed, DT_F32, b->halo, merge);
    void *ref = device(&backend_ref, false);
    struct outcome x = run(&backend_ref, ref, 0, plain), y = run(b, dev, 0, fused);
    backend_ref.close(ref);
    assert_true(fused->ncode - count(fused, OP_REPEAT) <= plain->ncode);
    compare_outcomes(&x, &y, seed, tolerance);
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
    tape *apart = optimised(narrow_sd15, 0, DT_F32, false, false);
    tape *merged = optimised(narrow_sd15, 0, DT_F32, false, true);
    int products = 0, shifts = 0;
    (void)state;
    for (int i = 0; i < merged->ncode; i++) {
        const instr *o = &merged->code[i];
        products += o->many && o->many->count > 1;
        shifts += o->op == OP_CONV2D && o->shift;
    }
    assert_true(products > 2);
    assert_int_equal(shifts, 0);
    assert_true(merged->ncode < apart->ncode);
    tape_free(apart);
    tape_free(merged);
}

static void separate_sd15(tape *t, unsigned seed)
{
    narrow_sd15(t, seed);
    t->copies = 1;
}

/* On the CPU nobody sees that rows were shared: no sum depends on how many others there are. */
static void test_sharing_keeps_bits(void **state)
{
    void *dev = device(&backend_cpu, true);
    (void)state;
    for (unsigned seed = 0; seed < 3; seed++)
        for (enum dtype type = DT_F32; type <= DT_BF16; type++) {
            tape *shared = optimised(narrow_sd15, seed, type, true, false);
            tape *apart = optimised(separate_sd15, seed, type, true, false);
            apart->copies = shared->copies; /* of its inputs */
            struct outcome x = run(&backend_cpu, dev, 0, apart),
                           y = run(&backend_cpu, dev, 0, shared);
            compare_outcomes(&x, &y, seed, 0);
            tape_free(shared);
            tape_free(apart);
        }
    backend_cpu.close(dev);
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

/* Sums in F32: all that layer norms read, which every layer adds to; products stay as they are. */
static void test_sums_are_wider(void **state)
{
    struct clip_config clip;
    json_t *c = parse(CLIP_L);
    tape *t = tape_new("text", DT_BF16);
    styx_error err;
    (void)state;
    assert_int_equal(clip_text_read(c, "test", &clip, NULL), 0);
    json_decref(c);
    t->sums = DT_F32;
    clip_text(t, &clip, 1, 77, 12, true);
    if (tape_finish(t, false, true, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < t->ncode; i++) {
        const instr *o = &t->code[i];
        bool sum = o->residual || o->op == OP_EMBED || o->op == OP_POSITION;
        if (o->op == OP_LAYER_NORM || o->op == OP_POSITION)
            assert_int_equal(o->in[0]->type, DT_F32);
        if (o->op == OP_LINEAR)
            assert_int_equal(o->in[0]->type, DT_BF16);
        assert_int_equal(o->out->type, sum ? DT_F32 : DT_BF16);
    }
    tape_free(t);
}

static double flops(const tape *t)
{
    double sum = 0;
    for (int i = 0; i < t->ncode; i++)
        sum += instr_flops(&t->code[i]);
    return sum;
}

/* Of what comes before the first text one row is computed, which saves every fortieth product; four
 * maps of it are wanted with both rows. */
static void test_sharing_saves_products(void **state)
{
    tape *t = real_unet(SD15_UNET, 64, 64, 77, 0);
    double all = flops(t);
    (void)state;
    t->copies = 2;
    t->in[0]->repeats = t->in[1]->repeats = true;
    tape_share(t);
    assert_true(flops(t) > 0.970 * all && flops(t) < 0.975 * all);
    assert_int_equal(count(t, OP_REPEAT), 4);
    tape_free(t);
}

/* In SDXL's first residual block the map repeats but not the time's vector, which has the text in
 * it: the norm behind their sum adds it. */
static void test_a_norm_adds_what_a_repeated_map_wants(void **state)
{
    styx_error err;
    (void)state;
    for (int merge = 0; merge < 2; merge++) {
        tape *t = real_unet(SDXL_UNET, 64, 64, 77, 6);
        t->copies = 2;
        t->in[0]->repeats = t->in[1]->repeats = true;
        if (tape_finish(t, merge, false, &err))
            fail_msg("%s", err.text);
        assert_int_equal(count(t, OP_ADD), !merge);
        tape_free(t);
    }
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
        tape_prune(t);
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
    tape_prune(t);
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

/* The decoder's last level holds the room of four maps of 128 channels and borders, not of five. */
static void test_large_maps(void **state)
{
    const size_t map = (size_t)512 * 512 * 128 * sizeof(float);
    struct vae_config vae;
    json_t *c = parse(VAE);
    tape *t = tape_new("vae", DT_F32);
    styx_error err;
    (void)state;
    assert_int_equal(vae_read(c, "test", &vae, NULL), 0);
    json_decref(c);
    vae_decode(t, &vae, 1, 64, 64);
    if (tape_finish(t, false, true, &err))
        fail_msg("%s", err.text);
    assert_true(t->arena >= 4 * map && t->arena < 4 * map + map / 32);
    tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_sums_are_wider),
        cmocka_unit_test(test_planning_is_fast),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_large_maps),
        cmocka_unit_test(test_merging_saves_products),
        cmocka_unit_test(test_programs),
        cmocka_unit_test(test_merged_programs),
        cmocka_unit_test(test_programs_on_cpu),
        cmocka_unit_test(test_programs_on_card),
        cmocka_unit_test(test_sharing_saves_products),
        cmocka_unit_test(test_sharing_keeps_bits),
        cmocka_unit_test(test_a_norm_adds_what_a_repeated_map_wants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
