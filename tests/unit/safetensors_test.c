/* weights/safetensors: what a good file gives, and that every bad one is refused with one sentence
 * that names the file and the tensor. */
#include "weights/safetensors.h"

#include "weights_file.h"

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const char *folder, *path;

static int make_folder(void **state)
{
    (void)state;
    static char kept[1024];
    folder = test_folder();
    strcpy(kept, in_folder(folder, "x.safetensors"));
    path = kept;
    return !folder;
}

static int drop_folder(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

static struct store *open_good(const char *header, const void *data, size_t bytes)
{
    struct store *s = NULL;
    styx_error err = { 0 };

    write_safetensors(path, header, -1, data, bytes);
    if (safetensors_open(path, &s, &err))
        print_error("%s\n", err.text);
    assert_non_null(s);
    return s;
}

static void refuse(const char *header, long long announced, size_t bytes, const char *message)
{
    static const unsigned char zeros[4096];
    struct store *s = NULL;
    styx_error err = { 0 };

    write_safetensors(path, header, announced, zeros, bytes);
    assert_int_equal(safetensors_open(path, &s, &err), STYX_ERR_FORMAT);
    assert_null(s);
    if (!strstr(err.text, message))
        print_error("got '%s', wanted '%s'\n", err.text, message);
    assert_non_null(strstr(err.text, message));
    assert_non_null(strstr(err.text, path));
}

static void tensors_come_out(void **state)
{
    (void)state;
    const float a[] = { 1, -2, 3.5f, 4, 5, 6 };
    const uint16_t b[] = { 0x3c00, 0xc000 };
    unsigned char data[sizeof a + sizeof b];
    struct span span;
    float got[6];

    memcpy(data, a, sizeof a);
    memcpy(data + sizeof a, b, sizeof b);
    struct store *s = open_good("{\"__metadata__\":{\"format\":\"pt\"},"
                                "\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[24,28]},"
                                "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                                "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,3],"
                                "\"data_offsets\":[28,28]}}   ",
                                data, sizeof data);
    assert_int_equal(store_count(s), 3);
    assert_string_equal(store_at(s, 0)->name, "a");
    assert_string_equal(store_metadata(s, "format"), "pt");
    assert_null(store_metadata(s, "other"));
    assert_null(store_find(s, "aa"));
    assert_true(store_has_prefix(s, "emp"));
    assert_false(store_has_prefix(s, "emq"));

    assert_int_equal(store_span(s, store_find(s, "a"), &span, NULL), STYX_OK);
    assert_int_equal(span.type, DT_F32);
    assert_int_equal(span.dims, 2);
    assert_int_equal(span.shape[0], 2);
    assert_int_equal(span.shape[1], 3);
    span_read(&span, 0, 6, got);
    assert_memory_equal(got, a, sizeof a);
    assert_int_equal(store_span(s, store_find(s, "b"), &span, NULL), STYX_OK);
    span_read(&span, 0, 2, got);
    assert_true(got[0] == 1 && got[1] == -2);
    store_unref(s);
}

static void scalars_and_misaligned(void **state)
{
    (void)state;
    const float one = 0.25f;
    unsigned char data[5] = { 7 };
    struct span span;
    float got;

    memcpy(data + 1, &one, 4);
    struct store *s = open_good("{\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                                "\"f\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[1,5]}}",
                                data, sizeof data);
    assert_int_equal(store_span(s, store_find(s, "f"), &span, NULL), STYX_OK);
    assert_int_equal(span.dims, 0);
    assert_true((uintptr_t)span.data % 4 != 0);
    span_read(&span, 0, 1, &got);
    assert_true(got == one);
    store_unref(s);
}

