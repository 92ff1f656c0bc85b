/* paths.c - see paths.h. */
#include "paths.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "options.h"
#include "say.h"

bool path_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool path_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *path_add(const char *first, const char *second)
{
    size_t bytes = strlen(first) + strlen(second) + 1;
    char *path = malloc(bytes);
    if (path)
        snprintf(path, bytes, "%s%s", first, second);
    return path;
}

/* The length of path up to and with its last slash. */
static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

char *path_beside(const char *path, const char *name)
{
    size_t length = *name == '/' ? 0 : folder_length(path);
    char *joined = malloc(length + strlen(name) + 1);
    if (joined) {
        memcpy(joined, path, length);
        strcpy(joined + length, name);
    }
    return joined;
}

bool path_is_model_id(const char *given)
{
    /* a file that is not there is no model on a hub */
    static const char *const endings[] = { ".safetensors", ".gguf", ".ckpt", ".pt", ".bin" };
    const char *slash = strchr(given, '/'), *dot = strrchr(given, '.');
    if (!slash || slash == given || !slash[1] || strchr("./~", *given) || path_exists(given) ||
        (strchr(slash + 1, '/') && !strchr(slash, '@')))
        return false;
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (strcmp(dot, endings[i]) == 0)
            return false;
    return true;
}

/* ORG/NAME in the cache, or the path itself; free it. */
static char *find_model(const char *given)
{
    char *found = NULL, *path;
    styx_error err;
    if (path_is_model_id(given) && styx_hub_find(given, &found, &err)) {
        complain_of(&err);
        return NULL;
    }
    path = strdup(found ? found : given);
    if (!path)
        complain_memory();
    styx_text_free(found);
    return path;
}

char *path_of_model(const char *given)
{
    /* From the build folder of a clone, and from PREFIX/bin. */
    static const char *const places[] = { "../models/styx-emoji",
                                          "../share/styx/models/styx-emoji" };
    char self[PATH_MAX] = "";
    char *path = NULL;
    if (!given)
        given = getenv("STYX_MODEL");
    if (given && *given)
        return find_model(given);
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        path = path_beside(self, places[i]);
        if (path && path_exists(path))
            return path;
        free(path);
    }
    complain(EXIT_FAILED, "the model that comes with Styx is not beside %s; name one with --model",
             *self ? self : "the command");
    return NULL;
}

bool output_is_folder(const char *output)
{
    return !output || path_is_folder(output) || (*output && output[strlen(output) - 1] == '/');
}

/* Only making a file shows whether one can be made: root is denied nothing by access(), yet cannot
 * write to a read-only disk. */
static int probe_folder(const char *folder, const char *wanted)
{
    char *path = path_add(folder, "/.styx-XXXXXX");
    int file = path ? mkstemp(path) : -1;
    int rc = !path      ? complain_memory()
             : file < 0 ? complain(EXIT_FAILED, "%s: nothing can be written there: %s", wanted,
                                   strerror(errno))
                        : 0;
    if (file >= 0) {
        close(file);
        unlink(path);
    }
    free(path);
    return rc;
}

static int check_folder(const char *folder)
{
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return complain(EXIT_FAILED, "%s: cannot make this folder: %s", folder, strerror(errno));
    if (!path_is_folder(folder))
        return complain(EXIT_FAILED, "%s: is not a folder", folder);
    return probe_folder(folder, folder);
}

/* A device or a pipe that is there needs no new file beside it. */
static int probe_beside(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return 0;
    char *folder = path_beside(path, ".");
    int rc = folder ? probe_folder(folder, path) : complain_memory();
    free(folder);
    return rc;
}

int output_check(const char *output, bool force)
{
    styx_error err;
    if (output_is_folder(output))
        return check_folder(output ? output : ".");
    if (styx_image_check(output, force, &err) == 0)
        return probe_beside(output);
    if (path_exists(output) && !force)
        return complain(EXIT_USAGE, "%s exists already; --force overwrites it", output);
    return complain_of(&err);
}

int output_check_file(const char *flag, const char *path, bool force)
{
    if (path_exists(path)) {
        if (!force)
            return complain(EXIT_USAGE, "%s: %s exists already; --force overwrites it", flag, path);
        if (path_is_folder(path))
            return complain(EXIT_USAGE, "%s: %s is a folder, want a file", flag, path);
    }
    return probe_beside(path);
}

char *output_name(const char *folder, uint64_t seed)
{
    if (!folder)
        folder = ".";
    size_t bytes = strlen(folder) + 64;
    char *path = malloc(bytes);
    if (!path)
        return NULL;
    const char *slash = folder[strlen(folder) - 1] == '/' ? "" : "/";
    bool here = strcmp(folder, ".") == 0;
    for (int n = 1; n < INT_MAX; n++) {
        snprintf(path, bytes, "%s%sstyx-%" PRIu64 "-%d.png", here ? "" : folder, here ? "" : slash,
                 seed, n);
        if (!path_exists(path))
            return path;
    }
    free(path);
    return NULL;
}
