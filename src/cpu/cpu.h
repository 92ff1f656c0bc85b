/* cpu.h - the CPU backend's own structures.
 *
 * cpu.c runs programs; pack.c brings weights into panels; product.c multiplies tiles; conv.c,
 * attention.c, norm.c and simple.c are the operations; kernel.inc holds their inner loops. */
#ifndef STYX_CPU_CPU_H
#define STYX_CPU_CPU_H
#include "base/thread.h"
#include "cpu/kernel.h"
#include "tape/backend.h"

struct cpu {
    struct pool *pool;
    const struct kernels *k;
    bool hard, winograd, int8;
};

/* ---- weights ---- */

/* Input channels [c0, c0 + c) of one part of the input; `at`: bytes from the panel's start.
 * A panel is [block][tap][words][32 columns] dwords; a block of it stays in the L2 cache. */
struct block {
    int part, c0, c, words;
    size_t at;
};

/* Rows of 32 dwords before the words of each tap of 8-bit weights: minus 128 times the columns'
 * sums, because inputs are stored with 128 added; and the columns' scales. */
enum { HEAD = 2 };

/* The weight of a linear layer or convolution as its kernel reads it. */
struct packed {
    int weight, bias; /* parameters */
    enum act act;     /* ACT_GEGLU: value and gate columns lie side by side in a panel */
    int split;        /* channels of the first part of the input; 0: there is one part */
    int phases;       /* 4: a 3x3 filter over a 2x upsampling as four 2x2 ones; else 1 */
    bool winograd;    /* a 3x3 filter transformed to 16 taps, each of another product */
    enum dtype type;  /* F32, BF16 or I8 */
    int cout, cin, k, taps, panels, nblocks;
    struct block *block;
    size_t panel_bytes;
    char *data;    /* [phases][panels] */
    float *offset; /* [panels][32]: the bias, or zeros */
    bool streamed; /* data is the window, and only while it is this one's turn */
};

/* The first failure of jobs that run at once. */
struct failure {
    atomic_int code;
    styx_error err;
};

struct loaded {
    struct cpu *dev;
    struct span *span; /* of the parameters */
    int nparams;
    float **vector; /* [nparams] f32 copy of a norm's gamma or beta */
    struct packed **packed;
    int npacked, capacity;
    struct region *regions;
    size_t budget; /* bytes of packed weights, the window included; 0: no limit */
    char *window;  /* streamed weights are packed here, one at a time */
    size_t window_bytes, window_held;
    const struct packed *in_window;
    char *staging; /* rows of a file on their way into panels: STAGING bytes for each thread */
    struct failure failure; /* of reading the file */
};

/* Big memory of a loaded component, freed with it. */
struct region {
    struct region *next;
    void *data;
    size_t bytes;
};

enum { MAX_TAPS = 256 }; /* of a filter */

/* Numbers [32 columns][channel][tap], columns stride bytes apart, become [tap][words][32] dwords,
 * taps tap_bytes apart. */
void interleave(const struct packed *w, const char *numbers, size_t stride, int words, char *to,
                size_t tap_bytes);

/* Adds what t needs and l lacks, then packs it with all threads. */
int pack_tape(struct loaded *l, const tape *t, styx_error *err);

/* How much that is for an empty l; under a budget, that or the least that works if it is more. */
size_t pack_bytes(const struct cpu *dev, const tape *t, size_t budget);
struct packed *pack_find(const struct loaded *l, const tape *t, const instr *i);

/* Packs w into the window. Nothing is allocated. */
int pack_stream(struct loaded *l, struct packed *w, styx_error *err);
void pack_free(struct loaded *l);

/* For jobs, and for who waited for them. */
void failure_note(struct failure *f, int code, const styx_error *err);
int failure_take(struct failure *f, styx_error *err);

/* ---- values ---- */

/* Where a value lies: data is pixel (0, 0) of image 0, inside the border if there is one. Strides
 * in bytes. */
struct view {
    char *data;
    int n, h, w, c;
    enum dtype type;
    int border;
    long img, row, px;
};

struct plan;

/* An instruction with everything looked up. */
struct step {
    const instr *i;
    struct packed *packed;
    const float *gamma, *beta;
    const struct span *table;
    bool copied; /* the instruction before it has left a copy of its input in the shared scratch */
    void (*run)(struct plan *p, const struct step *s);
};

struct plan {
    struct cpu *dev;
    const tape *t;
    struct loaded *weights;
    struct step *step;
    char *arena, *shared, *scratch; /* scratch: thread_bytes for each thread */
    size_t arena_bytes, shared_bytes, thread_bytes;
    const atomic_int *cancel;
    bool warm; /* the prologue's values are there */
};

/* Scratch memory of an instruction: one block for all threads, one for each. */
struct scratch {
    size_t shared, thread;
};

struct view view_of(const struct plan *p, const tensor *x);
void view_clear_border(const struct view *v);
static inline char *view_at(const struct view *v, int n, int y)
{
    return v->data + n * v->img + y * v->row;
}

static inline void *thread_scratch(const struct plan *p, int thread)
{
    return p->scratch + (size_t)thread * p->thread_bytes;
}

static inline bool cancelled(const struct plan *p)
{
    return p->cancel && atomic_load_explicit(p->cancel, memory_order_relaxed);
}

static inline size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

double cpu_peak(void *dev, enum dtype type); /* FLOP/s of all threads; 0: not known */

/* ---- products ---- */

struct grid {
    char *data;
    long img, row, px;
};

/* out[n][h][w] = finish(sum over taps and channels) for the packed weight w. in[].data is the first
 * tap of output (0, 0); a step of one output pixel is in[].px there. */
struct product {
    const struct plan *plan;
    const struct packed *w;
    int phase, n, h, width;
    struct grid in[2], out, residual; /* residual.data NULL: none */
    const long *tap[2];
    const float *offset; /* [n or 1][panels][32] */
    long offset_img;     /* floats from image to image; 0: the same for all */
    struct finish finish;
};

/* Rows of 32 dwords of a tap. */
static inline long tap_rows(const struct packed *w, const struct block *b)
{
    return b->words + (w->type == DT_I8 ? HEAD : 0);
}

/* The part of the weights at `from` (rows x 32 dwords) that one of some turns asks for. */
static inline struct stream weights_share(const char *from, long rows, int turn, int turns)
{
    return (struct stream){ from + rows * 4 * PANEL / turns * turn,
                            (4 * PANEL + turns - 1) / turns };
}

void product_run(const struct product *p);
size_t product_scratch(const struct cpu *dev); /* bytes per thread */

/* ---- operations ---- */

enum dtype conv_type(const struct cpu *dev, const tape *t, const instr *i); /* of its products */
bool conv_doubles(const instr *i); /* reads its input as upsampled exactly twofold */
bool conv_reuses(const struct cpu *dev, const tape *t, const instr *i); /* step.copied */
void conv_run(struct plan *p, const struct step *s);
struct scratch conv_scratch(const struct cpu *dev, const tape *t, const instr *i);
bool conv_winograd(const struct cpu *dev, const instr *i);
void winograd_run(const struct product *p, const instr *i, char *slab);
struct scratch winograd_scratch(const struct cpu *dev, const instr *i);
void attention_run(struct plan *p, const struct step *s);
struct scratch attention_scratch(const struct cpu *dev, const instr *i);
void group_norm_run(struct plan *p, const struct step *s);
struct scratch group_norm_scratch(const instr *i);
void simple_run(struct plan *p, const struct step *s);
struct scratch simple_scratch(const instr *i);

#endif
