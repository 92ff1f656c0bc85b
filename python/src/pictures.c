/* pictures.c - picture files, for those who have no Pillow, and Styx's own extras. */
#include "core.h"

#include <stdbool.h>

static PyObject *image_load(PyObject *module, PyObject *args)
{
    const char *path;
    struct styx_image image, alpha = { 0 };
    char *note = NULL;
    styx_error err;
    if (!PyArg_ParseTuple(args, "s", &path))
        return NULL;
    if (styx_image_load(path, &image, &alpha, &note, &err))
        return raise_error(module, &err);
    PyObject *out = Py_BuildValue("NN", image_out(&image),
                                  alpha.pixels ? image_out(&alpha) : Py_NewRef(Py_None));
    styx_image_free(&image);
    styx_image_free(&alpha);
    styx_text_free(note);
    return out;
}

/* image, path, quality, parameters */
static PyObject *image_save(PyObject *module, PyObject *args)
{
    PyObject *object;
    const char *path;
    struct styx_save_options o = { .size = sizeof o, .overwrite = 1 };
    struct styx_image image;
    struct hold h = { 0 };
    styx_error err;
    int code = -1;
    if (!PyArg_ParseTuple(args, "Osiz", &object, &path, &o.quality, &o.parameters))
        return NULL;
    if (image_in(&h, object, &image) == 0) {
        code = styx_image_save(&image, path, &o, &err);
        if (code)
            raise_error(module, &err);
    }
    hold_release(&h);
    if (code)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *image_resize(PyObject *module, PyObject *args)
{
    PyObject *object, *out = NULL;
    struct styx_image image, made;
    struct hold h = { 0 };
    styx_error err;
    int width, height;
    if (!PyArg_ParseTuple(args, "Oii", &object, &width, &height))
        return NULL;
    if (image_in(&h, object, &image) == 0) {
        if (styx_image_resize(&image, width, height, &made, &err)) {
            raise_error(module, &err);
        } else {
            out = image_out(&made);
            styx_image_free(&made);
        }
    }
    hold_release(&h);
    return out;
}

/* path -> JSON text */
static PyObject *weights_info(PyObject *module, PyObject *args)
{
    const char *path;
    char *json;
    styx_error err;
    if (!PyArg_ParseTuple(args, "s", &path))
        return NULL;
    if (styx_weights_info(path, &json, &err))
        return raise_error(module, &err);
    return text_out(json);
}

/* path -> {name: float32 array} */
static PyObject *tensors_load(PyObject *module, PyObject *args)
{
    const char *path;
    char **names;
    struct styx_tensor *tensors;
    size_t count;
    styx_error err;
    if (!PyArg_ParseTuple(args, "s", &path))
        return NULL;
    if (styx_tensors_load(path, &names, &tensors, &count, &err))
        return raise_error(module, &err);
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict && i < count; i++) {
        PyObject *x = tensor_out(&tensors[i]);
        if (!x || PyDict_SetItemString(dict, names[i], x) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(x);
    }
    styx_tensors_free(names, tensors, count);
    return dict;
}

struct saving {
    const char **names;
    struct styx_tensor *tensors;
    struct hold *holds; /* of one array each: a state dict has hundreds */
    size_t count;
};

static int saving_add(struct saving *s, PyObject *name, PyObject *array)
{
    size_t i = s->count++;
    s->names[i] = PyUnicode_AsUTF8AndSize(name, NULL);
    return s->names[i] ? tensor_in(&s->holds[i], array, s->names[i], &s->tensors[i]) : -1;
}

/* tensors_save(path, {name: float32 array}) */
static PyObject *tensors_save(PyObject *module, PyObject *args)
{
    const char *path;
    PyObject *dict, *key, *value;
    Py_ssize_t at = 0;
    struct hold h = { 0 };
    struct saving s = { 0 };
    styx_error err;
    int code = 0;
    if (!PyArg_ParseTuple(args, "sO!", &path, &PyDict_Type, &dict))
        return NULL;
    size_t n = (size_t)PyDict_Size(dict);
    s.names = hold_alloc(&h, n * sizeof *s.names);
    s.tensors = hold_alloc(&h, n * sizeof *s.tensors);
    s.holds = hold_alloc(&h, n * sizeof *s.holds);
    bool ready = s.names && s.tensors && s.holds;
    while (ready && PyDict_Next(dict, &at, &key, &value))
        ready = saving_add(&s, key, value) == 0;
    if (ready && (code = styx_tensors_save(path, s.names, s.tensors, s.count, 1, &err)))
        raise_error(module, &err);
    for (size_t i = 0; i < s.count; i++)
        hold_release(&s.holds[i]);
    hold_release(&h);
    if (!ready || code)
        return NULL;
    Py_RETURN_NONE;
}

PyMethodDef picture_methods[] = {
    { "image_load", image_load, METH_VARARGS, "path -> (picture, alpha or None)" },
    { "image_save", image_save, METH_VARARGS, "picture, path, quality, parameters" },
    { "image_resize", image_resize, METH_VARARGS, "picture, width, height -> picture (Lanczos)" },
    { "weights_info", weights_info, METH_VARARGS, "path of weights -> JSON text" },
    { "tensors_load", tensors_load, METH_VARARGS, "safetensors path -> {name: array}" },
    { "tensors_save", tensors_save, METH_VARARGS, "path, {name: array}" },
    { NULL, NULL, 0, NULL },
};
