/* weights/convert: types and containers of one component. (Single files: names_test.c.) */
#include "weights/convert.h"

#include <math.h>

#include "weights/save.h"
#include "weights_file.h"

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const char *folder;

static int make_folder(void **state)
{
    (void)state;
    folder = test_folder();
    return !folder;
}

static int drop_folder(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

enum { ROWS = 50, COLUMNS = 64 * 40 }; /* more than one chunk */

static float value(size_t i)
{
    return sinf((float)i * 0.37f) * 0.05f;
}

/* A matrix, a convolution, a vector, one with odd rows, and integers. */
static struct store *open_source(void)
{
    static float numbers[ROWS * COLUMNS];
    static const int64_t ids[3] = { 1, 2, 1ll << 40 };
    static const double wide[2] = { 0.1, -3 };
    struct store *s = NULL;
    const char *const metadata[] = { "modelspec.title", "a title", NULL };
    const char *path = in_folder(folder, "source.safetensors");
    struct saved t[] = { { "matrix.weight", DT_F32, 2, { ROWS, COLUMNS }, numbers },
                         { "conv.weight", DT_F32, 4, { 32, 32, 3, 3 }, numbers },
                         { "norm.bias", DT_F32, 1, { 64 }, numbers },
                         { "odd.weight", DT_F32, 2, { 8, 33 }, numbers },
                         { "wide", DT_F64, 1, { 2 }, wide },
                         { "position_ids", DT_I64, 1, { 3 }, ids } };

    for (size_t i = 0; i < ROWS * COLUMNS; i++)
        numbers[i] = value(i);
    save_sort(t, 6);
    assert_int_equal(save_file(path, t, 6, metadata, FILE_REPLACE, NULL), STYX_OK);
    assert_int_equal(store_open_file(path, &s, NULL), STYX_OK);
    return s;
}

static struct store *convert(struct store *from, const char *name, enum convert_type type)
{
    const struct convert_part part = { "unet", from };
    const struct convert_options options = { .type = type };
    struct store *s = NULL;
    styx_error err = { 0 };
    const char *path = in_folder(folder, name);

    if (convert_write(path, &part, 1, &options, &err) || store_open_file(path, &s, &err))
        print_error("%s\n", err.text);
    assert_non_null(s);
    assert_string_equal(store_metadata(s, "modelspec.title"), "a title");
    return s;
}

/* The tensor has this type and the source's shape, and is within relative error of it. */
static void check(struct store *s, struct store *source, const char *name, const char *type,
                  float error)
{
    const struct entry *e = store_find(s, name), *was = store_find(source, name);
    struct span a, b;
    float x, y;

    assert_non_null(e);
    assert_string_equal(e->type, type);
    assert_int_equal(e->dims, was->dims);
    assert_memory_equal(e->shape, was->shape, sizeof e->shape);
    assert_int_equal(store_span(s, e, &a, NULL), STYX_OK);
    assert_int_equal(store_span(source, was, &b, NULL), STYX_OK);
    for (size_t i = 0; i < e->count; i++) {
        span_read(&a, i, 1, &x);
        span_read(&b, i, 1, &y);
        if (fabsf(x - y) > error * fmaxf(fabsf(y), 0.05f))
            print_error("%s[%zu] is %g instead of %g\n", name, i, x, y);
        assert_true(fabsf(x - y) <= error * fmaxf(fabsf(y), 0.05f));
    }
}

static void every_type_and_container(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        enum convert_type type;
        const char *matrix, *conv, *vector, *wide;
        float error;
    } cases[] = {
        { "a.safetensors", CONVERT_SAME, "F32", "F32", "F32", "F32", 1e-7f },
        { "b.safetensors", CONVERT_F16, "F16", "F16", "F16", "F16", 0x1p-11f },
        { "c.safetensors", CONVERT_BF16, "BF16", "BF16", "BF16", "BF16", 0x1p-8f },
        { "d.safetensors", CONVERT_Q8_0, "I8", "I8", "F16", "F16", 0.005f },
        { "a.gguf", CONVERT_SAME, "F32", "F32", "F32", "F32", 1e-7f },
        { "b.gguf", CONVERT_F16, "F16", "F16", "F16", "F16", 0x1p-11f },
        { "c.gguf", CONVERT_BF16, "BF16", "BF16", "BF16", "BF16", 0x1p-8f },
        { "d.gguf", CONVERT_Q8_0, "Q8_0", "F16", "F16", "F16", 0.005f },
        { "e.gguf", CONVERT_F32, "F32", "F32", "F32", "F32", 1e-7f },
    };
    struct store *source = open_source();

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct store *s = convert(source, cases[i].file, cases[i].type);
        check(s, source, "matrix.weight", cases[i].matrix, cases[i].error);
        check(s, source, "conv.weight", cases[i].conv, cases[i].error);
        check(s, source, "norm.bias", cases[i].vector, cases[i].error);
        check(s, source, "odd.weight", cases[i].vector, cases[i].error);
        check(s, source, "wide", cases[i].wide, cases[i].error);
        check(s, source, "position_ids", "I64", 0);
        store_unref(s);
    }
    store_unref(source);
}

