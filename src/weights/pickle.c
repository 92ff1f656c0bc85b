#include "weights/pickle.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bump.h"
#include "weights/zip.h"

enum kind {
    NONE, /* and whatever plays no role */
    INTEGER,
    TEXT,
    TUPLE,
    LIST,
    DICT, /* items: key, value, key, value */
    GLOBAL,
    STORAGE,
    TENSOR
};

struct value {
    enum kind kind;
    int64_t integer;      /* and a GLOBAL's row in names[], a STORAGE's in storages[] */
    const char *text;     /* TEXT; a STORAGE's key */
    struct value **items; /* TUPLE, LIST, DICT */
    size_t nitems, room;
    struct value *storage; /* of a TENSOR: from element `integer` */
    int dims;
    int64_t shape[4], stride[4];
};

/* What a file may name. */
enum call { REFUSED, REBUILD_TENSOR, REBUILD_PARAMETER, MAKE_DICT, IGNORED, NOT_CALLED };
static const struct name {
    const char *module, *name;
    enum call call;
} names[] = {
    { "torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR },
    { "torch._utils", "_rebuild_parameter", REBUILD_PARAMETER },
    { "collections", "OrderedDict", MAKE_DICT },
    { "numpy.core.multiarray", "scalar", IGNORED }, /* in the trainer's notes of SD 1.x files */
    { "numpy._core.multiarray", "scalar", IGNORED },
    { "numpy", "dtype", IGNORED },
    { "_codecs", "encode", IGNORED },
    { "pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", NOT_CALLED },
    { "torch", "FloatStorage", NOT_CALLED },
    { "torch", "HalfStorage", NOT_CALLED },
    { "torch", "BFloat16Storage", NOT_CALLED },
    { "torch", "DoubleStorage", NOT_CALLED },
    { "torch", "LongStorage", NOT_CALLED },
    { "torch", "IntStorage", NOT_CALLED },
    { "torch", "CharStorage", NOT_CALLED },
    { "torch", "ByteStorage", NOT_CALLED },
    { "torch", "BoolStorage", NOT_CALLED },
    { "torch", "ShortStorage", NOT_CALLED },
};

static const struct storage {
    const char *name, *type;
    int bytes, dtype; /* enum dtype, or -1 */
} storages[] = {
    { "FloatStorage", "F32", 4, DT_F32 },      { "HalfStorage", "F16", 2, DT_F16 },
    { "BFloat16Storage", "BF16", 2, DT_BF16 }, { "DoubleStorage", "F64", 8, DT_F64 },
    { "LongStorage", "I64", 8, DT_I64 },       { "IntStorage", "I32", 4, DT_I32 },
    { "CharStorage", "I8", 1, DT_I8 },         { "ByteStorage", "U8", 1, DT_U8 },
    { "BoolStorage", "BOOL", 1, -1 },          { "ShortStorage", "I16", 2, -1 },
};

struct machine {
    const char *path;
    const unsigned char *code;
    size_t bytes, at;
    struct value **stack, **memo;
    size_t nstack, room, nmemo;
    size_t *marks;
    size_t nmarks;
    struct bump values; /* and texts and lists */
    styx_error *err;
};

/* ---- The machine. ---- */

static int bad(const struct machine *m, const char *why)
{
    return fail(m->err, STYX_ERR_FORMAT, "%s: its pickle is broken at byte %zu: %s", m->path, m->at,
                why);
}

static const unsigned char *take(struct machine *m, uint64_t n)
{
    if (n > m->bytes - m->at)
        return NULL;
    const unsigned char *p = m->code + m->at;
    m->at += (size_t)n;
    return p;
}

static uint64_t number(const unsigned char *p, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | p[i];
    return value;
}

/* The stack has room for a value for each byte of code, and each instruction pushes at most one. */
static int push(struct machine *m, struct value *v)
{
    m->stack[m->nstack++] = v;
    return STYX_OK;
}

static struct value *make(struct machine *m, enum kind kind)
{
    struct value *v = bump_alloc(&m->values, sizeof *v);
    if (v)
        v->kind = kind;
    else
        fail_nomem(m->err, sizeof *v);
    return v;
}

static int push_new(struct machine *m, enum kind kind, int64_t integer)
{
    struct value *v = make(m, kind);
    if (!v)
        return STYX_ERR_NOMEM;
    v->integer = integer;
    return push(m, v);
}

/* The top value above the last mark, or NULL. */
static struct value *pop(struct machine *m)
{
    size_t floor = m->nmarks ? m->marks[m->nmarks - 1] : 0;
    return m->nstack > floor ? m->stack[--m->nstack] : NULL;
}

static struct value *top(const struct machine *m)
{
    size_t floor = m->nmarks ? m->marks[m->nmarks - 1] : 0;
    return m->nstack > floor ? m->stack[m->nstack - 1] : NULL;
}

static int append(struct machine *m, struct value *list, struct value *const *items, size_t n)
{
    if (list->nitems + n > list->room) {
        size_t room = 2 * (list->nitems + n);
        struct value **more = bump_alloc(&m->values, room * sizeof *more);
        if (!more)
            return fail_nomem(m->err, room * sizeof *more);
        if (list->nitems)
            memcpy(more, list->items, list->nitems * sizeof *more);
        list->items = more;
        list->room = room;
    }
    if (n)
        memcpy(list->items + list->nitems, items, n * sizeof *items);
    list->nitems += n;
    return STYX_OK;
}

static int push_text(struct machine *m, uint64_t length)
{
    const unsigned char *p = take(m, length);
    char *text = p ? bump_alloc(&m->values, (size_t)length + 1) : NULL;
    struct value *v = text ? make(m, TEXT) : NULL;

    if (!p)
        return bad(m, "a text is cut short");
    if (!v)
        return fail_nomem(m->err, (size_t)length + 1);
    memcpy(text, p, (size_t)length);
    v->text = text;
    return push(m, v);
}

static int push_global(struct machine *m, const char *module, const char *name)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i].module, module) && !strcmp(names[i].name, name))
            return push_new(m, GLOBAL, (int64_t)i);
    return fail(m->err, STYX_ERR_UNSUPPORTED,
                "%s: its pickle names '%s.%s', which has no place among tensors: the file is "
                "refused, and nothing in it was run",
                m->path, SHOW(module), SHOW(name));
}

