// norm.cu - group norm, layer norm and softmax. No sum depends on anything but the shapes: there
// are no atomics, and partial sums are added in a fixed order.
#include "cuda/kernels/common.cuh"

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

    __device__ void read(int pixel, float (&x)[N]) const
    {
        load<T, N>(from + pixel * row, x);
        if (adds)
            for (int i = 0; i < N; i++)
                x[i] = rounded<T>(x[i] + add[i]);
    }
};

// How many of `count` pixels row y of the block's threads sees.
__device__ __forceinline__ int seen(int count, int y)
{
    return count > y ? (count - y - 1) / (int)blockDim.y + 1 : 0;
}

// Each thread: means and spreads of its channels, around the first value it sees, so that a mean
// far from zero costs no digits. They meet in shared memory: [threadIdx.y][channel].
template <typename T, int N>
__device__ void channel_sums(const group_norm_args &a, const piece &b, group_sum *each)
{
    int channels = a.slab * b.width;
    for (int c = threadIdx.x * N; c < channels; c += blockDim.x * N) {
        source<T, N> from(a, b, b.channel + c);
        float x[N], origin[N], sum[N], square[N];
        for (int i = 0; i < N; i++)
            origin[i] = sum[i] = square[i] = 0;
        if ((int)threadIdx.y < b.count)
            from.read(threadIdx.y, origin);
#pragma unroll 4
        for (int p = threadIdx.y; p < b.count; p += blockDim.y) {
            from.read(p, x);
            for (int i = 0; i < N; i++) {
                float d = x[i] - origin[i];
                sum[i] += d;
                square[i] += d * d;
            }
        }
        float over = 1.0f / (float)max(seen(b.count, threadIdx.y), 1);
        for (int i = 0; i < N; i++) {
            group_sum s = { origin[i] + sum[i] * over, square[i] - sum[i] * sum[i] * over };
            each[threadIdx.y * channels + c + i] = s;
        }
    }
}

// to[g]: what the channels of each group of the block say together.
__device__ void join_channels(const group_norm_args &a, const piece &b, const group_sum *each,
                              group_sum *to)
{
    int thread = threadIdx.y * blockDim.x + threadIdx.x, warps = blockDim.x * blockDim.y / 32;
    int lane_id = thread % 32, channels = a.slab * b.width, entries = b.width * blockDim.y;
    if (thread >= warps * 32)
        return;
    for (int g = thread / 32; g < a.slab; g += warps) { // a whole warp for each group
        float mean = 0, spread = 0, count = (float)b.count * b.width;
        for (int e = lane_id; e < entries; e += 32)
            mean += each[e / b.width * channels + g * b.width + e % b.width].mean *
                    (float)seen(b.count, e / b.width);
        mean = warp_sum(mean) / count;
        for (int e = lane_id; e < entries; e += 32) {
            group_sum s = each[e / b.width * channels + g * b.width + e % b.width];
            float d = s.mean - mean;
            spread += s.spread + d * d * (float)seen(b.count, e / b.width);
        }
        spread = warp_sum(spread);
        if (lane_id == 0)
            to[g] = { mean, spread };
    }
}

