#include "text/bpe.h"

#include <stdbool.h>
#include <stdlib.h>

int bpe_init(struct bpe *b, size_t nmerges, styx_error *err)
{
    *b = (struct bpe){ .capacity = 16 };
    while (b->capacity < 2 * nmerges)
        b->capacity *= 2;
    b->table = malloc(b->capacity * sizeof *b->table);
    if (!b->table)
        return fail_nomem(err, b->capacity * sizeof *b->table);
    for (size_t i = 0; i < b->capacity; i++)
        b->table[i].rank = -1;
    return STYX_OK;
}

void bpe_free(struct bpe *b)
{
    free(b->table);
    *b = (struct bpe){ 0 };
}

/* The slot that holds the pair, or the free one where it would go. */
static struct merge *slot_of(const struct bpe *b, int32_t left, int32_t right)
{
    /* Fibonacci hashing (Knuth 6.4): the high bits of a product with 2^64 / golden ratio. */
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t i = (size_t)(key * 0x9E3779B97F4A7C15u >> 32);

    for (;; i++) {
        struct merge *m = &b->table[i & (b->capacity - 1)];
        if (m->rank < 0 || (m->left == left && m->right == right))
            return m;
    }
}

void bpe_add(struct bpe *b, int32_t left, int32_t right, int32_t rank, int32_t id)
{
    struct merge *m = slot_of(b, left, right);

    b->count += m->rank < 0;
    *m = (struct merge){ left, right, rank, id };
}

static int reserve(struct bpe_work *work, size_t n, styx_error *err)
{
    if (n <= work->capacity)
        return STYX_OK;
    size_t capacity = n > 2 * work->capacity ? n : 2 * work->capacity;
    struct symbol *symbols = realloc(work->symbols, capacity * sizeof *symbols);
    if (!symbols)
        return fail_nomem(err, capacity * sizeof *symbols);
    work->symbols = symbols;
    /* n - 1 pairs at first, and each of at most n - 1 merges takes one out and puts two in. */
    struct candidate *heap = realloc(work->heap, 2 * capacity * sizeof *heap);
    if (!heap)
        return fail_nomem(err, 2 * capacity * sizeof *heap);
    work->heap = heap;
    work->capacity = capacity;
    return STYX_OK;
}

void bpe_work_free(struct bpe_work *work)
{
    free(work->symbols);
    free(work->heap);
    *work = (struct bpe_work){ 0 };
}

static bool before(struct candidate a, struct candidate b)
{
    return a.rank < b.rank || (a.rank == b.rank && a.at < b.at);
}

static void heap_push(struct bpe_work *work, struct candidate c)
{
    size_t i = work->nheap++;

    for (; i && before(c, work->heap[(i - 1) / 2]); i = (i - 1) / 2)
        work->heap[i] = work->heap[(i - 1) / 2];
    work->heap[i] = c;
}

static struct candidate heap_pop(struct bpe_work *work)
{
    struct candidate top = work->heap[0], last = work->heap[--work->nheap];
    size_t i = 0;

    for (size_t child; (child = 2 * i + 1) < work->nheap; i = child) {
        child += child + 1 < work->nheap && before(work->heap[child + 1], work->heap[child]);
        if (!before(work->heap[child], last))
            break;
        work->heap[i] = work->heap[child];
    }
    work->heap[i] = last;
    return top;
}

/* Makes the symbol at and its successor a candidate, if the pair is known. */
static void consider(const struct bpe *b, struct bpe_work *work, int32_t at)
{
    if (at < 0 || work->symbols[at].next < 0)
        return;
    const struct symbol *s = &work->symbols[at];
    const struct merge *m = slot_of(b, s->id, work->symbols[s->next].id);
    if (m->rank >= 0)
        heap_push(work, (struct candidate){ m->rank, at, m->id });
}

int bpe_merge(const struct bpe *b, struct bpe_work *work, int32_t *ids, size_t *n, styx_error *err)
{
    size_t count = *n;
    int rc = reserve(work, count, err);

    if (rc)
        return rc;
    struct symbol *s = work->symbols;
    work->nheap = 0;
    for (size_t i = 0; i < count; i++)
        s[i] = (struct symbol){ ids[i], (int32_t)i - 1, i + 1 < count ? (int32_t)i + 1 : -1 };
    for (size_t i = 0; i + 1 < count; i++)
        consider(b, work, (int32_t)i);

    while (work->nheap) {
        struct candidate c = heap_pop(work);
        struct symbol *left = &s[c.at];
        if (left->id < 0 || left->next < 0)
            continue;
        struct symbol *right = &s[left->next];
        /* The pair may have changed since it was pushed: does it still make the same? */
        const struct merge *m = slot_of(b, left->id, right->id);
        if (m->rank < 0 || m->id != c.id)
            continue;
        left->id = c.id;
        right->id = -1;
        left->next = right->next;
        if (left->next >= 0)
            s[left->next].prev = c.at;
        consider(b, work, left->prev);
        consider(b, work, c.at);
    }

    *n = 0;
    for (int32_t i = 0; count && i >= 0; i = s[i].next)
        ids[(*n)++] = s[i].id;
    return STYX_OK;
}
