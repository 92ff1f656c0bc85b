// norm.cu - group norm, layer norm and softmax. No sum depends on anything but the shapes: there
// are no atomics, and partial sums are added in a fixed order.
#include "cuda/kernels/eight.cuh"

// ---- group norm, in two launches: sums of pieces, then what the pieces say together
//
// A block has some pixels of an image (blockIdx.x) and some whole groups (blockIdx.y).

struct piece {
    int image, first, count;   // pixels
    int group, channel, width; // the first ones; channels of a group

    __device__ piece(const group_norm_args &a)
    {
        image = blockIdx.z;
        first = blockIdx.x * a.chunk;
        count = min(a.chunk, a.area - first);
        width = a.channels / a.groups;
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

    __device__ source(const group_norm_args &a, const piece &b, int c)
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

// Means and spreads of a thread's channels over the pixels seen so far.
template <typename T, int N> struct channel_sums {
    float seen, mean[N], spread[N];

    __device__ __forceinline__ channel_sums() : seen(0)
    {
        for (int i = 0; i < N; i++)
            mean[i] = spread[i] = 0;
    }

    // The first `count` of K pixels, by themselves around their own mean, and then joined (Chan,
    // Golub and LeVeque): a mean far from zero costs no digits.
    template <int K> __device__ __forceinline__ void add(pixels<T, N, K> &p, int count)
    {
        if (count <= 0)
            return;
        float over = 1.0f / (float)min(count, K), all = seen + (float)min(count, K);
        float share = (float)min(count, K) / all, both = seen * share;
        float now[N] = {}, around[N] = {};
#pragma unroll
        for (int k = 0; k < K; k++)
            if (k < count)
#pragma unroll
                for (int i = 0; i < N; i++)
                    now[i] += to_float(p.x[k].v[i]);
#pragma unroll
        for (int i = 0; i < N; i++)
            now[i] *= over;
        p.forget();
#pragma unroll
        for (int k = 0; k < K; k++)
            if (k < count)
#pragma unroll
                for (int i = 0; i < N; i++)
                    around[i] +=
                        (to_float(p.x[k].v[i]) - now[i]) * (to_float(p.x[k].v[i]) - now[i]);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float d = now[i] - mean[i];
            mean[i] += d * share;
            spread[i] += around[i] + d * d * both;
        }
        seen = all;
    }
};

// How many of `count` pixels are the q-th of `parts` in turn.
__device__ __forceinline__ float share_of(int count, int q, int parts)
{
    return count > q ? (float)((count - q - 1) / parts + 1) : 0;
}

// to[g]: what each[threadIdx.y][channel] say together for each group of the block. First the rows
// of each channel are joined, as many threads at it as there are N-th parts of the block; then a
// warp joins the channels of a group.
template <int N>
__device__ void join_channels(const group_norm_args &a, const piece &b, group_sum *each,
                              group_sum *to)
{
    int thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
    int rows = blockDim.y, parts = rows % N ? 1 : rows / N, channels = a.slab * b.width;
    int fewest = b.count / rows, more = b.count % rows;
    for (int t = thread; t < channels * parts; t += threads) {
        float over = 1.0f / fmaxf(share_of(b.count, t / channels, parts), 1);
        group_sum all = { 0, 0 };
        for (int r = t / channels, e = t; r < rows; r += parts, e += parts * channels)
            all.mean += each[e].mean * (float)(fewest + (r < more));
        all.mean *= over;
        for (int r = t / channels, e = t; r < rows; r += parts, e += parts * channels) {
            float d = each[e].mean - all.mean;
            all.spread += each[e].spread + d * d * (float)(fewest + (r < more));
        }
        each[t] = all;
    }
    __syncthreads();
    int lane_id = thread % 32, warps = threads / 32;
    for (int g = thread / 32; g < a.slab && thread < warps * 32; g += warps) {
        group_sum all = { 0, 0 };
        for (int e = lane_id; e < b.width * parts; e += 32)
            all.mean += each[e / b.width * channels + g * b.width + e % b.width].mean *
                        share_of(b.count, e / b.width, parts);
        all.mean = warp_sum(all.mean) / ((float)b.count * b.width);
        for (int e = lane_id; e < b.width * parts; e += 32) {
            group_sum s = each[e / b.width * channels + g * b.width + e % b.width];
            float d = s.mean - all.mean;
            all.spread += s.spread + d * d * share_of(b.count, e / b.width, parts);
        }
        all.spread = warp_sum(all.spread);
        if (lane_id == 0)
            to[g] = all;
    }
}

enum { BATCH = 4 }; // pixels that a thread loads at once

template <typename T, int N> __device__ void group_sums_at(const group_norm_args &a)
{
    DYNAMIC_SHARED(group_sum, each);
    piece b(a);
    int channels = a.slab * b.width, mine = seen(b.count, threadIdx.y);
    for (int c = threadIdx.x * N; c < channels; c += blockDim.x * N) {
        source<T, N> from(a, b, b.channel + c);
        channel_sums<T, N> sums;
        for (int k = 0; k < mine; k += BATCH) {
            pixels<T, N, BATCH> x;
            x.load(from, threadIdx.y + k * blockDim.y, b.count);
            x.finish(from);
            sums.add(x, mine - k);
        }
        for (int i = 0; i < N; i++)
            each[threadIdx.y * channels + c + i] = { sums.mean[i], sums.spread[i] };
    }
    __syncthreads();
    long chunk = (long)b.image * a.chunks + blockIdx.x;
    join_channels<N>(a, b, each, at<group_sum>(a.partial) + chunk * a.groups + b.group);
}

// Mean and 1 / deviation of the block's groups over the whole image, from the pieces.
__device__ void join_pieces(const group_norm_args &a, const piece &b, group_sum *of)
{
    int thread = threadIdx.y * blockDim.x + threadIdx.x, warps = blockDim.x * blockDim.y / 32;
    int lane_id = thread % 32;
    float width = (float)b.width, count = (float)a.area * width;
    if (thread >= warps * 32)
        return;
    for (int g = thread / 32; g < a.slab; g += warps) {
        const group_sum *part =
            at<group_sum>(a.partial) + (long)b.image * a.chunks * a.groups + b.group + g;
        float mean = 0, spread = 0;
        for (int i = lane_id; i < a.chunks; i += 32)
            mean += part[i * a.groups].mean * (float)min(a.chunk, a.area - i * a.chunk);
        mean = warp_sum(mean) * width / count;
        for (int i = lane_id; i < a.chunks; i += 32) {
            group_sum s = part[i * a.groups];
            float d = s.mean - mean;
            spread += s.spread + d * d * (float)min(a.chunk, a.area - i * a.chunk) * width;
        }
        spread = warp_sum(spread);
        if (lane_id == 0) {
            of[g].mean = mean;
            of[g].spread = rsqrtf(spread / count + a.eps);
        }
    }
}

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

