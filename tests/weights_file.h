/* weights_file.h - for tests: weights files written byte by byte into a folder of their own. */
#ifndef WEIGHTS_FILE_H
#define WEIGHTS_FILE_H
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new folder under TMPDIR. */
static inline const char *test_folder(void)
{
    static char folder[256];
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/styx-weights-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(folder);
}

/* Removes the files in a folder, and it. */
static inline void remove_folder(const char *folder)
{
    char path[1024];
    struct dirent *entry;
    DIR *dir = opendir(folder);
    while (dir && (entry = readdir(dir))) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            unlink(path);
    }
    if (dir)
        closedir(dir);
    rmdir(folder);
}

static inline const char *in_folder(const char *folder, const char *name)
{
    static char paths[4][1024];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static inline void write_file(const char *path, const void *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f)) {
        perror(path);
        exit(1);
    }
}

/* A safetensors file with this header (and this length of it, if not -1) and data. */
static inline void write_safetensors(const char *path, const char *header, long long announced,
                                     const void *data, size_t bytes)
{
    size_t n = strlen(header);
    uint64_t length = announced < 0 ? n : (uint64_t)announced;
    unsigned char *all = malloc(8 + n + bytes + 1);
    for (int i = 0; i < 8; i++)
        all[i] = (unsigned char)(length >> 8 * i);
    memcpy(all + 8, header, n);
    if (bytes)
        memcpy(all + 8 + n, data, bytes);
    write_file(path, all, 8 + n + bytes);
    free(all);
}

#endif
