/* say.c - see say.h. */
#include "say.h"

#include <stdarg.h>
#include <stdio.h>

#include "options.h"
#include "progress.h"

static int silent;

void say_quiet(int quiet)
{
    silent = quiet;
}

int say_is_quiet(void)
{
    return silent;
}

static void line(const char *prefix, const char *fmt, va_list args)
{
    progress_clear();
    fputs(prefix, stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
}

int complain(int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    line("styx: ", fmt, args);
    va_end(args);
    return code;
}

int complain_of(const styx_error *err)
{
    int code = err->code == STYX_ERR_CANCELLED ? EXIT_CANCELLED
               : err->code == STYX_ERR_INVALID ? EXIT_USAGE
                                               : EXIT_FAILED;
    return complain(code, "%s", err->text[0] ? err->text : styx_status_text(err->code));
}

int complain_memory(void)
{
    return complain(EXIT_FAILED, "out of memory");
}

void say(const char *fmt, ...)
{
    if (silent)
        return;
    va_list args;
    va_start(args, fmt);
    line("", fmt, args);
    va_end(args);
}
