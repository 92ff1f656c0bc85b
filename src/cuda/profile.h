/* profile.h - where the time of a program goes: with STYX_CUDA_PROFILE=FILE in the environment,
 * every instruction is timed by events (and no graph is captured), and a table of the kinds of
 * instruction is appended to FILE when the program is dropped. All functions take NULL. */
#ifndef STYX_CUDA_PROFILE_H
#define STYX_CUDA_PROFILE_H
#include "cuda/gpu.h"

struct profile;

/* *profile stays NULL unless the variable is set. */
int profile_new(const struct gpu *g, const tape *t, struct profile **profile, styx_error *err);
void profile_begin(struct profile *profile, int i);
void profile_end(struct profile *profile, int i);
void profile_collect(struct profile *profile); /* after a run, when the card is idle */
void profile_free(struct profile *profile);    /* writes the table */

#endif
