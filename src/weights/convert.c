#include "weights/convert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "weights/names.h"
#include "weights/quants.h"
#include "weights/save.h"

enum { CHUNK = 1 << 16 }; /* numbers at a time; whole blocks */

/* One tensor to be written: its parts one after the other. */
struct piece {
    char name[NAME_BYTES + 64];
    struct store *store;
    const struct entry *from[3]; /* queries, keys, values of a fused one */
    int nfrom;
    bool transposed;
    int dims, shape[4];
    enum dtype type; /* I8: in blocks of 32 with scales */
};

struct plan {
    struct piece *pieces;
    int npieces;
    bool gguf;
    const struct convert_options *options;
    const char *path;
    styx_error *err;
    uint64_t done, all; /* bytes of sources */
};

static size_t count_of(const struct piece *p)
{
    size_t n = 1;
    for (int i = 0; i < p->dims; i++)
        n *= (size_t)p->shape[i];
    return n;
}

/* ---- What becomes of each tensor. ---- */

static bool is_integers(const struct entry *e)
{
    return !strcmp(e->type, "I64") || !strcmp(e->type, "I32") || !strcmp(e->type, "U8");
}

/* Scales are for rows of the first dimension in safetensors, for the innermost one in GGUF. */
static bool fits_blocks(const struct plan *plan, const struct piece *p)
{
    size_t n = count_of(p);
    if (p->dims < 2 || !n)
        return false;
    return (plan->gguf ? (size_t)p->shape[p->dims - 1] : n / (size_t)p->shape[0]) % Q8_0_ELEMENTS ==
           0;
}

static enum dtype type_of(const struct plan *plan, const struct piece *p)
{
    const char *was = p->from[0]->type;
    const struct quant *quant = quant_by_name(was);
    bool eight = !strcmp(was, "I8") || (quant && quant->split);

    if (is_integers(p->from[0]))
        return (enum dtype)dtype_from_name(was);
    switch (plan->options->type) {
    case CONVERT_F32:
        return DT_F32;
    case CONVERT_F16:
        return DT_F16;
    case CONVERT_BF16:
        return DT_BF16;
    case CONVERT_Q8_0:
        return fits_blocks(plan, p) ? DT_I8 : DT_F16;
    case CONVERT_SAME:
        break;
    }
    if (eight && fits_blocks(plan, p))
        return DT_I8;
    return !strcmp(was, "F32") || !strcmp(was, "F64") ? DT_F32
           : !strcmp(was, "BF16")                     ? DT_BF16
                                                      : DT_F16;
}

/* Where a component of these parts lies in a single file. */
static const char *prefix_of(const struct convert_part *parts, int nparts, const char *component)
{
    bool first = false, second = false;
    for (int i = 0; i < nparts; i++) {
        first |= !strcmp(parts[i].component, "text_encoder");
        second |= !strcmp(parts[i].component, "text_encoder_2");
    }
    if (!strcmp(component, "unet"))
        return "model.diffusion_model.";
    if (!strcmp(component, "vae"))
        return "first_stage_model.";
    if (!strcmp(component, "text_encoder"))
        return second ? "conditioner.embedders.0.transformer." : "cond_stage_model.transformer.";
    return first ? "conditioner.embedders.1.model." : "conditioner.embedders.0.model.";
}

static int find_fused(const struct plan *plan, struct piece *p, const char *q_name)
{
    char name[NAME_BYTES];
    for (int i = 1; i < 3; i++) {
        snprintf(name, sizeof name, "%s", q_name);
        *strstr(name, "q_proj") = "qkv"[i];
        p->from[i] = store_find(p->store, name);
        if (!p->from[i] || p->from[i]->count != p->from[0]->count)
            return fail(plan->err, STYX_ERR_FORMAT, "%s: has '%s' but no '%s' like it",
                        store_path(p->store), SHOW(q_name), SHOW(name));
    }
    p->nfrom = 3;
    p->shape[0] *= 3;
    return STYX_OK;
}

