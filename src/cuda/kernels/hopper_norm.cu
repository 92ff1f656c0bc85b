// hopper_norm.cu - group norm in one launch of maps that shared memory holds, or part of them.
#include "cuda/kernels/group_norm.cuh"
#include "cuda/kernels/hopper.cuh"

static __device__ meeting all_blocks;

enum { PARTS = 4, AT_ONCE = 8 }; // parts: their sums begin when they have come

// A thread's pixels to shared memory, a group of copies for each of its parts.
template <typename T, int N>
__device__ __forceinline__ void fetch_parts(uint4 *kept, const source<T, N> &from, int part,
                                            int count)
{
    int rows = blockDim.y, threads = blockDim.x * rows;
    for (int i = 0; i < PARTS; i++) {
        for (int k = i * part; k < min(count, (i + 1) * part); k++)
            fetch(kept + k * threads, from.from + (threadIdx.y + k * rows) * from.row, true);
        fetch_commit();
    }
}

// Shared memory keeps the first a.kept pixels of each thread, which nobody else reads; the others
// are read again, those first that were read last.
template <typename T> __device__ __forceinline__ void group_norm_kept(const group_norm_args &a)
{
    constexpr int N = WIDE<T>;
    DYNAMIC_SHARED(uint4, kept); // [pixel][thread]; then sums
    piece b(a);
    int in = threadIdx.x * N, rows = blockDim.y, threads = blockDim.x * rows;
    int mine = seen(b.count, threadIdx.y), keeps = min(mine, a.kept);
    int part = (a.kept + PARTS * AT_ONCE - 1) / (PARTS * AT_ONCE) * AT_ONCE;
    unsigned mark = next_mark(all_blocks.marks);
    left_sums<N> left(a, reinterpret_cast<group_sum *>(kept + a.kept * threads));
    source<T, N> from(a, b, b.channel + in);
    kept += threadIdx.y * blockDim.x + threadIdx.x;
    fetch_parts(kept, from, part, keeps);
    target<T, N> to(a, b, b.channel + in);
    thread_sums<N> sums(halves<N>(in, b.width));
    pixels<T, N, AT_ONCE> x;
    auto next = [&](int k) {
        x.take(kept + k * threads, threads, keeps - k);
        x.finish(from);
        x.forget();
    };
    auto again = [&](int k) {
        x.load(from, threadIdx.y + k * rows, b.count);
        x.finish(from);
        x.forget();
    };
    auto sum_part = [&](int i) {
        for (int k = i * part; k < min(keeps, (i + 1) * part); k += AT_ONCE) {
            next(k);
            sums.add(x, keeps - k);
        }
    };
    fetch_wait<3>();
    {
        pixels<T, N, 1> one;
        one.take(kept, threads, keeps);
        one.finish(from);
        sums.begin(one.x[0]);
    }
    sum_part(0);
    fetch_wait<2>(), sum_part(1);
    fetch_wait<1>(), sum_part(2);
    fetch_wait<0>(), sum_part(3);
    for (int k = keeps; k < mine; k += AT_ONCE) {
        again(k);
        sums.add(x, mine - k);
    }
    left.leave(in, sums);
    meet(&all_blocks, mark, a, b, left, left.end());
    to.use(left.end(), sums.in);
    for (int k = keeps + (mine - keeps - 1) / AT_ONCE * AT_ONCE; mine > keeps && k >= keeps;
         k -= AT_ONCE) {
        again(k);
        to.template write<2>(x, threadIdx.y + k * rows, b.count);
    }
    for (int k = 0; k < keeps; k += AT_ONCE) {
        next(k);
        to.template write<2>(x, threadIdx.y + k * rows,
                             min(b.count, (int)threadIdx.y + keeps * rows));
    }
}

GROUP_KERNEL(group_norm_kept, bf16, bf16, KEPT_THREADS, 1)
GROUP_KERNEL(group_norm_kept, f16, f16, KEPT_THREADS, 1)
