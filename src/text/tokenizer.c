#include "text/tokenizer.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/special.h"
#include "text/unicode.h"
#include "text/vocab.h"

struct tokenizer {
    struct vocab vocab;
    struct specials specials;
};

/* Longer texts would overflow the 32-bit indices of byte-pair encoding. */
enum { MAX_TEXT = 1 << 26 };
/* Names of textual inversions are short. */
enum { MAX_ADDED = 512 };

int tokenizer_open(const char *folder, struct tokenizer **tok, styx_error *err)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    int rc;

    *tok = NULL;
    if (!t)
        return fail_nomem(err, sizeof *t);
    if ((rc = vocab_open(folder, &t->vocab, err)) ||
        (rc = specials_open(folder, &t->vocab, &t->specials, err))) {
        tokenizer_free(t);
        return rc;
    }
    *tok = t;
    return STYX_OK;
}

void tokenizer_free(struct tokenizer *tok)
{
    if (!tok)
        return;
    specials_free(&tok->specials);
    vocab_free(&tok->vocab);
    free(tok);
}

int32_t tokenizer_bos(const struct tokenizer *tok)
{
    return tok->specials.bos;
}

int32_t tokenizer_eos(const struct tokenizer *tok)
{
    return tok->specials.eos;
}

int32_t tokenizer_pad(const struct tokenizer *tok)
{
    return tok->specials.pad;
}

int tokenizer_max_length(const struct tokenizer *tok)
{
    return tok->specials.max_length;
}

int32_t tokenizer_vocab_size(const struct tokenizer *tok)
{
    return tok->specials.next_id;
}

int32_t tokenizer_id(const struct tokenizer *tok, const char *token)
{
    const struct special *s = specials_find(&tok->specials, token);

    return s ? s->id : vocab_find(&tok->vocab, token);
}

int tokenizer_check(const char *text, size_t bytes, styx_error *err)
{
    size_t offset;

    if (bytes > MAX_TEXT)
        return fail(err, STYX_ERR_INVALID, "the text has %zu bytes, at most %d can be tokenized",
                    bytes, MAX_TEXT);
    if (!utf8_valid(text, bytes, &offset))
        return fail(err, STYX_ERR_INVALID, "the text is not valid UTF-8: byte 0x%02X at offset %zu",
                    (unsigned)(unsigned char)text[offset], offset);
    return STYX_OK;
}

static int clone(const struct tokenizer *tok, struct tokenizer **copy, styx_error *err)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    int rc;

    *copy = NULL;
    if (!t)
        return fail_nomem(err, sizeof *t);
    if ((rc = vocab_copy(&tok->vocab, &t->vocab, err)) ||
        (rc = specials_copy(&tok->specials, &t->specials, err)))
        tokenizer_free(t);
    else
        *copy = t;
    return rc;
}

int tokenizer_with_tokens(const struct tokenizer *tok, const char *const *texts, int ntexts,
                          struct tokenizer **copy, styx_error *err)
{
    struct tokenizer *t;
    int rc = clone(tok, &t, err);

    *copy = NULL;
    if (rc)
        return rc;
    for (int i = 0; i < ntexts; i++) {
        if ((rc = tokenizer_check(texts[i], strlen(texts[i]), err)))
            goto done;
        size_t length = strlen(texts[i]);
        if (!length || length > MAX_ADDED || tokenizer_id(t, texts[i]) >= 0) {
            rc = fail(err, STYX_ERR_INVALID, "the token '%.80s' %s", texts[i],
                      !length              ? "is empty"
                      : length > MAX_ADDED ? "is too long"
                                           : "is in the vocabulary already");
            goto done;
        }
        if ((rc = specials_add(&t->specials, &t->vocab, texts[i], true, err)))
            goto done;
    }
    *copy = t;
    t = NULL;
done:
    tokenizer_free(t);
    return rc;
}

int tokenizer_with_pad(const struct tokenizer *tok, const char *pad, struct tokenizer **copy,
                       styx_error *err)
{
    struct tokenizer *t;
    int rc = clone(tok, &t, err);

    *copy = NULL;
    if (rc)
        return rc;
    if (!specials_find(&t->specials, pad) &&
        (rc = specials_add(&t->specials, &t->vocab, pad, false, err))) {
        tokenizer_free(t);
        return rc;
    }
    t->specials.pad = specials_find(&t->specials, pad)->id;
    *copy = t;
    return 0;
}

