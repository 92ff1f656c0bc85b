#include "weights/zip.h"

#include <stdlib.h>
#include <string.h>

#include "weights/store.h"

enum { LOCAL = 30, CENTRAL = 46, END = 22, END64 = 56, LOCATOR64 = 20, COMMENT = 65535 };

struct archive {
    const unsigned char *data;
    size_t bytes;
    const char *path;
    styx_error *err;
};

static uint64_t number(const unsigned char *p, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | p[i];
    return value;
}

static bool within(const struct archive *a, uint64_t offset, uint64_t bytes)
{
    return offset <= a->bytes && bytes <= a->bytes - offset;
}

static int broken(const struct archive *a)
{
    return fail(a->err, STYX_ERR_FORMAT, "%s: is a broken or incomplete ZIP archive", a->path);
}

/* Where the central directory is: told at the end of the archive, before a comment. */
static int find_directory(const struct archive *a, uint64_t *offset, uint64_t *count)
{
    size_t first = a->bytes > END + COMMENT ? a->bytes - END - COMMENT : 0;

    if (a->bytes < END)
        return broken(a);
    for (size_t at = a->bytes - END + 1; at-- > first;) {
        const unsigned char *p = a->data + at;
        if (memcmp(p, "PK\5\6", 4))
            continue;
        *count = number(p + 10, 2);
        *offset = number(p + 16, 4);
        if (at < LOCATOR64 || memcmp(p - LOCATOR64, "PK\6\7", 4))
            return STYX_OK;
        uint64_t end64 = number(p - LOCATOR64 + 8, 8);
        if (!within(a, end64, END64) || memcmp(a->data + end64, "PK\6\6", 4))
            return broken(a);
        *count = number(a->data + end64 + 32, 8);
        *offset = number(a->data + end64 + 48, 8);
        return STYX_OK;
    }
    return broken(a);
}

/* Replaces those of the values that are 0xffffffff by the 64-bit ones of the extra field. */
static void widen(const unsigned char *extra, size_t bytes, uint64_t *values[3])
{
    while (bytes >= 4) {
        size_t id = (size_t)number(extra, 2), n = (size_t)number(extra + 2, 2);
        extra += 4;
        bytes -= 4;
        if (n > bytes)
            return;
        for (size_t at = 0, i = 0; id == 1 && i < 3; i++)
            if (*values[i] == 0xffffffff && at + 8 <= n) {
                *values[i] = number(extra + at, 8);
                at += 8;
            }
        extra += n;
        bytes -= n;
    }
}

/* One entry of the directory; *at goes to the next. */
static int read_entry(const struct archive *a, uint64_t *at, struct zip_file *file)
{
    if (!within(a, *at, CENTRAL) || memcmp(a->data + *at, "PK\1\2", 4))
        return broken(a);
    const unsigned char *p = a->data + *at;
    uint64_t method = number(p + 10, 2), packed = number(p + 20, 4), bytes = number(p + 24, 4);
    uint64_t name = number(p + 28, 2), extra = number(p + 30, 2), comment = number(p + 32, 2);
    uint64_t local = number(p + 42, 4);
    if (!within(a, *at + CENTRAL, name + extra + comment))
        return broken(a);
    widen(p + CENTRAL + name, (size_t)extra, (uint64_t *[3]){ &bytes, &packed, &local });
    file->name = strndup((const char *)p + CENTRAL, (size_t)name);
    if (!file->name)
        return fail_nomem(a->err, (size_t)name);
    if (method || packed != bytes)
        return fail(a->err, STYX_ERR_UNSUPPORTED,
                    "%s: '%s' is compressed, which PyTorch never does", a->path, SHOW(file->name));
    if (!within(a, local, LOCAL) || memcmp(a->data + local, "PK\3\4", 4))
        return broken(a);
    uint64_t begin =
        local + LOCAL + number(a->data + local + 26, 2) + number(a->data + local + 28, 2);
    if (!within(a, begin, bytes))
        return broken(a);
    file->data = a->data + begin;
    file->bytes = (size_t)bytes;
    *at += CENTRAL + name + extra + comment;
    return STYX_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct zip_file *)a)->name, ((const struct zip_file *)b)->name);
}

int zip_read(const unsigned char *data, size_t bytes, const char *path, struct zip *zip,
             styx_error *err)
{
    struct archive a = { data, bytes, path, err };
    uint64_t at = 0, count = 0;

    *zip = (struct zip){ NULL, 0 };
    int rc = find_directory(&a, &at, &count);
    if (!rc && count > bytes / CENTRAL)
        rc = broken(&a);
    if (rc)
        return rc;
    zip->files = calloc((size_t)count + 1, sizeof *zip->files);
    if (!zip->files)
        return fail_nomem(err, (size_t)count * sizeof *zip->files);
    for (uint64_t i = 0; !rc && i < count; i++)
        rc = read_entry(&a, &at, &zip->files[zip->nfiles++]);
    if (!rc && zip->nfiles)
        qsort(zip->files, (size_t)zip->nfiles, sizeof *zip->files, by_name);
    return rc;
}

const struct zip_file *zip_find(const struct zip *zip, const char *name)
{
    struct zip_file key = { .name = (char *)name };
    return zip->nfiles ? bsearch(&key, zip->files, (size_t)zip->nfiles, sizeof key, by_name) : NULL;
}

void zip_free(struct zip *zip)
{
    for (int i = 0; i < zip->nfiles; i++)
        free(zip->files[i].name);
    free(zip->files);
    *zip = (struct zip){ NULL, 0 };
}
