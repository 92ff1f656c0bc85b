/* tape.h - a model is a C function that records a flat program.
 *
 * A program is recorded once, fused, hoisted and planned, prepared by a backend, and run many
 * times. Program order is execution order, so the life of every value is known before anything
 * runs: its storage is an offset in one arena, and `styx explain` prints the peak without reading
 * a weight.
 *
 * Feature maps are NHWC, so a map is already a matrix of h*w tokens and a 1x1 convolution is a
 * linear layer. Vectors have h = w = 1; token sequences have h = 1.
 *
 * Errors are sticky: the first one is kept in tape.err, later builders return a dummy tensor, and
 * the caller looks once, at the end (tape_finish). */
#ifndef STYX_TAPE_H
#define STYX_TAPE_H
#include "base/dtype.h"
#include "base/error.h"
#include <stdbool.h>
#include <stdio.h>

enum op {
    OP_EMBED,    /* rows of a table, chosen by i32 ids */
    OP_POSITION, /* x + table[position], the same for every row */
    OP_PREPEND,  /* a learned token before the sequence (CLIP vision's class token) */
    OP_TIMESTEP, /* sinusoid of f32 numbers */
    OP_LINEAR,   /* x W^T: 1x1 convolutions too */
    OP_CONV2D,
    OP_GROUP_NORM,
    OP_LAYER_NORM,
    OP_ATTENTION,
    OP_ADD, /* b may be [n,1,1,c], broadcast over positions */
    OP_ACT,
    OP_GEGLU,    /* value * gelu(gate) of [value | gate] */
    OP_CONCAT,   /* channels */
    OP_UPSAMPLE, /* nearest, to a given size */
    OP_REPEAT,   /* all rows, and again: row i is row i mod n of x */
    OP_ROW,      /* one token per row, chosen by an i32 index */
    OP_COUNT
};

enum act { ACT_NONE, ACT_SILU, ACT_GELU, ACT_QUICK_GELU, ACT_RELU, ACT_GEGLU };

typedef struct tensor tensor;
struct tensor {
    int n, h, w, c;
    enum dtype type;
    int def, last;   /* instruction that writes it (-1: an input), last one that reads it */
    int uses;        /* how many operands read it */
    bool halo;       /* stored as [n][h+2][w+2][c] with a border of zeros, for a 3x3 convolution */
    bool kept;       /* written once per picture and read by every step: never shares storage */
    tensor *part[2]; /* a concat read in place: channels of part[0], then of part[1]; no storage */
    tensor *alias;   /* written in place over this dying value */
    tensor *whole;   /* channels [at, at + c) of that one (tape_merge); no storage of its own */
    int at;
    /* tape_share: */
    bool repeats;     /* has rows that are the same t->copies times */
    tensor *repeated; /* where it has the first of them alone: one that has all */
    size_t bytes, offset;
};

/* One line of `styx explain`:  out = act(op(in) + bias + shift) + residual; a group norm adds its
 * shift before it begins (tape_defer). */
typedef struct instr {
    enum op op;
    enum act act;
    bool once;           /* depends only on per-picture inputs: run in the prologue */
    tensor *out, *in[3]; /* attention: q, k, v; row, embed: data, index */
    tensor *shift;       /* [n,1,1,c], e.g. the projected time embedding; or NULL */
    tensor *residual;    /* same shape as out, may share its storage; or NULL */
    int weight, bias;    /* indices into tape.params; -1 = none */
    struct merged *many; /* several linear layers in one; NULL: it is just this one */
    union {
        struct {
            int k, stride;
            int pad;        /* zeros before the first row and column */
            int pad_end;    /* zeros after the last ones (the VAE encoder pads 0 and 1) */
            int up_h, up_w; /* the input is read as if upsampled (nearest) to this size; 0 = not */
        } conv;
        struct {
            int heads;
            bool causal;
        } attn;
        struct {
            int groups; /* layer norm: unused */
            int before; /* a parameter [c] that is added to the input, with the shift; -1: none */
            float eps;
        } norm;
        struct {
            int dim;     /* sinusoid width of each number */
            bool flip;   /* [cos | sin] instead of [sin | cos] */
            float shift; /* downscale_freq_shift */
        } time;
    } u;
} instr;

/* Products that run as one (tape_merge). A tape keeps the list, also of those that were then
 * dropped because nobody reads them: other programs of the network do, and all agree where weights
 * lie. */
struct merged {
    struct merged *next;
    int count;          /* 2 or more */
    int *weight, *bias; /* [count]: their parameters, in the order of their channels */
    tensor **part;      /* [count]: their results, slices of the instruction's */
};

typedef struct param {
    const char *name;
    int dims, shape[4];
    int first_use, last_use; /* instructions */
    bool coarse;             /* a linear layer's that bears 8-bit factors */
} param;

enum { TAPE_MAX_IN = 16, TAPE_MAX_OUT = 32 };

