#include "weights/store.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"

struct kept {
    void *thing;
    void (*release)(void *thing);
};

struct pair {
    char *key, *value;
};

struct store {
    atomic_int refs;
    char *path, *note;
    struct entry *entries;
    struct kept *kept;
    struct pair *pairs;
    int nentries, nkept, npairs;
};

/* Room for one more of *list, doubling at powers of two. */
static int grow(void *list, int n, size_t each, styx_error *err)
{
    void **at = list;
    if (n & (n - 1))
        return STYX_OK;
    void *more = realloc(*at, (n ? 2 * (size_t)n : 1) * each);
    if (!more)
        return fail_nomem(err, 2 * (size_t)n * each);
    *at = more;
    return STYX_OK;
}

struct store *store_new(const char *path)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->path = strdup(path);
    if (!s->path) {
        free(s);
        return NULL;
    }
    atomic_init(&s->refs, 1);
    return s;
}

struct store *store_ref(struct store *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void store_unref(struct store *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (int i = 0; i < s->nentries; i++)
        free((char *)s->entries[i].name);
    for (int i = s->nkept - 1; i >= 0; i--)
        s->kept[i].release(s->kept[i].thing);
    for (int i = 0; i < s->npairs; i++) {
        free(s->pairs[i].key);
        free(s->pairs[i].value);
    }
    free(s->entries);
    free(s->kept);
    free(s->pairs);
    free(s->path);
    free(s->note);
    free(s);
}

int store_add(struct store *s, const struct entry *e, styx_error *err)
{
    int rc = grow(&s->entries, s->nentries, sizeof *s->entries, err);
    char *name = rc ? NULL : strdup(e->name);
    if (rc)
        return rc;
    if (!name)
        return fail_nomem(err, strlen(e->name) + 1);
    s->entries[s->nentries] = *e;
    s->entries[s->nentries++].name = name;
    return STYX_OK;
}

int store_set_metadata(struct store *s, const char *key, const char *value, styx_error *err)
{
    int rc = grow(&s->pairs, s->npairs, sizeof *s->pairs, err);
    if (rc)
        return rc;
    struct pair p = { strdup(key), strdup(value) };
    if (!p.key || !p.value) {
        free(p.key);
        free(p.value);
        return fail_nomem(err, strlen(key) + strlen(value) + 2);
    }
    s->pairs[s->npairs++] = p;
    return STYX_OK;
}

int store_set_note(struct store *s, const char *note, styx_error *err)
{
    char *copy = strdup(note);
    if (!copy)
        return fail_nomem(err, strlen(note) + 1);
    free(s->note);
    s->note = copy;
    return STYX_OK;
}

int store_keep(struct store *s, void *thing, void (*release)(void *thing), styx_error *err)
{
    int rc = grow(&s->kept, s->nkept, sizeof *s->kept, err);
    if (rc) {
        release(thing);
        return rc;
    }
    s->kept[s->nkept++] = (struct kept){ thing, release };
    return STYX_OK;
}

static void release_store(void *s)
{
    store_unref(s);
}

int store_keep_store(struct store *s, struct store *other, styx_error *err)
{
    return store_keep(s, store_ref(other), release_store, err);
}

static void release_map(void *map)
{
    file_unmap(map);
    free(map);
}

static bool in_map(const struct file_map *map, const void *data)
{
    const unsigned char *at = data;
    return map->data && at >= map->data && at < map->data + map->bytes;
}

/* Tells the spans of s, which were just parsed, their file. The header's pages have done their
 * duty. */
static void tie_file(struct store *s, const struct file_map *map)
{
    for (int i = 0; i < s->nentries; i++) {
        struct span *span = &s->entries[i].span;
        if (in_map(map, span->data))
            span->file = map;
    }
    file_map_forget(map);
}

int store_open_mapped(const char *path,
                      int (*parse)(const unsigned char *data, size_t bytes, const char *path,
                                   struct store *into, styx_error *err),
                      struct store **out, styx_error *err)
{
    struct store *s = store_new(path);
    struct file_map *map = calloc(1, sizeof *map);
    int rc;

    *out = NULL;
    if (!s || !map) {
        free(map);
        rc = fail_nomem(err, sizeof *map);
        goto done;
    }
    rc = file_map(path, map, err);
    if (rc) {
        free(map);
        goto done;
    }
    if ((rc = store_keep(s, map, release_map, err)) ||
        (rc = parse(map->data, map->bytes, path, s, err)))
        goto done;
    tie_file(s, map);
    if ((rc = store_seal(s, err)))
        goto done;
    *out = s;
    s = NULL;
done:
    store_unref(s);
    return rc;
}

const char *store_path(const struct store *s)
{
    return s->path;
}

const char *store_note(const struct store *s)
{
    return s->note;
}

const char *store_metadata(const struct store *s, const char *key)
{
    for (int i = 0; i < s->npairs; i++)
        if (!strcmp(s->pairs[i].key, key))
            return s->pairs[i].value;
    return NULL;
}

bool store_metadata_at(const struct store *s, int i, const char **key, const char **value)
{
    if (i >= s->npairs)
        return false;
    *key = s->pairs[i].key;
    *value = s->pairs[i].value;
    return true;
}

int store_count(const struct store *s)
{
    return s->nentries;
}

const struct entry *store_at(const struct store *s, int i)
{
    return &s->entries[i];
}

int store_index(const struct store *s, const struct entry *e)
{
    return (int)(e - s->entries);
}

/* The first entry whose name is not below name. */
static int lower_bound(const struct store *s, const char *name)
{
    int low = 0, high = s->nentries;
    while (low < high) {
        int mid = low + (high - low) / 2;
        if (strcmp(s->entries[mid].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const struct entry *store_find(const struct store *s, const char *name)
{
    int i = lower_bound(s, name);
    return i < s->nentries && !strcmp(s->entries[i].name, name) ? &s->entries[i] : NULL;
}

bool store_has_prefix(const struct store *s, const char *prefix)
{
    int i = lower_bound(s, prefix);
    return i < s->nentries && !strncmp(s->entries[i].name, prefix, strlen(prefix));
}

/* Why a span is no use, if it is not. */
static int check_span(const struct store *s, const struct entry *e, const struct span *span,
                      styx_error *err)
{
    if (e->dims < 0)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: tensor '%s' has more than 4 dimensions or too long a one", s->path,
                    SHOW(e->name));
    if (!span->data)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: tensor '%s' is %s, which is not supported: convert it to F16, BF16 or F32",
                    s->path, SHOW(e->name), e->type);
    /* A third of a fused projection could end within a block. */
    if (span->blocks && e->count % (uint64_t)span->blocks->elements)
        return fail(err, STYX_ERR_FORMAT, "%s: tensor '%s' is no whole number of %s blocks",
                    s->path, SHOW(e->name), e->type);
    if (span->type == DT_I8 && !span->scale)
        return fail(err, STYX_ERR_FORMAT, "%s: tensor '%s' is I8 without its scales, '%s.scale'",
                    s->path, SHOW(e->name), SHOW(e->name));
    return STYX_OK;
}

int store_span(const struct store *s, const struct entry *e, struct span *span, styx_error *err)
{
    *span = e->span;
    return check_span(s, e, span, err);
}

/* Is it in a mapped file? Dropping pages of other memory would lose what is in it. */
static bool is_mapped(const struct store *s, const unsigned char *data)
{
    for (int i = 0; i < s->nkept; i++) {
        if (s->kept[i].release == release_map && in_map(s->kept[i].thing, data))
            return true;
        if (s->kept[i].release == release_store && is_mapped(s->kept[i].thing, data))
            return true;
    }
    return false;
}

void store_forget(const struct store *s, const struct entry *e)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)e->raw + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)e->raw + e->bytes) / page * page;
    if (begin < end && is_mapped(s, e->raw))
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