/* "module\nname\n" */
static int read_global(struct machine *m)
{
    char lines[2][128];
    for (int i = 0; i < 2; i++) {
        size_t n = 0;
        const unsigned char *p;
        while ((p = take(m, 1)) && *p != '\n' && n < sizeof lines[0] - 1)
            lines[i][n++] = (char)*p;
        if (!p || *p != '\n')
            return bad(m, "a name is cut short");
        lines[i][n] = '\0';
    }
    return push_global(m, lines[0], lines[1]);
}

static int read_stack_global(struct machine *m)
{
    struct value *name = pop(m), *module = pop(m);
    if (!name || !module || name->kind != TEXT || module->kind != TEXT)
        return bad(m, "a name is no text");
    return push_global(m, module->text, name->text);
}

/* Integers of up to four dimensions; false if it is something else. */
static bool read_dims(const struct value *tuple, int64_t *out)
{
    if (!tuple || tuple->kind != TUPLE || tuple->nitems > 4)
        return false;
    for (size_t i = 0; i < tuple->nitems; i++) {
        if (tuple->items[i]->kind != INTEGER || tuple->items[i]->integer < 0 ||
            tuple->items[i]->integer > INT_MAX)
            return false;
        out[i] = tuple->items[i]->integer;
    }
    return true;
}

