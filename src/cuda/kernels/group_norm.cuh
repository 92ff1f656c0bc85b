// group_norm.cuh - what the kernels of group norm share. No sum depends on anything but the shapes:
// partial sums are added in a fixed order.
//
// A block has some pixels of an image (blockIdx.x) and some whole groups (blockIdx.y).
#ifndef STYX_CUDA_GROUP_NORM_CUH
#define STYX_CUDA_GROUP_NORM_CUH
#include "cuda/kernels/common.cuh"

enum { BATCH = 4 }; // pixels that a thread loads at once

struct piece {
    int image, first, count;   // pixels
    int group, channel, width; // the first ones; channels of a group

    __device__ __forceinline__ piece(const group_norm_args &a)
    {
        image = blockIdx.z;
        first = blockIdx.x * a.chunk;
        count = min(a.chunk, a.area - first);
        width = a.width;
        group = blockIdx.y * a.slab;
        channel = group * width;
    }
};

// What is normed at N channels from c on: [x | second] + bias + shift, as it would have been
// stored.
template <typename T, int N> struct source {
    const T *from;
    long row;
    bool adds;
    float add[N];

    __device__ __forceinline__ source(const group_norm_args &a, const piece &b, int c)
    {
        const rows &r = c < a.split ? a.x : a.second;
        from = at<T>(r, (long)b.image * a.area + b.first) + (c < a.split ? c : c - a.split);
        row = r.row;
        adds = a.bias || a.shift.data;
        float part[N];
        for (int i = 0; i < N; i++)
            add[i] = 0;
        if (a.bias) {
            load<T, N>(at<T>(a.bias) + c, part);
            for (int i = 0; i < N; i++)
                add[i] += part[i];
        }
        if (a.shift.data) {
            load<T, N>(at<T>(a.shift, b.image) + c, part);
            for (int i = 0; i < N; i++)
                add[i] += part[i];
        }
    }
};

// How many of `count` pixels row y of the block's threads sees.
__device__ __forceinline__ int seen(int count, int y)
{
    return count > y ? (count - y - 1) / (int)blockDim.y + 1 : 0;
}

// K of a thread's pixels, `first` and every blockDim.y-th after it.
template <typename T, int N, int K> struct pixels {
    lane<T, N> x[K];

    // All loads are on their way before the first is used.
    __device__ __forceinline__ void load(const source<T, N> &from, int first, int count)
    {
#pragma unroll
        for (int k = 0; k < K; k++) {
            int p = first + k * blockDim.y;
            x[k] = {};
            if (p < count)
                x[k] = *reinterpret_cast<const lane<T, N> *>(from.from + p * from.row);
        }
    }

    // The same from shared memory, `stride` vectors from one to the next.
    __device__ __forceinline__ void take(const uint4 *from, int stride, int count)
    {
#pragma unroll
        for (int k = 0; k < K; k++) {
            x[k] = {};
            if (k < count)
                x[k] = *reinterpret_cast<const lane<T, N> *>(from + k * stride);
        }
    }

    __device__ __forceinline__ void finish(const source<T, N> &from)
    {
        if (!from.adds)
            return;
#pragma unroll
        for (int k = 0; k < K; k++)
#pragma unroll
            for (int i = 0; i < N; i++)
                x[k].v[i] = from_float<T>(to_float(x[k].v[i]) + from.add[i]);
    }

    // What follows converts the numbers again instead of keeping them as floats, of which there are
    // not registers enough.
    __device__ __forceinline__ void forget()
    {
#pragma unroll
        for (int k = 0; k < K; k++)
            if constexpr (sizeof x[k] == sizeof(uint4))
                ::forget(*reinterpret_cast<uint4 *>(&x[k]));
    }
};

// ---- sums

// The groups that N channels lie in, `in` of the block and those after it: the first `cut` in one,
// the others, if any, in the next. The launch sees to it that there are no more.
template <int N> struct halves {
    int group, cut;

    __device__ __forceinline__ halves(int in, int width)
        : group(in / width), cut(min(N, (group + 1) * width - in))
    {
    }
};

