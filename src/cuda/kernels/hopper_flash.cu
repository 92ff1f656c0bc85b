// hopper_flash.cu - attention on the tensor cores of 9.0: 16-bit numbers, f32 sums.
//
// A block has 64 queries of one head for each of its warpgroups; blocks that come when most places
// are empty already, 64 for two warpgroups, which divide the keys. Keys and values come KEYS at a
// time into a ring of STAGES places in shared memory. The last ones come first, so that only the
// first of them may have rows that are no keys. The warps take turns at asking for the next ones:
// who does all of it falls behind, and all others wait for him.
//
// A warp holds 16 queries, their scores, powers and sums in registers, laid out as flash.cu has
// them. A round's products are the next scores and the values of the powers before; while a warp
// takes powers, others multiply: four warps on a scheduler fill it best. Powers are relative to a
// base: the greatest of the first scores. They are taken without looking for a greater one, and
// where their sum tells that they do not fit the type, which few keys ever do, that warp computes
// the scores again, lifts the base and rescales what it has.
#include "cuda/kernels/flash.cuh"
#include "cuda/kernels/hopper.cuh"

enum side { KEY, VALUE };

// Where things lie in shared memory: tiles of keys and values for every stage, results on their way
// out, and for every tile a barrier that tells that it is there and one that tells that it was
// used.
template <int D, int KEYS, int GROUPS, int STAGES> struct layout {
    static constexpr int WARPS = GROUPS * 4;
    static constexpr int PANEL = KEYS * 128, PANELS = (D + 63) / 64; // a panel: 64 channels
    static constexpr int TILE = PANELS * PANEL;
    static constexpr int RESULTS = STAGES * 2 * TILE;
    static constexpr int STAGE = 16 * PITCH<D> * 2; // of a warp's results
    static constexpr int BARRIERS = RESULTS + WARPS * STAGE;
    static_assert(BARRIERS + STAGES * 4 * 8 == FLASH_SHARED(D, KEYS, GROUPS, STAGES),
                  "as the launch has it");
};

// The tiles of a block, counted in the order of their use.
template <int D, int KEYS, int GROUPS, int STAGES> struct ring {
    typedef layout<D, KEYS, GROUPS, STAGES> at;

    const hopper_attention_args &args;
    unsigned char *shared;
    int count, head, image;

    __device__ __forceinline__ unsigned char *tile(int i, side s) const
    {
        return shared + ((unsigned)i % STAGES * 2 + s) * at::TILE;
    }
    __device__ __forceinline__ barrier *there(int i, side s) const
    {
        return reinterpret_cast<barrier *>(shared + at::BARRIERS) +
               ((unsigned)i % STAGES * 2 + s) * 2;
    }
    __device__ __forceinline__ barrier *used(int i, side s) const
    {
        return there(i, s) + 1;
    }
    __device__ __forceinline__ unsigned turn(int i) const
    {
        return (unsigned)i / STAGES & 1;
    }

    __device__ __forceinline__ void wait(int i, side s) const
    {
        barrier_wait(there(i, s), turn(i));
    }
    __device__ __forceinline__ void release(int i, side s) const
    {
        if (threadIdx.x % 32 == 0)
            barrier_arrive(used(i, s));
    }

    // One thread.
    __device__ __forceinline__ void ask(int i, side s) const
    {
        barrier_expect(there(i, s), at::TILE);
#pragma unroll
        for (int p = 0; p < at::PANELS; p++)
            tile_fetch(tile(i, s) + p * at::PANEL, s == KEY ? &args.keys : &args.values,
                       there(i, s), p * 64, head, (count - 1 - i) * KEYS, image);
    }

    // One thread. Every tile is used by so many warps.
    __device__ __forceinline__ void begin(int warps) const
    {
#pragma unroll
        for (int i = 0; i < STAGES * 2; i++) {
            barrier_start(there(i / 2, side(i % 2)), 1);
            barrier_start(used(i / 2, side(i % 2)), warps);
        }
        barriers_started();
        for (int i = 0; i < min(STAGES, count); i++) {
            ask(i, KEY);
            ask(i, VALUE);
        }
    }

    // One thread: asks for the tile that comes into the place of tile i.
    __device__ __forceinline__ void replace(int i, side s) const
    {
        if (i < 0 || i + STAGES >= count)
            return;
        barrier_wait(used(i, s), turn(i));
        ask(i + STAGES, s);
    }
};

