/* styx.h - Stable Diffusion in C: the whole public API.
 *
 *     struct styx_request req = STYX_REQUEST_INIT;
 *     req.prompt = "a lighthouse at dusk, oil painting";
 *     styx_error err;
 *     styx_model *model = NULL;
 *     styx_session *session = NULL;
 *     struct styx_result result = STYX_RESULT_INIT;
 *     if (styx_model_open("stable-diffusion-v1-5", NULL, &model, &err) ||
 *         styx_session_new(NULL, &session, &err) ||
 *         styx_generate(session, model, &req, &result, &err) ||
 *         styx_image_save(&result.images[0], "out.png", NULL, &err))
 *         fprintf(stderr, "%s\n", err.text);
 *     styx_result_free(&result);
 *     styx_session_free(session);
 *     styx_model_free(model);
 *
 * Conventions, for every function unless its comment says otherwise:
 *
 * Returns    0 (STYX_OK) or a negative enum styx_status. The message, one sentence, goes to the
 *            caller's styx_error, which may be NULL. After a failure the outputs are untouched.
 * Ownership  open/new pair with free; every free accepts NULL. `const T *` is borrowed for the
 *            call; `T **out` is yours afterwards; strings passed in are copied if kept. Texts that
 *            functions hand out (`char **text`) are freed with styx_text_free.
 * Threads    A styx_model and a styx_component are immutable: any thread, at any time. A
 *            styx_session, styx_scheduler and styx_generator serve one thread at a time.
 *            styx_cancel is the only call allowed from another thread or a signal handler.
 * Structs    Those with a `size` field grow at the end: set size to sizeof, or use the INIT macro
 *            or the init function. The library takes what the caller's struct has and defaults the
 *            rest; a larger struct with a non-zero tail is STYX_ERR_UNSUPPORTED.
 * Arrays     Floats are 32 bit, row-major, in PyTorch's order of dimensions: pictures are
 *            [n, channels, height, width], embeddings [n, tokens, dim].
 * Numbers    are diffusers' own: names, defaults and formulas follow its pipelines (0.40). */
#ifndef STYX_H
#define STYX_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define STYX_API __declspec(dllexport)
#else
#define STYX_API __attribute__((visibility("default")))
#endif

#define STYX_VERSION "0.1.0"

/* clang-format off */
#ifdef __cplusplus
#define STYX_SIZED(type) { sizeof(type) }
#else
#define STYX_SIZED(type) { .size = sizeof(type) }
#endif
/* clang-format on */

/* ---- errors ------------------------------------------------------------------------------- */

/* Append-only, never renumbered. */
enum styx_status {
    STYX_OK = 0,
    STYX_ERR_CANCELLED = -1,   /* styx_cancel, or a callback that returned non-zero */
    STYX_ERR_NOMEM = -2,       /* memory ran out, or the memory limit is too small */
    STYX_ERR_NODEVICE = -3,    /* the backend's device, driver or library is not there */
    STYX_ERR_IO = -4,          /* the system refused to read or write */
    STYX_ERR_FORMAT = -5,      /* a file is not what it should be */
    STYX_ERR_UNSUPPORTED = -6, /* valid, but Styx does not have it */
    STYX_ERR_INVALID = -7,     /* an argument out of range, or a combination that makes no sense */
    STYX_ERR_BACKEND = -8,     /* a device or its library failed while working */
    STYX_ERR_INTERNAL = -9     /* a mistake of Styx: please report it */
};

typedef struct styx_error {
    int code;       /* enum styx_status */
    char text[508]; /* what was found, what was wanted; UTF-8, ends with NUL */
} styx_error;

STYX_API const char *styx_version(void);           /* "0.1.0", static */
STYX_API const char *styx_status_text(int status); /* "out of memory", static */
STYX_API void styx_text_free(char *text);

/* ---- handles and plain data --------------------------------------------------------------- */

typedef struct styx_component styx_component; /* one network, tokenizer or config; shared */
typedef struct styx_model styx_model;         /* a pipeline: a set of components */
typedef struct styx_session styx_session;     /* a device, its threads, programs and weights */
typedef struct styx_scheduler styx_scheduler;
typedef struct styx_generator styx_generator;

enum styx_dtype { STYX_AUTO, STYX_F32, STYX_BF16, STYX_F16 };

/* 8-bit picture, rows from the top, channels interleaved (RGB, or 1 for a mask), no padding. */
struct styx_image {
    int width, height, channels;
    unsigned char *pixels; /* width * height * channels bytes */
};

