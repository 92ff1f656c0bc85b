/* thread.h - a pool of threads that runs one parallel loop at a time.
 *
 * Jobs are handed out in order, one by one, to whoever is free, so a slow or stolen core delays
 * one job, not its share of the loop. Nothing is allocated and no lock is taken while threads are
 * awake; after a short spin an idle thread sleeps. */
#ifndef STYX_BASE_THREAD_H
#define STYX_BASE_THREAD_H
#include "base/error.h"

struct pool;

/* thread: 0 .. pool_threads() - 1, for scratch memory. Which thread runs a job is left to chance.
 */
typedef void pool_fn(void *ctx, int job, int thread);

/* threads 0: thread_limit(). The caller of pool_run is one of them. */
int pool_new(int threads, struct pool **pool, styx_error *err);
void pool_free(struct pool *pool);
int pool_threads(const struct pool *pool);

/* Runs fn for job = 0 .. jobs - 1 and returns when all are done. One caller at a time. */
void pool_run(struct pool *pool, pool_fn *fn, void *ctx, int jobs);

/* How many threads this process may keep busy: its affinity mask and its cgroup's quota. */
int thread_limit(void);
/* The quota by itself, rounded up to whole CPUs; 0: none. root: where cgroups are mounted; groups:
 * a file like /proc/self/cgroup that names those of the process. */
int thread_quota(const char *root, const char *groups);

#endif
