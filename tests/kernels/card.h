/* card.h - a card made of emulate.c, values on it, and what is compared with what. */
#ifndef STYX_TESTS_CARD_H
#define STYX_TESTS_CARD_H
#include "cuda/kernels/args.h"
#include "cuda/launching.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h> /* last: it defines a macro fail() */

extern struct gpu gpu;
extern bool late; /* do copies in the background arrive late? */
int set_up(void **state);
int first_unused_kernel(void); /* that no launch has asked for; -1: none */

float uniform(void); /* [-1, 1) */
float get(CUdeviceptr at, enum dtype type, long i);
void put(CUdeviceptr at, enum dtype type, long i, float x);
double rounded(enum dtype type, float x); /* as it is read back */

/* What a case has; forget_memory ends it, and the next one has the same numbers, whichever came
 * before. Memory is NaN at first. */
CUdeviceptr memory(size_t bytes);
void forget_memory(void);
CUdeviceptr numbers(enum dtype type, long count, float mean, float range); /* around mean */
/* Pixels of c numbers, `gap` unused ones after each; filled: with numbers. */
struct gview value(enum dtype type, int n, int h, int w, int c, int gap);
struct gview filled(enum dtype type, int n, int h, int w, int c, int gap, float mean, float range);
float at(const struct gview *v, long pixel, int c);

/* The root of the mean square of all errors since the last conclude, relative to the values', must
 * be small for the type. */
void compare(double found, double wanted);
void conclude(enum dtype type, CUresult result, const char *what);
void conclude_within(double times, enum dtype type, CUresult result, const char *what);
void untouched(const struct gview *v); /* what lies between the pixels was not written */
double act_of(enum act act, double x);

void linears(enum dtype type);   /* linear_cases.c */
void conv3s(enum dtype type);    /* conv3_cases.c */
void winograds(enum dtype type); /* winograd_cases.c */

#endif
