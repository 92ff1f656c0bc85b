#include "weights/embedding.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"

enum { FIRST, SECOND, NENCODERS }; /* CLIP-L, bigG */

struct embedding {
    struct store *file;
    char *word;
    const struct entry *table[NENCODERS]; /* [rows, width] or [width]; NULL: not in the file */
    int rows;
};

static int encoder_of(const char *component)
{
    return strcmp(component, "text_encoder_2") ? FIRST : SECOND;
}

static int rows_of(const struct entry *e)
{
    return e->dims == 2 ? e->shape[0] : 1;
}

static int width_of(const struct entry *e)
{
    return e->shape[e->dims - 1];
}

/* "dir/word.safetensors" is of word. */
static char *word_of_file(const char *path)
{
    const char *base = path_base(path), *extension = path_extension(path);
    size_t length = *extension ? (size_t)(extension - base) - 1 : strlen(base);
    return strndup(base, length);
}

static int find_tables(struct embedding *e, const char **word, styx_error *err)
{
    static const char *const keys[NENCODERS] = { "clip_l", "clip_g" };
    const char *path = store_path(e->file);

    *word = NULL;
    for (int i = 0; i < NENCODERS; i++)
        e->table[i] = store_find(e->file, keys[i]);
    if (!e->table[FIRST] && !e->table[SECOND]) {
        e->table[FIRST] = store_find(e->file, "emb_params");
        if (!e->table[FIRST] && (e->table[FIRST] = store_find(e->file, "string_to_param.*")))
            *word = store_metadata(e->file, "name"); /* an A1111 .pt that was converted */
        if (!e->table[FIRST] && store_count(e->file) == 1) {
            e->table[FIRST] = store_at(e->file, 0);
            *word = e->table[FIRST]->name;
        }
    }
    if (!e->table[FIRST] && !e->table[SECOND])
        return fail(err, STYX_ERR_FORMAT,
                    "%s: is no textual inversion: one tensor, or 'emb_params', or 'clip_l' and "
                    "'clip_g' were wanted",
                    path);
    for (int i = 0; i < NENCODERS; i++) {
        const struct entry *t = e->table[i];
        if (!t)
            continue;
        if (t->dims < 1 || t->dims > 2 || !t->count)
            return fail(err, STYX_ERR_FORMAT, "%s: tensor '%s' is no list of token vectors", path,
                        SHOW(t->name));
        if (e->rows && e->rows != rows_of(t))
            return fail(err, STYX_ERR_FORMAT, "%s: clip_l has %d vectors, clip_g %d", path, e->rows,
                        rows_of(t));
        e->rows = rows_of(t);
    }
    return STYX_OK;
}

int embedding_open(const char *path, const char *word, struct embedding **out, styx_error *err)
{
    struct embedding *e = calloc(1, sizeof *e);
    const char *own;
    int rc;

    *out = NULL;
    if (!e)
        return fail_nomem(err, sizeof *e);
    if ((rc = store_open_file(path, &e->file, err)) || (rc = find_tables(e, &own, err)))
        goto done;
    e->word = word ? strdup(word) : own ? strdup(own) : word_of_file(path);
    if (!e->word) {
        rc = fail_nomem(err, strlen(path));
        goto done;
    }
    *out = e;
    e = NULL;
done:
    embedding_free(e);
    return rc;
}

void embedding_free(struct embedding *e)
{
    if (!e)
        return;
    store_unref(e->file);
    free(e->word);
    free(e);
}

const char *embedding_word(const struct embedding *e)
{
    return e->word;
}

int embedding_rows(const struct embedding *e)
{
    return e->rows;
}

bool embedding_has(const struct embedding *e, const char *component)
{
    return e->table[encoder_of(component)] != NULL;
}

int embedding_width(const struct embedding *e, const char *component)
{
    const struct entry *t = e->table[encoder_of(component)];
    return t ? width_of(t) : 0;
}

/* The vectors for an encoder of that width. A table without the name of one is for any. */
static const struct entry *table_for(const struct embedding *e, int encoder, int width)
{
    const struct entry *first = e->table[FIRST];
    bool nameless = first && !e->table[SECOND] && strcmp(first->name, "clip_l") != 0;
    return nameless && width_of(first) == width ? first : e->table[encoder];
}