// The same results as the products have them.
template <int N> __device__ __forceinline__ float (&flat(float (&x)[N][4]))[4 * N]
{
    return reinterpret_cast<float(&)[4 * N]>(x);
}

// A warp's 16 queries.
template <typename T, int D, int KEYS> struct flash16 {
    static constexpr int PANEL = KEYS * 128;
    static constexpr int COLUMNS = KEYS / 8; // results of 16 x 8 of the scores
    static constexpr float MOST = 32768;     // of a lane's powers of a tile; f16 ends at 65504

    float scale;
    unsigned query[DEPTH<D>][4], power[COLUMNS / 2][4];
    float score[COLUMNS][4], sum[D / 8][4];
    float base[2], total[2], part[2]; // of rows g and g + 8; total: of the lane's columns

    // Rows from `rows` on are zeros, and so is what lies beside the head.
    __device__ __forceinline__ void start(const T *q, long row, int rows, int width)
    {
        int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
        for (int d = 0; d < DEPTH<D>; d++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int r = g + i % 2 * 8, c = d * 16 + i / 2 * 8 + t * 2;
                bool there = r < rows && c < width;
                query[d][i] = there ? *reinterpret_cast<const unsigned *>(q + r * row + c) : 0;
            }
        base[0] = base[1] = -INFINITY;
        total[0] = total[1] = 0;
    }

    __device__ __forceinline__ void meet_keys(const unsigned char *tile)
    {
        unsigned long long keys = tile_at(tile);
#pragma unroll
        for (int d = 0; d < DEPTH<D>; d++)
            product_of<T, KEYS>::template held<0>(
                flat(score), query[d], tile_further(keys, d / 4 * PANEL + d % 4 * 32), d > 0);
        products_commit();
    }

    __device__ __forceinline__ void meet_values(const unsigned char *tile, bool first)
    {
        unsigned long long values = tile_across(tile, PANEL);
#pragma unroll
        for (int j = 0; j < COLUMNS / 2; j++)
            product_of<T, D>::template held<1>(flat(sum), power[j], tile_further(values, j * 2048),
                                               j > 0 || !first);
        products_commit();
    }

    // The same scores by the warp alone, which no other need wait for.
    __device__ __forceinline__ void meet_keys_alone(const unsigned char *tile)
    {
        int lane_id = threadIdx.x % 32, r = lane_id % 8 + lane_id / 16 * 8;
#pragma unroll
        for (int j = 0; j < COLUMNS / 2; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                score[2 * j][i] = score[2 * j + 1][i] = 0;
#pragma unroll
            for (int d = 0; d < DEPTH<D>; d++) {
                int piece = d * 2 + lane_id / 8 % 2; // 16 bytes: see hopper.cuh
                unsigned b[4];
                load_matrices(b, tile + piece / 8 * PANEL + (j * 16 + r) * 128 +
                                     (piece % 8 ^ r % 8) * 16);
                multiply<T>(score[2 * j], query[d], b[0], b[1]);
                multiply<T>(score[2 * j + 1], query[d], b[2], b[3]);
            }
        }
    }

    // The base of row i becomes the greatest score there is. Returns the factor of older powers.
    __device__ __forceinline__ float lift(int i)
    {
        float greatest = score[0][2 * i];
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
            greatest = fmaxf(greatest, fmaxf(score[j][2 * i], score[j][2 * i + 1]));
        greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 1));
        greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 2));
        float before = base[i];
        base[i] = fmaxf(before, greatest * scale);
        return power_of_two(before - base[i]);
    }

    // Scores become powers.
    __device__ __forceinline__ void soften()
    {
        part[0] = part[1] = 0;
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                score[j][i] = power_of_two(fmaf(score[j][i], scale, -base[i / 2]));
            part[0] += score[j][0] + score[j][1];
            part[1] += score[j][2] + score[j][3];
        }
