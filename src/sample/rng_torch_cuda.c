/* rng_torch_cuda.c - torch.randn with a CUDA generator.
 *
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011) is a function of seed, offset and thread, so
 * every number can be had by itself. torch gives each thread one number, up to as many threads as
 * the card runs at once; beyond that each thread goes round: number i belongs to thread i % T,
 * which takes 4 normals (2 doubles) out of each Philox block. The transform is curand's. */
#include <math.h>

#include "sample/boxmuller.h"
#include "sample/rng_internal.h"

enum { LANES = 16, BLOCK_THREADS = 256 };

/* Four counter words become four random ones, for LANES counters side by side. */
static void philox_rounds(uint32_t c[restrict 4][LANES], uint64_t seed)
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        for (int l = 0; l < LANES; l++) {
            uint64_t p0 = (uint64_t)0xd2511f53u * c[0][l];
            uint64_t p1 = (uint64_t)0xcd9e8d57u * c[2][l];
            c[0][l] = (uint32_t)(p1 >> 32) ^ c[1][l] ^ key0;
            c[1][l] = (uint32_t)p1;
            c[2][l] = (uint32_t)(p0 >> 32) ^ c[3][l] ^ key1;
            c[3][l] = (uint32_t)p0;
        }
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
}

/* a * b rounded towards zero: the exact product without the bits that a float has not. */
static inline float product_down(float a, float b)
{
    double product = (double)a * b;
    uint64_t u;
    memcpy(&u, &product, 8);
    u &= ~0ull << 29;
    memcpy(&product, &u, 8);
    return (float)product;
}

/* curand's Box-Muller: the sine is the first number of a pair, the cosine the second. It takes both
 * from the card's sine unit, whose error is mostly that of the angle in turns, rounded down. */
static void normals_f32(const uint32_t *x, const uint32_t *y, bool second, float *z)
{
    for (int l = 0; l < LANES; l++) {
        float u = fused((float)x[l], 0x1p-32f, 0x1p-33f);
        float v = fused((float)y[l], 6.2831855f * 0x1p-32f, 6.2831855f * 0x1p-33f);
        float octants = 8.0f * product_down(v, 0.15915494f), sine, cosine;
        int32_t octant = cephes_nearest(octants);
        cephes_octant(octant, (octants - (float)octant) * 0.785398163f, &sine, &cosine);
        z[l] = sqrtf(-2.0f * cephes_log(u)) * (second ? cosine : sine);
    }
}

static float normal_f64(uint32_t x0, uint32_t x1, uint32_t y0, uint32_t y1, bool second)
{
    const double pi = 3.14159265358979323846;
    double u = (double)((uint64_t)x0 ^ (uint64_t)x1 << 21) * 0x1p-53 + 0x1p-54;
    double v = (double)((uint64_t)y0 ^ (uint64_t)y1 << 21) * 0x1p-52 + 0x1p-53;
    double radius = sqrt(-2.0 * log(u));
    return (float)(radius * (second ? cos(pi * v) : sin(pi * v)));
}

/* The numbers of threads [thread, thread + n) in one turn, n <= LANES. */
static void draw_lanes(const struct rng_philox *philox, enum dtype type, uint64_t turn,
                       uint64_t thread, float *out, size_t n)
{
    uint32_t c[4][LANES];
    unsigned per_block = type == DT_F64 ? 2 : 4, which = (unsigned)(turn % per_block);
    uint64_t counter = philox->offset / 4 + turn / per_block;
    float z[LANES];
    for (unsigned l = 0; l < LANES; l++) {
        c[0][l] = (uint32_t)counter;
        c[1][l] = (uint32_t)(counter >> 32);
        c[2][l] = (uint32_t)(thread + l);
        c[3][l] = (uint32_t)((thread + l) >> 32);
    }
    philox_rounds(c, philox->seed);
    if (type == DT_F64) {
        for (unsigned l = 0; l < LANES; l++)
            z[l] = normal_f64(c[0][l], c[1][l], c[2][l], c[3][l], which);
    } else {
        normals_f32(c[which & 2], c[(which & 2) + 1], which & 1, z);
    }
    if (type == DT_F16 || type == DT_BF16) {
        for (unsigned l = 0; l < LANES; l++)
            z[l] = type == DT_F16 ? f16_to_f32(f32_to_f16(z[l])) : bf16_to_f32(f32_to_bf16(z[l]));
    }
    memcpy(out, z, n * sizeof *z);
}

void philox_normal(struct rng_philox *philox, enum dtype type, size_t total, struct rng_part part)
{
    if (total == 0)
        return;
    uint64_t threads = ((total - 1) / BLOCK_THREADS + 1) * BLOCK_THREADS;
    if (threads > philox->threads)
        threads = philox->threads;
    for (size_t at = part.first, n; at < part.end; at += n) {
        uint64_t thread = at % threads;
        n = part.end - at < LANES ? part.end - at : LANES;
        if (n > threads - thread)
            n = threads - thread;
        draw_lanes(philox, type, at / threads, thread, part.out + (at - part.first), n);
    }
    uint64_t per_turn = threads * (type == DT_F64 ? 2 : 4);
    philox->offset += ((total - 1) / per_turn + 1) * 4;
}
