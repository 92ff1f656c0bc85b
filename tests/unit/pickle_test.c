/* weights/pickle and zip: PyTorch's files (tests/data/weights/make.py), and that nothing but
 * tensors gets through. */
#include "weights/pickle.h"

#include "weights_file.h"

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const char *data_file(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/data/weights/%s", STYX_TEST_DATA, name);
    return path;
}

static void check(struct store *s, const char *name, const char *type, int dims, const int *shape,
                  float first, float last)
{
    const struct entry *e = store_find(s, name);
    struct span span;
    float value;

    assert_non_null(e);
    assert_string_equal(e->type, type);
    assert_int_equal(e->dims, dims);
    for (int i = 0; i < dims; i++)
        assert_int_equal(e->shape[i], shape[i]);
    assert_int_equal(store_span(s, e, &span, NULL), STYX_OK);
    span_read(&span, 0, 1, &value);
    assert_true(value == first);
    span_read(&span, e->count - 1, 1, &value);
    assert_true(value == last);
}

static void a_checkpoint_opens(void **state)
{
    (void)state;
    struct store *s = NULL;
    styx_error err = { 0 };

    if (pickle_open(data_file("checkpoint.pt"), &s, &err))
        print_error("%s\n", err.text);
    assert_non_null(s);
    assert_int_equal(store_count(s), 7);
    check(s, "a.weight", "F32", 2, (int[]){ 4, 6 }, 0, 23);
    check(s, "a.half", "F16", 4, (int[]){ 2, 3, 4, 1 }, 0, 23);
    check(s, "a.view", "F32", 1, (int[]){ 6 }, 12, 17);
    check(s, "b.bf16", "BF16", 1, (int[]){ 5 }, 0, 4);
    check(s, "b.ids", "I64", 1, (int[]){ 3 }, 0, 2);
    check(s, "b.scalar", "F64", 0, NULL, 2.5f, 2.5f);
    check(s, "b.parameter", "F32", 1, (int[]){ 2 }, 1, 1);
    store_unref(s);

    assert_int_equal(store_open_file(data_file("checkpoint.pt"), &s, &err), STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "is a Python pickle"));
}

static void harm_is_refused(void **state)
{
    (void)state;
    struct store *s = NULL;
    styx_error err = { 0 };

    assert_int_equal(pickle_open(data_file("harmful.pt"), &s, &err), STYX_ERR_UNSUPPORTED);
    assert_null(s);
    assert_non_null(strstr(err.text, "names 'posix.system'"));
}

/* ---- Archives made here. ---- */

static unsigned char file[1 << 16];
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

struct member {
    const char *name;
    const void *data;
    size_t bytes;
    unsigned method;
};

static void zip(const struct member *members, int n)
{
    size_t at[8], directory;

    length = 0;
    for (int i = 0; i < n; i++) {
        const struct member *m = &members[i];
        at[i] = length;
        bytes("PK\3\4", 4), number(0, 4), number(m->method, 2), number(0, 8);
        number(m->bytes, 4), number(m->bytes, 4), number(strlen(m->name), 2), number(0, 2);
        bytes(m->name, strlen(m->name)), bytes(m->data, m->bytes);
    }
    directory = length;
    for (int i = 0; i < n; i++) {
        const struct member *m = &members[i];
        bytes("PK\1\2", 4), number(0, 6), number(m->method, 2), number(0, 8);
        number(m->bytes, 4), number(m->bytes, 4), number(strlen(m->name), 2), number(0, 8),
            number(0, 4);
        number(at[i], 4), bytes(m->name, strlen(m->name));
    }
    size_t size = length - directory;
    bytes("PK\5\6", 4), number(0, 4), number((unsigned)n, 2), number((unsigned)n, 2);
    number(size, 4), number(directory, 4), number(0, 2);
}

static int parse(const unsigned char *data, size_t n, struct store **out, styx_error *err)
{
    unsigned char *copy = malloc(n + 1); /* of this size, for the sanitizer */
    memcpy(copy, data, n);
    struct store *s = store_new("x.pt");
    int rc = pickle_parse(copy, n, "x.pt", s, err);
    if (!rc)
        rc = store_seal(s, err);
    if (rc || !out)
        store_unref(s);
    else
        *out = s;
    if (!out || rc)
        free(copy);
    else
        store_keep(s, copy, free, NULL);
    return rc;
}

static int run(const char *program, size_t n, styx_error *err)
{
    const float data[4] = { 1, 2, 3, 4 };
    const struct member members[] = { { "a/data.pkl", program, n, 0 },
                                      { "a/data/0", data, sizeof data, 0 } };
    zip(members, 2);
    return parse(file, length, NULL, err);
}

