/* conditioning.c - texts to embeddings, and SDXL's sizes and scores (diffusers' encode_prompt and
 * _get_add_time_ids). */
#include "engine/job.h"
#include "text/prompt.h"
#include <math.h>
#include <stdlib.h>

/* One encoder's part of the embedding: which hidden state, and where its columns go. */
struct encoder {
    const styx_component *net;
    const struct tokenizer *tokenizer;
    int column, tokens;
};

struct texts { /* what one side (positive or negative) says to each encoder */
    const char *one[2];
    const char *const *many[2];
    int clip_skip; /* the negative side ignores it */
};

static const char *text_of(const struct texts *t, int encoder, size_t prompt)
{
    for (int i = encoder; i >= 0; i--) { /* prompt_2 falls back to prompt, an empty one too */
        if (t->many[i] && t->many[i][prompt])
            return t->many[i][prompt];
        if (t->one[i] && (*t->one[i] || i == 0))
            return t->one[i];
    }
    return NULL;
}

/* SD takes the last state through the final norm; SDXL the one before last, as it is. clip_skip
 * counts from there. */
static int hidden_layer(const struct job *j, const struct clip_config *m, int clip_skip,
                        struct text_call *call, styx_error *err)
{
    int skip = clip_skip < 0 ? 0 : clip_skip;
    call->layer = m->layers - skip - (j->xl ? 1 : 0);
    call->normed = !j->xl;
    if (call->layer < 0)
        return fail(err, STYX_ERR_INVALID, "clip_skip is %d; the text encoder has %d layers", skip,
                    m->layers);
    return 0;
}

static void warn_cut(struct job *j, const char *cut, int length)
{
    session_warn(j->s,
                 "The following part of your input was truncated because CLIP can only handle "
                 "sequences up to %d tokens: ['%s']",
                 length, cut);
}

/* 77 ids, encoded as they are. */
static int encode_plain(struct job *j, const struct encoder *e, const char *text,
                        struct text_call *call, float *hidden, float *pooled, styx_error *err)
{
    struct token_report report = { 0 };
    int length = tokenizer_max_length(e->tokenizer);
    int32_t *ids = malloc((size_t)length * sizeof *ids);
    int code;
    if (!ids)
        return fail_nomem(err, (size_t)length * sizeof *ids);
    code = tokenizer_encode(e->tokenizer, text, strlen(text), ids, length, &report, err);
    if (!code && report.cut)
        warn_cut(j, report.cut, length);
    if (!code)
        code = run_text(j->s, call, ids, hidden, pooled, err);
    free(report.cut);
    free(ids);
    return code;
}

/* A1111's long prompts: chunks of 75 tokens encoded apart, joined, weighted. */
static int encode_chunks(struct job *j, const struct encoder *e, const char *text, int chunks,
                         struct text_call *call, float *hidden, float *pooled, styx_error *err)
{
    struct prompt p = { 0 };
    size_t width = (size_t)e->net->clip.dim, length = (size_t)e->tokens;
    int code = prompt_parse(e->tokenizer, text, strlen(text), &p, err);
    if (!code)
        code = prompt_extend(&p, e->tokenizer, chunks, err);
    if (!code && p.clamped)
        session_warn(j->s, "A weight in the prompt is beyond %g and was cut to that.",
                     (double)PROMPT_MAX_WEIGHT);
    for (size_t i = 0; i < (size_t)chunks && !code; i++) /* the pooled vector is the first's */
        code = run_text(j->s, call, p.ids + i * length, hidden + i * length * width,
                        i ? NULL : pooled, err);
    if (!code && p.weighted)
        prompt_weigh(hidden, p.weights, (size_t)chunks * length, width,
                     j->r.emphasis == STYX_EMPHASIS_ORIGINAL);
    prompt_free(&p);
    return code;
}

static int encoders(const struct job *j, struct encoder *e, styx_error *err)
{
    int n = 0, column = 0;
    for (int i = 0; i < 2; i++) {
        styx_component *const *part = j->m->part;
        if (!part[SLOT_TEXT_ENCODER + i])
            continue;
        e[n] = (struct encoder){ part[SLOT_TEXT_ENCODER + i], part[SLOT_TOKENIZER + i]->tokenizer,
                                 column, 0 };
        e[n].tokens = tokenizer_max_length(e[n].tokenizer);
        if (e[n].tokens > e[n].net->clip.positions)
            return fail(err, STYX_ERR_FORMAT,
                        "%s makes %d ids, %s has %d positions: they do not belong together",
                        part[SLOT_TOKENIZER + i]->path, e[n].tokens, e[n].net->path,
                        e[n].net->clip.positions);
        column += e[n].net->clip.dim;
        n++;
    }
    if (!n)
        return fail(err, STYX_ERR_INVALID, "%s has no text encoder; prompt_embeds are wanted",
                    j->m->path);
    return n;
}

