/* program.c - programs by key: recorded, planned, given weights and prepared on first use, then
 * kept like prepared statements. Weights are loaded once for all programs of a network.
 *
 * Under a memory limit whatever is not needed for the next program is dropped first, oldest use
 * first; if the network alone is too large its weights are streamed. */
#include "engine/engine.h"
#include <stdlib.h>

static const char *const network_names[] = {
    [NET_TEXT] = "text",
    [NET_UNET] = "unet",
    [NET_VAE_ENCODE] = "vae.encode",
    [NET_VAE_DECODE] = "vae.decode",
    [NET_VISION] = "vision",
};

enum { KEPT_PROGRAMS = 12 };

struct loaded { /* the weights of one network in the backend's form */
    struct loaded *next;
    styx_component *component;
    enum network network;
    enum dtype type;
    void *data;
    uint64_t bytes, request; /* the request that loaded them */
    int users;               /* programs */
};

struct program {
    struct program *next;
    struct program_key key;
    tape *t;
    struct loaded *weights;
    void *plan;
    uint64_t bytes;
    void *last[TAPE_MAX_IN]; /* what the once-inputs held at the last run */
    bool ran;
};

const tape *program_tape(const struct program *p)
{
    return p->t;
}

/* SDXL's time embedding has something of the text in it, so that only the first convolution and a
 * half of the first block can be shared: 0.2 % of the products. That is worth the maps that are
 * copied where the embedding is added by the norm anyway, but not where the convolution before
 * ends with it. */
static void record_unet(tape *t, const struct program_key *k, const struct backend *b)
{
    enum { SAMPLE, TIMESTEP };
    const struct unet_config *m = &k->component->unet;
    unet(t, m, k->n, k->h, k->w, k->tokens, k->ids);
    t->copies = m->time_dim && !b->merge ? 1 : k->copies;
    for (int i = SAMPLE; i <= TIMESTEP && i < t->nin; i++)
        t->in[i]->repeats = true;
}

static void record(tape *t, const struct program_key *k, const struct backend *b)
{
    const styx_component *c = k->component;
    switch (k->network) {
    case NET_TEXT:
        clip_text(t, &c->clip, k->n, k->w, k->layer, k->normed);
        break;
    case NET_UNET:
        record_unet(t, k, b);
        break;
    case NET_VAE_ENCODE:
        vae_encode(t, &c->vae, k->n, k->h, k->w);
        break;
    case NET_VAE_DECODE:
        vae_decode(t, &c->vae, k->n, k->h, k->w);
        break;
    case NET_VISION:
        clip_vision(t, &c->clip, k->n, c->vision_prefix);
        break;
    }
}

int program_record(const struct program_key *key, const struct backend *b, tape **out,
                   styx_error *err)
{
    tape *t = tape_new(network_names[key->network], key->type);
    if (!t)
        return fail_nomem(err, sizeof *t);
    t->sums = b->mixes ? DT_F32 : key->type;
    record(t, key, b);
    int code = tape_finish(t, b->merge, b->halo, err);
    if (code) {
        tape_free(t);
        return code;
    }
    *out = t;
    return 0;
}

/* Do the networks take turns on the card, each with all its weights? */
static bool one_place(const styx_session *s)
{
    return s->offload == STYX_OFFLOAD_MODEL;
}

static void unload(styx_session *s, struct loaded *w)
{
    struct loaded **at = &s->loaded;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    s->held -= one_place(s) ? 0 : w->bytes;
    s->backend->unload(s->device, w->data);
    styx_component_free(w->component);
    free(w);
}

static void forget(styx_session *s, struct program *p)
{
    struct program **at = &s->programs;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    s->held -= p->bytes;
    s->backend->release(p->plan);
    p->weights->users--;
    for (int i = 0; i < TAPE_MAX_IN; i++)
        free(p->last[i]);
    tape_free(p->t);
    free(p);
}

void programs_free(styx_session *s)
{
    while (s->programs)
        forget(s, s->programs);
    while (s->loaded)
        unload(s, s->loaded);
}

void programs_drop(styx_session *s, const styx_component *c, enum network network)
{
    struct program *next;
    for (struct program *p = s->programs; p; p = next) {
        next = p->next;
        if (p->key.component == c && p->key.network == network)
            forget(s, p);
    }
    struct loaded *after;
    for (struct loaded *w = s->loaded; w; w = after) {
        after = w->next;
        if (w->component == c && w->network == network)
            unload(s, w);
    }
}

