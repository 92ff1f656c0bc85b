#include "text/vocab.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"

enum { MAX_IDS = 1 << 21, MAX_TOKEN = 512, MERGES_BYTES = 64 << 20 };

static bool writes_itself(uint32_t byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

/* The character that writes a byte. */
static uint32_t byte_to_rune(uint8_t byte)
{
    uint32_t rune = 256;

    if (writes_itself(byte))
        return byte;
    for (uint32_t b = 0; b < byte; b++)
        rune += !writes_itself(b);
    return rune;
}

int rune_to_byte(uint32_t rune)
{
    if (rune < 256)
        return writes_itself(rune) ? (int)rune : -1;
    for (uint32_t b = 0, other = 256; b < 256; b++)
        if (!writes_itself(b) && other++ == rune)
            return (int)b;
    return -1;
}

void vocab_free(struct vocab *v)
{
    free(v->pool);
    free(v->where);
    bpe_free(&v->merges);
    *v = (struct vocab){ 0 };
}

const char *vocab_token(const struct vocab *v, int32_t id)
{
    return id >= 0 && id < v->nids && v->where[id] ? v->pool + v->where[id] : NULL;
}

int32_t vocab_find(const struct vocab *v, const char *text)
{
    for (int32_t id = 0; id < v->nids; id++)
        if (v->where[id] && !strcmp(v->pool + v->where[id], text))
            return id;
    return -1;
}

static int32_t id_of(const json_t *tokens, const char *text)
{
    const json_t *id = json_object_get(tokens, text);

    return id ? (int32_t)json_integer_value(id) : -1;
}

static void read_alphabet(struct vocab *v, const json_t *tokens)
{
    for (int byte = 0; byte < 256; byte++) {
        char text[4 + sizeof WORD_END];
        size_t n = utf8_put(byte_to_rune((uint8_t)byte), text);
        text[n] = '\0';
        v->inner[byte] = id_of(tokens, text);
        strcpy(text + n, WORD_END);
        v->final[byte] = id_of(tokens, text);
    }
}

/* tokens: text -> id. */
static int read_tokens(struct vocab *v, json_t *tokens, const char *where, styx_error *err)
{
    size_t bytes = 1;
    const char *text;
    json_t *value;

    json_object_foreach(tokens, text, value)
    {
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= MAX_IDS)
            return fail(err, STYX_ERR_FORMAT,
                        "%s: the id of token \"%.60s\" is no integer from 0 to %d", where, text,
                        MAX_IDS - 1);
        if (id >= v->nids)
            v->nids = (int32_t)id + 1;
        bytes += strlen(text) + 1;
    }
    if (!v->nids)
        return fail(err, STYX_ERR_FORMAT, "%s: the vocabulary is empty", where);
    v->pool = malloc(bytes);
    v->where = calloc((size_t)v->nids, sizeof *v->where);
    if (!v->pool || !v->where)
        return fail_nomem(err, bytes);

    uint32_t end = 0;
    v->pool[end++] = '\0';
    json_object_foreach(tokens, text, value)
    {
        int32_t id = (int32_t)json_integer_value(value);
        if (v->where[id])
            return fail(err, STYX_ERR_FORMAT, "%s: tokens \"%.60s\" and \"%.60s\" both have id %d",
                        where, v->pool + v->where[id], text, (int)id);
        size_t size = strlen(text) + 1;
        memcpy(v->pool + end, text, size);
        v->where[id] = end;
        end += (uint32_t)size;
    }
    read_alphabet(v, tokens);
    return STYX_OK;
}

static int add_merge(struct vocab *v, const json_t *tokens, const char *left, size_t nleft,
                     const char *right, size_t nright, int rank, const char *where, styx_error *err)
{
    char first[MAX_TOKEN], both[2 * MAX_TOKEN];

    if (nleft >= MAX_TOKEN || nright >= MAX_TOKEN)
        return fail(err, STYX_ERR_FORMAT, "%s: merge %d is longer than %d bytes", where, rank + 1,
                    MAX_TOKEN - 1);
    memcpy(first, left, nleft);
    first[nleft] = '\0';
    memcpy(both, left, nleft);
    memcpy(both + nleft, right, nright);
    both[nleft + nright] = '\0';

    int32_t a = id_of(tokens, first), b = id_of(tokens, both + nleft), id = id_of(tokens, both);
    if (a < 0 || b < 0 || id < 0)
        return fail(err, STYX_ERR_FORMAT,
                    "%s: merge %d makes \"%.60s\" of \"%.60s\" and \"%.60s\", which are not all "
                    "in the vocabulary",
                    where, rank + 1, both, first, both + nleft);
    bpe_add(&v->merges, a, b, rank, id);
    return STYX_OK;
}

static int bad_merge(const char *where, int rank, styx_error *err)
{
    return fail(err, STYX_ERR_FORMAT, "%s: merge %d is not two tokens with a space between", where,
                rank + 1);
}