/* (storage, offset, shape, stride, ...) */
static int rebuild_tensor(struct machine *m, const struct value *args)
{
    struct value *t = make(m, TENSOR);

    if (!t)
        return STYX_ERR_NOMEM;
    if (args->nitems < 4 || args->items[0]->kind != STORAGE || args->items[1]->kind != INTEGER ||
        args->items[1]->integer < 0 || !read_dims(args->items[2], t->shape) ||
        !read_dims(args->items[3], t->stride) || args->items[2]->nitems != args->items[3]->nitems)
        return bad(m, "a tensor is not described as one");
    t->storage = args->items[0];
    t->integer = args->items[1]->integer;
    t->dims = (int)args->items[2]->nitems;
    return push(m, t);
}

static int call(struct machine *m)
{
    struct value *args = pop(m), *function = pop(m);

    if (!args || !function || args->kind != TUPLE || function->kind != GLOBAL)
        return bad(m, "a call of what is no function");
    const struct name *name = &names[function->integer];
    switch (name->call) {
    case REBUILD_TENSOR:
        return rebuild_tensor(m, args);
    case REBUILD_PARAMETER:
        if (!args->nitems || args->items[0]->kind != TENSOR)
            return bad(m, "a parameter without a tensor");
        return push(m, args->items[0]);
    case MAKE_DICT:
        return push_new(m, DICT, 0);
    case IGNORED:
        return push_new(m, NONE, 0);
    case REFUSED:
    case NOT_CALLED:
        break;
    }
    return fail(m->err, STYX_ERR_UNSUPPORTED, "%s: its pickle calls '%s.%s': the file is refused",
                m->path, name->module, name->name);
}

/* ("storage", class, key, device, elements) */
static int push_storage(struct machine *m)
{
    struct value *id = pop(m), *v;
    int row = -1;

    if (!id || id->kind != TUPLE || id->nitems < 5 || id->items[1]->kind != GLOBAL ||
        id->items[2]->kind != TEXT || id->items[4]->kind != INTEGER)
        return bad(m, "a storage is not described as one");
    for (int i = 0; i < (int)(sizeof storages / sizeof *storages); i++)
        if (!strcmp(names[id->items[1]->integer].name, storages[i].name))
            row = i;
    if (row < 0)
        return bad(m, "a storage of no known type");
    if (!(v = make(m, STORAGE)))
        return STYX_ERR_NOMEM;
    v->integer = row;
    v->text = id->items[2]->text;
    return push(m, v);
}

/* Everything above the last mark. */
static int take_marked(struct machine *m, struct value ***items, size_t *n)
{
    if (!m->nmarks)
        return bad(m, "no mark");
    size_t mark = m->marks[--m->nmarks];
    *items = m->stack + mark;
    *n = m->nstack - mark;
    m->nstack = mark;
    return STYX_OK;
}

static int push_tuple(struct machine *m, size_t n)
{
    struct value *v = make(m, TUPLE), *items[3];
    if (!v)
        return STYX_ERR_NOMEM;
    for (size_t i = n; i-- > 0;)
        if (!(items[i] = pop(m)))
            return bad(m, "the stack is empty");
    int rc = append(m, v, items, n);
    return rc ? rc : push(m, v);
}

static int push_marked_tuple(struct machine *m)
{
    struct value **items = NULL, *v = make(m, TUPLE);
    size_t n = 0;
    int rc = v ? take_marked(m, &items, &n) : STYX_ERR_NOMEM;
    if (rc || (rc = append(m, v, items, n)))
        return rc;
    return push(m, v);
}

/* Items into the list or dictionary below them; into what plays no role they vanish. */
static int put_items(struct machine *m, enum kind kind, struct value *const *items, size_t n)
{
    struct value *to = top(m);
    if (!to || (to->kind != kind && to->kind != NONE) || (kind == DICT && n % 2))
        return bad(m, "items without what they belong to");
    return to->kind == kind ? append(m, to, items, n) : STYX_OK;
}

static int put_marked(struct machine *m, enum kind kind)
{
    struct value **items = NULL;
    size_t n = 0;
    int rc = take_marked(m, &items, &n);
    return rc ? rc : put_items(m, kind, items, n);
}