#pragma unroll
        for (int j = 0; j < COLUMNS / 2; j++)
            pack<T>(power[j], score[2 * j], score[2 * j + 1]);
    }

    // Do the powers fit? One answer for all of the warp.
    __device__ __forceinline__ bool outgrown() const
    {
        return __any_sync(0xffffffffu, !(part[0] <= MOST && part[1] <= MOST));
    }

    __device__ __forceinline__ void soften_again(const unsigned char *tile)
    {
        meet_keys_alone(tile);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float factor = lift(i);
            total[i] *= factor;
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                sum[j][2 * i] *= factor;
                sum[j][2 * i + 1] *= factor;
            }
        }
        soften();
    }

    __device__ __forceinline__ void count_powers()
    {
        total[0] += part[0];
        total[1] += part[1];
    }

    // What the warp has, for one that has the same queries and other keys.
    __device__ __forceinline__ void leave(float *at) const
    {
        const float norm[4] = { base[0], base[1], total[0], total[1] };
        at += threadIdx.x % 32 * 4;
        store<float, 4>(at, norm);
#pragma unroll
        for (int j = 0; j < D / 8; j++)
            store<float, 4>(at + (j + 1) * 128, sum[j]);
    }

    __device__ __forceinline__ void join(const float *at)
    {
        float other[4], mine[2], theirs[2];
        at += threadIdx.x % 32 * 4;
        load<float, 4>(at, other);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float most = fmaxf(base[i], other[i]);
            mine[i] = power_of_two(base[i] - most);
            theirs[i] = power_of_two(other[i] - most);
            total[i] = total[i] * mine[i] + other[i + 2] * theirs[i];
        }
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
            load<float, 4>(at + (j + 1) * 128, other);
#pragma unroll
            for (int i = 0; i < 4; i++)
                sum[j][i] = sum[j][i] * mine[i / 2] + other[i] * theirs[i / 2];
        }
    }

    __device__ __forceinline__ void pin_sums()
    {
        pin(flat(sum));
#pragma unroll
        for (int j = 0; j < COLUMNS / 2; j++)
            pin(power[j]);
    }
};

// STEP 1: every warpgroup has queries of its own, and all use every tile. STEP GROUPS: all have the
// same 64 queries, each its own of the tiles in turn, and what they have is put together.
template <typename T, int D, int KEYS, int GROUPS, int STAGES, int STEP> struct attention {
    typedef layout<D, KEYS, GROUPS, STAGES> at;

    ring<D, KEYS, GROUPS, STAGES> tiles;
    flash16<T, D, KEYS> f;
    unsigned warp; // passed around, so that the compiler knows that all lanes have the same

    // The warpgroup's first tile.
    __device__ __forceinline__ int origin() const
    {
        return STEP == 1 ? 0 : warp / 4;
    }

    // The first scores.
    __device__ __forceinline__ void begin(int keys)
    {
        int i = origin();
        tiles.wait(i, KEY);
        products_begin();
        f.meet_keys(tiles.tile(i, KEY));
        products_wait<0>();
        pin(flat(f.score));
        tiles.release(i, KEY);
#pragma unroll
        for (int row = 0; row < 2; row++)
            hide(f.score, row, keys - (tiles.count - 1 - i) * KEYS);
        f.lift(0);
        f.lift(1);
        f.soften();
        f.count_powers();
        await(i);
    }

    // Tile i's keys and the values of the one before, which may come later than the scores.
    __device__ __forceinline__ void round(int i)
    {
        f.pin_sums();
        pin(flat(f.score));
        products_begin();
        f.meet_keys(tiles.tile(i, KEY));
        f.meet_values(tiles.tile(i - STEP, VALUE), i < 2 * STEP);
        products_wait<1>();
        pin(flat(f.score));
        if (turn() == (unsigned)i % at::WARPS) {
            if (elected()) {
                tiles.replace(i - STEP, KEY);
                tiles.replace(i - 2 * STEP, VALUE);
            }
            __syncwarp();
        }
        await(i);
        products_wait<0>();
        f.pin_sums();
        tiles.release(i - STEP, VALUE);
        f.soften();
        if (f.outgrown())
            f.soften_again(tiles.tile(i, KEY));
        tiles.release(i, KEY);
        f.count_powers();
    }

    // In as many copies as there are stages, so that each knows where its tiles lie.
    __device__ __forceinline__ void rounds()
    {
        constexpr int COPIES = STEP == 1 ? STAGES : 1;
        for (int lap = 0;; lap++)
#pragma unroll
            for (int copy = 0; copy < COPIES; copy++) {
                int i = origin() + (lap * COPIES + copy + 1) * STEP;
                if (i >= tiles.count)
                    return;
                round(i);
            }
    }

    // After which of WARPS rounds the warp asks for tiles.
    __device__ __forceinline__ unsigned turn() const
    {
        return STEP == 1 ? warp : warp % 4 * STEP + warp / 4;
    }

    // What the round after tile i, or the last values, need.
    __device__ __forceinline__ void await(int i)
    {
        if (i + STEP < tiles.count)
            tiles.wait(i + STEP, KEY);
        tiles.wait(i, VALUE);
    }

    // first: of the block's queries
    __device__ __forceinline__ void run(int first)
    {
        const attention_args &a = tiles.args.a;
        first += (STEP == 1 ? warp : warp % 4) * 16;
        int channel = tiles.head * a.width, left = a.queries - first;
        if (threadIdx.x == 0)
            tiles.begin(at::WARPS / STEP);
        f.scale = a.scale;
        f.start(at_row(a.q, a.queries, first) + channel, a.q.row, left, a.width);
        __syncthreads();
        begin(a.keys);
        rounds();
        int last = (tiles.count - 1 - origin()) / STEP * STEP + origin();
        f.pin_sums();
        products_begin();
        f.meet_values(tiles.tile(last, VALUE), last < STEP);
        products_wait<0>();
        f.pin_sums();
        unsigned char *results =
            tiles.shared + at::RESULTS + warp % (at::WARPS / STEP) * STEP * at::STAGE;
        if constexpr (STEP > 1) {
            static_assert(128 * (D / 8 + 1) * 4 <= STEP * at::STAGE, "a warp's numbers fit");
            if (warp >= 4)
                f.leave(reinterpret_cast<float *>(results));
            __syncthreads();
            if (warp >= 4)
                return;
            f.join(reinterpret_cast<const float *>(results));
            __syncwarp();
        }
        finish<T, D>(f.sum, f.total, reinterpret_cast<T *>(results),
                     at_row(a.out, a.queries, first) + channel, a.out.row, left, a.width);
    }

    __device__ __forceinline__ T *at_row(const rows &r, int tokens, int token)
    {
        return ::at<T>(r, (long)tiles.image * tokens + token);
    }
};

