// ptx.cuh - the instructions that C++ has no words for. They are all here, so that the tests can
// put functions of the same meaning in their place and run the kernels without a card.
#ifndef STYX_CUDA_PTX_CUH
#define STYX_CUDA_PTX_CUH
#include <cuda_bf16.h>
#include <cuda_fp16.h>

// A kernel's dynamic shared memory.
#define DYNAMIC_SHARED(T, name)                                                                    \
    extern __shared__ uint4 dynamic_shared[];                                                      \
    T *name = reinterpret_cast<T *>(dynamic_shared)

// ---- 8.0 and later: copies in the background, matrices

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define TENSOR_CORES 1
#else
#define TENSOR_CORES 0 // none for bf16
#endif

__device__ __forceinline__ unsigned shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

// 16 bytes to shared memory in the background; zeros if not `there`.
__device__ __forceinline__ void fetch(void *to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)),
                 "l"(from), "r"(there ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ void fetch_commit()
{
    asm volatile("cp.async.commit_group;\n" ::);
}

// Until at most LEFT of the thread's groups are on their way.
template <int LEFT = 0> __device__ __forceinline__ void fetch_wait()
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(LEFT) : "memory");
}

// Four 8 x 8 matrices of 16-bit numbers, whose rows lie where lanes 0-7, 8-15, 16-23 and 24-31 say.
// Lane 4g + t gets columns 2t and 2t + 1 of row g of each.
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const void *from)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(from))
                 : "memory");
}

// The same, but rows 2t and 2t + 1 of column g.
__device__ __forceinline__ void load_transposed(unsigned (&to)[4], const void *from)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(from))
                 : "memory");
}

// sum (16 x 8) += a (16 x 16) b (16 x 8)
template <typename T>
__device__ __forceinline__ void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0,
                                         unsigned b1);

template <>
__device__ __forceinline__ void multiply<__half>(float (&sum)[4], const unsigned (&a)[4],
                                                 unsigned b0, unsigned b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void multiply<__nv_bfloat16>(float (&sum)[4], const unsigned (&a)[4],
                                                        unsigned b0, unsigned b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- every card

__device__ __forceinline__ float power_of_two(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float reciprocal(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
}

// What is computed from these numbers later is computed then, and not kept from before.
__device__ __forceinline__ void forget(uint4 &x)
{
    asm volatile("" : "+r"(x.x), "+r"(x.y), "+r"(x.z), "+r"(x.w));
}

// ---- 8.9 and later: 8-bit numbers. Before, no kernel with them is launched.

// Two numbers as e4m3, the first in the low byte; what is too large becomes the largest.
__device__ __forceinline__ unsigned e4m3_pair(float low, float high)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
    unsigned short pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;\n" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return 0;
#endif
}

// ---- every card: numbers for other blocks that run at the same time and wait for them

// Two numbers that bear a mark, which says whether they have come. Each has its own, for no more
// than eight bytes are certain to come at once.
struct __align__(16) note
{
    unsigned first, mark, second, same_mark;
};

__device__ __forceinline__ void tell(note *to, float first, float second, unsigned mark)
{
    asm volatile("st.relaxed.gpu.global.v2.b64 [%0], {%1, %2};\n" ::"l"(to),
                 "l"((unsigned long long)mark << 32 | __float_as_uint(first)),
                 "l"((unsigned long long)mark << 32 | __float_as_uint(second))
                 : "memory");
}

__device__ __forceinline__ void hear(const note *from, unsigned mark, float &first, float &second)
{
    unsigned long long x, y;
    do
        asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];\n"
                     : "=l"(x), "=l"(y)
                     : "l"(from)
                     : "memory");
    while (x >> 32 != mark || y >> 32 != mark);
    first = __uint_as_float((unsigned)x);
    second = __uint_as_float((unsigned)y);
}

// A mark that no launch had before (but 2^32 ago). marks: two counters that are zero at first.
__device__ __forceinline__ unsigned next_mark(const unsigned *marks)
{
    return *(const volatile unsigned *)marks + 1;
}

// Once in each of a launch's blocks, all of whose threads have their mark.
__device__ __forceinline__ void mark_used(unsigned *marks, unsigned blocks)
{
    if (atomicAdd(marks + 1, 1) == blocks - 1) {
        marks[1] = 0;
        marks[0]++;
    }
}

// ---- 9.0 and later: kernels that start before the one before them has ended

// First in every kernel: the next one may be set up, and this one waits until all that was launched
// before it has ended and what it wrote is to be seen.
__device__ __forceinline__ void begin()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;\n" ::);
    asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}

#endif
