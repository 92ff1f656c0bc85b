/* progress.c - see progress.h. */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "small.h"

/* Without a terminal, a line at most this often. */
static const double plain_seconds = 10;

static enum { SILENT, TERMINAL, PLAIN } mode;
static bool shown;        /* a line stands on the terminal */
static double last_plain; /* when the last plain line was written */

void progress_begin(bool quiet)
{
    mode = quiet ? SILENT : isatty(STDERR_FILENO) ? TERMINAL : PLAIN;
    last_plain = clock_seconds();
}

void progress_clear(void)
{
    if (shown)
        fputs("\r\033[K", stderr);
    shown = false;
}

static void duration(double seconds, char *text, size_t bytes)
{
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(text, bytes, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, bytes, "%ld:%02ld", s / 60, s % 60);
}

static void describe(const struct styx_progress *p, char *text, size_t bytes)
{
    int used = snprintf(text, bytes, "%s", p->stage);
    if (p->total > 1)
        used += snprintf(text + used, bytes - (size_t)used, " %d/%d", p->done, p->total);
    if (p->done < 1 || p->total <= 1 || p->seconds <= 0)
        return;
    double rate = p->done / p->seconds;
    char left[32];
    duration((p->total - p->done) / rate, left, sizeof left);
    if (rate >= 1)
        snprintf(text + used, bytes - (size_t)used, "  %.2f step/s  ETA %s", rate, left);
    else
        snprintf(text + used, bytes - (size_t)used, "  %.2f s/step  ETA %s", 1 / rate, left);
}

void progress_report(const struct styx_progress *p)
{
    char text[160];
    if (mode == SILENT)
        return;
    describe(p, text, sizeof text);
    if (mode == TERMINAL) {
        fprintf(stderr, "\r%s\033[K", text);
        fflush(stderr);
        shown = true;
    } else if (p->total > 1 &&
               (p->done == p->total || clock_seconds() - last_plain >= plain_seconds)) {
        fprintf(stderr, "%s\n", text);
        last_plain = clock_seconds();
    }
}
