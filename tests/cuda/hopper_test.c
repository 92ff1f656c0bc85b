/* hopper_test.c - what the backend does otherwise on cards of 9.0: norms and GEGLU in products,
 * filters in other forms, shortcuts in convolutions. */
#include "cuda/compare.h"

/* ---- layer norms in the products behind them ---- */

/* One has two readers, the input of one is gone when its product runs, one's product is not said to
 * be alone. */
static void norms_that_stay(tape *t, unsigned seed)
{
    (void)seed;
    tensor *x = input(t, "x", 1, 4, 4, 64, t->type, false);
    t->coarse = true;
    tensor *n = layer_norm(t, x, "one", 1e-5f), *y = add(t, linear(t, n, "first", 64), n);
    y = linear(t, layer_norm(t, y, "two", 1e-5f), "second", 64);
    t->coarse = false;
    output(t, add(t, linear(t, layer_norm(t, x, "three", 1e-5f), "third", 64), add(t, y, x)));
}

/* How many products with a norm in them a step and the choices before it run, if they take so long
 * beside the norm and a product; the result is the reference's in any case. */
static int products_with_norms(record_fn *record, size_t budget, enum offload offload, float ms)
{
    void *dev = card(offload);
    fake.normed_ms = ms;
    fake.normed = 0;
    compare(record, 0, dev, budget, DT_F16, 0.02f);
    compare(record, 0, dev, budget, DT_BF16, 0.1f);
    int normed = fake.normed;
    compare(record, 0, dev, budget, DT_F32, 2e-3f);
    assert_int_equal(fake.normed, normed);
    fake.normed_ms = 0;
    backend_cuda.close(dev);
    return normed;
}

static void test_norms_in_products(void **state)
{
    (void)state;
    int timed = products_with_norms(coarse_block, 0, OFFLOAD_NONE, 2);
    assert_true(timed > 0);
    for (int offload = OFFLOAD_NONE; offload <= OFFLOAD_STREAM; offload++)
        assert_true(products_with_norms(coarse_block, 0, (enum offload)offload, 0.5f) > timed);
    for (size_t budget = 1; budget < 100000; budget = 5 * budget + 5000)
        assert_true(products_with_norms(coarse_block, budget, OFFLOAD_NONE, 0.5f) > timed);
    assert_int_equal(products_with_norms(norms_that_stay, 0, OFFLOAD_NONE, 0.5f), 0);
    fake.capability = 80;
    assert_int_equal(products_with_norms(coarse_block, 0, OFFLOAD_NONE, 0.5f), 0);
    fake.capability = 0;
}

/* Whether weights stay or pass, and where they were meanwhile, the bytes are the same. */
static void test_norms_in_products_wherever_weights_are(void **state)
{
    tape *t = optimised(coarse_block, 0, DT_F16, false, true);
    struct outcome first = { 0 };
    (void)state;
    fake.normed_ms = 0.5f;
    for (int i = 0; i < 4; i++) {
        void *dev = card(i < 3 ? (enum offload)i : OFFLOAD_NONE);
        struct outcome x = run(&backend_cuda, dev, i < 3 ? 0 : 9000, t);
        same_as_first(&first, x, i);
        backend_cuda.close(dev);
    }
    fake.normed_ms = 0;
    free(first.out[0]);
    tape_free(t);
}

/* ---- GEGLU ---- */

/* Without the last unit of the output GEGLU's halves have no room that 16 bytes divide. */
static void gated(tape *t, unsigned last)
{
    tensor *x = input(t, "x", 1, 16, 16, 8, t->type, false);
    output(t, linear(t, geglu(t, linear(t, x, "wide", 2 * (63 + (int)last))), "narrow", 8));
}

static size_t workspace(record_fn *record, unsigned seed, enum dtype type)
{
    void *dev = card(OFFLOAD_NONE);
    tape *t = optimised(record, seed, type, false, true);
    struct footprint need;
    backend_cuda.measure(dev, t, 0, &need);
    compare(record, seed, dev, 0, type, type == DT_F32 ? 2e-3f : 0.02f);
    backend_cuda.close(dev);
    tape_free(t);
    return need.workspace;
}

static void test_fused_geglu_needs_no_scratch(void **state)
{
    size_t pixels = 16 * 16, io = pixels * 8 * sizeof(float);
    (void)state;
    size_t base = workspace(gated, 1, DT_F16) - io;
    assert_int_equal(workspace(gated, 0, DT_F16), base + pixels * 2 * 63 * 2);
    assert_int_equal(workspace(gated, 1, DT_F32), base + pixels * 2 * 64 * 4);
}

/* ---- convolutions of upsampled maps ---- */

/* A map that is doubled, exactly or (odd) but for its last row and column. */
static void doubled_map(tape *t, unsigned odd)
{
    tensor *x = input(t, "x", 2, 3, 4, 16, t->type, false);
    tensor *y = upsample(t, x, 6 - (int)odd, 8 - (int)odd);
    output(t, conv2d(t, y, "conv", 32, 3, 1));
}

