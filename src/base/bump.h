/* bump.h - many small things with one life: zeroed bump allocations, freed in one call. */
#ifndef STYX_BASE_BUMP_H
#define STYX_BASE_BUMP_H
#include <stddef.h>

struct bump {
    struct bump_block *head;
};

/* NULL when out of memory. Aligned for any object. */
void *bump_alloc(struct bump *p, size_t bytes);
char *bump_string(struct bump *p, const char *text);
void bump_free(struct bump *p);

#endif
