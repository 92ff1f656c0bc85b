/* tune.c - times the ways and keeps the choices: a line "CARD, LIBRARIES\tPROBLEM\tWAY
 * MICROSECONDS" each. A kept text is a file "DIGEST\nVERSION, CARD, LIBRARIES\tPROBLEM\tWAY\nTEXT",
 * named by its second line; the digest is that of all that follows it. */
#include "cuda/tune.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/sha256.h"
#include "cuda/blas.h"
#include "cuda/dnn.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { MOST_BYTES = 16 << 20, LINE = 512, MIN_RUNS = 3, MAX_RUNS = 20, LONG = 5 };

enum { TEXTS = 1 }; /* to be raised with a change of what texts mean: enum dnn_id is part of them */

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

/* Milliseconds of one run, the mean of some; negative if that way does not work. What takes long is
 * measured by one run, and what takes twice the `least` so far, if there is one, by a few. */
static float time_of(struct gpu *g, bool (*run)(void *, int), void *ctx, int way, float least)
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
        if (pass == 1 && (ms > LONG || (least >= 0 && ms > 2 * least)))
            break;
        if (pass == 0)
            runs = ms > LONG ? 1 : MIN_RUNS;
        else /* about a millisecond's worth */
            runs = ms * MAX_RUNS < 1          ? MAX_RUNS
                   : (int)(1 / ms) < MIN_RUNS ? MIN_RUNS
                                              : (int)(1 / ms);
    }
    return ms;
}

int choose(struct gpu *g, const char *key, int count, bool (*run)(void *ctx, int i), void *ctx)
{
    struct choices *c = g->choices;
    char line[LINE];
    int best = -1;
    float least = -1;
    snprintf(line, sizeof line, "%s\t%s", c->machine, key);
    for (const struct choice *x = c->first; x; x = x->next)
        if (strcmp(x->line, line) == 0 && x->way < count && run(ctx, x->way))
            return x->way;
    if (count == 1)
        return run(ctx, 0) ? 0 : -1;
    for (int i = 0; i < count; i++) {
        float ms = time_of(g, run, ctx, i, least);
        if (ms >= 0 && (best < 0 || ms < least)) {
            best = i;
            least = ms;
        }
    }
    if (best >= 0 && remember(c, line, strlen(line), best, 1000 * (double)least, NULL) == STYX_OK)
        c->changed = true;
    return best;
}

/* ---- texts ---- */

static void title_of(const struct choices *c, const char *key, int i, char title[LINE])
{
    snprintf(title, LINE, "%d, %s\t%s\t%d", TEXTS, c->machine, key, i);
}

/* The file of a title, beside the choices. NULL if there is no such place, or no memory. */
static char *text_path(const struct choices *c, const char *title)
{
    char hex[SHA256_HEX], name[64];
    if (!c->path)
        return NULL;
    size_t folder = (size_t)(path_base(c->path) - c->path);
    sha256_hex(title, strlen(title), hex);
    snprintf(name, sizeof name, "cuda-plan-%.24s.txt", hex);
    char *path = malloc(folder + strlen(name) + 1);
    if (path) {
        memcpy(path, c->path, folder);
        strcpy(path + folder, name);
    }
    return path;
}

char *choice_text(const struct gpu *g, const char *key, int i)
{
    char title[LINE], hex[SHA256_HEX], *data = NULL, *text = NULL;
    size_t bytes = 0, head = SHA256_HEX; /* the digest and its line's end */
    title_of(g->choices, key, i, title);
    char *path = text_path(g->choices, title);
    size_t n = strlen(title);
    if (path && file_exists(path) && !file_read(path, MOST_BYTES, &data, &bytes, NULL) &&
        bytes > head + n) {
        sha256_hex(data + head, bytes - head, hex);
        if (!memcmp(data, hex, head - 1) && !memcmp(data + head, title, n) &&
            data[head + n] == '\n')
            text = strdup(data + head + n + 1);
    }
    free(data);
    free(path);
    return text;
}

void choice_keep(const struct gpu *g, const char *key, int i, const char *text)
{
    struct buffer body = { 0 }, file = { 0 };
    char title[LINE], hex[SHA256_HEX];
    title_of(g->choices, key, i, title);
    char *path = text_path(g->choices, title);
    buffer_printf(&body, "%s\n%s", title, text);
    if (path && !body.nomem) {
        sha256_hex(body.data, body.bytes, hex);
        buffer_printf(&file, "%s\n", hex);
        buffer_add(&file, body.data, body.bytes);
        make_folders(path);
        if (!file.nomem)
            file_write(path, file.data, file.bytes, FILE_REPLACE, NULL);
    }
    buffer_free(&file);
    buffer_free(&body);
    free(path);
}
