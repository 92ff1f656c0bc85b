// norm.cu - group norm, layer norm and softmax. No sum depends on anything but the shapes: partial
// sums are added in a fixed order, never by atomics, which only count a launch's blocks.
#include "cuda/kernels/eight.cuh"
#include "cuda/kernels/group_norm.cuh"

// ---- group norm, in two launches: sums of pieces, then what the pieces say together

template <typename T, int N> __device__ void group_sums_at(const group_norm_args &a)
{
    DYNAMIC_SHARED(group_sum, each);
    piece b(a);
    left_sums<N> left(a, each);
    int channels = a.slab * b.width, mine = seen(b.count, threadIdx.y);
    for (int c = threadIdx.x * N; c < channels; c += blockDim.x * N) {
        source<T, N> from(a, b, b.channel + c);
        thread_sums<N> sums(halves<N>(c, b.width));
        pixels<T, N, 1> one;
        one.load(from, threadIdx.y, b.count);
        one.finish(from);
        sums.begin(one.x[0]);
        for (int k = 0; k < mine; k += BATCH) {
            pixels<T, N, BATCH> x;
            x.load(from, threadIdx.y + k * blockDim.y, b.count);
            x.finish(from);
            x.forget();
            sums.add(x, mine - k);
        }
        left.leave(c, sums);
    }
    __syncthreads();
    group_sum *to =
        at<group_sum>(a.partial) + ((long)b.image * a.chunks + blockIdx.x) * a.groups + b.group;
    teams(a.slab, [&](int g, const team &t) {
        group_sum all = left.join(b, g, t);
        if (t.first)
            to[g] = all;
    });
}

// Mean and 1 / deviation of the block's groups over the whole image, from the pieces.
__device__ void join_pieces(const group_norm_args &a, const piece &b, group_sum *of)
{
    float width = (float)b.width, count = (float)a.area * width;
    teams(a.slab, [&](int g, const team &t) {
        const group_sum *part =
            at<group_sum>(a.partial) + (long)b.image * a.chunks * a.groups + b.group + g;
        float mean = 0, spread = 0;
        for (int i = t.lane_id; i < a.chunks; i += t.lanes)
            mean += part[i * a.groups].mean * (float)min(a.chunk, a.area - i * a.chunk);
        mean = t.sum(mean) * width / count;
        for (int i = t.lane_id; i < a.chunks; i += t.lanes) {
            group_sum s = part[i * a.groups];
            float d = s.mean - mean;
            spread += s.spread + d * d * (float)min(a.chunk, a.area - i * a.chunk) * width;
        }
        spread = t.sum(spread);
        if (t.first)
            of[g] = { mean, rsqrtf(spread / count + a.eps) };
    });
}

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
        to.use(of, halves<N>(in, b.width));
        for (int first = last; first >= 0; first -= span) {
            if (first < last)
                x.load(from, first + threadIdx.y, b.count);
            x.finish(from);
            x.forget();
            to.template write<1>(x, first + threadIdx.y, b.count);
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

#define GROUP_KERNELS(name, threads, blocks)                                                       \
    GROUP_KERNEL(name, f32, float, threads, blocks)                                                \
    GROUP_KERNEL(name, bf16, bf16, threads, blocks)                                                \
    GROUP_KERNEL(name, f16, f16, threads, blocks)

// Three blocks fit a multiprocessor, so that all blocks of a launch run at once.
GROUP_KERNELS(group_sums, STREAMED_THREADS, 3)
GROUP_KERNELS(group_norm, STREAMED_THREADS, 3)

// ---- group norm in one launch, where its blocks hold the map in their registers

static __device__ meeting all_blocks;

template <typename T> __device__ __forceinline__ void group_norm_held(const group_norm_args &a)
{
    constexpr int N = WIDE<T>;
    DYNAMIC_SHARED(group_sum, each);
    piece b(a);
    int in = threadIdx.x * N;
    unsigned mark = next_mark(all_blocks.marks);
    left_sums<N> left(a, each);
    pixels<T, N, HELD> x;
    {
        source<T, N> from(a, b, b.channel + in);
        x.load(from, threadIdx.y, b.count);
        x.finish(from);
    }
    x.forget();
    target<T, N> to(a, b, b.channel + in);
    thread_sums<N> sums(halves<N>(in, b.width));
    sums.begin(x.x[0]);
    sums.add(x, seen(b.count, threadIdx.y));
    left.leave(in, sums);
    x.forget();
    meet(&all_blocks, mark, a, b, left, left.end());
    to.use(left.end(), sums.in);
    to.template write<2>(x, threadIdx.y, b.count);
}

GROUP_KERNELS(group_norm_held, STREAMED_THREADS, HELD_BLOCKS)

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

// At N channels from c on; 1 and 0 where they are in the weights of what follows.
template <int N>
__device__ __forceinline__ void ask_gains(const layer_norm_args &a, int c, float (&gain)[N],
                                          float (&offset)[N])
{
    if (a.gamma) {
        load_f32<N>(at<float>(a.gamma) + c, gain);
        load_f32<N>(at<float>(a.beta) + c, offset);
        return;
    }
    for (int i = 0; i < N; i++) {
        gain[i] = 1;
        offset[i] = 0;
    }
}

// The token stays in registers: K times 32 lanes times N numbers hold it. All loads are on their
// way before the first is used, but gains and offsets only where there are registers for them.
template <typename T, int N, int K> __device__ void layer_norm_held(const layer_norm_args &a, int p)
{
    const T *from = at<T>(a.x, p);
    constexpr int AHEAD = K * N <= 40 ? K : 1;
    lane<T, N> raw[K];
    float gain[AHEAD][N], offset[AHEAD][N], mean = 0, spread = 0;
#pragma unroll
    for (int k = 0; k < K; k++) {
        int c = (k * 32 + threadIdx.x) * N;
        raw[k] = {};
        if (c >= a.channels)
            continue;
        raw[k] = *reinterpret_cast<const lane<T, N> *>(from + c);
        if (AHEAD == K)
            ask_gains<N>(a, c, gain[k % AHEAD], offset[k % AHEAD]);
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
            ask_gains<N>(a, c, gain[0], offset[0]);
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
