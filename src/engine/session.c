/* session.c - a device, and who may use it when. */
#include "engine/engine.h"
#include <stdarg.h>
#include <stdlib.h>

static const struct backend *const backends[] = {
    &backend_cpu,
    &backend_ref,
#ifdef STYX_HAVE_CUDA
    &backend_cuda,
#endif
};

void session_warn(styx_session *s, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (!s->log)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->log(s->log_user, STYX_LOG_WARNING, text);
}

const struct backend *backend_find(const char *name)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    return NULL;
}

static int check_device(const struct styx_session_options *o, styx_error *err)
{
    if (o->threads < 0 || o->threads > 1024)
        return fail(err, STYX_ERR_INVALID, "%d threads; 0 (all) to 1024 were wanted", o->threads);
    if (o->device < 0)
        return fail(err, STYX_ERR_INVALID, "device %d; 0 or more was wanted", o->device);
    if ((unsigned)o->offload > STYX_OFFLOAD_STREAM)
        return fail(err, STYX_ERR_INVALID, "offload %d; NONE, MODEL or STREAM was wanted",
                    o->offload);
    return 0;
}

static int open_named(styx_session *s, const char *name, const struct device_options *d,
                      styx_error *err)
{
    s->backend = backend_find(name);
    if (!s->backend && strcmp(name, "cuda") == 0)
        return fail(err, STYX_ERR_NODEVICE,
                    "this Styx was built without CUDA; its backends are cpu and ref");
    if (!s->backend)
        return fail(err, STYX_ERR_INVALID, "backend '%s'; auto, cpu, ref or cuda was wanted", name);
    if (d->direct && s->backend != &backend_cpu)
        return fail(err, STYX_ERR_INVALID,
                    "the %s backend has no choice of convolutions: no_winograd belongs to cpu",
                    name);
    if (d->int8 && s->backend != &backend_cpu)
        return fail(err, STYX_ERR_INVALID,
                    "the %s backend multiplies no 8-bit integers: int8 belongs to cpu", name);
    return s->backend->open(d, &s->device, err);
}

/* What the environment names, else the card if there is one that works; who asks for one of its
 * options is told why there is none. */
static int open_best(styx_session *s, const struct styx_session_options *o,
                     const struct device_options *d, styx_error *err)
{
    const char *preferred = getenv("STYX_BACKEND");
    styx_error why;
    if (o->device || o->offload || o->max_vram || o->fp8)
        return open_named(s, "cuda", d, err);
    if (preferred && *preferred && strcmp(preferred, "auto") != 0)
        return open_named(s, preferred, d, err);
    if (!d->isa && !d->direct && !d->int8 && backend_find("cuda") &&
        open_named(s, "cuda", d, &why) == 0)
        return 0;
    return open_named(s, "cpu", d, err);
}

/* Options of a card, given together with another device. */
static int check_alone(const struct styx_session_options *o, styx_error *err)
{
    const char *name = o->backend;
    if (!name || strcmp(name, "auto") == 0 || strcmp(name, "cuda") == 0)
        return 0;
    if (o->device || o->offload || o->max_vram || o->fp8)
        return fail(err, STYX_ERR_INVALID,
                    "the %s backend has no card: device, offload, max_vram and fp8 belong to cuda",
                    name);
    return 0;
}

static int open_device(styx_session *s, const struct styx_session_options *o, styx_error *err)
{
    struct device_options d = { .threads = o->threads,
                                .index = o->device,
                                .isa = o->isa,
                                .offload = (enum offload)o->offload,
                                .direct = o->no_winograd != 0,
                                .int8 = o->int8 != 0,
                                .fp8 = o->fp8 != 0 };
    const char *hard = getenv("STYX_HARD");
    int code = check_device(o, err);
    if (!code)
        code = check_alone(o, err);
    if (code)
        return code;
    if (d.isa && strcmp(d.isa, "auto") == 0)
        d.isa = NULL;
    d.hard = hard && *hard && *hard != '0'; /* tests: NaN in whatever should not be read */
    if (!o->backend || strcmp(o->backend, "auto") == 0)
        code = open_best(s, o, &d, err);
    else
        code = open_named(s, o->backend, &d, err);
    if (code)
        return code;
    s->backend->describe(s->device, s->description, sizeof s->description);
    bool bf16 = s->backend->dtype[DT_BF16] &&
                (strstr(s->description, "bf16") || strstr(s->description, "cpu, amx"));
    s->fastest = s->backend->dtype[DT_F16] ? DT_F16 : bf16 ? DT_BF16 : DT_F32;
    return 0;
}

