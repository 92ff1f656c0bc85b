#include "emulate.h"
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { MOST_BLOCKS = 32, MOST_THREADS = 1024, LANES = 32, WARPS = MOST_THREADS / LANES };
enum { STACK = 128 * 1024, SHARED = 227 * 1024, SLOT = 64, MOST_COPIES = 256 };
enum { TILE_COPY = 256 };

struct barrier {
    unsigned members, arrived, turn;
};

struct warp {
    struct barrier all;
    unsigned char slot[2][LANES * SLOT];
};

struct block {
    struct emulate_index index;
    struct barrier all;
    struct warp warp[WARPS];
    unsigned char *shared;
};

struct thread {
    ucontext_t start;
    jmp_buf at;
    bool started, done;
    struct emulate_index index;
    unsigned number, slot;
    struct block *block;
    void *stack;
    struct {
        void *to;
        const void *from;
        bool there;
    } copy[MOST_COPIES];
    int copies;
};

struct emulate_index emulate_thread, emulate_block, emulate_block_size, emulate_grid_size;

static const struct emulate_launch *launch;
static struct thread *threads[MOST_BLOCKS * MOST_THREADS], *current;
static struct block *blocks[MOST_BLOCKS];
static struct barrier cluster;
static struct {
    void (*arrive)(const void *);
    unsigned char copy[TILE_COPY];
} tiles[MOST_COPIES]; /* on their way */
static int tiles_coming;
static jmp_buf scheduler;
static unsigned random_state = 1;

void emulate_die(const char *why)
{
    fprintf(stderr, "kernel: %s (block %u %u %u, thread %u %u)\n", why, emulate_block.x,
            emulate_block.y, emulate_block.z, emulate_thread.x, emulate_thread.y);
    abort();
}

/* ---- barriers */

static void give_way(void)
{
    if (!_setjmp(current->at))
        _longjmp(scheduler, 1);
}

static unsigned arrive(struct barrier *b)
{
    unsigned turn = b->turn;
    if (++b->arrived == b->members) {
        b->arrived = 0;
        b->turn++;
    }
    return turn;
}

static void wait_for(const struct barrier *b, unsigned turn)
{
    while (b->turn == turn)
        give_way();
}

static void leave(struct barrier *b)
{
    if (--b->members && b->arrived == b->members) {
        b->arrived = 0;
        b->turn++;
    }
}

void emulate_sync(void)
{
    wait_for(&current->block->all, arrive(&current->block->all));
}

void emulate_cluster_sync(void)
{
    wait_for(&cluster, arrive(&cluster));
}

static struct warp *my_warp(void)
{
    return &current->block->warp[current->number / LANES];
}

void emulate_warp_sync(void)
{
    struct barrier *all = &my_warp()->all;
    if (all->members < LANES)
        emulate_die("a warp that is not whole acts as one");
    wait_for(all, arrive(all));
}

unsigned emulate_lane(void)
{
    return current->number % LANES;
}

/* Two places in turn: nobody writes to the first again before all have read it. */
const void *emulate_exchange(const void *mine, size_t size)
{
    unsigned char *slot = my_warp()->slot[current->slot ^= 1];
    if (size > SLOT)
        emulate_die("too much for an exchange");
    memcpy(slot + emulate_lane() * size, mine, size);
    emulate_warp_sync();
    return slot;
}

/* ---- shared memory */

void *emulate_shared(void)
{
    return current->block->shared;
}

void *emulate_shared_of(unsigned rank, void *mine)
{
    if (rank >= launch->cluster)
        emulate_die("a block that the cluster does not have");
    return blocks[rank]->shared + ((unsigned char *)mine - current->block->shared);
}

static void copy_now(void *to, const void *from, bool there)
{
    if (there)
        memcpy(to, from, 16);
    else
        memset(to, 0, 16);
}

void emulate_fetch(void *to, const void *from, bool there)
{
    if ((uintptr_t)to % 16 || (there && (uintptr_t)from % 16))
        emulate_die("a copy of 16 bytes that are not aligned");
    if (!launch->late) {
        copy_now(to, from, there);
        return;
    }
    if (current->copies == MOST_COPIES)
        emulate_die("too many copies at once");
    int i = current->copies++;
    current->copy[i].to = to;
    current->copy[i].from = from;
    current->copy[i].there = there;
}

void emulate_fetch_wait(void)
{
    for (int i = 0; i < current->copies; i++)
        copy_now(current->copy[i].to, current->copy[i].from, current->copy[i].there);
    current->copies = 0;
}

