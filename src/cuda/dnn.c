/* dnn.c - cuDNN: the library, what it proposes for a graph, and running it.
 *
 * For a graph the library proposes engine configurations, best first by its own estimate. Those
 * that round more than the type does, or not twice the same, are left out; the rest are the plans.
 * Building one chooses and loads kernels, which takes milliseconds, or seconds where they are
 * compiled; so that is left until it is wanted. */
#include "cuda/dnn_graph.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OLDEST = 90000, MAX_PROPOSALS = 64, MAX_NOTES = 32, MAX_KNOBS = 64 };

enum state { PROPOSED, READY, REFUSED };

struct dnn_plan {
    struct dnn_graph *graph;
    dnn_desc config, plan;
    enum state state;
    uint64_t identity; /* of the engine and its knobs */
    bool compiles;
    size_t limit; /* of the workspace */
};

/* ---- the library ---- */

void dnn_refused(struct dnn *dnn, cudnnStatus_t status, const char *doing)
{
    char why[320] = "";
    dnn->cudnnGetLastErrorString(why, sizeof why);
    why[sizeof why - 1] = 0;
    for (char *c = why; *c; c++)
        if (*c == '\n')
            *c = ' ';
    snprintf(dnn->error, sizeof dnn->error, "cuDNN: %s failed: %s%s%s", doing,
             dnn->cudnnGetErrorString(status), *why ? ": " : "", why);
}

const char *dnn_error(const struct dnn *dnn)
{
    return dnn->error;
}

