// conv.cu - convolutions whose channels are too few, or filters too odd, for the library.
#include "cuda/kernels/common.cuh"

// The shift of a pixel's image.
template <typename T> __device__ __forceinline__ const T *shift_of(const conv_args &a, int p)
{
    return at<T>(a.shift, p / (a.out_h * a.out_w));
}

// What every sum ends with: + bias + shift, then + residual. p: pixel; c: channel.
template <typename T>
__device__ __forceinline__ void finish(const conv_args &a, float sum, int p, int c)
{
    if (a.bias)
        sum += to_float(at<T>(a.bias)[c]);
    if (a.shift.data)
        sum += to_float(shift_of<T>(a, p)[c]);
    if (a.residual.data)
        sum += to_float(at<T>(a.residual, p)[c]);
    at<T>(a.out, p)[c] = from_float<T>(sum);
}

// The same for N channels whose bias is at hand, with accesses of N numbers.
template <typename T, int N>
__device__ __forceinline__ void finish_run(const conv_args &a, float (&sum)[N],
                                           const float (&bias)[N], int p, int c)
{
    float add[N];
#pragma unroll
    for (int i = 0; i < N; i++)
        sum[i] += bias[i];
    if (a.shift.data) {
        load<T, N>(shift_of<T>(a, p) + c, add);
#pragma unroll
        for (int i = 0; i < N; i++)
            sum[i] += add[i];
    }
    if (a.residual.data) {
        load<T, N>(at<T>(a.residual, p) + c, add);
#pragma unroll
        for (int i = 0; i < N; i++)
            sum[i] += add[i];
    }
    store<T, N>(at<T>(a.out, p) + c, sum);
}

// Where an output pixel looks: its first tap, in the rows of its image; row < 0: nowhere.
struct spot {
    int row, y, v;

    __device__ __forceinline__ void find(const conv_args &a, int p, int count)
    {
        int n = p / a.out_w / a.out_h;
        row = p < count ? n * a.h : -1;
        y = p / a.out_w % a.out_h * a.stride - a.pad;
        v = p % a.out_w * a.stride - a.pad;
    }

    // The pixel under tap (i, j); NULL outside.
    template <typename T>
    __device__ __forceinline__ const T *under(const conv_args &a, int i, int j) const
    {
        bool inside =
            row >= 0 && (unsigned)(y + i) < (unsigned)a.h && (unsigned)(v + j) < (unsigned)a.w;
        return inside ? at<T>(a.x, (long)(row + y + i) * a.w + v + j) : nullptr;
    }
};

#if TENSOR_CORES
#define ON_TENSOR_CORES(call) call
#else
#define ON_TENSOR_CORES(call) // never looked up
#endif
#define FOR_HALVES(name, threads, blocks)                                                          \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name##_bf16(const conv_args a)   \
    {                                                                                              \
        begin();                                                                                   \
        ON_TENSOR_CORES(name<bf16>(a));                                                            \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name##_f16(const conv_args a)    \
    {                                                                                              \
        begin();                                                                                   \
        ON_TENSOR_CORES(name<f16>(a));                                                             \
    }

// ---- few outputs of 16-bit numbers, 3x3 (conv_out), on the tensor cores
//
// A product of every pixel that a block's outputs see, once, with the nine taps of four outputs,
// which are 36 columns: x is read once, and each output adds what its nine pixels have for it.
//
// A sum does not care for the order of its terms, so the columns of an operand are the channels
// that a lane can load in 16 bytes: lane 4g + t has channels 8t .. 8t + 8 of 32, for two products.

enum {
    NARROW_WIDTH = 16,              // of the outputs of a block, a.tile rows
    NARROW_SEEN = NARROW_WIDTH + 2, // pixels of a row that they see
    NARROW_OUTPUTS = 4,
    NARROW_COLUMNS = 9 * NARROW_OUTPUTS,
    NARROW_TILES = 2,                    // of 16 pixels, of a warp
    NARROW_STEPS = 3,                    // of 32 channels, on their way at once
    NARROW_STEP = NARROW_TILES * 2 * 32, // vectors of one, of a warp
    NARROW_THREADS = 256,                // at most
};

// Where a lane's numbers of its pixels are: `step` * 4 vectors from there on, if there is a pixel.
struct narrow_pixels {
    const uint4 *image;
    unsigned place[2 * NARROW_TILES];
    bool there[2 * NARROW_TILES];

    // first: the warp's first pixel, of those that the outputs from (y, v) on see of image n.
    template <typename T>
    __device__ __forceinline__ void find(const conv_args &a, int n, int y, int v, int first)
    {
        image = reinterpret_cast<const uint4 *>(at<T>(a.x, (long)n * a.h * a.w)) + threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < 2 * NARROW_TILES; i++) {
            int q = first + i * 8 + threadIdx.x % 32 / 4;
            int row = y - a.pad + q / NARROW_SEEN, column = v - a.pad + q % NARROW_SEEN;
            there[i] = (unsigned)row < (unsigned)a.h && (unsigned)column < (unsigned)a.w;
            place[i] = there[i] ? (unsigned)(row * a.w + column) * (unsigned)(a.x.row / 8) : 0;
        }
    }

    __device__ __forceinline__ void fetch_step(uint4 *to, int step) const
    {
#pragma unroll
        for (int i = 0; i < 2 * NARROW_TILES; i++)
            fetch(to + i * 32, image + place[i] + step * 4, there[i]);
    }
};

