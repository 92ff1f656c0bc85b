/* engine.h - what the files of the engine share: components, models, sessions and programs.
 *
 * A component is one folder of a model: a network with its config and weights, a tokenizer, a
 * scheduler config. It is immutable and counted, so pipelines can share it. A session owns a
 * device, and for the components that it has met their loaded weights and prepared programs. */
#ifndef STYX_ENGINE_H
#define STYX_ENGINE_H
#include "base/clock.h"
#include "base/json.h"
#include "model/model.h"
#include "tape/backend.h"
#include "text/tokenizer.h"
#include "weights/store.h"
#include <stdatomic.h>

/* ---- components and models ---- */

/* In the order of diffusers' pipelines: what is moved to the device first. */
enum slot {
    SLOT_TEXT_ENCODER,
    SLOT_TEXT_ENCODER_2,
    SLOT_TOKENIZER,
    SLOT_TOKENIZER_2,
    SLOT_UNET,
    SLOT_VAE,
    SLOT_SCHEDULER,
    SLOT_SAFETY_CHECKER,
    SLOT_FEATURE_EXTRACTOR,
    SLOT_COUNT
};

extern const char *const slot_names[SLOT_COUNT];
int slot_find(const char *name); /* -1 if unknown */
/* "config.json" and "diffusion_pytorch_model"; NULL where a folder has none. */
const char *slot_config_file(enum slot slot);
const char *slot_weights_stem(enum slot slot);

struct styx_component {
    atomic_int refs;
    enum slot slot; /* what it was opened as; text_encoder_2 may serve as text_encoder */
    char *class_name, *path;
    json_t *config;        /* config.json or scheduler_config.json; NULL: none */
    struct store *weights; /* networks */
    struct tokenizer *tokenizer;
    struct unet_config unet;
    struct vae_config vae;
    struct clip_config clip;
    const char *vision_prefix; /* how the file calls the vision tower */
};

/* A component of a config and weights (which may be NULL), both of which it takes references of.
 * where names the config in messages. */
int component_make(enum slot slot, const char *path, json_t *config, const char *where,
                   struct store *weights, styx_component **out, styx_error *err);
/* A copy with other weights and another tokenizer, which becomes its own; each may be NULL. */
int component_change(const styx_component *from, struct store *weights, struct tokenizer *tokenizer,
                     styx_component **out, styx_error *err);

enum family { FAMILY_SD, FAMILY_SDXL, FAMILY_REFINER };

struct styx_model {
    enum family family;
    char *class_name, *path;
    json_t *config; /* model_index.json without the components */
    styx_component *part[SLOT_COUNT];
    bool aesthetics;  /* requires_aesthetics_score */
    bool force_zeros; /* force_zeros_for_empty_prompt */
};

/* model.c: one part as the options override it. *taken tells whether they do. */
void model_take_override(styx_model *m, enum slot slot, const struct styx_model_options *o,
                         bool *taken);
/* The class and the pipeline's own settings of a model_index.json. */
int model_take_index(styx_model *m, const json_t *index, const char *where, styx_error *err);

/* single.c: a checkpoint file, at m->path; and one that is open already. */
int model_open_single(styx_model *m, const struct styx_model_options *o, styx_error *err);
int model_take_single(styx_model *m, struct store *file, const struct styx_model_options *o,
                      styx_error *err);

/* model.c: another model of the same parts; and the options as this library knows them (o holds the
 * defaults). */
int model_share(const styx_model *from, styx_model **out, styx_error *err);
int model_options_take(struct styx_model_options *o, const struct styx_model_options *given,
                       styx_error *err);

/* adapt.c: merges what the options' loras and embeddings change into the parts of m. */
int model_adapt(styx_model *m, const struct styx_model_options *o, styx_error *err);

/* ---- programs ---- */

enum network { NET_TEXT, NET_UNET, NET_VAE_ENCODE, NET_VAE_DECODE, NET_VISION };

struct program_key {
    const styx_component *component;
    enum network network;
    enum dtype type;
    int n, h, w;       /* rows and map; text: w = tokens */
    int tokens, ids;   /* unet: tokens of the text, time ids */
    int copies;        /* unet: how often its rows' samples and timesteps repeat; 1: they do not */
    int layer, normed; /* text: which hidden state */
};

struct program;
struct loaded;

struct styx_session {
    const struct backend *backend;
    void *device;
    char description[128];
    bool card;
    bool fp8; /* of a card: 8-bit floats in the UNet */
    enum styx_offload offload;
    enum dtype fastest;  /* what AUTO means on this device */
    uint64_t max_memory; /* for programs and weights, where they are: host or card */
    uint64_t overhead;   /* what stands there besides */
    uint64_t mapped;     /* pages of files that a limit counts too */
    void (*log)(void *, enum styx_log_level, const char *);
    void *log_user;
    atomic_int cancel, busy;
    struct program *programs; /* most recently used first */
    struct loaded *loaded;
    uint64_t requests; /* so far, with the present one */
    double loading;    /* seconds spent in making programs and loading weights */
    double *timing;    /* run_args.seconds of the next run; NULL: not wanted */
    uint64_t held;     /* bytes of programs and loaded weights, on the host or the card */
    uint64_t shared;   /* of these: what all programs of a card use in turn */
};

