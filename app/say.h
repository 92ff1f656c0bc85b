/* say.h - the command's own words: all that is meant for people goes to stderr. */
#ifndef STYX_APP_SAY_H
#define STYX_APP_SAY_H
#include "styx.h"

/* One line, "styx: ..."; returns code. */
int complain(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A library error as one line; returns the exit code for it. */
int complain_of(const styx_error *err);
int complain_memory(void);
/* A line that --quiet leaves out. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void say_quiet(int quiet);
int say_is_quiet(void);

#endif