static const struct entry *token_table(const struct store *s)
{
    static const char *const names[] = { "text_model.embeddings.token_embedding.weight",
                                         "embeddings.token_embedding.weight" };
    const struct entry *e = store_find(s, names[0]);
    e = e ? e : store_find(s, names[1]);
    return e && e->dims == 2 ? e : NULL;
}

/* Rows of s, converted to type, to the end of what table already holds. */
static int append_rows(struct store *s, const struct entry *e, enum dtype type, char **table,
                       styx_error *err)
{
    enum { CHUNK = 4096 };
    float values[CHUNK];
    struct span span;
    int rc = store_span(s, e, &span, err);

    for (size_t at = 0; !rc && at < e->count; at += CHUNK) {
        size_t n = e->count - at < CHUNK ? e->count - at : CHUNK;
        span_read(&span, at, n, values);
        dtype_from_f32(type, values, *table, n);
        *table += n * dtype_bytes(type);
    }
    return rc;
}

static int check_widths(const struct entry *old, int encoder, struct embedding *const *embeddings,
                        int n, size_t *rows, styx_error *err)
{
    *rows = (size_t)old->shape[0];
    for (int i = 0; i < n; i++) {
        const struct embedding *e = embeddings[i];
        const struct entry *t = table_for(e, encoder, old->shape[1]);
        if (!t)
            return fail(err, STYX_ERR_INVALID,
                        "%s: has no vectors for %s ('%s'): it is for another kind of model",
                        store_path(e->file), encoder == FIRST ? "text_encoder" : "text_encoder_2",
                        encoder == FIRST ? "clip_l" : "clip_g");
        if (width_of(t) != old->shape[1])
            return fail(err, STYX_ERR_INVALID,
                        "%s: its vectors have %d numbers, those of the model's text encoder %d: it "
                        "is for another kind of model",
                        store_path(e->file), width_of(t), old->shape[1]);
        *rows += (size_t)e->rows;
    }
    return STYX_OK;
}

/* All of base but its table, and the new one. */
static int fill(struct store *s, struct store *base, const struct entry *old,
                const struct entry *table, styx_error *err)
{
    int rc = store_keep_store(s, base, err);
    for (int i = 0; !rc && i < store_count(base); i++) {
        const struct entry *e = store_at(base, i);
        rc = store_add(s, e == old ? table : e, err);
    }
    return rc ? rc : store_seal(s, err);
}

int embedding_merge(struct store *base, const char *component, struct embedding *const *embeddings,
                    int nembeddings, enum dtype type, struct store **out, styx_error *err)
{
    const struct entry *old = token_table(base);
    int rc, encoder = encoder_of(component);
    struct store *s = NULL;
    size_t rows;

    *out = NULL;
    if (!old)
        return fail(err, STYX_ERR_FORMAT, "%s: has no table of token embeddings", store_path(base));
    if ((rc = check_widths(old, encoder, embeddings, nembeddings, &rows, err)))
        return rc;

    struct entry e = *old;
    e.count = rows * (size_t)old->shape[1];
    e.bytes = e.count * dtype_bytes(type);
    e.shape[0] = (int)rows;
    e.type = dtype_name(type);
    char *memory = malloc(e.bytes), *end = memory;
    if (!memory)
        return fail_nomem(err, e.bytes);
    e.raw = memory;
    e.span = (struct span){
        .data = memory, .type = type, .dims = 2, .shape = { e.shape[0], e.shape[1] }
    };
    rc = append_rows(base, old, type, &end, err);
    for (int i = 0; !rc && i < nembeddings; i++)
        rc = append_rows(embeddings[i]->file, table_for(embeddings[i], encoder, old->shape[1]),
                         type, &end, err);
    if (!rc && !(s = store_new(store_path(base))))
        rc = fail_nomem(err, strlen(store_path(base)));
    if (rc) {
        free(memory);
        return rc;
    }
    if (!(rc = store_keep(s, memory, free, err)) && !(rc = fill(s, base, old, &e, err))) {
        *out = s;
        s = NULL;
    }
    store_unref(s);
    return rc;
}
