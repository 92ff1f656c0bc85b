#include "text/special.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

enum { MAX_LENGTH = 1 << 16, MAX_SPECIALS = 1 << 13 };

/* What a config says of a token: a string, or an object of transformers' AddedToken. */
struct wish {
    const char *text; /* NULL: nothing */
    long id;
    bool normalized;
};

void specials_free(struct specials *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->v[i].text);
        runes_free(&s->v[i].normal);
    }
    free(s->v);
    *s = (struct specials){ 0 };
}

const struct special *specials_find(const struct specials *s, const char *text)
{
    for (size_t i = 0; i < s->count; i++)
        if (!strcmp(s->v[i].text, text))
            return &s->v[i];
    return NULL;
}

static int set_normal(struct special *t, bool normalized, styx_error *err)
{
    struct runes work[2] = { 0 };
    int rc = STYX_OK;

    t->normalized = normalized;
    t->normal.count = 0;
    if (normalized)
        rc = unicode_normalize(t->text, t->bytes, &t->normal, work, err);
    runes_free(&work[0]);
    runes_free(&work[1]);
    return rc;
}

static int append(struct specials *s, const char *text, int32_t id, styx_error *err)
{
    size_t bytes = strlen(text);

    if (s->count == MAX_SPECIALS)
        return fail(err, STYX_ERR_UNSUPPORTED, "the tokenizer has more than %d special tokens",
                    MAX_SPECIALS);
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 8;
        struct special *v = realloc(s->v, capacity * sizeof *v);
        if (!v)
            return fail_nomem(err, capacity * sizeof *v);
        s->v = v;
        s->capacity = capacity;
    }
    char *copy = malloc(bytes + 1);
    if (!copy)
        return fail_nomem(err, bytes + 1);
    memcpy(copy, text, bytes + 1);
    s->v[s->count++] = (struct special){ .text = copy, .bytes = bytes, .id = id };
    return STYX_OK;
}

int specials_add(struct specials *s, const struct vocab *v, const char *text, bool normalized,
                 styx_error *err)
{
    const struct special *known = specials_find(s, text);
    size_t at = known ? (size_t)(known - s->v) : s->count;

    if (!known) {
        int32_t id = vocab_find(v, text);
        int rc = append(s, text, id < 0 ? s->next_id : id, err);
        if (rc)
            return rc;
        s->next_id += id < 0;
    }
    return set_normal(&s->v[at], normalized, err);
}

int specials_copy(const struct specials *from, struct specials *s, styx_error *err)
{
    int rc = STYX_OK;

    *s = *from;
    s->v = NULL;
    s->count = s->capacity = 0;
    for (size_t i = 0; i < from->count && !rc; i++) {
        rc = append(s, from->v[i].text, from->v[i].id, err);
        if (!rc)
            rc = set_normal(&s->v[i], from->v[i].normalized, err);
    }
    if (rc)
        specials_free(s);
    return rc;
}

static int read_wish(const json_t *value, const char *where, const char *key, struct wish *wish,
                     styx_error *err)
{
    static const char *const flags[] = { "lstrip", "rstrip", "single_word" };
    bool flag;
    int rc;

    *wish = (struct wish){ 0 };
    if (!value || json_is_null(value))
        return STYX_OK;
    if (json_is_string(value)) {
        wish->text = json_string_value(value);
        return STYX_OK;
    }
    if (!json_is_object(value))
        return fail(err, STYX_ERR_FORMAT, "%s: '%s' is neither a string nor an object", where, key);
    for (int i = 0; i < 3; i++) {
        if ((rc = json_bool(value, where, flags[i], false, &flag, err)))
            return rc;
        if (flag)
            return fail(err, STYX_ERR_UNSUPPORTED, "%s: '%s' sets %s, which is not supported",
                        where, key, flags[i]);
    }
    if ((rc = json_text(value, where, "content", NULL, &wish->text, err)))
        return rc;
    return json_bool(value, where, "normalized", false, &wish->normalized, err);
}

struct wishes {
    struct wish *v;
    size_t count;
};

