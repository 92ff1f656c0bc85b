/* base/thread: every job runs exactly once, whatever the numbers of jobs and threads. */
#define _GNU_SOURCE /* CPU_SET */
#include "base/thread.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { JOBS = 1000 };

struct count {
    atomic_int runs[JOBS], threads[8];
};

static void count_job(void *ctx, int job, int thread)
{
    struct count *c = ctx;
    atomic_fetch_add(&c->runs[job], 1);
    atomic_fetch_add(&c->threads[thread], 1);
}

static void each_job_runs_once(void **state)
{
    static struct count c;
    (void)state;
    for (int threads = 1; threads <= 8; threads = 2 * threads + 1) {
        struct pool *p = NULL;
        assert_int_equal(pool_new(threads, &p, NULL), STYX_OK);
        assert_int_equal(pool_threads(p), threads);
        for (int jobs = 0; jobs <= JOBS; jobs += 1 + jobs / 3) {
            memset(&c, 0, sizeof c);
            pool_run(p, count_job, &c, jobs);
            for (int i = 0; i < JOBS; i++)
                assert_int_equal(atomic_load(&c.runs[i]), i < jobs);
            for (int i = threads; i < 8; i++)
                assert_int_equal(atomic_load(&c.threads[i]), 0);
        }
        pool_free(p);
    }
}

/* Loops in quick succession: a worker that is late for one must not disturb the next. */
static void short_loops_follow_each_other(void **state)
{
    static struct count c;
    struct pool *p = NULL;
    (void)state;
    assert_int_equal(pool_new(4, &p, NULL), STYX_OK);
    memset(&c, 0, sizeof c);
    for (int i = 0; i < 20000; i++)
        pool_run(p, count_job, &c, 2 + i % 7);
    assert_int_equal(atomic_load(&c.runs[0]), 20000);
    assert_int_equal(atomic_load(&c.runs[7]), 20000 / 7);
    pool_free(p);
}

static void sleeping_threads_wake(void **state)
{
    static struct count c;
    struct pool *p = NULL;
    (void)state;
    assert_int_equal(pool_new(3, &p, NULL), STYX_OK);
    memset(&c, 0, sizeof c);
    for (int i = 0; i < 5; i++) {
        usleep(5000); /* far beyond their spin */
        pool_run(p, count_job, &c, JOBS);
    }
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(atomic_load(&c.runs[i]), 5);
    pool_free(p);
}

static void the_limit_is_sane(void **state)
{
    struct pool *p = NULL;
    (void)state;
    assert_in_range(thread_limit(), 1, 1024);
    assert_int_equal(pool_new(0, &p, NULL), STYX_OK);
    assert_int_equal(pool_threads(p), thread_limit());
    pool_free(p);
    pool_free(NULL);
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *slash = path + strlen(folder); (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* A tree of groups as the kernel shows it: the tightest quota on the way to the root counts. */
static void quotas_are_heeded(void **state)
{
    char root[] = "/tmp/styx-cgroup-XXXXXX", command[80], groups[80];
    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(groups, sizeof groups, "%s/groups", root);
    assert_int_equal(thread_quota(root, groups), 0); /* no groups at all */
    write_file(root, "groups", "0::/a/b\n");
    assert_int_equal(thread_quota(root, groups), 0);
    write_file(root, "a/b/cpu.max", "max 100000\n");
    assert_int_equal(thread_quota(root, groups), 0);
    write_file(root, "a/b/cpu.max", "250000 100000\n");
    assert_int_equal(thread_quota(root, groups), 3); /* two and a half */
    write_file(root, "a/cpu.max", "200000 100000\n");
    assert_int_equal(thread_quota(root, groups), 2);
    write_file(root, "cpu.max", "50000 100000\n");
    assert_int_equal(thread_quota(root, groups), 1);
    write_file(root, "cpu.max", "max 100000\n");
    write_file(root, "groups", "5:memory:/m\n4:cpu,cpuacct:/c\n"); /* version 1 */
    assert_int_equal(thread_quota(root, groups), 0);
    write_file(root, "cpu/c/cpu.cfs_quota_us", "-1\n");
    write_file(root, "cpu/c/cpu.cfs_period_us", "100000\n");
    assert_int_equal(thread_quota(root, groups), 0);
    write_file(root, "cpu/c/cpu.cfs_quota_us", "400000\n");
    assert_int_equal(thread_quota(root, groups), 4);
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

static void affinity_is_heeded(void **state)
{
    cpu_set_t all, one;
    int limit = thread_limit(), first = 0;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    while (!CPU_ISSET(first, &all))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(thread_limit(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_int_equal(thread_limit(), limit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_job_runs_once),    cmocka_unit_test(short_loops_follow_each_other),
        cmocka_unit_test(sleeping_threads_wake), cmocka_unit_test(the_limit_is_sane),
        cmocka_unit_test(quotas_are_heeded),     cmocka_unit_test(affinity_is_heeded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