/* NULL for a name that is none, or that of a backend which was not compiled in. */
const struct backend *backend_find(const char *name);

void session_warn(styx_session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One request at a time: INVALID if another thread is inside. */
int session_enter(styx_session *s, styx_error *err);
void session_leave(styx_session *s);

/* Records the program of key on a new tape (yours), with the passes that the backend wants. */
int program_record(const struct program_key *key, const struct backend *b, tape **out,
                   styx_error *err);
/* From the cache, or made: recorded, planned, weights loaded, prepared. Borrowed until the next
 * call on the session. */
int program_get(styx_session *s, const struct program_key *key, struct program **out,
                styx_error *err);
/* in: host arrays in the order of the tape's inputs, dense NHWC. Inputs that stay the same between
 * runs are recognised, and what depends on them alone is not computed again. */
int program_run(styx_session *s, struct program *p, const void *const *in, float *const *out,
                styx_error *err);
const tape *program_tape(const struct program *p);
/* Drops the programs and weights of one network of a component. */
void programs_drop(styx_session *s, const styx_component *c, enum network network);
/* The same after a stage that wants the memory for the next one. Where networks take turns those of
 * earlier requests stay: they give up the card by themselves, and the host's pinned memory takes
 * longer to give back than a few steps take. */
void programs_done(styx_session *s, const styx_component *c, enum network network);
void programs_sweep(styx_session *s); /* those of components that only the session holds */
void programs_free(styx_session *s);

/* What a process holds besides programs and weights: libraries' data, latents, vocabularies, and
 * the picture: its numbers, those on either side of the VAE or the rows of tiles that are blended,
 * its bytes. The difference between the sum of programs and the measured peak was 9 to 13 MB at
 * 512x512 and 44 MB at 1024x1024. */
static inline uint64_t host_overhead(int w, int h)
{
    return ((uint64_t)10 << 20) + 36 * (uint64_t)w * (uint64_t)h;
}

/* Pages of mapped files at the peak, which a limit counts too: the program and its libraries. None
 * of the weights: they are read. Measured: 9 MB. */
#define HOST_MAPPED ((uint64_t)12 << 20)
/* How many bytes of programs and weights the limit allows; UINT64_MAX without one. */
uint64_t session_room(const styx_session *s);

/* The most rows, sizes and so on are checked here, so that an absurd request is one sentence. */
enum { MAX_SIDE = 16384 };

/* ---- networks on PyTorch-ordered arrays ---- */

struct text_call {
    const styx_component *encoder;
    enum dtype type;
    int tokens, layer; /* layer: hidden_states[layer] */
    bool normed;
};
/* One row of ids -> hidden [tokens, dim] and, with a projection and unless NULL, pooled
 * [projection]. */
int run_text(styx_session *s, const struct text_call *call, const int32_t *ids, float *hidden,
             float *pooled, styx_error *err);

struct unet_call {
    const styx_component *unet;
    enum dtype type;
    int n, h, w, tokens, ids;
    int copies; /* rows i and i + n / copies have the same sample and timestep; 1: they differ */
    const float *sample, *timesteps, *text, *pooled, *time_ids, *guidance;
    float *out;
};
int run_unet(styx_session *s, const struct unet_call *call, styx_error *err);

/* One picture: pixels [3,h,w] in [-1,1] -> moments [2*latent, h/8, w/8], and back. */
int run_vae_encode(styx_session *s, const styx_component *vae, enum dtype type, int h, int w,
                   const float *pixels, float *moments, styx_error *err);
int run_vae_decode(styx_session *s, const styx_component *vae, enum dtype type, int h, int w,
                   const float *latents, float *pixels, styx_error *err);
/* pixels [3,image,image] -> image_embeds [projection] */
int run_vision(styx_session *s, const styx_component *checker, enum dtype type, const float *pixels,
               float *embeds, styx_error *err);

/* ---- small things ---- */

enum dtype resolve_dtype(const styx_session *s, enum styx_dtype wanted);
enum styx_dtype public_dtype(enum dtype type);
int check_dtype(const styx_session *s, enum styx_dtype wanted, styx_error *err);
/* Under fp8 the UNet has no f32: its 8-bit products end in halves. */
int check_unet_dtype(const styx_session *s, enum styx_dtype wanted, styx_error *err);

int tensor_new(struct styx_tensor *x, int dims, const int *shape, styx_error *err);
size_t tensor_numbers(const struct styx_tensor *x);

#endif
