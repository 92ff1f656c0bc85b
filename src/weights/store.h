/* store.h - the weights of one component, by name, wherever they lie.
 *
 * A store is a sorted list of named spans together with what keeps them alive: mapped files, memory
 * of its own, other stores. Once made it never changes, any thread may read it, and it lives until
 * its last reference is dropped; so do the spans that it gave out.
 *
 *     struct store *weights = NULL;
 *     struct store_report report = { 0 };
 *     if ((rc = store_open_component(folder, "model", "fp16", &weights, err)) ||
 *         (rc = store_bind(weights, t->params, t->nparams, spans, &report, err)))
 *         goto done;
 */
#ifndef STYX_WEIGHTS_STORE_H
#define STYX_WEIGHTS_STORE_H
#include "base/error.h"
#include "tape/span.h"
#include "tape/tape.h"
#include <stdbool.h>

struct store;

/* Opens one weights file, safetensors or GGUF (told by its first bytes). */
int store_open_file(const char *path, struct store **out, styx_error *err);

/* Opens FOLDER/STEM[.VARIANT].safetensors, or its shards with their index, or FOLDER/STEM.gguf.
 * stem: "diffusion_pytorch_model" or "model". Without a file of that variant the plain one is
 * taken, and store_note says so. variant may be NULL: the plain file, or that of fp16 where there
 * is no other. */
int store_open_component(const char *folder, const char *stem, const char *variant,
                         struct store **out, styx_error *err);

struct store *store_ref(struct store *s);
void store_unref(struct store *s); /* NULL is fine */

const char *store_path(const struct store *s); /* the file or index that was opened */
const char *store_note(const struct store *s); /* something to warn about, or NULL */
/* A value of the file's __metadata__ (GGUF: a string of its header), or NULL. */
const char *store_metadata(const struct store *s, const char *key);
/* The i-th pair of the metadata; false beyond the last. */
bool store_metadata_at(const struct store *s, int i, const char **key, const char **value);

/* One tensor of a file. */
struct entry {
    const char *name;
    const char *type;   /* as the file spells it: "F16", "F8_E4M3", "Q4_K" */
    int dims, shape[4]; /* dims is -1 if it has more than four, or one too large */
    uint64_t count;     /* numbers */
    uint64_t bytes;     /* in the file */
    struct span span;   /* span.data is NULL if it cannot be used */
    const void *raw;    /* where it lies in the file */
    bool companion;     /* the scales of an 8-bit tensor: no tensor of its own */
};

/* The span of an entry as it lies in the file; data is to be set if `raw` is not known yet. */
static inline struct span entry_span(const struct entry *e, enum dtype type)
{
    struct span span = { .data = e->raw, .type = type, .dims = e->dims };
    memcpy(span.shape, e->shape, sizeof span.shape);
    return span;
}

int store_count(const struct store *s);
const struct entry *store_at(const struct store *s, int i);              /* sorted by name */
int store_index(const struct store *s, const struct entry *e);           /* the reverse */
const struct entry *store_find(const struct store *s, const char *name); /* exact; or NULL */
bool store_has_prefix(const struct store *s, const char *prefix);

/* The numbers of e. Fails on a type that is not supported and on 8-bit weights without scales. */
int store_span(const struct store *s, const struct entry *e, struct span *span, styx_error *err);

/* The file's bytes of e, or of all, will not be wanted soon: they need not stay in memory. */
void store_forget(const struct store *s, const struct entry *e);
void store_forget_all(const struct store *s);

/* What a program wants and a file has. Give the same report to several store_bind calls (programs
 * that share a component), then ask store_unused. */
struct store_report {
    int missing, misshapen, unusable, unexpected;
    char *text;          /* one line a tensor, or NULL */
    unsigned char *used; /* by store_bind, one flag an entry */
};
void store_report_free(struct store_report *r);

/* Finds every parameter by its name or an older alias of it (docs/names.md) and writes
 * spans[0..nparams), each with the shape of its parameter: a 1x1 convolution may be stored as a
 * matrix, and the reverse. All that is wrong goes into the report (may be NULL) before it fails;
 * the message counts and names the first few. */
int store_bind(struct store *s, const param *params, int nparams, struct span *spans,
               struct store_report *report, styx_error *err);

/* Adds to the report the tensors that no store_bind used and that are not known to be idle
 * (position_ids, logit_scale, model_ema...). Not an error: the caller warns. */
int store_unused(const struct store *s, struct store_report *report, styx_error *err);

struct store_type {
    const char *type;
    int tensors;
    uint64_t parameters, bytes;
};
struct store_summary {
    int tensors;
    uint64_t parameters, bytes;  /* bytes of tensor data in the file */
    struct store_type types[24]; /* most bytes first */
    int ntypes;
};
void store_summarize(const struct store *s, struct store_summary *sum);

/* ---- Making stores: for the readers of formats (safetensors.c, gguf.c, names.c, lora.c). ---- */

/* A store being made. path is what messages call it. NULL when out of memory. */
struct store *store_new(const char *path);
/* Copies *e and its name; e->type must be a literal or outlive the store. */
int store_add(struct store *s, const struct entry *e, styx_error *err);
int store_set_metadata(struct store *s, const char *key, const char *value, styx_error *err);
int store_set_note(struct store *s, const char *note, styx_error *err);
/* Hands over what keeps spans alive; release(thing) is called when the store goes, and at once if
 * this fails. */
int store_keep(struct store *s, void *thing, void (*release)(void *thing), styx_error *err);
int store_keep_store(struct store *s, struct store *other, styx_error *err); /* by a reference */
/* Sorts, refuses duplicate names, ties 8-bit tensors to their scales. Nothing may be added after.
 */
int store_seal(struct store *s, styx_error *err);

/* Maps a file and makes a store of what parse finds in it. */
int store_open_mapped(const char *path,
                      int (*parse)(const unsigned char *data, size_t bytes, const char *path,
                                   struct store *into, styx_error *err),
                      struct store **out, styx_error *err);

/* A name from a file, made fit for a message: shortened, without control characters. */
struct shown {
    char text[100];
};
struct shown store_show(const char *name);
#define SHOW(name) store_show(name).text

#endif