void programs_done(styx_session *s, const styx_component *c, enum network network)
{
    for (const struct loaded *w = s->loaded; w; w = w->next)
        if (one_place(s) && w->component == c && w->network == network && w->request < s->requests)
            return;
    programs_drop(s, c, network);
}

static int references(const styx_session *s, const styx_component *c)
{
    int n = 0;
    for (const struct loaded *w = s->loaded; w; w = w->next)
        n += w->component == c;
    return n;
}

void programs_sweep(styx_session *s)
{
    struct loaded *w = s->loaded;
    while (w) {
        if (atomic_load(&w->component->refs) > references(s, w->component)) {
            w = w->next;
            continue;
        }
        programs_drop(s, w->component, w->network);
        w = s->loaded; /* from the start: the list is another one now */
    }
}

static bool same_key(const struct program_key *a, const struct program_key *b)
{
    return a->component == b->component && a->network == b->network && a->type == b->type &&
           a->n == b->n && a->h == b->h && a->w == b->w && a->tokens == b->tokens &&
           a->ids == b->ids && a->copies == b->copies && a->layer == b->layer &&
           a->normed == b->normed;
}

static struct loaded *find_loaded(styx_session *s, const struct program_key *k)
{
    for (struct loaded *w = s->loaded; w; w = w->next)
        if (w->component == k->component && w->network == k->network && w->type == k->type)
            return w;
    return NULL;
}

/* What would be held with this program too. On a card all programs share one arena and one
 * workspace, which only grow, and when networks take turns one place for weights as well. */
static uint64_t held_with(const styx_session *s, uint64_t weights, const struct footprint *need)
{
    uint64_t own = need->arena + need->workspace;
    if (!s->card)
        return s->held + weights + own;
    if (one_place(s)) {
        own += weights;
        weights = 0;
    }
    return s->held + weights + (own > s->shared ? own - s->shared : 0);
}

static struct program *oldest(styx_session *s)
{
    struct program *p = s->programs;
    while (p && p->next)
        p = p->next;
    return p;
}

static struct loaded *idle(styx_session *s, const struct loaded *except)
{
    for (struct loaded *w = s->loaded; w; w = w->next)
        if (w != except && w->users == 0)
            return w;
    return NULL;
}

/* Drops what is not wanted next until a program fits under the limit, or nothing is left. keep: its
 * weights if they are loaded. */
static void make_room(styx_session *s, const struct footprint *need, struct loaded *keep)
{
    while (held_with(s, keep && !one_place(s) ? 0 : need->weights, need) > session_room(s)) {
        struct loaded *w = idle(s, keep);
        struct program *p = oldest(s);
        if (w)
            unload(s, w);
        else if (p)
            forget(s, p);
        else
            return;
    }
}

/* How many bytes of weights may be resident: 0 = all of them. */
static int weight_budget(styx_session *s, const struct program_key *key, const tape *t,
                         const struct footprint *need, uint64_t *budget, styx_error *err)
{
    uint64_t room = session_room(s), most;
    struct footprint least;
    *budget = 0;
    if (held_with(s, need->weights, need) <= room)
        return 0;
    s->backend->measure(s->device, t, 1, &least); /* the smallest window that works */
    most = held_with(s, least.weights, need);
    if (most > room)
        return fail(err, STYX_ERR_NOMEM,
                    "%s needs %llu bytes at least (%llu of them for weights); the limit is %llu",
                    network_names[key->network],
                    (unsigned long long)(most + s->overhead + s->mapped),
                    (unsigned long long)least.weights, (unsigned long long)s->max_memory);
    *budget = least.weights + room - most;
    return 0;
}