static int put_few(struct machine *m, enum kind kind, size_t n)
{
    struct value *items[2];
    for (size_t i = n; i-- > 0;)
        if (!(items[i] = pop(m)))
            return bad(m, "the stack is empty");
    return put_items(m, kind, items, n);
}

static int remember(struct machine *m, uint64_t at)
{
    struct value *v = top(m);
    if (!v || at >= m->bytes) /* there are fewer values than bytes */
        return bad(m, "nothing to remember");
    m->memo[at] = v;
    m->nmemo = at >= m->nmemo ? (size_t)at + 1 : m->nmemo;
    return STYX_OK;
}

static int recall(struct machine *m, uint64_t at)
{
    if (at >= m->nmemo || !m->memo[at])
        return bad(m, "nothing was remembered there");
    return push(m, m->memo[at]);
}

static int drop(struct machine *m)
{
    return pop(m) ? STYX_OK : bad(m, "the stack is empty");
}

static int refuse(const struct machine *m, unsigned char op)
{
    return fail(m->err, STYX_ERR_UNSUPPORTED,
                "%s: its pickle uses the instruction 0x%02x, which has no place among tensors: the "
                "file is refused, and nothing in it was run",
                m->path, op);
}

/* Instructions that push a value of their own. n is the number that follows them. */
static int step_value(struct machine *m, unsigned char op, uint64_t n)
{
    switch (op) {
    case 'N':
    case 0x88: /* True */
    case 0x89: /* False */
    case 'G':  /* a float */
    case 0x8f: /* EMPTY_SET */
        return push_new(m, NONE, 0);
    case 'J':
        return push_new(m, INTEGER, (int32_t)n);
    case 'K':
    case 'M':
        return push_new(m, INTEGER, (int64_t)n);
    case 'X': /* texts and bytes, by the size of their lengths */
    case 'T':
    case 'B':
    case 'U':
    case 'C':
    case 0x8c:
    case 0x8d:
    case 0x8e:
        return push_text(m, n);
    case '}':
        return push_new(m, DICT, 0);
    case ']':
        return push_new(m, LIST, 0);
    case ')':
        return push_tuple(m, 0);
    case 'c':
        return read_global(m);
    case 'h':
    case 'j':
        return recall(m, n);
    default:
        return refuse(m, op);
    }
}

/* Instructions that work on the stack. (Lib/pickletools.py of Python names them all.) */
static int step(struct machine *m, unsigned char op, uint64_t n)
{
    struct value **items;
    size_t count;

    switch (op) {
    case 0x80: /* PROTO */
    case 0x95: /* FRAME */
        return STYX_OK;
    case '(':
        m->marks[m->nmarks++] = m->nstack;
        return STYX_OK;
    case '0':
    case 'b': /* BUILD: attributes of an object, none of which matters here */
        return drop(m);
    case '1':
        return take_marked(m, &items, &count);
    case 0x85:
    case 0x86:
    case 0x87:
        return push_tuple(m, op - 0x84u);
    case 't':
        return push_marked_tuple(m);
    case 0x93:
        return read_stack_global(m);
    case 'R':
    case 0x81: /* NEWOBJ */
        return call(m);
    case 'Q':
        return push_storage(m);
    case 's':
        return put_few(m, DICT, 2);
    case 'u':
        return put_marked(m, DICT);
    case 'a':
        return put_few(m, LIST, 1);
    case 'e':
    case 0x90: /* ADDITEMS */
        return put_marked(m, LIST);
    case 'q':
    case 'r':
        return remember(m, n);
    case 0x94:
        return remember(m, m->nmemo);
    default:
        return step_value(m, op, n);
    }
}

/* LONG1: a length and so many bytes of an integer in two's complement. */
static int read_long(struct machine *m)
{
    const unsigned char *length = take(m, 1), *p = length ? take(m, *length) : NULL;
    if (!p)
        return bad(m, "an integer is cut short");
    if (*length > 8)
        return push_new(m, NONE, 0);
    uint64_t value = number(p, *length);
    if (*length && *length < 8 && p[*length - 1] & 0x80)
        value |= UINT64_MAX << (8 * *length);
    return push_new(m, INTEGER, (int64_t)value);
}