// x: the lane's numbers of its pixels, 32 vectors apart; w: those of its output's taps, `tap`
// vectors apart; last: those of the ninth.
template <typename T>
__device__ __forceinline__ void narrow_multiply(const uint4 *x, const uint4 *w, const uint4 *last,
                                                int tap, float (&sum)[NARROW_TILES][5][4])
{
    uint4 taps[5];
#pragma unroll
    for (int j = 0; j < 5; j++)
        taps[j] = *(j < 4 ? w + 2 * j * tap : last);
#pragma unroll
    for (int m = 0; m < NARROW_TILES; m++) {
        uint4 top = x[m * 64], bottom = x[m * 64 + 32];
        unsigned low[4] = { top.x, bottom.x, top.y, bottom.y };
        unsigned high[4] = { top.z, bottom.z, top.w, bottom.w };
#pragma unroll
        for (int j = 0; j < 5; j++) {
            multiply<T>(sum[m][j], low, taps[j].x, taps[j].y);
            multiply<T>(sum[m][j], high, taps[j].z, taps[j].w);
        }
    }
}

// The products of the warp's pixels; queue: of each of its lanes NARROW_STEPS steps, which the lane
// has fetched itself, so that none waits for another.
template <typename T>
__device__ __forceinline__ void narrow_products(const conv_args &a, const narrow_pixels &pixels,
                                                int o, uint4 *queue,
                                                float (&sum)[NARROW_TILES][5][4])
{
    int steps = a.c / 32, tap = a.c / 8, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    // column g of tile j: tap 2j + g / 4 of output g % 4; any numbers do for those that are not
    const uint4 *filter =
        at<const uint4>(a.weight) + (long)min(o + g % 4, a.cout - 1) * 9 * tap + t;
    const uint4 *w = filter + g / 4 * tap, *last = filter + 8 * tap;
#pragma unroll
    for (int i = 0; i < NARROW_STEPS; i++) {
        if (i < steps)
            pixels.fetch_step(queue + i * NARROW_STEP, i);
        fetch_commit();
    }
    int slot = 0;
#pragma unroll 1
    for (int i = 0; i < steps; i++) {
        fetch_wait<NARROW_STEPS - 1>();
        narrow_multiply<T>(queue + slot, w + i * 4, last + i * 4, tap, sum);
        if (i + NARROW_STEPS < steps)
            pixels.fetch_step(queue + slot, i + NARROW_STEPS);
        fetch_commit();
        slot = slot == (NARROW_STEPS - 1) * NARROW_STEP ? 0 : slot + NARROW_STEP;
    }
}

template <typename T> __device__ __forceinline__ void conv_narrow(const conv_args &a)
{
    DYNAMIC_SHARED(float, part); // [pixel][NARROW_COLUMNS], and before that the queues
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int groups = (a.cout + NARROW_OUTPUTS - 1) / NARROW_OUTPUTS;
    int n = blockIdx.z / groups, o = blockIdx.z % groups * NARROW_OUTPUTS;
    int y0 = blockIdx.y * a.tile, v0 = blockIdx.x * NARROW_WIDTH, first = warp * NARROW_TILES * 16;
    float products[NARROW_TILES][5][4] = {};
    narrow_pixels pixels;
    pixels.find<T>(a, n, y0, v0, first);
    narrow_products<T>(a, pixels, o,
                       reinterpret_cast<uint4 *>(part) + warp * NARROW_STEPS * NARROW_STEP + lane,
                       products);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2 * NARROW_TILES; i++)
