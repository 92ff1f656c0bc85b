#include "cpu/kernel.h"
#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>

/* Which state the system saves: bits 1-2 AVX, 5-7 AVX-512 (Intel SDM, volume 1, 13.3). */
static unsigned saved_state(void)
{
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool has(unsigned leaf, unsigned sub, char reg, int bit)
{
    unsigned a, b, c, d;
    if (!__get_cpuid_count(leaf, sub, &a, &b, &c, &d))
        return false;
    return (reg == 'a' ? a : reg == 'b' ? b : c) >> bit & 1;
}

static bool runs_avx2(void)
{
    return has(1, 0, 'c', 27) && (saved_state() & 6) == 6 && has(7, 0, 'b', 5) &&
           has(1, 0, 'c', 12) && has(1, 0, 'c', 29); /* AVX2, FMA, F16C */
}

static bool runs_avx512(void)
{
    return runs_avx2() && (saved_state() & 0xe0) == 0xe0 && has(7, 0, 'b', 16) &&
           has(7, 0, 'b', 17) && has(7, 0, 'b', 30) && has(7, 0, 'b', 31); /* F, DQ, BW, VL */
}

static bool runs_avx512bf16(void)
{
    return runs_avx512() && has(7, 1, 'a', 5);
}
#endif

static bool runs_always(void)
{
    return true;
}

const struct kernels *kernels_choose(const char *isa)
{
    static const struct {
        const struct kernels *k;
        bool (*runs)(void);
    } variants[] = {
#ifdef __x86_64__
        { &kernels_avx512bf16, runs_avx512bf16 },
        { &kernels_avx512, runs_avx512 },
        { &kernels_avx2, runs_avx2 },
#endif
        { &kernels_portable, runs_always },
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        if ((!isa || strcmp(isa, variants[i].k->name) == 0) && variants[i].runs())
            return variants[i].k;
    return NULL;
}
