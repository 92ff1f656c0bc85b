/* plan.h - a program prepared for a card: the backend's measure, prepare, run and release. */
#ifndef STYX_CUDA_PLAN_H
#define STYX_CUDA_PLAN_H
#include "cuda/gpu.h"

void plan_measure(void *dev, const tape *t, size_t budget, struct footprint *need);
int plan_prepare(void *dev, const tape *t, void *loaded, void **plan, styx_error *err);
int plan_run(void *plan, const struct run_args *args, styx_error *err);
void plan_release(void *plan);

#endif
