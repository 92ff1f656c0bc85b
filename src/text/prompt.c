#include "text/prompt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/unicode.h"

/* The grammar and the chunks follow modules/prompt_parser.py and modules/sd_hijack_clip.py of that
 * web UI, quirks included: a BREAK in brackets is the word, for weights are how it marks one. */

#define ROUND 1.1
#define SQUARE (1 / 1.1)

enum { BACKTRACK = 20 };

/* A stretch of the prompt, unescaped: bytes of struct parts' text. */
struct part {
    size_t start, end;
    bool chunk_ends; /* a BREAK instead of text */
};

/* The parse: weights apart from the parts, because brackets multiply long runs of them. */
struct parts {
    char *text; /* no longer than the prompt */
    size_t bytes;
    struct part *v;
    double *weights;
    size_t count, capacity;
    /* Where open brackets began, as indices of parts. */
    size_t *round, *square, nround, nsquare;
};

static int parts_init(struct parts *p, size_t bytes, styx_error *err)
{
    *p = (struct parts){ .capacity = 16 };
    p->text = malloc(bytes + 1);
    p->v = malloc(p->capacity * sizeof *p->v);
    p->weights = malloc(p->capacity * sizeof *p->weights);
    p->round = malloc((bytes + 1) * sizeof *p->round);
    p->square = malloc((bytes + 1) * sizeof *p->square);
    if (!p->text || !p->v || !p->weights || !p->round || !p->square)
        return fail_nomem(err, (bytes + 1) * sizeof *p->round);
    return STYX_OK;
}

static void parts_free(struct parts *p)
{
    free(p->text);
    free(p->v);
    free(p->weights);
    free(p->round);
    free(p->square);
}

/* Appends a part of weight 1 (or a BREAK, of weight -1: brackets around it make it plain text). */
static int add_part(struct parts *p, const char *text, size_t bytes, bool chunk_ends,
                    styx_error *err)
{
    if (p->count == p->capacity) {
        size_t capacity = 2 * p->capacity;
        struct part *v = realloc(p->v, capacity * sizeof *v);
        if (!v)
            return fail_nomem(err, capacity * sizeof *v);
        p->v = v;
        double *weights = realloc(p->weights, capacity * sizeof *weights);
        if (!weights)
            return fail_nomem(err, capacity * sizeof *weights);
        p->weights = weights;
        p->capacity = capacity;
    }
    memcpy(p->text + p->bytes, text, bytes);
    p->weights[p->count] = chunk_ends ? -1 : 1;
    p->v[p->count++] = (struct part){ p->bytes, p->bytes + bytes, chunk_ends };
    p->bytes += bytes;
    return STYX_OK;
}

static void multiply(struct parts *p, size_t from, double by)
{
    for (size_t i = from; i < p->count; i++)
        p->weights[i] *= by;
}

static size_t skip_spaces(const char *s, size_t n)
{
    uint32_t rune;

    for (size_t i = 0, length; i < n; i += length) {
        length = utf8_get(s + i, n - i, &rune);
        if (!rune_is_space(rune))
            return i;
    }
    return n;
}

/* If s is ":1.3)", with spaces around the number if need be: its length, else 0. */
static size_t weight_length(const char *s, size_t n, size_t *number, size_t *digits)
{
    size_t i = 1;

    if (!n || s[0] != ':')
        return 0;
    i += skip_spaces(s + i, n - i);
    *number = i;
    if (i < n && (s[i] == '+' || s[i] == '-'))
        i++;
    size_t first = i;
    while (i < n && (s[i] == '.' || (s[i] >= '0' && s[i] <= '9')))
        i++;
    *digits = i - *number;
    if (i == first)
        return 0;
    i += skip_spaces(s + i, n - i);
    return i < n && s[i] == ')' ? i + 1 : 0;
}

/* Reads [+-]?[0-9.]+ ; strtod would depend on the locale. */
static int read_weight(const char *s, size_t n, double *weight, styx_error *err)
{
    double value = 0, scale = 1;
    size_t points = 0, digits = 0;

    for (size_t i = s[0] == '+' || s[0] == '-'; i < n; i++) {
        if (s[i] == '.') {
            points++;
            continue;
        }
        digits++;
        if (scale >= 1e18) /* beyond a double's precision */
            continue;
        value = value * 10 + (s[i] - '0');
        scale *= points ? 10 : 1;
    }
    if (points > 1 || !digits)
        return fail(err, STYX_ERR_INVALID, "the prompt has a weight that is not a number: '%.*s'",
                    n < 40 ? (int)n : 40, s);
    *weight = (s[0] == '-' ? -value : value) / scale;
    return STYX_OK;
}

static bool is_word(uint32_t rune)
{
    enum rune_class kind = rune_class(rune);

    return rune == '_' || kind == RUNE_LETTER || kind == RUNE_NUMBER;
}