/* Gives the piece its name and shape in a single file. An empty name: it is part of another. */
static int single_name(const struct plan *plan, struct piece *p, const char *component,
                       const char *prefix)
{
    static const char flat[] = "text_model.";
    const char *name = p->from[0]->name;
    char full[NAME_BYTES + sizeof flat], theirs[NAME_BYTES];
    bool text = !strncmp(component, "text_encoder", 12);
    bool add = text && (!strncmp(name, "embeddings.", 11) || !strncmp(name, "encoder.", 8) ||
                        !strncmp(name, "final_layer_norm.", 17));
    enum name_form form = NAME_SAME;

    p->name[0] = '\0';
    snprintf(full, sizeof full, "%s%s", add ? flat : "", name);
    if (!strcmp(component, "text_encoder"))
        snprintf(theirs, sizeof theirs, "%.255s", full);
    else
        form = name_to_single(p->store, text ? "openclip" : component, full, theirs);
    if (form == NAME_NONE)
        return STYX_OK;
    snprintf(p->name, sizeof p->name, "%s%s", prefix, theirs);
    if (form == NAME_FUSED)
        return find_fused(plan, p, name);
    if (form == NAME_TRANSPOSED && p->dims == 2) {
        p->transposed = true;
        p->shape[0] = p->from[0]->shape[1];
        p->shape[1] = p->from[0]->shape[0];
    }
    if (p->dims == 2 && strstr(theirs, ".mid.attn_1.")) /* the VAE's are 1x1 convolutions there */
        p->dims = 4, p->shape[2] = p->shape[3] = 1;
    return STYX_OK;
}

static int add_part(struct plan *plan, const struct convert_part *part, const char *prefix)
{
    int rc = STYX_OK;
    for (int i = 0; !rc && i < store_count(part->store); i++) {
        const struct entry *e = store_at(part->store, i);
        struct piece *p = &plan->pieces[plan->npieces];
        if (e->companion)
            continue;
        if (e->dims < 0 || strlen(e->name) >= NAME_BYTES - 16)
            return fail(plan->err, STYX_ERR_UNSUPPORTED,
                        "%s: tensor '%s' has too many dimensions or too long a name",
                        store_path(part->store), SHOW(e->name));
        *p = (struct piece){ .store = part->store, .from = { e }, .nfrom = 1, .dims = e->dims };
        memcpy(p->shape, e->shape, sizeof p->shape);
        if (prefix)
            rc = single_name(plan, p, part->component, prefix);
        else
            snprintf(p->name, sizeof p->name, "%s", e->name);
        if (rc || !p->name[0])
            continue;
        p->type = type_of(plan, p);
        for (int k = 0; k < p->nfrom; k++)
            plan->all += p->from[k]->bytes;
        plan->npieces++;
    }
    return rc;
}

/* Wide types first, so that all are aligned; 8-bit ones, whose scales follow them, last. */
static int by_width_and_name(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    size_t wx = dtype_bytes(x->type), wy = dtype_bytes(y->type);
    return wx != wy ? (wx < wy ? 1 : -1) : strcmp(x->name, y->name);
}

/* ---- Writing. ---- */

struct stream {
    struct plan *plan;
    struct saver *to;
    float *values;                 /* CHUNK */
    unsigned char *bytes;          /* CHUNK numbers of the written type */
    uint16_t *scales, *next_scale; /* of the whole tensor, for safetensors */
};

/* n integers and their scales, which lie at next_scale. */
static int put_eight(struct stream *s, const int8_t *q, size_t n)
{
    unsigned char *out = (unsigned char *)s->values; /* values are read: blocks fit there */
    size_t blocks = n / Q8_0_ELEMENTS;

    if (!s->plan->gguf) {
        s->next_scale += blocks;
        return save_put(s->to, q, n, s->plan->err);
    }
    for (size_t i = 0; i < blocks; i++, out += Q8_0_BYTES) {
        out[0] = (unsigned char)(s->next_scale[i] & 255);
        out[1] = (unsigned char)(s->next_scale[i] >> 8);
        memcpy(out + 2, q + i * Q8_0_ELEMENTS, Q8_0_ELEMENTS);
    }
    return save_put(s->to, s->values, blocks * Q8_0_BYTES, s->plan->err);
}

/* n numbers, converted. */
static int put_values(struct stream *s, const struct piece *p, const float *values, size_t n)
{
    styx_error *err = s->plan->err;
    int8_t *q = (int8_t *)s->bytes;

    if (p->type != DT_I8) {
        dtype_from_f32(p->type, values, s->bytes, n);
        for (size_t i = 0; p->type == DT_F16 && i < n; i++)
            if ((((uint16_t *)s->bytes)[i] & 0x7fff) == 0x7c00 && !isinf(values[i]))
                return fail(err, STYX_ERR_INVALID,
                            "%s: tensor '%s' holds %g, too large for F16: use bf16",
                            store_path(p->store), SHOW(p->from[0]->name), (double)values[i]);
        return save_put(s->to, s->bytes, n * dtype_bytes(p->type), err);
    }
    if (!q8_0_quantize(values, n, q, s->next_scale))
        return fail(err, STYX_ERR_INVALID, "%s: tensor '%s' holds a number that 8 bits cannot",
                    store_path(p->store), SHOW(p->from[0]->name));
    return put_eight(s, q, n);
}