static int load(styx_session *s, const struct program_key *key, const tape *t, struct loaded **out,
                styx_error *err)
{
    struct loaded *w = calloc(1, sizeof *w);
    struct span *spans = calloc((size_t)t->nparams + 1, sizeof *spans);
    struct store_report report = { 0 };
    struct footprint need;
    uint64_t budget = 0;
    int code = 0;
    if (!w || !spans) {
        code = fail_nomem(err, sizeof *w);
        goto done;
    }
    s->backend->measure(s->device, t, 0, &need);
    if ((code = weight_budget(s, key, t, &need, &budget, err)))
        goto done;
    code = store_bind(key->component->weights, t->params, t->nparams, spans, &report, err);
    store_forget_all(key->component->weights); /* what was expanded has been read */
    if (code) {
        if (report.text)
            session_warn(s, "%s", report.text);
        goto done;
    }
    struct weights from = { spans, t->nparams };
    if ((code = s->backend->load(s->device, t, &from, budget, &w->data, err)))
        goto done;
    if (budget)
        s->backend->measure(s->device, t, budget, &need);
    w->bytes = need.weights;
    w->component = styx_component_ref((styx_component *)key->component);
    w->network = key->network;
    w->type = key->type;
    w->request = s->requests;
    w->next = s->loaded;
    s->loaded = w;
    s->held += one_place(s) ? 0 : w->bytes;
    *out = w;
    w = NULL;
done:
    store_report_free(&report);
    free(spans);
    free(w);
    return code;
}

/* Counts what a new program takes. What is shared on a card stays when the program goes. */
static void hold(styx_session *s, struct program *p, const struct footprint *need)
{
    uint64_t with = held_with(s, one_place(s) ? p->weights->bytes : 0, need);
    if (s->card)
        s->shared += with - s->held;
    else
        p->bytes = with - s->held;
    s->held = with;
}

static int make(styx_session *s, const struct program_key *key, struct program **out,
                styx_error *err)
{
    struct program *p = calloc(1, sizeof *p);
    struct footprint need;
    int code, n = 0;
    if (!p)
        return fail_nomem(err, sizeof *p);
    p->key = *key;
    if ((code = program_record(key, s->backend, &p->t, err)))
        goto done;
    p->weights = find_loaded(s, key);
    s->backend->measure(s->device, p->t, 0, &need);
    make_room(s, &need, p->weights);
    if (!p->weights && (code = load(s, key, p->t, &p->weights, err)))
        goto done;
    if ((code = s->backend->prepare(s->device, p->t, p->weights->data, &p->plan, err)))
        goto done;
    for (struct program *q = s->programs; q; q = q->next)
        n++;
    if (n >= KEPT_PROGRAMS)
        forget(s, oldest(s));
    p->weights->users++;
    hold(s, p, &need);
    p->next = s->programs;
    s->programs = p;
    *out = p;
    return 0;
done:
    tape_free(p->t);
    free(p);
    return code;
}

int program_get(styx_session *s, const struct program_key *key, struct program **out,
                styx_error *err)
{
    for (struct program **at = &s->programs; *at; at = &(*at)->next) {
        struct program *p = *at;
        if (!same_key(&p->key, key))
            continue;
        *at = p->next; /* to the front */
        p->next = s->programs;
        s->programs = p;
        *out = p;
        return 0;
    }
    double since = clock_seconds();
    int code = make(s, key, out, err);
    s->loading += clock_seconds() - since;
    return code;
}

/* Are the once-inputs those of the last run? Remembers the new ones if not. */
static int compare_inputs(struct program *p, const void *const *in, bool *again, styx_error *err)
{
    *again = p->ran;
    for (int i = 0; i < p->t->nin; i++) {
        size_t bytes = tensor_count(p->t->in[i]) * sizeof(float);
        if (!p->t->in_once[i])
            continue;
        if (!p->last[i] && !(p->last[i] = malloc(bytes)))
            return fail_nomem(err, bytes);
        if (!p->ran || memcmp(p->last[i], in[i], bytes) != 0) {
            memcpy(p->last[i], in[i], bytes);
            *again = false;
        }
    }
    return 0;
}

int program_run(styx_session *s, struct program *p, const void *const *in, float *const *out,
                styx_error *err)
{
    struct run_args args = { .cancel = &s->cancel, .seconds = s->timing };
    int code = compare_inputs(p, in, &args.again, err);
    if (code)
        return code;
    memcpy(args.in, in, (size_t)p->t->nin * sizeof *in);
    memcpy(args.out, out, (size_t)p->t->nout * sizeof *out);
    p->ran = false; /* a cancelled prologue is worth nothing */
    code = s->backend->run(p->plan, &args, err);
    p->ran = code == 0;
    return code;
}