// What a thread has seen of them: sums of distances from what the first pixel has on average, and
// of their squares. As that pixel is one of n, its distance is a part of the spread, so that the
// spread is never less than 1 / (n + 1) of the squares from which it is taken: a mean far from zero
// costs no digits.
template <int N> struct thread_sums {
    halves<N> in;
    float pixels, about[N], sum[N], square[N];

    __device__ __forceinline__ thread_sums(const halves<N> &in)
        : in(in), pixels(0), about{}, sum{}, square{}
    {
    }

    __device__ __forceinline__ float fold(const float (&x)[N], int half) const
    {
        float all = 0;
#pragma unroll
        for (int i = 0; i < N; i++)
            all += (i < in.cut) == (half == 0) ? x[i] : 0;
        return all;
    }

    __device__ __forceinline__ float channels(int half) const
    {
        return (float)(half ? N - in.cut : in.cut);
    }

    // The first pixel, once before all are added.
    template <typename T> __device__ __forceinline__ void begin(const lane<T, N> &x)
    {
        float first[N];
#pragma unroll
        for (int i = 0; i < N; i++)
            first[i] = to_float(x.v[i]);
        float mean[2] = { fold(first, 0) * reciprocal(channels(0)),
                          fold(first, 1) * reciprocal(fmaxf(channels(1), 1)) };
#pragma unroll
        for (int i = 0; i < N; i++)
            about[i] = i < in.cut ? mean[0] : mean[1];
    }

    // The first `count` of K pixels.
    template <typename T, int K>
    __device__ __forceinline__ void add(const ::pixels<T, N, K> &x, int count)
    {
#pragma unroll
        for (int k = 0; k < K; k++)
            if (k < count) {
                pixels++;
#pragma unroll
                for (int i = 0; i < N; i++) {
                    float d = to_float(x.x[k].v[i]) - about[i];
                    sum[i] += d;
                    square[i] += d * d;
                }
            }
    }

    __device__ __forceinline__ group_sum of(int half) const
    {
        float all = fold(sum, half), mean = all * reciprocal(fmaxf(pixels * channels(half), 1));
        return { about[half ? N - 1 : 0] + mean, fmaxf(fold(square, half) - all * mean, 0) };
    }
};

// The lanes that join the sums of a group: those of a warp, or of half of one where there are more
// groups than warps.
struct team {
    int lanes, lane_id;
    bool first; // lane of a group of its own

    __device__ __forceinline__ float sum(float x) const
    {
#pragma unroll
        for (int step = 16; step; step /= 2) {
            float other = __shfl_xor_sync(0xffffffffu, x, step);
            x += step < lanes ? other : 0;
        }
        return x;
    }
};

enum { FEWEST_LANES = 16 };

// each(group of the block, the team that it is for)
template <typename F> __device__ __forceinline__ void teams(int groups, F each)
{
    int thread = threadIdx.y * blockDim.x + threadIdx.x, warps = blockDim.x * blockDim.y / 32;
    int lanes = groups > warps ? FEWEST_LANES : 32, of_warp = 32 / lanes;
    if (thread < warps * 32) // the last may not be whole
        for (int first = thread / 32 * of_warp; first < groups; first += warps * of_warp) {
            int g = first + thread % 32 / lanes, lane_id = thread % lanes;
            each(min(g, groups - 1), team{ lanes, lane_id, lane_id == 0 && g < groups });
        }
}

// Where threads leave them: [half][N channels][threadIdx.y], an odd number in a row, so that
// neighbours write to other banks.
template <int N> struct left_sums {
    group_sum *each;
    int vectors, stride;

    __device__ __forceinline__ left_sums(const group_norm_args &a, group_sum *each)
        : each(each), vectors(a.slab * a.width / N), stride(blockDim.y | 1)
    {
    }

    __device__ __forceinline__ group_sum *end() const
    {
        return each + (N > 1 ? 2 : 1) * vectors * stride;
    }

    __device__ __forceinline__ void leave(int in, const thread_sums<N> &sums) const
    {
        group_sum *to = each + in / N * stride + threadIdx.y;
        to[0] = sums.of(0);
        if (N > 1)
            to[vectors * stride] = sums.of(1);
    }

    // What they say together of group g of the block; for a team.
    __device__ __forceinline__ group_sum join(const piece &b, int g, const team &t) const
    {
        int first = g * b.width, end = first + b.width, rows = blockDim.y;
        int fewest = b.count / rows, more = b.count % rows; // pixels of a row of threads
        auto every = [&](auto use) {
#pragma unroll 1
            for (int y = t.lane_id; y < rows; y += t.lanes)
#pragma unroll 4
                for (int v = first / N; v * N < end; v++) {
                    int channels = min(end, (v + 1) * N) - max(first, v * N);
                    use(each[(v * N < first ? vectors + v : v) * stride + y],
                        (float)(channels * (fewest + (y < more))));
                }
        };
        group_sum all = { 0, 0 };
        every([&](group_sum s, float count) { all.mean += s.mean * count; });
        all.mean = t.sum(all.mean) * reciprocal((float)(b.count * b.width));
        every([&](group_sum s, float count) {
            float d = s.mean - all.mean;
            all.spread += s.spread + d * d * count;
        });
        all.spread = t.sum(all.spread);
        return all;
    }
};