int styx_session_new(const struct styx_session_options *options, styx_session **session,
                     styx_error *err)
{
    struct styx_session_options o = STYX_SESSION_OPTIONS_INIT;
    if (options) {
        if (options->size > sizeof o)
            return fail(err, STYX_ERR_UNSUPPORTED,
                        "session options of %zu bytes; this library knows %zu", options->size,
                        sizeof o);
        memcpy(&o, options, options->size);
    }
    styx_session *s = calloc(1, sizeof *s);
    if (!s)
        return fail_nomem(err, sizeof *s);
    s->log = o.log;
    s->log_user = o.user;
    int code = open_device(s, &o, err);
    if (code) {
        free(s);
        return code;
    }
    /* What programs and weights take is on the card if there is one. */
    s->card = s->backend != &backend_cpu && s->backend != &backend_ref;
    s->fp8 = o.fp8;
    s->max_memory = s->card ? o.max_vram : o.max_memory;
    s->overhead = s->card ? 0 : host_overhead(512, 512); /* until a request tells the size */
    s->mapped = s->card ? 0 : HOST_MAPPED;
    s->offload = s->card ? o.offload : STYX_OFFLOAD_NONE;
    *session = s;
    return 0;
}

void styx_session_free(styx_session *s)
{
    if (!s)
        return;
    programs_free(s);
    s->backend->close(s->device);
    free(s);
}

uint64_t session_room(const styx_session *s)
{
    uint64_t rest = s->overhead + s->mapped;
    return !s->max_memory ? UINT64_MAX : s->max_memory > rest ? s->max_memory - rest : 0;
}

void styx_session_trim(styx_session *s)
{
    if (session_enter(s, NULL))
        return;
    programs_free(s);
    session_leave(s);
}

void styx_session_sweep(styx_session *s)
{
    if (session_enter(s, NULL))
        return;
    programs_sweep(s);
    session_leave(s);
}

void styx_cancel(styx_session *s)
{
    if (s)
        atomic_store(&s->cancel, 1);
}

int session_enter(styx_session *s, styx_error *err)
{
    int idle = 0;
    if (!atomic_compare_exchange_strong(&s->busy, &idle, 1))
        return fail(err, STYX_ERR_INVALID,
                    "the session is busy in another thread; one thread at a time may use it");
    atomic_store(&s->cancel, 0);
    s->requests++;
    return 0;
}

void session_leave(styx_session *s)
{
    atomic_store(&s->busy, 0);
}

int styx_session_info(const styx_session *s, char **json, styx_error *err)
{
    char isa[32] = "";
    int threads = 1;
    if (s->backend == &backend_cpu) /* "cpu, avx512bf16, 2 threads" */
        sscanf(s->description, "%*[^,], %31[^,], %d", isa, &threads);
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:i, s:b, s:I, s:I}", "backend", s->backend->name, "device",
                  s->description, "isa", isa, "threads", threads, "bf16", s->fastest == DT_BF16,
                  "held_bytes", (json_int_t)s->held, "max_memory", (json_int_t)s->max_memory);
    *json = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return *json ? 0 : fail_nomem(err, 256);
}

enum dtype resolve_dtype(const styx_session *s, enum styx_dtype wanted)
{
    static const enum dtype types[] = { DT_F32, DT_F32, DT_BF16, DT_F16 };
    return wanted == STYX_AUTO ? s->fastest : types[wanted];
}

enum styx_dtype public_dtype(enum dtype type)
{
    return type == DT_BF16 ? STYX_BF16 : type == DT_F16 ? STYX_F16 : STYX_F32;
}

int check_dtype(const styx_session *s, enum styx_dtype wanted, styx_error *err)
{
    if ((unsigned)wanted > STYX_F16)
        return fail(err, STYX_ERR_INVALID, "dtype %d; AUTO, F32, BF16 or F16 was wanted", wanted);
    if (!s->backend->dtype[resolve_dtype(s, wanted)])
        return fail(err, STYX_ERR_UNSUPPORTED, "the %s backend does not compute in %s",
                    s->backend->name, dtype_name(resolve_dtype(s, wanted)));
    return 0;
}

int check_unet_dtype(const styx_session *s, enum styx_dtype wanted, styx_error *err)
{
    int code = check_dtype(s, wanted, err);
    if (!code && s->fp8 && resolve_dtype(s, wanted) == DT_F32)
        return fail(err, STYX_ERR_INVALID, "dtype f32 and fp8; with fp8, f16 or bf16 was wanted");
    return code;
}