#pragma unroll
        for (int j = 0; j < 5; j++) {
            float *to = part + (first + i * 8 + lane / 4) * NARROW_COLUMNS + j * 8 + lane % 4 * 2;
            float two[2] = { products[i / 2][j][i % 2 * 2], products[i / 2][j][i % 2 * 2 + 1] };
            if (j < 4 || lane % 4 < 2)
                store_f32<2>(to, two);
        }
    float bias[NARROW_OUTPUTS] = {};
    if (a.run_out >= NARROW_OUTPUTS && a.bias)
        load<T, NARROW_OUTPUTS>(at<T>(a.bias) + o, bias);
    __syncthreads();
    for (int i = threadIdx.x; i < a.tile * NARROW_WIDTH; i += blockDim.x) {
        int y = i / NARROW_WIDTH, v = i % NARROW_WIDTH;
        if (y0 + y >= a.out_h || v0 + v >= a.out_w)
            continue;
        float sum[NARROW_OUTPUTS] = {}, add[NARROW_OUTPUTS];
#pragma unroll
        for (int tap = 0; tap < 9; tap++) {
            int q = (y + tap / 3) * NARROW_SEEN + v + tap % 3;
            load_f32<NARROW_OUTPUTS>(part + q * NARROW_COLUMNS + tap * NARROW_OUTPUTS, add);
#pragma unroll
            for (int j = 0; j < NARROW_OUTPUTS; j++)
                sum[j] += add[j];
        }
        int p = (n * a.out_h + y0 + y) * a.out_w + v0 + v;
        if (a.run_out >= NARROW_OUTPUTS)
            finish_run<T, NARROW_OUTPUTS>(a, sum, bias, p, o);
        else
#pragma unroll
            for (int j = 0; j < NARROW_OUTPUTS; j++)
                if (o + j < a.cout)
                    finish<T>(a, sum[j], p, o + j);
    }
}

FOR_HALVES(conv_narrow, NARROW_THREADS, 2)

// ---- few inputs of 16-bit numbers, many outputs (conv_in), on the tensor cores: every filter is
// in the registers of a warp, 32 of them in each, and the block's a.tile pixels pass by, as rows of
// what lies under their taps

enum { WIDEN_PIXELS = 128, WIDEN_OUTPUTS = 32, WIDEN_THREADS = 320 }; // at most; of a warp

// The filters from o on, STEPS * 16 numbers of each. Column n of tile j is filter 8 (n / 2) + 2j +
// n % 2, so that the tiles give a lane eight outputs side by side. What is not there may be any
// number of a filter: it meets zeros, or a result that is not kept. PAIRS: two numbers at once.
template <typename T, int STEPS, bool PAIRS>
__device__ __forceinline__ void widen_filters(const conv_args &a, int o, unsigned (&w)[STEPS][4][2])
{
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, depth = a.k * a.k * a.c;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        int filter = min(o + g / 2 * 8 + 2 * j + g % 2, a.cout - 1);
        const T *row = at<T>(a.weight) + (long)filter * depth;
#pragma unroll
        for (int i = 0; i < 2 * STEPS; i++) {
            int k = i * 8 + 2 * t;
            bool sure = i * 8 + 8 <= (STEPS - 3) * 16; // a filter with fewer has fewer steps
            lane<T, 2> two;
            if (PAIRS)
                two = *reinterpret_cast<const lane<T, 2> *>(row + (sure ? k : min(k, depth - 2)));
            else
                two = { { row[sure ? k : min(k, depth - 1)],
                          row[sure ? k + 1 : min(k + 1, depth - 1)] } };
            w[i / 2][j][i % 2] = *reinterpret_cast<unsigned *>(&two);
        }
    }
}

