/* arrays.c - numbers from Python's buffers and back. */
#include "core.h"

#include <stdlib.h>
#include <string.h>

void hold_release(struct hold *h)
{
    while (h->nviews > 0)
        PyBuffer_Release(&h->views[--h->nviews]);
    while (h->nblocks > 0)
        free(h->blocks[--h->nblocks]);
}

void *hold_alloc(struct hold *h, size_t bytes)
{
    void *block = h->nblocks < HOLD_MAX ? calloc(1, bytes ? bytes : 1) : NULL;
    if (!block)
        return PyErr_NoMemory();
    h->blocks[h->nblocks++] = block;
    return block;
}

static Py_buffer *view_of(struct hold *h, PyObject *object)
{
    if (h->nviews == HOLD_MAX) {
        PyErr_SetString(PyExc_ValueError, "too many arrays in one call");
        return NULL;
    }
    Py_buffer *view = &h->views[h->nviews];
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return NULL;
    h->nviews++;
    return view;
}

/* Formats are "f" or "<f" and so on; NULL means bytes. */
static int is_format(const Py_buffer *view, char wanted)
{
    const char *f = view->format ? view->format : "B";
    if (*f == '<' || *f == '=' || *f == '@')
        f++;
    return f[0] == wanted && f[1] == '\0';
}

int tensor_in(struct hold *h, PyObject *object, const char *name, struct styx_tensor *to)
{
    Py_buffer *view = view_of(h, object);
    if (!view)
        return -1;
    if (!is_format(view, 'f') || view->ndim < 1 || view->ndim > 4) {
        PyErr_Format(PyExc_ValueError,
                     "%s: a buffer of format '%s' with %d dimensions; float32 with 1 to 4 was "
                     "wanted",
                     name, view->format ? view->format : "B", view->ndim);
        return -1;
    }
    to->dims = view->ndim;
    for (int i = 0; i < view->ndim; i++) {
        if (view->shape[i] < 1 || view->shape[i] > INT32_MAX) {
            PyErr_Format(PyExc_ValueError, "%s: dimension %d has %zd entries", name, i,
                         view->shape[i]);
            return -1;
        }
        to->shape[i] = (int)view->shape[i];
    }
    to->data = view->buf;
    return 0;
}

int tensor_in_optional(struct hold *h, PyObject *object, const char *name, struct styx_tensor **to)
{
    *to = NULL;
    if (!object || object == Py_None)
        return 0;
    struct styx_tensor *made = hold_alloc(h, sizeof *made);
    if (!made || tensor_in(h, object, name, made) < 0)
        return -1;
    *to = made;
    return 0;
}

int image_in(struct hold *h, PyObject *object, struct styx_image *to)
{
    Py_buffer *view = view_of(h, object);
    if (!view)
        return -1;
    int channels = view->ndim == 3 ? (int)view->shape[2] : 1;
    if (!is_format(view, 'B') || view->ndim < 2 || view->ndim > 3 || view->shape[0] > INT32_MAX ||
        view->shape[1] > INT32_MAX || (channels != 1 && channels != 3)) {
        PyErr_SetString(PyExc_ValueError,
                        "a picture is uint8, [height, width, 3] or [height, width]");
        return -1;
    }
    *to = (struct styx_image){ (int)view->shape[1], (int)view->shape[0], channels, view->buf };
    return 0;
}

int ids_in(struct hold *h, PyObject *object, const int32_t **ids, size_t *n)
{
    Py_buffer *view = view_of(h, object);
    if (!view)
        return -1;
    if (!is_format(view, 'i') || view->itemsize != sizeof **ids) {
        PyErr_SetString(PyExc_ValueError, "ids are a buffer of int32");
        return -1;
    }
    *ids = view->buf;
    *n = (size_t)(view->len / view->itemsize);
    return 0;
}

PyObject *memory_out(const char *format, size_t item, const void *data, int dims, const int *shape)
{
    size_t bytes = item;
    for (int i = 0; i < dims; i++)
        bytes *= (size_t)shape[i];
    PyObject *sizes = PyTuple_New(dims), *array = NULL, *flat = NULL, *shaped = NULL;
    for (int i = 0; sizes && i < dims; i++)
        if (PyTuple_SetItem(sizes, i, PyLong_FromLong(shape[i])) < 0)
            goto done;
    array = PyByteArray_FromStringAndSize(data, (Py_ssize_t)bytes);
    flat = array ? PyMemoryView_FromObject(array) : NULL;
    if (sizes && flat)
        shaped = PyObject_CallMethod(flat, "cast", "sO", format, sizes);
done:
    Py_XDECREF(sizes);
    Py_XDECREF(array);
    Py_XDECREF(flat);
    return shaped;
}

PyObject *tensor_out(const struct styx_tensor *x)
{
    return memory_out("f", sizeof *x->data, x->data, x->dims, x->shape);
}

PyObject *image_out(const struct styx_image *x)
{
    int shape[3] = { x->height, x->width, x->channels };
    return memory_out("B", 1, x->pixels, x->channels == 1 ? 2 : 3, shape);
}