#define STORAGE "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\4tQ"
#define TENSOR(offset, shape, stride)                                                              \
    "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE "K" offset "(" shape "t(" stride "t\x89"        \
    "}tR"

static const struct {
    const char *program;
    size_t bytes;
    int code;
    const char *message;
} given[] = {
#define CASE(text, code, message)                                                                  \
    {                                                                                              \
        text, sizeof text - 1, code, message                                                       \
    }
    CASE("}X\1\0\0\0wK\0s.", STYX_OK, ""),
    CASE("}X\1\0\0\0w" TENSOR("\1", "K\3", "K\1") "s.", STYX_OK, ""),
    CASE("}X\1\0\0\0w" TENSOR("\2", "K\3", "K\1") "s.", STYX_ERR_FORMAT, "larger than its data"),
    CASE("}X\1\0\0\0w" TENSOR("\0", "K\2K\2", "K\1K\2") "s.", STYX_ERR_UNSUPPORTED,
         "is a view with gaps or transposed"),
    CASE("}X\1\0\0\0w" TENSOR("\0", "K\2", "K\1K\2") "s.", STYX_ERR_FORMAT,
         "a tensor is not described as one"),
    CASE("cos\nsystem\n(X\2\0\0\0lstR.", STYX_ERR_UNSUPPORTED, "names 'os.system'"),
    CASE("\x8c\2os\x8c\6system\x93.", STYX_ERR_UNSUPPORTED, "names 'os.system'"),
    CASE("cbuiltins\neval\n.", STYX_ERR_UNSUPPORTED, "names 'builtins.eval'"),
    CASE("ctorch\nFloatStorage\n)R.", STYX_ERR_UNSUPPORTED, "calls 'torch.FloatStorage'"),
    CASE("(ios\nsystem\n.", STYX_ERR_UNSUPPORTED, "the instruction 0x69"),
    CASE("(cos\nsystem\no.", STYX_ERR_UNSUPPORTED, "names 'os.system'"),
    CASE("P1\n.", STYX_ERR_UNSUPPORTED, "the instruction 0x50"),
    CASE("\x82\1.", STYX_ERR_UNSUPPORTED, "the instruction 0x82"),
    CASE("", STYX_ERR_FORMAT, "it has no end"),
    CASE("}", STYX_ERR_FORMAT, "it has no end"),
    CASE(".", STYX_ERR_FORMAT, "it has no end"),
    CASE("K\1.", STYX_ERR_FORMAT, "holds no dictionary"),
    CASE("X\xff\xff\xff\xff"
         "a.",
         STYX_ERR_FORMAT, "a text is cut short"),
    CASE("\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", STYX_ERR_FORMAT, "a text is cut short"),
    CASE("J\1\2", STYX_ERR_FORMAT, "an instruction is cut short"),
    CASE("\x8a\5\1", STYX_ERR_FORMAT, "an integer is cut short"),
    CASE("cos", STYX_ERR_FORMAT, "a name is cut short"),
    CASE("K\1K\1\x93.", STYX_ERR_FORMAT, "a name is no text"),
    CASE("u.", STYX_ERR_FORMAT, "no mark"),
    CASE("(u.", STYX_ERR_FORMAT, "items without what they belong to"),
    CASE("}(K\1u.", STYX_ERR_FORMAT, "items without what they belong to"),
    CASE("]K\1K\1s.", STYX_ERR_FORMAT, "items without what they belong to"),
    CASE("K\1\x87.", STYX_ERR_FORMAT, "the stack is empty"),
    CASE("K\1(0.", STYX_ERR_FORMAT, "the stack is empty"),
    CASE("h\1.", STYX_ERR_FORMAT, "nothing was remembered"),
    CASE("}r\xff\xff\xff\xff.", STYX_ERR_FORMAT, "nothing to remember"),
    CASE("q\1.", STYX_ERR_FORMAT, "nothing to remember"),
    CASE(")R.", STYX_ERR_FORMAT, "a call of what is no function"),
    CASE(")Q.", STYX_ERR_FORMAT, "a storage is not described as one"),
    CASE("(K\1ccollections\nOrderedDict\nX\1\0\0\0aK\1K\1tQ.", STYX_ERR_FORMAT,
         "a storage of no known type"),
    CASE("ctorch._utils\n_rebuild_parameter\n)R.", STYX_ERR_FORMAT, "a parameter without"),
    /* A dictionary of itself, many times. */
    CASE("}q\0(X\1\0\0\0ah\0X\1\0\0\0bh\0X\1\0\0\0ch\0u.", STYX_OK, ""),
};

static void programs(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        styx_error err = { 0 };
        int code = run(given[i].program, given[i].bytes, &err);
        if (code != given[i].code || !strstr(err.text, given[i].message))
            print_error("case %zu: %d '%s', wanted '%s'\n", i, code, err.text, given[i].message);
        assert_int_equal(code, given[i].code);
        assert_non_null(strstr(err.text, given[i].message));
    }
}

static void archives(void **state)
{
    (void)state;
    const struct member good = { "x/data.pkl", "}.", 2, 0 };
    const struct member packed = { "x/data.pkl", "}.", 2, 8 };
    const struct member other = { "x/other.pkl", "}.", 2, 0 };
    const struct member big[] = { good, { "x/byteorder", "big", 3, 0 } };
    styx_error err;

    zip(&good, 1);
    assert_int_equal(parse(file, length, NULL, &err), STYX_OK);
    for (size_t n = 0; n < length; n++) /* cut anywhere */
        assert_true(parse(file, n, NULL, &err) < 0);
    for (size_t i = 0; i < length; i++) /* any byte changed: right or refused, never wild */
        for (int bit = 0; bit < 8; bit++) {
            file[i] ^= (unsigned char)(1 << bit);
            parse(file, length, NULL, &err);
            file[i] ^= (unsigned char)(1 << bit);
        }
    zip(&packed, 1);
    assert_int_equal(parse(file, length, NULL, &err), STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "is compressed"));
    zip(&other, 1);
    assert_int_equal(parse(file, length, NULL, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "no data.pkl in it"));
    zip(big, 2);
    assert_int_equal(parse(file, length, NULL, &err), STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "big-endian"));
    assert_int_equal(parse((const unsigned char *)"\x80\2}.", 4, NULL, &err), STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "before 1.6"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_opens),
        cmocka_unit_test(harm_is_refused),
        cmocka_unit_test(programs),
        cmocka_unit_test(archives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