/* Dense f32 array. dims <= 4; unused shape entries are ignored. */
struct styx_tensor {
    int dims;
    int shape[4];
    float *data;
};

STYX_API void styx_image_free(struct styx_image *image);    /* frees the pixels, empties it */
STYX_API void styx_tensor_free(struct styx_tensor *tensor); /* frees the data, empties it */

/* ---- models ------------------------------------------------------------------------------- */

/* Low-rank changes (LoRA) of a model's networks, and words that they learnt (textual inversion). */
struct styx_lora {
    const char *path; /* safetensors, as kohya's scripts, PEFT or diffusers name it */
    double scale;     /* 1: as trained */
};
struct styx_embedding {
    const char *path;
    const char *word; /* what prompts say; NULL: the file's own name for it */
};

struct styx_model_options {
    size_t size;
    const char *variant; /* "fp16": prefer weights files of that name; NULL: the plain ones */
    /* Components to use instead of the folder's own: names[i] ("vae", "tokenizer", ...) is
     * components[i]; a NULL component leaves that part out (safety_checker). The model takes its
     * own references. */
    const char *const *names;
    styx_component *const *components;
    size_t component_count;
    void (*warn)(void *user, const char *text); /* e.g. a fallback from a missing variant */
    void *user;
    /* For single files: a folder in the diffusers layout whose config.json files, scheduler and
     * tokenizer say what the weights leave open. NULL: the folder of the file if it is one, else
     * the published configs. */
    const char *config;
    const struct styx_lora *loras; /* merged while opening, in this order */
    size_t lora_count;
    const struct styx_embedding *embeddings;
    size_t embedding_count;
};
#define STYX_MODEL_OPTIONS_INIT STYX_SIZED(struct styx_model_options)

/* Opens a model: a folder in the diffusers layout (model_index.json) or a single checkpoint file
 * (safetensors, GGUF) of SD 1.x, SDXL or its refiner. Weights are mapped, not read: without LoRA
 * this takes milliseconds. A single file has no vocabulary: it is looked for in the config folder,
 * in $STYX_TOKENIZER, in tokenizer/ beside the file and in the Hugging Face cache. options may be
 * NULL. Errors: IO, FORMAT (a broken file, named), UNSUPPORTED (a knob or class that Styx does not
 * have, named). */
STYX_API int styx_model_open(const char *path, const struct styx_model_options *options,
                             styx_model **model, styx_error *err);

/* Another model: `model` with the LoRAs and words of the options merged into it. model stays as it
 * is, and every part that they do not touch is shared, so that switching between adapted models
 * reads no file again and a session loads and packs changed networks alone. To change scales, adapt
 * the plain model anew. Of the options only loras, embeddings, warn and user may be set. Errors: as
 * styx_model_open's. */
STYX_API int styx_model_adapt(const styx_model *model, const struct styx_model_options *options,
                              styx_model **adapted, styx_error *err);

/* The Hugging Face cache: $HF_HUB_CACHE, else $HF_HOME/hub, else huggingface/hub in
 * $XDG_CACHE_HOME or ~/.cache. */
STYX_API int styx_hub_folder(char **path, styx_error *err);
/* The folder of a model that the cache holds, or its one checkpoint file, from "ORG/NAME" or
 * "ORG/NAME@REVISION" (a branch, a tag or a commit; default: main). Nothing is fetched: IO if it is
 * not there. */
STYX_API int styx_hub_find(const char *id, char **path, styx_error *err);

/* Where a model of the hub ("ORG/NAME") that has moved is now, static; NULL: it has not. What opens
 * models follows it by itself. */
STYX_API const char *styx_hub_moved(const char *id);

struct styx_convert_options {
    size_t size;
    const char *type;   /* of the weights: "f32", "f16", "bf16", "q8_0"; NULL: as they are */
    const char *config; /* as in styx_model_options */
    int allow_pickle;   /* read .ckpt, .pt and .bin files too; nothing in them is run */
    int overwrite;      /* 0: an existing file is an error; a folder always is one */
    int (*progress)(void *user, uint64_t done, uint64_t all); /* bytes; non-zero cancels */
    void *user;
};
#define STYX_CONVERT_OPTIONS_INIT STYX_SIZED(struct styx_convert_options)

/* Writes a model in another layout, container or type: in is what styx_model_open takes, or any
 * file of weights (then its names stay). out becomes a single file if it ends in .safetensors or
 * .gguf, else a new folder in the diffusers layout. Tensors stream through, one at a time. options
 * may be NULL. */
STYX_API int styx_convert(const char *in, const char *out,
                          const struct styx_convert_options *options, styx_error *err);