/* Of upsampled maps only those that are not exactly doubled lie in scratch memory. */
static void test_doubled_maps_need_no_scratch(void **state)
{
    size_t in = 2 * 3 * 4 * 16 * 4, out = 2 * 6 * 8 * 32 * 4, odd_out = 2 * 5 * 7 * 32 * 4;
    (void)state;
    assert_true(in < odd_out);
    fake.doubled = 0;
    size_t base = workspace(doubled_map, 0, DT_F16) - out;
    assert_true(fake.doubled > 0);
    fake.doubled = 0;
    assert_int_equal(workspace(doubled_map, 1, DT_BF16), base + odd_out);
    assert_int_equal(fake.doubled, 0);
}

/* Programs of any size read the same weights, whichever of them those were loaded for, and have the
 * same bytes wherever they are. */
static void test_doubled_maps_wherever_weights_are(void **state)
{
    tape *t[2] = { optimised(doubled_map, 0, DT_F16, false, true),
                   optimised(doubled_map, 1, DT_F16, false, true) };
    struct outcome first[2];
    (void)state;
    for (int i = 0; i < 4; i++)
        for (int odd = 0; odd < 2; odd++) {
            void *dev = card(i < 3 ? (enum offload)i : OFFLOAD_NONE);
            compare(doubled_map, (unsigned)odd, dev, i < 3 ? 0 : 9000, DT_F16, 0.02f);
            struct outcome x = run_after(&backend_cuda, dev, i < 3 ? 0 : 9000, t[i % 2], t[odd]);
            same_as_first(&first[odd], x, i);
            backend_cuda.close(dev);
        }
    for (int odd = 0; odd < 2; odd++) {
        free(first[odd].out[0]);
        tape_free(t[odd]);
    }
}

/* ---- convolutions by Winograd's algorithm, in both directions or in pairs ---- */

/* Of 16 and more tiles, and channels enough: the first and second, of 4x6 and 3x5 pixels. */
static void winograd_map(tape *t, unsigned odd)
{
    int h = 4 - (int)odd, w = 6 - (int)odd;
    tensor *x = input(t, "x", 3, h, w, 16, t->type, false);
    tensor *y = conv2d(t, x, "first", 32, 3, 1);
    y = add(t, conv2d(t, y, "second", 32, 3, 1), y);
    y = conv2d(t, y, "narrow", 8, 3, 1);
    y = conv2d(t, y, "from_narrow", 16, 3, 1);
    output(t, conv2d(t, act(t, y, ACT_SILU), "strided", 16, 3, 2));
}

enum form { PLAIN, WINOGRAD, PAIRS };

/* A card whose filters gain from that form. */
static void *winograd_card(enum offload offload, enum form form)
{
    struct gpu *g = card(offload);
    g->winograd_channels = form == WINOGRAD ? 10 : 1000;
    g->winograd_tiles = 16;
    g->pairs_channels = 32;
    g->pairs_numbers = form == PAIRS ? 700 : 1 << 20;
    return g;
}

static size_t weight_bytes(const tape *t, enum form form, size_t budget)
{
    void *dev = winograd_card(OFFLOAD_NONE, form);
    struct footprint need;
    backend_cuda.measure(dev, t, budget, &need);
    backend_cuda.close(dev);
    return need.weights;
}

/* Large enough filters are loaded in the other form alone, unless they are streamed; programs of
 * another size, whichever of them those were loaded for, read the same. */
static void wherever_weights_are(enum form form)
{
    tape *t[2] = { optimised(winograd_map, 0, DT_F16, false, true),
                   optimised(winograd_map, 1, DT_F16, false, true) };
    size_t more = (form == PAIRS ? 3 : 7) * (16 * 32 + 32 * 32) * 2;
    size_t plain = weight_bytes(t[0], PLAIN, 0);
    struct outcome first[2];
    assert_int_equal(weight_bytes(t[0], form, 0), plain + more);
    assert_true(weight_bytes(t[0], form, plain + 1) <= plain);
    for (int i = 0; i < 4; i++)
        for (int odd = 0; odd < 2; odd++) {
            bool streamed = i == OFFLOAD_STREAM || i == 3;
            size_t budget = i == 3 ? 9000 : 0;
            void *dev = winograd_card(i < 3 ? (enum offload)i : OFFLOAD_NONE, form);
            fake.winograd = fake.paired = 0;
            compare(winograd_map, (unsigned)odd, dev, budget, DT_F16, 0.02f);
            assert_int_equal(fake.winograd > 0, !streamed && form == WINOGRAD);
            assert_int_equal(fake.paired > 0, !streamed && form == PAIRS);
            struct outcome x = run_after(&backend_cuda, dev, budget, t[i % 2], t[odd]);
            if (!streamed)
                same_as_first(&first[odd], x, i);
            else
                free(x.out[0]);
            backend_cuda.close(dev);
        }
    for (int odd = 0; odd < 2; odd++) {
        free(first[odd].out[0]);
        tape_free(t[odd]);
    }
}