// The first `whole` blocks have 64 queries for each warpgroup, the others, two for the queries of
// one, 64 for all.
template <typename T, int D, int KEYS, int GROUPS, int STAGES>
__device__ __forceinline__ void run(const hopper_attention_args &args, unsigned char *shared,
                                    unsigned warp)
{
    int block = blockIdx.x, part = block - args.whole;
    bool divided = GROUPS == 2 && part >= 0;
    if (divided)
        block = args.whole + part / 2;
    int head = block / args.tiles; // of all images
    int first = (block - head * args.tiles) * GROUPS * 64;
    ring<D, KEYS, GROUPS, STAGES> tiles = { args, shared, (args.a.keys + KEYS - 1) / KEYS,
                                            head % args.a.heads, head / args.a.heads };
    if (!divided) {
        attention<T, D, KEYS, GROUPS, STAGES, 1> a = { tiles, {}, warp };
        a.run(first);
    } else if constexpr (GROUPS == 2) {
        attention<T, D, KEYS, GROUPS, STAGES, 2> a = { tiles, {}, warp };
        a.run(first + part % 2 * 64);
    }
}

// Attention to at most KEYS keys: one tile of them, and nothing to await but the copies. Without
// rounds, queries in tiles, too, and therefore few registers, so many blocks run at once that the
// latency of each matters little. Where a head is not as wide as tiles, copies of many rows take
// longer than loads.
template <typename T, int D, int KEYS, int GROUPS> struct short_attention {
    static constexpr bool TILED = D % 64 == 0;
    static constexpr int PANELS = (D + 63) / 64, PANEL = KEYS * 128, TILE = PANELS * PANEL;
    static constexpr int QUERIES = 64 * 128, QUERY = 2 * TILE; // a panel; where they begin
    static constexpr int RESULTS = QUERY + TILED * GROUPS * PANELS * QUERIES;
    static constexpr int STAGE = 16 * PITCH<D> * 2; // of a warp's results
    static constexpr int BARRIERS = RESULTS + GROUPS * 4 * STAGE;
    static_assert(BARRIERS + (2 + GROUPS) * 8 == SHORT_SHARED(D, KEYS, GROUPS),
                  "as the launch has it");

    const hopper_attention_args &args;
    unsigned char *shared;
    unsigned warp;
    flash16<T, D, KEYS> f;

    // Tells that keys, values, or a warpgroup's queries are there.
    __device__ __forceinline__ barrier *there(int i) const
    {
        return reinterpret_cast<barrier *>(shared + BARRIERS) + i;
    }

    // One thread, this and the next.
    __device__ __forceinline__ void fetch(const tile_map *map, int rows, int first, barrier *b,
                                          unsigned char *to) const
    {
        barrier_expect(b, PANELS * rows * 128);
#pragma unroll
        for (int p = 0; p < PANELS; p++)
            tile_fetch(to + p * rows * 128, map, b, p * 64, blockIdx.y, first, blockIdx.z);
    }

    __device__ __forceinline__ void fetch_all() const
    {
#pragma unroll
        for (int i = 0; i < 2 + GROUPS; i++)
            barrier_start(there(i), 1);
        barriers_started();
        fetch(&args.keys, KEYS, 0, there(KEY), shared);
        if (TILED)
            for (int g = 0; g < GROUPS; g++)
                fetch(&args.queries, 64, (blockIdx.x * GROUPS + g) * 64, there(2 + g),
                      shared + QUERY + g * PANELS * QUERIES);
        fetch(&args.values, KEYS, 0, there(VALUE), shared + TILE);
    }

    __device__ __forceinline__ void meet_keys()
    {
        unsigned group = warp / 4;
        barrier_wait(there(KEY), 0);
        if (TILED)
            barrier_wait(there(2 + group), 0);
        products_begin();
        if constexpr (TILED) {
            unsigned long long queries = tile_at(shared + QUERY + group * PANELS * QUERIES);
            unsigned long long keys = tile_at(shared);
#pragma unroll
            for (int d = 0; d < DEPTH<D>; d++)
                product_of<T, KEYS>::tiles(flat(f.score),
                                           tile_further(queries, d / 4 * QUERIES + d % 4 * 32),
                                           tile_further(keys, d / 4 * PANEL + d % 4 * 32), d > 0);
            products_commit();
        } else {
            f.meet_keys(shared);
        }
        products_wait<0>();
        pin(flat(f.score));
    }

    __device__ __forceinline__ void run()
    {
        const attention_args &a = args.a;
        int first = (blockIdx.x * GROUPS * 4 + warp) * 16, left = a.queries - first;
        long row = (long)blockIdx.z * a.queries + first, channel = blockIdx.y * a.width;
        if (threadIdx.x == 0)
            fetch_all();
        f.start(at<T>(a.q, row) + channel, a.q.row, TILED ? 0 : left, a.width);
        f.scale = a.scale;
        __syncthreads();
        meet_keys();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            hide(f.score, i, a.keys);
            f.lift(i);
        }
        f.soften();
        barrier_wait(there(VALUE), 0);
        f.pin_sums();
        products_begin();
        f.meet_values(shared + TILE, true);
        products_wait<0>();
        f.pin_sums();
        finish<T, D>(f.sum, f.part, reinterpret_cast<T *>(shared + RESULTS + warp * STAGE),
                     at<T>(a.out, row) + channel, a.out.row, left, a.width);
    }
};

