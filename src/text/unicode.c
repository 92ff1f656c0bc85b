#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

/* Letters and numbers assigned in Unicode 15.1 and 16.0 (UnicodeData.txt, categories L* and N*). */
static const struct {
    uint32_t first, last;
    enum rune_class kind;
} newer[] = {
    { 0x1C89, 0x1C8A, RUNE_LETTER },   { 0xA7CB, 0xA7CD, RUNE_LETTER },
    { 0xA7DA, 0xA7DC, RUNE_LETTER },   { 0x105C0, 0x105F3, RUNE_LETTER },
    { 0x10D40, 0x10D49, RUNE_NUMBER }, { 0x10D4A, 0x10D65, RUNE_LETTER },
    { 0x10D6F, 0x10D85, RUNE_LETTER }, { 0x10EC2, 0x10EC4, RUNE_LETTER },
    { 0x11380, 0x11389, RUNE_LETTER }, { 0x1138B, 0x1138B, RUNE_LETTER },
    { 0x1138E, 0x1138E, RUNE_LETTER }, { 0x11390, 0x113B5, RUNE_LETTER },
    { 0x113B7, 0x113B7, RUNE_LETTER }, { 0x113D1, 0x113D1, RUNE_LETTER },
    { 0x113D3, 0x113D3, RUNE_LETTER }, { 0x116D0, 0x116E3, RUNE_NUMBER },
    { 0x11BC0, 0x11BE0, RUNE_LETTER }, { 0x11BF0, 0x11BF9, RUNE_NUMBER },
    { 0x13460, 0x143FA, RUNE_LETTER }, { 0x16100, 0x1611D, RUNE_LETTER },
    { 0x16130, 0x16139, RUNE_NUMBER }, { 0x16D40, 0x16D6C, RUNE_LETTER },
    { 0x16D70, 0x16D79, RUNE_NUMBER }, { 0x18CFF, 0x18CFF, RUNE_LETTER },
    { 0x1CCF0, 0x1CCF9, RUNE_NUMBER }, { 0x1E5D0, 0x1E5ED, RUNE_LETTER },
    { 0x1E5F0, 0x1E5F0, RUNE_LETTER }, { 0x1E5F1, 0x1E5FA, RUNE_NUMBER },
    { 0x2EBF0, 0x2EE5D, RUNE_LETTER },
};

/* Capitals assigned in Unicode 16.0 and 17.0. */
static const struct {
    uint32_t first, last, lower;
} newer_capitals[] = {
    { 0x1C89, 0x1C89, 0x1C8A },    { 0xA7CB, 0xA7CB, 0x0264 }, { 0xA7CC, 0xA7CC, 0xA7CD },
    { 0xA7CE, 0xA7CE, 0xA7CF },    { 0xA7D2, 0xA7D2, 0xA7D3 }, { 0xA7D4, 0xA7D4, 0xA7D5 },
    { 0xA7DA, 0xA7DA, 0xA7DB },    { 0xA7DC, 0xA7DC, 0x019B }, { 0x10D50, 0x10D65, 0x10D70 },
    { 0x16EA0, 0x16EB8, 0x16EBB },
};

/* The tokenizer that we follow composes by Unicode 9.0: marks assigned since then are no marks to
 * it, they stay where they are and nothing is composed across them. Those with a combining class
 * up to Unicode 15.0, and U+11930 and U+11938, the one pair that composes since. */
static const struct {
    uint32_t first, last;
} unordered[] = {
    { 0x7FD, 0x7FD },     { 0x898, 0x89F },     { 0x8CA, 0x8D3 },     { 0x9FE, 0x9FE },
    { 0xC3C, 0xC3C },     { 0xD3B, 0xD3C },     { 0xEBA, 0xEBA },     { 0x1715, 0x1715 },
    { 0x1ABF, 0x1ACE },   { 0x1DF6, 0x1DFA },   { 0xA82C, 0xA82C },   { 0x10D24, 0x10D27 },
    { 0x10EAB, 0x10EAC }, { 0x10EFD, 0x10EFF }, { 0x10F46, 0x10F50 }, { 0x10F82, 0x10F85 },
    { 0x11070, 0x11070 }, { 0x1133B, 0x1133B }, { 0x1145E, 0x1145E }, { 0x11839, 0x1183A },
    { 0x11930, 0x11930 }, { 0x11938, 0x11938 }, { 0x1193D, 0x1193E }, { 0x11943, 0x11943 },
    { 0x119E0, 0x119E0 }, { 0x11A34, 0x11A34 }, { 0x11A47, 0x11A47 }, { 0x11A99, 0x11A99 },
    { 0x11D42, 0x11D42 }, { 0x11D44, 0x11D45 }, { 0x11D97, 0x11D97 }, { 0x11F41, 0x11F42 },
    { 0x16FF0, 0x16FF1 }, { 0x1E08F, 0x1E08F }, { 0x1E130, 0x1E136 }, { 0x1E2AE, 0x1E2AE },
    { 0x1E2EC, 0x1E2EF }, { 0x1E4EC, 0x1E4EF },
};

enum { CAPITAL_I_DOT = 0x0130, DOT_ABOVE = 0x0307 };

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* The White_Space property. */
bool rune_is_space(uint32_t rune)
{
    return (rune >= 0x09 && rune <= 0x0D) || rune == 0x20 || rune == 0x85 || rune == 0xA0 ||
           rune == 0x1680 || (rune >= 0x2000 && rune <= 0x200A) || rune == 0x2028 ||
           rune == 0x2029 || rune == 0x202F || rune == 0x205F || rune == 0x3000;
}

