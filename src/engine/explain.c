/* explain.c - what a request would do and hold, told before a weight is read. */
#include "engine/job.h"
#include <stdlib.h>

struct stage {
    struct program_key key;
    tape *t;
    struct footprint need;
};

enum { MAX_STAGES = 8 };

static int add_stage(struct job *j, struct stage *stages, int *n, struct program_key key,
                     styx_error *err)
{
    struct stage *s = &stages[*n];
    int code;
    if (!key.component)
        return 0;
    s->key = key;
    if ((code = program_record(&key, j->s->backend, &s->t, err)))
        return code;
    j->s->backend->measure(j->s->device, s->t, 0, &s->need);
    ++*n;
    return 0;
}

static int text_stages(struct job *j, struct stage *stages, int *n, styx_error *err)
{
    int code = 0;
    for (int i = 0; i < 2 && !code; i++) {
        const styx_component *c = j->m->part[SLOT_TEXT_ENCODER + i];
        if (!c)
            continue;
        struct program_key key = {
            .component = c, .network = NET_TEXT, .type = j->type, .n = 1, .h = 1, .normed = !j->xl
        };
        key.w = tokenizer_max_length(j->m->part[SLOT_TOKENIZER + i]->tokenizer);
        key.layer = c->clip.layers - (j->xl ? 1 : 0);
        j->tokens = key.w;
        code = add_stage(j, stages, n, key, err);
    }
    return code;
}

static int record_stages(struct job *j, struct stage *stages, int *n, styx_error *err)
{
    styx_component *const *part = j->m->part;
    struct program_key unet = { .component = part[SLOT_UNET],
                                .network = NET_UNET,
                                .type = j->type,
                                .n = (int)j->rows,
                                .h = j->lh,
                                .w = j->lw,
                                .copies = (int)(j->rows / j->batch) };
    struct program_key vae = { .component = part[SLOT_VAE], .type = j->vae_type, .n = 1 };
    int code;
    j->tokens = 77;
    if ((code = text_stages(j, stages, n, err)))
        return code;
    if (j->task != TASK_TEXT) {
        vae.network = NET_VAE_ENCODE;
        vae.h = j->h;
        vae.w = j->w;
        if ((code = add_stage(j, stages, n, vae, err)))
            return code;
    }
    unet.tokens = j->tokens;
    if (j->xl)
        unet.ids = j->m->aesthetics ? 5 : 6;
    if ((code = add_stage(j, stages, n, unet, err)))
        return code;
    vae.network = NET_VAE_DECODE;
    vae.h = j->lh;
    vae.w = j->lw;
    if ((code = add_stage(j, stages, n, vae, err)))
        return code;
    if (part[SLOT_SAFETY_CHECKER] && j->r.safety != STYX_SAFETY_OFF)
        return add_stage(j, stages, n,
                         (struct program_key){ .component = part[SLOT_SAFETY_CHECKER],
                                               .network = NET_VISION,
                                               .type = j->type,
                                               .n = 1 },
                         err);
    return 0;
}

static double mib(uint64_t bytes)
{
    return (double)bytes / 1048576;
}

/* Does this program begin a stage, before which another gives up its memory? The text encoders work
 * in one, and so do the decoder and the safety checker. */
static bool begins_stage(const struct stage *stages, int i)
{
    enum network network = stages[i].key.network;
    return i > 0 && network != stages[i - 1].key.network && network != NET_VISION;
}