void store_forget_all(const struct store *s)
{
    for (int i = 0; i < s->nkept; i++) {
        if (s->kept[i].release == release_map)
            file_map_forget(s->kept[i].thing);
        if (s->kept[i].release == release_store)
            store_forget_all(s->kept[i].thing);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* An I8 tensor NAME is used with NAME.scale, F16 of [rows, groups] (docs/formats.md). */
static int tie_scale(struct store *s, struct entry *weight, styx_error *err)
{
    char name[512];
    size_t length = strlen(weight->name);

    if (length + sizeof ".scale" > sizeof name)
        return STYX_OK;
    memcpy(name, weight->name, length);
    memcpy(name + length, ".scale", sizeof ".scale");
    struct entry *e = (struct entry *)store_find(s, name);
    if (!e)
        return STYX_OK;
    if (strcmp(e->type, "F16") || e->dims != 2 || weight->dims < 2 ||
        e->shape[0] != weight->shape[0] || !weight->count || !e->shape[1] ||
        weight->count / (uint64_t)weight->shape[0] % (uint64_t)e->shape[1])
        return fail(err, STYX_ERR_FORMAT,
                    "%s: '%s' must be F16 of [rows, groups] for the rows of its tensor", s->path,
                    SHOW(name));
    e->companion = true;
    weight->span.scale = e->span.data;
    if (e->span.file != weight->span.file) /* another shard: each through its mapping */
        weight->span.file = NULL;
    weight->span.groups = e->shape[1];
    return STYX_OK;
}

/* ComfyUI's scaled 8-bit floats: without the scale the numbers would be wrong. */
static bool is_scaled_f8(const struct store *s, const struct entry *e)
{
    char name[512];
    size_t length = strlen(e->name);

    if (strncmp(e->type, "F8_", 3) || length < 7 || length > sizeof name - 16 ||
        strcmp(e->name + length - 7, ".weight"))
        return false;
    snprintf(name, sizeof name, "%.*s.scale_weight", (int)length - 7, e->name);
    return store_find(s, name) != NULL;
}

int store_seal(struct store *s, styx_error *err)
{
    if (s->nentries)
        qsort(s->entries, (size_t)s->nentries, sizeof *s->entries, by_name);
    for (int i = 1; i < s->nentries; i++)
        if (!strcmp(s->entries[i - 1].name, s->entries[i].name))
            return fail(err, STYX_ERR_FORMAT, "%s: tensor '%s' is there twice", s->path,
                        SHOW(s->entries[i].name));
    for (int i = 0; i < s->nentries; i++) {
        struct entry *e = &s->entries[i];
        if (is_scaled_f8(s, e))
            e->span.data = NULL;
        int rc = e->span.data && e->span.type == DT_I8 ? tie_scale(s, e, err) : STYX_OK;
        if (rc)
            return rc;
    }
    return STYX_OK;
}

static int by_bytes(const void *a, const void *b)
{
    const struct store_type *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

void store_summarize(const struct store *s, struct store_summary *sum)
{
    enum { MOST = sizeof sum->types / sizeof *sum->types };
    *sum = (struct store_summary){ 0 };
    for (int i = 0; i < s->nentries; i++) {
        const struct entry *e = &s->entries[i];
        int k = 0;
        sum->bytes += e->bytes;
        while (k < sum->ntypes && strcmp(sum->types[k].type, e->type))
            k++;
        if (k == sum->ntypes && k < MOST)
            sum->types[sum->ntypes++].type = e->type;
        if (k < MOST)
            sum->types[k].bytes += e->bytes;
        if (e->companion)
            continue;
        sum->tensors++;
        sum->parameters += e->count;
        if (k < MOST) {
            sum->types[k].tensors++;
            sum->types[k].parameters += e->count;
        }
    }
    qsort(sum->types, (size_t)sum->ntypes, sizeof *sum->types, by_bytes);
}

struct shown store_show(const char *name)
{
    struct shown shown;
    size_t i = 0;
    for (; name[i] && i < sizeof shown.text - 4; i++)
        shown.text[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
    memcpy(shown.text + i, name[i] ? "..." : "", name[i] ? 4 : 1);
    return shown;
}