template <typename T, int N> __device__ void group_sums_at(const group_norm_args &a)
{
    DYNAMIC_SHARED(group_sum, each);
    piece b(a);
    channel_sums<T, N>(a, b, each);
    __syncthreads();
    long chunk = (long)b.image * a.chunks + blockIdx.x;
    join_channels(a, b, each, at<group_sum>(a.partial) + chunk * a.groups + b.group);
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

template <typename T, int N> __device__ void group_norm_at(const group_norm_args &a)
{
    DYNAMIC_SHARED(group_sum, of);
    piece b(a);
    join_pieces(a, b, of);
    __syncthreads();
    for (int in = threadIdx.x * N; in < a.slab * b.width; in += blockDim.x * N) {
        int c = b.channel + in;
        source<T, N> from(a, b, c);
        T *out = at<T>(a.out, (long)b.image * a.area + b.first) + c;
        float x[N], mean[N], gain[N], offset[N];
        load_f32<N>(at<float>(a.gamma) + c, gain);
        load_f32<N>(at<float>(a.beta) + c, offset);
        for (int i = 0; i < N; i++) {
            group_sum s = of[(in + i) / b.width];
            mean[i] = s.mean;
            gain[i] *= s.spread;
        }
#pragma unroll 2
        for (int p = threadIdx.y; p < b.count; p += blockDim.y) {
            from.read(p, x);
            for (int i = 0; i < N; i++) {
                float y = (x[i] - mean[i]) * gain[i] + offset[i];
                x[i] = a.act == SILU ? swish(y, 1.0f) : y;
            }
            store<T, N>(out + p * a.out.row, x);
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

FOR_EVERY_TYPE(group_sums, group_norm_args)
FOR_EVERY_TYPE(group_norm, group_norm_args)

// ---- group norm in one launch, for maps that the registers of a few blocks hold
//
// The blocks of an image and its groups form a cluster (9.0 and later): each reads its pixels once,
// keeps them, and reads the others' sums from their shared memory.

template <typename T> struct held_pixels {
    static constexpr int N = WIDE<T>;
    lane<T, N> x[HELD];

    // All loads are on their way before the first is used.
    __device__ __forceinline__ void read(const source<T, N> &from, int count)
    {
#pragma unroll
        for (int k = 0; k < HELD; k++) {
            int p = threadIdx.y + k * blockDim.y;
            x[k] = {};
            if (p < count)
                x[k] = *reinterpret_cast<const lane<T, N> *>(from.from + p * from.row);
        }
        if (!from.adds)
            return;
#pragma unroll
        for (int k = 0; k < HELD; k++)
#pragma unroll
            for (int i = 0; i < N; i++)
                x[k].v[i] = from_float<T>(to_float(x[k].v[i]) + from.add[i]);
    }

    // What follows converts the numbers again instead of keeping them as floats, of which there are
    // not registers enough.
    __device__ __forceinline__ void forget()
    {
#pragma unroll
        for (int k = 0; k < HELD; k++)
            ::forget(*reinterpret_cast<uint4 *>(&x[k]));
    }

    // each[i]: mean and spread of channel i of the thread
    __device__ __forceinline__ void sums(int count, group_sum *each) const
    {
        int mine = seen(count, threadIdx.y);
        float over = 1.0f / (float)max(mine, 1), mean[N] = {}, spread[N] = {};
#pragma unroll
        for (int k = 0; k < HELD; k++)
            if (k < mine)
#pragma unroll
                for (int i = 0; i < N; i++)
                    mean[i] += to_float(x[k].v[i]);
#pragma unroll
        for (int i = 0; i < N; i++)
            mean[i] *= over;
#pragma unroll
        for (int k = 0; k < HELD; k++)
            if (k < mine)
#pragma unroll
                for (int i = 0; i < N; i++)
                    spread[i] += (to_float(x[k].v[i]) - mean[i]) * (to_float(x[k].v[i]) - mean[i]);
#pragma unroll
        for (int i = 0; i < N; i++)
            each[i] = { mean[i], spread[i] };
    }
};

// of[g]: mean and 1 / deviation over all blocks of the cluster.
template <int BLOCKS>
__device__ __forceinline__ void join_blocks(const group_norm_args &a, const piece &b,
                                            group_sum *part, group_sum *of)
{
    float width = (float)b.width, count = (float)a.area * width;
    for (int g = threadIdx.y * blockDim.x + threadIdx.x; g < a.slab; g += blockDim.x * blockDim.y) {
        group_sum s[BLOCKS];
        float mean = 0, spread = 0;
#pragma unroll
        for (int r = 0; r < BLOCKS; r++)
            s[r] = BLOCKS > 1 ? *of_block(part + g, r) : part[g];
#pragma unroll
        for (int r = 0; r < BLOCKS; r++)
            mean += s[r].mean * (float)min(a.chunk, a.area - r * a.chunk);
        mean *= width / count;
#pragma unroll
        for (int r = 0; r < BLOCKS; r++) {
            float d = s[r].mean - mean;
            spread += s[r].spread + d * d * (float)min(a.chunk, a.area - r * a.chunk) * width;
        }
        of[g] = { mean, rsqrtf(spread / count + a.eps) };
    }
}

template <typename T, int BLOCKS>
__device__ __forceinline__ void group_norm_held(const group_norm_args &a)
{
    constexpr int N = WIDE<T>;
    DYNAMIC_SHARED(group_sum, each); // [threadIdx.y][channel], then of each group: part, of
    piece b(a);
    int channels = a.slab * b.width, in = threadIdx.x * N, c = b.channel + in;
    group_sum *part = each + blockDim.y * channels, *of = part + a.slab;
    held_pixels<T> held;
    held.read(source<T, N>(a, b, c), b.count);
    held.forget();
    float mean[N], gain[N], offset[N];
    load_f32<N>(at<float>(a.gamma) + c, gain);
    load_f32<N>(at<float>(a.beta) + c, offset);
    held.sums(b.count, each + threadIdx.y * channels + in);
    held.forget();
    __syncthreads();
    join_channels(a, b, each, part);
    if (BLOCKS > 1) {
        cluster_arrive();
        cluster_wait();
    } else {
        __syncthreads();
    }
    join_blocks<BLOCKS>(a, b, part, of);
    if (BLOCKS > 1)
        cluster_arrive(); // the others' sums have been read
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; i++) {
        group_sum s = of[(in + i) / b.width];
        mean[i] = s.mean;
        gain[i] *= s.spread;
    }
    T *out = at<T>(a.out, (long)b.image * a.area + b.first) + c;
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        int p = threadIdx.y + k * blockDim.y;
        if (p >= b.count)
            break;
        float x[N];
#pragma unroll
        for (int i = 0; i < N; i++) {
            float y = (to_float(held.x[k].v[i]) - mean[i]) * gain[i] + offset[i];
            x[i] = a.act == SILU ? swish(y, 1.0f) : y;
        }
        store<T, N>(out + p * a.out.row, x);
    }
    if (BLOCKS > 1)
        cluster_wait(); // no block may leave while another reads from it
}

#define GROUP_NORM_HELD(blocks, type, T)                                                           \
    extern "C" __global__ void CLUSTER(blocks) __launch_bounds__(HELD_THREADS, 1)                  \
        group_norm##blocks##_##type(const group_norm_args a)                                       \
    {                                                                                              \
        group_norm_held<T, blocks>(a);                                                             \
    }
#define GROUP_NORM_EVERY(blocks)                                                                   \
    GROUP_NORM_HELD(blocks, f32, float)                                                            \
    GROUP_NORM_HELD(blocks, bf16, bf16)                                                            \
    GROUP_NORM_HELD(blocks, f16, f16)

GROUP_NORM_EVERY(1)
GROUP_NORM_EVERY(2)
GROUP_NORM_EVERY(4)
GROUP_NORM_EVERY(8)

// ---- layer norm: a warp for each token

// The token stays in registers: K times 32 lanes times N numbers hold it.
template <typename T, int N, int K> __device__ void layer_norm_held(const layer_norm_args &a, int p)
{
    const T *from = at<T>(a.x, p);
    T *to = at<T>(a.out, p);
    float x[K][N], gain[N], offset[N], mean = 0, spread = 0;
#pragma unroll
    for (int k = 0; k < K; k++) {
        int c = (k * 32 + threadIdx.x) * N;
        for (int i = 0; i < N; i++)
            x[k][i] = 0;
        if (c < a.channels)
            load<T, N>(from + c, x[k]);
        for (int i = 0; i < N; i++)
            mean += x[k][i];
    }
    mean = warp_sum(mean) / (float)a.channels;
#pragma unroll
    for (int k = 0; k < K; k++)
        if ((int)(k * 32 + threadIdx.x) * N < a.channels)
            for (int i = 0; i < N; i++)
                spread += (x[k][i] - mean) * (x[k][i] - mean);
    float scale = rsqrtf(warp_sum(spread) / (float)a.channels + a.eps);
#pragma unroll
    for (int k = 0; k < K; k++) {
        int c = (k * 32 + threadIdx.x) * N;
        if (c >= a.channels)
            break;
        load_f32<N>(at<float>(a.gamma) + c, gain);
        load_f32<N>(at<float>(a.beta) + c, offset);
        for (int i = 0; i < N; i++)
            x[k][i] = (x[k][i] - mean) * scale * gain[i] + offset[i];
        store<T, N>(to + c, x[k]);
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
    for (int c = threadIdx.x; c < a.channels; c += 32)
        to[c] = from_float<T>((to_float(from[c]) - mean) * scale * at<float>(a.gamma)[c] +
                              at<float>(a.beta)[c]);
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
    else if (a.vector && a.channels <= 1280 && N == 4)
        layer_norm_held<T, N, 40 / N>(a, p);
    else
        layer_norm_any<T>(a, p);
}

FOR_EVERY_TYPE(layer_norm, layer_norm_args)

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
