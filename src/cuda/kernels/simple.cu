// simple.cu - kernels that move or combine what lies at one pixel.
//
// A block is a few rows of threads: threadIdx.x walks over the channels of a pixel, N at once,
// threadIdx.y over pixels. Rows are dense in nearly every call, so that a warp reads 512 bytes in a
// row however few the channels are.
#include "cuda/kernels/common.cuh"

// Calls body(pixel, first channel) for the thread's part of pixels x channels.
template <int N, typename F> __device__ __forceinline__ void each(int pixels, int channels, F body)
{
    for (int p = blockIdx.x * blockDim.y + threadIdx.y; p < pixels; p += gridDim.x * blockDim.y)
        for (int c = threadIdx.x * N; c < channels; c += blockDim.x * N)
            body(p, c);
}

template <typename T, int N> __device__ __forceinline__ void copy(const T *from, T *to)
{
    *reinterpret_cast<lane<T, N> *>(to) = *reinterpret_cast<const lane<T, N> *>(from);
}

template <typename T, int N> __device__ void finish_at(const finish_args &a)
{
    each<N>(a.pixels, a.channels, [&](int p, int c) {
        float x[N], y[N];
        load<T, N>(at<T>(a.x, p) + c, x);
        if (a.bias) {
            load<T, N>(at<T>(a.bias) + c, y);
            for (int i = 0; i < N; i++)
                x[i] += y[i];
        }
        if (a.shift.data) {
            load<T, N>(at<T>(a.shift, p / a.area) + c, y);
            for (int i = 0; i < N; i++)
                x[i] += y[i];
        }
        activate<N>(a.act, x);
        if (a.residual.data) {
            load<T, N>(at<T>(a.residual, p) + c, y);
            for (int i = 0; i < N; i++)
                x[i] += y[i];
        }
        store<T, N>(at<T>(a.out, p) + c, x);
    });
}

template <typename T, int N> __device__ void geglu_at(const geglu_args &a)
{
    each<N>(a.pixels, a.channels, [&](int p, int c) {
        float x[N], gate[N];
        load<T, N>(at<T>(a.x, p) + c, x);
        load<T, N>(at<T>(a.x, p) + a.channels + c, gate);
        for (int i = 0; i < N; i++)
            x[i] *= gelu(gate[i]);
        store<T, N>(at<T>(a.out, p) + c, x);
    });
}

template <typename T, int N> __device__ void upsample_at(const upsample_args &a)
{
    each<N>(a.images * a.out_h * a.out_w, a.channels, [&](int p, int c) {
        int v = p % a.out_w, y = p / a.out_w % a.out_h, n = p / a.out_w / a.out_h;
        long from = ((long)n * a.h + (long)y * a.h / a.out_h) * a.w + (long)v * a.w / a.out_w;
        copy<T, N>(at<T>(a.x, from) + c, at<T>(a.out, p) + c);
    });
}

template <typename T, int N> __device__ void concat_at(const concat_args &a)
{
    each<N>(a.pixels, a.channels, [&](int p, int c) {
        const T *from = c < a.split ? at<T>(a.a, p) + c : at<T>(a.b, p) + c - a.split;
        copy<T, N>(from, at<T>(a.out, p) + c);
    });
}

template <typename T, int N> __device__ void repeat_at(const repeat_args &a)
{
    each<N>(a.pixels, a.channels, [&](int p, int c) {
        for (int i = 0; i < a.copies; i++)
            copy<T, N>(at<T>(a.x, p) + c, at<T>(a.out, p + (long)i * a.pixels) + c);
    });
}

template <typename T, int N> __device__ void embed_at(const gather_args &a)
{
    each<N>(a.pixels, a.channels, [&](int p, int c) {
        long id = *at<int>(a.x, p);
        copy<T, N>(at<T>(a.table) + id * a.channels + c, at<T>(a.out, p) + c);
    });
}

template <typename T, int N> __device__ void position_at(const gather_args &a)
{
    each<N>(a.pixels, a.channels, [&](int p, int c) {
        float x[N], y[N];
        load<T, N>(at<T>(a.x, p) + c, x);
        load<T, N>(at<T>(a.table) + (long)(p % a.area) * a.channels + c, y);
        for (int i = 0; i < N; i++)
            x[i] += y[i];
        store<T, N>(at<T>(a.out, p) + c, x);
    });
}

template <typename T, int N> __device__ void prepend_at(const gather_args &a)
{
    each<N>(a.pixels, a.channels, [&](int p, int c) {
        int n = p / a.area, v = p % a.area;
        const T *from = v ? at<T>(a.x, (long)n * a.x_area + v - 1) : at<T>(a.table);
        copy<T, N>(from + c, at<T>(a.out, p) + c);
    });
}

template <typename T, int N> __device__ void row_at(const gather_args &a) // table: the indices
{
    each<N>(a.pixels, a.channels, [&](int p, int c) {
        long from = (long)p * a.x_area + at<int>(a.table)[p];
        copy<T, N>(at<T>(a.x, from) + c, at<T>(a.out, p) + c);
    });
}

template <typename T, int N> __device__ void from_f32_at(const cast_args &a)
{
    each<N>(a.pixels, a.channels, [&](int p, int c) {
        float x[N];
        load_f32<N>(at<float>(a.dense) + (long)p * a.channels + c, x);
        store<T, N>(at<T>(a.x, p) + c, x);
    });
}

template <typename T, int N> __device__ void to_f32_at(const cast_args &a)
{
    each<N>(a.pixels, a.channels, [&](int p, int c) {
        float x[N];
        load<T, N>(at<T>(a.x, p) + c, x);
        store_f32<N>(at<float>(a.dense) + (long)p * a.channels + c, x);
    });
}

// f_i = 10000^(-i / (half - shift)) as the reference computes it: the exponent in f32, the power
// correctly rounded. A thousand radians magnify its last bit.
template <typename T> __device__ void timestep(const timestep_args &a)
{
    int half = a.dim / 2, n = blockIdx.x / a.numbers, j = blockIdx.x % a.numbers;
    float number = at<float>(a.x, n)[j];
    T *out = at<T>(a.out, n) + (long)j * a.dim;
    for (int i = threadIdx.x; i < half; i += blockDim.x) {
        float power = __fdiv_rn(__fmul_rn(-9.21034037f, (float)i), (float)half - a.shift);
        float angle = __fmul_rn(number, (float)exp((double)power));
        out[i + (a.flip ? half : 0)] = from_float<T>(sinf(angle));
        out[i + (a.flip ? 0 : half)] = from_float<T>(cosf(angle));
    }
}

#define WIDE_OR_NOT(name, args)                                                                    \
    template <typename T> __device__ __forceinline__ void name(const args &a)                      \
    {                                                                                              \
        if (a.vector)                                                                              \
            name##_at<T, WIDE<T>>(a);                                                              \
        else                                                                                       \
            name##_at<T, 1>(a);                                                                    \
    }                                                                                              \
    FOR_EVERY_TYPE(name, args)

WIDE_OR_NOT(finish, finish_args)
WIDE_OR_NOT(geglu, geglu_args)
WIDE_OR_NOT(upsample, upsample_args)
WIDE_OR_NOT(concat, concat_args)
WIDE_OR_NOT(repeat, repeat_args)
WIDE_OR_NOT(embed, gather_args)
WIDE_OR_NOT(position, gather_args)
WIDE_OR_NOT(prepend, gather_args)
WIDE_OR_NOT(row, gather_args)
WIDE_OR_NOT(from_f32, cast_args)
WIDE_OR_NOT(to_f32, cast_args)
FOR_EVERY_TYPE(timestep, timestep_args)
