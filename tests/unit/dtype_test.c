/* base/dtype and tape/span: every half, the roundings, and 8-bit spans with their groups. */
#include "base/dtype.h"

#include <math.h>
#include <stdlib.h>

#include "tape/span.h"

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* binary16 by its definition. */
static double half_value(unsigned h)
{
    int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
    double sign = h & 0x8000 ? -1 : 1;
    if (exponent == 31)
        return mantissa ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24));
}

static void every_half_both_ways(void **state)
{
    (void)state;
    uint16_t *all = malloc(65536 * sizeof *all), *back = malloc(65536 * sizeof *back);
    float *wide = malloc(65536 * sizeof *wide);

    for (unsigned h = 0; h < 65536; h++)
        all[h] = (uint16_t)h;
    dtype_to_f32(DT_F16, all, wide, 65536);
    dtype_from_f32(DT_F16, wide, back, 65536);
    for (unsigned h = 0; h < 65536; h++) {
        double want = half_value(h);
        float one = f16_to_f32((uint16_t)h);
        if (isnan(want)) {
            assert_true(isnan(wide[h]) && isnan(one));
            assert_true(isnan(half_value(back[h])) && isnan(half_value(f32_to_f16(one))));
            continue;
        }
        assert_true(wide[h] == want && one == want);
        assert_int_equal(!!signbit(one), h >> 15);
        assert_int_equal(back[h], h);
        assert_int_equal(f32_to_f16(one), h);
    }
    free(all);
    free(back);
    free(wide);
}

/* Between two neighbouring halves: below, on and above the middle. */
static void halves_round_to_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7bff; h++) {
        double low = half_value(h), high = half_value(h + 1);
        float middle = (float)((low + high) / 2);
        float x[8] = {
            nextafterf(middle, 0), middle, nextafterf(middle, INFINITY), -middle, 0, 0, 0, 0
        };
        uint16_t got[8], even = (uint16_t)(h + (h & 1));
        uint16_t want[4] = { (uint16_t)h, even, (uint16_t)(h + 1), (uint16_t)(even | 0x8000) };
        dtype_from_f32(DT_F16, x, got, 8);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(f32_to_f16(x[i]), want[i]);
            assert_int_equal(got[i], want[i]);
        }
    }
    assert_int_equal(f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(f32_to_f16(65520), 0x7c00);
    assert_int_equal(f32_to_f16(-1e30f), 0xfc00);
    assert_int_equal(f32_to_f16(0x1p-25f), 0);
    assert_int_equal(f32_to_f16(0x1.000002p-25f), 1);
}

static void bfloats_round_to_even(void **state)
{
    (void)state;
    assert_int_equal(f32_to_bf16(1), 0x3f80);
    assert_int_equal(f32_to_bf16(0x1.01p0f), 0x3f80);     /* the middle: to even, down */
    assert_int_equal(f32_to_bf16(0x1.010002p0f), 0x3f81); /* just above it */
    assert_int_equal(f32_to_bf16(0x1.03p0f), 0x3f82);     /* the middle: to even, up */
    assert_int_equal(f32_to_bf16(-0x1.03p0f), 0xbf82);
    assert_int_equal(f32_to_bf16(3.4e38f), 0x7f80); /* rounds up to infinity */
    assert_int_equal(f32_to_bf16(INFINITY), 0x7f80);
    for (uint32_t payload = 1; payload; payload = payload << 1 & 0x7fffff) {
        uint32_t u = 0x7f800000 | payload;
        float f;
        memcpy(&f, &u, 4);
        assert_true(isnan(bf16_to_f32(f32_to_bf16(f))));
    }
    for (uint32_t h = 0; h < 65536; h++)
        if (!isnan(bf16_to_f32((uint16_t)h)))
            assert_int_equal(f32_to_bf16(bf16_to_f32((uint16_t)h)), h);
}