/* Numbers and scales at odd places are read from there: no copy of a tensor is made. */
static void misaligned_parts(void **state)
{
    (void)state;
    enum { N = 300 };
    static unsigned char data[1 + 4 * N + N + 2 * N];
    uint16_t scale[N];
    float wide[N], got[N];
    int8_t q[N];
    struct span span;

    for (int i = 0; i < N; i++) {
        wide[i] = (float)i * 0.5f;
        q[i] = (int8_t)(i % 127);
        scale[i] = (uint16_t)(0x3c00 + i); /* from 1 to less than 2 */
    }
    memcpy(data, q, 1);
    memcpy(data + 1, wide, sizeof wide);
    memcpy(data + 1 + sizeof wide, q, sizeof q);
    memcpy(data + 1 + sizeof wide + sizeof q, scale, sizeof scale);
    struct store *s =
        open_good("{\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                  "\"f\":{\"dtype\":\"F32\",\"shape\":[300],\"data_offsets\":[1,1201]},"
                  "\"q\":{\"dtype\":\"I8\",\"shape\":[300,1],\"data_offsets\":[1201,1501]},"
                  "\"q.scale\":{\"dtype\":\"F16\",\"shape\":[300,1],\"data_offsets\":[1501,2101]}}",
                  data, sizeof data);
    for (int from = 0; from < N; from += 7) {
        size_t n = (size_t)(N - from);
        assert_int_equal(store_span(s, store_find(s, "f"), &span, NULL), STYX_OK);
        assert_non_null(span.file);
        assert_ptr_equal(span.data, store_find(s, "f")->raw);
        span_read(&span, (size_t)from, n, got);
        assert_memory_equal(got, wide + from, n * sizeof *got);
        assert_int_equal(span_load(&span, (size_t)from, n, got, NULL), STYX_OK);
        assert_memory_equal(got, wide + from, n * sizeof *got);
        assert_int_equal(store_span(s, store_find(s, "q"), &span, NULL), STYX_OK);
        assert_int_not_equal((uintptr_t)span.scale % 2, 0);
        span_read(&span, (size_t)from, n, got);
        for (int i = from; i < N; i++)
            assert_true(got[i - from] == (float)q[i] * f16_to_f32(scale[i]));
    }
    store_unref(s);
}

static void unsupported_only_when_wanted(void **state)
{
    (void)state;
    const unsigned char data[16] = { 0 };
    struct span span;
    styx_error err = { 0 };

    struct store *s =
        open_good("{\"f8\":{\"dtype\":\"F8_E8M0\",\"shape\":[2],\"data_offsets\":[0,2]},"
                  "\"five\":{\"dtype\":\"F16\",\"shape\":[1,1,1,1,1],\"data_offsets\":[2,4]},"
                  "\"q\":{\"dtype\":\"I8\",\"shape\":[2,2],\"data_offsets\":[4,8]},"
                  "\"f4\":{\"dtype\":\"F4\",\"shape\":[16],\"data_offsets\":[8,16]}}",
                  data, sizeof data);
    assert_int_equal(store_span(s, store_find(s, "f8"), &span, &err), STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "'f8' is F8_E8M0"));
    assert_int_equal(store_span(s, store_find(s, "five"), &span, &err), STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "more than 4 dimensions"));
    assert_int_equal(store_span(s, store_find(s, "q"), &span, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "without its scales"));
    store_unref(s);
}

static void eight_bit_floats(void **state)
{
    (void)state;
    /* 1, -1.75, the largest, the smallest, and the not-a-number of both. */
    const unsigned char data[10] = { 0x38, 0xbe, 0x7e, 0x01, 0x7f, 0x3c, 0xbf, 0x7b, 0x01, 0x7d };
    const float e4m3[] = { 1, -1.75f, 448, 0x1p-9f }, e5m2[] = { 1, -1.75f, 57344, 0x1p-16f };
    float got[5];
    struct span span;

    struct store *s =
        open_good("{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[5],\"data_offsets\":[0,5]},"
                  "\"b\":{\"dtype\":\"F8_E5M2\",\"shape\":[5,1],\"data_offsets\":[5,10]}}",
                  data, sizeof data);
    assert_int_equal(store_span(s, store_find(s, "a"), &span, NULL), STYX_OK);
    span_read(&span, 0, 5, got);
    assert_memory_equal(got, e4m3, sizeof e4m3);
    assert_true(got[4] != got[4]);
    assert_int_equal(store_span(s, store_find(s, "b"), &span, NULL), STYX_OK);
    assert_int_equal(span.dims, 2);
    span_read(&span, 0, 5, got);
    assert_memory_equal(got, e5m2, sizeof e5m2);
    assert_true(got[4] != got[4]);
    store_unref(s);

    styx_error err;
    s = open_good("{\"a.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[5],\"data_offsets\":[0,5]},"
                  "\"a.scale_weight\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[5,10]}}",
                  data, sizeof data);
    assert_int_equal(store_span(s, store_find(s, "a.weight"), &span, &err), STYX_ERR_UNSUPPORTED);
    store_unref(s);
}

