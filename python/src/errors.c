/* errors.c - a styx_status as a Python exception. */
#include "core.h"

static PyObject *exception_for(PyObject *module, int code)
{
    switch (code) {
    case STYX_ERR_INVALID:
        return PyExc_ValueError;
    case STYX_ERR_IO:
        return PyExc_OSError;
    case STYX_ERR_NOMEM:
        return PyExc_MemoryError;
    case STYX_ERR_UNSUPPORTED:
        return PyExc_NotImplementedError;
    case STYX_ERR_FORMAT:
        return PyDict_GetItemString(PyModule_GetDict(module), "FormatError");
    case STYX_ERR_CANCELLED:
        return PyDict_GetItemString(PyModule_GetDict(module), "Cancelled");
    default:
        return PyExc_RuntimeError;
    }
}

PyObject *raise_error(PyObject *module, const styx_error *err)
{
    PyObject *type = exception_for(module, err->code);
    PyErr_SetString(type ? type : PyExc_RuntimeError, err->text);
    return NULL;
}

int errors_add(PyObject *module)
{
    /* diffusers raises OSError for some broken files and ValueError for others: be both */
    PyObject *bases = PyTuple_Pack(2, PyExc_OSError, PyExc_ValueError);
    PyObject *format =
        bases ? PyErr_NewExceptionWithDoc(
                    "styx.FormatError", "A file of a model is not what it should be.", bases, NULL)
              : NULL;
    PyObject *cancelled = PyErr_NewExceptionWithDoc(
        "styx.Cancelled", "The request was stopped before its end.", PyExc_RuntimeError, NULL);
    int rc = format && cancelled && PyModule_AddObjectRef(module, "FormatError", format) == 0 &&
                     PyModule_AddObjectRef(module, "Cancelled", cancelled) == 0
                 ? 0
                 : -1;
    Py_XDECREF(bases);
    Py_XDECREF(format);
    Py_XDECREF(cancelled);
    return rc;
}