static void eight_bits_travel_unchanged(void **state)
{
    (void)state;
    struct store *source = open_source();
    struct store *first = convert(source, "q.safetensors", CONVERT_Q8_0);
    struct store *gguf = convert(first, "q.gguf", CONVERT_SAME);
    struct store *back = convert(gguf, "q2.safetensors", CONVERT_SAME);

    assert_string_equal(store_find(gguf, "matrix.weight")->type, "Q8_0");
    check(gguf, first, "matrix.weight", "Q8_0", 0);
    check(back, first, "matrix.weight", "I8", 0);
    assert_true(store_find(back, "matrix.weight.scale")->companion);
    store_unref(first);
    store_unref(gguf);
    store_unref(back);
    store_unref(source);
}

static int stop_at_once(void *ctx, uint64_t done, uint64_t all)
{
    assert_true(done > 0 && done <= all);
    ++*(int *)ctx;
    return 1;
}

static void refusals_leave_nothing(void **state)
{
    (void)state;
    const float large[4] = { 1, 70000, 2, 3 }, bad[32] = { 1, INFINITY };
    const struct saved t[] = { { "a", DT_F32, 1, { 4 }, large } };
    const struct saved u[] = { { "a", DT_F32, 2, { 1, 32 }, bad } };
    char out[1024];
    struct convert_options options = { .type = CONVERT_F16 };
    struct convert_part parts[2] = { { "unet", NULL }, { "vae", NULL } };
    struct store *s;
    styx_error err;
    int calls = 0;

    strcpy(out, in_folder(folder, "out.safetensors"));
    save_file(in_folder(folder, "t.safetensors"), t, 1, NULL, FILE_REPLACE, NULL);
    assert_int_equal(store_open_file(in_folder(folder, "t.safetensors"), &s, NULL), STYX_OK);
    parts[0].store = s;
    assert_int_equal(convert_write(out, parts, 1, &options, &err), STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "'a' holds 70000, too large for F16"));
    options = (struct convert_options){ .progress = stop_at_once, .ctx = &calls };
    assert_int_equal(convert_write(out, parts, 1, &options, &err), STYX_ERR_CANCELLED);
    assert_int_equal(calls, 1);
    assert_int_equal(convert_write(out, parts, 2, &options, &err), STYX_ERR_INVALID);
    store_unref(s);

    save_file(in_folder(folder, "u.safetensors"), u, 1, NULL, FILE_REPLACE, NULL);
    assert_int_equal(store_open_file(in_folder(folder, "u.safetensors"), &s, NULL), STYX_OK);
    parts[0].store = s;
    options = (struct convert_options){ .type = CONVERT_Q8_0 };
    assert_int_equal(convert_write(out, parts, 1, &options, &err), STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "holds a number that 8 bits cannot"));
    options.type = CONVERT_F16; /* an infinity is no overflow */
    assert_int_equal(convert_write(in_folder(folder, "inf.safetensors"), parts, 1, &options, &err),
                     STYX_OK);
    store_unref(s);
    assert_false(file_exists(out));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, drop_folder)
    const struct CMUnitTest tests[] = { TEST(every_type_and_container),
                                        TEST(eight_bits_travel_unchanged),
                                        TEST(refusals_leave_nothing) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
