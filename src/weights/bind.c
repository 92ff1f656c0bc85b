/* bind.c - from the parameters of a program to the tensors of a store, and all that is amiss. */
#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "weights/store.h"

/* What newer and older libraries call the same thing. A parameter that is not found is looked for
 * with the left text replaced by the right one, and the other way round. */
static const struct alias {
    const char *now, *then;
    bool prefix; /* only at the start of the name */
} aliases[] = {
    { ".to_q.", ".query.", false }, /* the VAE's attention before diffusers 0.15 */
    { ".to_k.", ".key.", false },
    { ".to_v.", ".value.", false },
    { ".to_out.0.", ".proj_attn.", false },
    { "text_model.", "", true }, /* flattened since transformers 5.6 */
    { "vision_model.", "vision_model.vision_model.", true },
    { "vision_model.", "", true },
};

/* Tensors that many files carry and that no program wants. A trailing '*': all that begin so. */
static const char *const idle[] = {
    "model_ema.*",     "*position_ids", "*logit_scale", "*num_batches_tracked",
    "alphas_cumprod*", "betas",         "sqrt_*",       "log_one_minus_alphas_cumprod",
    "posterior_*",     "loss.*",        "v_pred", /* empty markers of v-prediction models */
    "ztsnr",
};

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

static bool is_idle(const char *name)
{
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) {
        size_t n = strlen(idle[i]);
        if (idle[i][0] == '*'       ? ends_with(name, idle[i] + 1)
            : idle[i][n - 1] == '*' ? !strncmp(name, idle[i], n - 1)
                                    : !strcmp(name, idle[i]))
            return true;
    }
    return false;
}

/* name with `from`, where it occurs, replaced by `to`; false if it does not occur or fit. */
static bool replace(const char *name, const char *from, const char *to, bool prefix, char *out,
                    size_t room)
{
    const char *at = prefix ? name : strstr(name, from);
    if (!at || strncmp(at, from, strlen(from)))
        return false;
    int n = snprintf(out, room, "%.*s%s%s", (int)(at - name), name, to, at + strlen(from));
    return n > 0 && (size_t)n < room;
}

static const struct entry *find(const struct store *s, const char *name)
{
    const struct entry *e = store_find(s, name);
    char other[512];

    for (size_t i = 0; !e && i < sizeof aliases / sizeof *aliases; i++) {
        const struct alias *a = &aliases[i];
        if (replace(name, a->now, a->then, a->prefix, other, sizeof other))
            e = store_find(s, other);
        if (!e && replace(name, a->then, a->now, a->prefix, other, sizeof other))
            e = store_find(s, other);
    }
    return e;
}

/* The same numbers in the same order: equal but for lengths of one. */
static bool same_shape(const int *a, int na, const int *b, int nb)
{
    int i = 0, j = 0;
    for (;;) {
        while (i < na && a[i] == 1)
            i++;
        while (j < nb && b[j] == 1)
            j++;
        if (i == na || j == nb)
            return i == na && j == nb;
        if (a[i++] != b[j++])
            return false;
    }
}

struct shape_text {
    char text[64];
};

static struct shape_text shape_text(const int *shape, int dims)
{
    struct shape_text s = { "[" };
    size_t n = 1;
    if (dims < 0)
        return (struct shape_text){ "[more than 4 dimensions]" };
    for (int i = 0; i < dims; i++)
        n += (size_t)snprintf(s.text + n, sizeof s.text - n, "%s%d", i ? "," : "", shape[i]);
    snprintf(s.text + n, sizeof s.text - n, "]");
    return s;
}

enum wrong { MISSING, MISSHAPEN, UNUSABLE, NWRONG };

/* What one store_bind found: every line for the report, the first few for the message. */
struct findings {
    int count[NWRONG];
    char first[NWRONG][160];
    struct buffer lines;
};

static void note(struct findings *f, enum wrong kind, const char *line)
{
    static const char *const labels[] = { "missing", "wrong shape", "unusable" };
    char *first = f->first[kind];
    size_t n = strlen(first), room = sizeof f->first[kind] - n;

    buffer_printf(&f->lines, "%s: %s\n", labels[kind], line);
    f->count[kind]++;
    if (!n || strlen(line) + 8 < room)
        snprintf(first + n, room, "%s%s", n ? ", " : "", line);
    else if (room > 6 && strcmp(first + n - 3, "..."))
        strcpy(first + n, ", ...");
}

/* Fails only without memory: all else is a finding. */
static int bind_one(struct store *s, const param *p, const struct entry *e, struct span *span,
                    struct findings *f, styx_error *err)
{
    char line[256];
    styx_error why;
    int rc;

