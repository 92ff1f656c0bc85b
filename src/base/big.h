/* big.h - large pieces of memory, straight from the system. */
#ifndef STYX_BASE_BIG_H
#define STYX_BASE_BIG_H
#include <stddef.h>

/* Zeroed, page-aligned, of huge pages where the system has them. NULL if there is none. */
void *big_alloc(size_t bytes);
void big_free(void *p, size_t bytes); /* NULL is allowed */

#endif