static int run(struct machine *m, struct value **result)
{
    /* How many bytes of number follow. */
    static const unsigned char operands[256] = {
        [0x80] = 1, [0x95] = 8, ['G'] = 8, ['J'] = 4, ['K'] = 1, ['M'] = 2,
        ['X'] = 4,  ['T'] = 4,  ['B'] = 4, ['U'] = 1, ['C'] = 1, [0x8c] = 1,
        [0x8d] = 8, [0x8e] = 8, ['q'] = 1, ['r'] = 4, ['h'] = 1, ['j'] = 4,
    };
    const unsigned char *op, *p;
    int rc = STYX_OK;

    while (!rc && (op = take(m, 1)) && *op != '.') {
        if (*op == 0x8a) {
            rc = read_long(m);
            continue;
        }
        if (!(p = take(m, operands[*op])))
            return bad(m, "an instruction is cut short");
        rc = step(m, *op, number(p, operands[*op]));
    }
    if (rc)
        return rc;
    if (!op || !(*result = pop(m)))
        return bad(m, "it has no end");
    return STYX_OK;
}

/* ---- From values to tensors. ---- */

struct collector {
    struct machine *m;
    const struct zip *zip;
    const char *folder; /* in the archive: "archive/" */
    struct store *into;
    int visits;
};

static bool is_dense(const struct value *t)
{
    int64_t step = 1;
    for (int i = t->dims - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->stride[i] != step)
            return false;
        step *= t->shape[i] ? t->shape[i] : 1;
    }
    return true;
}

static int add_tensor(struct collector *c, const char *name, const struct value *t)
{
    const struct machine *m = c->m;
    const struct storage *s = &storages[t->storage->integer];
    struct entry e = { .name = name, .type = s->type, .dims = t->dims, .count = 1 };
    char path[512];
    uint64_t begin;

    snprintf(path, sizeof path, "%sdata/%s", c->folder, t->storage->text);
    const struct zip_file *file = zip_find(c->zip, path);
    if (!file)
        return fail(m->err, STYX_ERR_FORMAT, "%s: has no data for tensor '%s'", m->path,
                    SHOW(name));
    bool overflow = false;
    for (int i = 0; i < t->dims; i++) {
        e.shape[i] = (int)t->shape[i];
        overflow |= __builtin_mul_overflow(e.count, (uint64_t)t->shape[i], &e.count);
    }
    overflow |= __builtin_mul_overflow(e.count, (uint64_t)s->bytes, &e.bytes);
    overflow |= __builtin_mul_overflow((uint64_t)t->integer, (uint64_t)s->bytes, &begin);
    if (!is_dense(t))
        return fail(m->err, STYX_ERR_UNSUPPORTED,
                    "%s: tensor '%s' is a view with gaps or transposed: save it contiguous",
                    m->path, SHOW(name));
    if (overflow || begin > file->bytes || e.bytes > file->bytes - begin)
        return fail(m->err, STYX_ERR_FORMAT, "%s: tensor '%s' is larger than its data", m->path,
                    SHOW(name));
    e.raw = file->data + begin;
    if (s->dtype >= 0)
        e.span = entry_span(&e, (enum dtype)s->dtype);
    return store_add(c->into, &e, m->err);
}

/* Dictionaries may hold themselves: a few levels and a number of steps are enough for models. */
static int collect(struct collector *c, const char *prefix, const struct value *dict, int depth)
{
    char name[512];
    int rc = STYX_OK;

    for (size_t i = 0; !rc && i + 1 < dict->nitems; i += 2) {
        const struct value *key = dict->items[i], *v = dict->items[i + 1];
        if (++c->visits > 1000000)
            return bad(c->m, "its dictionaries hold too much");
        if (key->kind != TEXT ||
            snprintf(name, sizeof name, "%s%s", prefix, key->text) >= (int)sizeof name - 1)
            continue;
        if (v->kind == TENSOR)
            rc = add_tensor(c, name, v);
        else if (v->kind == TEXT)
            rc = store_set_metadata(c->into, name, v->text, c->m->err);
        else if (v->kind == DICT && depth < 3) {
            strcat(name, ".");
            rc = collect(c, name, v, depth + 1);
        }
    }
    return rc;
}

