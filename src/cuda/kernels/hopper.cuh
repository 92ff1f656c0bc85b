// hopper.cuh - what cards of 9.0, and no others, have: barriers in shared memory that also count
// bytes, copies of whole tiles (TMA), and products of a warpgroup of four warps (wgmma). Only
// hopper_*.cu include this; they are compiled for 9.0a alone. The tests put functions of the same
// meaning in its place.
//
// A tile in shared memory is rows of 128 bytes, 64 numbers, as tile maps with the 128-byte swizzle
// write it: the 16-byte piece i of row r lies at piece i ^ (r % 8). Tiles begin at multiples of
// 1024 bytes.
#ifndef STYX_CUDA_HOPPER_CUH
#define STYX_CUDA_HOPPER_CUH
#include "cuda/kernels/common.cuh"
#include <type_traits>

#define CONSTANT_ARGS(T, name) const __grid_constant__ T name

// True in one lane of a warp, all of which ask: the compiler knows that what follows happens once.
__device__ __forceinline__ bool elected()
{
    unsigned mine;
    asm volatile("{\n"
                 ".reg .pred mine;\n"
                 "elect.sync _|mine, 0xffffffff;\n"
                 "selp.u32 %0, 1, 0, mine;\n"
                 "}\n"
                 : "=r"(mine));
    return mine;
}

// ---- barriers

typedef unsigned long long barrier; // in shared memory

__device__ __forceinline__ void barrier_start(barrier *b, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(b)), "r"(arrivals)
                 : "memory");
}

// After the last barrier_start, before the barrier of threads that tells the others: the copies see
// it.
__device__ __forceinline__ void barriers_started()
{
    asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(barrier *b)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(b)) : "memory");
}

// Arrives, and lets the barrier wait for so many bytes of copies too.
__device__ __forceinline__ void barrier_expect(barrier *b, unsigned bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(b)),
        "r"(bytes)
        : "memory");
}

// For the end of a turn of that parity: 0 the first, 1 the second, ... A barrier that was just
// started has the parity 1 behind it.
__device__ __forceinline__ void barrier_wait(barrier *b, unsigned parity)
{
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}\n" ::"r"(shared_address(b)),
                 "r"(parity)
                 : "memory");
}

// ---- pairs: two blocks beside each other, which run at once (clusters)

#define PAIR_OF_BLOCKS __cluster_dims__(2, 1, 1)

// All threads of both pass when the last has come. Nothing but barriers is to be seen afterwards.
__device__ __forceinline__ void meet_pair()
{
    asm volatile("barrier.cluster.arrive.relaxed.aligned;\n"
                 "barrier.cluster.wait.aligned;\n" ::
                     : "memory");
}

// At the same barrier of the pair's block of that rank. Not `.release.cluster`, which costs what a
// stage takes: nothing was written, and what was read a product has waited for.
__device__ __forceinline__ void barrier_arrive_in(barrier *b, unsigned rank)
{
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
                 "}\n" ::"r"(shared_address(b)),
                 "r"(rank)
                 : "memory");
}

// ---- tiles

__device__ __forceinline__ void tile_prepare(const tile_map *map)
{
    asm volatile("prefetch.tensormap [%0];\n" ::"l"(map) : "memory");
}

// The tile that begins at column x of row y (of z, of w). What lies outside is zeros. b counts the
// whole tile's bytes in any case.
__device__ __forceinline__ void tile_fetch(void *to, const tile_map *map, barrier *b, int x, int y)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];\n" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(b)), "r"(x), "r"(y)
                 : "memory");
}

__device__ __forceinline__ void tile_fetch(void *to, const tile_map *map, barrier *b, int x, int y,
                                           int z, int w)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2];\n" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(b)), "r"(x), "r"(y), "r"(z), "r"(w)
                 : "memory");
}

// A tile of five dimensions that is whole in all but the first and the last.
__device__ __forceinline__ void tile_fetch_groups(void *to, const tile_map *map, barrier *b, int x,
                                                  int group)
{
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %4, %4, %5}], [%2];\n" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(b)), "r"(x), "r"(0), "r"(group)
                 : "memory");
}

// The same, to both blocks of a pair: to that place of each, whose barrier there counts it.
__device__ __forceinline__ void tile_fetch_both(void *to, const tile_map *map, barrier *b, int x,
                                                int y)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;\n" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(b)), "r"(x), "r"(y), "h"((unsigned short)3)
                 : "memory");
}

// ---- registers: all threads of a warpgroup at once; the kernel's launch bounds say one block

template <int COUNT> __device__ __forceinline__ void registers_take()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(COUNT));
}

template <int COUNT> __device__ __forceinline__ void registers_give()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(COUNT));
}

// ---- products: 64 rows of a times N rows of b, over 16 columns of each

// Tiles as products take them. k: rows of at least 16 columns from `from` on, down eight rows every
// 1024 bytes. A step of 16 columns is 32 bytes further.
__device__ __forceinline__ unsigned long long tile_at(const void *from)
{
    return (unsigned long long)(shared_address(from) >> 4 & 0x3fff) | 1ull << 16 |
           (1024ull >> 4) << 32 | 1ull << 62;
}

// Transposed: 16 rows of 64 columns, N / 64 such tiles `next` bytes apart. A step of 16 rows is
// 2048 bytes further.
__device__ __forceinline__ unsigned long long tile_across(const void *from, unsigned next)
{
    return (unsigned long long)(shared_address(from) >> 4 & 0x3fff) |
           (unsigned long long)(next >> 4 & 0x3fff) << 16 | (1024ull >> 4) << 32 | 1ull << 62;
}

