/* fake_memory.c - memory of the card made of host memory, and what is copied to it. The rules of
 * the driver are kept: memory is mapped where none is, whole mappings are unmapped, nothing is
 * copied to or from what is not mapped and accessible, nothing is unmapped while it is written. The
 * second stream of a card, that of the copies, is as late as it may be: it works when it is waited
 * for. */
#include "cuda/driver.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/fake.h"

struct memory {
    size_t bytes;
    bool mapped;
};

static struct mapping {
    CUdeviceptr at;
    struct memory *memory;
    bool accessible;
} mapping[16384]; /* by address */
static int mappings;

static struct copy {
    CUdeviceptr to;
    const char *from;
    size_t bytes;
    bool beside; /* on its way while something else was done */
} copy[256];     /* number i at i % 256 */
static long issued, done;

struct event {
    long after; /* so many copies */
};

static void rule(bool kept, const char *what)
{
    if (kept)
        return;
    fprintf(stderr, "the card made of memory: %s\n", what);
    abort();
}

bool fake_fails(void)
{
    return fake.fails_in && --fake.fails_in == 0;
}

/* ---- pages ---- */

/* Addresses are as many bytes as the test programs need, not the 64 GiB that are asked for. */
enum { MOST_RESERVED = 256 << 20, POISONED = 4 << 20 };

static CUresult reserve(CUdeviceptr *at, size_t bytes, size_t align, CUdeviceptr hint,
                        unsigned long long flags)
{
    (void)align, (void)hint, (void)flags;
    void *p = NULL;
    if (posix_memalign(&p, 4096, bytes < MOST_RESERVED ? bytes : MOST_RESERVED))
        return CUDA_ERROR_OUT_OF_MEMORY;
    *at = (CUdeviceptr)p;
    return CUDA_SUCCESS;
}

static CUresult address_free(CUdeviceptr at, size_t bytes)
{
    bytes = bytes < MOST_RESERVED ? bytes : MOST_RESERVED;
    for (int i = 0; i < mappings; i++)
        rule(mapping[i].at < at || mapping[i].at >= at + bytes, "freed addresses are mapped");
    free((void *)at);
    return CUDA_SUCCESS;
}

static CUresult create(CUmemGenericAllocationHandle *h, size_t bytes,
                       const CUmemAllocationProp *where, unsigned long long flags)
{
    (void)where, (void)flags;
    if (fake_fails() || fake.held + bytes > fake.limit)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct memory *m = calloc(1, sizeof *m);
    rule(m, "out of memory");
    m->bytes = bytes;
    fake.held += bytes;
    fake.peak = fake.held > fake.peak ? fake.held : fake.peak;
    fake.created++;
    *h = (CUmemGenericAllocationHandle)(uintptr_t)m;
    return CUDA_SUCCESS;
}

static CUresult release(CUmemGenericAllocationHandle h)
{
    struct memory *m = (struct memory *)(uintptr_t)h;
    rule(!m->mapped, "released memory is mapped");
    fake.held -= m->bytes;
    free(m);
    return CUDA_SUCCESS;
}

/* NaN at both ends, where the programs of tests have their values. */
static void poison(CUdeviceptr at, size_t bytes)
{
    size_t n = bytes < POISONED ? bytes : POISONED;
    memset((void *)at, 0xff, n);
    memset((void *)(at + bytes - n), 0xff, n);
}