/* The code point that ends at s + end > s; *start is where it begins. */
static uint32_t rune_before(const char *s, size_t end, size_t *start)
{
    uint32_t rune;

    for (*start = end - 1; *start > 0 && (s[*start] & 0xC0) == 0x80; --*start)
        ;
    utf8_get(s + *start, end - *start, &rune);
    return rune;
}

/* Does the word BREAK stand at s + at? */
static bool is_break(const char *s, size_t n, size_t at)
{
    static const char word[] = "BREAK";
    size_t end = at + strlen(word), start;
    uint32_t rune;

    if (n - at < strlen(word) || memcmp(s + at, word, strlen(word)))
        return false;
    if (at && is_word(rune_before(s, at, &start)))
        return false;
    if (end == n)
        return true;
    utf8_get(s + end, n - end, &rune);
    return !is_word(rune);
}

/* Text without brackets: split at each BREAK, which takes the spaces around it along. */
static int add_text(struct parts *p, const char *s, size_t n, styx_error *err)
{
    size_t start = 0;
    int rc = STYX_OK;

    for (size_t i = 0; i < n && !rc;) {
        if (!is_break(s, n, i)) {
            i++;
            continue;
        }
        size_t end = i, before;
        while (end > start && rune_is_space(rune_before(s, end, &before)))
            end = before;
        rc = add_part(p, s + start, end - start, false, err);
        if (!rc)
            rc = add_part(p, s + i, strlen("BREAK"), true, err);
        i += strlen("BREAK");
        start = i += skip_spaces(s + i, n - i);
    }
    return rc ? rc : add_part(p, s + start, n - start, false, err);
}

/* Takes what stands at the beginning of s; *used is its length. */
static int parse_one(struct parts *p, const char *s, size_t n, size_t *used, styx_error *err)
{
    size_t number, digits, length = weight_length(s, n, &number, &digits);
    double weight = 1;
    int rc;

    *used = 1;
    if (s[0] == '\\') {
        bool escape = n > 1 && strchr("()[]\\", s[1]) && s[1];
        *used = escape ? 2 : 1;
        return add_part(p, s + 1, escape, false, err);
    }
    if (s[0] == '(') {
        p->round[p->nround++] = p->count;
    } else if (s[0] == '[') {
        p->square[p->nsquare++] = p->count;
    } else if (length && p->nround) {
        *used = length;
        if ((rc = read_weight(s + number, digits, &weight, err)))
            return rc;
        multiply(p, p->round[--p->nround], weight);
    } else if (s[0] == ')' && p->nround) {
        multiply(p, p->round[--p->nround], ROUND);
    } else if (s[0] == ']' && p->nsquare) {
        multiply(p, p->square[--p->nsquare], SQUARE);
    } else {
        if (length)
            *used = length;
        else if (!strchr(":)]", s[0]) || !s[0])
            while (*used < n && (!strchr("\\()[]:", s[*used]) || !s[*used]))
                ++*used;
        return add_text(p, s, *used, err);
    }
    return STYX_OK;
}

static int parse(struct parts *p, const char *s, size_t n, styx_error *err)
{
    int rc = parts_init(p, n, err);

    for (size_t i = 0, used; i < n && !rc; i += used)
        rc = parse_one(p, s + i, n - i, &used, err);
    if (rc)
        return rc;
    /* Brackets that were never closed reach to the end. */
    for (size_t i = 0; i < p->nround; i++)
        multiply(p, p->round[i], ROUND);
    for (size_t i = 0; i < p->nsquare; i++)
        multiply(p, p->square[i], SQUARE);
    return STYX_OK;
}

void prompt_free(struct prompt *p)
{
    free(p->ids);
    free(p->weights);
    *p = (struct prompt){ 0 };
}

static int reserve(struct prompt *p, size_t nchunks, styx_error *err)
{
    size_t n = nchunks * (size_t)p->length;
    int32_t *ids = realloc(p->ids, n * sizeof *ids);

    if (!ids)
        return fail_nomem(err, n * sizeof *ids);
    p->ids = ids;
    float *weights = realloc(p->weights, n * sizeof *weights);
    if (!weights)
        return fail_nomem(err, n * sizeof *weights);
    p->weights = weights;
    return STYX_OK;
}

/* The chunk being filled stands behind the finished ones. */
struct chunker {
    const struct tokenizer *tok;
    struct prompt *out;
    int count, last_comma, capacity;
    int32_t comma;
};

static void put(struct chunker *c, int32_t id, float weight)
{
    size_t at = (size_t)c->out->nchunks * (size_t)c->out->length + 1 + (size_t)c->count++;

    c->out->ids[at] = id;
    c->out->weights[at] = weight;
}