// What lies under a tap of the block's pixels, N numbers at once, as many as hide their way here.
template <typename T, int N>
__device__ __forceinline__ void widen_tap(const conv_args &a, const spot *spots, int tap, int pitch,
                                          T *to)
{
    constexpr int GROUPS = WIDEN_PIXELS / 32, MANY = N == 1 ? 3 : 1;
    int first = threadIdx.x % 32;
    bool inside[GROUPS];
    const T *from[GROUPS];
#pragma unroll
    for (int i = 0; i < GROUPS; i++) {
        const T *x = spots[min(i * 32 + first, a.tile - 1)].under<T>(a, tap / a.k, tap % a.k);
        inside[i] = x;
        from[i] = x ? x : at<T>(a.x, 0);
    }
#pragma unroll 1
    for (int c = 0; c < a.c; c += MANY * N) {
        lane<T, N> x[GROUPS][MANY], none = {};
#pragma unroll
        for (int i = 0; i < GROUPS * MANY; i++)
            x[i / MANY][i % MANY] = *reinterpret_cast<const lane<T, N> *>(
                from[i / MANY] + min(c + i % MANY * N, a.c - N));
#pragma unroll
        for (int i = 0; i < GROUPS * MANY; i++) {
            int p = i / MANY * 32 + first, at = c + i % MANY * N;
            if (p < a.tile && at < a.c)
                *reinterpret_cast<lane<T, N> *>(to + p * pitch + tap * a.c + at) =
                    inside[i / MANY] ? x[i / MANY][i % MANY] : none;
        }
    }
}

// Under all of them; zeros from there to `pitch`.
template <typename T, int N>
__device__ __forceinline__ void widen_gather(const conv_args &a, const spot *spots, int pitch,
                                             T *to)
{
    int taps = a.k * a.k, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    lane<T, 1> none = {};
#pragma unroll 1
    for (int tap = warp; tap < taps; tap += warps)
        widen_tap<T, N>(a, spots, tap, pitch, to);
    for (int p = threadIdx.x; p < a.tile; p += blockDim.x)
        for (int i = taps * a.c; i < pitch - 8; i++)
            *reinterpret_cast<lane<T, 1> *>(to + p * pitch + i) = none;
}

// The 8 outputs of a lane for one of its pixels.
template <typename T>
__device__ __forceinline__ void widen_finish(const conv_args &a, float (&sum)[8],
                                             const float (&bias)[8], int p, int o)
{
    if (a.run_out == 8)
        finish_run<T, 8>(a, sum, bias, p, o);
    else
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (o + i < a.cout)
                finish<T>(a, sum[i], p, o + i);
}

// The outputs of a.tile pixels from p0 on, of the 32 filters w; rows: of STEPS * 16 numbers.
template <typename T, int STEPS>
__device__ __forceinline__ void widen_products(const conv_args &a, const unsigned (&w)[STEPS][4][2],
                                               const float (&bias)[8], const T *rows, int pitch,
                                               int p0, int o)
{
    int lane = threadIdx.x % 32, count = a.images * a.out_h * a.out_w;
    for (int m = 0; m < a.tile && p0 + m < count; m += 16) {
        float sum[4][4] = {};
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            unsigned x[4];
            load_matrices(x, rows + (m + lane % 16) * pitch + s * 16 + lane / 16 * 8);
#pragma unroll
            for (int j = 0; j < 4; j++)
                multiply<T>(sum[j], x, w[s][j][0], w[s][j][1]);
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float mine[8];
#pragma unroll
            for (int j = 0; j < 8; j++)
                mine[j] = sum[j / 2][i * 2 + j % 2];
            int p = p0 + m + i * 8 + lane / 4;
            if (p < count && o < a.cout)
                widen_finish<T>(a, mine, bias, p, o);
        }
    }
}

