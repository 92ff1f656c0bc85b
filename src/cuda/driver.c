/* driver.c - finds libcuda and NVIDIA's libraries, and fills the driver's table once. */
#include "cuda/driver.h"
#include "base/file.h"
#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The kernels are compiled by this major version of nvcc, and a driver runs no newer code. */
enum { NEEDED_MAJOR = CUDA_VERSION / 1000 };

/* After the variables and the loader's own places. */
static const char *const places[] = {
    "/usr/local/cuda/lib64",
    "/usr/local/cuda-*/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/python3*/*-packages/nvidia/*/lib",
    "/usr/local/lib/python3*/*-packages/nvidia/*/lib",
    "/opt/*/lib/python3*/site-packages/nvidia/*/lib",
};

static void *open_in(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_GLOBAL) : NULL;
    free(path);
    return library;
}

static void *open_glob(const char *pattern, const char *name)
{
    glob_t found;
    void *library = NULL;
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = found.gl_pathc; i-- > 0 && !library;) /* the newest version sorts last */
            library = open_in(found.gl_pathv[i], name);
    globfree(&found);
    return library;
}

/* Every folder of a variable like PATH. */
static void *open_listed(const char *variable, const char *below, const char *name)
{
    const char *at = getenv(variable);
    void *library = NULL;
    while (at && *at && !library) {
        size_t n = strcspn(at, ":");
        char pattern[4096];
        snprintf(pattern, sizeof pattern, "%.*s%s", (int)n, at, below);
        library = n ? open_glob(pattern, name) : NULL;
        at += n + (at[n] == ':');
    }
    return library;
}

static void *open_anywhere(const char *name)
{
    static const char packages[] = "/lib/python3*/site-packages/nvidia/*/lib";
    void *library = open_listed("STYX_CUDA_PATH", "", name);
    if (!library)
        library = open_listed("CUDA_HOME", "/lib64", name);
    if (!library)
        library = open_listed("CUDA_PATH", "/lib64", name);
    if (!library)
        library = open_listed("VIRTUAL_ENV", packages, name);
    if (!library)
        library = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    for (size_t i = 0; i < sizeof places / sizeof *places && !library; i++)
        library = open_glob(places[i], name);
    if (!library)
        library = open_listed("HOME", "/.local/lib/python3*/site-packages/nvidia/*/lib", name);
    return library;
}

void *library_find(const char *const *names, styx_error *err)
{
    for (const char *const *name = names; *name; name++) {
        void *library = open_anywhere(*name);
        if (library)
            return library;
    }
    fail(err, STYX_ERR_NODEVICE,
         "%s was not found in STYX_CUDA_PATH, CUDA_HOME, the system's folders, /usr/local/cuda or "
         "Python's nvidia packages; install the CUDA libraries or set STYX_CUDA_PATH to their "
         "folders",
         names[0]);
    return NULL;
}

#define STRING(x) #x
#define STRING_OF(x) STRING(x)

static bool fill(struct driver *d, void *library, const char **missing)
{
#define X(function)                                                                                \
    *(void **)&d->function = dlsym(library, STRING_OF(function));                                  \
    if (!d->function) {                                                                            \
        *missing = STRING_OF(function);                                                            \
        return false;                                                                              \
    }
    DRIVER_FUNCTIONS(X)
#undef X
    return true;
}

static int load(struct driver *d, styx_error *err)
{
    const char *missing = NULL, *why = NULL;
    int version = 0;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!library)
        return fail(err, STYX_ERR_NODEVICE,
                    "CUDA cannot be used: there is no NVIDIA driver (libcuda.so.1 was not found)");
    if (!fill(d, library, &missing))
        return fail(err, STYX_ERR_NODEVICE,
                    "the NVIDIA driver is too old: it lacks %s; one for CUDA %d or newer was "
                    "wanted",
                    missing, NEEDED_MAJOR);
    CUresult result = d->cuInit(0);
    if (result != CUDA_SUCCESS) {
        d->cuGetErrorString(result, &why);
        return fail(err, STYX_ERR_NODEVICE,
                    "CUDA cannot be used: the NVIDIA driver does not start: %s",
                    why ? why : "unknown error");
    }
    if (d->cuDriverGetVersion(&version) != CUDA_SUCCESS || version / 1000 < NEEDED_MAJOR)
        return fail(err, STYX_ERR_NODEVICE,
                    "the NVIDIA driver is for CUDA %d.%d; one for CUDA %d or newer was wanted",
                    version / 1000, version % 1000 / 10, NEEDED_MAJOR);
    return STYX_OK;
}

const struct driver *driver_load(styx_error *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct driver table;
    static bool loaded;
    int code = STYX_OK;
    pthread_mutex_lock(&lock);
    if (!loaded)
        code = load(&table, err);
    loaded = loaded || code == STYX_OK;
    pthread_mutex_unlock(&lock);
    return code ? NULL : &table;
}