/* Splits "left right" of n bytes and adds it. */
static int add_merge_line(struct vocab *v, const json_t *tokens, const char *line, size_t n,
                          int rank, const char *where, styx_error *err)
{
    const char *space = memchr(line, ' ', n);

    if (!space || space == line || memchr(space + 1, ' ', (size_t)(line + n - space - 1)) ||
        space + 1 == line + n || memchr(line, '\0', n))
        return bad_merge(where, rank, err);
    return add_merge(v, tokens, line, (size_t)(space - line), space + 1,
                     (size_t)(line + n - space - 1), rank, where, err);
}

static int read_merges_text(struct vocab *v, const json_t *tokens, const char *text,
                            const char *where, styx_error *err)
{
    size_t lines = 1;
    int rank = 0, rc;

    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    if ((rc = bpe_init(&v->merges, lines, err)))
        return rc;
    for (const char *line = text; *line && !rc;) {
        size_t n = strcspn(line, "\n");
        if (n && strncmp(line, "#version", strlen("#version")))
            rc = add_merge_line(v, tokens, line, n, rank++, where, err);
        line += n + (line[n] == '\n');
    }
    return rc;
}

/* tokenizer.json has "left right" strings, or since 2024 ["left", "right"] pairs. */
static int read_merges_list(struct vocab *v, const json_t *tokens, const json_t *list,
                            const char *where, styx_error *err)
{
    size_t n = json_array_size(list);
    int rc = bpe_init(&v->merges, n, err);

    for (size_t i = 0; i < n && !rc; i++) {
        const json_t *item = json_array_get(list, i);
        const char *left = json_string_value(json_array_get(item, 0));
        const char *right = json_string_value(json_array_get(item, 1));
        if (json_is_string(item))
            rc = add_merge_line(v, tokens, json_string_value(item), json_string_length(item),
                                (int)i, where, err);
        else if (left && right && json_array_size(item) == 2)
            rc = add_merge(v, tokens, left, strlen(left), right, strlen(right), (int)i, where, err);
        else
            rc = bad_merge(where, (int)i, err);
    }
    return rc;
}

static int open_single(struct vocab *v, const char *path, styx_error *err)
{
    json_t *root = NULL;
    const json_t *model;
    const char *type;
    int rc;

    if ((rc = json_file(path, &root, err)) ||
        (rc = json_object_of(root, path, "model", &model, err)) ||
        (rc = json_text(model, path, "type", "BPE", &type, err)))
        goto done;
    json_t *tokens = json_object_get(model, "vocab");
    const json_t *merges = json_object_get(model, "merges");
    if (strcmp(type, "BPE") || !json_is_object(tokens) || !json_is_array(merges)) {
        rc = fail(err, STYX_ERR_UNSUPPORTED,
                  "%s: the model is no BPE with a vocab object and a merges list", path);
        goto done;
    }
    if (!(rc = read_tokens(v, tokens, path, err)))
        rc = read_merges_list(v, tokens, merges, path, err);
done:
    json_decref(root);
    return rc;
}

static int open_pair(struct vocab *v, const char *vocab, const char *merges, styx_error *err)
{
    json_t *tokens = NULL;
    char *text = NULL;
    size_t bytes;
    int rc;

    if ((rc = json_file(vocab, &tokens, err)) || (rc = read_tokens(v, tokens, vocab, err)) ||
        (rc = file_read(merges, MERGES_BYTES, &text, &bytes, err)))
        goto done;
    if (strlen(text) < bytes)
        rc = fail(err, STYX_ERR_FORMAT, "%s: has a NUL byte", merges);
    else
        rc = read_merges_text(v, tokens, text, merges, err);
done:
    free(text);
    json_decref(tokens);
    return rc;
}

int vocab_open(const char *folder, struct vocab *v, styx_error *err)
{
    char *single = path_join(folder, "tokenizer.json");
    char *vocab = path_join(folder, "vocab.json"), *merges = path_join(folder, "merges.txt");
    int rc;

    *v = (struct vocab){ 0 };
    if (!single || !vocab || !merges)
        rc = fail_nomem(err, strlen(folder));
    else if (file_exists(single))
        rc = open_single(v, single, err);
    else
        rc = open_pair(v, vocab, merges, err);
    if (rc)
        vocab_free(v);
    free(single);
    free(vocab);
    free(merges);
    return rc;
}

static void *duplicate(const void *from, size_t bytes)
{
    void *copy = malloc(bytes);

    return copy ? memcpy(copy, from, bytes) : NULL;
}

int vocab_copy(const struct vocab *from, struct vocab *v, styx_error *err)
{
    size_t pool = 1, where = (size_t)from->nids * sizeof *from->where;
    size_t table = from->merges.capacity * sizeof *from->merges.table;

    for (int32_t id = 0; id < from->nids; id++)
        if (from->where[id])
            pool += strlen(from->pool + from->where[id]) + 1;
    *v = *from;
    v->pool = duplicate(from->pool, pool);
    v->where = duplicate(from->where, where);
    v->merges.table = duplicate(from->merges.table, table);
    if (!v->pool || !v->where || !v->merges.table) {
        vocab_free(v);
        return fail_nomem(err, pool + where + table);
    }
    return STYX_OK;
}