static void print_stages(struct job *j, const struct stage *stages, int n, const char *network,
                         int code, FILE *to)
{
    uint64_t held = 0, shared = 0, peak = 0, rest = j->s->overhead, room = session_room(j->s);
    bool dropped = j->r.offload || j->s->offload == STYX_OFFLOAD_MODEL;
    fprintf(to, "%s on %s (%s), %d x %d, %zu picture%s, %s\n\n", j->m->path, j->s->backend->name,
            j->s->description, j->w, j->h, j->batch, j->batch == 1 ? "" : "s", dtype_name(j->type));
    fprintf(to, "%-12s %-5s %8s %14s %12s %12s %12s\n", "program", "type", "instrs", "parameters",
            "weights MiB", "arena MiB", "scratch MiB");
    for (int i = 0; i < n; i++) {
        const struct stage *s = &stages[i];
        uint64_t own = s->need.arena + s->need.workspace;
        fprintf(to, "%-12s %-5s %8d %14zu %12.1f %12.1f %12.1f\n", s->t->name,
                dtype_name(s->t->type), s->t->ncode, tape_parameters(s->t), mib(s->need.weights),
                mib(s->need.arena), mib(s->need.workspace));
        if (j->s->card) { /* its programs share their memory */
            shared = own > shared ? own : shared;
            own = 0;
        }
        if ((dropped && begins_stage(stages, i)) || held + shared + s->need.weights + own > room)
            held = 0; /* earlier stages are dropped, always or when the limit asks */
        held += s->need.weights + own;
        if (held + shared > room) /* the weights are streamed */
            held = room > shared ? room - shared : 0;
        peak = held + shared + rest > peak ? held + shared + rest : peak;
    }
    fprintf(to, "peak of %s memory: %llu bytes (%.1f MiB)%s\n",
            j->s->card ? "the card's" : "anonymous", (unsigned long long)peak, mib(peak),
            dropped            ? ", each stage dropped when it is done"
            : j->s->max_memory ? " under the limit"
                               : ", all stages staying loaded");
    for (int i = 0; i < n; i++) {
        if (!code || (network && strcmp(network, stages[i].t->name) != 0))
            continue;
        fprintf(to, "\n");
        tape_explain(stages[i].t, to);
    }
}

/* A refiner works on a picture; to explain it any picture of the asked size will do. *request
 * becomes r if one was wanting. What is wrong with a request is for job_init to say. */
static int with_picture(const styx_model *m, const struct styx_request **request,
                        struct styx_request *r, struct styx_image *picture, styx_error *err)
{
    const struct styx_request *asked = *request;
    if (!m || m->family != FAMILY_REFINER || !asked || asked->size < sizeof asked->size ||
        asked->size > sizeof *r)
        return 0;
    styx_request_init(r, sizeof *r);
    memcpy(r, asked, asked->size);
    r->size = sizeof *r;
    if (r->image_count || r->image_tensor)
        return 0;
    int side = m->part[SLOT_UNET]->unet.sample_size * vae_scale(&m->part[SLOT_VAE]->vae);
    picture->width = r->width > 0 ? r->width : side;
    picture->height = r->height > 0 ? r->height : side;
    picture->channels = 3;
    if (picture->width > MAX_SIDE || picture->height > MAX_SIDE)
        return 0; /* refused as any other size */
    picture->pixels = calloc((size_t)picture->width * (size_t)picture->height, 3);
    if (!picture->pixels)
        return fail_nomem(err, (size_t)picture->width * (size_t)picture->height * 3);
    r->images = picture;
    r->image_count = 1;
    *request = r;
    return 0;
}

int styx_explain(styx_session *session, const styx_model *model, const struct styx_request *request,
                 const char *network, int code, char **text, styx_error *err)
{
    struct job j = { 0 };
    struct stage stages[MAX_STAGES] = { 0 };
    struct styx_request r;
    struct styx_image picture = { 0 };
    char *made = NULL;
    size_t bytes = 0;
    FILE *to = NULL;
    int n = 0, rc = with_picture(model, &request, &r, &picture, err);
    if (!rc)
        rc = job_init(&j, session, model, request, err);
    if (!rc)
        rc = record_stages(&j, stages, &n, err);
    if (!rc && !(to = open_memstream(&made, &bytes)))
        rc = fail_nomem(err, 1 << 16);
    if (!rc) {
        print_stages(&j, stages, n, network, code, to);
        if (fclose(to))
            rc = fail_nomem(err, bytes);
    }
    for (int i = 0; i < n; i++)
        tape_free(stages[i].t);
    job_free(&j);
    styx_image_free(&picture);
    if (rc) {
        free(made);
        return rc;
    }
    *text = made;
    return 0;
}
