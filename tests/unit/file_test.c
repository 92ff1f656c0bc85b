/* base/file: maps, whole writes, and refusals before the work. */
#include "base/file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static char *dir; /* a fresh folder, removed at the end */

static int make_dir(void **state)
{
    (void)state;
    char name[] = "/tmp/styx-file-XXXXXX";
    dir = mkdtemp(name) ? strdup(name) : NULL;
    return dir ? 0 : -1;
}

static int entries(void)
{
    int n = 0;
    DIR *d = opendir(dir);

    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

static int remove_dir(void **state)
{
    (void)state;
    int rc = rmdir(dir);
    free(dir);
    return rc;
}

static void written_then_mapped_and_read(void **state)
{
    (void)state;
    char *path = path_join(dir, "a.bin"), *data;
    struct file_map map;
    styx_error err = { 0 };
    size_t n;
    struct stat st;

    assert_int_equal(file_write(path, "first", 5, FILE_NEW, &err), STYX_OK);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(file_write(path, "se\0cond", 7, FILE_REPLACE, &err), STYX_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(entries(), 1);

    assert_int_equal(file_map(path, &map, &err), STYX_OK);
    assert_int_equal(map.bytes, 7);
    assert_memory_equal(map.data, "se\0cond", 7);
    file_map_forget(&map);
    file_map_expect(&map, map.data + 1, 6);
    char some[4];
    assert_int_equal(file_map_read(&map, map.data + 3, some, 4, &err), STYX_OK);
    assert_memory_equal(some, "cond", 4);
    assert_int_equal(truncate(path, 5), 0);
    assert_int_equal(file_map_read(&map, map.data + 3, some, 4, &err), STYX_ERR_IO);
    assert_non_null(strstr(err.text, "a.bin: cannot read: the file ended early"));
    assert_int_equal(truncate(path, 7), 0);
    file_unmap(&map);
    assert_null(map.data);
    file_unmap(&map);
    file_unmap(NULL);

    assert_int_equal(file_read(path, 7, &data, &n, &err), STYX_OK);
    assert_int_equal(n, 7);
    assert_memory_equal(data, "se\0co\0\0", 8);
    free(data);
    assert_int_equal(file_read(path, 6, &data, &n, &err), STYX_ERR_FORMAT);
    assert_null(data);
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void an_empty_file_maps_to_nothing(void **state)
{
    (void)state;
    char *path = path_join(dir, "empty");
    struct file_map map = { .bytes = 1 };

    assert_int_equal(file_write(path, NULL, 0, FILE_NEW, NULL), STYX_OK);
    assert_int_equal(file_map(path, &map, NULL), STYX_OK);
    assert_null(map.data);
    assert_int_equal(map.bytes, 0);
    file_unmap(&map);
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void an_existing_file_is_kept(void **state)
{
    (void)state;
    char *path = path_join(dir, "kept"), *data;
    styx_error err = { 0 };

    assert_int_equal(file_write(path, "old", 3, FILE_NEW, &err), STYX_OK);
    assert_int_equal(file_writable(path, FILE_REPLACE, &err), STYX_OK);
    assert_int_equal(file_writable(path, FILE_NEW, &err), STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "exists already"));
    assert_int_equal(file_write(path, "new", 3, FILE_NEW, &err), STYX_ERR_INVALID);
    assert_int_equal(file_read(path, 99, &data, NULL, &err), STYX_OK);
    assert_string_equal(data, "old");
    free(data);
    assert_int_equal(entries(), 1);
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void bad_places_are_refused(void **state)
{
    (void)state;
    char *missing = path_join(dir, "no/such/x.png");
    struct file_map map;
    styx_error err = { 0 };

    assert_int_equal(file_writable(missing, FILE_NEW, &err), STYX_ERR_IO);
    assert_non_null(strstr(err.text, "no/such"));
    assert_int_equal(file_write(missing, "x", 1, FILE_NEW, &err), STYX_ERR_IO);
    assert_int_equal(file_writable(dir, FILE_REPLACE, &err), STYX_ERR_INVALID);
    assert_int_equal(file_writable("", FILE_REPLACE, &err), STYX_ERR_INVALID);
    assert_int_equal(file_writable("/dev/null/x", FILE_REPLACE, &err), STYX_ERR_IO);
    assert_int_equal(file_map(missing, &map, &err), STYX_ERR_IO);
    assert_int_equal(file_map(dir, &map, &err), STYX_ERR_FORMAT);
    assert_null(map.data);
    if (geteuid()) { /* root writes everywhere */
        assert_int_equal(chmod(dir, 0555), 0);
        char *path = path_join(dir, "x");
        assert_int_equal(file_writable(path, FILE_NEW, &err), STYX_ERR_IO);
        free(path);
        assert_int_equal(chmod(dir, 0755), 0);
    }
    free(missing);
    assert_int_equal(entries(), 0);
}

static void devices_are_written_straight(void **state)
{
    (void)state;
    styx_error err = { 0 };

    assert_int_equal(file_write("/dev/null", "x", 1, FILE_NEW, &err), STYX_OK);
    if (!access("/dev/full", W_OK)) {
        assert_int_equal(file_write("/dev/full", "x", 1, FILE_REPLACE, &err), STYX_ERR_IO);
        assert_non_null(strstr(err.text, "No space left"));
    }
}

static void paths_are_cut_and_joined(void **state)
{
    (void)state;
    static const struct {
        const char *dir, *name, *path;
    } joins[] = {
        { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "", "b", "b" }, { "a", "/b", "/b" }
    };

    for (size_t i = 0; i < sizeof joins / sizeof *joins; i++) {
        char *path = path_join(joins[i].dir, joins[i].name);
        assert_string_equal(path, joins[i].path);
        free(path);
    }
    assert_string_equal(path_base("a/b.png"), "b.png");
    assert_string_equal(path_base("b.png"), "b.png");
    assert_string_equal(path_base("a/"), "");
    assert_string_equal(path_extension("a.d/b"), "");
    assert_string_equal(path_extension("a.d/b.tar.gz"), "gz");
    assert_string_equal(path_extension(".png"), "");
    assert_true(file_is_dir(dir) && file_exists(dir));
    assert_false(file_is_dir("/dev/null") || file_exists("/no/such"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_then_mapped_and_read),
        cmocka_unit_test(an_empty_file_maps_to_nothing),
        cmocka_unit_test(an_existing_file_is_kept),
        cmocka_unit_test(bad_places_are_refused),
        cmocka_unit_test(devices_are_written_straight),
        cmocka_unit_test(paths_are_cut_and_joined),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
