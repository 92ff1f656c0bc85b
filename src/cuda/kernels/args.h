/* args.h - what the host hands to the kernels: one struct each, read by C and by CUDA C++.
 *
 * Addresses are those of the card, strides count numbers of the values' type, pixels are counted
 * over all images unless `area` (pixels of one image) stands beside. `vector`: every address and
 * stride is a multiple of 16 bytes, so that a thread may move 16 bytes at once. */
#ifndef STYX_CUDA_ARGS_H
#define STYX_CUDA_ARGS_H

typedef unsigned long long device_address;

/* Rows of a value: pixel p begins at data + p * row. */
struct rows {
    device_address data;
    long row;
};

/* A CUtensorMap: how a tile of a matrix is copied to shared memory (launch_tiles). */
struct tile_map {
    unsigned long long word[16];
} __attribute__((aligned(64)));

struct group_norm_args {
    struct rows x, second, out; /* channels from `split` on come from second */
    device_address bias;        /* or 0 */
    struct rows shift;          /* data 0: none; a row for each image */
    device_address gamma, beta; /* f32 */
    device_address partial;     /* group_sum [image][chunk][group] */
    int channels, split, groups;
    int width;               /* channels of a group */
    int slab;                /* groups of a block */
    int area, chunk, chunks; /* pixels of an image; of a block; blocks that share an image */
    int kept;                /* pixels of a thread in shared memory: group_norm_kept */
    int act, vector;         /* vector: the numbers of one, too, lie in two groups at most */
    float eps;
};

/* Threads of a block of group norm at most; in one launch, the vectors that a thread keeps and the
 * blocks that are certain to run on a multiprocessor at the same time. */
enum { STREAMED_THREADS = 256, HELD = 12, HELD_BLOCKS = 2, KEPT_THREADS = 512 };

/* Blocks that share an image in one launch, and the sums that they tell each other. */
enum { MOST_SHARING = 64, MOST_NOTES = 8192 };

/* The mean of some values and the sum of their squared distances from it. */
struct group_sum {
    float mean, spread;
};

enum { TOKENS = 4 }; /* of a block of layer norm, a warp each */

struct layer_norm_args {
    struct rows x, out;
    device_address gamma, beta; /* f32; both 0: they are in the weights of what follows */
    device_address scales;      /* 0, or out is dense e4m3 and has these */
    int pixels, channels, vector;
    float eps;
};

struct softmax_args {
    device_address scores, out;
    long columns;
    float scale;
    int vector;
};

/* Kernels that move or combine what lies at a pixel. */
struct finish_args {
    struct rows x, shift, residual, out;
    device_address bias;
    int pixels, area, channels, act, vector;
};

struct geglu_args {
    struct rows x, out;
    int pixels, channels, vector; /* channels of out */
};

struct upsample_args {
    struct rows x, out;
    int images, h, w, out_h, out_w, channels, vector;
};

struct concat_args {
    struct rows a, b, out;
    int pixels, channels, split, vector;
};

struct repeat_args {
    struct rows x, out;
    int pixels, copies, channels, vector; /* pixels of x */
};

struct timestep_args {
    struct rows x, out;
    int numbers, dim, flip; /* numbers of an image */
    float shift;
};

/* embed, position, prepend and row: `table` is what x is looked up in, added or preceded by. */
struct gather_args {
    struct rows x, out;
    device_address table;
    int pixels, area, channels, vector; /* of out */
    int x_area;
};

struct cast_args { /* from_f32, to_f32: `dense` is f32 */
    struct rows x;
    device_address dense;
    int pixels, channels, vector;
};

struct eight_args { /* out: dense rows of e4m3; scales: f32, one for each */
    struct rows x;
    device_address out, scales;
    int channels; /* of out */
};

/* Vectors of a row that a thread of geglu_eight keeps. */
enum { EIGHT_HELD = 3 };

struct attention_args {
    struct rows q, k, v, out;
    int heads, width, queries, keys, causal;
    float scale; /* log2(e) / sqrt(width): the softmax is taken with powers of two */
};

/* hopper_flash.cu: tiles of 64 channels of a head of up to `width`, and `keys` tokens; 64 queries
 * for each of `groups`; stages of tiles. Short ones have all keys in one tile, and where a head is
 * as wide as tiles, 64 queries in each of others. */
struct hopper_attention_args {
    struct attention_args a;
    int tiles; /* blocks of a head's queries */
    int whole; /* blocks before those whose warpgroups have the same queries */
    struct tile_map keys, values, queries; /* queries: for short ones */
};
#define FLASH_SHARED(width, keys, groups, stages)                                                  \
    ((stages) * (2 * (((width) + 63) / 64) * (keys)*128 + 4 * 8) +                                 \
     (groups)*64 * (((width) + 15) / 16 * 2 + 1) * 16)