/* Scales times integers in blocks of 32 already: no second rounding. */
static bool same_blocks(const struct piece *p, const struct entry *e, const struct span *span)
{
    const struct quant *quant = quant_by_name(e->type);
    if (p->type != DT_I8)
        return false;
    return quant
               ? quant->split != NULL
               : span->scale && span_count(span) / (size_t)span->shape[0] / (size_t)span->groups ==
                                    Q8_0_ELEMENTS;
}

static int put_blocks(struct stream *s, const struct entry *e, const struct span *span)
{
    const struct quant *quant = quant_by_name(e->type);
    const unsigned char *data = span->data;
    size_t each = quant ? (size_t)quant->blocks.bytes : Q8_0_ELEMENTS;
    int rc = STYX_OK;

    for (size_t at = 0, n; !rc && at < e->count; at += n) {
        int8_t *q = (int8_t *)s->bytes;
        n = e->count - at < CHUNK ? e->count - at : CHUNK;
        for (size_t i = 0; i < n / Q8_0_ELEMENTS; i++, q += Q8_0_ELEMENTS, data += each) {
            if (quant) {
                quant->split(data, q, &s->next_scale[i]);
                continue;
            }
            memcpy(&s->next_scale[i], (const char *)span->scale + (at / Q8_0_ELEMENTS + i) * 2, 2);
            memcpy(q, data, Q8_0_ELEMENTS);
        }
        rc = put_eight(s, (int8_t *)s->bytes, n);
    }
    return rc;
}

static int put_transposed(struct stream *s, const struct piece *p, const struct span *span)
{
    size_t rows = (size_t)span->shape[0], columns = (size_t)span->shape[1], n = rows * columns;
    float *a = malloc(n * 4 + 1), *b = malloc(n * 4 + 1);
    int rc = a && b ? STYX_OK : fail_nomem(s->plan->err, n * 8);

    if (!rc)
        span_read(span, 0, n, a);
    for (size_t i = 0; !rc && i < n; i++)
        b[i % columns * rows + i / columns] = a[i];
    for (size_t at = 0; !rc && at < n; at += CHUNK) {
        size_t some = n - at < CHUNK ? n - at : CHUNK;
        memcpy(s->values, b + at, some * 4);
        rc = put_values(s, p, s->values, some);
    }
    free(a);
    free(b);
    return rc;
}

static int put_source(struct stream *s, const struct piece *p, const struct entry *e)
{
    struct span span;
    styx_error *err = s->plan->err;
    int rc = store_span(p->store, e, &span, err);

    if (rc)
        return rc;
    if (p->transposed)
        rc = put_transposed(s, p, &span);
    else if (same_blocks(p, e, &span))
        rc = put_blocks(s, e, &span);
    else if (span.type == p->type && span_plain(&span))
        rc = save_put(s->to, span.data, span_count(&span) * dtype_bytes(span.type), err);
    else
        for (size_t at = 0; !rc && at < e->count; at += CHUNK) {
            size_t n = e->count - at < CHUNK ? e->count - at : CHUNK;
            span_read(&span, at, n, s->values);
            rc = put_values(s, p, s->values, n);
        }
    store_forget(p->store, e);
    return rc;
}

static int put_piece(struct stream *s, const struct piece *p)
{
    struct plan *plan = s->plan;
    size_t scales = p->type == DT_I8 ? count_of(p) / Q8_0_ELEMENTS + CHUNK / Q8_0_ELEMENTS : 0;
    int rc = STYX_OK;

    s->scales = s->next_scale = malloc(scales * 2 + 1);
    if (!s->scales)
        return fail_nomem(plan->err, scales * 2);
    for (int i = 0; !rc && i < p->nfrom; i++) {
        rc = put_source(s, p, p->from[i]);
        plan->done += p->from[i]->bytes;
    }
    if (!rc)
        rc = save_pad(s->to, plan->err);
    if (!rc && s->next_scale != s->scales)
        rc = save_put(s->to, s->scales, (size_t)(s->next_scale - s->scales) * 2, plan->err);
    free(s->scales);
    const struct convert_options *o = plan->options;
    if (!rc && o->progress && o->progress(o->ctx, plan->done, plan->all))
        rc = fail(plan->err, STYX_ERR_CANCELLED, "%s: not written: cancelled", plan->path);
    return rc;
}