/* Puts a pipeline together from components, as diffusers' pipeline constructors do. class_name:
 * "StableDiffusionPipeline", "StableDiffusionXLPipeline", ...; config: JSON text of the pipeline's
 * own settings (requires_aesthetics_score, force_zeros_for_empty_prompt) or NULL. A NULL class_name
 * makes a loose set, good only for the calls of single components below. */
STYX_API int styx_model_assemble(const char *class_name, const char *config,
                                 const char *const *names, styx_component *const *components,
                                 size_t count, styx_model **model, styx_error *err);
STYX_API void styx_model_free(styx_model *model);

/* JSON text: class, family ("sd", "sdxl", "refiner"), components with class, parameters, dtype and
 * path, default size, what it predicts. */
STYX_API int styx_model_info(const styx_model *model, char **json, styx_error *err);

/* A new reference to a component, for sharing; NULL in *component if the model has none of that
 * name. Names: tokenizer, tokenizer_2, text_encoder, text_encoder_2, unet, vae, scheduler,
 * safety_checker, feature_extractor. */
STYX_API int styx_model_component(const styx_model *model, const char *name,
                                  styx_component **component, styx_error *err);

/* Opens one component's folder (.../vae, .../tokenizer). name tells what it is to be. */
STYX_API int styx_component_open(const char *folder, const char *name, const char *variant,
                                 styx_component **component, styx_error *err);
STYX_API styx_component *styx_component_ref(styx_component *component);
STYX_API void styx_component_free(styx_component *component);
/* JSON text: name, class, path, config, parameters, dtype. */
STYX_API int styx_component_info(const styx_component *component, char **json, styx_error *err);

/* ---- sessions ----------------------------------------------------------------------------- */

enum styx_log_level { STYX_LOG_WARNING, STYX_LOG_INFO, STYX_LOG_DEBUG };

/* Where weights wait that a card does not need at the moment. */
enum styx_offload {
    STYX_OFFLOAD_NONE,  /* on the card */
    STYX_OFFLOAD_MODEL, /* in host memory, but for what fits where the largest network has room; a
                           network comes whole before it runs */
    STYX_OFFLOAD_STREAM /* in host memory; weights come in pieces while the network runs */
};

struct styx_session_options {
    size_t size;
    const char *backend; /* "cpu", "ref", "cuda"; NULL or "auto": what $STYX_BACKEND names, else a
                            card that works, else the CPU */
    int device;          /* which card */
    int threads;         /* 0: as many as the process may use */
    const char *isa;     /* NULL or "auto"; "portable", "avx2", "avx512", "avx512bf16", "amx" */
    uint64_t max_memory; /* bytes of resident memory to stay under, on the CPU; 0: no limit */
    void (*log)(void *user, enum styx_log_level level, const char *text);
    void *user;
    enum styx_offload offload; /* of a card; with backend "auto" it asks for one */
    uint64_t max_vram;         /* bytes of the card's memory to stay under; 0: all of it */
    int no_winograd;           /* 1, CPU: plain 3x3 convolutions, which round less, take longer */
    int int8; /* 1, CPU: linear layers and convolutions with 8-bit numbers: faster where the CPU has
                 AVX-512 VNNI, another picture everywhere */
    int fp8;  /* 1, a card of 9.0: linear layers of the UNet's transformers multiply 8-bit floats
                 (e4m3, a scale for each token and each output channel): faster, half the memory for
                 their weights, another picture. It asks for a card, as offload does */
};
#define STYX_SESSION_OPTIONS_INIT STYX_SIZED(struct styx_session_options)

/* A session may serve many models; what they share (by component) it loads once. options may be
 * NULL. Errors: NODEVICE, INVALID, NOMEM. */
STYX_API int styx_session_new(const struct styx_session_options *options, styx_session **session,
                              styx_error *err);
STYX_API void styx_session_free(styx_session *session);

/* Stops the running request between two instructions; it returns STYX_ERR_CANCELLED and the
 * session stays usable. From any thread; async-signal-safe. With nothing running: no effect. */
STYX_API void styx_cancel(styx_session *session);

/* Drops loaded weights, programs and their memory; the next request makes them again. */
STYX_API void styx_session_trim(styx_session *session);
/* The same, for components that nobody but the session holds any more. */
STYX_API void styx_session_sweep(styx_session *session);

/* JSON text: backend, device, isa, threads, supported dtypes, memory held, seconds by stage. */
STYX_API int styx_session_info(const styx_session *session, char **json, styx_error *err);

