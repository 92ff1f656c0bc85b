// ptx.cuh - the instructions of src/cuda/kernels/ptx.cuh as the PTX ISA describes them, in loops.
#ifndef STYX_TESTS_PTX_CUH
#define STYX_TESTS_PTX_CUH
#include "e4m3.h"
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define TENSOR_CORES 1
#define DYNAMIC_SHARED(T, name) T *name = static_cast<T *>(emulate_shared())

static inline void fetch(void *to, const void *from, bool there)
{
    emulate_fetch(to, from, there);
}
static inline void fetch_commit()
{
}
template <int LEFT = 0> static inline void fetch_wait()
{
    emulate_fetch_wait();
}

static inline unsigned both(uint16_t low, uint16_t high)
{
    return low | (unsigned)high << 16;
}

static inline void load_matrices(unsigned (&to)[4], const void *from)
{
    const void *const *row = static_cast<const void *const *>(emulate_exchange(&from, sizeof from));
    unsigned g = emulate_lane() / 4, t = emulate_lane() % 4;
    if ((uintptr_t)from % 16)
        emulate_die("a row of a matrix that is not aligned");
    for (int m = 0; m < 4; m++) {
        const uint16_t *x = static_cast<const uint16_t *>(row[8 * m + g]);
        to[m] = both(x[2 * t], x[2 * t + 1]);
    }
    emulate_warp_sync();
}

static inline void load_transposed(unsigned (&to)[4], const void *from)
{
    const void *const *row = static_cast<const void *const *>(emulate_exchange(&from, sizeof from));
    unsigned g = emulate_lane() / 4, t = emulate_lane() % 4;
    if ((uintptr_t)from % 16)
        emulate_die("a row of a matrix that is not aligned");
    for (int m = 0; m < 4; m++)
        to[m] = both(static_cast<const uint16_t *>(row[8 * m + 2 * t])[g],
                     static_cast<const uint16_t *>(row[8 * m + 2 * t + 1])[g]);
    emulate_warp_sync();
}

struct fragments {
    unsigned a[4], b[2];
};

static inline float number(unsigned pair, int odd, __half)
{
    return f16_to_f32((uint16_t)(odd ? pair >> 16 : pair));
}

static inline float number(unsigned pair, int odd, __nv_bfloat16)
{
    return bf16_to_f32((uint16_t)(odd ? pair >> 16 : pair));
}

// A: row r, column k is in lane 4 (r % 8) + (k % 8) / 2, register (r >= 8) + 2 (k >= 8).
// B: row k, column c is in lane 4 c + (k % 8) / 2, register k >= 8.
template <typename T>
static inline void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
    fragments mine = { { a[0], a[1], a[2], a[3] }, { b0, b1 } };
    const fragments *of = static_cast<const fragments *>(emulate_exchange(&mine, sizeof mine));
    int g = emulate_lane() / 4, t = emulate_lane() % 4;
    for (int i = 0; i < 4; i++) {
        int r = g + (i >= 2 ? 8 : 0), c = 2 * t + i % 2;
        double dot = 0;
        for (int k = 0; k < 16; k++)
            dot +=
                (double)number(of[4 * (r % 8) + k % 8 / 2].a[(r >= 8) + 2 * (k >= 8)], k % 2, T()) *
                number(of[4 * c + k % 8 / 2].b[k >= 8], k % 2, T());
        sum[i] += (float)dot;
    }
}

static inline unsigned e4m3_pair(float low, float high)
{
    return e4m3_code(low) | (unsigned)e4m3_code(high) << 8;
}

static inline float power_of_two(float x)
{
    return exp2f(x);
}
static inline float reciprocal(float x)
{
    return 1.0f / x;
}
static inline void forget(uint4 &)
{
}
static inline void begin()
{
}
struct alignas(16) note {
    float first, second;
    unsigned mark;
};

static inline void tell(note *to, float first, float second, unsigned mark)
{
    *to = { first, second, mark };
}
static inline void hear(const note *from, unsigned mark, float &first, float &second)
{
    while (from->mark != mark)
        emulate_give_way();
    first = from->first;
    second = from->second;
}
static inline unsigned next_mark(const unsigned *marks)
{
    return marks[0] + 1;
}
static inline void mark_used(unsigned *marks, unsigned blocks)
{
    if (++marks[1] == blocks) {
        marks[1] = 0;
        marks[0]++;
    }
}

#endif
