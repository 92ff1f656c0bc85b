/* pool.h - many small things with one life: zeroed bump allocations, freed in one call. */
#ifndef STYX_BASE_POOL_H
#define STYX_BASE_POOL_H
#include <stddef.h>

struct pool {
    struct pool_block *head;
};

/* NULL when out of memory. Aligned for any object. */
void *pool_alloc(struct pool *p, size_t bytes);
char *pool_string(struct pool *p, const char *text);
void pool_free(struct pool *p);

#endif