static void eight_bits_with_scales(void **state)
{
    (void)state;
    /* Two rows of two groups of two. */
    unsigned char data[16] = { 1, 2, 3, 4, 0xff, 0xfe, 0xfd, 0xfc };
    const uint16_t scale[4] = { 0x3c00, 0x4000, 0x3800, 0xbc00 }; /* 1, 2, 0.5, -1 */
    const float want[8] = { 1, 2, 6, 8, -0.5f, -1, 3, 4 };
    float got[8];
    struct span span;

    memcpy(data + 8, scale, 8);
    struct store *s =
        open_good("{\"w\":{\"dtype\":\"I8\",\"shape\":[2,4],\"data_offsets\":[0,8]},"
                  "\"w.scale\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[8,16]}} ",
                  data, sizeof data);
    assert_int_equal(store_span(s, store_find(s, "w"), &span, NULL), STYX_OK);
    span_read(&span, 0, 8, got);
    assert_memory_equal(got, want, sizeof want);
    for (size_t from = 0; from < 8; from++)
        for (size_t n = 0; from + n <= 8; n++) {
            memset(got, 0, sizeof got);
            assert_int_equal(span_load(&span, from, n, got, NULL), STYX_OK);
            assert_memory_equal(got, want + from, n * sizeof *want);
        }
    assert_non_null(span.file);
    assert_true(store_find(s, "w.scale")->companion);
    store_unref(s);

    refuse("{\"w\":{\"dtype\":\"I8\",\"shape\":[2,4],\"data_offsets\":[0,8]},"
           "\"w.scale\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[8,20]}}",
           -1, 20, "'w.scale' must be F16 of [rows, groups]");
    refuse("{\"w\":{\"dtype\":\"I8\",\"shape\":[2,4],\"data_offsets\":[0,8]},"
           "\"w.scale\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[8,24]}}",
           -1, 24, "'w.scale' must be F16 of [rows, groups]");
}

#define F32(name, shape, begin, end)                                                               \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"

static void bad_lengths(void **state)
{
    (void)state;
    struct store *s;
    styx_error err;

    write_file(path, "1234567", 7);
    assert_int_equal(safetensors_open(path, &s, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "has 7 bytes"));
    write_file(path, "", 0);
    assert_int_equal(safetensors_open(path, &s, &err), STYX_ERR_FORMAT);
    assert_int_equal(safetensors_open(in_folder(folder, "none"), &s, &err), STYX_ERR_IO);
    assert_int_equal(safetensors_open(folder, &s, &err), STYX_ERR_FORMAT);
    refuse("{}", 3, 0, "is cut short: 3 bytes of header were announced, 2 follow");
    refuse("{}", 0x7fffffffffffffff, 0, "header would be 9223372036854775807 bytes long");
    refuse("{}", 100000001, 0, "header would be 100000001 bytes long");
    refuse("{}", 0, 0, "no '{' at byte 8");
    refuse(" {}", -1, 0, "no '{' at byte 8");
}

static void bad_json(void **state)
{
    (void)state;
    char deep[2000] = "{\"a\":", *end = deep + strlen(deep);

    refuse("{", -1, 0, "is not valid JSON");
    refuse("{} x", -1, 0, "is not valid JSON");
    refuse("{\"a\xff\":1}", -1, 0, "is not valid JSON");
    refuse("{\"a\\u0000b\":1}", -1, 0, "is not valid JSON");
    refuse("{" F32("a", "1", "0", "4") "," F32("a", "1", "0", "4") "}", -1, 4, "is not valid JSON");
    refuse("{" F32("a", "1", "0", "99999999999999999999") "}", -1, 4, "is not valid JSON");
    memset(end, '[', 1000);
    memset(end + 1000, ']', 900);
    refuse(deep, -1, 0, "nested more than");
}

