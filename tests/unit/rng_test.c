/* rng_test.c - random numbers against torch's own (goldens), and what holds of any generator. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "goldens.h"
#include "sample/rng.h"

#include <cmocka.h>

static const enum dtype TYPES[] = { DT_F32, DT_F16, DT_BF16, DT_F64 };

/* Published: the first numbers of torch.randn after manual_seed(0), small draw and large, and of
 * the CUDA generator. */
static void known_answers(void **state)
{
    static const float small[] = { 1.5410f, -0.2934f, -2.1788f, 0.5684f, -1.0845f };
    static const float large[] = { -1.1258f, -1.1524f, -0.2506f, -0.4339f,
                                   0.5988f,  -1.5551f, -0.3414f, 1.8530f };
    static const float cuda[] = { -0.92466259f, -0.42534415f, -2.6438457f,  0.14518388f,
                                  -0.12086647f, -0.57972564f, -0.62285122f, -0.32838709f,
                                  -1.07454231f, -0.36314407f, -1.67105067f, 2.26550497f };
    struct rng rng;
    float z[20];
    (void)state;
    rng_init(&rng, RNG_TORCH_CPU, 0);
    rng_normal(&rng, DT_F32, z, 5);
    for (int i = 0; i < 5; i++)
        assert_true(fabsf(z[i] - small[i]) < 1e-4f);
    rng_init(&rng, RNG_TORCH_CPU, 0);
    rng_normal(&rng, DT_F32, z, 20);
    for (int i = 0; i < 8; i++)
        assert_true(fabsf(z[i] - large[i]) < 1e-4f);
    rng_init(&rng, RNG_TORCH_CUDA, 0);
    rng_normal(&rng, DT_F32, z, 12);
    for (int i = 0; i < 12; i++)
        assert_true(fabsf(z[i] - cuda[i]) < 2e-6f);
}

/* mt19937's own check: seeded with 5489, the 10000th output is 4123659995. As two uniforms of a
 * Box-Muller pair it cannot be seen from outside, so look at the state that makes it. */
static void mt19937_state(void **state)
{
    struct rng rng;
    float z[16];
    (void)state;
    rng_init(&rng, RNG_TORCH_CPU, 5489);
    for (int i = 0; i < 625; i++) /* 625 blocks of 16 words = 10000 words */
        rng_normal(&rng, DT_F32, z, 16);
    uint32_t y = rng.mt.state[rng.mt.next - 1];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    y ^= y >> 18;
    assert_int_equal(y, 4123659995u);
}

/* A draw that makes the card's threads go round, on a card of 256: number i is normal i / 256 % 4
 * of Philox block i / 1024 of thread i % 256. The numbers are curand's formulas in double. */
static void card_goes_round(void **state)
{
    static const struct {
        int place;
        float z;
    } want[] = { { 0, -0.924662588f },   { 1, -0.425344148f },   { 255, -0.846660506f },
                 { 256, 0.99113768f },   { 257, 1.067590141f },  { 512, -0.482068587f },
                 { 700, -1.329438053f }, { 768, -0.617608959f }, { 1023, -0.563424763f },
                 { 1024, 0.180825898f }, { 1300, 0.528425909f } };
    static const struct {
        int place;
        float z;
    } doubles[] = { { 0, -0.310395736f },  { 1, -0.034328132f },  { 256, -0.397667136f },
                    { 300, 0.440529513f }, { 512, 0.329210701f }, { 600, 0.555932307f } };
    struct rng rng, one;
    float z[1301], after[256];
    (void)state;
    rng_init(&rng, RNG_TORCH_CUDA, 0);
    rng_set_card(&rng, 1, 300); /* whole blocks of 256 threads only */
    one = rng;
    rng_normal(&one, DT_F64, z, 601);
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++)
        assert_true(fabsf(z[doubles[i].place] - doubles[i].z) < 1e-6f);
    rng_normal(&rng, DT_F32, z, 1301);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_true(fabsf(z[want[i].place] - want[i].z) < 2e-6f);
    assert_int_equal(rng.philox.offset, 8); /* two rounds of 4 */
    /* The second round of a large draw is the first of the draw after a small one. */
    rng_init(&one, RNG_TORCH_CUDA, 0);
    rng_normal(&one, DT_F32, after, 1);
    assert_int_equal(one.philox.offset, 4);
    rng_normal(&one, DT_F32, after, 256);
    assert_memory_equal(after, z + 1024, sizeof after);
}

/* A part of a draw equals that part of the whole, and leaves the generator in the same state. */
static void parts(void **state)
{
    static const size_t totals[] = { 1, 7, 15, 16, 17, 40, 64, 333, 2000 };
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        for (size_t c = 0; c < 4 * sizeof totals / sizeof *totals; c++) {
            size_t total = totals[c / 4];
            enum dtype type = TYPES[c % 4];
            float whole[2000], part[2000], after[3], after_part[3];
            for (size_t first = 0; first <= total; first += total / 5 + 1) {
                size_t n = (total - first + 1) / 2;
                struct rng a, b, skipped;
                rng_init(&a, (enum rng_kind)kind, 77);
                rng_set_card(&a, 1, 256);         /* so that the larger draws go round */
                rng_normal(&a, DT_F32, after, 3); /* an odd count: a spare is kept */
                b = a;
                skipped = a;
                rng_normal(&a, type, whole, total);
                rng_normal_part(&b, type, total, first, part, n);
                rng_normal_part(&skipped, type, total, 0, NULL, 0);
                assert_memory_equal(whole + first, part, n * sizeof *part);
                rng_normal(&a, DT_F32, after, 3);
                rng_normal(&b, DT_F32, after_part, 3);
                assert_memory_equal(after, after_part, sizeof after);
                rng_normal(&skipped, DT_F32, after_part, 3);
                assert_memory_equal(after, after_part, sizeof after);
            }
        }
    }
}

