/* split.h - the pictures of one command divided between several cards, a process for each. */
#ifndef STYX_APP_SPLIT_H
#define STYX_APP_SPLIT_H
#include "options.h"

/* Is what --devices asks for possible? Exit code. */
int split_check(const struct options *o);

/* Which of n items belongs to this process: every processes-th, from its own number on. */
struct split {
    int number, processes;
    bool parent; /* all is done; rc is the worst exit code of the others */
    int rc;
};

/* Starts a process for each card of --devices that gets any of the items, and returns in each of
 * them with o->device set, and in the parent when they are done. With less than two cards there is
 * one process, this one. */
struct split split_begin(struct options *o, size_t items);

/* Leaves this process its share of the seeds. */
void split_seeds(const struct split *s, struct options *o);

#endif