/* JSON text: what there is to compute on. "backends": name and device, or why it cannot be used;
 * "cards": index, name, memory and free (bytes), compute_capability, driver (the CUDA that it
 * speaks), cublaslt and cudnn (versions, "" where one is missing), and device or why. */
STYX_API int styx_devices(char **json, styx_error *err);

/* ---- random numbers ----------------------------------------------------------------------- */

enum styx_generator_kind {
    STYX_TORCH_CPU, /* torch.Generator("cpu"): mt19937 */
    STYX_TORCH_CUDA /* torch.Generator("cuda"): Philox 4x32-10, as on an H100 or H200 */
};

STYX_API int styx_generator_new(enum styx_generator_kind kind, uint64_t seed,
                                styx_generator **generator, styx_error *err);
STYX_API void styx_generator_free(styx_generator *generator);
STYX_API void styx_generator_seed(styx_generator *generator, uint64_t seed); /* manual_seed */
STYX_API uint64_t styx_generator_initial_seed(const styx_generator *generator);
STYX_API enum styx_generator_kind styx_generator_kind_of(const styx_generator *generator);
/* torch.randn of n numbers in dtype (AUTO: F32), as floats; the generator moves on. */
STYX_API int styx_generator_normal(styx_generator *generator, enum styx_dtype dtype, float *out,
                                   size_t n, styx_error *err);

/* ---- schedulers --------------------------------------------------------------------------- */

/* name: a diffusers class ("EulerDiscreteScheduler"), a short name ("euler a", "dpm++ 2m karras"),
 * or NULL for the config's own _class_name. config: JSON text of scheduler_config.json or NULL.
 * This is diffusers' NAME.from_config(config): what config lists under _use_default_values falls
 * back to the class's own defaults. overrides: JSON text of knobs to set on top, or NULL. */
STYX_API int styx_scheduler_new(const char *name, const char *config, const char *overrides,
                                styx_scheduler **scheduler, styx_error *err);
/* The model's own scheduler, freshly made. */
STYX_API int styx_model_scheduler(const styx_model *model, styx_scheduler **scheduler,
                                  styx_error *err);
STYX_API void styx_scheduler_free(styx_scheduler *scheduler);
/* Every knob as JSON text, with _class_name and _use_default_values. */
STYX_API int styx_scheduler_config(const styx_scheduler *scheduler, char **json, styx_error *err);
/* One short name after another, NULL when i is past the last. */
STYX_API const char *styx_scheduler_name(size_t i);
STYX_API const char *styx_scheduler_class(size_t i);

/* A schedule of `steps` steps, or of custom timesteps or sigmas (at most one; then steps is
 * ignored; sigmas without the final 0 that diffusers appends itself). */
STYX_API int styx_scheduler_set_timesteps(styx_scheduler *scheduler, int steps,
                                          const double *timesteps, size_t timestep_count,
                                          const double *sigmas, size_t sigma_count,
                                          styx_error *err);
/* Borrowed until the next set_timesteps; *count entries. Sigmas: NULL, 0 for classes without. */
STYX_API const float *styx_scheduler_timesteps(const styx_scheduler *scheduler, size_t *count);
STYX_API const float *styx_scheduler_sigmas(const styx_scheduler *scheduler, size_t *count);
STYX_API double styx_scheduler_init_noise_sigma(const styx_scheduler *scheduler);
STYX_API int styx_scheduler_order(const styx_scheduler *scheduler);
STYX_API void styx_scheduler_set_begin_index(styx_scheduler *scheduler, int index);
/* In place on n numbers. */
STYX_API int styx_scheduler_scale_model_input(styx_scheduler *scheduler, float *sample, size_t n,
                                              float timestep, styx_error *err);

struct styx_step_options {
    size_t size;
    double eta;                              /* DDIM, TCD */
    int use_clipped_model_output;            /* DDIM */
    double s_churn, s_tmin, s_tmax, s_noise; /* Euler, Heun; s_noise 0 means 1 */
    styx_generator *generator;               /* for those that draw noise */
    enum styx_dtype noise_dtype;             /* drawn in this type; AUTO: F32 */
    float *pred_original;                    /* gets the predicted clean sample; may be NULL */
};
/* One step: sample (rows pictures of per_row numbers) at timestep becomes the one at the next.
 * options may be NULL. Only dynamic thresholding looks at rows. */
STYX_API int styx_scheduler_step(styx_scheduler *scheduler, const float *model_output,
                                 float timestep, float *sample, size_t rows, size_t per_row,
                                 const struct styx_step_options *options, styx_error *err);
/* sample becomes sample with noise as of timesteps[row]. */
STYX_API int styx_scheduler_add_noise(const styx_scheduler *scheduler, float *sample,
                                      const float *noise, const float *timesteps, size_t rows,
                                      size_t per_row, styx_error *err);

