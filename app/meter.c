/* meter.c - see meter.h. */
#include "meter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "say.h"
#include "small.h"

static struct {
    const struct download *list;
    int n;
    bool *told, terminal;
    double begin, last;
} meter;

const char *meter_bytes(double bytes, char text[16])
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
    int unit = 0;
    for (; bytes >= 1000 && unit < 4; unit++)
        bytes /= 1000;
    snprintf(text, 16, bytes < 10 && unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return text;
}

void meter_begin(const struct download *list, int n)
{
    meter.list = list;
    meter.n = n;
    meter.told = calloc((size_t)n + 1, sizeof *meter.told);
    meter.terminal = isatty(STDERR_FILENO);
    meter.begin = meter.last = clock_seconds();
}

/* Lines for files that have come since the last look. */
static void tell_finished(void)
{
    char size[16];
    for (int i = 0; i < meter.n && meter.told; i++) {
        const struct download *d = &meter.list[i];
        uint64_t done = atomic_load(&d->done);
        if (meter.told[i] || d->size < 0 || done < (uint64_t)d->size)
            continue;
        meter.told[i] = true;
        if (meter.terminal)
            fputs("\r\033[K", stderr);
        say("%s  %s", d->label, meter_bytes((double)done, size));
    }
}

static void draw_line(void)
{
    const struct download *most = NULL;
    uint64_t left = 0, got = 0, most_left = 0;
    char rate_text[16], name[48];
    for (int i = 0; i < meter.n; i++) {
        const struct download *d = &meter.list[i];
        uint64_t done = atomic_load(&d->done);
        uint64_t rest = d->size > (int64_t)done ? (uint64_t)d->size - done : 0;
        left += rest;
        uint64_t begun = atomic_load(&d->begun);
        got += done > begun ? done - begun : 0;
        if (rest > most_left || !most) {
            most = d;
            most_left = rest;
        }
    }
    double rate = (double)got / (clock_seconds() - meter.begin + 1e-3);
    long seconds = rate > 0 ? (long)((double)left / rate + 0.5) : 0;
    const char *label = most ? most->label : "";
    size_t length = strlen(label);
    snprintf(name, sizeof name, "%s", length > 44 ? label + length - 44 : label);
    if (most && most->size > 0)
        fprintf(stderr, "\r%s  %d%%  %s/s  ETA %ld:%02ld\033[K", name,
                (int)(100.0 * (double)atomic_load(&most->done) / (double)most->size),
                meter_bytes(rate, rate_text), seconds / 60, seconds % 60);
    else
        fprintf(stderr, "\r%s  %s/s\033[K", name, meter_bytes(rate, rate_text));
    fflush(stderr);
}

void meter_show(void)
{
    tell_finished();
    if (meter.terminal && !say_is_quiet() && clock_seconds() - meter.last > 0.2) {
        meter.last = clock_seconds();
        draw_line();
    }
}

void meter_end(void)
{
    tell_finished();
    if (meter.terminal && !say_is_quiet())
        fputs("\r\033[K", stderr);
    free(meter.told);
    meter.told = NULL;
}