/* The text of encoder i of n: the refiner's only encoder is given the first text. */
static int text_index(int n, int i)
{
    return n == 1 ? 0 : i;
}

static int count_chunks(const struct job *j, const struct encoder *e, int n,
                        const struct texts *sides, int nsides, int *chunks, styx_error *err)
{
    *chunks = 1;
    for (int side = 0; side < nsides; side++) {
        for (size_t p = 0; p < j->prompts; p++) {
            for (int i = 0; i < n; i++) {
                struct prompt c = { 0 };
                const char *given = text_of(&sides[side], text_index(n, i), p);
                char *text = NULL;
                if (!given)
                    continue;
                int code = tokenizer_expand(e[i].tokenizer, given, strlen(given), &text, err);
                if (!code)
                    code = prompt_parse(e[i].tokenizer, text, strlen(text), &c, err);
                if (!code && c.nchunks > *chunks)
                    *chunks = c.nchunks;
                prompt_free(&c);
                free(text);
                if (code)
                    return code;
            }
        }
    }
    return 0;
}

/* One text through every encoder: [tokens, width] with the encoders' columns side by side. */
static int encode_one(struct job *j, const struct encoder *e, int n, const struct texts *side,
                      size_t prompt, int chunks, struct embeddings *out, float *text, float *pooled,
                      styx_error *err)
{
    int code = 0;
    for (int i = 0; i < n && !code; i++) {
        int width = e[i].net->clip.dim;
        const char *given = text_of(side, text_index(n, i), prompt);
        char *words = NULL; /* given, with learnt words of several vectors spelled out */
        struct text_call call = { .encoder = e[i].net, .type = j->type };
        float *hidden = malloc((size_t)out->tokens * (size_t)width * sizeof *hidden);
        if (!hidden)
            return fail_nomem(err, (size_t)out->tokens * (size_t)width * sizeof *hidden);
        call.tokens = e[i].tokens;
        if (!(code = tokenizer_expand(e[i].tokenizer, given, strlen(given), &words, err)))
            code = hidden_layer(j, &e[i].net->clip, side->clip_skip, &call, err);
        /* the pooled vector is that of the last encoder, the one with a projection */
        float *pool = e[i].net->clip.projection ? pooled : NULL;
        if (!code && j->r.emphasis)
            code = encode_chunks(j, &e[i], words, chunks, &call, hidden, pool, err);
        else if (!code)
            code = encode_plain(j, &e[i], words, &call, hidden, pool, err);
        for (int t = 0; t < out->tokens && !code; t++)
            memcpy(text + (size_t)t * out->width + e[i].column, hidden + (size_t)t * width,
                   (size_t)width * sizeof *hidden);
        free(words);
        free(hidden);
    }
    return code;
}

/* Each prompt's numbers, repeated for each of its pictures in a row: p0, p0, p1, p1. */
static void repeat_rows(float *x, size_t prompts, size_t per, size_t n)
{
    for (size_t p = prompts; p-- > 0;)
        for (size_t k = per; k-- > 0;)
            memmove(x + (p * per + k) * n, x + p * n, n * sizeof *x);
}

static float *batch_alloc(const struct job *j, size_t n, styx_error *err)
{
    float *x = calloc(j->batch * n, sizeof *x);
    if (!x)
        fail_nomem(err, j->batch * n * sizeof *x);
    return x;
}

static bool same_texts(const struct texts *t, int n, size_t a, size_t b)
{
    for (int i = 0; i < n; i++)
        if (strcmp(text_of(t, text_index(n, i), a), text_of(t, text_index(n, i), b)) != 0)
            return false;
    return true;
}

