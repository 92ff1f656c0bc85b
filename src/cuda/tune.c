/* tune.c - times the ways and keeps the choices: a line "CARD, LIBRARIES\tPROBLEM\tWAY
 * MICROSECONDS" each. */
#include "cuda/tune.h"
#include "base/buffer.h"
#include "base/file.h"
#include "cuda/blas.h"
#include "cuda/dnn.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { MOST_BYTES = 16 << 20, MIN_RUNS = 3, MAX_RUNS = 20 };

struct choice {
    struct choice *next;
    char *line; /* without the way */
    int way;
    double us; /* what it took, for whoever reads the file */
};

struct choices {
    const struct gpu *g;
    char machine[224]; /* what a choice holds for */
    char *path;
    struct choice *first;
    bool changed;
    CUevent begin, end;
};

static char *cache_path(void)
{
    const char *own = getenv("STYX_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME"), *base = own && *own ? own : xdg && *xdg ? xdg : home;
    const char *below = base == own   ? "cuda-choices.txt"
                        : base == xdg ? "styx/cuda-choices.txt"
                                      : ".cache/styx/cuda-choices.txt";
    return base ? path_join(base, below) : NULL;
}

static int remember(struct choices *c, const char *line, size_t n, int way, double us,
                    styx_error *err)
{
    struct choice *x = calloc(1, sizeof *x);
    if (x)
        x->line = malloc(n + 1);
    if (!x || !x->line) {
        free(x);
        return fail_nomem(err, n);
    }
    memcpy(x->line, line, n);
    x->line[n] = 0;
    x->way = way;
    x->us = us;
    x->next = c->first;
    c->first = x;
    return STYX_OK;
}

/* Lines that are no choices are left out; the rest of the file still counts. */
static int read_lines(struct choices *c, styx_error *err)
{
    char *text = NULL;
    int code = STYX_OK;
    if (!c->path || !file_exists(c->path) || file_read(c->path, MOST_BYTES, &text, NULL, NULL))
        return STYX_OK;
    for (char *at = text; *at && !code;) {
        size_t n = strcspn(at, "\n"), tab = n;
        while (tab > 0 && at[tab] != '\t')
            tab--;
        char *after = at + tab + 1;
        if (tab > 0) {
            long way = strtol(after, &after, 10);
            code = remember(c, at, tab, (int)way, strtod(after, NULL), err);
        }
        at += n + (at[n] == '\n');
    }
    free(text);
    return code;
}

int choices_open(const struct gpu *g, struct choices **choices, styx_error *err)
{
    struct choices *c = calloc(1, sizeof *c);
    char blas[32], dnn[32];
    int code;
    if (!c)
        return fail_nomem(err, sizeof *c);
    c->g = g;
    blas_version(g->blas, blas);
    dnn_version(g->dnn, dnn);
    snprintf(c->machine, sizeof c->machine, "%s, cuBLASLt %s, cuDNN %s", g->name, blas, dnn);
    c->path = cache_path();
    code = gpu_check(g, g->cu->cuEventCreate(&c->begin, CU_EVENT_DEFAULT), "making an event", err);
    if (!code)
        code =
            gpu_check(g, g->cu->cuEventCreate(&c->end, CU_EVENT_DEFAULT), "making an event", err);
    if (!code)
        code = read_lines(c, err);
    *choices = c; /* also when it failed: closing the card closes it */
    return code;
}

/* The folders above path, as far as they are missing. */
static void make_folders(char *path)
{
    for (char *at = path + 1; *at; at++)
        if (*at == '/') {
            *at = 0;
            mkdir(path, 0777);
            *at = '/';
        }
}

static void write_lines(const struct choices *c)
{
    struct buffer text = { 0 };
    for (const struct choice *x = c->first; x; x = x->next)
        buffer_printf(&text, "%s\t%d %.1f\n", x->line, x->way, x->us);
    make_folders(c->path);
    if (!text.nomem)
        file_write(c->path, text.data, text.bytes, FILE_REPLACE, NULL);
    buffer_free(&text);
}

void choices_close(struct choices *c)
{
    if (!c)
        return;
    if (c->changed && c->path)
        write_lines(c);
    while (c->first) {
        struct choice *x = c->first;
        c->first = x->next;
        free(x->line);
        free(x);
    }
    if (c->begin)
        c->g->cu->cuEventDestroy(c->begin);
    if (c->end)
        c->g->cu->cuEventDestroy(c->end);
    free(c->path);
    free(c);
}

/* Milliseconds of one run, the mean of some; negative if that way does not work. */
static float time_of(struct gpu *g, bool (*run)(void *, int), void *ctx, int way)
{
    const struct choices *c = g->choices;
    float ms = 0;
    for (int pass = 0, runs = 1; pass < 3; pass++) { /* warm up, guess, measure */
        g->cu->cuEventRecord(c->begin, g->stream);
        for (int i = 0; i < runs; i++)
            if (!run(ctx, way))
                return -1;
        g->cu->cuEventRecord(c->end, g->stream);
        if (g->cu->cuEventSynchronize(c->end) != CUDA_SUCCESS ||
            g->cu->cuEventElapsedTime(&ms, c->begin, c->end) != CUDA_SUCCESS)
            return -1;
        ms /= (float)runs;
        if (pass == 1) /* about a millisecond's worth */
            runs = ms * MAX_RUNS < 1          ? MAX_RUNS
                   : (int)(1 / ms) < MIN_RUNS ? MIN_RUNS
                                              : (int)(1 / ms);
        else
            runs = pass == 0 ? MIN_RUNS : runs;
    }
    return ms;
}

int choose(struct gpu *g, const char *key, int count, bool (*run)(void *ctx, int i), void *ctx)
{
    struct choices *c = g->choices;
    char line[512];
    int best = -1;
    float least = 0;
    snprintf(line, sizeof line, "%s\t%s", c->machine, key);
    for (const struct choice *x = c->first; x; x = x->next)
        if (strcmp(x->line, line) == 0 && x->way < count && run(ctx, x->way))
            return x->way;
    if (count == 1)
        return run(ctx, 0) ? 0 : -1;
    for (int i = 0; i < count; i++) {
        float ms = time_of(g, run, ctx, i);
        if (ms >= 0 && (best < 0 || ms < least)) {
            best = i;
            least = ms;
        }
    }
    if (best >= 0 && remember(c, line, strlen(line), best, 1000 * (double)least, NULL) == STYX_OK)
        c->changed = true;
    return best;
}
