/* tune.h - which of several ways is the fastest, measured once per card.
 *
 * Libraries propose several kernels for one problem, and their own order is a guess. Each is timed
 * on the card the first time; the choice is remembered in a file, so that later runs of any process
 * use the same kernels and give the same bytes: $STYX_CACHE_DIR, else styx in $XDG_CACHE_HOME or
 * ~/.cache; cuda-choices.txt, a line each. What was compiled for a way is kept beside it, a file
 * each. */
#ifndef STYX_CUDA_TUNE_H
#define STYX_CUDA_TUNE_H
#include "cuda/gpu.h"

struct choices;

int choices_open(const struct gpu *g, struct choices **choices, styx_error *err);
/* Writes what is new. A cache that cannot be written is no error: it is measured again. */
void choices_close(struct choices *choices);

/* run(ctx, i) enqueues way i in the card's stream; false: that way does not work. key: the problem
 * in a few words, without tabs. Returns the way to take, -1 if none works. */
int choose(struct gpu *g, const char *key, int count, bool (*run)(void *ctx, int i), void *ctx);

/* The text that an earlier process kept for way i of the problem (free), with the same card and
 * libraries. NULL: there is none, or not as it was written. */
char *choice_text(const struct gpu *g, const char *key, int i);
/* A text that cannot be kept is no error: it is made again. */
void choice_keep(const struct gpu *g, const char *key, int i, const char *text);

#endif