static int finish_chunk(struct chunker *c, styx_error *err)
{
    struct prompt *p = c->out;
    size_t row = (size_t)p->nchunks * (size_t)p->length;

    p->ids[row] = tokenizer_bos(c->tok);
    p->weights[row] = 1;
    for (int i = c->count + 1; i < p->length; i++) {
        p->ids[row + (size_t)i] = i == c->count + 1 ? tokenizer_eos(c->tok) : tokenizer_pad(c->tok);
        p->weights[row + (size_t)i] = 1;
    }
    p->nchunks++;
    c->count = 0;
    c->last_comma = -1;
    if (p->nchunks < c->capacity)
        return STYX_OK;
    c->capacity *= 2;
    return reserve(p, (size_t)c->capacity, err);
}

static int add_id(struct chunker *c, int32_t id, float weight, styx_error *err)
{
    int room = c->out->length - 2, rc = STYX_OK;

    if (id == c->comma) {
        c->last_comma = c->count;
    } else if (c->count == room && c->last_comma >= 0 && c->count - c->last_comma <= BACKTRACK) {
        /* What follows the comma goes to the next chunk. */
        int32_t ids[BACKTRACK];
        float weights[BACKTRACK];
        int first = c->last_comma + 1, moved = c->count - first;
        size_t at = (size_t)c->out->nchunks * (size_t)c->out->length + 1 + (size_t)first;
        memcpy(ids, c->out->ids + at, (size_t)moved * sizeof *ids);
        memcpy(weights, c->out->weights + at, (size_t)moved * sizeof *weights);
        c->count = first;
        rc = finish_chunk(c, err);
        for (int i = 0; i < moved && !rc; i++)
            put(c, ids[i], weights[i]);
    }
    if (!rc && c->count == room)
        rc = finish_chunk(c, err);
    if (!rc)
        put(c, id, weight);
    return rc;
}

static float clamp(struct prompt *p, double weight)
{
    /* Written so that a NaN (of zero times infinity) is clamped too. */
    bool fits = fabs(weight) <= PROMPT_MAX_WEIGHT;

    p->clamped |= !fits;
    p->weighted |= weight != 1;
    return fits ? (float)weight : weight < 0 ? -PROMPT_MAX_WEIGHT : PROMPT_MAX_WEIGHT;
}

static int fill(struct chunker *c, const struct parts *p, styx_error *err)
{
    struct tokens tokens = { 0 };
    int rc = STYX_OK;

    for (size_t i = 0, next; i < p->count && !rc; i = next) {
        /* Neighbours of the same weight are one text, for a word may go on from one to the next. */
        for (next = i + 1; next < p->count && p->weights[next] == p->weights[i]; next++)
            ;
        if (next == i + 1 && p->v[i].chunk_ends && p->weights[i] == -1) {
            rc = finish_chunk(c, err);
            continue;
        }
        tokens.count = 0;
        rc = tokenizer_append(c->tok, p->text + p->v[i].start, p->v[next - 1].end - p->v[i].start,
                              &tokens, err);
        float weight = tokens.count ? clamp(c->out, p->weights[i]) : 1;
        for (size_t j = 0; j < tokens.count && !rc; j++)
            rc = add_id(c, tokens.v[j], weight, err);
    }
    if (!rc && (c->count || !c->out->nchunks))
        rc = finish_chunk(c, err);
    tokens_free(&tokens);
    return rc;
}

int prompt_parse(const struct tokenizer *tok, const char *text, size_t bytes, struct prompt *out,
                 styx_error *err)
{
    struct chunker c = { .tok = tok, .out = out, .last_comma = -1, .capacity = 2 };
    struct parts parts = { 0 };
    int rc;

    *out = (struct prompt){ .length = tokenizer_max_length(tok) };
    c.comma = tokenizer_id(tok, ",</w>");
    if ((rc = tokenizer_check(text, bytes, err)) || (rc = parse(&parts, text, bytes, err)) ||
        (rc = reserve(out, (size_t)c.capacity, err)) || (rc = fill(&c, &parts, err)))
        prompt_free(out);
    parts_free(&parts);
    return rc;
}

int prompt_extend(struct prompt *p, const struct tokenizer *tok, int nchunks, styx_error *err)
{
    struct chunker c = { .tok = tok, .out = p, .capacity = nchunks + 1 };
    int rc;

    if (p->nchunks >= nchunks)
        return STYX_OK;
    rc = reserve(p, (size_t)c.capacity, err);
    while (!rc && p->nchunks < nchunks)
        rc = finish_chunk(&c, err);
    return rc;
}

void prompt_weigh(float *embedding, const float *weights, size_t rows, size_t dim, bool keep_mean)
{
    double before = 0, after = 0;

    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < dim; j++) {
            float *x = &embedding[i * dim + j];
            before += *x;
            *x *= weights[i];
            after += *x;
        }
    }
    float scale = (float)(before / after);
    if (!keep_mean || !isfinite(scale))
        return;
    for (size_t i = 0; i < rows * dim; i++)
        embedding[i] *= scale;
}
