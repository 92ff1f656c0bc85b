/* bpe.h - byte-pair encoding: merge the neighbours of lowest rank until no pair is known.
 *
 * Sennrich et al. 2016. Pairs live in a hash table, the symbols of a piece in a linked list and
 * the pairs to come in a heap, so a piece of n symbols takes O(n log n), however long it is. */
#ifndef STYX_TEXT_BPE_H
#define STYX_TEXT_BPE_H
#include "base/error.h"

struct merge {
    int32_t left, right, rank, id; /* rank -1 marks a free slot */
};

struct bpe {
    struct merge *table;
    size_t capacity, count; /* capacity is 0 or a power of two */
};

/* Room for nmerges. */
int bpe_init(struct bpe *b, size_t nmerges, styx_error *err);
void bpe_free(struct bpe *b);
/* left and right become id. A pair added again gets the later rank. */
void bpe_add(struct bpe *b, int32_t left, int32_t right, int32_t rank, int32_t id);

struct symbol {
    int32_t id, prev, next; /* id -1: merged into the one before */
};

struct candidate {
    int32_t rank, at, id;
};

/* Working memory to reuse from piece to piece; zero-initialised. */
struct bpe_work {
    struct symbol *symbols;
    struct candidate *heap;
    size_t capacity, nheap;
};

/* Merges ids[0..n) in place; *n becomes what is left. */
int bpe_merge(const struct bpe *b, struct bpe_work *work, int32_t *ids, size_t *n, styx_error *err);
void bpe_work_free(struct bpe_work *work);

#endif
