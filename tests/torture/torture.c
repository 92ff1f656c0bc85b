/* torture.c - fails every allocation of one small generation in turn.
 *
 * Instead of starting over for each allocation, the process forks at each: the child is told that
 * memory ran out, and must come back with STYX_ERR_NOMEM, everything freed; the parent goes on as
 * if nothing had happened. So the whole costs one generation and as many forks as it allocates.
 * The linker's --wrap puts this file between the library and malloc (see tests/CMakeLists.txt). */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "styx.h"

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
char *__real_strdup(const char *text);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
int __real_posix_memalign(void **p, size_t alignment, size_t bytes);
void *__real_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void __real_free(void *p);

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);
char *__wrap_strdup(const char *text);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
int __wrap_posix_memalign(void **p, size_t alignment, size_t bytes);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void __wrap_free(void *p);

enum { FAILURES_SHOWN = 20 };

static struct {
    int on;        /* allocations are counted and fail */
    int child;     /* this process is one that was told so */
    long count;    /* allocations so far */
    long live;     /* allocated and not freed */
    long failures; /* children that did not come back as they should */
} torture;

/* True in the child only. */
static int fails(void)
{
    int status;
    if (!torture.on || torture.child)
        return 0;
    torture.count++;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        torture.child = 1;
        errno = ENOMEM;
        return 1;
    }
    if (child < 0 || waitpid(child, &status, 0) < 0) {
        perror("fork");
        _exit(2);
    }
    if (status != 0 && torture.failures++ < FAILURES_SHOWN)
        fprintf(stderr, "allocation %ld: %s %d\n", torture.count,
                WIFSIGNALED(status) ? "killed by signal" : "exit code",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return 0;
}

static void *counted(void *p)
{
    torture.live += p != NULL;
    return p;
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : counted(__real_malloc(bytes));
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return fails() ? NULL : counted(__real_calloc(n, bytes));
}

void *__wrap_realloc(void *p, size_t bytes)
{
    if (fails())
        return NULL;
    void *grown = __real_realloc(p, bytes);
    torture.live += grown && !p;
    return grown;
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : counted(__real_strdup(text));
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return fails() ? NULL : counted(__real_aligned_alloc(alignment, bytes));
}

int __wrap_posix_memalign(void **p, size_t alignment, size_t bytes)
{
    if (fails())
        return ENOMEM;
    int rc = __real_posix_memalign(p, alignment, bytes);
    torture.live += rc == 0;
    return rc;
}

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (fd < 0 && fails())
        return MAP_FAILED;
    return __real_mmap(at, bytes, protection, flags, fd, offset);
}

void __wrap_free(void *p)
{
    torture.live -= p != NULL;
    __real_free(p);
}

/* jansson 2.14 does not look whether its lexer's copy of a token could grow (lex_save) and then
 * writes past a shorter one: its own allocations are counted, never failed. */
static void *jansson_malloc(size_t bytes)
{
    return counted(__real_malloc(bytes));
}

/* A session, a model, one step, one picture in a file. One thread: a fork takes no others along. */
static int generation(const char *model_path, const char *picture, styx_error *err)
{
    struct styx_session_options options = STYX_SESSION_OPTIONS_INIT;
    struct styx_request request = STYX_REQUEST_INIT;
    struct styx_result result = STYX_RESULT_INIT;
    struct styx_save_options save = { .size = sizeof save, .parameters = "a", .overwrite = 1 };
    styx_model *model = NULL;
    styx_session *session = NULL;
    int code;
    options.threads = 1;
    request.prompt = "a red apple";
    request.width = request.height = 64;
    request.steps = 1;
    request.seed_set = 1;
    if ((code = styx_model_open(model_path, NULL, &model, err)) ||
        (code = styx_session_new(&options, &session, err)) ||
        (code = styx_generate(session, model, &request, &result, err)))
        goto done;
    code = styx_image_save(&result.images[0], picture, &save, err);
done:
    styx_result_free(&result);
    styx_session_free(session);
    styx_model_free(model);
    return code;
}

/* How a child ends: 0 if it is fine. */
static int verdict(int code, const styx_error *err)
{
    if (code == STYX_OK)
        return 0; /* something that could be done without */
    if (code != STYX_ERR_NOMEM || err->code != code) {
        fprintf(stderr, "code %d, error %d: %s\n", code, err->code, err->text);
        return 1;
    }
    if (torture.live > 0) {
        fprintf(stderr, "%ld allocations were not freed\n", torture.live);
        return 1;
    }
    return 0;
}

int main(void)
{
    styx_error err = { 0 };
    char picture[64];
    snprintf(picture, sizeof picture, "/tmp/styx-torture-%ld.png", (long)getpid());
    json_set_alloc_funcs(jansson_malloc, __wrap_free);
    json_object_seed(1); /* its first use would read /dev/urandom */
    torture.on = 1;
    int code = generation(STYX_TEST_DATA "/golden/models/tiny_sd15", picture, &err);
    if (torture.child)
        _exit(verdict(code, &err));
    torture.on = 0;
    unlink(picture);
    printf("%ld allocations failed in turn, %ld badly\n", torture.count, torture.failures);
    if (code != STYX_OK)
        fprintf(stderr, "and with all memory there: %s\n", err.text);
    if (torture.live > 0)
        fprintf(stderr, "%ld allocations were not freed\n", torture.live);
    /* Fewer would mean that the wrapping does not work. */
    return code != STYX_OK || torture.failures > 0 || torture.live > 0 || torture.count < 100;
}