void tokens_free(struct tokens *tokens)
{
    free(tokens->v);
    *tokens = (struct tokens){ 0 };
}

static int reserve(struct tokens *t, size_t more, styx_error *err)
{
    if (t->count + more <= t->capacity)
        return STYX_OK;
    size_t capacity = t->count + more > 2 * t->capacity ? t->count + more : 2 * t->capacity;
    int32_t *v = realloc(t->v, capacity * sizeof *v);
    if (!v)
        return fail_nomem(err, capacity * sizeof *v);
    t->v = v;
    t->capacity = capacity;
    return STYX_OK;
}

/* One text on its way through. */
struct encoder {
    const struct tokenizer *tok;
    struct runes runes, scratch[2];
    struct bpe_work work;
    struct tokens *out;
    styx_error *err;
};

static int put_id(struct encoder *e, int32_t id)
{
    int rc = reserve(e->out, 1, e->err);

    if (!rc)
        e->out->v[e->out->count++] = id;
    return rc;
}

static int put_word(struct encoder *e, const uint32_t *word, size_t n)
{
    const struct vocab *v = &e->tok->vocab;
    int rc = reserve(e->out, 4 * n, e->err);

    if (rc)
        return rc;
    int32_t *ids = e->out->v + e->out->count;
    size_t nids = 0;
    for (size_t i = 0; i < n; i++) {
        char utf8[4];
        size_t bytes = utf8_put(word[i], utf8);
        for (size_t j = 0; j < bytes; j++) {
            bool final = i + 1 == n && j + 1 == bytes;
            int32_t id = (final ? v->final : v->inner)[(uint8_t)utf8[j]];
            ids[nids++] = id < 0 ? e->tok->specials.unk : id;
        }
    }
    rc = bpe_merge(&v->merges, &e->work, ids, &nids, e->err);
    e->out->count += nids;
    return rc;
}

static bool starts_with(const uint32_t *v, size_t n, const char *ascii)
{
    for (size_t i = 0; ascii[i]; i++)
        if (i == n || v[i] != (uint8_t)ascii[i])
            return false;
    return true;
}

/* The length of the word at v, which begins with no space. */
static size_t word_length(const uint32_t *v, size_t n)
{
    static const char *const endings[] = { "'s", "'t", "'re", "'ve", "'m", "'ll", "'d" };
    enum rune_class kind = rune_class(v[0]);
    size_t length = 1;

    for (size_t i = 0; v[0] == '\'' && i < sizeof endings / sizeof *endings; i++)
        if (starts_with(v, n, endings[i]))
            return strlen(endings[i]);
    if (kind != RUNE_NUMBER)
        while (length < n && rune_class(v[length]) == kind)
            length++;
    return length;
}

/* CLIP's own pattern begins with the spellings of BOS and EOS. They get here if the tokens are
 * wanted in the text as given but stand there in capitals. They are words, then split by GPT-2's
 * pattern, so that punctuation after them is no part of "|>". */
static size_t spelling_length(const uint32_t *v, size_t n)
{
    static const char *const spellings[] = { "<|startoftext|>", "<|endoftext|>" };

    for (int i = 0; i < 2; i++)
        if (starts_with(v, n, spellings[i]))
            return strlen(spellings[i]);
    return 0;
}

static int put_words(struct encoder *e, const uint32_t *v, size_t n)
{
    size_t spelling_end = 0;
    int rc = STYX_OK;

    for (size_t i = 0, length; i < n && !rc; i += length) {
        length = 1;
        if (rune_is_space(v[i]))
            continue;
        size_t spelling = i < spelling_end || v[i] != '<' ? 0 : spelling_length(v + i, n - i);
        if (spelling)
            spelling_end = i + spelling;
        length = word_length(v + i, (i < spelling_end ? spelling_end : n) - i);
        rc = put_word(e, v + i, length);
    }
    return rc;
}

/* The longest normalized special token at v. */
static const struct special *normalized_at(const struct specials *s, const uint32_t *v, size_t n)
{
    const struct special *best = NULL;

    for (size_t i = 0; i < s->count; i++) {
        const struct runes *r = &s->v[i].normal;
        if (s->v[i].normalized && r->count && r->count <= n &&
            (!best || r->count > best->normal.count) && !memcmp(v, r->v, r->count * sizeof *v))
            best = &s->v[i];
    }
    return best;
}

