/* replay.c - runs a fuzz target on every file of its corpus, for compilers without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int replay(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return 1;
    fseek(file, 0, SEEK_END);
    size_t bytes = (size_t)ftell(file);
    rewind(file);
    /* Exactly as large as the input, so that a sanitizer sees a read beyond its end. */
    uint8_t *data = malloc(bytes ? bytes : 1);
    int failed = !data || fread(data, 1, bytes, file) != bytes;
    if (!failed)
        LLVMFuzzerTestOneInput(data, bytes);
    free(data);
    fclose(file);
    return failed;
}

int main(int argc, char **argv)
{
    int replayed = 0;
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    if (!folder) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
        return 2;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        if (replay(argv[1], entry->d_name)) {
            fprintf(stderr, "%s/%s cannot be read\n", argv[1], entry->d_name);
            return 1;
        }
        replayed++;
    }
    closedir(folder);
    printf("%d inputs\n", replayed);
    return replayed == 0; /* an empty corpus tests nothing */
}