static void test_winograd_wherever_weights_are(void **state)
{
    (void)state;
    wherever_weights_are(WINOGRAD);
    wherever_weights_are(PAIRS);
}

static void test_winograd_is_for_large_filters_on_hopper(void **state)
{
    tape *t = optimised(winograd_map, 0, DT_F16, false, true);
    tape *f32 = optimised(winograd_map, 0, DT_F32, false, true);
    (void)state;
    for (int form = WINOGRAD; form <= PAIRS; form++) {
        assert_int_equal(weight_bytes(f32, (enum form)form, 0), weight_bytes(f32, PLAIN, 0));
        fake.capability = 80;
        assert_int_equal(weight_bytes(t, (enum form)form, 0), weight_bytes(t, PLAIN, 0));
        fake.capability = 0;
    }
    tape_free(t);
    tape_free(f32);
}

/* ---- shortcuts in the convolutions before them ---- */

/* Residual blocks: of another input, then of one in two parts and of one, the same once more, one
 * without a shortcut, and one whose convolution somebody else reads too. */
static void shortcuts(tape *t, unsigned seed)
{
    (void)seed;
    tensor *x = input(t, "x", 2, 4, 5, 16, t->type, false),
           *y = input(t, "y", 2, 4, 5, 8, t->type, false);
    tensor *z = conv2d(t, y, "first", 32, 3, 1);
    z = add(t, conv1x1(t, x, "first_shortcut", 32), z);
    for (int i = 0; i < 2; i++) {
        enter(t, "%d", i);
        tensor *h = conv2d(t, z, "second", 48, 3, 1), *parts = concat(t, z, x);
        z = add(t, conv1x1(t, parts, "second_shortcut", 48), h);
        h = conv2d(t, z, "narrow", 32, 3, 1);
        z = add(t, conv1x1(t, z, "narrow_shortcut", 32), h);
        leave(t);
    }
    z = add(t, conv2d(t, z, "plain", 32, 3, 1), z);
    tensor *c = conv2d(t, z, "last", 48, 3, 1);
    output(t, add(t, act(t, c, ACT_SILU), add(t, conv1x1(t, z, "last_shortcut", 48), c)));
}

/* Do convolutions run with their shortcuts? All five of them or none. */
static bool joined(enum offload offload, size_t budget, enum dtype type, struct outcome *first,
                   int i)
{
    static const float tolerance[] = { [DT_F32] = 2e-3f, [DT_BF16] = 0.1f, [DT_F16] = 0.02f };
    void *dev = card(offload);
    tape *t = optimised(shortcuts, 0, type, false, true);
    compare(shortcuts, 0, dev, budget, type, tolerance[type]);
    fake.joined = 0;
    struct outcome x = run(&backend_cuda, dev, budget, t);
    assert_int_equal(fake.joined % 5, 0);
    same_as_first(first, x, i);
    backend_cuda.close(dev);
    tape_free(t);
    return fake.joined > 0;
}

/* Where our own convolution is the fastest; and then wherever weights are, with the same bytes. */
static void test_shortcuts_join_convolutions(void **state)
{
    struct outcome first = { .nout = 0 };
    (void)state;
    fake.conv3_ms = 2;
    assert_false(joined(OFFLOAD_NONE, 0, DT_F16, &first, 0));
    free(first.out[0]);
    fake.conv3_ms = 0.5f;
    for (int i = 0; i < 4; i++)
        assert_true(
            joined(i < 3 ? (enum offload)i : OFFLOAD_NONE, i < 3 ? 0 : 9000, DT_F16, &first, i));
    free(first.out[0]);
    assert_true(joined(OFFLOAD_NONE, 0, DT_BF16, &first, 0));
    free(first.out[0]);
    assert_false(joined(OFFLOAD_NONE, 0, DT_F32, &first, 0));
    free(first.out[0]);
    fake.conv3_ms = 0;
}

/* Filters of pairs take a shortcut with them as well; others of the same map have none. */
static void test_shortcuts_join_pairs(void **state)
{
    void *dev = winograd_card(OFFLOAD_NONE, PAIRS);
    (void)state;
    fake.paired = fake.joined = 0;
    compare(shortcuts, 0, dev, 0, DT_F16, 0.02f);
    assert_true(fake.paired > 0);
    assert_true(fake.joined > 0);
    backend_cuda.close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norms_in_products),
        cmocka_unit_test(test_norms_in_products_wherever_weights_are),
        cmocka_unit_test(test_fused_geglu_needs_no_scratch),
        cmocka_unit_test(test_doubled_maps_need_no_scratch),
        cmocka_unit_test(test_doubled_maps_wherever_weights_are),
        cmocka_unit_test(test_winograd_wherever_weights_are),
        cmocka_unit_test(test_winograd_is_for_large_filters_on_hopper),
        cmocka_unit_test(test_shortcuts_join_convolutions),
        cmocka_unit_test(test_shortcuts_join_pairs),
    };
    setenv("STYX_CACHE_DIR", "/dev/null", 1); /* choices are not kept */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
