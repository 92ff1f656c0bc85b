#define _GNU_SOURCE
#include "base/thread.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_THREADS = 1024,
    SPINS = 4000, /* pauses before an idle thread sleeps: some 50 us */
};

/* One loop. Two are kept in turn: a late thread may still look at the last one. */
struct loop {
    _Atomic(pool_fn *) fn;
    _Atomic(void *) ctx;
    atomic_int jobs;
};

struct worker {
    struct pool *pool;
    pthread_t id;
    int index;
};

struct pool {
    /* Number of the loop in the upper half, next job in the lower: one addition draws a job and
     * tells which loop it belongs to. */
    _Alignas(64) atomic_uint_fast64_t ticket;
    _Alignas(64) atomic_int done;
    _Alignas(64) atomic_int sleepers;
    struct loop loop[2];
    int threads, started, spins;
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct worker *workers;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint32_t loop_number(const struct pool *p)
{
    return (uint32_t)(atomic_load(&p->ticket) >> 32);
}

/* Draws jobs until the loop is used up. A ticket of an unfinished loop keeps that loop alive; one
 * drawn too late is recognised by its number, because the loop's fields are read in between. */
static void work(struct pool *p, int thread)
{
    for (;;) {
        uint64_t ticket = atomic_fetch_add(&p->ticket, 1);
        uint32_t number = (uint32_t)(ticket >> 32);
        int job = (int)(uint32_t)ticket;
        struct loop *l = &p->loop[number & 1];
        int jobs = atomic_load(&l->jobs);
        pool_fn *fn = atomic_load(&l->fn);
        void *ctx = atomic_load(&l->ctx);
        if (job >= jobs || loop_number(p) != number)
            return;
        fn(ctx, job, thread);
        atomic_fetch_add(&p->done, 1);
    }
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    uint32_t seen = 0;
    for (;;) {
        for (int i = 0; i < p->spins && loop_number(p) == seen; i++)
            relax();
        if (loop_number(p) == seen) {
            pthread_mutex_lock(&p->lock);
            atomic_fetch_add(&p->sleepers, 1);
            while (loop_number(p) == seen && !p->stop)
                pthread_cond_wait(&p->wake, &p->lock);
            atomic_fetch_sub(&p->sleepers, 1);
            bool stop = p->stop;
            pthread_mutex_unlock(&p->lock);
            if (stop)
                return NULL;
        }
        seen = loop_number(p);
        work(p, w->index);
    }
}

static void wake_all(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void pool_run(struct pool *p, pool_fn *fn, void *ctx, int jobs)
{
    if (jobs <= 0)
        return;
    if (p->threads == 1 || jobs == 1) {
        for (int i = 0; i < jobs; i++)
            fn(ctx, i, 0);
        return;
    }
    uint32_t number = loop_number(p) + 1;
    struct loop *l = &p->loop[number & 1];
    atomic_store(&l->fn, fn);
    atomic_store(&l->ctx, ctx);
    atomic_store(&l->jobs, jobs);
    atomic_store(&p->done, 0);
    atomic_store(&p->ticket, (uint64_t)number << 32);
    if (atomic_load(&p->sleepers) > 0)
        wake_all(p);
    work(p, 0);
    for (int i = 0; atomic_load(&p->done) < jobs; i++) {
        if (i < p->spins)
            relax();
        else
            sched_yield(); /* a worker has lost its core: leave it ours */
    }
}

int pool_threads(const struct pool *p)
{
    return p->threads;
}

int pool_new(int threads, struct pool **pool, styx_error *err)
{
    int limit = thread_limit();
    if (threads <= 0)
        threads = limit;
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    struct pool *p = aligned_alloc(64, sizeof *p);
    if (!p)
        return fail_nomem(err, sizeof *p);
    memset(p, 0, sizeof *p);
    p->threads = threads;
    p->spins = threads <= limit ? SPINS : 0;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->workers = calloc((size_t)threads, sizeof *p->workers);
    if (!p->workers) {
        pool_free(p);
        return fail_nomem(err, (size_t)threads * sizeof *p->workers);
    }
    for (int i = 1; i < threads; i++) {
        struct worker *w = &p->workers[i];
        *w = (struct worker){ .pool = p, .index = i };
        if (pthread_create(&w->id, NULL, worker_main, w) != 0) {
            pool_free(p);
            return fail(err, STYX_ERR_BACKEND,
                        "cannot start thread %d of %d; ask for fewer threads", i + 1, threads);
        }
        p->started = i;
    }
    *pool = p;
    return STYX_OK;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 1; i <= p->started; i++)
        pthread_join(p->workers[i].id, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
}

/* The first number of a file, or both; 0 where there are none ("max 100000": no quota). */
static int read_numbers(const char *path, long *first, long *second)
{
    FILE *f = fopen(path, "r");
    int n = f ? fscanf(f, "%ld %ld", first, second) : 0;
    if (f)
        fclose(f);
    return n < 0 ? 0 : n;
}

/* CPUs that one group grants, rounded up; 0: no limit. Version 2 writes quota and period into one
 * file, version 1 into two. */
static int group_quota(const char *root, const char *group, bool v2)
{
    char path[1024];
    long quota = 0, period = 0, unused;
    snprintf(path, sizeof path, "%s%s%s/%s", root, v2 ? "" : "/cpu", group,
             v2 ? "cpu.max" : "cpu.cfs_quota_us");
    int found = read_numbers(path, &quota, &period);
    if (!v2 && found) {
        snprintf(path, sizeof path, "%s/cpu%s/cpu.cfs_period_us", root, group);
        found += read_numbers(path, &period, &unused) == 1;
    }
    return found == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

/* The least that a group and those above it grant. */
static int groups_quota(const char *root, char *group, bool v2)
{
    int least = 0;
    for (;;) {
        int q = group_quota(root, group, v2);
        char *slash = strrchr(group, '/');
        least = q && (!least || q < least) ? q : least;
        if (!slash)
            return least;
        *slash = 0;
    }
}

int thread_quota(const char *root, const char *groups)
{
    char line[900], none[1] = "";
    int least = 0;
    /* A container sees its own group as the root, whatever it is called outside. */
    for (int v2 = 0; v2 < 2; v2++) {
        int q = groups_quota(root, none, v2);
        least = q && (!least || q < least) ? q : least;
    }
    FILE *f = fopen(groups, "r");
    while (f && fgets(line, sizeof line, f)) { /* "0::/user.slice", "4:cpu,cpuacct:/user.slice" */
        bool v2 = strncmp(line, "0::", 3) == 0;
        char *group = strrchr(line, ':');
        if (!group || (!v2 && !strstr(line, "cpu")))
            continue;
        group[strcspn(group, "\n")] = 0;
        int q = groups_quota(root, group + 1, v2);
        least = q && (!least || q < least) ? q : least;
    }
    if (f)
        fclose(f);
    return least;
}

int thread_limit(void)
{
    cpu_set_t set;
    int n = 1, quota = thread_quota("/sys/fs/cgroup", "/proc/self/cgroup");
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        n = CPU_COUNT(&set);
    if (quota && quota < n)
        n = quota;
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}
