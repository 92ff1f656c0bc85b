/* schedulers.c - schedulers by themselves. */
#include "core.h"

#include <string.h>

static PyObject *scheduler_new(PyObject *module, PyObject *args)
{
    const char *name, *config, *overrides;
    styx_scheduler *scheduler;
    styx_error err;
    if (!PyArg_ParseTuple(args, "zzz", &name, &config, &overrides))
        return NULL;
    if (styx_scheduler_new(name, config, overrides, &scheduler, &err))
        return raise_error(module, &err);
    return scheduler_capsule(scheduler);
}

static PyObject *scheduler_config(PyObject *module, PyObject *capsule)
{
    styx_scheduler *scheduler = scheduler_of(capsule);
    char *json;
    styx_error err;
    if (!scheduler)
        return NULL;
    if (styx_scheduler_config(scheduler, &json, &err))
        return raise_error(module, &err);
    return text_out(json);
}

static PyObject *scheduler_classes(PyObject *module, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    (void)module, (void)unused;
    for (size_t i = 0; list && styx_scheduler_class(i); i++) {
        PyObject *name = PyUnicode_FromString(styx_scheduler_class(i));
        if (!name || PyList_Append(list, name) < 0)
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

/* A sequence of numbers as doubles; None is none. */
static int doubles(struct hold *h, PyObject *object, const double **to, size_t *count)
{
    Py_ssize_t n = object == Py_None ? 0 : PySequence_Size(object);
    if (n < 0)
        return -1;
    double *x = hold_alloc(h, (size_t)n * sizeof *x);
    if (!x)
        return -1;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PySequence_GetItem(object, i);
        x[i] = item ? PyFloat_AsDouble(item) : 0;
        Py_XDECREF(item);
        if (PyErr_Occurred())
            return -1;
    }
    *to = x;
    *count = (size_t)n;
    return 0;
}

/* scheduler, steps, timesteps or None, sigmas or None */
static PyObject *set_timesteps(PyObject *module, PyObject *args)
{
    PyObject *capsule, *t, *s;
    int steps, code = -1;
    const double *timesteps = NULL, *sigmas = NULL;
    size_t nt = 0, ns = 0;
    struct hold h = { 0 };
    styx_error err;
    styx_scheduler *scheduler;
    if (!PyArg_ParseTuple(args, "OiOO", &capsule, &steps, &t, &s) ||
        !(scheduler = scheduler_of(capsule)))
        return NULL;
    if (doubles(&h, t, &timesteps, &nt) == 0 && doubles(&h, s, &sigmas, &ns) == 0) {
        code = styx_scheduler_set_timesteps(scheduler, steps, nt ? timesteps : NULL, nt,
                                            ns ? sigmas : NULL, ns, &err);
        if (code)
            raise_error(module, &err);
    }
    hold_release(&h);
    if (code)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *floats_out(const float *x, size_t n)
{
    int count = (int)n;
    if (!x || !n)
        Py_RETURN_NONE;
    return memory_out("f", sizeof *x, x, 1, &count);
}

static PyObject *timesteps_of(PyObject *module, PyObject *capsule)
{
    styx_scheduler *scheduler = scheduler_of(capsule);
    size_t n = 0;
    (void)module;
    if (!scheduler)
        return NULL;
    const float *t = styx_scheduler_timesteps(scheduler, &n);
    return floats_out(t, n);
}

static PyObject *sigmas_of(PyObject *module, PyObject *capsule)
{
    styx_scheduler *scheduler = scheduler_of(capsule);
    size_t n = 0;
    (void)module;
    if (!scheduler)
        return NULL;
    const float *s = styx_scheduler_sigmas(scheduler, &n);
    return floats_out(s, n);
}

/* (init_noise_sigma, order) */
static PyObject *traits(PyObject *module, PyObject *capsule)
{
    styx_scheduler *scheduler = scheduler_of(capsule);
    (void)module;
    if (!scheduler)
        return NULL;
    return Py_BuildValue("di", styx_scheduler_init_noise_sigma(scheduler),
                         styx_scheduler_order(scheduler));
}

static PyObject *set_begin_index(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    int index;
    styx_scheduler *scheduler;
    (void)module;
    if (!PyArg_ParseTuple(args, "Oi", &capsule, &index) || !(scheduler = scheduler_of(capsule)))
        return NULL;
    styx_scheduler_set_begin_index(scheduler, index);
    Py_RETURN_NONE;
}

static size_t numbers(const struct styx_tensor *x)
{
    size_t n = 1;
    for (int i = 0; i < x->dims; i++)
        n *= (size_t)x->shape[i];
    return n;
}

/* scheduler, sample (written in place), timestep */
static PyObject *scale_model_input(PyObject *module, PyObject *args)
{
    PyObject *capsule, *buffer;
    float timestep;
    struct hold h = { 0 };
    struct styx_tensor x;
    int code = -1;
    styx_error err;
    styx_scheduler *scheduler;
    if (!PyArg_ParseTuple(args, "OOf", &capsule, &buffer, &timestep) ||
        !(scheduler = scheduler_of(capsule)))
        return NULL;
    if (tensor_in(&h, buffer, "sample", &x) == 0) {
        code = styx_scheduler_scale_model_input(scheduler, x.data, numbers(&x), timestep, &err);
        if (code)
            raise_error(module, &err);
    }
    hold_release(&h);
    if (code)
        return NULL;
    Py_RETURN_NONE;
}

static int same_size(const struct styx_tensor *a, const struct styx_tensor *b, const char *names)
{
    if (numbers(a) == numbers(b))
        return 0;
    PyErr_Format(PyExc_ValueError, "%s have %zu and %zu numbers; the same was wanted", names,
                 numbers(a), numbers(b));
    return -1;
}

/* scheduler, model_output, timestep, sample (in place), generator or None, noise dtype,
 * pred_original (written) or None, eta, use_clipped, s_churn, s_tmin, s_tmax, s_noise */
static PyObject *step(PyObject *module, PyObject *args)
{
    PyObject *capsule, *output, *sample, *generator, *original;
    struct styx_step_options o = { .size = sizeof o };
    struct hold h = { 0 };
    struct styx_tensor out, x, x0;
    float timestep;
    int dtype, code = -1;
    styx_error err;
    styx_scheduler *scheduler;
    if (!PyArg_ParseTuple(args, "OOfOOiOdidddd", &capsule, &output, &timestep, &sample, &generator,
                          &dtype, &original, &o.eta, &o.use_clipped_model_output, &o.s_churn,
                          &o.s_tmin, &o.s_tmax, &o.s_noise) ||
        !(scheduler = scheduler_of(capsule)))
        return NULL;
    o.noise_dtype = (enum styx_dtype)dtype;
    if (generator != Py_None && !(o.generator = generator_of(generator)))
        return NULL;
    if (tensor_in(&h, output, "model_output", &out) < 0 ||
        tensor_in(&h, sample, "sample", &x) < 0 ||
        same_size(&out, &x, "model_output and sample") < 0)
        goto done;
    if (original != Py_None) {
        if (tensor_in(&h, original, "pred_original", &x0) < 0 ||
            same_size(&x0, &x, "pred_original and sample") < 0)
            goto done;
        o.pred_original = x0.data;
    }
    size_t rows = x.dims > 1 ? (size_t)x.shape[0] : 1;
    code = styx_scheduler_step(scheduler, out.data, timestep, x.data, rows, numbers(&x) / rows, &o,
                               &err);
    if (code)
        raise_error(module, &err);
done:
    hold_release(&h);
    if (code)
        return NULL;
    Py_RETURN_NONE;
}

/* scheduler, sample (in place), noise, timesteps (one a row) */
static PyObject *add_noise(PyObject *module, PyObject *args)
{
    PyObject *capsule, *sample, *noise, *timesteps;
    struct hold h = { 0 };
    struct styx_tensor x, eps, t;
    int code = -1;
    styx_error err;
    styx_scheduler *scheduler;
    if (!PyArg_ParseTuple(args, "OOOO", &capsule, &sample, &noise, &timesteps) ||
        !(scheduler = scheduler_of(capsule)))
        return NULL;
    if (tensor_in(&h, sample, "original_samples", &x) < 0 ||
        tensor_in(&h, noise, "noise", &eps) < 0 || tensor_in(&h, timesteps, "timesteps", &t) < 0 ||
        same_size(&x, &eps, "original_samples and noise") < 0)
        goto done;
    size_t rows = numbers(&t);
    if (numbers(&x) % rows || (rows > 1 && rows != (size_t)x.shape[0])) {
        PyErr_Format(PyExc_ValueError, "%zu timesteps for %d samples; one for each was wanted",
                     rows, x.shape[0]);
        goto done;
    }
    code = styx_scheduler_add_noise(scheduler, x.data, eps.data, t.data, rows, numbers(&x) / rows,
                                    &err);
    if (code)
        raise_error(module, &err);
done:
    hold_release(&h);
    if (code)
        return NULL;
    Py_RETURN_NONE;
}

PyMethodDef scheduler_methods[] = {
    { "scheduler_new", scheduler_new, METH_VARARGS, "class or None, config, overrides" },
    { "scheduler_config", scheduler_config, METH_O, "scheduler -> JSON text" },
    { "scheduler_classes", scheduler_classes, METH_NOARGS, "-> names" },
    { "scheduler_set_timesteps", set_timesteps, METH_VARARGS, "steps, timesteps, sigmas" },
    { "scheduler_timesteps", timesteps_of, METH_O, "scheduler -> float32 array or None" },
    { "scheduler_sigmas", sigmas_of, METH_O, "scheduler -> float32 array or None" },
    { "scheduler_traits", traits, METH_O, "scheduler -> (init_noise_sigma, order)" },
    { "scheduler_set_begin_index", set_begin_index, METH_VARARGS, "scheduler, index" },
    { "scheduler_scale_model_input", scale_model_input, METH_VARARGS, "in place" },
    { "scheduler_step", step, METH_VARARGS, "in place" },
    { "scheduler_add_noise", add_noise, METH_VARARGS, "in place" },
    { NULL, NULL, 0, NULL },
};