static int by_id(const void *a, const void *b)
{
    const struct wish *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

/* Adds an entry to the list, which has room for it; a later one of the same id replaces it. */
static void want(struct wishes *list, struct wish wish)
{
    size_t i = 0;

    if (!wish.text)
        return;
    while (i < list->count && list->v[i].id != wish.id)
        i++;
    list->v[i] = wish;
    list->count += i == list->count;
}

/* The documents that speak of special tokens. Absent ones are NULL. */
struct documents {
    char *config_path, *map_path, *added_path, *single_path;
    json_t *config, *map, *added, *single;
};

static int read_document(const char *folder, const char *name, char **path, json_t **root,
                         styx_error *err)
{
    *path = path_join(folder, name);
    if (!*path)
        return fail_nomem(err, strlen(folder));
    return file_exists(*path) ? json_file(*path, root, err) : STYX_OK;
}

static void forget(json_t **root)
{
    json_decref(*root);
    *root = NULL;
}

static int read_documents(const char *folder, struct documents *d, styx_error *err)
{
    int rc;

    if ((rc = read_document(folder, "tokenizer_config.json", &d->config_path, &d->config, err)) ||
        (rc = read_document(folder, "special_tokens_map.json", &d->map_path, &d->map, err)) ||
        (rc = read_document(folder, "added_tokens.json", &d->added_path, &d->added, err)) ||
        (rc = read_document(folder, "tokenizer.json", &d->single_path, &d->single, err)))
        return rc;
    /* A config with added_tokens_decoder is newer than the two other files and replaces them. */
    if (json_has(d->config, "added_tokens_decoder")) {
        forget(&d->map);
        forget(&d->added);
    }
    return STYX_OK;
}

static void documents_free(struct documents *d)
{
    forget(&d->config);
    forget(&d->map);
    forget(&d->added);
    forget(&d->single);
    free(d->config_path);
    free(d->map_path);
    free(d->added_path);
    free(d->single_path);
}

/* The value of a role ("bos_token"); where it stands. */
static const json_t *role_of(const struct documents *d, const char *key, const char **where)
{
    *where = json_has(d->map, key) ? d->map_path : d->config_path;
    return json_object_get(json_has(d->map, key) ? d->map : d->config, key);
}

static const struct {
    const char *key, *fallback;
} roles[] = {
    { "bos_token", "<|startoftext|>" },
    { "eos_token", "<|endoftext|>" },
    { "unk_token", "<|endoftext|>" },
    { "sep_token", NULL },
    { "pad_token", "<|endoftext|>" },
    { "cls_token", NULL },
    { "mask_token", NULL },
};
enum { NROLES = sizeof roles / sizeof *roles };

static int read_role(const struct documents *d, int role, struct wish *wish, styx_error *err)
{
    const char *where;
    const json_t *value = role_of(d, roles[role].key, &where);
    int rc = read_wish(value, where, roles[role].key, wish, err);

    if (!rc && !wish->text)
        wish->text = roles[role].fallback;
    return rc;
}

static int is_role(const struct documents *d, const char *text, bool *yes, styx_error *err)
{
    struct wish wish;
    int rc = STYX_OK;

    *yes = false;
    for (int role = 0; role < NROLES && !rc; role++) {
        rc = read_role(d, role, &wish, err);
        *yes |= !rc && wish.text && !strcmp(wish.text, text);
    }
    return rc;
}

/* Tokens listed with their ids: added_tokens_decoder or added_tokens.json, then tokenizer.json. */
static int read_listed(const struct documents *d, struct wishes *list, styx_error *err)
{
    const json_t *decoder, *tokens = json_object_get(d->single, "added_tokens");
    const char *key;
    json_t *value;
    struct wish wish;
    size_t i;
    bool role;
    int rc = json_object_of(d->config, d->config_path, "added_tokens_decoder", &decoder, err);

    if (rc)
        return rc;
    size_t room = json_object_size(decoder) + json_object_size(d->added) + json_array_size(tokens);
    if (room > MAX_SPECIALS)
        return fail(err, STYX_ERR_UNSUPPORTED, "%s: %zu added tokens, at most %d are supported",
                    d->config_path, room, MAX_SPECIALS);
    list->v = calloc(room + 1, sizeof *list->v);
    if (!list->v)
        return fail_nomem(err, (room + 1) * sizeof *list->v);

    json_object_foreach((json_t *)decoder, key, value)
    {
        if ((rc = read_wish(value, d->config_path, key, &wish, err)))
            return rc;
        wish.id = strtol(key, NULL, 10);
        want(list, wish);
    }
    json_object_foreach(d->added, key, value)
    {
        if ((rc = is_role(d, key, &role, err)))
            return rc;
        want(list, (struct wish){ key, (long)json_integer_value(value), !role });
    }
    json_array_foreach(tokens, i, value)
    {
        if ((rc = read_wish(value, d->single_path, "added_tokens", &wish, err)))
            return rc;
        wish.id = (long)json_integer_value(json_object_get(value, "id"));
        want(list, wish);
    }
    qsort(list->v, list->count, sizeof *list->v, by_id);
    return STYX_OK;
}

static bool is_listed(const struct wishes *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++)
        if (!strcmp(list->v[i].text, text))
            return true;
    return false;
}