#define SHORT_SHARED(width, keys, groups)                                                          \
    ((((width) + 63) / 64) * (2 * (keys) + ((width) % 64 ? 0 : (groups)*64)) * 128 +               \
     (groups)*64 * (((width) + 15) / 16 * 2 + 1) * 16 + (2 + (groups)) * 8)

/* out = x w^T + bias (+ residual), or GEGLU of it. A block computes tiles of LINEAR_ROWS rows by
 * some columns, LINEAR_STEP columns of x and w at once, which lie in stages of shared memory. */
enum { LINEAR_ROWS = 128, LINEAR_STEP = 64, LINEAR_THREADS = 384, LINEAR_SHARED = 226 * 1024 };
#define LINEAR_STAGE(columns) ((LINEAR_ROWS + (columns)) * LINEAR_STEP * 2)
#define LINEAR_STAGES(columns) (LINEAR_SHARED / LINEAR_STAGE(columns))
/* Stages, a barrier for what is there and one for what is free of each, and two for turns. */
#define LINEAR_BYTES(columns) (LINEAR_STAGES(columns) * (LINEAR_STAGE(columns) + 2 * 8) + 2 * 8)
#define LINEAR_RUN(width) ((width) % 32 ? 4 : 8) /* of a result so wide: see hopper_linear.cu */

struct linear_args {
    struct tile_map x, w;
    struct rows out, residual; /* residual.data 0: none */
    device_address bias;       /* or 0 */
    int rows, columns;         /* of out */
    int steps;
    int down, across, tiles; /* tiles below and beside each other, and in all phases */
    int channels;            /* of x, and the norm's: for kernels that are normed */
    float eps;
};

/* hopper_conv.cu: tiles of as many pixels or pairs, a box of 2^box_w columns, 2^box_h rows and
 * 2^box_n images of x. */
struct conv3_args {
    struct tile_map x, weight;
    struct tile_map also[2][2]; /* a shortcut's parts; of pairs the first pixels, the second ones */
    struct tile_map also_weight;
    struct rows out, residual;     /* residual.data 0: none */
    device_address bias;           /* or 0 */
    int images, h, w, channels;    /* of x */
    int columns;                   /* channels of out */
    int steps;                     /* of a tap */
    int also_steps[2], also_split; /* of a shortcut's parts, or 0; channels of the first part */
    int box_w, box_h, box_n;
    int across, down, deep; /* boxes beside, below and behind each other */
    int tiles;
};

/* hopper_winograd.cu: tiles of 2x2 pixels, `count` from `first` on, of which `across` are beside
 * and `down` below each other in an image. phases: [WINOGRAD_TAPS][count][channels]. */
enum { WINOGRAD_TAPS = 16, WINOGRAD_THREADS = 128 };
enum { WINOGRAD_IN = 4, WINOGRAD_OUT = 8 }; /* channels of a thread */

struct winograd_args {
    struct rows x, out, residual; /* x for the one kernel, the others for the other */
    device_address phases, bias;  /* bias 0: none */
    int h, w, channels;           /* of x, or of out */
    int across, down, first, count;
};

/* Pairs from row `first` of each image on, whatever lies outside; `down` rows of an image.
 * phases: [4][rows][across][channels] */
enum { PAIRS_IN = 8, PAIRS_RUN = 4 }; /* channels and pairs of a thread */
enum { PAIRS_TAPS = 12 };             /* numbers for 9 of a filter */

struct pairs_args {
    struct rows x;
    device_address phases;
    int h, w, channels; /* of x */
    int across, down, first;
    long rows; /* of all images */
};

struct conv_args {
    struct rows x, shift, residual, out;
    device_address weight, bias;
    int images, h, w, c;
    int out_h, out_w, cout;
    int k, stride, pad;
    int vector;          /* x, weight */
    int run_in, run_out; /* numbers of a pixel that may move at once, 8, 4 or 1: of x; of what the
                          * sums end with */
    int tile;            /* of a block: rows of the result for conv_narrow, pixels for conv_widen */
};

struct fold_args { /* weight: [rows][channels], shift: [rows], both of the values' type */
    device_address weight, shift;
    device_address gamma, beta, bias; /* f32; bias 0: none */
    int rows, channels;
};

/* Of a filter behind an upsampling by two: 2x2 for each parity of the result's row and column. */
enum { DOUBLED_TAPS = 16 };

struct pack_args {
    device_address from, to;
    int from_type; /* enum dtype */
    long cout, cin;
    long apart;    /* pack_winograd: numbers from tap to tap */
    int taps, run; /* run: how many channels a block takes at once */
    int vector;
};

#endif