static int encode_side(struct job *j, const struct encoder *e, int n, const struct texts *side,
                       int chunks, struct embeddings *out, float **text, float **pooled,
                       styx_error *err)
{
    size_t one = (size_t)out->tokens * (size_t)out->width, pool = (size_t)out->pooled_width;
    int code = 0;
    if (!(*text = batch_alloc(j, one, err)) || !(*pooled = batch_alloc(j, pool + 1, err)))
        return STYX_ERR_NOMEM;
    for (size_t p = 0; p < j->prompts && !code; p++) {
        float *to = *text + p * one, *vector = *pooled + p * pool;
        if (p && same_texts(side, n, p, p - 1)) { /* negative prompts are mostly the same */
            memcpy(to, to - one, one * sizeof *to);
            memcpy(vector, vector - pool, pool * sizeof *vector);
            continue;
        }
        code = encode_one(j, e, n, side, p, chunks, out, to, vector, err);
    }
    repeat_rows(*text, j->prompts, j->per, one);
    repeat_rows(*pooled, j->prompts, j->per, pool);
    return code;
}

static int check_given(const struct job *j, const char *name, const struct styx_tensor *x, int dims,
                       int tokens, int width, styx_error *err)
{
    if (x->dims == dims && x->shape[0] == (int)j->prompts && x->shape[dims - 1] == width &&
        (dims == 2 || tokens == 0 || x->shape[1] == tokens))
        return 0;
    return fail(err, STYX_ERR_INVALID,
                "%s has %d dimensions (%d, %d, %d); %zu rows%s of width %d were wanted", name,
                x->dims, x->shape[0], x->dims > 1 ? x->shape[1] : 0, x->dims > 2 ? x->shape[2] : 0,
                j->prompts, dims == 3 ? " of token embeddings" : "", width);
}

static int take_given(const struct job *j, const struct styx_tensor *x, float **to, styx_error *err)
{
    size_t one = tensor_numbers(x) / j->prompts;
    if (!(*to = batch_alloc(j, one, err)))
        return STYX_ERR_NOMEM;
    memcpy(*to, x->data, j->prompts * one * sizeof **to);
    repeat_rows(*to, j->prompts, j->per, one);
    return 0;
}

/* Embeddings that the caller made. SDXL wants the pooled ones with them. */
static int given_side(const struct job *j, struct embeddings *out, bool negative, styx_error *err)
{
    const struct styx_tensor *text = negative ? j->r.negative_prompt_embeds : j->r.prompt_embeds;
    const struct styx_tensor *pooled =
        negative ? j->r.negative_pooled_prompt_embeds : j->r.pooled_prompt_embeds;
    const char *name = negative ? "negative_prompt_embeds" : "prompt_embeds";
    int code, width = j->m->part[SLOT_UNET]->unet.context;
    if ((code = check_given(j, name, text, 3, negative ? out->tokens : 0, width, err)) ||
        (code = take_given(j, text, negative ? &out->negative : &out->text, err)))
        return code;
    if (!negative)
        out->tokens = text->shape[1];
    if (!j->xl)
        return 0;
    if (!pooled)
        return fail(err, STYX_ERR_INVALID,
                    "%s is given, so %spooled_prompt_embeds must be given too", name,
                    negative ? "negative_" : "");
    if (!negative && pooled->dims == 2)
        out->pooled_width = pooled->shape[1];
    if ((code = check_given(j, negative ? "negative_pooled_prompt_embeds" : "pooled_prompt_embeds",
                            pooled, 2, 0, out->pooled_width, err)))
        return code;
    return take_given(j, pooled, negative ? &out->negative_pooled : &out->pooled, err);
}

/* Pooled vectors beside texts stand for those of the texts. */
static int replace_pooled(const struct job *j, const struct styx_tensor *x, const char *name,
                          int width, float **to, styx_error *err)
{
    int code;
    if (!j->xl || !x)
        return 0;
    if ((code = check_given(j, name, x, 2, 0, width, err)))
        return code;
    free(*to);
    *to = NULL;
    return take_given(j, x, to, err);
}

static bool has_negative(const struct styx_request *r)
{
    return r->negative_prompt || r->negative_prompts;
}

static void collect_texts(const struct job *j, struct texts *sides)
{
    const struct styx_request *r = &j->r;
    sides[0] =
        (struct texts){ { r->prompt, r->prompt_2 }, { r->prompts, r->prompts_2 }, r->clip_skip };
    sides[1] = (struct texts){ { r->negative_prompt, r->negative_prompt_2 },
                               { r->negative_prompts, r->negative_prompts_2 },
                               -1 };
    if (!has_negative(r))
        sides[1].one[0] = ""; /* None is the empty text, unless SDXL wants zeros */
}