/* ---- requests ----------------------------------------------------------------------------- */

/* Handed to request.progress after each unit of work. */
struct styx_progress {
    size_t size;
    const char *stage; /* "load", "encode", "denoise", "decode", "safety" */
    int done, total;   /* steps of the stage; diffusers' progress bar counts the same */
    double seconds;    /* since the stage began */
    /* A cheap picture of the latents after a step of "denoise", 1/8 of the size; NULL otherwise,
     * and for latents without 4 channels. Valid during the call. */
    const struct styx_image *preview;
};

/* Handed to request.step after each denoising step (diffusers' callback_on_step_end). The arrays
 * may be read and written; shapes stay. */
struct styx_step {
    size_t size;
    int index; /* of the step, from 0 */
    int count; /* how many will run */
    float timestep;
    struct styx_tensor *latents;       /* [pictures, channels, h/8, w/8], as the sampler has it */
    struct styx_tensor *prompt_embeds; /* [rows, tokens, dim]; with guidance: negatives first */
    struct styx_tensor *pooled_embeds; /* [rows, dim], SDXL; NULL otherwise */
    struct styx_tensor *time_ids;      /* [rows, 5 or 6], SDXL; NULL otherwise */
    int changed_embeds;     /* set to 1 after writing to the embeddings, pooled ones or time_ids */
    int interrupt;          /* set to 1 to skip the remaining steps and decode */
    double *guidance_scale; /* may be written for the steps to come */
    double *guidance_rescale; /* likewise */
};

enum styx_output { STYX_OUTPUT_IMAGE, STYX_OUTPUT_PIXELS, STYX_OUTPUT_LATENTS };
enum styx_safety { STYX_SAFETY_BLACK, STYX_SAFETY_FLAG, STYX_SAFETY_OFF };
enum styx_tiling { STYX_TILING_AUTO, STYX_TILING_OFF, STYX_TILING_DIFFUSERS, STYX_TILING_SEAMLESS };
enum styx_emphasis { STYX_EMPHASIS_OFF, STYX_EMPHASIS_ORIGINAL, STYX_EMPHASIS_NO_NORM };

/* What to draw. Everything zero means diffusers' default for the model and the task; the task
 * follows from what is given: nothing = text to image, image = image to image, image and mask =
 * inpainting. Fields where zero is a value of its own have a *_set companion or use NAN or -1, as
 * STYX_REQUEST_INIT does. */
struct styx_request {
    size_t size;

    /* Text. prompt is short for prompts of one. prompt_2: for SDXL's second encoder (NULL or "":
     * the same text). A NULL negative prompt is what diffusers makes of None. Lists of negatives
     * have prompt_count entries. */
    const char *prompt, *prompt_2, *negative_prompt, *negative_prompt_2;
    const char *const *prompts, *const *prompts_2;
    const char *const *negative_prompts, *const *negative_prompts_2;
    size_t prompt_count;
    int images_per_prompt;       /* 0: 1 */
    int clip_skip;               /* -1: none; 0 and up as in diffusers */
    enum styx_emphasis emphasis; /* (word:1.3), [word], BREAK and chunks beyond 77 tokens */

    /* Ready embeddings instead of text: [prompts, tokens, dim] and, for SDXL, [prompts, dim].
     * Pooled ones beside a text stand for its own. */
    const struct styx_tensor *prompt_embeds, *negative_prompt_embeds;
    const struct styx_tensor *pooled_prompt_embeds, *negative_pooled_prompt_embeds;

    /* Sampling. */
    int width, height;       /* 0: the model's own, or the image's */
    int steps;               /* 0: 50 */
    double guidance_scale;   /* NAN: 7.5 (SD, inpainting) or 5.0 (SDXL) */
    double guidance_rescale; /* 0 */
    double eta;              /* 0 */
    const double *timesteps; /* a custom schedule instead of steps */
    size_t timestep_count;
    const double *sigmas;
    size_t sigma_count;
    styx_scheduler *scheduler; /* NULL: the model's own */
    double denoising_end;      /* NAN: none */
    double denoising_start;    /* NAN: none */

    /* Noise: one generator for the whole batch, or one for each picture. NULL: a fresh one of
     * generator_kind from seed; seed_set 0: a random seed, reported in the result. */
    styx_generator *const *generators;
    size_t generator_count;
    enum styx_generator_kind generator_kind;
    int seed_set;
    uint64_t seed;
    const uint64_t *seeds; /* one for each picture */
    size_t seed_count;
    enum styx_dtype noise_dtype; /* what torch would draw in (F16 in an fp16 pipeline); AUTO: F32 */
    /* Start from these instead of noise. Where no width and height are given, and nothing is
     * inpainted, they say the size. */
    const struct styx_tensor *latents;

