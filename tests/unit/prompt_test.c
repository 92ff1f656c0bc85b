/* text/prompt: weights, BREAK and chunks as AUTOMATIC1111's web UI makes them. */
#include "text/prompt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct tokenizer *tok;

static int setup(void **state)
{
    (void)state;
    return tokenizer_open(STYX_TEST_DATA "/data/text", &tok, NULL);
}

static int teardown(void **state)
{
    (void)state;
    tokenizer_free(tok);
    return 0;
}

static struct prompt parse(const char *text)
{
    struct prompt p;
    styx_error err = { 0 };

    if (prompt_parse(tok, text, strlen(text), &p, &err))
        fail_msg("'%s': %s", text, err.text);
    return p;
}

/* How many tokens text is. */
static int length_of(const char *text)
{
    struct tokens ids = { 0 };

    assert_int_equal(tokenizer_append(tok, text, strlen(text), &ids, NULL), STYX_OK);
    int count = (int)ids.count;
    tokens_free(&ids);
    return count;
}

/* The weights of the words of one chunk, one word after the other. */
struct word {
    const char *text;
    double weight;
};

static void assert_words(const char *text, const struct word *words, int nwords)
{
    struct prompt p = parse(text);
    struct tokens plain = { 0 };
    int at = 1;

    assert_int_equal(p.nchunks, 1);
    for (int i = 0; i < nwords; i++) {
        plain.count = 0;
        assert_int_equal(tokenizer_append(tok, words[i].text, strlen(words[i].text), &plain, NULL),
                         STYX_OK);
        for (size_t j = 0; j < plain.count; j++, at++) {
            if (p.ids[at] != plain.v[j])
                fail_msg("'%s': other ids at %d ('%s')", text, at, words[i].text);
            if (fabs(p.weights[at] - words[i].weight) > 1e-6)
                fail_msg("'%s': '%s' has weight %g", text, words[i].text, (double)p.weights[at]);
        }
    }
    assert_int_equal(p.ids[0], tokenizer_bos(tok));
    for (int i = at; i < p.length; i++) {
        assert_int_equal(p.ids[i], tokenizer_eos(tok));
        assert_true(p.weights[i] == 1);
    }
    tokens_free(&plain);
    prompt_free(&p);
}

#define WORDS(text, ...)                                                                           \
    assert_words(text, (const struct word[]){ __VA_ARGS__ },                                       \
                 (int)(sizeof((const struct word[]){ __VA_ARGS__ }) / sizeof(struct word)))

static void brackets_weigh(void **state)
{
    (void)state;
    WORDS("a red cat", { "a red cat", 1 });
    WORDS("a (red) cat", { "a", 1 }, { "red", 1.1 }, { "cat", 1 });
    WORDS("a ((red)) cat", { "a", 1 }, { "red", 1.21 }, { "cat", 1 });
    WORDS("a [red] cat", { "a", 1 }, { "red", 1 / 1.1 }, { "cat", 1 });
    WORDS("a (red:1.3) cat", { "a", 1 }, { "red", 1.3 }, { "cat", 1 });
    WORDS("(a [red:1.5] cat:2)", { "a", 2 }, { "red:1.5", 2 / 1.1 }, { "cat", 2 });
    WORDS("(a (red: 0.5 ) cat)", { "a", 1.1 }, { "red", 0.55 }, { "cat", 1.1 });
    WORDS("(red:-1)(cat:+.5)(old:2.)", { "red", -1 }, { "cat", .5 }, { "old", 2 });
    /* Never closed, never opened, crossed. */
    WORDS("a (red cat", { "a", 1 }, { "red cat", 1.1 });
    WORDS("a) red] cat", { "a", 1 }, { ")", 1 }, { "red", 1 }, { "]", 1 }, { "cat", 1 });
    WORDS("(a [red) cat]", { "a", 1.1 }, { "red", 1 }, { "cat", 1 / 1.1 });
    /* No weight without a bracket; a weight needs digits. */
    WORDS("red:1.3) cat", { "red", 1 }, { ":1.3)", 1 }, { "cat", 1 });
    WORDS("(red:x)", { "red", 1.1 }, { ":", 1.1 }, { "x", 1.1 });
    WORDS("", { "", 1 });
    WORDS("()[]", { "", 1 });
}

