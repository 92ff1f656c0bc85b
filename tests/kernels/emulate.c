#include "emulate.h"
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { MOST_THREADS = 1024, LANES = 32, WARPS = MOST_THREADS / LANES };
enum { STACK = 128 * 1024, SHARED = 227 * 1024, SLOT = 64, MOST_COPIES = 256 };

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
static struct thread *threads[MOST_THREADS], *current;
static struct block *block; /* the one that runs */
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
    wait_for(&block->all, arrive(&block->all));
}

static struct warp *my_warp(void)
{
    return &block->warp[current->number / LANES];
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
    return block->shared;
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

/* ---- the scheduler */

static void life(void)
{
    launch->kernel(launch->args);
    if (current->copies)
        emulate_die("copies that nobody awaits");
    current->done = true;
    leave(&block->all);
    leave(&my_warp()->all);
    _longjmp(scheduler, 1);
}

static void resume(struct thread *t)
{
    current = t;
    emulate_thread = t->index;
    emulate_block = block->index;
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
    if (posix_memalign(&p, 256, bytes))
        abort();
    memset(p, 0, bytes);
    return p;
}

static void prepare_thread(unsigned i)
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
    t->number = i;
    t->index = (struct emulate_index){ i % launch->block.x, i / launch->block.x, 0 };
    t->slot = 0;
    block->all.members++;
    block->warp[i / LANES].all.members++;
}

static void prepare_block(struct emulate_index index, unsigned size)
{
    if (!block) {
        block = allocate(sizeof *block);
        block->shared = allocate(SHARED);
    }
    unsigned char *shared = block->shared;
    memset(block, 0, sizeof *block);
    memset(shared, 0xff, SHARED);
    block->shared = shared;
    block->index = index;
    for (unsigned i = 0; i < size; i++)
        prepare_thread(i);
}

/* All threads have a turn, until none is left. */
static void run_block(struct emulate_index index)
{
    unsigned size = launch->block.x * launch->block.y;
    prepare_block(index, size);
    for (long round = 0; block->all.members; round++) {
        random_state = random_state * 1664525u + 1013904223u;
        unsigned at = (random_state >> 8) % size, step = random_state >> 31 ? 1 : size - 1;
        for (unsigned i = 0; i < size; i++, at = (at + step) % size)
            if (!threads[at]->done)
                resume(threads[at]);
        if (round > 1000 * 1000)
            emulate_die("threads wait for each other for ever");
    }
    for (unsigned i = launch->shared; i < SHARED; i++)
        if (block->shared[i] != 0xff)
            emulate_die("more shared memory was written than asked for");
}

void emulate(const struct emulate_launch *l)
{
    struct emulate_index at;
    launch = l;
    emulate_grid_size = l->grid;
    emulate_block_size = l->block;
    if (!l->block.x || !l->block.y || l->block.x * l->block.y > MOST_THREADS || l->block.z != 1 ||
        l->shared > SHARED || l->grid.y > 65535 || l->grid.z > 65535)
        emulate_die("a launch that no card would accept");
    for (at.z = 0; at.z < l->grid.z; at.z++)
        for (at.y = 0; at.y < l->grid.y; at.y++)
            for (at.x = 0; at.x < l->grid.x; at.x++)
                run_block(at);
}