    // of: mean and 1 / deviation of the block's groups; in: the first channel, within the block.
    // 16-bit numbers have too few digits for the mean to cost any when it is part of the offset.
    __device__ __forceinline__ void use(const group_sum *of, int in, int width)
    {
#pragma unroll
        for (int i = 0; i < N; i++) {
            group_sum s = of[(in + i) / width];
            gain[i] *= s.spread;
            mean[i] = sizeof(T) == 2 ? 0 : s.mean;
            offset[i] -= sizeof(T) == 2 ? s.mean * gain[i] : 0;
        }
    }

    template <int K>
    __device__ __forceinline__ void write(const pixels<T, N, K> &x, int first, int count) const
    {
#pragma unroll
        for (int k = 0; k < K; k++) {
            int p = first + k * blockDim.y;
            if (p >= count)
                break;
            float y[N];
#pragma unroll
            for (int i = 0; i < N; i++) {
                float from_mean = to_float(x.x[k].v[i]) - (sizeof(T) == 2 ? 0 : mean[i]);
                y[i] = from_mean * gain[i] + offset[i];
                y[i] = silu ? swish(y[i], 1.0f) : y[i];
            }
            store<T, N>(to + p * row, y);
        }
    }
};

// Backwards: what the other kernel read last is still in the cache. The first pixels are on their
// way while the sums are joined.
template <typename T, int N> __device__ void group_norm_at(const group_norm_args &a)
{
    DYNAMIC_SHARED(group_sum, of);
    piece b(a);
    int channels = a.slab * b.width, span = BATCH * blockDim.y, last = (b.count - 1) / span * span;
    bool joined = false;
    for (int turn = 0; turn < channels; turn += blockDim.x * N) {
        int in = min(turn + (int)threadIdx.x * N, channels - N);
        source<T, N> from(a, b, b.channel + in);
        pixels<T, N, BATCH> x;
        x.load(from, last + threadIdx.y, b.count);
        if (!joined) {
            join_pieces(a, b, of);
            __syncthreads();
            joined = true;
        }
        if (turn + (int)threadIdx.x * N >= channels)
            break;
        target<T, N> to(a, b, b.channel + in);
        to.use(of, in, b.width);
        for (int first = last; first >= 0; first -= span) {
            if (first < last)
                x.load(from, first + threadIdx.y, b.count);
            x.finish(from);
            x.forget();
            to.write(x, first + threadIdx.y, b.count);
        }
    }
}