/* Text without special tokens of the kind that is looked for in the text as given. */
static int put_text(struct encoder *e, const char *text, size_t bytes)
{
    if (!bytes)
        return STYX_OK;
    int rc = unicode_normalize(text, bytes, &e->runes, e->scratch, e->err);
    const uint32_t *v = e->runes.v;
    size_t n = e->runes.count, start = 0;

    for (size_t i = 0; i < n && !rc;) {
        const struct special *s = normalized_at(&e->tok->specials, v + i, n - i);
        if (!s) {
            i++;
            continue;
        }
        rc = put_words(e, v + start, i - start);
        if (!rc)
            rc = put_id(e, s->id);
        start = i += s->normal.count;
    }
    return rc ? rc : put_words(e, v + start, n - start);
}

/* The longest special token that is looked for in the text as given, at text. */
static const struct special *given_at(const struct specials *s, const char *text, size_t bytes)
{
    const struct special *best = NULL;

    for (size_t i = 0; i < s->count; i++)
        if (!s->v[i].normalized && s->v[i].bytes <= bytes &&
            (!best || s->v[i].bytes > best->bytes) && !memcmp(text, s->v[i].text, s->v[i].bytes))
            best = &s->v[i];
    return best;
}

int tokenizer_append(const struct tokenizer *tok, const char *text, size_t bytes,
                     struct tokens *out, styx_error *err)
{
    struct encoder e = { .tok = tok, .out = out, .err = err };
    size_t start = 0;
    int rc = tokenizer_check(text, bytes, err);

    if (!bytes)
        return rc;
    for (size_t i = 0; i < bytes && !rc;) {
        const struct special *s = given_at(&tok->specials, text + i, bytes - i);
        if (!s) {
            i++;
            continue;
        }
        rc = put_text(&e, text + start, i - start);
        if (!rc)
            rc = put_id(&e, s->id);
        start = i += s->bytes;
    }
    if (!rc)
        rc = put_text(&e, text + start, bytes - start);
    runes_free(&e.runes);
    runes_free(&e.scratch[0]);
    runes_free(&e.scratch[1]);
    bpe_work_free(&e.work);
    return rc;
}

int tokenizer_encode(const struct tokenizer *tok, const char *text, size_t bytes, int32_t *ids,
                     int length, struct token_report *report, styx_error *err)
{
    struct tokens all = { 0 };
    char *cut = NULL;

    if (report)
        *report = (struct token_report){ 0 };
    if (length < 3)
        return fail(err, STYX_ERR_INVALID, "a sequence of %d tokens has no room for text", length);
    size_t room = (size_t)length - 2;
    int rc = tokenizer_append(tok, text, bytes, &all, err);
    if (rc)
        goto done;
    size_t kept = all.count < room ? all.count : room;
    if (report && kept < all.count &&
        (rc = tokenizer_decode(tok, all.v + kept, all.count - kept, &cut, err)))
        goto done;

    ids[0] = tokenizer_bos(tok);
    if (kept)
        memcpy(ids + 1, all.v, kept * sizeof *ids);
    ids[kept + 1] = tokenizer_eos(tok);
    for (size_t i = kept + 2; i < (size_t)length; i++)
        ids[i] = tokenizer_pad(tok);
    if (report)
        *report = (struct token_report){ all.count, cut };
done:
    tokens_free(&all);
    return rc;
}

/* Writes " T_1 T_2 ..." for the vectors that T has besides the first, if room is not NULL;
 * returns the length. */
static size_t more_vectors(const struct specials *s, const char *token, char *room)
{
    size_t bytes = 0, size = strlen(token) + 16;
    char name[MAX_ADDED + 16];

    for (int i = 1; size <= sizeof name; i++) {
        int n = snprintf(name, sizeof name, " %s_%d", token, i);
        if (!specials_find(s, name + 1))
            break;
        if (room)
            memcpy(room + bytes, name, (size_t)n);
        bytes += (size_t)n;
    }
    return bytes;
}

/* Replaces every occurrence of token in *text by itself and its further vectors. */
static int expand_token(const struct specials *s, const char *token, char **text, styx_error *err)
{
    size_t length = strlen(token), extra = more_vectors(s, token, NULL), times = 0;

    for (const char *at = *text; extra && (at = strstr(at, token)); at += length)
        times++;
    if (!times)
        return STYX_OK;
    size_t bytes = strlen(*text) + times * extra + 1;
    char *out = malloc(bytes), *end = out, *rest = *text, *at;
    if (!out)
        return fail_nomem(err, bytes);
    for (; (at = strstr(rest, token)); rest = at + length) {
        size_t before = (size_t)(at - rest) + length;
        memcpy(end, rest, before);
        end += before + more_vectors(s, token, end + before);
    }
    strcpy(end, rest);
    free(*text);
    *text = out;
    return STYX_OK;
}