static void bad_tensors(void **state)
{
    (void)state;
    refuse("{\"a\":1}", -1, 0, "tensor 'a' has no dtype");
    refuse("{\"a\":{\"dtype\":5}}", -1, 0, "tensor 'a' has no dtype");
    refuse("{\"a\":{\"dtype\":\"F32\"}}", -1, 0, "tensor 'a' has no shape");
    refuse("{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", -1, 4,
           "tensor 'a' has the unknown type 'F33'");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", -1, 4, "has no two data_offsets");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", -1, 4,
           "has no two data_offsets");
    refuse("{" F32("a", "1", "0", "4.0") "}", -1, 4, "has no two data_offsets");
    refuse("{" F32("a", "1", "-4", "0") "}", -1, 4, "has no two data_offsets");
    refuse("{" F32("a", "-1", "0", "4") "}", -1, 4, "something else than lengths");
    refuse("{" F32("a", "\\\"1\\\"", "0", "4") "}", -1, 4, "is not valid JSON");
    refuse("{" F32("a", "null", "0", "4") "}", -1, 4, "something else than lengths");
    refuse("{" F32("a", "4294967296,4294967296", "0", "0") "}", -1, 0,
           "multiplies to more than 2^64 elements");
    refuse("{" F32("a", "4611686018427387905", "0", "4") "}", -1, 4,
           "4611686018427387905 elements of F32 but 4 bytes");
    refuse("{" F32("a", "2", "0", "4") "}", -1, 4, "2 elements of F32 but 4 bytes");
    refuse("{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", -1, 1,
           "3 elements of F4 but 1 bytes");
    refuse("{" F32("a", "1", "4", "0") "}", -1, 4, "lies at bytes 4 to 0 of 4");
    refuse("{" F32("a", "2", "0", "8") "}", -1, 4, "lies at bytes 0 to 8 of 4");
    refuse("{\"__metadata__\":[]}", -1, 0, "__metadata__ is no map");
    refuse("{\"__metadata__\":{\"a\":1}}", -1, 0, "__metadata__ 'a' is no string");
}

static void bad_tilings(void **state)
{
    (void)state;
    refuse("{" F32("a", "2", "0", "8") "," F32("b", "2", "4", "12") "}", -1, 12,
           "tensor 'b' begins at byte 4, inside of tensor 'a'");
    refuse("{" F32("a", "1", "0", "4") "," F32("b", "1", "0", "4") "}", -1, 4, "inside of tensor");
    refuse("{" F32("a", "1", "0", "4") "," F32("b", "1", "8", "12") "}", -1, 12,
           "4 bytes before tensor 'b' belong to no tensor");
    refuse("{" F32("a", "1", "4", "8") "}", -1, 8, "4 bytes before tensor 'a'");
    refuse("{" F32("a", "1", "0", "4") "}", -1, 7, "the last 3 bytes belong to no tensor");
    refuse("{}", -1, 1, "the last 1 bytes belong to no tensor");
}

static void names_are_made_fit_to_print(void **state)
{
    (void)state;
    char header[400] = "{\"\\u001b[31m";
    memset(header + strlen(header), 'n', 200);
    strcat(header, "\":1}");
    refuse(header, -1, 0, "tensor '?[31mnnnn");
    assert_int_equal(strlen(SHOW(header)), 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_come_out),
        cmocka_unit_test(scalars_and_misaligned),
        cmocka_unit_test(misaligned_parts),
        cmocka_unit_test(unsupported_only_when_wanted),
        cmocka_unit_test(eight_bit_floats),
        cmocka_unit_test(eight_bits_with_scales),
        cmocka_unit_test(bad_lengths),
        cmocka_unit_test(bad_json),
        cmocka_unit_test(bad_tensors),
        cmocka_unit_test(bad_tilings),
        cmocka_unit_test(names_are_made_fit_to_print),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
