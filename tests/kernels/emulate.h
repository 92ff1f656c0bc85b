/* emulate.h - runs a CUDA kernel on the processor, thread by thread.
 *
 * The threads of a block (of all blocks that act together) are coroutines that take turns in an
 * order drawn anew for each turn, and give way at barriers: a missing barrier shows as a wrong
 * number, a barrier that not all reach as a deadlock. Shared memory is NaN when a block begins, and
 * writing past what was asked for is an error. Copies in the background arrive when they are
 * awaited, or at once: both are allowed. Every mistake of a kernel ends the program with a
 * sentence. */
#ifndef STYX_TESTS_EMULATE_H
#define STYX_TESTS_EMULATE_H
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct emulate_index {
    unsigned x, y, z;
};

struct emulate_launch {
    void (*kernel)(const void *args);
    const void *args;
    struct emulate_index grid, block;
    unsigned shared;  /* bytes */
    unsigned cluster; /* blocks along x that act together */
    bool late;        /* copies in the background arrive when they are awaited */
};

void emulate(const struct emulate_launch *launch);

/* What stands in a tile_map (cuda/kernels/args.h): numbers of two bytes, strides in bytes. */
struct emulate_map {
    const unsigned char *data;
    long stride[5];
    int size[5], tile[5];
};

/* What the kernels see (host/cuda_fp16.h). */
extern struct emulate_index emulate_thread, emulate_block, emulate_block_size, emulate_grid_size;
void emulate_sync(void); /* of a block */
void emulate_warp_sync(void);
unsigned emulate_lane(void);
/* All lanes show `size` bytes (64 at most); lane i's begin at i * size of what comes back. */
const void *emulate_exchange(const void *mine, size_t size);
void *emulate_shared(void);
void *emulate_shared_of(unsigned rank, void *mine); /* the same place, of a block of the cluster */
void emulate_cluster_sync(void);
/* Another copy, of whole tiles: arrive(what it was given) once, now or when a thread waits. */
void emulate_copy(void (*arrive)(const void *), const void *copy, size_t size);
void emulate_give_way(void);                                /* another thread's turn */
void emulate_fetch(void *to, const void *from, bool there); /* 16 bytes */
void emulate_fetch_wait(void);
void emulate_die(const char *why) __attribute__((noreturn));

#ifdef __cplusplus
}
#endif
#endif
