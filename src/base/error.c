#include "base/error.h"
#include <stdarg.h>
#include <stdio.h>

int fail(styx_error *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        err->code = code;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return code;
}

int fail_nomem(styx_error *err, size_t bytes)
{
    return fail(err, STYX_ERR_NOMEM, "out of memory: %zu bytes were wanted", bytes);
}