    if (!e) {
        snprintf(line, sizeof line, "%s %s", SHOW(p->name), shape_text(p->shape, p->dims).text);
        note(f, MISSING, line);
    } else if (e->dims >= 0 && !same_shape(p->shape, p->dims, e->shape, e->dims)) {
        snprintf(line, sizeof line, "%s is %s, %s was wanted", SHOW(e->name),
                 shape_text(e->shape, e->dims).text, shape_text(p->shape, p->dims).text);
        note(f, MISSHAPEN, line);
    } else if ((rc = store_span(s, e, span, &why))) {
        if (rc == STYX_ERR_NOMEM)
            return fail(err, rc, "%s", why.text);
        note(f, UNUSABLE, why.text);
    } else if (span->type == DT_U8 || span->type == DT_I32 || span->type == DT_I64) {
        snprintf(line, sizeof line, "%s holds integers (%s)", SHOW(e->name), e->type);
        note(f, UNUSABLE, line);
    } else {
        span->dims = p->dims;
        memcpy(span->shape, p->shape, sizeof span->shape);
    }
    return STYX_OK;
}

static int sentence(const struct store *s, const struct findings *f, styx_error *err)
{
    static const char *const one[] = { "is missing", "has another shape than the config says",
                                       "cannot be used" };
    static const char *const many[] = { "are missing", "have another shape than the config says",
                                        "cannot be used" };
    char text[420] = "";
    size_t n = 0;

    for (int i = 0; i < NWRONG; i++)
        if (f->count[i] && n < sizeof text)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%d %s %s (%s)", n ? "; " : "",
                                  f->count[i], f->count[i] == 1 ? "tensor" : "tensors",
                                  f->count[i] == 1 ? one[i] : many[i], f->first[i]);
    return fail(err, STYX_ERR_FORMAT, "%s: %s", store_path(s), text);
}

/* Appends lines to the report, and frees them. */
static int append(struct store_report *r, struct buffer *lines, styx_error *err)
{
    struct buffer all = { 0 };

    if (lines->nomem || !lines->bytes) {
        int rc = lines->nomem ? fail_nomem(err, lines->bytes) : STYX_OK;
        buffer_free(lines);
        return rc;
    }
    if (r->text)
        buffer_text(&all, r->text);
    buffer_add(&all, lines->data, lines->bytes);
    buffer_free(lines);
    free(r->text);
    r->text = NULL;
    return buffer_take_text(&all, &r->text, err);
}

static int begin_report(const struct store *s, struct store_report *r, styx_error *err)
{
    if (!r->used)
        r->used = calloc((size_t)store_count(s) + 1, 1);
    return r->used ? STYX_OK : fail_nomem(err, (size_t)store_count(s) + 1);
}

int store_bind(struct store *s, const param *params, int nparams, struct span *spans,
               struct store_report *report, styx_error *err)
{
    struct findings f = { 0 };
    int rc = report ? begin_report(s, report, err) : STYX_OK;

    for (int i = 0; !rc && i < nparams; i++) {
        const struct entry *e = find(s, params[i].name);
        spans[i] = (struct span){ 0 };
        rc = bind_one(s, &params[i], e, &spans[i], &f, err);
        if (e && report)
            report->used[store_index(s, e)] = 1;
    }
    if (!rc && report) {
        report->missing += f.count[MISSING];
        report->misshapen += f.count[MISSHAPEN];
        report->unusable += f.count[UNUSABLE];
        rc = append(report, &f.lines, err);
    }
    if (!rc && f.count[MISSING] + f.count[MISSHAPEN] + f.count[UNUSABLE])
        rc = sentence(s, &f, err);
    buffer_free(&f.lines);
    return rc;
}

int store_unused(const struct store *s, struct store_report *report, styx_error *err)
{
    struct buffer lines = { 0 };
    int rc = begin_report(s, report, err);

    for (int i = 0; !rc && i < store_count(s); i++) {
        const struct entry *e = store_at(s, i);
        if (report->used[i] || e->companion || is_idle(e->name))
            continue;
        buffer_printf(&lines, "unexpected: %s %s %s\n", SHOW(e->name), e->type,
                      shape_text(e->shape, e->dims).text);
        report->unexpected++;
    }
    if (!rc)
        rc = append(report, &lines, err);
    buffer_free(&lines);
    return rc;
}

void store_report_free(struct store_report *r)
{
    free(r->text);
    free(r->used);
    *r = (struct store_report){ 0 };
}
