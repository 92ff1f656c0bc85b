// hopper.cuh - what src/cuda/kernels/hopper.cuh has, as the PTX ISA describes it, in loops.
#ifndef STYX_TESTS_HOPPER_CUH
#define STYX_TESTS_HOPPER_CUH
#include "cuda/kernels/common.cuh"

#define CONSTANT_ARGS(T, name) const T name

static inline bool elected()
{
    return emulate_lane() == 0;
}

// ---- barriers

struct barrier {
    uint16_t members, missing;
    int32_t bytes : 31; // not yet there
    uint32_t parity : 1;
};
static_assert(sizeof(barrier) == 8, "as a card has them");

static inline void barrier_settle(barrier *b)
{
    if (b->missing || b->bytes)
        return;
    b->missing = b->members;
    b->parity ^= 1;
}
static inline void barrier_start(barrier *b, int arrivals)
{
    *b = { (uint16_t)arrivals, (uint16_t)arrivals, 0, 0 };
}
static inline void barriers_started()
{
}
static inline void barrier_arrive(barrier *b)
{
    if (!b->missing)
        emulate_die("more arrive at a barrier than it waits for");
    b->missing--;
    barrier_settle(b);
}
static inline void barrier_expect(barrier *b, unsigned bytes)
{
    b->bytes += (int)bytes;
    barrier_arrive(b);
}
static inline void barrier_wait(barrier *b, unsigned parity)
{
    while (b->parity == parity % 2)
        emulate_give_way();
}
// ---- pairs

#define PAIR_OF_BLOCKS

static inline void meet_pair()
{
    emulate_cluster_sync();
}
static inline void barrier_arrive_in(barrier *b, unsigned rank)
{
    barrier_arrive(static_cast<barrier *>(emulate_shared_of(rank, b)));
}

// ---- tiles

static inline void tile_prepare(const tile_map *)
{
}

// Where the byte that tiles have at p really is.
static inline unsigned char *tile_byte(unsigned char *p)
{
    uintptr_t at = (uintptr_t)p;
    return reinterpret_cast<unsigned char *>(at ^ (at >> 7 & 7) << 4);
}

static inline void tile_fill(void *to, const emulate_map &map, const int (&first)[5])
{
    unsigned char *place = static_cast<unsigned char *>(to);
    int count = 1;
    if ((uintptr_t)to % 128 || map.tile[0] * 2 > 128)
        emulate_die("a tile that is not where tiles may be");
    for (int d = 0; d < 5; d++)
        count *= map.tile[d];
    for (int i = 0; i < count; i++, place += 2) {
        const unsigned char *from = map.data;
        bool there = true;
        for (int d = 0, rest = i; d < 5; rest /= map.tile[d++]) {
            int at = first[d] + rest % map.tile[d];
            there = there && at >= 0 && at < map.size[d];
            from += at * map.stride[d];
        }
        memset(tile_byte(place), 0, 2);
        if (there)
            memcpy(tile_byte(place), from, 2);
    }
}

struct tile_copy {
    void *to;
    barrier *b;
    emulate_map map;
    int first[5];
};

static inline void tile_arrive(const void *copy)
{
    const tile_copy *c = static_cast<const tile_copy *>(copy);
    int bytes = 2;
    for (int d = 0; d < 5; d++)
        bytes *= c->map.tile[d];
    tile_fill(c->to, c->map, c->first);
    c->b->bytes -= bytes;
    barrier_settle(c->b);
}

static inline void tile_fetch(void *to, const tile_map *map, barrier *b, int x, int y, int z = 0,
                              int w = 0)
{
    tile_copy c = { to, b, {}, { x, y, z, w, 0 } };
    memcpy(&c.map, map, sizeof c.map);
    emulate_copy(tile_arrive, &c, sizeof c);
}
static inline void tile_fetch_both(void *to, const tile_map *map, barrier *b, int x, int y)
{
    for (unsigned rank = 0; rank < 2; rank++)
        tile_fetch(emulate_shared_of(rank, to), map,
                   static_cast<barrier *>(emulate_shared_of(rank, b)), x, y);
}
static inline void tile_fetch_groups(void *to, const tile_map *map, barrier *b, int x, int group)
{
    tile_copy c = { to, b, {}, { x, 0, 0, 0, group } };
    memcpy(&c.map, map, sizeof c.map);
    emulate_copy(tile_arrive, &c, sizeof c);
}

// ---- registers

template <int COUNT> static inline void registers_take()
{
}
template <int COUNT> static inline void registers_give()
{
}

// ---- products

static inline unsigned long long tile_at(const void *from)
{
    return (uintptr_t)from;
}
static inline unsigned long long tile_across(const void *from, unsigned next)
{
    return (uintptr_t)from | (unsigned long long)(next >> 4) << 48;
}
static inline unsigned long long tile_further(unsigned long long tile, unsigned bytes)
{
    return tile + bytes;
}
template <typename T, int N> static inline void pin(T (&)[N])
{
}
static inline void products_begin()
{
}
static inline void products_commit()
{
}
template <int LEFT> static inline void products_wait()
{
    emulate_warp_sync();
}

template <typename T> static inline float tile_number(unsigned long long tile, int row, int column)
{
    uintptr_t from = tile & ((1ull << 48) - 1);
    T x;
    memcpy(&x, tile_byte(reinterpret_cast<unsigned char *>(from + row * 128 + column * 2)), 2);
    return to_float(x);
}

// b's number for column n of the result and column k of a
template <typename T, int ACROSS> static inline float factor(unsigned long long b, int n, int k)
{
    if (!ACROSS)
        return tile_number<T>(b, n, k);
    return tile_number<T>(b + (unsigned long long)(n / 64) * ((b >> 48) << 4), k, n % 64);
}

template <typename T, int N> struct product_of {
    template <int ACROSS>
    static void sums(float (&sum)[N / 2], const float (&a)[2][16], unsigned long long b, bool add)
    {
        for (int i = 0; i < N / 2; i++) {
            int n = i / 4 * 8 + emulate_lane() % 4 * 2 + i % 2;
            double dot = add ? (double)sum[i] : 0;
            for (int k = 0; k < 16; k++)
                dot += (double)a[i / 2 % 2][k] * factor<T, ACROSS>(b, n, k);
            sum[i] = (float)dot;
        }
    }

    static void tiles(float (&sum)[N / 2], unsigned long long a, unsigned long long b, bool add)
    {
        float rows[2][16];
        int row = emulate_thread.x % 128 / 32 * 16 + emulate_lane() / 4;
        for (int i = 0; i < 32; i++)
            rows[i / 16][i % 16] = tile_number<T>(a, row + i / 16 * 8, i % 16);
        sums<0>(sum, rows, b, add);
    }

    template <int ACROSS>
    static void held(float (&sum)[N / 2], const unsigned (&a)[4], unsigned long long b, bool add)
    {
        const unsigned *of = static_cast<const unsigned *>(emulate_exchange(a, sizeof a));
        float rows[2][16];
        int first = emulate_lane() / 4 * 4; // of the four lanes with the same rows
        for (int i = 0; i < 32; i++) {
            int low = i / 16, k = i % 16;
            unsigned word = of[4 * (first + k % 8 / 2) + low + 2 * (k >= 8)];
            rows[low][k] = number(word, k % 2, T());
        }
        sums<ACROSS>(sum, rows, b, add);
    }
};

#endif
