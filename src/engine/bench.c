/* bench.c - how fast the networks of the published models run here, kernel by kernel.
 *
 * A network is recorded, planned, packed and run as in a request, under the session's memory limit
 * and on weights in a mapped file; but the numbers are random, so that no model need be there. */
#define _GNU_SOURCE /* memfd_create */
#include "engine/published.h"
#include "tape/kinds.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- random weights ---- */

static void numbers_free(void *file)
{
    file_unmap(file);
    free(file);
}

static float random_number(uint32_t *state) /* [-1, 1) */
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state * 0x1p-31f;
}

/* All weights are views of one file: only their speed is of interest. */
static struct file_map *numbers_new(size_t count, styx_error *err)
{
    size_t bytes = count * sizeof(uint16_t);
    struct file_map *n = malloc(sizeof *n);
    char *name = strdup("random weights");
    uint32_t state = 1;
    int file = memfd_create("styx random weights", MFD_CLOEXEC);
    void *data = MAP_FAILED;
    if (n && name && file >= 0 && ftruncate(file, (off_t)bytes) == 0)
        data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (data == MAP_FAILED) {
        fail(err, STYX_ERR_NOMEM, "no memory for %zu bytes of random weights: %s", bytes,
             strerror(errno));
        if (file >= 0)
            close(file);
        free(name);
        free(n);
        return NULL;
    }
    *n = (struct file_map){ data, bytes, file, name };
    for (size_t i = 0; i < count; i++)
        ((uint16_t *)data)[i] = f32_to_f16(0.03f * random_number(&state));
    return n;
}

static int random_store(const tape *t, struct store **out, styx_error *err)
{
    struct store *s = store_new("random weights");
    size_t most = 0;
    int code = s ? 0 : fail_nomem(err, 256);
    for (int i = 0; i < t->nparams; i++)
        most = param_count(&t->params[i]) > most ? param_count(&t->params[i]) : most;
    struct file_map *n = code ? NULL : numbers_new(most, err);
    if (!code)
        code = n ? store_keep(s, n, numbers_free, err) : STYX_ERR_NOMEM;
    for (int i = 0; i < t->nparams && !code; i++) {
        const param *p = &t->params[i];
        struct entry e = { .name = p->name,
                           .type = "F16",
                           .dims = p->dims,
                           .count = param_count(p),
                           .bytes = 2 * param_count(p),
                           .raw = n->data };
        e.span = (struct span){ .data = n->data, .type = DT_F16, .dims = p->dims, .file = n };
        memcpy(e.shape, p->shape, sizeof e.shape);
        memcpy(e.span.shape, p->shape, sizeof p->shape);
        code = store_add(s, &e, err);
    }
    if (!code)
        code = store_seal(s, err);
    if (code)
        store_unref(s);
    else
        *out = s;
    return code;
}

/* ---- what is measured ---- */

struct bench {
    styx_session *s;
    struct styx_bench_options o;
    enum single_file kind;
    struct program_key key;
    const tape *t;
    void *in[TAPE_MAX_IN];
    double load, run;   /* seconds; the best run */
    double *now, *best; /* of each instruction */
    double peak;        /* FLOP/s */
};

static int find_model(struct bench *b, styx_error *err)
{
    static const enum single_file kinds[] = { SINGLE_SD15, SINGLE_SDXL, SINGLE_REFINER };
    static const char *const names[] = { "sd15", "sdxl", "refiner" };
    for (int i = 0; i < 3; i++)
        if (b->o.model && strcmp(b->o.model, names[i]) == 0)
            b->kind = kinds[i];
    if (b->kind == SINGLE_UNKNOWN)
        return fail(err, STYX_ERR_INVALID, "model '%s'; sd15, sdxl or refiner was wanted",
                    b->o.model ? b->o.model : "");
    return 0;
}

static int find_network(struct bench *b, enum slot *slot, styx_error *err)
{
    static const struct {
        const char *name;
        enum slot slot;
        enum network network;
    } all[] = { { "text_encoder", SLOT_TEXT_ENCODER, NET_TEXT },
                { "text_encoder_2", SLOT_TEXT_ENCODER_2, NET_TEXT },
                { "unet", SLOT_UNET, NET_UNET },
                { "vae.encode", SLOT_VAE, NET_VAE_ENCODE },
                { "vae.decode", SLOT_VAE, NET_VAE_DECODE } };
    const char *wanted = b->o.network ? b->o.network : "";
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        bool there = all[i].slot == SLOT_TEXT_ENCODER     ? b->kind != SINGLE_REFINER
                     : all[i].slot == SLOT_TEXT_ENCODER_2 ? b->kind != SINGLE_SD15
                                                          : true;
        if (strcmp(wanted, all[i].name) != 0)
            continue;
        *slot = all[i].slot;
        b->key.network = all[i].network;
        if (there)
            return 0;
        return fail(err, STYX_ERR_INVALID, "%s has no %s", b->o.model, wanted);
    }
    return fail(err, STYX_ERR_INVALID,
                "network '%s'; text_encoder, text_encoder_2, unet, "
                "vae.encode or vae.decode was wanted",
                wanted);
}