static void backslashes_escape(void **state)
{
    (void)state;
    WORDS("a \\(red\\) cat", { "a (red) cat", 1 });
    WORDS("(\\[red\\]:2)", { "[red]", 2 });
    WORDS("red\\\\cat", { "red\\cat", 1 });
    WORDS("red\\cat", { "redcat", 1 });
    WORDS("red\\", { "red", 1 });
    WORDS("(red\\:1.3)", { "red", 1.3 });
}

static void neighbours_of_one_weight_are_one_text(void **state)
{
    (void)state;
    assert_true(length_of("apple") < length_of("app") + length_of("le"));
    WORDS("(app)(le)", { "apple", 1.1 });
    WORDS("(app)(le:1.2)", { "app", 1.1 }, { "le", 1.2 });
}

static void break_ends_a_chunk(void **state)
{
    (void)state;
    struct prompt p = parse("red BREAK cat\nBREAK (old)");
    int32_t red = tokenizer_id(tok, "red</w>");

    assert_int_equal(p.nchunks, 3);
    assert_int_equal(p.length, 77);
    assert_int_equal(p.ids[1], red);
    assert_int_equal(p.ids[2], tokenizer_eos(tok));
    assert_int_equal(p.ids[77], tokenizer_bos(tok));
    assert_true(fabsf(p.weights[2 * 77 + 1] - 1.1f) < 1e-6f);
    assert_true(p.weighted && !p.clamped);
    prompt_free(&p);

    p = parse("BREAK BREAK red BREAK");
    assert_int_equal(p.nchunks, 3);
    assert_int_equal(p.ids[77 + 1], tokenizer_eos(tok));
    assert_int_equal(p.ids[2 * 77 + 1], red);
    assert_false(p.weighted);
    prompt_free(&p);

    WORDS("a BREAKs xBREAK BREAK_ break", { "a BREAKs xBREAK BREAK_ break", 1 });
    WORDS("a (red BREAK cat)", { "a", 1 }, { "red", 1.1 }, { "break", -1.1 }, { "cat", 1.1 });
}

/* n times a word of one token. */
static void repeat(char *text, const char *word, int n)
{
    for (int i = 0; i < n; i++)
        strcat(text, word);
}

static void long_prompts_are_cut_at_commas(void **state)
{
    (void)state;
    int32_t comma = tokenizer_id(tok, ",</w>"), a = tokenizer_id(tok, "a</w>");
    int32_t eos = tokenizer_eos(tok);
    const struct {
        int before, after, kept; /* words before and after the comma; tokens in the first chunk */
    } cases[] = {
        { 55, 40, 56 }, /* 19 tokens after the comma: they move */
        { 54, 40, 75 }, /* the comma is the 21st from the end: too far */
        { 74, 2, 75 },  /* the comma is the last that fits */
        { 75, 2, 75 },  /* the comma does not fit */
        { 60, 14, 75 }, /* everything fits exactly */
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024] = "";
        repeat(text, "a ", cases[i].before);
        strcat(text, ", ");
        repeat(text, "a ", cases[i].after);
        struct prompt p = parse(text);
        int kept = 0, seen = 0;
        while (p.ids[1 + kept] == a || p.ids[1 + kept] == comma)
            kept++;
        assert_int_equal(kept, cases[i].kept);
        assert_int_equal(p.ids[1 + kept], eos);
        for (int j = 0; j < p.nchunks * p.length; j++)
            seen += p.ids[j] == a || p.ids[j] == comma;
        assert_int_equal(seen, cases[i].before + cases[i].after + 1);
        assert_int_equal(p.nchunks, seen > 75 ? 2 : 1);
        prompt_free(&p);
    }

    /* The weights move along. */
    char text[1024] = "";
    repeat(text, "a ", 60);
    strcat(text, ", (");
    repeat(text, "a ", 20);
    strcat(text, ":1.5)");
    struct prompt p = parse(text);
    assert_int_equal(p.ids[62], eos);
    assert_true(p.weights[61] == 1 && p.weights[62] == 1 && p.weights[77] == 1);
    for (int i = 1; i <= 20; i++)
        assert_true(p.weights[77 + i] == 1.5f);
    assert_true(p.weights[77 + 21] == 1);
    prompt_free(&p);
}

