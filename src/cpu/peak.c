/* peak.c - what the CPU can do at most: nothing but independent multiply-adds on registers. */
#include "base/clock.h"
#include "cpu/cpu.h"

enum { TURNS = 200000, CHAINS = 12 };

/* Threads that were just made may share a core until the system has looked around. */
static const double SECONDS = 0.2;

#define EACH_CHAIN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define TURN_ALL(STEP)                                                                             \
    for (int i = 0; i < TURNS; i++)                                                                \
    __asm__ volatile(EACH_CHAIN(STEP)::                                                            \
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", \
                           "xmm9", "xmm10", "xmm11")

/* One instruction does this many multiply-adds; 0: there is no such loop for the variant. */
static int width(const struct cpu *dev, enum dtype type)
{
    if (strcmp(dev->k->name, "avx512bf16") == 0)
        return type == DT_BF16 ? 32 : 16;
    return strcmp(dev->k->name, "avx512") == 0 ? 16 : strcmp(dev->k->name, "avx2") == 0 ? 8 : 0;
}

static void turn(void *ctx, int job, int thread)
{
    const int *wide = ctx;
    (void)job;
    (void)thread;
#ifdef __x86_64__
#define PAIRS(i) "vdpbf16ps %%zmm30, %%zmm31, %%zmm" #i "\n\t"
#define LONG(i) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #i "\n\t"
#define SHORT(i) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #i "\n\t"
    if (*wide == 32)
        TURN_ALL(PAIRS);
    else if (*wide == 16)
        TURN_ALL(LONG);
    else
        TURN_ALL(SHORT);
#else
    (void)wide;
#endif
}

double cpu_peak(void *dev, enum dtype type)
{
    const struct cpu *c = dev;
    int wide = width(c, type), threads = pool_threads(c->pool);
    double best = 1e30, begin = clock_seconds();
    if (!wide)
        return 0;
    while (clock_seconds() - begin < SECONDS) {
        double since = clock_seconds();
        pool_run(c->pool, turn, &wide, threads);
        since = clock_seconds() - since;
        best = since < best ? since : best;
    }
    return 2.0 * CHAINS * wide * TURNS * threads / best;
}
