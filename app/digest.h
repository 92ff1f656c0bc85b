/* digest.h - the hash that names a file of a hub: 64 digits are the SHA-256 of its bytes, 40 the
 * SHA-1 of a git blob; anything else names without telling a hash. */
#ifndef STYX_APP_DIGEST_H
#define STYX_APP_DIGEST_H
#include <stdbool.h>

#include "sha1.h"
#include "styx.h"

struct digest {
    enum { DIGEST_NONE, DIGEST_SHA256, DIGEST_GIT } kind;
    struct sha1 sha1;
    styx_hash *sha256;
};

/* For a file of that name and size; exit code. digest_free in any case, zero-initialised too. */
int digest_begin(struct digest *d, const char *name, uint64_t size);
void digest_add(struct digest *d, const void *data, size_t bytes);
/* Is it what the name says? hex gets what it is ("" if that is not known). */
bool digest_matches(struct digest *d, const char *name, char hex[65]);
void digest_free(struct digest *d);

#endif