    /* Image to image and inpainting. At most one of image(s) and image_tensor. */
    const struct styx_image *images; /* 8-bit, resized (Lanczos) to multiples of 8 if need be */
    size_t image_count;
    /* [n,3,h,w] in [0,1], or in [-1,1] if a number is below 0; [n,4,h,w]: latents */
    const struct styx_tensor *image_tensor;
    const struct styx_image *mask;         /* 1 or 3 channels; >= 128 is repainted */
    const struct styx_tensor *mask_tensor; /* [1 or n,1,h,w] in [0,1] */
    double strength; /* NAN: image to image 0.8, SDXL 0.3; inpainting 1.0, SDXL 0.9999 */

    /* SDXL's size conditioning, height first as diffusers has it; original_size[0] 0: default. */
    int original_size[2], target_size[2], crop[2];
    int negative_original_size[2], negative_target_size[2], negative_crop[2];
    double aesthetic_score, negative_aesthetic_score; /* NAN: 6.0, 2.5 */

    /* Numbers and memory. */
    enum styx_dtype dtype;     /* of the networks. AUTO: the fastest that keeps the picture */
    enum styx_dtype vae_dtype; /* AUTO: as dtype, but an SDXL VAE with force_upcast: F32, on a card
                                  that computes in F16 or BF16: BF16 */
    int vae_slicing;           /* decode one picture at a time */
    int offload;               /* drop each network's weights when its stage is done: less memory,
                                  but the next request loads them again. In a session of
                                  STYX_OFFLOAD_MODEL those of earlier requests stay on the host */
    enum styx_tiling vae_tiling;
    int vae_tile;            /* pixels a side of a tile; 0: the VAE's sample_size */
    enum styx_safety safety; /* without effect on models without a safety checker */
    enum styx_output output;

    /* Callbacks, on the calling thread. A non-zero return cancels. */
    int (*progress)(void *user, const struct styx_progress *progress);
    int (*step)(void *user, struct styx_step *step);
    /* Every intermediate value as it appears, under the names of tests/golden:
     * "cond.prompt_embeds", "noise.000", "unet.000.in", "latents.000", "vae.decode_in",
     * "out.image", ... */
    void (*trace)(void *user, const char *name, const struct styx_tensor *value);
    void *user;
};

#define STYX_REQUEST_INIT styx_request_default()
/* All defaults. The init function is for bindings: it fills the first `size` bytes. */
STYX_API struct styx_request styx_request_default(void);
STYX_API void styx_request_init(struct styx_request *request, size_t size);

struct styx_result {
    size_t size;
    size_t count;                     /* pictures */
    struct styx_image *images;        /* count of them, for STYX_OUTPUT_IMAGE */
    struct styx_tensor pixels;        /* [count,3,h,w] in [0,1], for STYX_OUTPUT_PIXELS */
    struct styx_tensor latents;       /* [count,4,h/8,w/8]: always, as the sampler left them */
    unsigned char *nsfw;              /* count flags, or NULL if nothing was checked */
    uint64_t *seeds;                  /* count: the seed of each picture's generator */
    int steps;                        /* UNet calls that were run */
    double seconds[5];                /* load (weights and programs: the others are without it),
                                         encode, denoise, decode, safety */
    enum styx_dtype dtype, vae_dtype; /* what was used */
};
#define STYX_RESULT_INIT STYX_SIZED(struct styx_result)

/* Draws. result->size must be set; what it holds is yours (styx_result_free). Errors: INVALID (the
 * request, before any work), CANCELLED, NOMEM, FORMAT (weights that do not fit the config),
 * BACKEND. */
STYX_API int styx_generate(styx_session *session, const styx_model *model,
                           const struct styx_request *request, struct styx_result *result,
                           styx_error *err);
STYX_API void styx_result_free(struct styx_result *result);

/* What a request would do, as text: every program with its instructions, and the peak of memory,
 * without reading a weight. networks: "unet", "vae.decode", ... or NULL for all; code: print the
 * instructions too. */
STYX_API int styx_explain(styx_session *session, const styx_model *model,
                          const struct styx_request *request, const char *network, int code,
                          char **text, styx_error *err);

