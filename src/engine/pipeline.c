/* pipeline.c - the story of one request, top to bottom. */
#include "engine/job.h"
#include <stdlib.h>

void styx_result_free(struct styx_result *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->count && r->images; i++)
        styx_image_free(&r->images[i]);
    free(r->images);
    free(r->nsfw);
    free(r->seeds);
    styx_tensor_free(&r->pixels);
    styx_tensor_free(&r->latents);
    size_t size = r->size;
    memset(r, 0, size < sizeof *r ? size : sizeof *r);
    r->size = size;
}

static double lap(const struct job *j, double *since)
{
    double now = job_working(j), seconds = now - *since;
    *since = now;
    return seconds;
}

static int report(struct job *j, struct styx_result *r, styx_error *err)
{
    int shape[4] = { (int)j->batch, j->channels, j->lh, j->lw };
    int code = tensor_new(&r->latents, 4, shape, err);
    if (code)
        return code;
    memcpy(r->latents.data, j->latents, j->batch * j->one * sizeof(float));
    r->seeds = calloc(j->batch, sizeof *r->seeds);
    if (!r->seeds)
        return fail_nomem(err, j->batch * sizeof *r->seeds);
    for (size_t i = 0; i < j->batch; i++)
        r->seeds[i] = j->generators[j->ngenerators > 1 ? i : 0]->seed;
    r->steps = j->calls;
    r->dtype = public_dtype(j->type);
    r->vae_dtype = public_dtype(j->vae_type);
    memcpy(r->seconds, j->seconds, sizeof r->seconds);
    return 0;
}

/* Model offload: a stage that is done gives its memory to the next. */
static void stage_done(struct job *j, enum slot slot, enum network network)
{
    if (j->r.offload && j->m->part[slot])
        programs_done(j->s, j->m->part[slot], network);
}

static int draw(struct job *j, struct styx_result *r, styx_error *err)
{
    double since = job_working(j), loading = j->s->loading;
    int code;
    if ((code = job_generators(j, err)) || (code = job_schedule(j, err)) ||
        (code = job_encode_text(j, err)) || (code = job_time_ids(j, err)) ||
        (code = job_guidance_embedding(j, err)))
        return code;
    j->seconds[STAGE_ENCODE] = lap(j, &since);
    stage_done(j, SLOT_TEXT_ENCODER, NET_TEXT);
    stage_done(j, SLOT_TEXT_ENCODER_2, NET_TEXT);
    if ((code = job_progress(j, "encode", 1, 1, since, NULL, err)) || (code = job_start(j, err)))
        return code;
    stage_done(j, SLOT_VAE, NET_VAE_ENCODE);
    if ((code = job_denoise(j, err)))
        return code;
    stage_done(j, SLOT_UNET, NET_UNET);
    j->seconds[STAGE_DENOISE] = lap(j, &since);
    r->count = j->batch;
    if (j->r.output == STYX_OUTPUT_LATENTS)
        job_trace_latents(j, "out.latents", j->batch, j->channels, j->latents);
    else if ((code = job_decode(j, r, err)))
        return code;
    stage_done(j, SLOT_VAE, NET_VAE_DECODE);
    stage_done(j, SLOT_SAFETY_CHECKER, NET_VISION);
    j->seconds[STAGE_DECODE] = lap(j, &since) - j->seconds[STAGE_SAFETY];
    j->seconds[STAGE_LOAD] = j->s->loading - loading;
    return report(j, r, err);
}

int styx_generate(styx_session *session, const styx_model *model,
                  const struct styx_request *request, struct styx_result *result, styx_error *err)
{
    struct job j;
    struct styx_result made = STYX_RESULT_INIT;
    int code;
    if (!session || !model || !result || result->size < sizeof(size_t))
        return fail(err, STYX_ERR_INVALID,
                    "styx_generate wants a session, a model and a result whose size is set");
    if ((code = session_enter(session, err)))
        return code;
    code = job_init(&j, session, model, request, err);
    if (!code)
        code = draw(&j, &made, err);
    if (!code && session->backend->rest && !j.r.offload) /* the next picture's networks come */
        session->backend->rest(session->device);
    session_leave(session);
    job_free(&j);
    if (code) {
        styx_result_free(&made);
        return code;
    }
    made.size = result->size;
    memcpy(result, &made, result->size < sizeof made ? result->size : sizeof made);
    return 0;
}

int styx_encode_prompt(styx_session *session, const styx_model *model,
                       const struct styx_request *request, struct styx_tensor *prompt_embeds,
                       struct styx_tensor *negative_prompt_embeds,
                       struct styx_tensor *pooled_prompt_embeds,
                       struct styx_tensor *negative_pooled_prompt_embeds, styx_error *err)
{
    struct job j;
    struct embeddings e = { 0 };
    int code = session_enter(session, err);
    if (code)
        return code;
    code = job_init(&j, session, model, request, err);
    if (!code)
        code = job_embeddings(&j, &e, err);
    session_leave(session);
    if (!code) {
        struct {
            struct styx_tensor *to;
            float **from;
            int dims;
        } out[] = { { prompt_embeds, &e.text, 3 },
                    { negative_prompt_embeds, &e.negative, 3 },
                    { pooled_prompt_embeds, &e.pooled, 2 },
                    { negative_pooled_prompt_embeds, &e.negative_pooled, 2 } };
        for (int i = 0; i < 4; i++) {
            if (!out[i].to)
                continue;
            *out[i].to = (struct styx_tensor){ out[i].dims,
                                               { (int)j.batch, e.tokens, e.width },
                                               *out[i].from };
            if (out[i].dims == 2)
                out[i].to->shape[1] = e.pooled_width;
            *out[i].from = NULL; /* handed over */
        }
    }
    embeddings_free(&e);
    job_free(&j);
    return code;
}
