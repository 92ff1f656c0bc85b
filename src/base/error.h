/* error.h - one way to fail.
 *
 * Every fallible function returns an enum styx_status and fills a caller-owned styx_error.
 * Who detects a problem writes the message; who propagates adds nothing. */
#ifndef STYX_BASE_ERROR_H
#define STYX_BASE_ERROR_H
#include "styx.h"

/* Writes the message (if err is not NULL) and returns code. An error already set is replaced. */
int fail(styx_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The one message for a failed allocation, so that it never allocates itself. */
int fail_nomem(styx_error *err, size_t bytes);

#endif
