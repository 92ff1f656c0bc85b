/* weights/save: what is written reads back, aligned and in order, and never half. */
#include "weights/save.h"

#include "weights/safetensors.h"
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

static const float weights[6] = { 1, 2, 3, 4, 5, 6 };
static const uint16_t halves[3] = { 0x3c00, 0x4000, 0x4200 };
static const int8_t bytes[5] = { 1, -2, 3, -4, 5 };

static int tensors(struct saved t[4])
{
    t[0] = (struct saved){ "b\"yte\\s\n", DT_I8, 1, { 5 }, bytes };
    t[1] = (struct saved){ "half", DT_F16, 1, { 3 }, halves };
    t[2] = (struct saved){ "w", DT_F32, 2, { 2, 3 }, weights };
    t[3] = (struct saved){ "empty", DT_F32, 2, { 0, 3 }, weights };
    save_sort(t, 4);
    return 4;
}

static void it_reads_back(void **state)
{
    (void)state;
    const char *const metadata[] = { "format", "pt", "quoted \"key\"", "a\nline", NULL };
    const char *path = in_folder(folder, "a.safetensors");
    struct saved t[4];
    struct store *s;
    styx_error err = { 0 };

    int n = tensors(t);
    assert_string_equal(t[0].name, "empty");
    assert_string_equal(t[3].name, "b\"yte\\s\n");
    assert_int_equal(save_file(path, t, n, metadata, FILE_NEW, &err), STYX_OK);
    assert_int_equal(safetensors_open(path, &s, &err), STYX_OK);
    assert_int_equal(store_count(s), 4);
    assert_string_equal(store_metadata(s, "quoted \"key\""), "a\nline");
    for (int i = 0; i < 4; i++) {
        const struct entry *e = store_find(s, t[i].name);
        assert_non_null(e);
        assert_int_equal(e->dims, t[i].dims);
        assert_memory_equal(e->shape, t[i].shape, sizeof e->shape);
        assert_non_null(e->span.data); /* aligned: it needs no copy */
        assert_memory_equal(e->raw, t[i].data, e->bytes);
    }
    store_unref(s);
    assert_int_equal(save_file(path, t, n, NULL, FILE_NEW, &err), STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "exists already"));
    assert_int_equal(save_file(path, t, 0, NULL, FILE_REPLACE, &err), STYX_OK);
    assert_int_equal(safetensors_open(path, &s, &err), STYX_OK);
    assert_int_equal(store_count(s), 0);
    store_unref(s);
}

static int files_in(const char *name)
{
    DIR *dir = opendir(name);
    int n = -2;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void nothing_half(void **state)
{
    (void)state;
    const char *path = in_folder(folder, "a.safetensors");
    struct saver *s;
    struct saved t[4];
    styx_error err;
    int n = tensors(t);

    assert_int_equal(save_open(path, t, n, NULL, FILE_NEW, &s, &err), STYX_OK);
    assert_int_equal(save_put(s, weights, 20, &err), STYX_OK);
    assert_int_equal(save_close(s, &err), STYX_ERR_INTERNAL);
    assert_int_equal(save_put(s, weights, 24, &err), STYX_ERR_INTERNAL);
    save_drop(s);
    assert_int_equal(files_in(folder), 0);
    t[1].name = t[0].name;
    assert_int_equal(save_file(path, t, n, NULL, FILE_NEW, &err), STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "would be there twice"));
    t[1].name = "\xff";
    assert_int_equal(save_file(path, t, n, NULL, FILE_NEW, &err), STYX_ERR_INVALID);
    assert_int_equal(save_file("/nowhere/a", t, 1, NULL, FILE_NEW, &err), STYX_ERR_IO);
    assert_int_equal(files_in(folder), 0);
    save_drop(NULL);
}

static void a_full_disk_is_told(void **state)
{
    (void)state;
    struct saved t[4];
    styx_error err;
    if (access("/dev/full", W_OK))
        skip();
    tensors(t);
    assert_int_equal(save_file("/dev/full", t, 4, NULL, FILE_REPLACE, &err), STYX_ERR_IO);
    assert_non_null(strstr(err.text, "No space left"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, drop_folder)
    const struct CMUnitTest tests[] = { TEST(it_reads_back), TEST(nothing_half),
                                        TEST(a_full_disk_is_told) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
