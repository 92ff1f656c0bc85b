/* load.h - the weights of one network on the card.
 *
 * Matrices have the type of the program, filters as [out][k][k][in]; vectors (biases, norms) exist
 * in that type and in f32. Under fp8 matrices that bear it (param.coarse) are e4m3 with an f32
 * scale for each of their rows. A matrix may have taken up the layer norm before it (launch_fold),
 * which has neither gain nor offset then, and has a shift in the place of its bias. On cards of 9.0
 * a filter that reads an upsampled map has what launch_pack_doubled makes of it right behind it:
 * programs for odd sizes, where the map is not exactly doubled, read the filter itself. Instead of
 * a large filter there may be what launch_pack_winograd or launch_pack_pairs makes of it. All of
 * that is one image: the matrices in the order in which the program reads them, those of a merged
 * product (tape_merge) one behind the other, then the vectors, and the shifts and the scales in the
 * order of their matrices.
 *
 * The image lies on the card; or (OFFLOAD_MODEL) on the card while it runs (turns.c); or
 * (OFFLOAD_STREAM, or more than the budget) the vectors lie on the card and the matrices pass
 * through a window in every step (stream.h). */
#ifndef STYX_CUDA_LOAD_H
#define STYX_CUDA_LOAD_H
#include "cuda/pinned.h"

/* Of which algorithm a filter is: the plain one, launch_winograd, launch_conv3 in pairs. */
enum filter_form { FILTER_PLAIN, FILTER_WINOGRAD, FILTER_PAIRS };

/* Where every parameter lies in the image. */
struct layout {
    size_t *at;          /* [nparams]: the typed numbers */
    size_t *vector;      /* [nparams]: the f32 copy of a vector, the scales of an e4m3 matrix */
    size_t *shift;       /* [nparams]: of a matrix that took up a norm */
    struct taken *taken; /* [nparams]: which one */
    size_t *doubled;     /* [nparams]: how far behind a filter its other form is; 0: it has none */
    unsigned char *form; /* [nparams]: enum filter_form; a filter is in this form alone */
    size_t matrices, bytes; /* the vectors, shifts and scales are [matrices, bytes) */
    bool fp8;
};

/* Parameters: those of a layer norm, -1 if there is none, and the bias of the layer behind it. */
struct taken {
    int gamma, beta, bias;
};

struct loaded {
    struct loaded *next;
    struct gpu *g;
    enum dtype type;
    struct layout layout;
    struct region memory; /* the image, or all but its matrices when they are streamed */
    size_t size;          /* bytes of that */
    size_t window;        /* bytes on the card besides: what is streamed passes through them */
    struct pinned host;   /* the image, if it ever left the card, or the streamed matrices */
    struct stream *stream;

    size_t there;         /* bytes in memory that hold the image, or will once they have arrived */
    bool coming;          /* some of them are on their way */
    CUevent arrived;      /* the last of these */
    unsigned turn, since; /* the last turn of the network, and the one before; 0: none */
};

/* The parameter that is an instruction's matrix; of merged products the first. */
static inline int first_weight(const instr *i)
{
    return i->many ? i->many->weight[0] : i->weight;
}

/* The layer norm whose result this linear layer reads and nobody else, or NULL. */
const instr *norm_before(const tape *t, const instr *linear);

/* The 1x1 convolution right behind a 3x3 one that nothing else reads and that it adds itself to: a
 * residual block's shortcut. NULL if there is none. Their weights follow each other. */
const instr *shortcut_behind(const tape *t, const instr *conv);

/* Does the convolution read an upsampled map as launch_conv3 could, if it were exactly doubled? All
 * programs of a network agree on that, whatever their size. */
bool layout_doubles(const struct gpu *g, const tape *t, const instr *conv);

/* large: filters may be larger than in a file, for the sake of speed. */
int layout_make(const struct gpu *g, const tape *t, bool large, struct layout *l, styx_error *err);
void layout_free(struct layout *l);
/* Of a parameter in all its forms, without its f32 numbers. */
size_t layout_bytes(const struct layout *l, const tape *t, int param);

/* Bytes on the card. */
size_t weights_measure(const struct gpu *g, const tape *t, size_t budget);
int weights_load(void *dev, const tape *t, const struct weights *w, size_t budget, void **loaded,
                 styx_error *err);
void weights_unload(void *dev, void *loaded);

/* turns.c: what is enqueued from here on finds the weights on the card, and so much memory to
 * compute in; others may have to leave it. */
int weights_bring(struct loaded *l, size_t arena, size_t workspace, styx_error *err);
/* The memory for that, but not yet what lies there: for weights that are not loaded yet. */
int weights_make_room(struct loaded *l, size_t arena, size_t workspace, styx_error *err);
/* Now that the card has work, lets what comes after it be copied. */
void weights_ahead(const struct loaded *l);
/* The same when it will have none for a while. */
void weights_rest(void *dev);

/* What is enqueued from here on finds the matrix of one instruction on the card. */
int weights_need(struct loaded *l, const instr *i, styx_error *err);

CUdeviceptr weights_at(const struct loaded *l, int param);
/* For timing: `bytes` at another place among the weights at each turn, since in a step the matrix
 * is not in the card's cache either. The parameter's own place if there is no other. */
CUdeviceptr weights_elsewhere(const struct loaded *l, int param, size_t bytes, unsigned turn);
CUdeviceptr weights_doubled(const struct loaded *l, int param); /* 0: it has no such form */
enum filter_form weights_form(const struct loaded *l, int param);
CUdeviceptr weights_vector(const struct loaded *l, int param); /* f32: a vector, or scales */
CUdeviceptr weights_shift(const struct loaded *l, int param);  /* 0: it took up no norm */

#endif