static int resolve(struct dnn *dnn, void *library, styx_error *err)
{
#define X(function)                                                                                \
    dnn->function = (__typeof__(function) *)dlsym(library, #function);                             \
    if (!dnn->function)                                                                            \
        return fail(err, STYX_ERR_NODEVICE,                                                        \
                    "the cuDNN found has no " #function "; version 9.0 or later is wanted");
    CUDNN_FUNCTIONS(X)
#undef X
    size_t version = dnn->cudnnGetVersion();
    if (version >= OLDEST)
        return 0;
    return fail(err, STYX_ERR_NODEVICE,
                "the cuDNN found is version %zu; version 9.0 or later is wanted", version);
}

/* cuDNN compiles with NVRTC, which it opens by its bare name; so that it finds it wherever it lies,
 * it is opened here first. Without it cuDNN still has the engines that need no compilation. */
static void open_compiler(const struct dnn *dnn)
{
    char name[32];
    const char *const names[] = { name, NULL };
    snprintf(name, sizeof name, "libnvrtc.so.%zu", dnn->cudnnGetCudartVersion() / 1000);
    library_find(names, NULL);
}

static int connect(struct dnn *dnn, const struct gpu *g, styx_error *err)
{
    open_compiler(dnn);
    cudnnStatus_t status = dnn->cudnnCreate(&dnn->handle);
    if (status == CUDNN_STATUS_SUCCESS)
        status = dnn->cudnnSetStream(dnn->handle, g->stream);
    if (status == CUDNN_STATUS_SUCCESS)
        return 0;
    dnn_refused(dnn, status, "opening it");
    return fail(err, STYX_ERR_NODEVICE, "%s", dnn->error);
}

/* The library stays in the process: CUDA's runtime inside it must outlive every context. */
int dnn_open(const struct gpu *g, struct dnn **out, styx_error *err)
{
    static const char *const names[] = { "libcudnn.so.9", NULL };
    void *library = library_find(names, err);
    if (!library)
        return STYX_ERR_NODEVICE;
    struct dnn *dnn = calloc(1, sizeof *dnn);
    if (!dnn)
        return fail_nomem(err, sizeof *dnn);
    int status = resolve(dnn, library, err);
    if (!status)
        status = connect(dnn, g, err);
    if (status)
        dnn_close(dnn);
    else
        *out = dnn;
    return status;
}

void dnn_close(struct dnn *dnn)
{
    if (dnn && dnn->handle)
        dnn->cudnnDestroy(dnn->handle);
    free(dnn);
}

void dnn_version(const struct dnn *dnn, char text[32])
{
    size_t v = dnn->cudnnGetVersion();
    snprintf(text, 32, "%zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
}

int dnn_compiled(const struct dnn *dnn)
{
    return dnn->compiled;
}

/* ---- what the library proposes ---- */

static dnn_desc create(struct dnn *dnn, cudnnBackendDescriptorType_t type)
{
    dnn_desc d = NULL;
    return dnn->cudnnBackendCreateDescriptor(type, &d) == CUDNN_STATUS_SUCCESS ? d : NULL;
}

static void destroy(struct dnn *dnn, dnn_desc d)
{
    if (d)
        dnn->cudnnBackendDestroyDescriptor(d);
}

/* How many elements were read: 0 if the library does not tell. */
static int64_t get(struct dnn *dnn, dnn_desc d, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t max, void *value)
{
    int64_t n = 0;
    if (dnn->cudnnBackendGetAttribute(d, name, type, max, &n, value) != CUDNN_STATUS_SUCCESS)
        return 0;
    return max && n > max ? max : n;
}

/* Does the engine compute what was asked for, with no rounding but the type's own, and the same
 * every time? Tensor cores take f32 factors as TF32. */
static bool exact(struct dnn *dnn, dnn_desc engine, enum dtype type)
{
    cudnnBackendNumericalNote_t note[MAX_NOTES];
    int64_t n = get(dnn, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                    MAX_NOTES, note);
    for (int64_t i = 0; i < n; i++)
        switch (note[i]) {
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
            if (type == DT_F32)
                return false;
            break;
        case CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP:
            break;
        default: /* FFT, Winograd, lower precision, another sum every time, and what is not known */
            return false;
        }
    return true;
}

static bool compiles(struct dnn *dnn, dnn_desc engine)
{
    cudnnBackendBehaviorNote_t note[MAX_NOTES];
    int64_t n = get(dnn, engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                    MAX_NOTES, note);
    while (n-- > 0)
        if (note[n] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION)
            return true;
    return false;
}

static uint64_t mix(uint64_t h, int64_t value)
{
    h = (h ^ (uint64_t)value) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint64_t identity_of(struct dnn *dnn, dnn_desc config, dnn_desc engine)
{
    int64_t index = -1;
    get(dnn, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &index);
    uint64_t h = mix(0x6a09e667f3bcc908u, index);
    dnn_desc knob[MAX_KNOBS];
    for (int i = 0; i < MAX_KNOBS; i++)
        knob[i] = create(dnn, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    int64_t n = get(dnn, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                    MAX_KNOBS, knob);
    for (int64_t i = 0; i < n; i++) {
        cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;
        int64_t value = 0;
        get(dnn, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        get(dnn, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value);
        h = mix(mix(h, type), value);
    }
    for (int i = 0; i < MAX_KNOBS; i++)
        destroy(dnn, knob[i]);
    return h;
}

/* Does the configuration keep within the workspace, as far as the library tells beforehand? */
static bool fits(struct dnn *dnn, dnn_desc config, size_t limit)
{
    int64_t need = 0;
    get(dnn, config, CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &need);
    return need >= 0 && (uint64_t)need <= limit;
}

static struct dnn_plan *plan_new(struct dnn_graph *g, dnn_desc config, dnn_desc engine,
                                 size_t limit)
{
    struct dnn_plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return NULL;
    *plan = (struct dnn_plan){ .graph = g,
                               .config = config,
                               .identity = identity_of(g->dnn, config, engine),
                               .compiles = compiles(g->dnn, engine),
                               .limit = limit };
    g->users++;
    return plan;
}

/* Takes the configuration over. *out is NULL, with status 0, if it is not wanted. */
static int adopt(struct dnn_graph *g, dnn_desc config, enum dtype type, size_t limit,
                 struct dnn_plan **out, styx_error *err)
{
    struct dnn *dnn = g->dnn;
    dnn_desc engine = create(dnn, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    int64_t known = 0;
    int status = 0;
    *out = NULL;
    if (engine)
        known = get(dnn, config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                    &engine);
    if (known && exact(dnn, engine, type) && fits(dnn, config, limit)) {
        *out = plan_new(g, config, engine, limit);
        if (!*out)
            status = fail_nomem(err, sizeof **out);
    }
    if (!*out)
        destroy(dnn, config);
    destroy(dnn, engine);
    return status;
}

struct proposals {
    struct dnn_plan *plan[MAX_PROPOSALS];
    int count, ahead; /* of them: compiled beforehand */
};

static void keep(struct proposals *all, struct dnn_plan *plan)
{
    for (int i = 0; i < all->count; i++)
        if (all->plan[i]->identity == plan->identity) {
            dnn_plan_free(plan);
            return;
        }
    all->plan[all->count++] = plan;
    all->ahead += !plan->compiles;
}

static dnn_desc heuristics(struct dnn_graph *g, cudnnBackendHeurMode_t mode)
{
    struct dnn *dnn = g->dnn;
    dnn_desc h = create(dnn, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    if (!h)
        return NULL;
    cudnnStatus_t status = dnn->cudnnBackendSetAttribute(
        h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &g->graph);
    if (status == CUDNN_STATUS_SUCCESS)
        status = dnn->cudnnBackendSetAttribute(h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE,
                                               1, &mode);
    if (status == CUDNN_STATUS_SUCCESS)
        status = dnn->cudnnBackendFinalize(h);
    if (status == CUDNN_STATUS_SUCCESS)
        return h;
    dnn_refused(dnn, status, "asking for engines");
    destroy(dnn, h);
    return NULL;
}

static int propose(struct dnn_graph *g, cudnnBackendHeurMode_t mode, enum dtype type, size_t limit,
                   struct proposals *all, styx_error *err)
{
    struct dnn *dnn = g->dnn;
    dnn_desc config[MAX_PROPOSALS] = { NULL };
    dnn_desc h = heuristics(g, mode);
    if (!h)
        return 0;
    int64_t n = get(dnn, h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, NULL);
    int room = MAX_PROPOSALS - all->count, status = 0;
    n = n < room ? n : room;
    for (int64_t i = 0; i < n; i++)
        config[i] = create(dnn, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    int64_t got =
        n > 0 ? get(dnn, h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, config)
              : 0;
    for (int64_t i = 0; i < n; i++) {
        struct dnn_plan *plan = NULL;
        if (i >= got || status)
            destroy(dnn, config[i]);
        else
            status = adopt(g, config[i], type, limit, &plan, err);
        if (plan)
            keep(all, plan);
    }
    destroy(dnn, h);
    return status;
}

/* Does the library take the graph without compiling? Its word counts only when a plan is built. */
static bool accepted(struct dnn *dnn, const struct proposals *all)
{
    for (int i = 0; i < all->count; i++)
        if (!all->plan[i]->compiles && dnn_plan_ready(dnn, all->plan[i]))
            return true;
    return false;
}

int dnn_graph_plans(struct dnn_graph *g, enum dtype type, size_t workspace, int max,
                    struct dnn_plan **plan, int *count, styx_error *err)
{
    static const cudnnBackendHeurMode_t mode[3] = { CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                                    CUDNN_HEUR_MODE_FALLBACK };
    struct proposals all = { .count = 0 };
    int status = 0;
    for (int i = 0; i < 3 && !all.ahead && !status; i++)
        if (mode[i] != CUDNN_HEUR_MODE_FALLBACK || !all.count)
            status = propose(g, mode[i], type, workspace, &all, err);
    bool compile = !status && (!all.ahead || (g->nops > 1 && !accepted(g->dnn, &all)));
    for (int i = 0; i < all.count; i++)
        if (!status && *count < max && all.plan[i]->compiles == compile)
            plan[(*count)++] = all.plan[i];
        else
            dnn_plan_free(all.plan[i]);
    return status;
}

/* ---- plans ---- */

/* Builds the plan from its configuration, or, with a text, from what dnn_plan_save made of one. */
static cudnnStatus_t build(struct dnn *dnn, struct dnn_plan *p, const char *text)
{
    cudnnStatus_t status =
        dnn->cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &p->plan);
    if (status == CUDNN_STATUS_SUCCESS)
        status = dnn->cudnnBackendSetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE,
                                               CUDNN_TYPE_HANDLE, 1, &dnn->handle);
    if (status == CUDNN_STATUS_SUCCESS && text)
        status =
            dnn->cudnnBackendSetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                          CUDNN_TYPE_CHAR, (int64_t)strlen(text), text);
    else if (status == CUDNN_STATUS_SUCCESS)
        status = dnn->cudnnBackendSetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                               CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &p->config);
    if (status == CUDNN_STATUS_SUCCESS)
        status = dnn->cudnnBackendFinalize(p->plan);
    return status;
}

static bool make(struct dnn *dnn, struct dnn_plan *p, const char *text)
{
    cudnnStatus_t status = build(dnn, p, text);
    int64_t workspace = 0;
    if (status != CUDNN_STATUS_SUCCESS)
        dnn_refused(dnn, status, text ? "loading a plan" : "building a plan");
    else
        get(dnn, p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
            &workspace);
    if (status == CUDNN_STATUS_SUCCESS && workspace >= 0 && (uint64_t)workspace <= p->limit)
        return true;
    destroy(dnn, p->plan);
    p->plan = NULL;
    return false;
}

bool dnn_plan_ready(struct dnn *dnn, struct dnn_plan *p)
{
    if (p->state == PROPOSED) {
        p->state = make(dnn, p, NULL) ? READY : REFUSED;
        dnn->compiled += p->state == READY && p->compiles;
    }
    return p->state == READY;
}

char *dnn_plan_save(struct dnn *dnn, const struct dnn_plan *p)
{
    if (p->state != READY || !p->compiles)
        return NULL;
    int64_t n =
        get(dnn, p->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, NULL);
    char *text = n > 0 ? calloc((size_t)n + 1, 1) : NULL;
    if (text && get(dnn, p->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, n,
                    text) != n) {
        free(text);
        text = NULL;
    }
    return text;
}

bool dnn_plan_load(struct dnn *dnn, struct dnn_plan *p, const char *text)
{
    if (p->state == PROPOSED && make(dnn, p, text))
        p->state = READY;
    return p->state == READY;
}

void dnn_plan_free(struct dnn_plan *p)
{
    if (!p)
        return;
    destroy(p->graph->dnn, p->plan);
    destroy(p->graph->dnn, p->config);
    dnn_graph_drop(p->graph);
    free(p);
}

/* cuDNN reads the pack while it enqueues; nothing of it is needed afterwards. */
static cudnnStatus_t execute(struct dnn *dnn, const struct dnn_plan *p, dnn_desc pack, int n,
                             const int64_t *id, void *const *data, void *workspace)
{
    cudnnStatus_t status = dnn->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
                                                         CUDNN_TYPE_INT64, n, id);
    if (status == CUDNN_STATUS_SUCCESS)
        status = dnn->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                                               CUDNN_TYPE_VOID_PTR, n, data);
    if (status == CUDNN_STATUS_SUCCESS)
        status = dnn->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE,
                                               CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (status == CUDNN_STATUS_SUCCESS)
        status = dnn->cudnnBackendFinalize(pack);
    if (status == CUDNN_STATUS_SUCCESS)
        status = dnn->cudnnBackendExecute(dnn->handle, p->plan, pack);
    return status;
}

bool dnn_execute(struct dnn *dnn, const struct dnn_plan *p, const struct dnn_pointer *pointer,
                 int count, CUdeviceptr workspace)
{
    int64_t id[DNN_MAX_POINTERS + DNN_MAX_CONSTANTS];
    void *data[DNN_MAX_POINTERS + DNN_MAX_CONSTANTS];
    int n = 0;
    for (int i = 0; i < count; i++, n++) {
        id[n] = pointer[i].id;
        data[n] = (void *)pointer[i].data;
    }
    for (int i = 0; i < p->graph->nconstants; i++, n++) {
        id[n] = DNN_CONSTANT + i;
        data[n] = &p->graph->constant[i];
    }
    dnn_desc pack = create(dnn, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    dnn->error[0] = 0;
    cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    if (pack)
        status = execute(dnn, p, pack, n, id, data, (void *)workspace);
    if (status != CUDNN_STATUS_SUCCESS)
        dnn_refused(dnn, status, "running a plan");
    destroy(dnn, pack);
    return status == CUDNN_STATUS_SUCCESS;
}