/* The header's view of the pieces: in safetensors, 8-bit ones are two tensors. */
static int list_saved(const struct plan *plan, struct saved **list, char **scale_names, int *nlist)
{
    size_t room = 2 * (size_t)plan->npieces + 1, each = sizeof plan->pieces->name + 8;
    int n = 0;

    *list = calloc(room, sizeof **list);
    *scale_names = malloc(room * each);
    if (!*list || !*scale_names)
        return fail_nomem(plan->err, room * (sizeof **list + each));
    for (int i = 0; i < plan->npieces; i++) {
        const struct piece *p = &plan->pieces[i];
        struct saved *t = &(*list)[n++];
        *t = (struct saved){ .name = p->name, .type = p->type, .dims = p->dims };
        memcpy(t->shape, p->shape, sizeof t->shape);
        if (p->type != DT_I8 || plan->gguf)
            continue;
        char *name = *scale_names + (size_t)i * each;
        snprintf(name, each, "%s.scale", p->name);
        int groups = (int)(count_of(p) / (size_t)p->shape[0] / Q8_0_ELEMENTS);
        (*list)[n++] = (struct saved){
            .name = name, .type = DT_F16, .dims = 2, .shape = { p->shape[0], groups }
        };
    }
    *nlist = n;
    return STYX_OK;
}

/* The metadata of all parts, without repetitions: key, value, ..., NULL, borrowed. */
static const char **list_metadata(const struct convert_part *parts, int nparts, bool gguf)
{
    const char **list, *key, *value;
    size_t n = 0;

    for (int i = 0; i < nparts; i++)
        for (int k = 0; store_metadata_at(parts[i].store, k, &key, &value); k++)
            n++;
    list = calloc(2 * n + 5, sizeof *list);
    if (!list)
        return NULL;
    n = 0;
    list[n++] = gguf ? "general.architecture" : "format"; /* both are expected by readers */
    list[n++] = gguf ? "sd" : "pt";
    for (int i = 0; i < nparts; i++)
        for (int k = 0; store_metadata_at(parts[i].store, k, &key, &value); k++) {
            size_t at = 0;
            while (at < n && strcmp(list[at], key))
                at += 2;
            list[at] = key;
            list[at + 1] = value;
            n = at == n ? n + 2 : n;
        }
    return list;
}

static int write_pieces(struct plan *plan, const char *const *metadata)
{
    struct saved *list = NULL;
    char *scale_names = NULL;
    int nlist = 0, rc = list_saved(plan, &list, &scale_names, &nlist);
    struct stream s = { .plan = plan,
                        .values = malloc(CHUNK * sizeof(float)),
                        .bytes = malloc(CHUNK * sizeof(float)) };

    if (!rc && (!s.values || !s.bytes))
        rc = fail_nomem(plan->err, CHUNK * sizeof(float));
    if (!rc)
        rc = (plan->gguf ? save_open_gguf : save_open)(plan->path, list, nlist, metadata,
                                                       plan->options->flags, &s.to, plan->err);
    for (int i = 0; !rc && i < plan->npieces; i++)
        rc = put_piece(&s, &plan->pieces[i]);
    if (!rc)
        rc = save_close(s.to, plan->err);
    save_drop(s.to);
    free(s.values);
    free(s.bytes);
    free(list);
    free(scale_names);
    return rc;
}

int convert_write(const char *path, const struct convert_part *parts, int nparts,
                  const struct convert_options *options, styx_error *err)
{
    struct plan plan = {
        .gguf = !strcmp(path_extension(path), "gguf"), .options = options, .path = path, .err = err
    };
    const char **metadata = NULL;
    int rc = STYX_OK;
    size_t n = 1;

    if (!options->single && nparts != 1)
        return fail(err, STYX_ERR_INVALID,
                    "%s: several components under diffusers names need a folder each", path);
    for (int i = 0; i < nparts; i++)
        n += (size_t)store_count(parts[i].store);
    plan.pieces = calloc(n, sizeof *plan.pieces);
    metadata = list_metadata(parts, nparts, plan.gguf);
    if (!plan.pieces || !metadata)
        rc = fail_nomem(err, n * sizeof *plan.pieces);
    for (int i = 0; !rc && i < nparts; i++)
        rc = add_part(&plan, &parts[i],
                      options->single ? prefix_of(parts, nparts, parts[i].component) : NULL);
    if (!rc) {
        qsort(plan.pieces, (size_t)plan.npieces, sizeof *plan.pieces, by_width_and_name);
        rc = write_pieces(&plan, metadata);
    }
    free(metadata);
    free(plan.pieces);
    return rc;
}
