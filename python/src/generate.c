/* generate.c - a request is run: callbacks on the way, a dict at the end. */
#include "core.h"

#include <string.h>

struct generation {
    struct work work;
    const styx_model *model;
    struct styx_request request;
    struct styx_result result;
    struct styx_tensor embeds[4];
    PyObject *progress, *step, *trace; /* callables, or NULL */
};

/* ---- callbacks: on the engine's thread ... ---- */

struct event {
    struct generation *g;
    const struct styx_progress *progress;
    struct styx_step *step;
    const char *name;
    const struct styx_tensor *value;
};

static int tell_progress(void *payload)
{
    const struct event *e = payload;
    const struct styx_progress *p = e->progress;
    PyObject *preview = p->preview ? image_out(p->preview) : Py_NewRef(Py_None);
    PyObject *answer = preview ? PyObject_CallFunction(e->g->progress, "siidO", p->stage, p->done,
                                                       p->total, p->seconds, preview)
                               : NULL;
    Py_XDECREF(preview);
    Py_XDECREF(answer);
    return answer ? 0 : -1;
}

static int tell_step(void *payload)
{
    const struct event *e = payload;
    PyObject *capsule = PyCapsule_New(e->step, "styx_step", NULL);
    PyObject *answer = capsule ? PyObject_CallFunction(e->g->step, "Oiif", capsule, e->step->index,
                                                       e->step->count, e->step->timestep)
                               : NULL;
    if (capsule) /* who kept it finds it closed */
        PyCapsule_SetName(capsule, "styx_step_over");
    Py_XDECREF(capsule);
    Py_XDECREF(answer);
    return answer ? 0 : -1;
}

static int tell_trace(void *payload)
{
    const struct event *e = payload;
    PyObject *value = tensor_out(e->value);
    PyObject *answer = value ? PyObject_CallFunction(e->g->trace, "sO", e->name, value) : NULL;
    Py_XDECREF(value);
    Py_XDECREF(answer);
    return answer ? 0 : -1;
}

static int on_progress(void *user, const struct styx_progress *progress)
{
    struct event e = { .g = user, .progress = progress };
    return work_call(&e.g->work, tell_progress, &e);
}

static int on_step(void *user, struct styx_step *step)
{
    struct event e = { .g = user, .step = step };
    return work_call(&e.g->work, tell_step, &e);
}

static void on_trace(void *user, const char *name, const struct styx_tensor *value)
{
    struct event e = { .g = user, .name = name, .value = value };
    work_call(&e.g->work, tell_trace, &e);
}

/* ---- ... and what they may do with a step ---- */

static struct styx_step *step_of(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, "styx_step");
}

static struct styx_tensor *step_array(struct styx_step *step, const char *name)
{
    struct styx_tensor *x = strcmp(name, "latents") == 0         ? step->latents
                            : strcmp(name, "prompt_embeds") == 0 ? step->prompt_embeds
                            : strcmp(name, "pooled_embeds") == 0 ? step->pooled_embeds
                            : strcmp(name, "time_ids") == 0      ? step->time_ids
                                                                 : NULL;
    if (!x)
        PyErr_Format(PyExc_KeyError, "a step of this pipeline has no '%s'", name);
    return x;
}

static PyObject *step_get(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    const char *name;
    struct styx_step *step;
    struct styx_tensor *x;
    (void)module;
    if (!PyArg_ParseTuple(args, "Os", &capsule, &name) || !(step = step_of(capsule)) ||
        !(x = step_array(step, name)))
        return NULL;
    return tensor_out(x);
}

static int same_shape(const struct styx_tensor *a, const struct styx_tensor *b)
{
    int same = a->dims == b->dims;
    for (int i = 0; same && i < a->dims; i++)
        same = a->shape[i] == b->shape[i];
    return same;
}

static PyObject *step_set(PyObject *module, PyObject *args)
{
    PyObject *capsule, *buffer;
    const char *name;
    struct styx_step *step;
    struct styx_tensor *to, from;
    struct hold h = { 0 };
    (void)module;
    if (!PyArg_ParseTuple(args, "OsO", &capsule, &name, &buffer) || !(step = step_of(capsule)) ||
        !(to = step_array(step, name)))
        return NULL;
    if (tensor_in(&h, buffer, name, &from) == 0) {
        if (same_shape(to, &from)) {
            size_t n = 1;
            for (int i = 0; i < to->dims; i++)
                n *= (size_t)to->shape[i];
            memcpy(to->data, from.data, n * sizeof *to->data);
            step->changed_embeds |= to != step->latents;
        } else {
            PyErr_Format(PyExc_ValueError, "%s has another shape than the pipeline's own", name);
        }
    }
    hold_release(&h);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *step_interrupt(PyObject *module, PyObject *capsule)
{
    struct styx_step *step = step_of(capsule);
    (void)module;
    if (!step)
        return NULL;
    step->interrupt = 1;
    Py_RETURN_NONE;
}

static PyObject *step_guidance(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    double scale, rescale;
    struct styx_step *step;
    (void)module;
    if (!PyArg_ParseTuple(args, "Odd", &capsule, &scale, &rescale) || !(step = step_of(capsule)))
        return NULL;
    *step->guidance_scale = scale;
    *step->guidance_rescale = rescale;
    Py_RETURN_NONE;
}

/* ---- the run ---- */

static int run_generate(void *args, styx_error *err)
{
    struct generation *g = args;
    return styx_generate(g->work.session, g->model, &g->request, &g->result, err);
}

static int add(PyObject *dict, const char *key, PyObject *value)
{
    int rc = value ? PyDict_SetItemString(dict, key, value) : -1;
    Py_XDECREF(value);
    return rc;
}

static PyObject *images_out(const struct styx_result *r)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && r->images && i < r->count; i++) {
        PyObject *image = image_out(&r->images[i]);
        if (!image || PyList_Append(list, image) < 0)
            Py_CLEAR(list);
        Py_XDECREF(image);
    }
    return list;
}

