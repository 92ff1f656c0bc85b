/* sha1.h - SHA-1 (FIPS 180-4), which git names its files by: of "blob BYTES\0" and the bytes. Good
 * against accidents, no longer against attackers. */
#ifndef STYX_APP_SHA1_H
#define STYX_APP_SHA1_H
#include <stddef.h>
#include <stdint.h>

struct sha1 {
    uint32_t state[5];
    uint64_t bytes;
    unsigned char block[64];
};

void sha1_begin(struct sha1 *s);
void sha1_add(struct sha1 *s, const void *data, size_t bytes);
void sha1_end(struct sha1 *s, char hex[41]);

#endif