template <typename T> __device__ __forceinline__ void group_sums(const group_norm_args &a)
{
    if (a.vector)
        group_sums_at<T, WIDE<T>>(a);
    else
        group_sums_at<T, 1>(a);
}

template <typename T> __device__ __forceinline__ void group_norm(const group_norm_args &a)
{
    if (a.vector)
        group_norm_at<T, WIDE<T>>(a);
    else
        group_norm_at<T, 1>(a);
}

// Three blocks fit a multiprocessor, so that all blocks of a launch run at once.
#define STREAMED(name, type, T)                                                                    \
    extern "C" __global__ void __launch_bounds__(STREAMED_THREADS, 3)                              \
        name##_##type(const group_norm_args a)                                                     \
    {                                                                                              \
        begin();                                                                                   \
        name<T>(a);                                                                                \
    }
#define STREAMED_EVERY(name)                                                                       \
    STREAMED(name, f32, float)                                                                     \
    STREAMED(name, bf16, bf16)                                                                     \
    STREAMED(name, f16, f16)

STREAMED_EVERY(group_sums)
STREAMED_EVERY(group_norm)

// ---- group norm in one launch, where its blocks hold the map in their registers
//
// The blocks that share an image's groups meet in the middle: each leaves its sums, waits for the
// others', and writes what it kept. The launch sees to it that all of them run at once.

enum { MEETINGS = 256 }; // of a launch; as many as there are blocks at most

__device__ unsigned meetings[2 * MEETINGS];

template <typename T> __device__ __forceinline__ void group_norm_held(const group_norm_args &a)
{
    constexpr int N = WIDE<T>;
    DYNAMIC_SHARED(group_sum, each); // [threadIdx.y][channel], then of each group
    piece b(a);
    int channels = a.slab * b.width, in = threadIdx.x * N;
    group_sum *of = each + blockDim.y * channels;
    pixels<T, N, HELD> x;
    {
        source<T, N> from(a, b, b.channel + in);
        x.load(from, threadIdx.y, b.count);
        x.finish(from);
    }
    x.forget();
    target<T, N> to(a, b, b.channel + in);
    {
        channel_sums<T, N> sums;
        sums.add(x, seen(b.count, threadIdx.y));
#pragma unroll
        for (int i = 0; i < N; i++)
            each[threadIdx.y * channels + in + i] = { sums.mean[i], sums.spread[i] };
    }
    x.forget();
    __syncthreads();
    long chunk = (long)b.image * a.chunks + blockIdx.x;
    join_channels<N>(a, b, each, at<group_sum>(a.partial) + chunk * a.groups + b.group);
    meet(meetings + 2 * (blockIdx.z * gridDim.y + blockIdx.y), gridDim.x);
    join_pieces(a, b, of);
    __syncthreads();
    to.use(of, in, b.width);
    to.write(x, threadIdx.y, b.count);
}

#define HOLDING(type, T)                                                                           \
    extern "C" __global__ void __launch_bounds__(STREAMED_THREADS, HELD_BLOCKS)                    \
        group_norm_held_##type(const group_norm_args a)                                            \
    {                                                                                              \
        begin();                                                                                   \
        group_norm_held<T>(a);                                                                     \
    }

