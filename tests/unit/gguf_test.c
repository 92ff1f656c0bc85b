/* weights/gguf and quants: every block type against the numbers of another implementation
 * (tests/data/weights/make.py), and that every bad header is refused. */
#include "weights/gguf.h"

#include <math.h>

#include "weights/quants.h"
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
    strcpy(kept, in_folder(folder, "x.gguf"));
    path = kept;
    return !folder;
}

static int drop_folder(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

static struct store *open_data(const char *name)
{
    struct store *s = NULL;
    styx_error err = { 0 };
    char full[1024];
    snprintf(full, sizeof full, "%s/data/weights/%s", STYX_TEST_DATA, name);
    if (store_open_file(full, &s, &err))
        print_error("%s\n", err.text);
    assert_non_null(s);
    return s;
}

static void every_type_decodes(void **state)
{
    (void)state;
    struct store *have = open_data("quants.gguf"), *want = open_data("quants.safetensors");
    int compared = 0;

    assert_string_equal(store_metadata(have, "general.name"), "every type");
    for (int i = 0; i < store_count(want); i++) {
        const struct entry *w = store_at(want, i), *h = store_find(have, w->name);
        struct span a, b;
        float x, y;
        if (!strcmp(w->name, "source"))
            continue;
        assert_non_null(h);
        assert_int_equal(h->dims, w->dims);
        assert_memory_equal(h->shape, w->shape, sizeof w->shape);
        assert_int_equal(store_span(have, h, &a, NULL), STYX_OK);
        assert_int_equal(store_span(want, w, &b, NULL), STYX_OK);
        assert_int_equal(span_count(&a), w->count);
        /* Integers with one scale stay exact; what has minima is kept as F16. */
        bool exact = a.type != DT_F16 || !strcmp(w->name, "F16");
        for (size_t j = 0; j < w->count; j++) {
            span_read(&a, j, 1, &x);
            span_read(&b, j, 1, &y);
            if (!(exact ? x == y : fabsf(x - y) <= fabsf(y) * 0x1p-11f + 0x1p-25f))
                print_error("%s[%zu] is %.9g instead of %.9g\n", w->name, j, x, y);
            assert_true(exact ? x == y : fabsf(x - y) <= fabsf(y) * 0x1p-11f + 0x1p-25f);
        }
        compared++;
    }
    assert_int_equal(compared, 14);
    assert_int_equal(store_count(have), 14);
    store_unref(have);
    store_unref(want);
}

/* Any part of any type, from the mapping and from the file, has the bits that it has in the whole,
 * and what is fetched stays within the buffer. */
static void parts_equal_the_whole(void **state)
{
    (void)state;
    enum { NUMBERS = 8 * 512, ROOM = 1024, GUARD = 16 };
    static float whole[NUMBERS], part[NUMBERS];
    _Alignas(64) unsigned char buffer[ROOM + GUARD], guard[GUARD];
    struct store *s = open_data("quants.gguf");

    memset(guard, 0xa5, sizeof guard);
    for (int i = 0; i < store_count(s); i++) {
        struct span span;
        struct span_part fetched;
        assert_int_equal(store_span(s, store_at(s, i), &span, NULL), STYX_OK);
        size_t all = span_count(&span), most = span_part_room(&span, ROOM);
        assert_in_range(all, 1, NUMBERS);
        assert_true(most >= 1);
        span_read(&span, 0, all, whole);
        for (size_t from = 0; from < all; from++)
            for (size_t n = from % 3; n <= all - from; n += 1 + n / 2) {
                span_read(&span, from, n, part);
                assert_memory_equal(part, whole + from, n * sizeof *part);
                assert_int_equal(span_load(&span, from, n, part, NULL), STYX_OK);
                assert_memory_equal(part, whole + from, n * sizeof *part);
            }
        for (size_t from = 0; from < all; from++) {
            size_t n = all - from < most ? all - from : most, skip = from % 5 < n ? from % 5 : 0;
            memcpy(buffer + ROOM, guard, GUARD);
            assert_int_equal(span_fetch(&span, from, n, buffer, &fetched, NULL), STYX_OK);
            assert_ptr_equal(fetched.data, buffer);
            assert_memory_equal(buffer + ROOM, guard, GUARD);
            span_part_read(&fetched, from + skip, n - skip, part);
            assert_memory_equal(part, whole + from + skip, (n - skip) * sizeof *part);
        }
    }
    store_unref(s);
}

/* What would be expanded would be memory that no plan counts. */
static void blocks_stay_in_the_file(void **state)
{
    (void)state;
    struct store *s = open_data("quants.gguf");
    int blocks = 0;
    for (int i = 0; i < store_count(s); i++) {
        const struct entry *e = store_at(s, i);
        struct span span;
        assert_int_equal(store_span(s, e, &span, NULL), STYX_OK);
        assert_non_null(span.file);
        assert_ptr_equal(span.data, e->raw);
        assert_true(span_plain(&span) == (quant_by_name(e->type) == NULL));
        blocks += span.blocks != NULL;
    }
    assert_int_equal(blocks, 11);
    store_unref(s);
}

static void quantizing(void **state)
{
    (void)state;
    struct store *have = open_data("quants.gguf"), *want = open_data("quants.safetensors");
    float source[512];
    int8_t q[512];
    uint16_t scales[16];
    struct span span;

    assert_int_equal(store_span(want, store_find(want, "source"), &span, NULL), STYX_OK);
    span_read(&span, 0, 512, source);
    assert_true(q8_0_quantize(source, 512, q, scales));
    const struct entry *e = store_find(have, "Q8_0");
    const unsigned char *block = e->raw;
    for (int i = 0; i < 16; i++, block += Q8_0_BYTES) {
        int8_t integers[Q8_0_ELEMENTS];
        uint16_t scale;
        quant_by_name(e->type)->split(block, integers, &scale);
        assert_memory_equal(q + i * Q8_0_ELEMENTS, integers, sizeof integers);
        assert_int_equal(scales[i], scale);
    }

    memset(source, 0, 32 * sizeof *source);
    assert_true(q8_0_quantize(source, 32, q, scales));
    assert_int_equal(scales[0], 0);
    assert_int_equal(q[0], 0);
    source[7] = INFINITY;
    assert_false(q8_0_quantize(source, 32, q, scales));
    source[7] = NAN;
    assert_false(q8_0_quantize(source, 32, q, scales));
    store_unref(have);
    store_unref(want);
}

/* ---- Bad headers, byte by byte. ---- */

static unsigned char file[8192];
static size_t length;

static void bytes(const void *data, size_t n)
{
    memcpy(file + length, data, n);
    length += n;
}

static void number(uint64_t value, size_t n)
{
    bytes(&value, n);
}

static void string(const char *text)
{
    number(strlen(text), 8);
    bytes(text, strlen(text));
}

static void start(unsigned version, uint64_t tensors, uint64_t values)
{
    length = 0;
    bytes("GGUF", 4);
    number(version, 4);
    number(tensors, 8);
    number(values, 8);
}

static void tensor_info(const char *name, unsigned dims, uint64_t inner, uint64_t outer,
                        unsigned type, uint64_t offset)
{
    string(name);
    number(dims, 4);
    for (unsigned i = 0; i < dims; i++)
        number(i ? i > 1 ? 1 : outer : inner, 8);
    number(type, 4);
    number(offset, 8);
}

static void finish(size_t data)
{
    while (length % 32)
        file[length++] = 0;
    memset(file + length, 0, data);
    length += data;
}

static void refuse(int code, const char *message)
{
    struct store *s = NULL;
    styx_error err = { 0 };

    write_file(path, file, length);
    assert_int_equal(gguf_open(path, &s, &err), code);
    assert_null(s);
    if (!strstr(err.text, message))
        print_error("got '%s', wanted '%s'\n", err.text, message);
    assert_non_null(strstr(err.text, message));
    assert_non_null(strstr(err.text, path));
}

static void accept(int ntensors)
{
    struct store *s = NULL;
    styx_error err = { 0 };

    write_file(path, file, length);
    if (gguf_open(path, &s, &err))
        print_error("%s\n", err.text);
    assert_non_null(s);
    assert_int_equal(store_count(s), ntensors);
    store_unref(s);
}

static void good_and_cut_anywhere(void **state)
{
    (void)state;
    start(3, 2, 3);
    string("general.architecture"), number(8, 4), string("sd1");
    string("list"), number(9, 4), number(8, 4), number(2, 8), string("x"), string("y");
    string("general.alignment"), number(4, 4), number(64, 4);
    tensor_info("a", 2, 3, 2, 0, 0);
    tensor_info("b", 1, 32, 1, 8, 64);
    while (length % 64)
        file[length++] = 0;
    memset(file + length, 0, 64 + 34);
    length += 64 + 34;
    accept(2);

    size_t whole = length;
    for (length = 0; length < whole; length++) {
        struct store *s = NULL;
        styx_error err = { 0 };
        write_file(path, file, length);
        assert_int_equal(gguf_open(path, &s, &err), STYX_ERR_FORMAT);
        assert_null(s);
        assert_non_null(strstr(err.text, path));
    }
    start(2, 0, 0);
    accept(0);
}

static void bad_headers(void **state)
{
    (void)state;
    start(1, 0, 0);
    refuse(STYX_ERR_UNSUPPORTED, "is GGUF version 1");
    start(3, UINT64_MAX, 0);
    refuse(STYX_ERR_FORMAT, "is cut short");
    start(3, 0, UINT64_MAX);
    refuse(STYX_ERR_FORMAT, "is cut short");
    start(3, 0, 1);
    number(UINT64_MAX, 8);
    refuse(STYX_ERR_FORMAT, "is cut short");
    start(3, 0, 1);
    string("k"), number(13, 4), number(0, 8);
    refuse(STYX_ERR_FORMAT, "'k' is of the unknown type 13");
    start(3, 0, 1);
    string("k"), number(9, 4), number(9, 4), number(1, 8);
    refuse(STYX_ERR_FORMAT, "'k' is an array of an unknown type");
    start(3, 0, 1);
    string("k"), number(9, 4), number(12, 4), number(UINT64_MAX / 4, 8);
    refuse(STYX_ERR_FORMAT, "is cut short");
    start(3, 0, 1);
    string("general.alignment"), number(4, 4), number(24, 4);
    refuse(STYX_ERR_FORMAT, "general.alignment is no power of two");
    start(3, 0, 1);
    string("general.alignment"), number(4, 4), number(0, 4);
    refuse(STYX_ERR_FORMAT, "general.alignment is no power of two");
}

static void bad_tensors(void **state)
{
    (void)state;
    start(3, 1, 0);
    tensor_info("a", 5, 1, 1, 0, 0);
    refuse(STYX_ERR_FORMAT, "'a' has 5 dimensions");
    start(3, 1, 0);
    tensor_info("a", 2, 1ull << 31, 1, 0, 0);
    refuse(STYX_ERR_FORMAT, "'a' is too large");
    start(3, 1, 0);
    string("a"), number(4, 4);
    for (int i = 0; i < 4; i++)
        number(0x7fffffff, 8);
    number(0, 4), number(0, 8);
    refuse(STYX_ERR_FORMAT, "'a' is too large");
    start(3, 1, 0);
    tensor_info("a", 1, 4, 1, 16, 0);
    finish(64);
    refuse(STYX_ERR_UNSUPPORTED, "'a' is of ggml's type 16");
    start(3, 1, 0);
    tensor_info("a", 2, 33, 2, 8, 0);
    finish(128);
    refuse(STYX_ERR_FORMAT, "a row of tensor 'a' is no whole number of Q8_0 blocks");
    start(3, 1, 0);
    tensor_info("a", 1, 4, 1, 0, 8);
    finish(64);
    refuse(STYX_ERR_FORMAT, "'a' lies at byte 8 of 64");
    start(3, 1, 0);
    tensor_info("a", 1, 17, 1, 0, 0);
    finish(64);
    refuse(STYX_ERR_FORMAT, "'a' lies at byte 0 of 64");
    start(3, 1, 0);
    tensor_info("a", 1, 4, 1, 0, 1ull << 63);
    finish(64);
    refuse(STYX_ERR_FORMAT, "the file is cut short or its header is wrong");
    start(3, 2, 0);
    tensor_info("a", 1, 16, 1, 0, 0);
    tensor_info("b", 1, 1, 1, 0, 32);
    finish(64);
    refuse(STYX_ERR_FORMAT, "tensors 'a' and 'b' overlap");
    start(3, 2, 0);
    tensor_info("a", 1, 4, 1, 0, 0);
    tensor_info("a", 1, 4, 1, 0, 32);
    finish(64);
    refuse(STYX_ERR_FORMAT, "'a' is there twice");
    /* A type without a use of ours is no reason to refuse the file, and neither is a scalar. */
    start(3, 2, 0);
    tensor_info("a", 1, 4, 1, 25, 0);
    tensor_info("b", 0, 4, 1, 0, 32);
    finish(64);
    accept(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_decodes),
        cmocka_unit_test(parts_equal_the_whole),
        cmocka_unit_test(blocks_stay_in_the_file),
        cmocka_unit_test(quantizing),
        cmocka_unit_test(good_and_cut_anywhere),
        cmocka_unit_test(bad_headers),
        cmocka_unit_test(bad_tensors),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