static void moments(void **state)
{
    enum { N = 100000 };
    float *z = malloc(N * sizeof *z);
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        for (int t = 0; t < 4; t++) {
            struct rng rng;
            double sum = 0, squares = 0;
            rng_init(&rng, (enum rng_kind)kind, 5);
            rng_normal(&rng, TYPES[t], z, N);
            for (int i = 0; i < N; i++) {
                assert_true(isfinite(z[i]));
                sum += z[i];
                squares += (double)z[i] * z[i];
            }
            /* Five standard deviations; bfloat16's coarse uniforms really have a larger spread. */
            assert_true(fabs(sum / N) < 0.016);
            assert_true(fabs(squares / N - 1) < (TYPES[t] == DT_BF16 ? 0.05 : 0.022));
        }
    }
    free(z);
}

/* ---- goldens: the call is text such as "randn(8, dtype=float16)" ---- */

static enum dtype type_of(const char *call)
{
    if (strstr(call, "bfloat16"))
        return DT_BF16;
    if (strstr(call, "float16"))
        return DT_F16;
    return strstr(call, "float64") ? DT_F64 : DT_F32;
}

struct match {
    double worst;
    int vectors;
    size_t values, exact;
};

static void compare(struct match *m, const struct goldens *g, const char *key, const char *suffix,
                    const float *z, size_t step, double tolerance)
{
    char name[128];
    size_t n;
    snprintf(name, sizeof name, "%s%s", key, suffix);
    float *want = goldens_tensor(g, name, &n);
    if (!want)
        return;
    for (size_t i = 0; i < n; i++) {
        double gap = fabs((double)z[i * step] - want[i]);
        if (gap > tolerance)
            fail_msg("%s[%zu]: %.9g, torch has %.9g", name, i, z[i * step], want[i]);
        m->worst = fmax(m->worst, gap);
        m->exact += gap == 0;
    }
    m->values += n;
    m->vectors++;
    free(want);
}

static void run_goldens(const struct goldens *g, const char *list, enum rng_kind kind)
{
    struct match match = { 0 };
    struct rng sequence = { 0 };
    bool in_sequence = false;
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(g->list, list), i, entry)
    {
        const char *key = json_string_value(json_object_get(entry, "key"));
        const char *call = json_string_value(json_object_get(entry, "call"));
        size_t n = (size_t)json_integer_value(json_object_get(entry, "numel"));
        uint64_t seed = (uint64_t)json_integer_value(json_object_get(entry, "seed"));
        enum dtype type = type_of(call);
        /* Only the CPU's float kernel and the card's fast functions may be a little off; the latter
         * may then tip the rounding to 16 bits, by one ulp. */
        bool half = type == DT_F16 || type == DT_BF16;
        double tolerance = half ? 0 : 1e-6;
        if (kind == RNG_TORCH_CUDA)
            tolerance = type == DT_F16 ? 2e-3 : type == DT_BF16 ? 2e-2 : 2e-6;
        if (!strstr(call, "randn"))
            continue;
        in_sequence = strstr(call, "one generator") != NULL;
        if (strstr(call, "call 0:"))
            rng_init(&sequence, kind, seed);
        struct rng alone;
        rng_init(&alone, kind, seed);
        float *z = malloc(n * sizeof *z);
        rng_normal(in_sequence ? &sequence : &alone, type, z, n);
        compare(&match, g, key, "", z, 1, tolerance);
        compare(&match, g, key, ".head", z, 1, tolerance);
        if (n >= 64)
            compare(&match, g, key, ".tail", z + n - 64, 1, tolerance);
        compare(&match, g, key, ".stride", z, 997, tolerance);
        free(z);
    }
    print_message("%s: %d vectors, %zu of %zu values exact, largest difference %.2g\n", list,
                  match.vectors, match.exact, match.values, match.worst);
    if (json_object_get(g->list, list))
        assert_true(match.vectors > 10);
}

static void goldens(void **state)
{
    struct goldens g;
    (void)state;
    assert_int_equal(goldens_open(&g, "rng"), 0);
    assert_non_null(json_object_get(g.list, "cpu"));
    run_goldens(&g, "cpu", RNG_TORCH_CPU);
    run_goldens(&g, "cuda", RNG_TORCH_CUDA); /* made on a card; the list may not be there */
    goldens_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),   cmocka_unit_test(mt19937_state),
        cmocka_unit_test(card_goes_round), cmocka_unit_test(parts),
        cmocka_unit_test(moments),         cmocka_unit_test(goldens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