static int zero_negative(struct job *j, struct embeddings *out, styx_error *err)
{
    out->negative = batch_alloc(j, (size_t)out->tokens * (size_t)out->width, err);
    out->negative_pooled = batch_alloc(j, (size_t)out->pooled_width + 1, err);
    return out->negative && out->negative_pooled ? 0 : STYX_ERR_NOMEM;
}

int job_embeddings(struct job *j, struct embeddings *out, styx_error *err)
{
    struct encoder e[2];
    struct texts sides[2];
    bool zeros = j->xl && j->m->force_zeros && !has_negative(&j->r);
    bool encode_negative = j->guided && !j->r.negative_prompt_embeds && !zeros;
    bool encode_positive = !j->r.prompt_embeds;
    int n = 0, chunks = 1, code = 0;
    collect_texts(j, sides);
    out->width = j->m->part[SLOT_UNET]->unet.context;
    out->tokens = 77;
    if (encode_positive || encode_negative) {
        if ((n = encoders(j, e, err)) < 0)
            return n;
        out->tokens = e[0].tokens;
        out->pooled_width = e[n - 1].net->clip.projection;
        if (j->r.emphasis) {
            if ((code = count_chunks(j, e, n, sides + !encode_positive,
                                     encode_positive + encode_negative, &chunks, err)))
                return code;
            out->tokens = chunks * e[0].tokens;
        }
    }
    if (!encode_positive)
        code = given_side(j, out, false, err);
    else if (!(code = encode_side(j, e, n, &sides[0], chunks, out, &out->text, &out->pooled, err)))
        code = replace_pooled(j, j->r.pooled_prompt_embeds, "pooled_prompt_embeds",
                              out->pooled_width, &out->pooled, err);
    if (code || !j->guided)
        return code;
    if (j->r.negative_prompt_embeds)
        return given_side(j, out, true, err);
    if (zeros)
        return zero_negative(j, out, err);
    code = encode_side(j, e, n, &sides[1], chunks, out, &out->negative, &out->negative_pooled, err);
    return code ? code
                : replace_pooled(j, j->r.negative_pooled_prompt_embeds,
                                 "negative_pooled_prompt_embeds", out->pooled_width,
                                 &out->negative_pooled, err);
}

void embeddings_free(struct embeddings *e)
{
    free(e->text);
    free(e->negative);
    free(e->pooled);
    free(e->negative_pooled);
    memset(e, 0, sizeof *e);
}

/* [negative; positive], or the positive half alone. */
static float *stack(const struct job *j, const float *negative, const float *positive, size_t one,
                    styx_error *err)
{
    size_t half = j->batch * one;
    float *x = malloc(j->rows * one * sizeof *x);
    if (!x) {
        fail_nomem(err, j->rows * one * sizeof *x);
        return NULL;
    }
    if (j->guided)
        memcpy(x, negative, half * sizeof *x);
    memcpy(x + (j->guided ? half : 0), positive, half * sizeof *x);
    return x;
}

int job_encode_text(struct job *j, styx_error *err)
{
    struct embeddings e = { 0 };
    int code = job_embeddings(j, &e, err);
    if (code)
        goto done;
    j->tokens = e.tokens;
    j->width = e.width;
    j->pooled_width = e.pooled_width;
    j->text = stack(j, e.negative, e.text, (size_t)e.tokens * (size_t)e.width, err);
    if (j->text && j->xl)
        j->pooled = stack(j, e.negative_pooled, e.pooled, (size_t)e.pooled_width, err);
    if (!j->text || (j->xl && !j->pooled)) {
        code = STYX_ERR_NOMEM;
        goto done;
    }
    job_trace(j, "cond.encoder_hidden_states", 3, (int[]){ (int)j->rows, j->tokens, j->width },
              j->text);
    if (j->xl)
        job_trace(j, "cond.text_embeds", 2, (int[]){ (int)j->rows, j->pooled_width }, j->pooled);
done:
    embeddings_free(&e);
    return code;
}

/* Two numbers (height, width), or their default when the first is 0. */
static void pair(float *to, const int *given, int h, int w)
{
    to[0] = (float)(given[0] ? given[0] : h);
    to[1] = (float)(given[0] ? given[1] : w);
}

static void positive_ids(const struct job *j, float *v)
{
    pair(v, j->r.original_size, j->told_h, j->told_w);
    v[2] = (float)j->r.crop[0];
    v[3] = (float)j->r.crop[1];
    if (j->ids == 5)
        v[4] = (float)j->r.aesthetic_score;
    else
        pair(v + 4, j->r.target_size, j->told_h, j->told_w);
}