static int check_sizes(struct bench *b, styx_error *err)
{
    int side = b->kind == SINGLE_SD15 ? 512 : 1024;
    b->o.width = b->o.width ? b->o.width : side;
    b->o.height = b->o.height ? b->o.height : side;
    b->o.runs = b->o.runs ? b->o.runs : 3;
    if (b->o.width < 64 || b->o.height < 64 || b->o.width > MAX_SIDE || b->o.height > MAX_SIDE ||
        b->o.width % 8 || b->o.height % 8)
        return fail(err, STYX_ERR_INVALID, "size %d x %d; multiples of 8 from 64 to %d were wanted",
                    b->o.width, b->o.height, MAX_SIDE);
    if (b->o.runs < 1 || b->o.runs > 1000)
        return fail(err, STYX_ERR_INVALID, "%d runs; 1 to 1000 were wanted", b->o.runs);
    return 0;
}

static int check_type(const struct bench *b, styx_error *err)
{
    return b->key.network == NET_UNET ? check_unet_dtype(b->s, b->o.dtype, err)
                                      : check_dtype(b->s, b->o.dtype, err);
}

/* The rest of the key, as a request for one picture with guidance has it. */
static void find_key(struct bench *b, const styx_component *c)
{
    struct program_key *k = &b->key;
    bool upcast = k->network != NET_UNET && k->network != NET_TEXT && b->kind != SINGLE_SD15 &&
                  c->vae.force_upcast && b->o.dtype == STYX_AUTO;
    int scale = k->network == NET_VAE_ENCODE ? 1 : 8;
    k->component = c;
    k->type = upcast ? DT_F32 : resolve_dtype(b->s, b->o.dtype);
    k->n = k->copies = k->network == NET_UNET ? 2 : 1;
    k->h = k->network == NET_TEXT ? 1 : b->o.height / scale;
    k->w = k->network == NET_TEXT ? 77 : b->o.width / scale;
    if (k->network == NET_UNET) {
        k->tokens = 77;
        k->ids = b->kind == SINGLE_SD15 ? 0 : b->kind == SINGLE_REFINER ? 5 : 6;
    } else if (k->network == NET_TEXT) {
        k->layer = c->clip.layers - (b->kind != SINGLE_SD15);
        k->normed = b->kind == SINGLE_SD15;
    }
}

/* The component with random weights. */
static int make_component(struct bench *b, styx_component **out, styx_error *err)
{
    enum slot slot = SLOT_UNET;
    json_t *config = NULL;
    styx_component *bare = NULL;
    struct store *weights = NULL;
    tape *t = NULL;
    int code;
    if ((code = find_network(b, &slot, err)) || (code = check_type(b, err)) ||
        (code = published_config(b->kind, slot, NULL, b->o.model, &config, err)) ||
        (code = component_make(slot, b->o.model, config, b->o.model, NULL, &bare, err)))
        goto done;
    find_key(b, bare);
    if ((code = program_record(&b->key, b->s->backend, &t, err)) ||
        (code = random_store(t, &weights, err)))
        goto done;
    code = component_change(bare, weights, NULL, out, err);
done:
    tape_free(t);
    store_unref(weights);
    styx_component_free(bare);
    json_decref(config);
    return code;
}

/* ---- running ---- */

static int make_inputs(struct bench *b, styx_error *err)
{
    uint32_t state = 7;
    for (int i = 0; i < b->t->nin; i++) {
        const tensor *x = b->t->in[i];
        size_t n = tensor_count(x);
        if (!(b->in[i] = calloc(n, sizeof(float))))
            return fail_nomem(err, n * sizeof(float));
        for (size_t k = 0; k < n && x->type != DT_I32; k++) /* ids: zeros */
            ((float *)b->in[i])[k] = random_number(&state);
    }
    return 0;
}

static int run_once(struct bench *b, struct program *p, bool timed, styx_error *err)
{
    float *out[TAPE_MAX_OUT] = { NULL };
    b->s->timing = timed ? b->now : NULL;
    int code = program_run(b->s, p, (const void *const *)b->in, out, err);
    b->s->timing = NULL;
    return code;
}