int tokenizer_expand(const struct tokenizer *tok, const char *text, size_t bytes, char **out,
                     styx_error *err)
{
    struct tokens used = { 0 };
    char *copy = NULL;
    int rc = tokenizer_append(tok, text, bytes, &used, err);

    *out = NULL;
    if (!rc && !(copy = malloc(bytes + 1)))
        rc = fail_nomem(err, bytes + 1);
    if (rc)
        goto done;
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    for (size_t i = 0; i < tok->specials.count && !rc; i++) {
        const struct special *s = &tok->specials.v[i];
        bool found = false;
        for (size_t j = 0; j < used.count && !found; j++)
            found = used.v[j] == s->id;
        if (found)
            rc = expand_token(&tok->specials, s->text, &copy, err);
    }
    if (!rc) {
        *out = copy;
        copy = NULL;
    }
done:
    free(copy);
    tokens_free(&used);
    return rc;
}

static const char *token_text(const struct tokenizer *tok, int32_t id)
{
    const char *text = vocab_token(&tok->vocab, id);

    for (size_t i = 0; !text && i < tok->specials.count; i++)
        if (tok->specials.v[i].id == id)
            text = tok->specials.v[i].text;
    return text;
}

/* The bytes that a token's characters write; a token with others stands for itself. */
static size_t token_bytes(const char *token, char *out)
{
    size_t length = strlen(token), n = 0;
    uint32_t rune;

    for (size_t i = 0; i < length;) {
        i += utf8_get(token + i, length - i, &rune);
        int byte = rune_to_byte(rune);
        if (byte < 0) {
            memcpy(out, token, length);
            return length;
        }
        out[n++] = (char)byte;
    }
    return n;
}

/* Broken characters become U+FFFD; out has room for three times as much. Adds a NUL. */
static size_t repair(const char *raw, size_t bytes, char *out)
{
    size_t n = 0;
    uint32_t rune;

    for (size_t i = 0; i < bytes;) {
        i += utf8_get(raw + i, bytes - i, &rune);
        n += utf8_put(rune == UTF8_BAD ? 0xFFFD : rune, out + n);
    }
    out[n] = '\0';
    return n;
}

/* Python's str.strip counts the four information separators too. */
static bool is_stripped(uint32_t rune)
{
    return rune_is_space(rune) || (rune >= 0x1C && rune <= 0x1F);
}

/* Word ends become spaces, and those around the text go. */
static void tidy(char *text, size_t bytes)
{
    size_t n = 0, start = 0, end = 0;
    uint32_t rune;

    for (size_t i = 0; i < bytes;) {
        bool word_end =
            bytes - i >= strlen(WORD_END) && !memcmp(text + i, WORD_END, strlen(WORD_END));
        text[n++] = word_end ? ' ' : text[i];
        i += word_end ? strlen(WORD_END) : 1;
    }
    for (size_t i = 0, length; i < n; i += length) {
        length = utf8_get(text + i, n - i, &rune);
        if (!is_stripped(rune))
            end = i + length;
        else if (!end)
            start = i + length;
    }
    if (end)
        memmove(text, text + start, end - start);
    text[end ? end - start : 0] = '\0';
}

int tokenizer_decode(const struct tokenizer *tok, const int32_t *ids, size_t count, char **text,
                     styx_error *err)
{
    size_t bytes = 0, n = 0;

    *text = NULL;
    for (size_t i = 0; i < count; i++) {
        const char *token = token_text(tok, ids[i]);
        bytes += token ? strlen(token) : 0;
    }
    char *raw = malloc(bytes + 1), *out = malloc(3 * bytes + 1);
    if (!raw || !out) {
        free(raw);
        free(out);
        return fail_nomem(err, 4 * bytes + 2);
    }
    for (size_t i = 0; i < count; i++) {
        const char *token = token_text(tok, ids[i]);
        n += token ? token_bytes(token, raw + n) : 0;
    }
    n = repair(raw, n, out);
    tidy(out, n);
    free(raw);
    *text = out;
    return STYX_OK;
}