struct styx_bench_options {
    size_t size;
    const char *model;   /* a published one: "sd15", "sdxl", "refiner" */
    const char *network; /* "text_encoder", "text_encoder_2", "unet", "vae.encode", "vae.decode" */
    enum styx_dtype dtype; /* AUTO: as in a request, with vae_dtype for a VAE */
    int width, height;     /* of the picture; 0: the model's own */
    int runs;              /* the best counts; 0: 3 */
};
#define STYX_BENCH_OPTIONS_INIT STYX_SIZED(struct styx_bench_options)

/* How fast a network runs on the session's device, on random weights and without any file: a UNet
 * with guidance (two rows), the others on one row. JSON text: load_seconds; seconds and gflop of a
 * run; peak_gflops, what the device's multiply-adds reach by themselves, measured before and after
 * (0: not known); weights_bytes, arena_bytes, workspace_bytes; compiled, how many kernels a
 * library has compiled in this session; and kernels, a list of {kernel, count, seconds, gflop} that
 * sums up the instructions of one shape, the slowest first (empty where the device cannot time
 * them; a card times them in other runs, one by one, so that their sum is more than the seconds of
 * a run). Multiply-adds count as two operations, and those that an algorithm saves as done. Errors:
 * INVALID, CANCELLED, NOMEM. */
STYX_API int styx_bench(styx_session *session, const struct styx_bench_options *options,
                        char **json, styx_error *err);

/* ---- the components by themselves --------------------------------------------------------- */

/* CLIP ids of one text with the model's first (1) or second (2) tokenizer: start, text, end and
 * padding to the tokenizer's length (77). *ids is freed with styx_ids_free. *cut (may be NULL) gets
 * what did not fit, as text, or NULL. */
STYX_API int styx_tokenize(const styx_model *model, int encoder, const char *text, int32_t **ids,
                           size_t *count, char **cut, styx_error *err);
STYX_API void styx_ids_free(int32_t *ids);
/* Ids back to text. */
STYX_API int styx_detokenize(const styx_model *model, int encoder, const int32_t *ids, size_t count,
                             char **text, styx_error *err);

/* Text encoder 1 or 2 on ids [n, tokens]. hidden (may be NULL) gets the output of layer
 * `layer`: -1 = the last one, normalised (last_hidden_state); k >= 0 = hidden_states[k], before
 * layer k. pooled (may be NULL) gets text_embeds (with projection) or the pooler output. */
STYX_API int styx_encode_text(styx_session *session, const styx_model *model, int encoder,
                              const int32_t *ids, size_t n, size_t tokens, int layer,
                              enum styx_dtype dtype, struct styx_tensor *hidden,
                              struct styx_tensor *pooled, styx_error *err);

/* Prompts to embeddings exactly as styx_generate makes them (diffusers' encode_prompt): fills
 * the outputs that are not NULL, [prompts * images_per_prompt, ...]. */
STYX_API int styx_encode_prompt(styx_session *session, const styx_model *model,
                                const struct styx_request *request,
                                struct styx_tensor *prompt_embeds,
                                struct styx_tensor *negative_prompt_embeds,
                                struct styx_tensor *pooled_prompt_embeds,
                                struct styx_tensor *negative_pooled_prompt_embeds, styx_error *err);

/* One UNet call. sample [n, in_channels, h, w], one timestep a row, text [n, tokens, dim]; SDXL:
 * text_embeds [n, dim] and time_ids [n, 5 or 6]; LCM-style UNets: timestep_cond [n, dim]; each NULL
 * where the UNet has none. out [n, out_channels, h, w]. */
STYX_API int styx_unet(styx_session *session, const styx_model *model, enum styx_dtype dtype,
                       const struct styx_tensor *sample, const float *timesteps,
                       const struct styx_tensor *text, const struct styx_tensor *text_embeds,
                       const struct styx_tensor *time_ids, const struct styx_tensor *timestep_cond,
                       struct styx_tensor *out, styx_error *err);

/* pixels [n,3,h,w] in [-1,1] -> moments [n, 2 * channels, h/8, w/8]: mean, then log variance. */
STYX_API int styx_vae_encode(styx_session *session, const styx_model *model, enum styx_dtype dtype,
                             const struct styx_tensor *pixels, enum styx_tiling tiling, int tile,
                             struct styx_tensor *moments, styx_error *err);
/* z [n, channels, h, w] (already divided by the scaling factor) -> pixels [n,3,8h,8w] in [-1,1]. */
STYX_API int styx_vae_decode(styx_session *session, const styx_model *model, enum styx_dtype dtype,
                             const struct styx_tensor *z, enum styx_tiling tiling, int tile,
                             struct styx_tensor *pixels, styx_error *err);

