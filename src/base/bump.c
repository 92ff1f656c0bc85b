#include "base/bump.h"
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

struct bump_block {
    struct bump_block *next;
    size_t used, size;
    alignas(max_align_t) char data[];
};

void *bump_alloc(struct bump *p, size_t bytes)
{
    size_t need = (bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (need < bytes)
        return NULL;
    if (!p->head || p->head->size - p->head->used < need) {
        size_t size = need > 16384 ? need : 16384;
        struct bump_block *b = calloc(1, sizeof *b + size);
        if (!b)
            return NULL;
        b->size = size;
        b->next = p->head;
        p->head = b;
    }
    void *at = p->head->data + p->head->used;
    p->head->used += need;
    return at;
}

char *bump_string(struct bump *p, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = bump_alloc(p, n);
    return copy ? memcpy(copy, text, n) : NULL;
}

void bump_free(struct bump *p)
{
    while (p->head) {
        struct bump_block *b = p->head;
        p->head = b->next;
        free(b);
    }
}
