/* trace.h - collects what a run computes, for --trace. */
#ifndef STYX_APP_TRACE_H
#define STYX_APP_TRACE_H
#include "styx.h"

struct trace {
    char **names;
    struct styx_tensor *values;
    size_t count, capacity;
    int failed; /* out of memory */
};

/* Keeps a copy. A name that comes again (a second prompt, the refiner) gets a number in front. */
void trace_add(struct trace *t, const char *name, const struct styx_tensor *value);
int trace_save(const struct trace *t, const char *path, int overwrite);
void trace_free(struct trace *t);

#endif
