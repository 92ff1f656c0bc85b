/* pull.h - what the two ways into the cache share: pull.c from a network, register.c from here. */
#ifndef STYX_APP_PULL_H
#define STYX_APP_PULL_H
#include <jansson.h>

/* Prints value, which it frees, as one line. Exit codes. */
int pull_print(json_t *value);
/* 64 hexadecimal digits, made lower-case? */
int pull_check_sha256(char *hash);

#endif
