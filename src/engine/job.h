/* job.h - one request on its way through the pipeline: what was asked, resolved, and what each
 * stage hands to the next. */
#ifndef STYX_ENGINE_JOB_H
#define STYX_ENGINE_JOB_H
#include "engine/engine.h"
#include "sample/rng.h"
#include "sample/scheduler.h"

struct styx_generator {
    struct rng rng;
    uint64_t seed;
};

struct styx_scheduler {
    struct scheduler *s;
};

enum task { TASK_TEXT, TASK_IMAGE, TASK_INPAINT };

struct job {
    styx_session *s;
    const styx_model *m;
    struct styx_request r; /* complete: every field has a value */
    enum task task;
    bool xl;

    /* sizes */
    size_t prompts, per, batch; /* batch = prompts * per = pictures */
    size_t rows;                /* of a UNet call: twice the batch under guidance */
    int h, w, lh, lw;           /* pixels, latents */
    int told_h, told_w;         /* what SDXL is told of, where the request does not say */
    int scale, channels;        /* pixels per latent, latent channels */
    size_t one;                 /* numbers of one picture's latents */
    double guidance;
    bool guided;

    /* types */
    enum dtype type, vae_type; /* computed in */
    enum dtype noise_type;     /* drawn in */

    /* random numbers */
    styx_generator **generators;
    size_t ngenerators;
    styx_generator *own; /* made here, if the request brought none */
    int draws;

    /* conditioning: guidance rows first the negative, then the positive ones */
    int tokens, width, pooled_width, ids;
    float *text, *pooled, *time_ids, *guidance_embed;

    /* schedule */
    struct scheduler *scheduler;
    const float *timesteps;
    int ntimesteps;
    int ticks;  /* what the progress bar counts */
    bool noisy; /* image to image starts from a noised picture (no denoising_start) */

    /* pictures */
    float *latents;       /* [batch, channels, lh, lw] */
    float *noise;         /* the initial noise, for inpainting */
    float *image_latents; /* [batch, ...]: the encoded input */
    float *mask, *masked; /* [batch,1,lh,lw], [batch,channels,lh,lw] */

    int calls; /* of the UNet */
    double seconds[5];
};

enum { STAGE_LOAD, STAGE_ENCODE, STAGE_DENOISE, STAGE_DECODE, STAGE_SAFETY };

/* request.c: defaults, limits, contradictions. Nothing is computed yet. */
int job_init(struct job *j, styx_session *s, const styx_model *m, const struct styx_request *r,
             styx_error *err);
void job_free(struct job *j);
double job_working(const struct job *j); /* seconds, not counting those of loading */
int job_progress(struct job *j, const char *stage, int done, int total, double since,
                 const struct styx_image *preview, styx_error *err);
void job_trace(const struct job *j, const char *name, int dims, const int *shape, float *data);
void job_trace_latents(const struct job *j, const char *name, size_t rows, int channels,
                       float *data);

/* noise.c */
int job_generators(struct job *j, styx_error *err);
/* rows pictures of n numbers each, as torch's randn_tensor draws them. */
void job_draw(struct job *j, enum dtype type, float *out, size_t rows, int channels);
/* The same for the pictures from `first` on. */
void job_draw_from(struct job *j, size_t first, enum dtype type, float *out, size_t rows,
                   int channels);

/* conditioning.c */
int job_encode_text(struct job *j, styx_error *err);
int job_time_ids(struct job *j, styx_error *err);
int job_guidance_embedding(struct job *j, styx_error *err);
/* Positive and negative embeddings apart, [batch, ...]; outputs may be NULL. */
struct embeddings {
    int tokens, width, pooled_width;
    float *text, *negative, *pooled, *negative_pooled;
};
int job_embeddings(struct job *j, struct embeddings *e, styx_error *err);
void embeddings_free(struct embeddings *e);

/* steps.c: which timesteps are run */
int job_schedule(struct job *j, styx_error *err);

/* latents.c: where sampling starts */
int job_start(struct job *j, styx_error *err);

/* denoise.c */
int job_denoise(struct job *j, styx_error *err);

/* decode.c: latents to pictures, checked */
int job_decode(struct job *j, struct styx_result *result, styx_error *err);

/* tiling.c: one picture through the autoencoder, whole or in tiles */
struct vae_call {
    styx_session *s;
    const styx_component *vae;
    enum dtype type;
    enum styx_tiling tiling;
    int tile; /* pixels a side; 0: the VAE's sample_size */
};
int vae_call_decode(const struct vae_call *c, int h, int w, const float *z, float *pixels,
                    styx_error *err);
int vae_call_encode(const struct vae_call *c, int h, int w, const float *pixels, float *moments,
                    styx_error *err);

/* safety.c */
int check_picture(styx_session *s, const styx_model *m, enum dtype type,
                  const struct styx_image *image, bool *nsfw, styx_error *err);

#endif
