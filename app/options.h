/* options.h - what the user asked for: the values of all flags, and the table that describes them.
 *
 * One table is the truth about flags: the parser, `styx help`, the manual, the completions, the
 * lines of a --prompts file, the steps of a recipe and the record inside a picture all read it. */
#ifndef STYX_APP_OPTIONS_H
#define STYX_APP_OPTIONS_H
#include <jansson.h>
#include <stdbool.h>

#include "styx.h"

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CANCELLED = 130 };

/* What takes a flag: commands, and what a recipe stores. */
enum command_bit {
    GENERATE = 1,
    EDIT = 2,
    EXPLAIN = 4,
    TOKENIZE = 8,
    SCHEDULE = 16,
    INFO = 32,
    LOG = 64,
    REPLAY = 128,
    RUN = 256,
    HELP = 512,
    RECIPE = 1024, /* a setting that decides the picture */
    CONVERT = 2048,
    PULL = 4096,
    DEVICES = 8192,
    BENCH = 16384
};

enum kind {
    KIND_BOOL,   /* bool */
    KIND_INT,    /* int */
    KIND_REAL,   /* double */
    KIND_BYTES,  /* uint64_t, with K, M, G, T */
    KIND_TEXT,   /* char * */
    KIND_CHOICE, /* int: the index of the word */
    KIND_SIZE,   /* struct pair, as WxH */
    KIND_PAIR,   /* struct pair, as A,B */
    KIND_REALS,  /* struct reals */
    KIND_SEEDS,  /* struct seeds */
    KIND_TEXTS   /* struct texts: given several times, or a list in JSON */
};

struct pair {
    int a, b;
};
struct reals {
    double *values;
    size_t count;
};
struct seeds {
    uint64_t *values;
    size_t count;
};
struct texts {
    char **values;
    size_t count;
};

struct flag {
    const char *name; /* without dashes; JSON has _ for - */
    char letter;      /* short form, or 0 */
    enum kind kind;
    unsigned commands;
    size_t offset;            /* in struct options */
    const char *argument;     /* what help calls the value; NULL: a flag without one */
    double min, max;          /* for numbers */
    const char *const *words; /* for choices; ends with NULL */
    const char *alias;        /* another name in JSON, or NULL */
    const char *help;
};

enum { MAX_FLAGS = 96 };

struct options {
    bool set[MAX_FLAGS]; /* by the user or a recipe, by index into the table */

    /* Positional arguments. */
    char *prompt, *picture, *subject;

    /* What to draw. */
    char *negative, *prompt_2, *negative_2;
    int steps, count, clip_skip, only;
    double guidance, guidance_rescale, eta, strength;
    struct seeds seeds;
    struct pair size;
    struct reals timesteps, sigmas;
    char *sampler, *scheduler_config;
    int generator, noise_dtype;
    bool emphasis, no_norm;
    struct pair original_size, target_size, crop;
    struct pair negative_original_size, negative_target_size, negative_crop;
    double aesthetic_score, negative_aesthetic_score;
    double denoising_start, denoising_end;

    /* Models. */
    char *model, *variant, *vae, *text_encoder_2, *tokenizer, *model_config;
    struct texts loras, embeddings;
    char *refiner;
    int refiner_mode;
    double refiner_at, refiner_strength;
    int safety;

    /* Edits. */
    char *mask;
    int feather;
    bool no_paste, full_size, keep_latents, match_color;

    /* The machine. */
    int dtype, vae_dtype, backend, isa, winograd, threads, tiling;
    bool vae_slicing, int8, fp8;
    uint64_t max_memory, max_vram;
    int device, offload;
    struct seeds devices;

    /* Input and output. */
    char *output, *latents, *save_latents, *prompts, *from, *trace;
    bool force, json, quiet, show;

    /* Other commands. */
    int batch, encoder, print, runs;
    char *network, *config;
    bool code;

    /* Models in other forms and places. */
    char *target;
    int type;
    bool allow_pickle;
    char *only_parts, *sha256, *place;
    bool dry_run;
    int jobs, timeout;
};

extern const struct flag flags[];
extern const size_t flag_count;

/* Borrowed. NULL if there is none of that name (dashes or underscores) or alias. */
const struct flag *flag_find(const char *name);
void *flag_field(struct options *o, const struct flag *f);
bool flag_is_set(const struct options *o, const char *name);

void options_init(struct options *o);
void options_free(struct options *o);
int options_copy(struct options *to, const struct options *from);

/* All that fail say why on stderr and return an exit code. `what` is how the message names the
 * value: "--steps". */
int option_parse(struct options *o, const struct flag *f, const char *what, const char *text);
/* Takes those keys of an object that are settings; where names the document. Keys of `skip` (NULL
 * at the end, may be NULL) belong to the caller. With keep, what is set already stays. */
int options_from_json(struct options *o, const json_t *object, const char *where,
                      const char *const *skip, bool keep);
/* A new object with every setting (RECIPE) that is set, or NULL without memory or with text that is
 * not UTF-8. */
json_t *options_to_json(const struct options *o);

#endif
