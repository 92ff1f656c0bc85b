/* base/json: typed getters, limits, and messages that name file and key. */
#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static json_t *parse(const char *text)
{
    json_t *root = NULL;
    styx_error err = { 0 };

    assert_int_equal(json_bytes(text, strlen(text), "unet/config.json", &root, &err), STYX_OK);
    return root;
}

static void assert_refused(const char *text, const char *message)
{
    json_t *root = (json_t *)&root;
    styx_error err = { 0 };

    assert_int_equal(json_bytes(text, strlen(text), "a.json", &root, &err), STYX_ERR_FORMAT);
    assert_null(root);
    assert_non_null(strstr(err.text, message));
}

static void values_come_out(void **state)
{
    (void)state;
    json_t *root = parse("{\"i\": 7, \"d\": 0.5, \"b\": true, \"s\": \"silu\", \"n\": null,"
                         " \"l\": [5, 10, 20], \"o\": {\"x\": -1}, \"w\": [\"a\", \"b\"]}");
    const char *w = "unet/config.json", *s, *texts[4];
    const json_t *o;
    int i, list[4], n;
    double d, ds[4];
    bool b;

    assert_int_equal(json_int(root, w, "i", 1, 0, 9, &i, NULL), STYX_OK);
    assert_int_equal(i, 7);
    assert_int_equal(json_int(root, w, "n", 3, 0, 9, &i, NULL), STYX_OK);
    assert_int_equal(i, 3);
    assert_int_equal(json_double(root, w, "d", 0, 0, 1, &d, NULL), STYX_OK);
    assert_true(d == 0.5);
    assert_int_equal(json_double(root, w, "i", 0, 0, 9, &d, NULL), STYX_OK);
    assert_true(d == 7);
    assert_int_equal(json_bool(root, w, "b", false, &b, NULL), STYX_OK);
    assert_true(b);
    assert_int_equal(json_bool(root, w, "missing", true, &b, NULL), STYX_OK);
    assert_true(b);
    assert_int_equal(json_text(root, w, "s", NULL, &s, NULL), STYX_OK);
    assert_string_equal(s, "silu");
    assert_int_equal(json_ints(root, w, "l", 0, 99, list, 4, &n, NULL), STYX_OK);
    assert_int_equal(n, 3);
    assert_int_equal(list[2], 20);
    assert_int_equal(json_ints(root, w, "i", 0, 99, list, 4, &n, NULL), STYX_OK);
    assert_int_equal(n, 1);
    assert_int_equal(list[0], 7);
    assert_int_equal(json_doubles(root, w, "l", ds, 4, &n, NULL), STYX_OK);
    assert_true(n == 3 && ds[1] == 10);
    assert_int_equal(json_texts(root, w, "w", texts, 4, &n, NULL), STYX_OK);
    assert_true(n == 2 && !strcmp(texts[1], "b"));
    assert_int_equal(json_object_of(root, w, "o", &o, NULL), STYX_OK);
    assert_int_equal(json_int(o, w, "x", 0, -5, 5, &i, NULL), STYX_OK);
    assert_int_equal(i, -1);
    assert_int_equal(json_object_of(root, w, "missing", &o, NULL), STYX_OK);
    assert_int_equal(json_int(o, w, "x", 4, -5, 5, &i, NULL), STYX_OK);
    assert_int_equal(i, 4);
    assert_true(json_has(root, "i") && !json_has(root, "n") && !json_has(root, "missing"));
    json_decref(root);
}

