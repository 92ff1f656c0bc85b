/* core.h - the parts of styx._core, the extension under the Python package.
 *
 * It is thin: module functions over styx.h. Handles travel as capsules named after their C type;
 * arrays come in through the buffer protocol and go out as memoryviews of fresh bytearrays. What
 * users see is written in Python on top. */
#ifndef STYX_PYTHON_CORE_H
#define STYX_PYTHON_CORE_H
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include "styx.h"

/* ---- errors.c ---- */

/* Raises the exception that err's code stands for; always returns NULL. */
PyObject *raise_error(PyObject *module, const styx_error *err);
int errors_add(PyObject *module);

/* ---- arrays.c ---- */

/* What a call borrows from Python until it is over. */
enum { HOLD_MAX = 64 };
struct hold {
    Py_buffer views[HOLD_MAX];
    int nviews;
    void *blocks[HOLD_MAX];
    int nblocks;
};
void hold_release(struct hold *h);
void *hold_alloc(struct hold *h, size_t bytes); /* zeroed; NULL with MemoryError set */

/* A C-contiguous float32 buffer of up to four dimensions; -1 with an exception set. */
int tensor_in(struct hold *h, PyObject *object, const char *name, struct styx_tensor *to);
/* None leaves *to NULL. */
int tensor_in_optional(struct hold *h, PyObject *object, const char *name, struct styx_tensor **to);
/* uint8 [h, w] or [h, w, channels] */
int image_in(struct hold *h, PyObject *object, struct styx_image *to);
/* n items of int32 */
int ids_in(struct hold *h, PyObject *object, const int32_t **ids, size_t *n);

/* New memoryviews with a copy of the numbers. */
PyObject *tensor_out(const struct styx_tensor *x);
PyObject *image_out(const struct styx_image *x);
PyObject *memory_out(const char *format, size_t item, const void *data, int dims, const int *shape);

/* ---- handles.c ---- */

extern PyMethodDef handle_methods[], scheduler_methods[], request_methods[], network_methods[],
    picture_methods[];

/* The pointer inside a capsule of that type; NULL with TypeError set. */
styx_session *session_of(PyObject *capsule);
styx_model *model_of(PyObject *capsule);
styx_component *component_of(PyObject *capsule);
styx_scheduler *scheduler_of(PyObject *capsule);
styx_generator *generator_of(PyObject *capsule);
PyObject *scheduler_capsule(styx_scheduler *scheduler);
/* Takes a text that the library made. */
PyObject *text_out(char *text);

/* ---- work.c ---- */

/* A long call of the engine. It runs in a thread of its own, without the GIL, while the calling
 * thread keeps an eye on signals and runs the callbacks, so that these see the thread they expect
 * and Ctrl-C works in the middle of a step. */
struct work {
    int (*run)(void *args, styx_error *err);
    void *args;
    styx_session *session;
    struct exchange *exchange;
};
/* 0, or -1 with an exception set. */
int work_do(PyObject *module, struct work *work);
/* From the engine's thread: has the calling thread run call(payload) with the GIL; its answer, or
 * -1 after an exception. */
int work_call(struct work *work, int (*call)(void *payload), void *payload);

/* ---- request.c ---- */

/* A dict with the field names of struct styx_request. */
int request_in(struct hold *h, PyObject *dict, struct styx_request *to);

#endif
