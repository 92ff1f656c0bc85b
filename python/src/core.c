/* core.c - the module styx._core. */
#include "core.h"

static PyObject *version(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyUnicode_FromString(styx_version());
}

static PyMethodDef own_methods[] = {
    { "version", version, METH_NOARGS, "the library's version" },
    { NULL, NULL, 0, NULL },
};

static int fill(PyObject *module)
{
    PyMethodDef *const tables[] = { own_methods,     handle_methods,  scheduler_methods,
                                    request_methods, network_methods, picture_methods };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (PyModule_AddFunctions(module, tables[i]) < 0)
            return -1;
    return errors_add(module);
}

static PyModuleDef_Slot slots[] = {
    { Py_mod_exec, fill },
    { 0, NULL },
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "styx._core",
    .m_doc = "The engine of Styx. What is documented is in styx.diffusers and its neighbours.",
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
