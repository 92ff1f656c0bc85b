#include "base/sha256.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

/* First 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotr(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static uint32_t load_be(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store_be(unsigned char *p, uint32_t x)
{
    p[0] = (unsigned char)(x >> 24);
    p[1] = (unsigned char)(x >> 16);
    p[2] = (unsigned char)(x >> 8);
    p[3] = (unsigned char)x;
}

/* FIPS 180-4, 6.2.2, with its letters. The message schedule is a ring of 16 words and the working
 * variables are a ring of 8: instead of moving b to c, the names move. */
void sha256_blocks_plain(uint32_t state[8], const unsigned char *data, size_t nblocks)
{
    for (; nblocks--; data += 64) {
        uint32_t w[16], v[8];

        memcpy(v, state, sizeof v);
#pragma GCC unroll 16
        for (int t = 0; t < 64; t++) {
            uint32_t x = w[(t + 1) & 15], y = w[(t + 14) & 15];
            if (t < 16)
                w[t] = load_be(data + 4 * t);
            else
                w[t & 15] += (rotr(x, 7) ^ rotr(x, 18) ^ x >> 3) + w[(t + 9) & 15] +
                             (rotr(y, 17) ^ rotr(y, 19) ^ y >> 10);
            uint32_t a = v[-t & 7], b = v[(1 - t) & 7], c = v[(2 - t) & 7];
            uint32_t e = v[(4 - t) & 7], f = v[(5 - t) & 7], g = v[(6 - t) & 7], h = v[(7 - t) & 7];
            uint32_t t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) +
                          K[t] + w[t & 15];
            uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            v[(3 - t) & 7] += t1;
            v[(7 - t) & 7] = t1 + t2;
        }
        for (int i = 0; i < 8; i++)
            state[i] += v[i];
    }
}

#if defined(__x86_64__)
/* The instructions keep the eight words as (a,b,e,f) and (c,d,g,h) and do two rounds each. */
__attribute__((target("sha,sse4.1,ssse3"))) static void
sha256_blocks_ni(uint32_t state[8], const unsigned char *data, size_t nblocks)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(badc, efgh, 8);
    __m128i cdgh = _mm_blend_epi16(efgh, badc, 0xf0);

    for (; nblocks--; data += 64) {
        __m128i abef0 = abef, cdgh0 = cdgh, w[4];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            if (i < 4) {
                __m128i raw = _mm_loadu_si128((const __m128i *)(data + 16 * i));
                w[i] = _mm_shuffle_epi8(raw, swap);
            } else {
                __m128i w3 = w[(i + 3) & 3];
                __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]),
                                            _mm_alignr_epi8(w3, w[(i + 2) & 3], 4));
                w[i & 3] = _mm_sha256msg2_epu32(sum, w3);
            }
            __m128i wk = _mm_add_epi32(w[i & 3], _mm_loadu_si128((const __m128i *)(K + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef0);
        cdgh = _mm_add_epi32(cdgh, cdgh0);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

static int have_sha_ni(void)
{
    unsigned a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSE4_1) || !(c & bit_SSSE3))
        return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & 1u << 29;
}
#endif

void sha256_start(struct sha256 *s)
{
    /* First 32 bits of the fractional parts of the square roots of the first 8 primes. */
    static const uint32_t start[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

    memcpy(s->state, start, sizeof start);
    s->bytes = 0;
    s->blocks = sha256_blocks_plain;
#if defined(__x86_64__)
    if (have_sha_ni())
        s->blocks = sha256_blocks_ni;
#endif
}

void sha256_add(struct sha256 *s, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    size_t held = s->bytes % 64;

    s->bytes += bytes;
    if (held) {
        size_t n = bytes < 64 - held ? bytes : 64 - held;
        memcpy(s->block + held, p, n);
        p += n;
        bytes -= n;
        if (held + n < 64)
            return;
        s->blocks(s->state, s->block, 1);
    }
    if (bytes >= 64)
        s->blocks(s->state, p, bytes / 64);
    if (bytes % 64)
        memcpy(s->block, p + bytes / 64 * 64, bytes % 64);
}

void sha256_finish(struct sha256 *s, unsigned char digest[SHA256_BYTES])
{
    unsigned char tail[72] = { 0x80 };
    uint64_t bits = s->bytes * 8;
    size_t zeros = (119 - s->bytes % 64) % 64; /* until 8 bytes are left of the last block */

    store_be(tail + 1 + zeros, (uint32_t)(bits >> 32));
    store_be(tail + 5 + zeros, (uint32_t)bits);
    sha256_add(s, tail, 1 + zeros + 8);
    for (int i = 0; i < 8; i++)
        store_be(digest + 4 * i, s->state[i]);
}

static void finish_hex(struct sha256 *s, char hex[SHA256_HEX])
{
    unsigned char digest[SHA256_BYTES];

    sha256_finish(s, digest);
    for (int i = 0; i < SHA256_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

void sha256_hex(const void *data, size_t bytes, char hex[SHA256_HEX])
{
    struct sha256 s;

    sha256_start(&s);
    sha256_add(&s, data, bytes);
    finish_hex(&s, hex);
}

int sha256_file(const char *path, char hex[SHA256_HEX], styx_error *err)
{
    enum { CHUNK = 1 << 20 };
    struct sha256 s;
    size_t n;
    int rc = STYX_OK;
    unsigned char *chunk = NULL;
    FILE *f = fopen(path, "rb");

    if (!f)
        return fail(err, STYX_ERR_IO, "%s: %s", path, strerror(errno));
    chunk = malloc(CHUNK);
    if (!chunk) {
        rc = fail_nomem(err, CHUNK);
        goto done;
    }
    sha256_start(&s);
    while ((n = fread(chunk, 1, CHUNK, f)) > 0)
        sha256_add(&s, chunk, n);
    if (ferror(f))
        rc = fail(err, STYX_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
    else
        finish_hex(&s, hex);
done:
    free(chunk);
    fclose(f);
    return rc;
}
