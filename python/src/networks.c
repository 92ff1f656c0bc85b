/* networks.c - tokenizers and networks called by themselves. */
#include "core.h"

#include <string.h>

struct call { /* of any network; each uses what it needs */
    struct work work;
    const styx_model *model;
    enum styx_dtype dtype;
    struct styx_tensor in[2], text, *text_embeds, *time_ids, *timestep_cond;
    const int32_t *ids;
    size_t n, tokens;
    int encoder, layer, tile, pooled;
    enum styx_tiling tiling;
    struct styx_tensor out[2];
};

static int begin(struct call *c, PyObject *session, PyObject *model,
                 int (*run)(void *, styx_error *))
{
    c->work = (struct work){ .run = run, .args = c, .session = session_of(session) };
    c->model = c->work.session ? model_of(model) : NULL;
    return c->model ? 0 : -1;
}

static PyObject *finish(PyObject *module, struct call *c, struct hold *h)
{
    PyObject *out = NULL;
    if (!PyErr_Occurred() && work_do(module, &c->work) == 0)
        out = c->pooled ? Py_BuildValue("NN", tensor_out(&c->out[0]), tensor_out(&c->out[1]))
                        : tensor_out(&c->out[0]);
    styx_tensor_free(&c->out[0]);
    styx_tensor_free(&c->out[1]);
    hold_release(h);
    return out;
}

/* model, encoder, text -> (ids, what was cut or None) */
static PyObject *tokenize(PyObject *module, PyObject *args)
{
    PyObject *capsule;
    const char *text;
    int encoder, n;
    int32_t *ids;
    size_t count;
    char *cut = NULL;
    styx_error err;
    styx_model *model;
    if (!PyArg_ParseTuple(args, "Ois", &capsule, &encoder, &text) || !(model = model_of(capsule)))
        return NULL;
    if (styx_tokenize(model, encoder, text, &ids, &count, &cut, &err))
        return raise_error(module, &err);
    n = (int)count;
    PyObject *rest =
        cut ? PyUnicode_DecodeUTF8(cut, (Py_ssize_t)strlen(cut), "replace") : Py_NewRef(Py_None);
    PyObject *out = Py_BuildValue("NN", memory_out("i", sizeof *ids, ids, 1, &n), rest);
    styx_ids_free(ids);
    styx_text_free(cut);
    return out;
}

static PyObject *detokenize(PyObject *module, PyObject *args)
{
    PyObject *capsule, *buffer;
    int encoder, code = -1;
    struct hold h = { 0 };
    const int32_t *ids;
    size_t n;
    char *text = NULL;
    styx_error err;
    styx_model *model;
    if (!PyArg_ParseTuple(args, "OiO", &capsule, &encoder, &buffer) || !(model = model_of(capsule)))
        return NULL;
    if (ids_in(&h, buffer, &ids, &n) == 0) {
        code = styx_detokenize(model, encoder, ids, n, &text, &err);
        if (code)
            raise_error(module, &err);
    }
    hold_release(&h);
    return code ? NULL : text_out(text);
}

static int run_text(void *args, styx_error *err)
{
    struct call *c = args;
    return styx_encode_text(c->work.session, c->model, c->encoder, c->ids, c->n, c->tokens,
                            c->layer, c->dtype, &c->out[0], c->pooled ? &c->out[1] : NULL, err);
}

/* session, model, encoder, ids, rows, layer, dtype, pooled? -> hidden, or (hidden, pooled) */
static PyObject *encode_text(PyObject *module, PyObject *args)
{
    PyObject *session, *model, *ids;
    struct call c = { 0 };
    struct hold h = { 0 };
    int rows, dtype;
    if (!PyArg_ParseTuple(args, "OOiOiiip", &session, &model, &c.encoder, &ids, &rows, &c.layer,
                          &dtype, &c.pooled) ||
        begin(&c, session, model, run_text) < 0)
        return NULL;
    c.dtype = (enum styx_dtype)dtype;
    if (ids_in(&h, ids, &c.ids, &c.n) == 0) {
        if (rows < 1 || c.n % (size_t)rows)
            PyErr_Format(PyExc_ValueError, "%zu ids are not %d rows", c.n, rows);
        c.tokens = rows > 0 ? c.n / (size_t)rows : 0;
        c.n = (size_t)rows;
    }
    return finish(module, &c, &h);
}

static int run_unet(void *args, styx_error *err)
{
    struct call *c = args;
    return styx_unet(c->work.session, c->model, c->dtype, &c->in[0], c->in[1].data, &c->text,
                     c->text_embeds, c->time_ids, c->timestep_cond, &c->out[0], err);
}