/* The whole and, in the same run where that does not slow it, each instruction. */
static int run_timed(struct bench *b, struct program *p, bool first, styx_error *err)
{
    bool apart = b->s->backend->apart;
    double seconds = clock_seconds();
    int code = run_once(b, p, !apart, err);
    seconds = clock_seconds() - seconds;
    if (apart && !code)
        code = run_once(b, p, true, err);
    if (code)
        return code;
    b->run = first || seconds < b->run ? seconds : b->run;
    for (int i = 0; i < b->t->ncode; i++)
        b->best[i] = first || b->now[i] < b->best[i] ? b->now[i] : b->best[i];
    return 0;
}

static double peak_of(const styx_session *s, enum dtype type)
{
    return s->backend->peak ? s->backend->peak(s->device, type) : 0;
}

static int measure(struct bench *b, styx_error *err)
{
    double loading = b->s->loading, peak;
    struct program *p;
    int code = program_get(b->s, &b->key, &p, err);
    if (code)
        return code;
    b->load = b->s->loading - loading;
    b->t = program_tape(p);
    b->now = calloc((size_t)b->t->ncode + 1, sizeof *b->now);
    b->best = calloc((size_t)b->t->ncode + 1, sizeof *b->best);
    if (!b->now || !b->best)
        return fail_nomem(err, (size_t)b->t->ncode * sizeof *b->now);
    code = make_inputs(b, err);
    b->peak = peak_of(b->s, b->key.type);
    if (!code) /* what depends on the prompt alone is computed, and kernels are loaded */
        code = run_once(b, p, false, err);
    for (int run = 0; run < b->o.runs && !code; run++)
        code = run_timed(b, p, run == 0, err);
    peak = peak_of(b->s, b->key.type);
    b->peak = peak > b->peak ? peak : b->peak;
    return code;
}

/* ---- the report ---- */

static json_t *report(const struct bench *b, const struct kind *kinds, int n)
{
    const struct program_key *k = &b->key;
    struct footprint need;
    double flops = 0;
    json_t *kernels = json_array();
    for (int i = b->t->once; i < b->t->ncode; i++)
        flops += instr_flops(&b->t->code[i]);
    for (int i = 0; i < n; i++)
        json_array_append_new(kernels, json_pack("{s:s, s:i, s:f, s:f}", "kernel", kinds[i].name,
                                                 "count", kinds[i].count, "seconds",
                                                 kinds[i].seconds, "gflop", kinds[i].flops * 1e-9));
    b->s->backend->measure(b->s->device, b->t, 0, &need);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:i, s:o}",
        "model", b->o.model, "network", b->o.network, "device", b->s->description, "dtype",
        dtype_name(k->type), "width", b->o.width, "height", b->o.height, "rows", k->n, "parameters",
        (json_int_t)tape_parameters(b->t), "load_seconds", b->load, "seconds", b->run, "gflop",
        flops * 1e-9, "peak_gflops", b->peak * 1e-9, "weights_bytes", (json_int_t)need.weights,
        "arena_bytes", (json_int_t)need.arena, "workspace_bytes", (json_int_t)need.workspace,
        "compiled", b->s->backend->compiled ? b->s->backend->compiled(b->s->device) : 0, "kernels",
        kernels);
}

static int write_report(const struct bench *b, char **json, styx_error *err)
{
    struct kind *kinds = calloc((size_t)b->t->ncode + 1, sizeof *kinds);
    if (!kinds)
        return fail_nomem(err, (size_t)b->t->ncode * sizeof *kinds);
    json_t *root = report(b, kinds, tape_kinds(b->t, b->best, kinds));
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    free(kinds);
    if (!text)
        return fail_nomem(err, 4096);
    *json = text;
    return 0;
}

int styx_bench(styx_session *session, const struct styx_bench_options *options, char **json,
               styx_error *err)
{
    struct bench b = { .s = session, .o = STYX_BENCH_OPTIONS_INIT };
    styx_component *c = NULL;
    int code;
    if (!session || !options || !json)
        return fail(err, STYX_ERR_INVALID, "styx_bench wants a session, options and a place");
    if (options->size > sizeof b.o)
        return fail(err, STYX_ERR_UNSUPPORTED, "bench options of %zu bytes; this library knows %zu",
                    options->size, sizeof b.o);
    memcpy(&b.o, options, options->size);
    if ((code = session_enter(session, err)))
        return code;
    if (!(code = find_model(&b, err)) && !(code = check_sizes(&b, err)) &&
        !(code = make_component(&b, &c, err))) {
        b.key.component = c;
        code = measure(&b, err);
    }
    if (!code)
        code = write_report(&b, json, err);
    for (int i = 0; i < TAPE_MAX_IN; i++)
        free(b.in[i]);
    free(b.now);
    free(b.best);
    if (c)
        programs_drop(session, c, b.key.network);
    styx_component_free(c);
    session_leave(session);
    return code;
}