HOLDING(f32, float)
HOLDING(bf16, bf16)
HOLDING(f16, f16)

// ---- layer norm: a warp for each token

// The normed token as e4m3, rounded first as it would have been stored.
template <typename T, int N, int K>
__device__ __forceinline__ void token_eight(const layer_norm_args &a, int p, float (&x)[K][N])
{
    unsigned char *to = at<unsigned char>(a.out.data) + (long)p * a.channels;
    float most = LEAST_MOST;
#pragma unroll
    for (int k = 0; k < K; k++) { // past the end are zeros
        for (int i = 0; i < N; i++)
            x[k][i] = rounded<T>(x[k][i]);
        most = greatest(most, x[k]);
    }
    most = warp_max(most);
#pragma unroll
    for (int k = 0; k < K; k++) {
        int c = (k * 32 + threadIdx.x) * N;
        if (c < a.channels)
            store_eight(to + c, x[k], most);
    }
    if (threadIdx.x == 0)
        at<float>(a.scales)[p] = scale_of(most);
}

// The token stays in registers: K times 32 lanes times N numbers hold it. All loads are on their
// way before the first is used, but gains and offsets only where there are registers for them.
template <typename T, int N, int K> __device__ void layer_norm_held(const layer_norm_args &a, int p)
{
    const T *from = at<T>(a.x, p);
    constexpr int AHEAD = K * N <= 40 ? K : 1;
    lane<T, N> raw[K];
    float gain[AHEAD][N], offset[AHEAD][N], mean = 0, spread = 0;
    auto ask = [&](int k, int c) {
        if (a.gamma) {
            load_f32<N>(at<float>(a.gamma) + c, gain[k]);
            load_f32<N>(at<float>(a.beta) + c, offset[k]);
            return;
        }
        for (int i = 0; i < N; i++) {
            gain[k][i] = 1;
            offset[k][i] = 0;
        }
    };
#pragma unroll
    for (int k = 0; k < K; k++) {
        int c = (k * 32 + threadIdx.x) * N;
        raw[k] = {};
        if (c >= a.channels)
            continue;
        raw[k] = *reinterpret_cast<const lane<T, N> *>(from + c);
        if (AHEAD == K)
            ask(k % AHEAD, c);
    }
#pragma unroll
    for (int k = 0; k < K; k++)
        for (int i = 0; i < N; i++)
            mean += to_float(raw[k].v[i]);
    mean = warp_sum(mean) / (float)a.channels;
#pragma unroll
    for (int k = 0; k < K; k++)
        if ((int)(k * 32 + threadIdx.x) * N < a.channels)
            for (int i = 0; i < N; i++)
                spread += (to_float(raw[k].v[i]) - mean) * (to_float(raw[k].v[i]) - mean);
    float scale = rsqrtf(warp_sum(spread) / (float)a.channels + a.eps);
    auto normed = [&](int k, float(&y)[N]) {
        int c = (k * 32 + threadIdx.x) * N;
        if (c >= a.channels)
            return false;
        if (AHEAD < K)
            ask(0, c);
        for (int i = 0; i < N; i++)
            y[i] =
                (to_float(raw[k].v[i]) - mean) * scale * gain[k % AHEAD][i] + offset[k % AHEAD][i];
        return true;
    };
    if (a.scales) {
        float x[K][N] = {};
#pragma unroll
        for (int k = 0; k < K; k++)
            normed(k, x[k]);
        token_eight<T, N, K>(a, p, x);
        return;
    }
#pragma unroll
    for (int k = 0; k < K; k++) {
        float y[N];
        if (normed(k, y))
            store<T, N>(at<T>(a.out, p) + (k * 32 + threadIdx.x) * N, y);
    }
}