static const struct value *state_dict(const struct value *root)
{
    for (size_t i = 0; i + 1 < root->nitems; i += 2)
        if (root->items[i]->kind == TEXT && !strcmp(root->items[i]->text, "state_dict") &&
            root->items[i + 1]->kind == DICT)
            return root->items[i + 1];
    return root;
}

/* "archive/data.pkl", whatever the archive is called. */
static const struct zip_file *find_program(const struct zip *zip)
{
    for (int i = 0; i < zip->nfiles; i++) {
        size_t n = strlen(zip->files[i].name);
        if (n >= 8 && !strcmp(zip->files[i].name + n - 8, "data.pkl") &&
            (n == 8 || zip->files[i].name[n - 9] == '/'))
            return &zip->files[i];
    }
    return NULL;
}

/* Newer files tell the byte order of the machine that wrote them. */
static int check_order(const struct zip *zip, const char *folder, const char *path, styx_error *err)
{
    char name[512];
    snprintf(name, sizeof name, "%sbyteorder", folder);
    const struct zip_file *file = zip_find(zip, name);
    if (file && (file->bytes != 6 || memcmp(file->data, "little", 6)))
        return fail(err, STYX_ERR_UNSUPPORTED, "%s: was written on a big-endian machine", path);
    return STYX_OK;
}

static int read_program(const struct zip *zip, const struct zip_file *program, const char *path,
                        struct store *into, styx_error *err)
{
    struct machine m = { .path = path, .code = program->data, .bytes = program->bytes, .err = err };
    struct value *root;
    char *folder = strndup(program->name, strlen(program->name) - 8);
    int rc;

    if (folder && (rc = check_order(zip, folder, path, err))) {
        free(folder);
        return rc;
    }
    m.stack = calloc(m.bytes + 1, sizeof *m.stack);
    m.memo = calloc(m.bytes + 1, sizeof *m.memo);
    m.marks = calloc(m.bytes + 1, sizeof *m.marks);
    if (!folder || !m.stack || !m.memo || !m.marks)
        rc = fail_nomem(err, 3 * m.bytes * sizeof *m.stack);
    else
        rc = run(&m, &root);
    if (!rc && root->kind != DICT)
        rc = fail(err, STYX_ERR_FORMAT, "%s: holds no dictionary of tensors", path);
    if (!rc) {
        struct collector c = { &m, zip, folder, into, 0 };
        rc = collect(&c, "", state_dict(root), 0);
    }
    free(folder);
    free(m.stack);
    free(m.memo);
    free(m.marks);
    bump_free(&m.values);
    return rc;
}

int pickle_parse(const unsigned char *data, size_t bytes, const char *path, struct store *into,
                 styx_error *err)
{
    enum { PROGRAM_BYTES = 64 << 20 };
    struct zip zip = { NULL, 0 };
    int rc;

    if (bytes >= 2 && data[0] == 0x80)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: was saved by PyTorch before 1.6, in another layout: save it again with a "
                    "newer one",
                    path);
    rc = zip_read(data, bytes, path, &zip, err);
    const struct zip_file *program = rc ? NULL : find_program(&zip);
    if (!rc && (!program || program->bytes > PROGRAM_BYTES))
        rc = fail(err, STYX_ERR_FORMAT, "%s: is no PyTorch file (no data.pkl in it)", path);
    if (!rc)
        rc = read_program(&zip, program, path, into, err);
    zip_free(&zip);
    return rc;
}

int pickle_open(const char *path, struct store **out, styx_error *err)
{
    return store_open_mapped(path, pickle_parse, out, err);
}