/* session, model, dtype, sample, timesteps, text, text_embeds, time_ids, timestep_cond */
static PyObject *unet(PyObject *module, PyObject *args)
{
    PyObject *session, *model, *sample, *times, *text, *pooled, *ids, *cond;
    struct call c = { 0 };
    struct hold h = { 0 };
    int dtype;
    if (!PyArg_ParseTuple(args, "OOiOOOOOO", &session, &model, &dtype, &sample, &times, &text,
                          &pooled, &ids, &cond) ||
        begin(&c, session, model, run_unet) < 0)
        return NULL;
    c.dtype = (enum styx_dtype)dtype;
    if (tensor_in(&h, sample, "sample", &c.in[0]) == 0 &&
        tensor_in(&h, times, "timestep", &c.in[1]) == 0 &&
        tensor_in(&h, text, "encoder_hidden_states", &c.text) == 0 &&
        tensor_in_optional(&h, pooled, "text_embeds", &c.text_embeds) == 0 &&
        tensor_in_optional(&h, ids, "time_ids", &c.time_ids) == 0 &&
        tensor_in_optional(&h, cond, "timestep_cond", &c.timestep_cond) == 0 &&
        c.in[1].shape[0] != c.in[0].shape[0])
        PyErr_SetString(PyExc_ValueError, "one timestep for each sample was wanted");
    return finish(module, &c, &h);
}

static int run_vae_encode(void *args, styx_error *err)
{
    struct call *c = args;
    return styx_vae_encode(c->work.session, c->model, c->dtype, &c->in[0], c->tiling, c->tile,
                           &c->out[0], err);
}

static int run_vae_decode(void *args, styx_error *err)
{
    struct call *c = args;
    return styx_vae_decode(c->work.session, c->model, c->dtype, &c->in[0], c->tiling, c->tile,
                           &c->out[0], err);
}

/* session, model, dtype, array, tiling, tile */
static PyObject *vae_call(PyObject *module, PyObject *args, const char *name,
                          int (*run)(void *, styx_error *))
{
    PyObject *session, *model, *array;
    struct call c = { 0 };
    struct hold h = { 0 };
    int dtype, tiling;
    if (!PyArg_ParseTuple(args, "OOiOii", &session, &model, &dtype, &array, &tiling, &c.tile) ||
        begin(&c, session, model, run) < 0)
        return NULL;
    c.dtype = (enum styx_dtype)dtype;
    c.tiling = (enum styx_tiling)tiling;
    tensor_in(&h, array, name, &c.in[0]);
    return finish(module, &c, &h);
}

static PyObject *vae_encode(PyObject *module, PyObject *args)
{
    return vae_call(module, args, "x", run_vae_encode);
}

static PyObject *vae_decode(PyObject *module, PyObject *args)
{
    return vae_call(module, args, "z", run_vae_decode);
}

struct check {
    struct work work;
    const styx_model *model;
    struct styx_image image;
    unsigned char nsfw;
};

static int run_check(void *args, styx_error *err)
{
    struct check *c = args;
    return styx_safety_check(c->work.session, c->model, &c->image, 1, &c->nsfw, err);
}

/* session, model, image -> bool */
static PyObject *safety_check(PyObject *module, PyObject *args)
{
    PyObject *session, *model, *image, *out = NULL;
    struct check c = { 0 };
    struct hold h = { 0 };
    if (!PyArg_ParseTuple(args, "OOO", &session, &model, &image))
        return NULL;
    c.work = (struct work){ .run = run_check, .args = &c, .session = session_of(session) };
    if (c.work.session && (c.model = model_of(model)) && image_in(&h, image, &c.image) == 0 &&
        work_do(module, &c.work) == 0)
        out = PyBool_FromLong(c.nsfw);
    hold_release(&h);
    return out;
}

PyMethodDef network_methods[] = {
    { "tokenize", tokenize, METH_VARARGS, "model, encoder, text -> ids, cut" },
    { "detokenize", detokenize, METH_VARARGS, "model, encoder, ids -> text" },
    { "encode_text", encode_text, METH_VARARGS, "text encoder" },
    { "unet", unet, METH_VARARGS, "one UNet call" },
    { "vae_encode", vae_encode, METH_VARARGS, "pixels -> moments" },
    { "vae_decode", vae_decode, METH_VARARGS, "latents -> pixels" },
    { "safety_check", safety_check, METH_VARARGS, "session, model, picture -> bool" },
    { NULL, NULL, 0, NULL },
};
