#include "cpu/kernel.h"
#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Which state the system saves: bits 1-2 AVX, 5-7 AVX-512, 17-18 AMX (Intel SDM, volume 1, 13.3).
 */
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
    return (reg == 'a' ? a : reg == 'b' ? b : reg == 'c' ? c : d) >> bit & 1;
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
    return runs_avx512() && has(7, 1, 'a', 5) && has(7, 0, 'c', 11); /* BF16, VNNI */
}

/* The tiles' 8 KB of state are saved only for processes that ask for them (Linux's
 * Documentation/arch/x86/xstate.rst): feature 18, for this process and all its threads. */
static bool runs_amx(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    return runs_avx512bf16() && has(7, 0, 'd', 22) && has(7, 0, 'd', 24) &&
           (saved_state() & 0x60000) == 0x60000 &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0;
#else
    return false;
#endif
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
        { &kernels_amx, runs_amx },         { &kernels_avx512bf16, runs_avx512bf16 },
        { &kernels_avx512, runs_avx512 },   { &kernels_avx2, runs_avx2 },
#endif
        { &kernels_portable, runs_always },
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        if ((!isa || strcmp(isa, variants[i].k->name) == 0) && variants[i].runs())
            return variants[i].k;
    return NULL;
}