// The same, so many bytes (a multiple of 16) further.
__device__ __forceinline__ unsigned long long tile_further(unsigned long long tile, unsigned bytes)
{
    return tile + (bytes >> 4);
}

// Before the first product, and wherever its registers were touched since the last.
__device__ __forceinline__ void products_begin()
{
    asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}

// Ends a group of products.
__device__ __forceinline__ void products_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}

// Until at most LEFT groups are not done.
template <int LEFT> __device__ __forceinline__ void products_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(LEFT) : "memory");
}

// The compiler moves no work with these registers over this place.
template <int N> __device__ __forceinline__ void pin(float (&x)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+f"(x[i])::"memory");
}

template <int N> __device__ __forceinline__ void pin(unsigned (&x)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("" : "+r"(x[i])::"memory");
}

// The sums' numbers in the text, and their operands.
#define IDS_16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define IDS_20 IDS_16 ",%16,%17,%18,%19"
#define IDS_32 IDS_20 ",%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define IDS_40 IDS_32 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define IDS_64                                                                                     \
    IDS_40 ",%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60," \
           "%61,%62,%63"
#define IDS_80 IDS_64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"
#define IDS_96 IDS_80 ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define IDS_128                                                                                    \
    IDS_96 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,"    \
           "%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define SUMS_4(i) "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 4), SUMS_4(i + 8), SUMS_4(i + 12)
#define SUMS_20(i) SUMS_16(i), SUMS_4(i + 16)
#define SUMS_32(i) SUMS_16(i), SUMS_16(i + 16)
#define SUMS_40(i) SUMS_20(i), SUMS_20(i + 20)
#define SUMS_64(i) SUMS_32(i), SUMS_32(i + 32)
#define SUMS_80(i) SUMS_40(i), SUMS_40(i + 40)
#define SUMS_96(i) SUMS_64(i), SUMS_32(i + 64)
#define SUMS_128(i) SUMS_64(i), SUMS_64(i + 64)

#define WGMMA(N, TYPE) "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " "

// Both from shared memory: a, b, whether to add.
#define WGMMA_TILES(N, TYPE, SUMS, A, B, ADD)                                                      \
    asm volatile("{\n"                                                                             \
                 ".reg .pred add;\n"                                                               \
                 "setp.ne.b32 add, %" #ADD ", 0;\n" WGMMA(N, TYPE) "{" IDS_##SUMS                  \
                 "}, %" #A ", %" #B ", add, 1, 1, 0, 0;\n"                                         \
                 "}\n"                                                                             \
                 : SUMS_##SUMS(0)                                                                  \
                 : "l"(a), "l"(b), "r"((int)add))

// a from registers, in the order of multiply's (ptx.cuh) for each warp's 16 rows.
#define WGMMA_HELD(N, TYPE, SUMS, A0, A1, A2, A3, B, ADD, ACROSS)                                  \
    asm volatile("{\n"                                                                             \
                 ".reg .pred add;\n"                                                               \
                 "setp.ne.b32 add, %" #ADD ", 0;\n" WGMMA(N, TYPE) "{" IDS_##SUMS                  \
                 "}, {%" #A0 ",%" #A1 ",%" #A2 ",%" #A3 "}, %" #B ", add, 1, 1, %" #ACROSS ";\n"   \
                 "}\n"                                                                             \
                 : SUMS_##SUMS(0)                                                                  \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add),              \
                   "n"(ACROSS_B))

// sum (64 x N) = a b^T, + sum if `add`. Lane 4g + t of warp w has of rows 16w + g and 16w + g + 8
// columns 8j + 2t and + 1: in sum[4j] and sum[4j + 1], sum[4j + 2] and sum[4j + 3]. The sums are
// there after products_wait and must not be touched before. ACROSS_B: b is tile_across.
template <typename T, int N> struct product_of;

#define PRODUCT_OF(N, SUMS, I0, I1, I2, I3, I4, I5, I6)                                            \
    template <typename T> struct product_of<T, N> {                                                \
        static __device__ __forceinline__ void tiles(float (&sum)[SUMS], unsigned long long a,     \
                                                     unsigned long long b, bool add)               \
        {                                                                                          \
            if constexpr (std::is_same_v<T, f16>)                                                  \
                WGMMA_TILES(N, "f16", SUMS, I0, I1, I2);                                           \
            else                                                                                   \
                WGMMA_TILES(N, "bf16", SUMS, I0, I1, I2);                                          \
        }                                                                                          \
        template <int ACROSS_B>                                                                    \
        static __device__ __forceinline__ void held(float (&sum)[SUMS], const unsigned (&a)[4],    \
                                                    unsigned long long b, bool add)                \
        {                                                                                          \
            if constexpr (std::is_same_v<T, f16>)                                                  \
                WGMMA_HELD(N, "f16", SUMS, I0, I1, I2, I3, I4, I5, I6);                            \
            else                                                                                   \
                WGMMA_HELD(N, "bf16", SUMS, I0, I1, I2, I3, I4, I5, I6);                           \
        }                                                                                          \
    };

PRODUCT_OF(40, 20, 20, 21, 22, 23, 24, 25, 26)
PRODUCT_OF(64, 32, 32, 33, 34, 35, 36, 37, 38)
PRODUCT_OF(80, 40, 40, 41, 42, 43, 44, 45, 46)
PRODUCT_OF(128, 64, 64, 65, 66, 67, 68, 69, 70)
PRODUCT_OF(160, 80, 80, 81, 82, 83, 84, 85, 86)
PRODUCT_OF(192, 96, 96, 97, 98, 99, 100, 101, 102)
PRODUCT_OF(256, 128, 128, 129, 130, 131, 132, 133, 134)

#endif