static void negative_ids(const struct job *j, const float *positive, float *v)
{
    const struct styx_request *r = &j->r;
    memcpy(v, positive, 6 * sizeof *v);
    if (j->task == TASK_TEXT) { /* only if both sizes are given */
        if (!r->negative_original_size[0] || !r->negative_target_size[0])
            return;
        pair(v, r->negative_original_size, 0, 0);
        v[2] = (float)r->negative_crop[0];
        v[3] = (float)r->negative_crop[1];
        pair(v + 4, r->negative_target_size, 0, 0);
        return;
    }
    pair(v, r->negative_original_size, (int)positive[0], (int)positive[1]);
    if (j->ids == 5) {
        v[2] = (float)r->negative_crop[0];
        v[3] = (float)r->negative_crop[1];
        v[4] = (float)r->negative_aesthetic_score;
        return;
    }
    /* diffusers' image pipelines reuse the positive crop here */
    pair(v + 4, r->negative_target_size, (int)positive[4], (int)positive[5]);
}

static int check_added(const struct job *j, styx_error *err)
{
    const struct unet_config *u = &j->m->part[SLOT_UNET]->unet;
    int given = j->ids * u->time_dim + j->pooled_width;
    if (given == u->added)
        return 0;
    int other = j->ids == 6 ? 5 : 6;
    bool flip = other * u->time_dim + j->pooled_width == u->added;
    return fail(err, STYX_ERR_INVALID,
                "the UNet's added embedding wants %d numbers, the conditioning has %d%s", u->added,
                given,
                !flip        ? ": do the components belong together?"
                : other == 5 ? ": it is a refiner's, so requires_aesthetics_score must be true "
                               "and an image is wanted"
                             : ": it is a base's, so requires_aesthetics_score must be false");
}

int job_time_ids(struct job *j, styx_error *err)
{
    float positive[6] = { 0 }, negative[6];
    int code;
    if (!j->xl)
        return 0;
    j->ids = j->m->aesthetics && j->task != TASK_TEXT ? 5 : 6;
    if ((code = check_added(j, err)))
        return code;
    positive_ids(j, positive);
    negative_ids(j, positive, negative);
    j->time_ids = malloc(j->rows * (size_t)j->ids * sizeof(float));
    if (!j->time_ids)
        return fail_nomem(err, j->rows * (size_t)j->ids * sizeof(float));
    for (size_t i = 0; i < j->rows; i++) {
        /* Text to image repeats the pair [negative; positive] for every picture, so with more than
         * one the rows alternate while the embeddings do not. Image to image repeats first. */
        bool first = j->task == TASK_TEXT ? i % 2 == 0 : i < j->batch;
        memcpy(j->time_ids + i * (size_t)j->ids, j->guided && first ? negative : positive,
               (size_t)j->ids * sizeof(float));
    }
    if (j->noise_type != DT_F32) /* an fp16 pipeline holds them in fp16: 2049 becomes 2048 */
        for (size_t i = 0; i < j->rows * (size_t)j->ids; i++) {
            uint16_t half;
            dtype_from_f32(j->noise_type, &j->time_ids[i], &half, 1);
            dtype_to_f32(j->noise_type, &half, &j->time_ids[i], 1);
        }
    job_trace(j, "cond.time_ids", 2, (int[]){ (int)j->rows, j->ids }, j->time_ids);
    return 0;
}

/* LCM (Luo et al. 2023): the guidance scale as a sinusoid of 1000 (g - 1), [sin | cos]. */
int job_guidance_embedding(struct job *j, styx_error *err)
{
    int dim = j->m->part[SLOT_UNET]->unet.cond_proj, half = dim / 2;
    if (!dim)
        return 0;
    j->guidance_embed = calloc(j->rows * (size_t)dim, sizeof(float));
    if (!j->guidance_embed)
        return fail_nomem(err, j->rows * (size_t)dim * sizeof(float));
    float w = (float)(j->guidance - 1) * 1000;
    for (size_t r = 0; r < j->rows; r++) {
        float *to = j->guidance_embed + r * (size_t)dim;
        for (int i = 0; i < half; i++) {
            float f = expf((float)i * -(logf(10000) / ((float)half - 1)));
            to[i] = sinf(w * f);
            to[half + i] = cosf(w * f);
        }
    }
    return 0;
}