typedef struct tape {
    const char *name; /* "unet", "vae.decode", ...: for explain and messages */
    enum dtype type;  /* of activations */
    enum dtype sums;  /* of those that begin with embedded words and are only added to: the type, or
                         F32 where the backend mixes them */
    instr *code;
    int ncode, once; /* code[0..once) is the prologue */
    param *params;
    int nparams;
    tensor *in[TAPE_MAX_IN], *out[TAPE_MAX_OUT];
    const char *in_name[TAPE_MAX_IN];
    bool in_once[TAPE_MAX_IN]; /* this input is the same for every step of a picture */
    int nin, nout;
    int copies;   /* how often the rows of an input that repeats are there; 1: none does */
    size_t large; /* bytes of a map from which on its place in the arena counts (tape_hasten) */
    size_t arena; /* bytes, after tape_plan */
    size_t sum;   /* bytes of all values without reuse */
    bool coarse;  /* linear layers that are recorded now bear 8-bit factors, if one asks for them */
    struct merged *merged;
    styx_error err;       /* sticky: the first failure */
    struct recorder *rec; /* scopes and storage of the recording */
} tape;

/* Recording. tape_new returns NULL only when out of memory. */
tape *tape_new(const char *name, enum dtype type);
void tape_free(tape *t);
void enter(tape *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void leave(tape *t);
void tape_fail(tape *t, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

tensor *input(tape *t, const char *name, int n, int h, int w, int c, enum dtype type, bool once);
void output(tape *t, tensor *x);

tensor *embed(tape *t, tensor *ids, const char *at, int vocabulary, int dim);
tensor *position(tape *t, tensor *x, const char *at, int length);
tensor *prepend(tape *t, tensor *x, const char *at);
tensor *timestep(tape *t, tensor *x, int dim, bool flip, float shift);
tensor *linear(tape *t, tensor *x, const char *at, int cout);
tensor *linear_nobias(tape *t, tensor *x, const char *at, int cout);
tensor *conv1x1(tape *t, tensor *x, const char *at, int cout); /* a linear with a 4-D weight */
tensor *conv2d(tape *t, tensor *x, const char *at, int cout, int k, int stride);
tensor *conv2d_pad(tape *t, tensor *x, const char *at, int cout, int k, int stride, int pad,
                   int pad_end, bool bias);
tensor *group_norm(tape *t, tensor *x, const char *at, int groups, float eps);
tensor *layer_norm(tape *t, tensor *x, const char *at, float eps);
tensor *layer_norm_again(tape *t, tensor *x, const tensor *like); /* the weights of that one */
tensor *attention(tape *t, tensor *q, tensor *k, tensor *v, int heads, bool causal);
tensor *add(tape *t, tensor *a, tensor *b);
tensor *act(tape *t, tensor *x, enum act a);
tensor *geglu(tape *t, tensor *x);
tensor *concat(tape *t, tensor *a, tensor *b);
tensor *upsample(tape *t, tensor *x, int h, int w);
tensor *row(tape *t, tensor *x, tensor *index);
tensor *repeat(tape *t, tensor *x, int copies);

/* Passes, in this order; each is optional, and the result of running must not change. tape_finish
 * does all of them (merge and halo: what the backend wishes) and reports the sticky error. */
int tape_finish(tape *t, bool merge, bool halo, styx_error *err);
void tape_share(tape *t);  /* rows that repeat are computed once */
void tape_hasten(tape *t); /* of a large map's readers, one that makes it smaller goes first */
void tape_fuse(tape *t);   /* activations, sums and views into producers and consumers */
void tape_merge(tape *t);  /* products of the same input become one (GPUs) */
void tape_prune(tape *t);  /* what nobody reads goes; its parameters stay declared */
void tape_defer(tape *t);  /* a sum before a group norm becomes the norm's (GPUs) */
void tape_hoist(tape *t);  /* what depends only on per-picture inputs goes first */
void tape_halo(tape *t);   /* values read only by 3x3 convolutions get a zero border */
void tape_widen(tape *t);  /* large maps over which such a value can be written get its border */
int tape_plan(tape *t, styx_error *err); /* offsets in one arena; reports the sticky error */

size_t param_count(const param *p);    /* how many numbers it holds */
size_t tape_parameters(const tape *t); /* all of them together */
/* Multiply-adds count twice; what Winograd's algorithm and folded filters save counts as done. */
double instr_flops(const instr *i);
bool instr_reads(const instr *i, const tensor *x);
void tape_recount(tape *t);              /* drops dead instructions; who writes and reads what */
void *tape_alloc(tape *t, size_t bytes); /* zeroed, lives as long as the tape; NULL fails it */
const char *op_name(enum op op);
const char *act_name(enum act act);
void tape_explain(const tape *t, FILE *to); /* the program, one instruction a line */

static inline size_t tensor_count(const tensor *x)
{
    return (size_t)x->n * (size_t)x->h * (size_t)x->w * (size_t)x->c;
}

/* The value whose storage x uses. */
static inline const tensor *tensor_home(const tensor *x)
{
    while (x->whole || x->alias)
        x = x->whole ? x->whole : x->alias;
    return x;
}

#endif