static int add_wish(struct specials *s, const struct vocab *v, struct wish wish, styx_error *err)
{
    return wish.text && *wish.text ? specials_add(s, v, wish.text, wish.normalized, err) : STYX_OK;
}

/* More special tokens, without a role and without ids. */
static int add_extras(struct specials *s, const struct vocab *v, const struct documents *d,
                      const struct wishes *list, const char *key, styx_error *err)
{
    const char *where;
    const json_t *extras = role_of(d, key, &where);
    struct wish wish;
    int rc = STYX_OK;

    for (size_t i = 0; i < json_array_size(extras) && !rc; i++) {
        rc = read_wish(json_array_get(extras, i), where, key, &wish, err);
        if (!rc && wish.text && !is_listed(list, wish.text))
            rc = add_wish(s, v, wish, err);
    }
    return rc;
}

static int add_all(struct specials *s, const struct vocab *v, const struct documents *d,
                   const struct wishes *list, styx_error *err)
{
    int32_t *ids[NROLES] = { &s->bos, &s->eos, &s->unk, NULL, &s->pad };
    struct wish wish;
    int rc = STYX_OK;

    for (size_t i = 0; i < list->count && !rc; i++)
        rc = add_wish(s, v, list->v[i], err);
    for (int role = 0; role < NROLES && !rc; role++) {
        if ((rc = read_role(d, role, &wish, err)))
            return rc;
        if (wish.text && !is_listed(list, wish.text))
            rc = add_wish(s, v, wish, err);
        const struct special *t = wish.text ? specials_find(s, wish.text) : NULL;
        if (!rc && ids[role] && !t)
            return fail(err, STYX_ERR_FORMAT, "%s: '%s' is empty", d->config_path, roles[role].key);
        if (!rc && ids[role])
            *ids[role] = t->id;
    }
    if (!rc)
        rc = add_extras(s, v, d, list, "additional_special_tokens", err);
    if (!rc)
        rc = add_extras(s, v, d, list, "extra_special_tokens", err);
    return rc;
}

int specials_open(const char *folder, const struct vocab *v, struct specials *s, styx_error *err)
{
    struct documents d = { 0 };
    struct wishes list = { 0 };
    int rc;

    *s = (struct specials){ .next_id = v->nids };
    if ((rc = read_documents(folder, &d, err)) || (rc = read_listed(&d, &list, err)) ||
        (rc = add_all(s, v, &d, &list, err)))
        goto done;
    /* 3: BOS, one token, EOS. */
    rc = json_int(d.config, d.config_path, "model_max_length", 77, 3, MAX_LENGTH, &s->max_length,
                  err);
done:
    free(list.v);
    documents_free(&d);
    if (rc)
        specials_free(s);
    return rc;
}
