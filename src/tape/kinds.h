/* kinds.h - the instructions of a program that are alike, and their time together. */
#ifndef STYX_TAPE_KINDS_H
#define STYX_TAPE_KINDS_H
#include "tape/tape.h"

struct kind {
    char name[96];
    double seconds, flops;
    int count;
};

/* Sums up what runs in every step, from the seconds of each instruction [ncode]: into kinds, which
 * has room for ncode, the slowest first. Returns how many; 0 if no instruction took any time, which
 * is a backend that does not tell. */
int tape_kinds(const tape *t, const double *seconds, struct kind *kinds);

#endif