/* The last mapping that begins at or before an address is the one before this number. */
static int mappings_until(CUdeviceptr at)
{
    int from = 0, to = mappings;
    while (from < to) {
        int middle = (from + to) / 2;
        if (mapping[middle].at <= at)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static struct mapping *mapped_at(CUdeviceptr at)
{
    struct mapping *m = mapping + mappings_until(at) - 1;
    return m >= mapping && at < m->at + m->memory->bytes ? m : NULL;
}

/* Fresh memory holds anything: NaN shows who reads what was not written. */
static CUresult map(CUdeviceptr at, size_t bytes, size_t offset, CUmemGenericAllocationHandle h,
                    unsigned long long flags)
{
    struct memory *m = (struct memory *)(uintptr_t)h;
    (void)flags;
    if (fake_fails())
        return CUDA_ERROR_UNKNOWN;
    rule(bytes == m->bytes && !offset && !m->mapped, "memory is mapped whole, and once");
    rule(!mapped_at(at) && !mapped_at(at + bytes - 1), "there is memory at these addresses");
    rule(mappings < (int)(sizeof mapping / sizeof *mapping), "too many mappings");
    int i = mappings_until(at);
    memmove(mapping + i + 1, mapping + i, (size_t)(mappings++ - i) * sizeof *mapping);
    mapping[i] = (struct mapping){ at, m, false };
    m->mapped = true;
    poison(at, bytes);
    fake.mapped++;
    return CUDA_SUCCESS;
}

static CUresult unmap(CUdeviceptr at, size_t bytes)
{
    struct mapping *m = mapped_at(at);
    rule(m && m->at == at && m->memory->bytes == bytes, "whole mappings are unmapped");
    for (long i = done; i < issued; i++)
        rule(copy[i % 256].to + copy[i % 256].bytes <= at || copy[i % 256].to >= at + bytes,
             "unmapped memory is being written");
    m->memory->mapped = false;
    memmove(m, m + 1, (size_t)(mapping + mappings-- - m - 1) * sizeof *m);
    poison(at, bytes);
    return CUDA_SUCCESS;
}

static CUresult set_access(CUdeviceptr at, size_t bytes, const CUmemAccessDesc *a, size_t n)
{
    struct mapping *m = mapped_at(at);
    (void)a, (void)n;
    if (fake_fails())
        return CUDA_ERROR_UNKNOWN;
    rule(m && m->at == at && m->memory->bytes == bytes, "access is given to whole mappings");
    m->accessible = true;
    return CUDA_SUCCESS;
}

static CUresult granularity(size_t *bytes, const CUmemAllocationProp *where,
                            CUmemAllocationGranularity_flags which)
{
    (void)where, (void)which;
    *bytes = 1024; /* so that small networks have several pieces */
    return CUDA_SUCCESS;
}

/* ---- copies ---- */

static void check(CUdeviceptr at, size_t bytes)
{
    for (CUdeviceptr end = at + bytes; at < end;) {
        const struct mapping *m = mapped_at(at);
        rule(m && m->accessible, "no access to what is copied");
        at = m->at + m->memory->bytes;
    }
}

static void work(long until)
{
    for (; done < until; done++) {
        const struct copy *c = &copy[done % 256];
        check(c->to, c->bytes);
        memcpy((void *)c->to, c->from, c->bytes);
        fake.waited += c->beside ? 0 : c->bytes;
    }
}

void fake_time_passes(void)
{
    for (long i = done; i < issued; i++)
        copy[i % 256].beside = true;
}

static bool late(CUstream s)
{
    return (uintptr_t)s % 2 == 0;
}

static CUresult stream_create(CUstream *s, unsigned flags)
{
    static uintptr_t made;
    (void)flags;
    *s = (CUstream)++made;
    return CUDA_SUCCESS;
}

static CUresult stream_wait(CUstream s)
{
    if (fake_fails())
        return CUDA_ERROR_UNKNOWN;
    if (late(s))
        work(issued);
    else
        fake_time_passes();
    return CUDA_SUCCESS;
}

static CUresult event_create(CUevent *e, unsigned flags)
{
    (void)flags;
    if (fake_fails())
        return CUDA_ERROR_UNKNOWN;
    *e = calloc(1, sizeof(struct event));
    return *e ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult event_destroy(CUevent e)
{
    free(e);
    return CUDA_SUCCESS;
}

static CUresult event_record(CUevent e, CUstream s)
{
    if (fake_fails())
        return CUDA_ERROR_UNKNOWN;
    ((struct event *)e)->after = late(s) ? issued : 0;
    return CUDA_SUCCESS;
}

static CUresult event_wait(CUevent e)
{
    if (fake_fails())
        return CUDA_ERROR_UNKNOWN;
    work(((struct event *)e)->after);
    return CUDA_SUCCESS;
}

static CUresult stream_wait_event(CUstream s, CUevent e, unsigned flags)
{
    (void)s, (void)flags;
    return event_wait(e);
}

static CUresult to_device(CUdeviceptr to, const void *from, size_t bytes, CUstream s)
{
    if (fake_fails())
        return CUDA_ERROR_UNKNOWN;
    check(to, bytes);
    if (issued - done == 256)
        work(done + 1);
    if (late(s))
        copy[issued++ % 256] = (struct copy){ to, from, bytes, false };
    else
        memcpy((void *)to, from, bytes);
    fake.copied += bytes;
    return CUDA_SUCCESS;
}

static CUresult to_host(void *to, CUdeviceptr from, size_t bytes, CUstream s)
{
    (void)s;
    if (fake_fails())
        return CUDA_ERROR_UNKNOWN;
    check(from, bytes);
    memcpy(to, (const void *)from, bytes);
    return CUDA_SUCCESS;
}

static CUresult set_bytes(CUdeviceptr to, unsigned char value, size_t bytes, CUstream s)
{
    (void)s;
    check(to, bytes);
    memset((void *)to, value, bytes);
    return CUDA_SUCCESS;
}

/* ---- the host's part ---- */

static CUresult host_alloc(void **p, size_t bytes, unsigned flags)
{
    (void)flags;
    *p = malloc(bytes ? bytes : 1);
    return *p ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult host_free(void *p)
{
    free(p);
    return CUDA_SUCCESS;
}

static CUresult host_register(void *p, size_t bytes, unsigned flags)
{
    (void)p, (void)flags;
    if (fake_fails())
        return CUDA_ERROR_UNKNOWN;
    fake.pinned += bytes;
    return CUDA_SUCCESS;
}

static CUresult host_unregister(void *p)
{
    for (long i = done; i < issued; i++)
        rule(copy[i % 256].from != p, "unpinned memory is being read");
    fake.unpinned++;
    return CUDA_SUCCESS;
}

void fake_memory(struct driver *d)
{
    d->cuMemAddressReserve = reserve;
    d->cuMemAddressFree = address_free;
    d->cuMemCreate = create;
    d->cuMemRelease = release;
    d->cuMemMap = map;
    d->cuMemUnmap = unmap;
    d->cuMemSetAccess = set_access;
    d->cuMemGetAllocationGranularity = granularity;
    d->cuMemHostAlloc = host_alloc;
    d->cuMemFreeHost = host_free;
    d->cuMemHostRegister = host_register;
    d->cuMemHostUnregister = host_unregister;
    d->cuMemcpyHtoDAsync = to_device;
    d->cuMemcpyDtoHAsync = to_host;
    d->cuMemsetD8Async = set_bytes;
    d->cuStreamCreate = stream_create;
    d->cuStreamSynchronize = stream_wait;
    d->cuStreamWaitEvent = stream_wait_event;
    d->cuEventCreate = event_create;
    d->cuEventDestroy = event_destroy;
    d->cuEventRecord = event_record;
    d->cuEventSynchronize = event_wait;
}
