/* peak.c - what the CPU can do at most: nothing but independent multiply-adds on registers. */
#include "base/clock.h"
#include "cpu/cpu.h"

enum { TURNS = 200000, CHAINS = 12, TILE_CHAINS = 6 };

enum loop { NONE, FLOAT8, FLOAT16, PAIRS16, TILES };

/* Multiply-adds of one turn; of tiles, 16 rows by 16 columns by 32 numbers in each chain. */
static const int work[] = { 0, 8 * CHAINS, 16 * CHAINS, 32 * CHAINS, 16 * 16 * 32 * TILE_CHAINS };

/* Threads that were just made may share a core until the system has looked around. */
static const double SECONDS = 0.2;

#define EACH_CHAIN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define CHAIN_REGISTERS                                                                            \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11"
#define TURN_ALL(STEP)                                                                             \
    for (int i = 0; i < TURNS; i++)                                                                \
    __asm__ volatile(EACH_CHAIN(STEP)::: CHAIN_REGISTERS)

/* The sums begin at 0 and the factors are ordinary numbers: of denormal ones, which may lie in a
 * register, some CPUs make a product in a hundred cycles. */
#define CLEAR(i) "vpxor %%xmm" #i ", %%xmm" #i ", %%xmm" #i "\n\t"
#define CLEAR_ALL() __asm__ volatile(EACH_CHAIN(CLEAR)::: CHAIN_REGISTERS)
enum { FACTORS = 0x3f803f00 }; /* about 1 as one f32, 1 and 0.5 as two bf16 */

/* NONE: there is no such loop for the variant. */
static enum loop loop_of(const struct cpu *dev, enum dtype type)
{
    const char *name = dev->k->name;
    bool tiles = strcmp(name, "amx") == 0, pairs = tiles || strcmp(name, "avx512bf16") == 0;
    if (type == DT_BF16 && pairs)
        return tiles ? TILES : PAIRS16;
    return pairs || strcmp(name, "avx512") == 0 ? FLOAT16
           : strcmp(name, "avx2") == 0          ? FLOAT8
                                                : NONE;
}

#ifdef __x86_64__
/* All eight tiles of 16 rows of 64 bytes (palette 1). */
static void turn_tiles(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = { .palette = 1 };
    uint32_t factors[16 * 16];
    for (int i = 0; i < 8; i++) {
        shape.row_bytes[i] = 64;
        shape.rows[i] = 16;
    }
    for (int i = 0; i < 16 * 16; i++)
        factors[i] = FACTORS;
    __asm__ volatile("ldtilecfg %0" ::"m"(shape));
    __asm__ volatile("tileloadd (%0, %1), %%tmm6\n\t"
                     "tileloadd (%0, %1), %%tmm7" ::"r"(factors),
                     "r"(64L)
                     : "memory");
    for (int i = 0; i < TURNS; i++)
        __asm__ volatile("tdpbf16ps %tmm7, %tmm6, %tmm0\n\t"
                         "tdpbf16ps %tmm7, %tmm6, %tmm1\n\t"
                         "tdpbf16ps %tmm7, %tmm6, %tmm2\n\t"
                         "tdpbf16ps %tmm7, %tmm6, %tmm3\n\t"
                         "tdpbf16ps %tmm7, %tmm6, %tmm4\n\t"
                         "tdpbf16ps %tmm7, %tmm6, %tmm5\n\t");
    __asm__ volatile("tilerelease");
}
#endif

static void turn(void *ctx, int job, int thread)
{
    const enum loop *loop = ctx;
    (void)job;
    (void)thread;
#ifdef __x86_64__
#define PAIRS(i) "vdpbf16ps %%zmm30, %%zmm31, %%zmm" #i "\n\t"
#define LONG(i) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #i "\n\t"
#define SHORT(i) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #i "\n\t"
    if (*loop == TILES) {
        turn_tiles();
        return;
    }
    CLEAR_ALL();
    if (*loop == FLOAT8) {
        __asm__ volatile("vmovd %0, %%xmm15\n\t"
                         "vpbroadcastd %%xmm15, %%ymm15\n\t"
                         "vmovdqa %%ymm15, %%ymm14" ::"r"(FACTORS)
                         : "xmm14", "xmm15");
        TURN_ALL(SHORT);
        return;
    }
    __asm__ volatile("vpbroadcastd %0, %%zmm31\n\t"
                     "vmovdqa64 %%zmm31, %%zmm30" ::"r"(FACTORS));
    if (*loop == PAIRS16)
        TURN_ALL(PAIRS);
    else
        TURN_ALL(LONG);
#else
    (void)loop;
#endif
}

double cpu_peak(void *dev, enum dtype type)
{
    const struct cpu *c = dev;
    enum loop loop = loop_of(c, type);
    int threads = pool_threads(c->pool);
    double best = 1e30, begin = clock_seconds();
    if (loop == NONE)
        return 0;
    while (clock_seconds() - begin < SECONDS) {
        double since = clock_seconds();
        pool_run(c->pool, turn, &loop, threads);
        since = clock_seconds() - since;
        best = since < best ? since : best;
    }
    return 2.0 * work[loop] * TURNS * threads / best;
}