static void every_type_reads(void **state)
{
    (void)state;
    const double f64[] = { -1.5, 1e300, 3 };
    const int8_t i8[] = { -128, 0, 127 };
    const uint8_t u8[] = { 0, 128, 255 };
    const int32_t i32[] = { -7, 1 << 24, 5 };
    const int64_t i64[] = { -7, 1ll << 40, 5 };
    float x[3];

    dtype_to_f32(DT_F64, f64, x, 3);
    assert_true(x[0] == -1.5f && isinf(x[1]) && x[2] == 3);
    dtype_to_f32(DT_I8, i8, x, 3);
    assert_true(x[0] == -128 && x[1] == 0 && x[2] == 127);
    dtype_to_f32(DT_U8, u8, x, 3);
    assert_true(x[0] == 0 && x[1] == 128 && x[2] == 255);
    dtype_to_f32(DT_I32, i32, x, 3);
    assert_true(x[0] == -7 && x[1] == 16777216 && x[2] == 5);
    dtype_to_f32(DT_I64, i64, x, 3);
    assert_true(x[0] == -7 && x[1] == 0x1p40f && x[2] == 5);
    for (int t = 0; t < DT_COUNT; t++)
        assert_int_equal(dtype_from_name(dtype_name((enum dtype)t)), t);
    assert_int_equal(dtype_from_name("F33"), -1);
}

/* By the definitions: 4 bits of exponent and 3 of mantissa, or 5 and 2; the bias is 7 or 15. */
static void every_small_float_reads(void **state)
{
    (void)state;
    uint8_t all[256];
    float got[256];
    for (int t = 0; t < 2; t++) {
        int mantissa = t ? 2 : 3, ones = 1 << mantissa, most = t ? 31 : 15, bias = t ? 15 : 7;
        for (int i = 0; i < 256; i++)
            all[i] = (uint8_t)i;
        dtype_to_f32(t ? DT_E5M2 : DT_E4M3, all, got, 256);
        for (int i = 0; i < 256; i++) {
            int e = i >> mantissa & most, m = i & (ones - 1);
            float x = e ? ldexpf((float)(ones + m), e - bias - mantissa)
                        : ldexpf((float)m, 1 - bias - mantissa);
            bool special = e == most && (t || m == ones - 1);
            if (special)
                assert_true(t && !m ? isinf(got[i]) : isnan(got[i]));
            else
                assert_true(got[i] == (i & 128 ? -x : x));
        }
    }
}

static void spans_read_any_part(void **state)
{
    (void)state;
    enum { ROWS = 3, RUN = 5, GROUPS = 4, ROW = RUN * GROUPS };
    int8_t q[ROWS * ROW];
    uint16_t scale[ROWS * GROUPS];
    float got[ROWS * ROW];
    struct span s = { .data = q,
                      .type = DT_I8,
                      .dims = 3,
                      .shape = { ROWS, RUN, GROUPS },
                      .scale = scale,
                      .groups = GROUPS };

    for (int i = 0; i < ROWS * ROW; i++)
        q[i] = (int8_t)(i * 37 % 255 - 127);
    for (int i = 0; i < ROWS * GROUPS; i++)
        scale[i] = f32_to_f16(0.25f * (float)(i + 1));
    assert_int_equal(span_count(&s), ROWS * ROW);
    for (size_t from = 0; from < ROWS * ROW; from++)
        for (size_t n = 0; from + n <= ROWS * ROW; n++) {
            span_read(&s, from, n, got);
            for (size_t i = 0; i < n; i++)
                assert_true(got[i] == (float)q[from + i] * 0.25f * (float)((from + i) / RUN + 1));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_both_ways),    cmocka_unit_test(halves_round_to_even),
        cmocka_unit_test(bfloats_round_to_even),   cmocka_unit_test(every_type_reads),
        cmocka_unit_test(every_small_float_reads), cmocka_unit_test(spans_read_any_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
