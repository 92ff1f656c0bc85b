/* download.h - files from the net: several at a time, resumed where they were cut off, hashed as
 * they come, and given their name only when size and hash are right. */
#ifndef STYX_APP_DOWNLOAD_H
#define STYX_APP_DOWNLOAD_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct download {
    const char *label; /* what people call it */
    const char *url, *token;
    const char *digest; /* what it must hash to (digest.h), or "" */
    int64_t size;       /* -1: not known */
    const char *path;   /* where it goes; PATH.incomplete until then */
    const char *lock;   /* a file that other programs lock too while they fetch it; or NULL */

    _Atomic uint64_t done;  /* bytes there */
    _Atomic uint64_t begun; /* bytes that were there before */
    char hash[65];          /* what it hashed to, or "" */
    int rc;
    char why[400]; /* it failed */
};

struct download_options {
    int parallel;
    long stalled; /* seconds without a byte */
    const volatile int *cancel;
};

/* All of the list; the exit code of the first that failed, which it complains of. */
int download_all(struct download *list, int n, const struct download_options *o);

/* Waits seconds, or until cancel; false for the latter. */
bool wait_for(double seconds, const volatile int *cancel);
/* How long to wait before try number n (from 1) when the server asked for `asked` seconds. */
double backoff(int n, long asked);
bool status_passes(long status); /* is another try worth it? */

#endif
