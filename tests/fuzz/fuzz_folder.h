/* fuzz_folder.h - for targets whose input must be a file, beside others. */
#ifndef TESTS_FUZZ_FOLDER_H
#define TESTS_FUZZ_FOLDER_H
#include "base/file.h"
#include "weights/save.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char fuzz_folder[] = "/tmp/styx-fuzz-XXXXXX";
static char fuzz_files[4][80];

static void clean_up(void)
{
    for (int i = 0; i < 4; i++)
        if (*fuzz_files[i])
            unlink(fuzz_files[i]);
    rmdir(fuzz_folder);
}

/* The path of file number i, which is deleted at the end. */
static const char *fuzz_path(int i, const char *name)
{
    if (fuzz_folder[sizeof fuzz_folder - 2] == 'X') {
        if (!mkdtemp(fuzz_folder))
            abort();
        atexit(clean_up);
    }
    snprintf(fuzz_files[i], sizeof fuzz_files[i], "%s/%s", fuzz_folder, name);
    return fuzz_files[i];
}

static void put_weights(int i, const char *name, const struct saved *tensors, int n)
{
    if (save_file(fuzz_path(i, name), tensors, n, NULL, FILE_REPLACE, NULL))
        abort();
}

static const char *put_bytes(int i, const char *name, const unsigned char *data, size_t bytes)
{
    const char *path = fuzz_path(i, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file))
        abort();
    return path;
}

#endif
