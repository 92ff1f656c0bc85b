/* pinned.c - huge pages, touched by several threads, then registered with the driver. The driver's
 * own allocation touches small pages with one: 0.6 seconds a gigabyte where this takes 0.07. */
#include "cuda/pinned.h"
#include "base/thread.h"
#include <sys/mman.h>

enum { HUGE = 2 << 20, MOST_TOUCHERS = 8 };

/* The first write is what finds a page; one to every small page, for there may be no huge ones. */
static void touch_job(void *ctx, int job, int thread)
{
    const struct pinned *p = ctx;
    size_t from = (size_t)job * HUGE, to = from + HUGE < p->bytes ? from + HUGE : p->bytes;
    (void)thread;
    for (size_t i = from; i < to; i += 4096)
        ((volatile char *)p->at)[i] = 0;
}

static int touch(struct pinned *p, styx_error *err)
{
    struct pool *pool;
    int threads = thread_limit();
    int code = pool_new(threads < MOST_TOUCHERS ? threads : MOST_TOUCHERS, &pool, err);
    if (code)
        return code;
    pool_run(pool, touch_job, p, (int)((p->bytes + HUGE - 1) / HUGE));
    pool_free(pool);
    return STYX_OK;
}

int pinned_take(const struct gpu *g, size_t bytes, struct pinned *p, styx_error *err)
{
    size_t mapped = bytes + HUGE;
    void *map = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return fail_nomem(err, bytes);
    char *at = (char *)(((uintptr_t)map + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
    *p = (struct pinned){ .at = at, .map = map, .bytes = bytes, .mapped = mapped };
    madvise(at, bytes, MADV_HUGEPAGE); /* a wish; small pages do as well */
    int code = touch(p, err);
    if (!code)
        code =
            gpu_check(g, g->cu->cuMemHostRegister(at, bytes, 0), "pinning memory for weights", err);
    if (code) {
        munmap(map, mapped);
        *p = (struct pinned){ 0 };
    }
    return code;
}

void pinned_give(const struct gpu *g, struct pinned *p)
{
    if (!p->at)
        return;
    g->cu->cuMemHostUnregister(p->at);
    munmap(p->map, p->mapped);
    *p = (struct pinned){ 0 };
}
