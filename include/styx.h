/* styx.h - Stable Diffusion in C: the whole public API. (Being written: see below.) */
#ifndef STYX_H
#define STYX_H
#include <stddef.h>
#include <stdint.h>

enum styx_status {
    STYX_OK = 0,
    STYX_ERR_CANCELLED = -1,
    STYX_ERR_NOMEM = -2,
    STYX_ERR_NODEVICE = -3,
    STYX_ERR_IO = -4,
    STYX_ERR_FORMAT = -5,
    STYX_ERR_UNSUPPORTED = -6,
    STYX_ERR_INVALID = -7,
    STYX_ERR_BACKEND = -8,
    STYX_ERR_INTERNAL = -9
};

typedef struct styx_error {
    int code;
    char text[508];
} styx_error;

#endif