template <typename T, int STEPS> __device__ __forceinline__ void widen(const conv_args &a)
{
    constexpr int PITCH = STEPS * 16 + 8; // rows of 8 pixels begin at different banks
    DYNAMIC_SHARED(T, rows);
    __shared__ spot spots[WIDEN_PIXELS];
    int count = a.images * a.out_h * a.out_w;
    int first = (blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32) * WIDEN_OUTPUTS;
    int o = first + threadIdx.x % 4 * 8; // the lane's outputs
    unsigned w[STEPS][4][2];
    if (a.k * a.k * a.c % 2 == 0 && a.weight % 4 == 0)
        widen_filters<T, STEPS, true>(a, first, w);
    else
        widen_filters<T, STEPS, false>(a, first, w);
    for (int p0 = blockIdx.x * a.tile; p0 < count; p0 += gridDim.x * a.tile) {
        for (int p = threadIdx.x; p < a.tile; p += blockDim.x)
            spots[p].find(a, p0 + p, count);
        __syncthreads();
        if (a.run_in == 8)
            widen_gather<T, 8>(a, spots, PITCH, rows);
        else if (a.run_in == 4)
            widen_gather<T, 4>(a, spots, PITCH, rows);
        else
            widen_gather<T, 1>(a, spots, PITCH, rows);
        float bias[8] = {};
        if (a.bias && a.run_out == 8 && o < a.cout)
            load<T, 8>(at<T>(a.bias) + o, bias);
        __syncthreads();
        widen_products<T, STEPS>(a, w, bias, rows, PITCH, p0, o);
    }
}

template <typename T> __device__ __forceinline__ void conv_widen(const conv_args &a)
{
    widen<T, 3>(a);
}

template <typename T> __device__ __forceinline__ void conv_widen_deep(const conv_args &a)
{
    widen<T, 6>(a);
}

FOR_HALVES(conv_widen, WIDEN_THREADS, 2)
FOR_HALVES(conv_widen_deep, WIDEN_THREADS, 1)

// ---- up to 8 outputs otherwise: groups of 8 threads share the channels of 4 pixels

enum { SHARE = 8, PIXELS = 4 };

// weight: [COUT][taps][c] in shared memory
template <typename T, int N, int COUT>
__device__ __forceinline__ void add_taps(const conv_args &a, const T *weight,
                                         const spot (&spots)[PIXELS], float (&sum)[PIXELS][COUT])
{
    int share = threadIdx.x % SHARE, taps = a.k * a.k;
#pragma unroll 1
    for (int tap = 0; tap < taps; tap++) {
        const T *from[PIXELS];
#pragma unroll
        for (int p = 0; p < PIXELS; p++)
            from[p] = spots[p].under<T>(a, tap / a.k, tap % a.k);
#pragma unroll 1
        for (int c = share * N; c < a.c; c += SHARE * N) {
            float x[PIXELS][N], w[N];
#pragma unroll
            for (int p = 0; p < PIXELS; p++) {
#pragma unroll
                for (int i = 0; i < N; i++)
                    x[p][i] = 0;
                if (from[p])
                    load<T, N>(from[p] + c, x[p]);
            }
#pragma unroll
            for (int o = 0; o < COUT; o++) {
                load<T, N>(weight + (o * taps + tap) * a.c + c, w);
#pragma unroll
                for (int p = 0; p < PIXELS; p++)
#pragma unroll
                    for (int i = 0; i < N; i++)
                        sum[p][o] += x[p][i] * w[i];
            }
        }
    }
}

template <typename T, int N, int COUT> __device__ void conv_few_at(const conv_args &a)
{
    DYNAMIC_SHARED(T, weight);
    int size = a.k * a.k * a.c, count = a.images * a.out_h * a.out_w;
    lane<T, N> none = {};
    for (int i = threadIdx.x * N; i < COUT * size; i += blockDim.x * N)
        *reinterpret_cast<lane<T, N> *>(weight + i) =
            i < a.cout * size ? *at<const lane<T, N>>(a.weight + i * sizeof(T)) : none;
    __syncthreads();

    int share = threadIdx.x % SHARE, each = blockDim.x / SHARE * PIXELS; // pixels at once
    for (int base = blockIdx.x * each; base < count; base += gridDim.x * each) {
        int first = base + threadIdx.x / SHARE * PIXELS;
        float sum[PIXELS][COUT] = {};
        spot spots[PIXELS];
#pragma unroll
        for (int p = 0; p < PIXELS; p++)
            spots[p].find(a, first + p, count);
        add_taps<T, N, COUT>(a, weight, spots, sum);
#pragma unroll
        for (int p = 0; p < PIXELS; p++) {
            float mine = 0; // a thread finishes the output of its number
#pragma unroll
            for (int o = 0; o < COUT; o++) {
#pragma unroll
                for (int step = SHARE / 2; step; step /= 2)
                    sum[p][o] += __shfl_xor_sync(0xffffffffu, sum[p][o], step);
                mine = share == o ? sum[p][o] : mine;
            }
            if (share < a.cout && first + p < count)
                finish<T>(a, mine, first + p, share);
        }
    }
}

