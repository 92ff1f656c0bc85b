/* small.h - the small things that several commands need. */
#ifndef STYX_APP_SMALL_H
#define STYX_APP_SMALL_H
#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

/* "" where there is no text of that name. */
static inline const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static inline bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static inline double clock_seconds(void) /* from some moment on, never backwards */
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
