/* digest.c - see digest.h. */
#include "digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "say.h"

int digest_begin(struct digest *d, const char *name, uint64_t size)
{
    size_t digits = strspn(name, "0123456789abcdef");
    char head[40];
    styx_error err;
    digest_free(d);
    if (name[digits] || (digits != 64 && digits != 40))
        return 0;
    if (digits == 40) {
        d->kind = DIGEST_GIT;
        sha1_begin(&d->sha1);
        int length = snprintf(head, sizeof head, "blob %" PRIu64, size);
        sha1_add(&d->sha1, head, (size_t)length + 1); /* with its NUL */
        return 0;
    }
    if (styx_hash_new(&d->sha256, &err))
        return complain_of(&err);
    d->kind = DIGEST_SHA256;
    return 0;
}

void digest_add(struct digest *d, const void *data, size_t bytes)
{
    if (d->kind == DIGEST_GIT)
        sha1_add(&d->sha1, data, bytes);
    else if (d->kind == DIGEST_SHA256)
        styx_hash_add(d->sha256, data, bytes);
}

bool digest_matches(struct digest *d, const char *name, char hex[65])
{
    hex[0] = '\0';
    if (d->kind == DIGEST_GIT)
        sha1_end(&d->sha1, hex);
    else if (d->kind == DIGEST_SHA256)
        styx_hash_end(d->sha256, hex);
    return d->kind == DIGEST_NONE || strcmp(hex, name) == 0;
}

void digest_free(struct digest *d)
{
    styx_hash_free(d->sha256);
    *d = (struct digest){ 0 };
}