template <typename T> __device__ __forceinline__ void conv_few(const conv_args &a)
{
    constexpr int N = WIDE<T>;
    if (a.vector && a.cout <= 4)
        conv_few_at<T, N, 4>(a);
    else if (a.vector)
        conv_few_at<T, N, 8>(a);
    else
        conv_few_at<T, 1, 8>(a);
}

FOR_EVERY_TYPE(conv_few, conv_args)

// ---- anything else (patches): the product of a matrix that is never stored, TILE_P
// pixels by k * k * c, with the filters, TILE_O of them at once, in steps of TILE_K

enum { TILE_P = 128, TILE_O = 64, TILE_K = 32, MINE_P = 8, MINE_O = 4 };

template <typename T>
__device__ __forceinline__ void gather(const conv_args &a, const spot *spots, int k0,
                                       float (*to)[TILE_P + 4])
{
    int k = k0 + threadIdx.x % TILE_K, tap = k / a.c, c = k % a.c, i = tap / a.k, j = tap % a.k;
    bool inside = k < a.k * a.k * a.c;
#pragma unroll 8
    for (int p = threadIdx.x / TILE_K; p < TILE_P; p += blockDim.x / TILE_K) {
        const T *from = inside ? spots[p].under<T>(a, i, j) : nullptr;
        to[threadIdx.x % TILE_K][p] = from ? to_float(from[c]) : 0;
    }
}

template <typename T>
__device__ __forceinline__ void filters(const conv_args &a, int o0, int k0, float (*to)[TILE_O + 4])
{
    int depth = a.k * a.k * a.c, k = k0 + threadIdx.x % TILE_K;
#pragma unroll 8
    for (int i = threadIdx.x / TILE_K; i < TILE_O; i += blockDim.x / TILE_K)
        to[threadIdx.x % TILE_K][i] = k < depth && o0 + i < a.cout
                                          ? to_float(at<T>(a.weight)[(long)(o0 + i) * depth + k])
                                          : 0;
}

template <typename T> __device__ void conv_tile(const conv_args &a)
{
    __shared__ __align__(16) float x[TILE_K][TILE_P + 4], w[TILE_K][TILE_O + 4];
    int p0 = blockIdx.x * TILE_P, o0 = blockIdx.y * TILE_O, depth = a.k * a.k * a.c;
    int count = a.images * a.out_h * a.out_w;
    int mine_o = threadIdx.x % (TILE_O / MINE_O) * MINE_O;
    int mine_p = threadIdx.x / (TILE_O / MINE_O) * MINE_P;
    float sum[MINE_P][MINE_O] = {};
    __shared__ spot spots[TILE_P];
    if (threadIdx.x < TILE_P)
        spots[threadIdx.x].find(a, p0 + threadIdx.x, count);
    __syncthreads();
    for (int k0 = 0; k0 < depth; k0 += TILE_K) {
        gather<T>(a, spots, k0, x);
        filters<T>(a, o0, k0, w);
        __syncthreads();
        int steps = min((int)TILE_K, depth - k0);
#pragma unroll 4
        for (int k = 0; k < steps; k++) {
            float xs[MINE_P], ws[MINE_O];
            load_f32<MINE_P>(&x[k][mine_p], xs);
            load_f32<MINE_O>(&w[k][mine_o], ws);
            for (int p = 0; p < MINE_P; p++)
                for (int o = 0; o < MINE_O; o++)
                    sum[p][o] += xs[p] * ws[o];
        }
        __syncthreads();
    }
    int o = o0 + mine_o;
    float bias[MINE_O] = {};
    if (a.run_out >= MINE_O && a.bias && o < a.cout)
        load<T, MINE_O>(at<T>(a.bias) + o, bias);
#pragma unroll
    for (int i = 0; i < MINE_P; i++) {
        int p = p0 + mine_p + i;
        if (p >= count || o >= a.cout)
            break;
        if (a.run_out >= MINE_O) {
            finish_run<T, MINE_O>(a, sum[i], bias, p, o);
            continue;
        }
#pragma unroll
        for (int j = 0; j < MINE_O; j++)
            if (o + j < a.cout)
                finish<T>(a, sum[i][j], p, o + j);
    }
}

FOR_EVERY_TYPE(conv_tile, conv_args)