static void prompts_can_be_made_as_long(void **state)
{
    (void)state;
    struct prompt p = parse("(red)");
    float weight = p.weights[1];

    assert_int_equal(prompt_extend(&p, tok, 3, NULL), STYX_OK);
    assert_int_equal(p.nchunks, 3);
    assert_true(p.weights[1] == weight);
    for (int chunk = 1; chunk < 3; chunk++) {
        assert_int_equal(p.ids[chunk * 77], tokenizer_bos(tok));
        for (int i = 1; i < 77; i++)
            assert_int_equal(p.ids[chunk * 77 + i], tokenizer_eos(tok));
        for (int i = 0; i < 77; i++)
            assert_true(p.weights[chunk * 77 + i] == 1);
    }
    assert_int_equal(prompt_extend(&p, tok, 2, NULL), STYX_OK);
    assert_int_equal(p.nchunks, 3);
    prompt_free(&p);
}

static void embeddings_are_weighed(void **state)
{
    (void)state;
    const float weights[] = { 1, 2, 0.5f };
    float kept[] = { 1, 2, 3, 4, 5, 6 }, plain[] = { 1, 2, 3, 4, 5, 6 };
    const float weighed[] = { 1, 2, 6, 8, 2.5f, 3 }; /* sum 22.5, of 21 */

    prompt_weigh(plain, weights, 3, 2, false);
    prompt_weigh(kept, weights, 3, 2, true);
    for (int i = 0; i < 6; i++) {
        assert_true(plain[i] == weighed[i]);
        assert_true(fabsf(kept[i] - weighed[i] * (21 / 22.5f)) < 1e-6f);
    }
    float zero[] = { 1, -1 };
    prompt_weigh(zero, weights, 1, 2, true);
    assert_true(zero[0] == 1 && zero[1] == -1);
}

static void bad_and_huge_weights(void **state)
{
    (void)state;
    static const char *const bad[] = { "(x:1.2.3)", "(x:.)", "(x:-..5)", "a (x:+.) b" };
    struct prompt p;
    styx_error err;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(prompt_parse(tok, bad[i], strlen(bad[i]), &p, &err), STYX_ERR_INVALID);
        assert_non_null(strstr(err.text, "a weight that is not a number"));
        assert_null(p.ids);
    }
    assert_int_equal(prompt_parse(tok, "a\xff", 2, &p, &err), STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "at offset 1"));
    WORDS("(x:99999)", { "x", PROMPT_MAX_WEIGHT });
    WORDS("(x:-99999)", { "x", -PROMPT_MAX_WEIGHT });
    WORDS("(x:0.333333333333333333333333333333)", { "x", 1.0 / 3 });
    p = parse("(x:99999)");
    assert_true(p.clamped);
    prompt_free(&p);
}

static void long_prompts_are_fast(void **state)
{
    (void)state;
    static const char *const units[] = { "(", "[a", "(a:1.1)", "a, ", "BREAK ", ":", "\\(" };
    size_t bytes = 20000;
    char *text = malloc(bytes + 16);

    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t n = 0, unit = strlen(units[i]);
        struct prompt p;
        for (; n + unit <= bytes; n += unit)
            memcpy(text + n, units[i], unit);
        clock_t start = clock();
        assert_int_equal(prompt_parse(tok, text, n, &p, NULL), STYX_OK);
        assert_true(clock() - start < CLOCKS_PER_SEC / 2);
        for (int j = 0; j < p.nchunks * p.length; j++)
            assert_true(fabsf(p.weights[j]) <= PROMPT_MAX_WEIGHT);
        prompt_free(&p);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(brackets_weigh),
        cmocka_unit_test(backslashes_escape),
        cmocka_unit_test(neighbours_of_one_weight_are_one_text),
        cmocka_unit_test(break_ends_a_chunk),
        cmocka_unit_test(long_prompts_are_cut_at_commas),
        cmocka_unit_test(prompts_can_be_made_as_long),
        cmocka_unit_test(embeddings_are_weighed),
        cmocka_unit_test(bad_and_huge_weights),
        cmocka_unit_test(long_prompts_are_fast),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
