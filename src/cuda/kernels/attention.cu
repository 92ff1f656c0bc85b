// attention.cu - attention for every type, head width and card; flash.cu is the fast one.
//
// A block takes the queries of one head, a few for each warp, and walks over the keys 32 at a time.
// For the scores a lane stands for a key; for the sums of values it stands for channels. Keys and
// values pass through shared memory 64 channels at a time. The softmax is kept up as keys come:
// greatest score, sum of powers, sums of values relative to it.
#include "cuda/kernels/common.cuh"

enum { WARPS = 4, SLICE = 64 };

// 32 rows of one slice of channels, as floats; zero outside.
template <typename T>
__device__ __forceinline__ void stage(const rows &r, long row, int rows_left, int channel,
                                      int channels_left, float (*to)[SLICE + 1])
{
#pragma unroll 4
    for (int i = threadIdx.x; i < 32 * SLICE; i += WARPS * 32) {
        int j = i / SLICE, c = i % SLICE;
        to[j][c] =
            j < rows_left && c < channels_left ? to_float(at<T>(r, row + j)[channel + c]) : 0;
    }
}

// The block's queries, scaled; zero outside.
template <typename T, int QUERIES, int WIDTH>
__device__ __forceinline__ void read_queries(const attention_args &a, long q_row, int q0, int head,
                                             float (*query)[WIDTH])
{
#pragma unroll 2
    for (int i = threadIdx.x; i < QUERIES * WIDTH; i += WARPS * 32) {
        int q = i / WIDTH, c = i % WIDTH;
        query[q][c] = q0 + q < a.queries && c < a.width
                          ? to_float(at<T>(a.q, q_row + q0 + q)[head + c]) * a.scale
                          : 0;
    }
}

// A warp's sums of values for one query, divided by the sum of powers.
template <typename T, int SLICES>
__device__ __forceinline__ void write_query(const attention_args &a, long q_row, int row, int head,
                                            const float (&sum)[2 * SLICES], float over)
{
    int lane_id = threadIdx.x % 32;
    T *out = at<T>(a.out, q_row + row) + head;
#pragma unroll
    for (int i = 0; i < 2 * SLICES; i++)
        if (row < a.queries && i * 32 + lane_id < a.width)
            out[i * 32 + lane_id] = from_float<T>(sum[i] * over);
}

// A lane's key times the warp's queries, over one slice of channels.
template <int Q, int WIDTH>
__device__ __forceinline__ void add_scores(float (&score)[Q], const float (*query)[WIDTH],
                                           int channel, const float (*keys)[SLICE + 1])
{
#pragma unroll 2
    for (int c = 0; c < SLICE; c += 4) {
        float k[4], x[4];
        for (int i = 0; i < 4; i++)
            k[i] = keys[threadIdx.x % 32][c + i];
        for (int q = 0; q < Q; q++) {
            load<float, 4>(&query[q][channel + c], x);
            for (int i = 0; i < 4; i++)
                score[q] += x[i] * k[i];
        }
    }
}

// Values times the powers that the lanes have, over one slice of channels.
template <int Q, int SLICES>
__device__ __forceinline__ void add_values(float (&sum)[Q][2 * SLICES], const float (&power)[Q],
                                           int slice, const float (*values)[SLICE + 1])
{
    int lane_id = threadIdx.x % 32;
#pragma unroll 2
    for (int j = 0; j < 32; j++) {
        float x = values[j][lane_id], y = values[j][lane_id + 32];
        for (int q = 0; q < Q; q++) {
            float p = __shfl_sync(0xffffffffu, power[q], j);
            sum[q][2 * slice] += p * x;
            sum[q][2 * slice + 1] += p * y;
        }
    }
}

// SLICES * 64 channels hold a head; Q queries for each warp.
template <typename T, int SLICES, int Q> __device__ void attention_at(const attention_args &a)
{
    DYNAMIC_SHARED(float, memory); // queries [WARPS * Q][SLICES * SLICE], then a tile
    constexpr int WIDTH = SLICES * SLICE;
    float(*query)[WIDTH] = reinterpret_cast<float(*)[WIDTH]>(memory);
    float(*tile)[SLICE + 1] = reinterpret_cast<float(*)[SLICE + 1]>(memory + WARPS * Q * WIDTH);
    int lane_id = threadIdx.x % 32, warp = threadIdx.x / 32;
    int q0 = blockIdx.x * WARPS * Q, head = blockIdx.y * a.width;
    long q_row = (long)blockIdx.z * a.queries, k_row = (long)blockIdx.z * a.keys;
    read_queries<T, WARPS * Q, WIDTH>(a, q_row, q0, head, query);
    float most[Q], total[Q], sum[Q][2 * SLICES];
    for (int q = 0; q < Q; q++) {
        most[q] = -INFINITY;
        total[q] = 0;
        for (int i = 0; i < 2 * SLICES; i++)
            sum[q][i] = 0;
    }
    int keys = a.causal ? min(a.keys, q0 + WARPS * Q) : a.keys;
    for (int k0 = 0; k0 < keys; k0 += 32) {
        float score[Q] = {};
#pragma unroll 1
        for (int s = 0; s < SLICES; s++) {
            __syncthreads();
            stage<T>(a.k, k_row + k0, a.keys - k0, head + s * SLICE, a.width - s * SLICE, tile);
            __syncthreads();
            add_scores<Q, WIDTH>(score, query + warp * Q, s * SLICE, tile);
        }
        int seen = a.keys - k0; // keys that a query sees from k0 on
#pragma unroll
        for (int q = 0; q < Q; q++) {
            int of_q = a.causal ? min(seen, q0 + warp * Q + q + 1 - k0) : seen;
            float x = lane_id < of_q ? score[q] : -INFINITY;
            float greatest = fmaxf(most[q], warp_max(x)), less = exp2f(most[q] - greatest);
            score[q] = exp2f(x - greatest);
            total[q] = total[q] * less + warp_sum(score[q]);
            most[q] = greatest;
            for (int i = 0; i < 2 * SLICES; i++)
                sum[q][i] *= less;
        }
#pragma unroll
        for (int s = 0; s < SLICES; s++) {
            __syncthreads();
            stage<T>(a.v, k_row + k0, a.keys - k0, head + s * SLICE, a.width - s * SLICE, tile);
            __syncthreads();
            add_values<Q, SLICES>(sum, score, s, tile);
        }
    }
#pragma unroll
    for (int q = 0; q < Q; q++)
        write_query<T, SLICES>(a, q_row, q0 + warp * Q + q, head, sum[q], 1.0f / total[q]);
}

template <typename T> __device__ __forceinline__ void attention(const attention_args &a)
{
    if (a.width <= SLICE)
        attention_at<T, 1, 8>(a);
    else if (a.width <= 2 * SLICE)
        attention_at<T, 2, 8>(a);
    else if (a.width <= 3 * SLICE)
        attention_at<T, 3, 8>(a);
    else
        attention_at<T, 8, 4>(a);
}

FOR_EVERY_TYPE(attention, attention_args)
