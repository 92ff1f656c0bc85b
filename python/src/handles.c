/* handles.c - components, models, sessions and generators. */
#include "core.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- capsules ---- */

#define CAPSULE_OF(type, free_it)                                                                  \
    static void free_##type(PyObject *capsule)                                                     \
    {                                                                                              \
        free_it(PyCapsule_GetPointer(capsule, "styx_" #type));                                     \
    }                                                                                              \
    styx_##type *type##_of(PyObject *capsule)                                                      \
    {                                                                                              \
        return PyCapsule_GetPointer(capsule, "styx_" #type);                                       \
    }                                                                                              \
    static PyObject *wrap_##type(styx_##type *pointer)                                             \
    {                                                                                              \
        PyObject *capsule = PyCapsule_New(pointer, "styx_" #type, free_##type);                    \
        if (!capsule)                                                                              \
            free_it(pointer);                                                                      \
        return capsule;                                                                            \
    }

CAPSULE_OF(component, styx_component_free)
CAPSULE_OF(model, styx_model_free)
CAPSULE_OF(generator, styx_generator_free)
CAPSULE_OF(scheduler, styx_scheduler_free)

PyObject *scheduler_capsule(styx_scheduler *scheduler)
{
    return wrap_scheduler(scheduler);
}

PyObject *text_out(char *text)
{
    PyObject *object = PyUnicode_FromString(text ? text : "");
    styx_text_free(text);
    return object;
}

/* Warnings, one after the other, each with its NUL. */
struct lines {
    char *text;
    size_t bytes;
};

static void lines_add(struct lines *l, const char *text)
{
    size_t more = strlen(text) + 1;
    char *longer = realloc(l->text, l->bytes + more);
    if (!longer) /* a warning that finds no memory is lost */
        return;
    memcpy(longer + l->bytes, text, more);
    l->text = longer;
    l->bytes += more;
}

/* As a list of texts; l is empty afterwards. */
static PyObject *lines_out(struct lines *l)
{
    PyObject *list = PyList_New(0);
    for (size_t at = 0; list && at < l->bytes; at += strlen(l->text + at) + 1) {
        PyObject *line =
            PyUnicode_DecodeUTF8(l->text + at, (Py_ssize_t)strlen(l->text + at), "replace");
        if (!line || PyList_Append(list, line) < 0)
            Py_CLEAR(list);
        Py_XDECREF(line);
    }
    free(l->text);
    *l = (struct lines){ 0 };
    return list;
}

/* ---- components ---- */

static PyObject *component_open(PyObject *module, PyObject *args)
{
    const char *folder, *name, *variant;
    styx_component *component;
    styx_error err;
    if (!PyArg_ParseTuple(args, "ssz", &folder, &name, &variant))
        return NULL;
    if (styx_component_open(folder, name, variant, &component, &err))
        return raise_error(module, &err);
    return wrap_component(component);
}

static PyObject *component_info(PyObject *module, PyObject *capsule)
{
    styx_component *component = component_of(capsule);
    char *json;
    styx_error err;
    if (!component)
        return NULL;
    if (styx_component_info(component, &json, &err))
        return raise_error(module, &err);
    return text_out(json);
}

/* ---- models ---- */

static PyObject *model_open(PyObject *module, PyObject *args)
{
    const char *path;
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    styx_model *model;
    styx_error err;
    if (!PyArg_ParseTuple(args, "szz", &path, &o.variant, &o.config))
        return NULL;
    if (styx_model_open(path, &o, &model, &err))
        return raise_error(module, &err);
    return wrap_model(model);
}

enum { SLOTS = 16 };

/* assemble(class_name, config, {name: component}) */
static PyObject *model_assemble(PyObject *module, PyObject *args)
{
    const char *class_name, *config, *names[SLOTS];
    styx_component *parts[SLOTS];
    PyObject *dict, *key, *value;
    Py_ssize_t at = 0;
    size_t n = 0;
    styx_model *model;
    styx_error err;
    if (!PyArg_ParseTuple(args, "zzO!", &class_name, &config, &PyDict_Type, &dict))
        return NULL;
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (n == SLOTS) {
            PyErr_SetString(PyExc_ValueError, "too many components");
            return NULL;
        }
        if (!(names[n] = PyUnicode_AsUTF8AndSize(key, NULL)) || !(parts[n] = component_of(value)))
            return NULL;
        n++;
    }
    if (styx_model_assemble(class_name, config, names, parts, n, &model, &err))
        return raise_error(module, &err);
    return wrap_model(model);
}

static void keep_warning(void *user, const char *text)
{
    lines_add(user, text);
}

/* [(path, scale)...] and [(path, word)...] for as long as the lists live. */
static int extras_in(struct hold *h, PyObject *loras, PyObject *words, struct styx_model_options *o)
{
    o->lora_count = (size_t)PyList_Size(loras);
    o->embedding_count = (size_t)PyList_Size(words);
    struct styx_lora *lora = hold_alloc(h, o->lora_count * sizeof *lora);
    struct styx_embedding *embedding = hold_alloc(h, o->embedding_count * sizeof *embedding);
    if (!lora || !embedding)
        return -1;
    for (size_t i = 0; i < o->lora_count; i++)
        if (!PyArg_ParseTuple(PyList_GetItem(loras, (Py_ssize_t)i), "sd", &lora[i].path,
                              &lora[i].scale))
            return -1;
    for (size_t i = 0; i < o->embedding_count; i++)
        if (!PyArg_ParseTuple(PyList_GetItem(words, (Py_ssize_t)i), "sz", &embedding[i].path,
                              &embedding[i].word))
            return -1;
    o->loras = lora;
    o->embeddings = embedding;
    return 0;
}

/* Names of the components that are others in b than in a. */
static PyObject *changed_parts(const styx_model *a, const styx_model *b)
{
    static const char *const names[] = { "unet", "text_encoder", "text_encoder_2", "tokenizer",
                                         "tokenizer_2" };
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < sizeof names / sizeof *names; i++) {
        styx_component *x = NULL, *y = NULL;
        styx_model_component(a, names[i], &x, NULL);
        styx_model_component(b, names[i], &y, NULL);
        PyObject *name = x == y ? NULL : PyUnicode_FromString(names[i]);
        if (x != y && (!name || PyList_Append(list, name) < 0))
            Py_CLEAR(list);
        Py_XDECREF(name);
        styx_component_free(x);
        styx_component_free(y);
    }
    return list;
}

/* adapt(model, [(path, scale)], [(path, word)]) -> (model, warnings, names of changed parts) */
static PyObject *model_adapt(PyObject *module, PyObject *args)
{
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    PyObject *capsule, *loras, *words;
    struct hold h = { 0 };
    struct lines lines = { 0 };
    styx_model *model, *adapted;
    styx_error err;
    if (!PyArg_ParseTuple(args, "OO!O!", &capsule, &PyList_Type, &loras, &PyList_Type, &words) ||
        !(model = model_of(capsule)))
        return NULL;
    if (extras_in(&h, loras, words, &o) < 0) {
        hold_release(&h);
        return NULL;
    }
    o.warn = keep_warning;
    o.user = &lines;
    PyThreadState *thread = PyEval_SaveThread();
    int code = styx_model_adapt(model, &o, &adapted, &err);
    PyEval_RestoreThread(thread);
    hold_release(&h);
    PyObject *warnings = lines_out(&lines);
    if (code) {
        Py_XDECREF(warnings);
        return raise_error(module, &err);
    }
    PyObject *changed = changed_parts(model, adapted);
    return Py_BuildValue("NNN", wrap_model(adapted), warnings, changed);
}

static PyObject *model_component(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    const char *name;
    styx_model *model;
    styx_component *component = NULL;
    styx_error err;
    if (!PyArg_ParseTuple(args, "Os", &capsule, &name) || !(model = model_of(capsule)))
        return NULL;
    if (styx_model_component(model, name, &component, &err))
        return raise_error(module, &err);
    if (!component)
        Py_RETURN_NONE;
    return wrap_component(component);
}

static PyObject *model_info(PyObject *module, PyObject *capsule)
{
    styx_model *model = model_of(capsule);
    char *json;
    styx_error err;
    if (!model)
        return NULL;
    if (styx_model_info(model, &json, &err))
        return raise_error(module, &err);
    return text_out(json);
}

static PyObject *model_scheduler(PyObject *module, PyObject *capsule)
{
    styx_model *model = model_of(capsule);
    styx_scheduler *scheduler;
    styx_error err;
    if (!model)
        return NULL;
    if (styx_model_scheduler(model, &scheduler, &err))
        return raise_error(module, &err);
    return wrap_scheduler(scheduler);
}

/* ---- sessions ---- */

/* A session and its warnings since somebody asked: the engine warns from its own thread. */
struct session_box {
    styx_session *session;
    pthread_mutex_t mutex;
    struct lines lines;
};

static void keep_line(void *user, enum styx_log_level level, const char *text)
{
    struct session_box *box = user;
    if (level != STYX_LOG_WARNING)
        return;
    pthread_mutex_lock(&box->mutex);
    lines_add(&box->lines, text);
    pthread_mutex_unlock(&box->mutex);
}

static void free_box(struct session_box *box)
{
    if (!box)
        return;
    styx_session_free(box->session);
    pthread_mutex_destroy(&box->mutex);
    free(box->lines.text);
    free(box);
}

static void free_session(PyObject *capsule)
{
    free_box(PyCapsule_GetPointer(capsule, "styx_session"));
}

static struct session_box *box_of(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, "styx_session");
}

styx_session *session_of(PyObject *capsule)
{
    struct session_box *box = box_of(capsule);
    return box ? box->session : NULL;
}

static PyObject *session_new(PyObject *module, PyObject *args)
{
    struct styx_session_options o = STYX_SESSION_OPTIONS_INIT;
    unsigned long long memory, vram;
    int offload;
    styx_error err;
    if (!PyArg_ParseTuple(args, "zizKiiKppp", &o.backend, &o.threads, &o.isa, &memory, &o.device,
                          &offload, &vram, &o.no_winograd, &o.int8, &o.fp8))
        return NULL;
    struct session_box *box = calloc(1, sizeof *box);
    if (!box)
        return PyErr_NoMemory();
    pthread_mutex_init(&box->mutex, NULL);
    o.max_memory = memory;
    o.offload = (enum styx_offload)offload;
    o.max_vram = vram;
    o.log = keep_line;
    o.user = box;
    if (styx_session_new(&o, &box->session, &err)) {
        free_box(box);
        return raise_error(module, &err);
    }
    PyObject *capsule = PyCapsule_New(box, "styx_session", free_session);
    if (!capsule)
        free_box(box);
    return capsule;
}

static PyObject *devices(PyObject *module, PyObject *nothing)
{
    char *json;
    styx_error err;
    (void)nothing;
    if (styx_devices(&json, &err))
        return raise_error(module, &err);
    return text_out(json);
}

static PyObject *session_trim(PyObject *module, PyObject *capsule)
{
    styx_session *session = session_of(capsule);
    (void)module;
    if (!session)
        return NULL;
    styx_session_trim(session);
    Py_RETURN_NONE;
}

static PyObject *session_sweep(PyObject *module, PyObject *capsule)
{
    styx_session *session = session_of(capsule);
    (void)module;
    if (!session)
        return NULL;
    styx_session_sweep(session);
    Py_RETURN_NONE;
}

static PyObject *session_cancel(PyObject *module, PyObject *capsule)
{
    styx_session *session = session_of(capsule);
    (void)module;
    if (!session)
        return NULL;
    styx_cancel(session);
    Py_RETURN_NONE;
}

static PyObject *session_info(PyObject *module, PyObject *capsule)
{
    styx_session *session = session_of(capsule);
    char *json;
    styx_error err;
    if (!session)
        return NULL;
    if (styx_session_info(session, &json, &err))
        return raise_error(module, &err);
    return text_out(json);
}

/* The warnings since the last call, as a list of texts. */
static PyObject *session_warnings(PyObject *module, PyObject *capsule)
{
    struct session_box *box = box_of(capsule);
    (void)module;
    if (!box)
        return NULL;
    pthread_mutex_lock(&box->mutex);
    PyObject *list = lines_out(&box->lines);
    pthread_mutex_unlock(&box->mutex);
    return list;
}

/* ---- generators ---- */

static PyObject *generator_new(PyObject *module, PyObject *args)
{
    int kind;
    unsigned long long seed;
    styx_generator *generator;
    styx_error err;
    if (!PyArg_ParseTuple(args, "iK", &kind, &seed))
        return NULL;
    if (styx_generator_new((enum styx_generator_kind)kind, seed, &generator, &err))
        return raise_error(module, &err);
    return wrap_generator(generator);
}

static PyObject *generator_seed(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    unsigned long long seed;
    styx_generator *generator;
    (void)module;
    if (!PyArg_ParseTuple(args, "OK", &capsule, &seed) || !(generator = generator_of(capsule)))
        return NULL;
    styx_generator_seed(generator, seed);
    Py_RETURN_NONE;
}

static PyObject *generator_initial_seed(PyObject *module, PyObject *capsule)
{
    styx_generator *generator = generator_of(capsule);
    (void)module;
    if (!generator)
        return NULL;
    return PyLong_FromUnsignedLongLong(styx_generator_initial_seed(generator));
}

/* generator_normal(generator, dtype, buffer): fills a writable float32 buffer. */
static PyObject *generator_normal(PyObject *module, PyObject *args)
{
    PyObject *capsule, *buffer;
    struct hold h = { 0 };
    struct styx_tensor x;
    int dtype;
    size_t n = 1;
    styx_error err;
    styx_generator *generator;
    if (!PyArg_ParseTuple(args, "OiO", &capsule, &dtype, &buffer) ||
        !(generator = generator_of(capsule)))
        return NULL;
    if (tensor_in(&h, buffer, "the buffer", &x) < 0) {
        hold_release(&h);
        return NULL;
    }
    for (int i = 0; i < x.dims; i++)
        n *= (size_t)x.shape[i];
    int code = styx_generator_normal(generator, (enum styx_dtype)dtype, x.data, n, &err);
    hold_release(&h);
    if (code)
        return raise_error(module, &err);
    Py_RETURN_NONE;
}

PyMethodDef handle_methods[] = {
    { "component_open", component_open, METH_VARARGS, "folder, name, variant -> component" },
    { "component_info", component_info, METH_O, "component -> JSON text" },
    { "model_open", model_open, METH_VARARGS, "path, variant, config -> model" },
    { "model_assemble", model_assemble, METH_VARARGS, "class, config, {name: component} -> model" },
    { "model_adapt", model_adapt, METH_VARARGS,
      "model, [(path, scale)], [(path, word)] -> (model, warnings, changed)" },
    { "model_component", model_component, METH_VARARGS, "model, name -> component or None" },
    { "model_scheduler", model_scheduler, METH_O, "model -> scheduler" },
    { "model_info", model_info, METH_O, "model -> JSON text" },
    { "session_new", session_new, METH_VARARGS,
      "backend, threads, isa, max_memory, device, offload, max_vram, no_winograd, int8, "
      "fp8 -> session" },
    { "devices", devices, METH_NOARGS, "-> JSON text" },
    { "session_trim", session_trim, METH_O, "drops loaded weights and programs" },
    { "session_sweep", session_sweep, METH_O, "drops the weights of components that are gone" },
    { "session_cancel", session_cancel, METH_O, "stops what is running" },
    { "session_info", session_info, METH_O, "session -> JSON text" },
    { "session_warnings", session_warnings, METH_O, "session -> texts since the last call" },
    { "generator_new", generator_new, METH_VARARGS, "kind (0 cpu, 1 cuda), seed -> generator" },
    { "generator_seed", generator_seed, METH_VARARGS, "generator, seed" },
    { "generator_initial_seed", generator_initial_seed, METH_O, "generator -> seed" },
    { "generator_normal", generator_normal, METH_VARARGS, "generator, dtype, writable buffer" },
    { NULL, NULL, 0, NULL },
};