static void tiles_arrive(void)
{
    for (int i = 0; i < tiles_coming; i++)
        tiles[i].arrive(tiles[i].copy);
    tiles_coming = 0;
}

void emulate_copy(void (*arrival)(const void *), const void *copy, size_t size)
{
    if (!launch->late) {
        arrival(copy);
        return;
    }
    if (tiles_coming == MOST_COPIES || size > TILE_COPY)
        emulate_die("too many copies at once");
    tiles[tiles_coming].arrive = arrival;
    memcpy(tiles[tiles_coming++].copy, copy, size);
}

void emulate_give_way(void)
{
    give_way();
}

/* ---- the scheduler */

static void life(void)
{
    launch->kernel(launch->args);
    if (current->copies)
        emulate_die("copies that nobody awaits");
    current->done = true;
    leave(&cluster);
    leave(&current->block->all);
    leave(&my_warp()->all);
    _longjmp(scheduler, 1);
}

static void resume(struct thread *t)
{
    current = t;
    emulate_thread = t->index;
    emulate_block = t->block->index;
    if (_setjmp(scheduler))
        return;
    if (t->started)
        _longjmp(t->at, 1);
    t->started = true;
    setcontext(&t->start);
}

static void *allocate(size_t bytes)
{
    void *p;
    if (posix_memalign(&p, 1024, bytes))
        abort();
    memset(p, 0, bytes);
    return p;
}

static void prepare_thread(unsigned i, unsigned number, struct block *block)
{
    if (!threads[i]) {
        threads[i] = allocate(sizeof **threads);
        threads[i]->stack = allocate(STACK);
    }
    struct thread *t = threads[i];
    getcontext(&t->start);
    t->start.uc_stack.ss_sp = t->stack;
    t->start.uc_stack.ss_size = STACK;
    makecontext(&t->start, life, 0);
    t->started = t->done = false;
    t->number = number;
    t->index = (struct emulate_index){ number % launch->block.x, number / launch->block.x, 0 };
    t->block = block;
    t->slot = 0;
    block->all.members++;
    block->warp[number / LANES].all.members++;
}

static void prepare_block(unsigned i, struct emulate_index index, unsigned size)
{
    if (!blocks[i]) {
        blocks[i] = allocate(sizeof **blocks);
        blocks[i]->shared = allocate(SHARED);
    }
    struct block *b = blocks[i];
    unsigned char *shared = b->shared;
    memset(b, 0, sizeof *b);
    memset(shared, 0xff, SHARED);
    b->shared = shared;
    b->index = index;
    for (unsigned j = 0; j < size; j++)
        prepare_thread(i * size + j, j, b);
}

/* Blocks x .. x + cluster; all threads have a turn, until none is left. */
static void run_cluster(struct emulate_index first)
{
    unsigned size = launch->block.x * launch->block.y, all = size * launch->cluster;
    cluster = (struct barrier){ .members = all };
    for (unsigned i = 0; i < launch->cluster; i++)
        prepare_block(i, (struct emulate_index){ first.x + i, first.y, first.z }, size);
    for (long round = 0; cluster.members; round++) {
        random_state = random_state * 1664525u + 1013904223u;
        unsigned at = (random_state >> 8) % all, step = random_state >> 31 ? 1 : all - 1;
        for (unsigned i = 0; i < all; i++, at = (at + step) % all)
            if (!threads[at]->done)
                resume(threads[at]);
        if (random_state >> 28 == 0)
            tiles_arrive();
        if (round > 1000 * 1000)
            emulate_die("threads wait for each other for ever");
    }
    if (tiles_coming)
        emulate_die("tiles that nobody awaits");
    for (unsigned i = 0; i < launch->cluster; i++)
        for (unsigned j = launch->shared; j < SHARED; j++)
            if (blocks[i]->shared[j] != 0xff)
                emulate_die("more shared memory was written than asked for");
}

void emulate(const struct emulate_launch *l)
{
    struct emulate_index at;
    launch = l;
    emulate_grid_size = l->grid;
    emulate_block_size = l->block;
    if (!l->block.x || !l->block.y || l->block.x * l->block.y > MOST_THREADS || l->block.z != 1 ||
        l->shared > SHARED || l->cluster > MOST_BLOCKS || l->grid.x % l->cluster ||
        l->grid.y > 65535 || l->grid.z > 65535)
        emulate_die("a launch that no card would accept");
    for (at.z = 0; at.z < l->grid.z; at.z++)
        for (at.y = 0; at.y < l->grid.y; at.y++)
            for (at.x = 0; at.x < l->grid.x; at.x += l->cluster)
                run_cluster(at);
}