enum rune_class rune_class(uint32_t rune)
{
    if (rune_is_space(rune))
        return RUNE_SPACE;
    switch (utf8proc_category((utf8proc_int32_t)rune)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return RUNE_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return RUNE_NUMBER;
    case UTF8PROC_CATEGORY_CN:
        for (size_t i = 0; i < COUNT(newer); i++)
            if (rune >= newer[i].first && rune <= newer[i].last)
                return newer[i].kind;
        return RUNE_OTHER;
    default:
        return RUNE_OTHER;
    }
}

static uint32_t rune_lower(uint32_t rune)
{
    for (size_t i = 0; i < COUNT(newer_capitals) && rune >= newer_capitals[0].first; i++)
        if (rune >= newer_capitals[i].first && rune <= newer_capitals[i].last)
            return newer_capitals[i].lower + (rune - newer_capitals[i].first);
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)rune);
}

static bool is_unordered(uint32_t rune)
{
    for (size_t i = 0; i < COUNT(unordered) && rune >= unordered[i].first; i++)
        if (rune <= unordered[i].last)
            return true;
    return false;
}

static int reserve(struct runes *r, size_t count, styx_error *err)
{
    if (count <= r->capacity)
        return STYX_OK;
    size_t capacity = count > 2 * r->capacity ? count : 2 * r->capacity;
    if (capacity > SIZE_MAX / sizeof *r->v)
        return fail_nomem(err, SIZE_MAX);
    uint32_t *v = realloc(r->v, capacity * sizeof *v);
    if (!v)
        return fail_nomem(err, capacity * sizeof *v);
    r->v = v;
    r->capacity = capacity;
    return STYX_OK;
}

void runes_free(struct runes *r)
{
    free(r->v);
    *r = (struct runes){ 0 };
}

/* Replaces out by the canonical decomposition of text, up to the first unordered mark if that is
 * not at the beginning; *used becomes the bytes it took. */
static int decompose(const char *text, size_t bytes, struct runes *out, size_t *used,
                     styx_error *err)
{
    enum { LONGEST = 4 }; /* no canonical decomposition has more code points (UAX 15) */
    uint32_t rune;

    out->count = 0;
    for (*used = 0; *used < bytes;) {
        size_t length = utf8_get(text + *used, bytes - *used, &rune);
        bool alone = is_unordered(rune);
        if (alone && *used)
            break;
        int rc = reserve(out, out->count + LONGEST, err);
        if (rc)
            return rc;
        *used += length;
        if (alone) {
            out->v[out->count++] = rune;
            break;
        }
        utf8proc_ssize_t n =
            utf8proc_decompose_char((utf8proc_int32_t)rune, (utf8proc_int32_t *)out->v + out->count,
                                    LONGEST, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, NULL);
        if (n < 0 || n > LONGEST)
            return fail(err, STYX_ERR_INTERNAL, "U+%04X cannot be decomposed", (unsigned)rune);
        out->count += (size_t)n;
    }
    return STYX_OK;
}

static int combining_class(uint32_t rune)
{
    return utf8proc_get_property((utf8proc_int32_t)rune)->combining_class;
}

/* Stable counting sort of a run of combining marks by class. */
static void sort_marks(uint32_t *marks, size_t count, uint32_t *scratch)
{
    size_t place[257] = { 0 };

    for (size_t i = 0; i < count; i++)
        place[combining_class(marks[i]) + 1]++;
    for (int i = 1; i < 257; i++)
        place[i] += place[i - 1];
    for (size_t i = 0; i < count; i++)
        scratch[place[combining_class(marks[i])]++] = marks[i];
    memcpy(marks, scratch, count * sizeof *marks);
}

/* The canonical order of UAX 15. utf8proc has it too, as an exchange sort, which a prompt of
 * nothing but marks makes quadratic. */
static int reorder(struct runes *r, struct runes *scratch, styx_error *err)
{
    int rc = reserve(scratch, r->count, err);

    for (size_t i = 0, end; i < r->count && !rc; i = end + 1) {
        for (end = i; end < r->count && combining_class(r->v[end]); end++)
            ;
        if (end - i > 1)
            sort_marks(r->v + i, end - i, scratch->v);
    }
    return rc;
}

/* Appends composed text: runs of whitespace as one space, the rest in lower case. */
static int fold(const struct runes *text, struct runes *out, styx_error *err)
{
    int rc = reserve(out, out->count + 2 * text->count, err);

    for (size_t i = 0; i < text->count && !rc; i++) {
        uint32_t rune = text->v[i];
        if (rune_is_space(rune)) {
            if (!out->count || out->v[out->count - 1] != ' ')
                out->v[out->count++] = ' ';
        } else if (rune == CAPITAL_I_DOT) { /* the only lower-case mapping to two code points */
            out->v[out->count++] = 'i';
            out->v[out->count++] = DOT_ABOVE;
        } else {
            out->v[out->count++] = rune_lower(rune);
        }
    }
    return rc;
}

int unicode_normalize(const char *text, size_t bytes, struct runes *out, struct runes work[2],
                      styx_error *err)
{
    int rc;

    out->count = 0;
    for (size_t i = 0, used; i < bytes; i += used) {
        if ((rc = decompose(text + i, bytes - i, &work[0], &used, err)) ||
            (rc = reorder(&work[0], &work[1], err)))
            return rc;
        utf8proc_ssize_t n =
            utf8proc_normalize_utf32((utf8proc_int32_t *)work[0].v, (utf8proc_ssize_t)work[0].count,
                                     UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (n < 0)
            return fail(err, STYX_ERR_INTERNAL, "cannot compose: %s", utf8proc_errmsg(n));
        work[0].count = (size_t)n;
        if ((rc = fold(&work[0], out, err)))
            return rc;
    }
    return STYX_OK;
}
