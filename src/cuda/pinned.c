/* pinned.c - huge pages, touched by several threads, then registered with the driver. The driver's
 * own allocation touches small pages with one: 0.6 seconds a gigabyte where this takes 0.07. */
#include "cuda/pinned.h"
#include "base/big.h"
#include "base/thread.h"

enum { SHARE = 2 << 20, MOST_TOUCHERS = 8 };

/* The first write is what finds a page; one to every small page, for there may be no huge ones. */
static void touch_job(void *ctx, int job, int thread)
{
    const struct pinned *p = ctx;
    size_t from = (size_t)job * SHARE, to = from + SHARE < p->bytes ? from + SHARE : p->bytes;
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
    pool_run(pool, touch_job, p, (int)((p->bytes + SHARE - 1) / SHARE));
    pool_free(pool);
    return STYX_OK;
}

int pinned_take(const struct gpu *g, size_t bytes, struct pinned *p, styx_error *err)
{
    *p = (struct pinned){ big_alloc(bytes), bytes };
    if (!p->at)
        return fail_nomem(err, bytes);
    int code = touch(p, err);
    if (!code)
        code = gpu_check(g, g->cu->cuMemHostRegister(p->at, bytes, 0), "pinning memory for weights",
                         err);
    if (code) {
        big_free(p->at, bytes);
        *p = (struct pinned){ 0 };
    }
    return code;
}

void pinned_give(const struct gpu *g, struct pinned *p)
{
    if (!p->at)
        return;
    g->cu->cuMemHostUnregister(p->at);
    big_free(p->at, p->bytes);
    *p = (struct pinned){ 0 };
}