template <typename T, int D, int KEYS, int GROUPS, int STAGES>
__device__ __forceinline__ void start(const hopper_attention_args &args)
{
    begin();
    DYNAMIC_SHARED(unsigned char, shared);
    unsigned warp = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0);
    if constexpr (STAGES) {
        run<T, D, KEYS, GROUPS, STAGES>(args, shared, warp);
    } else {
        short_attention<T, D, KEYS, GROUPS> a = { args, shared, warp, {} };
        a.run();
    }
}

// STAGES 0: short. BLOCKS: on a multiprocessor at once.
#define FLASH(name, D, KEYS, GROUPS, STAGES, BLOCKS)                                               \
    extern "C" __global__ void __launch_bounds__(GROUPS * 128, BLOCKS)                             \
        name##_f16(CONSTANT_ARGS(hopper_attention_args, args))                                     \
    {                                                                                              \
        start<f16, D, KEYS, GROUPS, STAGES>(args);                                                 \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(GROUPS * 128, BLOCKS)                             \
        name##_bf16(CONSTANT_ARGS(hopper_attention_args, args))                                    \
    {                                                                                              \
        start<bf16, D, KEYS, GROUPS, STAGES>(args);                                                \
    }

FLASH(hopper_flash40, 40, 64, 4, 4, 1)
FLASH(hopper_flash64, 64, 64, 2, 4, 2)
FLASH(hopper_flash80, 80, 64, 2, 4, 1)
FLASH(hopper_flash160, 160, 64, 1, 2, 1)

// Up to 80 keys: prompts have 77.
FLASH(hopper_short40, 40, 80, 2, 0, 3)
FLASH(hopper_short64, 64, 80, 1, 0, 5)
FLASH(hopper_short80, 80, 80, 2, 0, 2)
FLASH(hopper_short160, 160, 80, 1, 0, 2)
