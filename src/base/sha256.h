/* sha256.h - SHA-256 (FIPS 180-4), for naming pictures and weights by their bytes. */
#ifndef STYX_BASE_SHA256_H
#define STYX_BASE_SHA256_H
#include "base/error.h"

enum { SHA256_BYTES = 32, SHA256_HEX = 65 /* with the final NUL */ };

struct sha256 {
    uint32_t state[8];
    uint64_t bytes; /* taken so far; those beyond the last whole block wait in block */
    unsigned char block[64];
    void (*blocks)(uint32_t state[8], const unsigned char *data, size_t nblocks);
};

void sha256_start(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t bytes);
void sha256_finish(struct sha256 *s, unsigned char digest[SHA256_BYTES]);

/* In one call, as lower-case hexadecimal digits. */
void sha256_hex(const void *data, size_t bytes, char hex[SHA256_HEX]);
int sha256_file(const char *path, char hex[SHA256_HEX], styx_error *err);

/* Plain C for every machine, also the reference for the tests of the instructions' version. */
void sha256_blocks_plain(uint32_t state[8], const unsigned char *data, size_t nblocks);

#endif