// Normed, scaled, activated and stored.
template <typename T, int N> struct target {
    T *to;
    long row;
    float mean[N], gain[N], offset[N];
    bool silu;

    __device__ target(const group_norm_args &a, const piece &b, int c)
    {
        to = at<T>(a.out, (long)b.image * a.area + b.first) + c;
        row = a.out.row;
        silu = a.act == SILU;
        load_f32<N>(at<float>(a.gamma) + c, gain);
        load_f32<N>(at<float>(a.beta) + c, offset);
    }

    // of: mean and 1 / deviation of the block's groups. 16-bit numbers have too few digits for the
    // mean to cost any when it is part of the offset.
    __device__ __forceinline__ void use(const group_sum *of, const halves<N> &in)
    {
        group_sum mine[2] = { of[in.group], of[in.cut < N ? in.group + 1 : in.group] };
#pragma unroll
        for (int i = 0; i < N; i++) {
            group_sum s = i < in.cut ? mine[0] : mine[1];
            gain[i] *= s.spread;
            mean[i] = sizeof(T) == 2 ? 0 : s.mean;
            offset[i] -= sizeof(T) == 2 ? s.mean * gain[i] : 0;
        }
    }

    // Together pixels of K, for each number waits for itself alone.
    template <int TOGETHER, int K>
    __device__ __forceinline__ void write(const pixels<T, N, K> &x, int first, int count) const
    {
        if (silu)
            write_with<true, TOGETHER>(x, first, count);
        else
            write_with<false, TOGETHER>(x, first, count);
    }

    template <bool WITH_SILU, int TOGETHER, int K>
    __device__ __forceinline__ void write_with(const pixels<T, N, K> &x, int first, int count) const
    {
#pragma unroll
        for (int k = 0; k < K; k += TOGETHER) {
            if (first + k * (int)blockDim.y >= count)
                break;
            float y[TOGETHER][N];
#pragma unroll
            for (int j = 0; j < TOGETHER; j++) {
#pragma unroll
                for (int i = 0; i < N; i++) {
                    float from_mean = to_float(x.x[k + j].v[i]) - (sizeof(T) == 2 ? 0 : mean[i]);
                    y[j][i] = from_mean * gain[i] + offset[i];
                }
                if (WITH_SILU)
                    swish_all(y[j]);
            }
#pragma unroll
            for (int j = 0; j < TOGETHER; j++) {
                int p = first + (k + j) * blockDim.y;
                if (p < count)
                    store<T, N>(to + p * row, y[j]);
            }
        }
    }
};

// ---- in one launch, all of whose blocks run at once, as the launch sees to

// Where the blocks that share an image's groups tell each other their sums: memory that no other
// kernel writes, for every number bears the mark of its launch.
struct meeting {
    note notes[MOST_NOTES];
    unsigned marks[2];
};

// of[g]: mean and 1 / deviation of the block's groups over the whole image.
template <int N>
__device__ __forceinline__ void meet(meeting *all_blocks, unsigned mark, const group_norm_args &a,
                                     const piece &b, const left_sums<N> &left, group_sum *of)
{
    float width = (float)b.width, over = reciprocal((float)a.area), each = over * reciprocal(width);
    note *image = all_blocks->notes + (blockIdx.z * gridDim.y + blockIdx.y) * a.slab * a.chunks;
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0 && a.chunks > 1)
        mark_used(all_blocks->marks, gridDim.x * gridDim.y * gridDim.z);
    teams(a.slab, [&](int g, const team &t) {
        group_sum all = left.join(b, g, t);
        if (t.first && a.chunks > 1)
            tell(image + g * a.chunks + blockIdx.x, all.mean, all.spread, mark);
        else if (t.first)
            of[g] = { all.mean, rsqrtf(all.spread * each + a.eps) };
    });
    if (a.chunks > 1)
        teams(a.slab, [&](int g, const team &t) {
            group_sum part[MOST_SHARING / FEWEST_LANES];
            float pixels[MOST_SHARING / FEWEST_LANES], mean = 0, spread = 0;
#pragma unroll
            for (int j = 0; j < MOST_SHARING / FEWEST_LANES; j++) {
                int i = t.lane_id + t.lanes * j;
                part[j] = { 0, 0 };
                pixels[j] = (float)max(min(a.chunk, a.area - i * a.chunk), 0);
                if (i < a.chunks)
                    hear(image + g * a.chunks + i, mark, part[j].mean, part[j].spread);
                mean += part[j].mean * pixels[j];
            }
            mean = t.sum(mean) * over;
#pragma unroll
            for (int j = 0; j < MOST_SHARING / FEWEST_LANES; j++) {
                float d = part[j].mean - mean;
                spread += part[j].spread + d * d * pixels[j] * width;
            }
            spread = t.sum(spread);
            if (t.first)
                of[g] = { mean, rsqrtf(spread * each + a.eps) };
        });
    __syncthreads();
}

#define GROUP_KERNEL(name, type, T, threads, blocks)                                               \
    extern "C" __global__ void __launch_bounds__(threads, blocks)                                  \
        name##_##type(const group_norm_args a)                                                     \
    {                                                                                              \
        begin();                                                                                   \
        name<T>(a);                                                                                \
    }

#endif