/* nsfw[0..count): does the model's safety checker object? */
STYX_API int styx_safety_check(styx_session *session, const styx_model *model,
                               const struct styx_image *images, size_t count, unsigned char *nsfw,
                               styx_error *err);

/* ---- pictures and tensors in files -------------------------------------------------------- */

/* PNG, JPEG or WebP, told by its first bytes; becomes RGB with the orientation applied. note (may
 * be NULL) gets what was converted, as text, or NULL. alpha (may be NULL) gets the alpha channel,
 * or an empty image. */
STYX_API int styx_image_load(const char *path, struct styx_image *image, struct styx_image *alpha,
                             char **note, styx_error *err);

struct styx_save_options {
    size_t size;
    const char *parameters; /* A1111 text to store inside, or NULL */
    const char *recipe;     /* Styx's own JSON to store inside, or NULL */
    int quality;            /* JPEG, WebP: 1..100, 0: 95 */
    int overwrite;          /* 0: an existing file is an error */
};
/* Format by the extension. Written whole or not at all. options may be NULL. */
STYX_API int styx_image_save(const struct styx_image *image, const char *path,
                             const struct styx_save_options *options, styx_error *err);
/* Would a save to path work? Asked before the work. */
STYX_API int styx_image_check(const char *path, int overwrite, styx_error *err);
/* The texts inside a picture; each output may be NULL, and gets NULL if there is no such text. */
STYX_API int styx_image_text(const char *path, char **parameters, char **recipe, styx_error *err);
/* The A1111 text as JSON and back: an object of "Prompt", "Negative prompt", "Steps", "Sampler" and
 * so on, in order, all values texts. */
STYX_API int styx_parameters_read(const char *parameters, char **json, styx_error *err);
STYX_API int styx_parameters_write(const char *json, char **parameters, styx_error *err);
/* A resized copy with PIL's Lanczos filter, bit for bit. */
STYX_API int styx_image_resize(const struct styx_image *image, int width, int height,
                               struct styx_image *out, styx_error *err);
/* An alpha channel as a mask: what is transparent is repainted. */
STYX_API int styx_image_alpha_mask(const struct styx_image *alpha, struct styx_image *mask,
                                   styx_error *err);
/* After inpainting: outside the mask (below 128) painted gets original's pixels back, bit for bit;
 * inside, the new ones fade in over `feather` pixels. All three have one size. */
STYX_API int styx_image_paste(const struct styx_image *original, const struct styx_image *mask,
                              int feather, struct styx_image *painted, styx_error *err);
/* Gives image the mean and spread of reference's colours (Reinhard et al. 2001). */
STYX_API int styx_image_match_color(struct styx_image *image, const struct styx_image *reference,
                                    styx_error *err);
/* The picture as bytes for a terminal, columns wide: "kitty", "iterm2", "blocks", or "auto" by the
 * environment. */
STYX_API int styx_image_terminal(const struct styx_image *image, const char *protocol, int columns,
                                 char **bytes, size_t *count, styx_error *err);

/* A safetensors file of named f32 arrays. load: *names and *tensors hold *count entries and are
 * freed with styx_tensors_free. Other float types are converted. */
STYX_API int styx_tensors_save(const char *path, const char *const *names,
                               const struct styx_tensor *tensors, size_t count, int overwrite,
                               styx_error *err);
STYX_API int styx_tensors_load(const char *path, char ***names, struct styx_tensor **tensors,
                               size_t *count, styx_error *err);
STYX_API void styx_tensors_free(char **names, struct styx_tensor *tensors, size_t count);

/* JSON text about a weights file (safetensors, GGUF), without reading its weights: kind ("SD 1.x",
 * "SDXL", "LoRA", ...), tensors with name, dtype and shape, metadata, parameters, bytes; of a whole
 * model also its components, what is missing, and the prediction type; of a LoRA or a textual
 * inversion its family, as far as the widths tell, what it changes, or why it is refused. */
STYX_API int styx_weights_info(const char *path, char **json, styx_error *err);
/* SHA-256 of what comes in pieces: new, add..., end (which gives the digits), free. */
typedef struct styx_hash styx_hash;
STYX_API int styx_hash_new(styx_hash **hash, styx_error *err);
STYX_API void styx_hash_add(styx_hash *hash, const void *data, size_t bytes);
STYX_API void styx_hash_end(styx_hash *hash, char hex[65]);
STYX_API void styx_hash_free(styx_hash *hash);

/* SHA-256 of a file as lower-case hexadecimal digits. */
STYX_API int styx_file_hash(const char *path, char hex[65], styx_error *err);

#ifdef __cplusplus
}
#endif
#endif