// Any width, read three times.
template <typename T> __device__ void layer_norm_any(const layer_norm_args &a, int p)
{
    const T *from = at<T>(a.x, p);
    T *to = at<T>(a.out, p);
    float mean = 0, spread = 0;
    for (int c = threadIdx.x; c < a.channels; c += 32)
        mean += to_float(from[c]);
    mean = warp_sum(mean) / (float)a.channels;
    for (int c = threadIdx.x; c < a.channels; c += 32)
        spread += (to_float(from[c]) - mean) * (to_float(from[c]) - mean);
    float scale = rsqrtf(warp_sum(spread) / (float)a.channels + a.eps);
    for (int c = threadIdx.x; c < a.channels; c += 32) {
        float gain = a.gamma ? at<float>(a.gamma)[c] : 1;
        float offset = a.beta ? at<float>(a.beta)[c] : 0;
        to[c] = from_float<T>((to_float(from[c]) - mean) * scale * gain + offset);
    }
}

template <typename T> __device__ __forceinline__ void layer_norm(const layer_norm_args &a)
{
    constexpr int N = WIDE<T>;
    int p = blockIdx.x * blockDim.y + threadIdx.y;
    if (p >= a.pixels)
        return;
    if (a.vector && a.channels <= 2 * 32 * N)
        layer_norm_held<T, N, 2>(a, p);
    else if (a.vector && a.channels <= 5 * 32 * N)
        layer_norm_held<T, N, 5>(a, p);
    else if (a.vector && a.channels <= 32 * 64)
        layer_norm_held<T, N, 64 / N>(a, p);
    else
        layer_norm_any<T>(a, p);
}

// Four blocks on a multiprocessor, so that 2048 tokens are at work at once on the largest cards.
#define LAYER_NORM(type, T)                                                                        \
    extern "C" __global__ void __launch_bounds__(32 * TOKENS, 4)                                   \
        layer_norm_##type(const layer_norm_args a)                                                 \
    {                                                                                              \
        begin();                                                                                   \
        layer_norm<T>(a);                                                                          \
    }

LAYER_NORM(f32, float)
LAYER_NORM(bf16, bf16)
LAYER_NORM(f16, f16)

// ---- softmax: a block for each row of f32 scores, which it reads twice (the second time from a
// cache)

// The greatest of some scores, and the sum of their powers relative to it. Differences are taken
// before they are scaled: they are exact where they matter.
struct powers {
    float most, sum;
};

__device__ __forceinline__ powers join(powers x, powers y, float scale)
{
    float most = fmaxf(x.most, y.most);
    if (most == -INFINITY)
        return x;
    return { most, x.sum * expf((x.most - most) * scale) + y.sum * expf((y.most - most) * scale) };
}

template <typename T, int N> __device__ void softmax_at(const softmax_args &a)
{
    __shared__ powers warps[32];
    const float *from = at<float>(a.scores) + (long)blockIdx.x * a.columns;
    T *to = at<T>(a.out) + (long)blockIdx.x * a.columns;
    powers all = { -INFINITY, 0 };
    float x[N];
    for (long c = (long)threadIdx.x * N; c < a.columns; c += blockDim.x * N) {
        load_f32<N>(from + c, x);
        powers some = { x[0], 0 };
        for (int i = 1; i < N; i++)
            some.most = fmaxf(some.most, x[i]);
        for (int i = 0; i < N; i++)
            some.sum += expf((x[i] - some.most) * a.scale);
        all = join(all, some, a.scale);
    }
    for (int step = 16; step; step /= 2) {
        powers other = { __shfl_xor_sync(0xffffffffu, all.most, step),
                         __shfl_xor_sync(0xffffffffu, all.sum, step) };
        all = join(all, other, a.scale);
    }
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = all;
    __syncthreads();
    all = warps[0];
    for (int i = 1; i < (int)blockDim.x / 32; i++)
        all = join(all, warps[i], a.scale);
    float over = 1.0f / all.sum;
    for (long c = (long)threadIdx.x * N; c < a.columns; c += blockDim.x * N) {
        load_f32<N>(from + c, x);
        for (int i = 0; i < N; i++)
            x[i] = expf((x[i] - all.most) * a.scale) * over;
        store<T, N>(to + c, x);
    }
}

template <typename T> __device__ __forceinline__ void softmax(const softmax_args &a)
{
    if (a.vector)
        softmax_at<T, WIDE<T>>(a);
    else
        softmax_at<T, 1>(a);
}

FOR_EVERY_TYPE(softmax, softmax_args)