static PyObject *flags_out(const struct styx_result *r)
{
    if (!r->nsfw)
        Py_RETURN_NONE;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < r->count; i++)
        if (PyList_Append(list, r->nsfw[i] ? Py_True : Py_False) < 0)
            Py_CLEAR(list);
    return list;
}

static PyObject *seeds_out(const struct styx_result *r)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && r->seeds && i < r->count; i++) {
        PyObject *seed = PyLong_FromUnsignedLongLong(r->seeds[i]);
        if (!seed || PyList_Append(list, seed) < 0)
            Py_CLEAR(list);
        Py_XDECREF(seed);
    }
    return list;
}

static PyObject *seconds_out(const struct styx_result *r)
{
    return Py_BuildValue("{s:d,s:d,s:d,s:d,s:d}", "load", r->seconds[0], "encode", r->seconds[1],
                         "denoise", r->seconds[2], "decode", r->seconds[3], "safety",
                         r->seconds[4]);
}

static PyObject *result_out(const struct styx_result *r)
{
    PyObject *dict = PyDict_New();
    if (!dict || add(dict, "images", images_out(r)) < 0 ||
        add(dict, "latents", tensor_out(&r->latents)) < 0 ||
        (r->pixels.data && add(dict, "pixels", tensor_out(&r->pixels)) < 0) ||
        add(dict, "nsfw", flags_out(r)) < 0 || add(dict, "seeds", seeds_out(r)) < 0 ||
        add(dict, "steps", PyLong_FromLong(r->steps)) < 0 ||
        add(dict, "seconds", seconds_out(r)) < 0 ||
        add(dict, "dtype", PyLong_FromLong(r->dtype)) < 0 ||
        add(dict, "vae_dtype", PyLong_FromLong(r->vae_dtype)) < 0)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *callable(PyObject *object)
{
    return object == Py_None ? NULL : object;
}

/* generate(session, model, request, progress, step, trace) -> dict */
static PyObject *generate(PyObject *module, PyObject *args)
{
    PyObject *session, *model, *dict, *progress, *step, *trace, *out = NULL;
    struct generation g = { .result = STYX_RESULT_INIT };
    struct hold h = { 0 };
    if (!PyArg_ParseTuple(args, "OOO!OOO", &session, &model, &PyDict_Type, &dict, &progress, &step,
                          &trace))
        return NULL;
    g.work = (struct work){ .run = run_generate, .args = &g, .session = session_of(session) };
    g.model = model_of(model);
    g.progress = callable(progress);
    g.step = callable(step);
    g.trace = callable(trace);
    if (g.work.session && g.model && request_in(&h, dict, &g.request) == 0) {
        g.request.progress = g.progress ? on_progress : NULL;
        g.request.step = g.step ? on_step : NULL;
        g.request.trace = g.trace ? on_trace : NULL;
        g.request.user = &g;
        if (work_do(module, &g.work) == 0)
            out = result_out(&g.result);
    }
    styx_result_free(&g.result);
    hold_release(&h);
    return out;
}

static int run_encode(void *args, styx_error *err)
{
    struct generation *g = args;
    return styx_encode_prompt(g->work.session, g->model, &g->request, &g->embeds[0], &g->embeds[1],
                              &g->embeds[2], &g->embeds[3], err);
}

static PyObject *optional_out(const struct styx_tensor *x)
{
    if (!x->data || x->shape[x->dims - 1] < 1)
        return Py_NewRef(Py_None);
    return tensor_out(x);
}

/* encode_prompt(session, model, request) -> (embeds, negative, pooled, negative pooled) */
static PyObject *encode_prompt(PyObject *module, PyObject *args)
{
    PyObject *session, *model, *dict, *out = NULL;
    struct generation g = { .result = STYX_RESULT_INIT };
    struct hold h = { 0 };
    if (!PyArg_ParseTuple(args, "OOO!", &session, &model, &PyDict_Type, &dict))
        return NULL;
    g.work = (struct work){ .run = run_encode, .args = &g, .session = session_of(session) };
    g.model = model_of(model);
    if (g.work.session && g.model && request_in(&h, dict, &g.request) == 0 &&
        work_do(module, &g.work) == 0) {
        out = PyTuple_New(4);
        for (int i = 0; out && i < 4; i++) {
            PyObject *x = optional_out(&g.embeds[i]);
            if (!x || PyTuple_SetItem(out, i, x) < 0)
                Py_CLEAR(out);
        }
    }
    for (int i = 0; i < 4; i++)
        styx_tensor_free(&g.embeds[i]);
    hold_release(&h);
    return out;
}

PyMethodDef request_methods[] = {
    { "generate", generate, METH_VARARGS, "session, model, request, progress, step, trace" },
    { "encode_prompt", encode_prompt, METH_VARARGS, "session, model, request -> four arrays" },
    { "step_get", step_get, METH_VARARGS, "step, name -> array" },
    { "step_set", step_set, METH_VARARGS, "step, name, array" },
    { "step_interrupt", step_interrupt, METH_O, "skips the steps that remain" },
    { "step_guidance", step_guidance, METH_VARARGS,
      "step, scale and rescaling for the steps to come" },
    { NULL, NULL, 0, NULL },
};