static void wrong_values_are_named(void **state)
{
    (void)state;
    static const char *const acts[] = { "silu", "gelu" };
    json_t *root = parse("{\"layers\": \"2\", \"big\": 70000, \"act\": \"relu\", \"f\": 1.5,"
                         " \"list\": [1, [2]], \"long\": [1, 2, 3], \"huge\": 9999999999}");
    const char *w = "unet/config.json", *s;
    const json_t *o;
    styx_error err;
    int i, list[2], n;
    double d;
    bool b;

    assert_int_equal(json_int(root, w, "layers", 2, 0, 9, &i, &err), STYX_ERR_FORMAT);
    assert_string_equal(err.text, "unet/config.json: 'layers' is a string, an integer was wanted");
    assert_int_equal(json_int(root, w, "big", 2, 1, 9, &i, &err), STYX_ERR_FORMAT);
    assert_string_equal(err.text,
                        "unet/config.json: 'big' is 70000, a value from 1 to 9 was wanted");
    assert_int_equal(json_int(root, w, "huge", 2, 1, INT32_MAX, &i, &err), STYX_ERR_FORMAT);
    assert_int_equal(json_int(root, w, "f", 2, 1, 9, &i, &err), STYX_ERR_FORMAT);
    assert_int_equal(json_double(root, w, "f", 0, 0, 1, &d, &err), STYX_ERR_FORMAT);
    assert_int_equal(json_double(root, w, "act", 0, 0, 1, &d, &err), STYX_ERR_FORMAT);
    assert_int_equal(json_bool(root, w, "f", false, &b, &err), STYX_ERR_FORMAT);
    assert_int_equal(json_text(root, w, "f", NULL, &s, &err), STYX_ERR_FORMAT);
    assert_int_equal(json_object_of(root, w, "f", &o, &err), STYX_ERR_FORMAT);
    assert_int_equal(json_ints(root, w, "list", 0, 9, list, 2, &n, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "'list' is a list, an integer was wanted"));
    assert_int_equal(json_ints(root, w, "long", 0, 9, list, 2, &n, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "'long' has 3 values, at most 2 were wanted"));
    assert_int_equal(json_choice(root, w, "act", acts, 2, 0, &i, &err), STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "'act' is \"relu\", one of these was wanted: silu, gelu"));
    json_decref(root);
}

static void bad_documents_are_refused(void **state)
{
    (void)state;
    char deep[2 * JSON_DEPTH + 64];

    assert_refused("", "not valid JSON");
    assert_refused("{\"a\": 1", "not valid JSON");
    assert_refused("{\"a\": 1} x", "not valid JSON");
    assert_refused("{\"a\": 1, \"a\": 2}", "duplicate");
    assert_refused("[1]", "holds a list, an object was wanted");
    assert_refused("{\"a\": \"\xff\"}", "not valid JSON");
    assert_refused("{\"a\": Infinity}", "not valid JSON");

    strcpy(deep, "{\"a\":");
    memset(deep + 5, '[', JSON_DEPTH);
    memset(deep + 5 + JSON_DEPTH, ']', JSON_DEPTH);
    strcpy(deep + 5 + 2 * JSON_DEPTH, "}");
    assert_refused(deep, "more than 64 levels deep");
    json_decref(
        parse("{\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\": 1}"));
}

static void files_are_read(void **state)
{
    (void)state;
    char path[] = "/tmp/styx-json-XXXXXX";
    const char *text =
        "{\"lambda_min_clipped\": -Infinity, \"top\": Infinity, \"s\": \"Infinity\"}";
    int fd = mkstemp(path);
    json_t *root;
    styx_error err;
    double low, top;
    const char *s;
    char *data;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
    close(fd);
    assert_int_equal(json_file(path, &root, &err), STYX_OK);
    assert_int_equal(
        json_double(root, path, "lambda_min_clipped", 0, -INFINITY, INFINITY, &low, &err), STYX_OK);
    assert_int_equal(json_double(root, path, "top", 0, -INFINITY, INFINITY, &top, &err), STYX_OK);
    assert_true(low == -INFINITY && top == INFINITY);
    assert_int_equal(json_text(root, path, "s", NULL, &s, &err), STYX_OK);
    assert_string_equal(s, "Infinity");
    json_decref(root);

    assert_int_equal(file_read(path, 8, &data, NULL, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, path));
    unlink(path);
    assert_int_equal(json_file(path, &root, &err), STYX_ERR_IO);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(json_file("/tmp", &root, &err), STYX_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_out),
        cmocka_unit_test(wrong_values_are_named),
        cmocka_unit_test(bad_documents_are_refused),
        cmocka_unit_test(files_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
