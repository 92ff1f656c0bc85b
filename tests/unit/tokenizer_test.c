/* text/tokenizer: ids as PyPI's tokenizers gives them (data/text/cases.json, made by
 * tools/tokenizer_compare.py), special tokens by the rules of transformers, and bad input. */
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define DATA STYX_TEST_DATA "/data/text"
#define BOS "<|startoftext|>"
#define EOS "<|endoftext|>"

static struct tokenizer *open_folder(const char *folder)
{
    struct tokenizer *tok = NULL;
    styx_error err = { 0 };

    if (tokenizer_open(folder, &tok, &err))
        fail_msg("%s", err.text);
    return tok;
}

/* A folder of its own with our vocabulary and the given configs; NULL leaves one out. */
static void make_folder(char *folder, const char *config, const char *map, const char *added)
{
    const struct {
        const char *name, *text;
    } files[] = { { "tokenizer_config.json", config },
                  { "special_tokens_map.json", map },
                  { "added_tokens.json", added } };
    strcpy(folder, "/tmp/styx-tokenizer-XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 3; i++) {
        char *path = path_join(folder, files[i].name);
        if (files[i].text)
            assert_int_equal(file_write(path, files[i].text, strlen(files[i].text), FILE_NEW, NULL),
                             STYX_OK);
        free(path);
    }
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "merges.txt" : "vocab.json";
        char *from = path_join(DATA, name), *to = path_join(folder, name);
        assert_int_equal(symlink(from, to), 0);
        free(from);
        free(to);
    }
}

static void remove_folder(const char *folder)
{
    static const char *const names[] = { "tokenizer_config.json",
                                         "special_tokens_map.json",
                                         "added_tokens.json",
                                         "vocab.json",
                                         "merges.txt",
                                         "tokenizer.json" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_join(folder, names[i]);
        unlink(path);
        free(path);
    }
    rmdir(folder);
}

static struct tokenizer *open_configs(const char *config, const char *map, const char *added)
{
    char folder[64];

    make_folder(folder, config, map, added);
    struct tokenizer *tok = open_folder(folder);
    remove_folder(folder);
    return tok;
}

static struct tokens encode(const struct tokenizer *tok, const char *text)
{
    struct tokens out = { 0 };

    assert_int_equal(tokenizer_append(tok, text, strlen(text), &out, NULL), STYX_OK);
    return out;
}

/* wanted ends with -1. */
static void assert_ids(const struct tokenizer *tok, const char *text, const int32_t *wanted)
{
    struct tokens got = encode(tok, text);
    size_t n = 0;

    while (wanted[n] >= 0)
        n++;
    assert_int_equal(got.count, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(got.v[i], wanted[i]);
    tokens_free(&got);
}

#define assert_tokens(tok, text, ...) assert_ids(tok, text, (const int32_t[]){ __VA_ARGS__, -1 })

static int32_t id(const struct tokenizer *tok, const char *token)
{
    int32_t found = tokenizer_id(tok, token);

    assert_true(found >= 0);
    return found;
}

static void assert_list(const json_t *ids, const int32_t *got, size_t count, const char *text)
{
    if (json_array_size(ids) != count)
        fail_msg("'%s': %zu ids instead of %zu", text, count, json_array_size(ids));
    for (size_t i = 0; i < count; i++)
        if (json_integer_value(json_array_get(ids, i)) != got[i])
            fail_msg("'%s': id %zu is %d", text, i, (int)got[i]);
}

static void ids_are_those_of_tokenizers(void **state)
{
    (void)state;
    struct tokenizer *tok = open_folder(DATA);
    json_t *root = json_load_file(DATA "/cases.json", JSON_ALLOW_NUL, NULL), *item;
    size_t i;

    const json_t *cases = json_object_get(root, "cases");
    assert_true(json_array_size(cases) >= 300);
    json_array_foreach(cases, i, item)
    {
        const json_t *text = json_array_get(item, 0);
        struct tokens got = { 0 };
        assert_int_equal(
            tokenizer_append(tok, json_string_value(text), json_string_length(text), &got, NULL),
            STYX_OK);
        assert_list(json_array_get(item, 1), got.v, got.count, json_string_value(text));
        tokens_free(&got);
    }
    json_decref(root);
    tokenizer_free(tok);
}

/* CLIP's own vocabulary is not ours to ship: checked where the folder is at hand. */
static void ids_are_those_of_clip(void **state)
{
    (void)state;
    static const char *const names[] = { "full", "tiny" };
    const char *goldens = getenv("STYX_GOLDENS");

    if (!goldens)
        skip();
    char *path = path_join(goldens, "tokens.json");
    json_t *root = json_load_file(path, 0, NULL), *item;
    assert_non_null(root);
    free(path);
    for (int k = 0; k < 2; k++) {
        char folder[4096];
        size_t i;
        snprintf(folder, sizeof folder, "%s/tokenizer_%s", goldens, names[k]);
        struct tokenizer *tok = open_folder(folder);
        json_array_foreach(json_object_get(root, names[k]), i, item)
        {
            const char *text = json_string_value(json_object_get(item, "text"));
            int32_t ids[77];
            struct tokens all = encode(tok, text);
            json_t *inner = json_deep_copy(json_object_get(item, "ids"));
            json_array_remove(inner, 0);
            json_array_remove(inner, json_array_size(inner) - 1);
            assert_list(inner, all.v, all.count, text);
            assert_int_equal(tokenizer_encode(tok, text, strlen(text), ids, 77, NULL, NULL),
                             STYX_OK);
            assert_list(json_object_get(item, "ids77"), ids, 77, text);
            json_decref(inner);
            tokens_free(&all);
        }
        tokenizer_free(tok);
    }
    json_decref(root);
}

static void sequences_are_wrapped_padded_and_cut(void **state)
{
    (void)state;
    struct tokenizer *tok = open_folder(DATA);
    int32_t bos = tokenizer_bos(tok), eos = tokenizer_eos(tok), ids[77];
    struct token_report report;

    assert_int_equal(tokenizer_max_length(tok), 77);
    assert_int_equal(tokenizer_vocab_size(tok), 847);
    assert_int_equal(bos, 845);
    assert_int_equal(eos, 846);
    assert_int_equal(tokenizer_pad(tok), eos);

    assert_int_equal(tokenizer_encode(tok, "a red cat", 9, ids, 77, &report, NULL), STYX_OK);
    assert_null(report.cut);
    struct tokens raw = encode(tok, "a red cat");
    assert_int_equal(report.count, raw.count);
    assert_int_equal(ids[0], bos);
    assert_memory_equal(ids + 1, raw.v, raw.count * sizeof *ids);
    for (size_t i = raw.count + 1; i < 77; i++)
        assert_int_equal(ids[i], eos);
    tokens_free(&raw);

    /* Nothing is cut from 75 tokens. */
    char text[512] = "";
    for (int i = 0; i < 75; i++)
        strcat(text, "a ");
    assert_int_equal(tokenizer_encode(tok, text, strlen(text), ids, 77, &report, NULL), STYX_OK);
    assert_int_equal(report.count, 75);
    assert_null(report.cut);
    assert_int_equal(ids[75], id(tok, "a</w>"));
    assert_int_equal(ids[76], eos);
    strcat(text, "Red, \xE2\x98\x83 cats");
    assert_int_equal(tokenizer_encode(tok, text, strlen(text), ids, 77, &report, NULL), STYX_OK);
    assert_string_equal(report.cut, "red , \xE2\x98\x83 cats");
    assert_int_equal(ids[75], id(tok, "a</w>"));
    assert_int_equal(ids[76], eos);
    free(report.cut);

    assert_int_equal(tokenizer_encode(tok, "", 0, ids, 3, &report, NULL), STYX_OK);
    assert_true(ids[0] == bos && ids[1] == eos && ids[2] == eos && report.count == 0);
    tokenizer_free(tok);
}

/* Which spellings of BOS, EOS and the pad token are found, by how the configs write them; each
 * answer is that of transformers 5.17. */
static void special_tokens_follow_the_configs(void **state)
{
    (void)state;
    const char *strings =
        "{\"bos_token\": \"" BOS "\", \"eos_token\": \"" EOS "\", \"pad_token\": \"!\"}";
    const char *objects = "{\"bos_token\": {\"content\": \"" BOS
                          "\", \"normalized\": true}, \"eos_token\": {\"content\": \"" EOS
                          "\", \"normalized\": true}, \"unk_token\": {\"content\": \"" EOS
                          "\", \"normalized\": true}, \"pad_token\": \"!\"}";
    const char *text = "a <|STARTOFTEXT|>" EOS "!";

    /* Strings are looked for in the text as given, so capitals are words, split as GPT-2 does. */
    struct tokenizer *tok = open_configs(strings, NULL, NULL);
    struct tokens ids = encode(tok, text), spelled = encode(tok, "<| startoftext |>");
    int32_t bos = tokenizer_bos(tok), eos = tokenizer_eos(tok), pad = tokenizer_pad(tok);
    assert_int_equal(pad, id(tok, "!"));
    assert_int_equal(ids.count, spelled.count + 3);
    assert_memory_equal(ids.v + 1, spelled.v, spelled.count * sizeof *ids.v);
    assert_int_equal(ids.v[ids.count - 2], eos);
    assert_int_equal(ids.v[ids.count - 1], pad);
    tokens_free(&ids);
    tokens_free(&spelled);
    assert_tokens(tok, "a!!", id(tok, "a</w>"), pad, pad);
    tokenizer_free(tok);

    /* Objects with normalized are looked for in lower case; the map overrides the config. */
    for (int map = 0; map < 2; map++) {
        tok = open_configs(map ? strings : objects, map ? objects : NULL, NULL);
        assert_tokens(tok, text, id(tok, "a</w>"), bos, eos, pad);
        assert_tokens(tok, "<|ENDOFTEXT|>", eos);
        tokenizer_free(tok);
    }

    /* The pad token as a string takes the place of EOS as an object, as in CLIP-L's own files. */
    tok = open_folder(DATA);
    assert_tokens(tok, "a <|STARTOFTEXT|>" EOS, id(tok, "a</w>"), bos, eos);
    ids = encode(tok, "<|ENDOFTEXT|>");
    assert_true(ids.count > 2 && ids.v[0] != eos);
    tokens_free(&ids);
    assert_tokens(tok, "!", id(tok, "!</w>"));
    tokenizer_free(tok);

    /* Nothing said: CLIP's defaults. */
    tok = open_configs(NULL, NULL, NULL);
    assert_int_equal(tokenizer_max_length(tok), 77);
    assert_true(tokenizer_bos(tok) == bos && tokenizer_pad(tok) == eos);
    tokenizer_free(tok);
}

static void added_tokens_get_the_next_ids(void **state)
{
    (void)state;
    struct tokenizer *tok =
        open_configs(NULL, NULL, "{\"<Dog>\": 848, \"<b>\": 847, \"" EOS "\": 846}");
    assert_int_equal(tokenizer_vocab_size(tok), 849);
    assert_tokens(tok, "<B><dog>", 847, 848);
    tokenizer_free(tok);

    /* added_tokens_decoder replaces the map and added_tokens.json. */
    tok = open_configs("{\"model_max_length\": 20, \"added_tokens_decoder\": {"
                       "\"900\": {\"content\": \"<y>\", \"normalized\": false},"
                       "\"899\": {\"content\": \"<x>\", \"normalized\": true},"
                       "\"0\": {\"content\": \"!\", \"normalized\": false, \"special\": true}},"
                       "\"pad_token\": \"!\"}",
                       "{\"pad_token\": \"" EOS "\"}", "{\"<b>\": 847}");
    assert_int_equal(tokenizer_pad(tok), 0);
    assert_int_equal(tokenizer_max_length(tok), 20);
    assert_int_equal(tokenizer_vocab_size(tok), 849);
    assert_tokens(tok, "<X><y>!", 847, 848, 0);
    tokenizer_free(tok);
}

static void inversions_are_found_and_expanded(void **state)
{
    (void)state;
    const char *words[] = { "<My-Cat>", "<My-Cat>_1", "<My-Cat>_2", "solo" };
    const char *taken[] = { "a</w>" }, *empty[] = { "" }, *broken[] = { "\xff" };
    struct tokenizer *tok = open_folder(DATA), *more, *none;
    styx_error err;
    char *text;

    assert_int_equal(tokenizer_with_tokens(tok, words, 4, &more, &err), STYX_OK);
    assert_int_equal(tokenizer_vocab_size(tok), 847);
    assert_int_equal(tokenizer_vocab_size(more), 851);
    assert_int_equal(tokenizer_with_tokens(tok, taken, 1, &none, &err), STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "'a</w>' is in the vocabulary already"));
    assert_int_equal(tokenizer_with_tokens(more, words, 1, &none, &err), STYX_ERR_INVALID);
    assert_int_equal(tokenizer_with_tokens(tok, empty, 1, &none, &err), STYX_ERR_INVALID);
    assert_int_equal(tokenizer_with_tokens(tok, broken, 1, &none, &err), STYX_ERR_INVALID);
    tokenizer_free(tok);

    int32_t a = id(more, "a</w>");
    assert_tokens(more, "a <my-cat>_1<My-Cat>a", a, 848, 847, a);
    const char *prompt = "a <My-Cat>, <My-Cat> and solo";
    assert_int_equal(tokenizer_expand(more, prompt, strlen(prompt), &text, &err), STYX_OK);
    assert_string_equal(text, "a <My-Cat> <My-Cat>_1 <My-Cat>_2, <My-Cat> <My-Cat>_1 <My-Cat>_2"
                              " and solo");
    free(text);
    tokenizer_free(more);
}

static void ids_become_text(void **state)
{
    (void)state;
    struct tokenizer *tok = open_folder(DATA);
    const struct {
        const char *in, *out;
    } cases[] = { { "A  Red,\tapple", "a red , apple" },
                  { "caf\xC3\xA9 \xF0\x9F\x90\xB4 2024", "caf\xC3\xA9 \xF0\x9F\x90\xB4 2 0 2 4" },
                  { "x " EOS " y", "x " EOS "y" },
                  { "", "" } };
    char *text;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokens ids = encode(tok, cases[i].in);
        assert_int_equal(tokenizer_decode(tok, ids.v, ids.count, &text, NULL), STYX_OK);
        assert_string_equal(text, cases[i].out);
        free(text);
        tokens_free(&ids);
    }
    /* Half a character, and ids that are none. */
    struct tokens snowman = encode(tok, "\xE2\x98\x83");
    assert_true(snowman.count > 1);
    int32_t ids[] = { -1, 847, INT32_MAX, snowman.v[0], id(tok, "a</w>") };
    assert_int_equal(tokenizer_decode(tok, ids, 5, &text, NULL), STYX_OK);
    assert_string_equal(text, "\xEF\xBF\xBD"
                              "a");
    free(text);
    tokens_free(&snowman);
    tokenizer_free(tok);
}

static void one_file_says_the_same(void **state)
{
    (void)state;
    char folder[64], line[256];
    json_t *vocab, *merges[2] = { json_array(), json_array() };
    FILE *f = fopen(DATA "/merges.txt", "r");

    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        char *space = strchr(line, ' ');
        line[strcspn(line, "\n")] = '\0';
        if (!strncmp(line, "#version", 8))
            continue;
        json_array_append_new(merges[0], json_string(line));
        *space = '\0';
        json_array_append_new(merges[1], json_pack("[s,s]", line, space + 1));
    }
    fclose(f);
    struct tokenizer *two = open_configs(NULL, NULL, NULL);
    for (int pairs = 0; pairs < 2; pairs++) {
        make_folder(folder, NULL, NULL, NULL);
        char *path = path_join(folder, "tokenizer.json");
        assert_int_equal(json_file(DATA "/vocab.json", &vocab, NULL), STYX_OK);
        json_t *root = json_pack("{s:{s:s,s:o,s:o},s:[{s:i,s:s,s:b}]}", "model", "type", "BPE",
                                 "vocab", vocab, "merges", merges[pairs], "added_tokens", "id", 847,
                                 "content", "<New>", "normalized", 1);
        assert_int_equal(json_dump_file(root, path, 0), 0);
        struct tokenizer *one = open_folder(folder);
        struct tokens a = encode(one, "The lighthouse, at dusk"),
                      b = encode(two, "The lighthouse, at dusk");
        assert_int_equal(a.count, b.count);
        assert_memory_equal(a.v, b.v, a.count * sizeof *a.v);
        assert_tokens(one, "<new>", 847);
        tokens_free(&a);
        tokens_free(&b);
        tokenizer_free(one);
        json_decref(root);
        free(path);
        remove_folder(folder);
    }
    tokenizer_free(two);
}

static void invalid_utf8_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "ab\x80",         "ab\xC0\xAF",
                                       "ab\xED\xA0\x80", "ab\xF4\x90\x80\x80",
                                       "ab\xE2\x98",     "ab\xFF",
                                       "ab\xF0\x9F\x90" };
    struct tokenizer *tok = open_folder(DATA);
    styx_error err;
    int32_t ids[77];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(tokenizer_encode(tok, bad[i], strlen(bad[i]), ids, 77, NULL, &err),
                         STYX_ERR_INVALID);
        assert_non_null(strstr(err.text, "not valid UTF-8"));
        assert_non_null(strstr(err.text, "at offset 2"));
    }
    assert_int_equal(tokenizer_encode(tok, "a\0b", 3, ids, 77, NULL, &err), STYX_OK);
    assert_int_equal(tokenizer_encode(tok, "a", 1, ids, 2, NULL, &err), STYX_ERR_INVALID);
    tokenizer_free(tok);
}

static void assert_no_tokenizer(const char *vocab, const char *merges, const char *config, int code,
                                const char *message)
{
    char folder[64];
    struct tokenizer *tok = (struct tokenizer *)folder;
    styx_error err = { 0 };
    const char *names[] = { "vocab.json", "merges.txt" }, *texts[] = { vocab, merges };

    make_folder(folder, config, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        char *path = path_join(folder, names[i]);
        if (texts[i]) {
            unlink(path);
            assert_int_equal(file_write(path, texts[i], strlen(texts[i]), FILE_NEW, NULL), 0);
        }
        free(path);
    }
    int rc = tokenizer_open(folder, &tok, &err);
    remove_folder(folder);
    assert_int_equal(rc, code);
    assert_null(tok);
    if (!strstr(err.text, message))
        fail_msg("'%s' was said, not '%s'", err.text, message);
}

static void bad_folders_are_refused(void **state)
{
    (void)state;
    struct tokenizer *tok;
    styx_error err;

    assert_int_equal(tokenizer_open("/tmp/styx-no-such-folder", &tok, &err), STYX_ERR_IO);
    assert_non_null(strstr(err.text, "styx-no-such-folder"));
    assert_no_tokenizer("{\"a\": \"x\"}", NULL, NULL, STYX_ERR_FORMAT, "the id of token \"a\"");
    assert_no_tokenizer("{\"a\": -1}", NULL, NULL, STYX_ERR_FORMAT, "the id of token \"a\"");
    assert_no_tokenizer("{\"a\": 99999999}", NULL, NULL, STYX_ERR_FORMAT, "the id of token");
    assert_no_tokenizer("{\"a\": 1, \"b\": 1}", NULL, NULL, STYX_ERR_FORMAT, "both have id 1");
    assert_no_tokenizer("{}", NULL, NULL, STYX_ERR_FORMAT, "is empty");
    assert_no_tokenizer("[]", NULL, NULL, STYX_ERR_FORMAT, "an object was wanted");
    assert_no_tokenizer(NULL, "#version: 0.2\na zebra\n", NULL, STYX_ERR_FORMAT,
                        "merge 1 makes \"azebra\"");
    assert_no_tokenizer(NULL, "i n\nabc\n", NULL, STYX_ERR_FORMAT, "merge 2 is not two tokens");
    assert_no_tokenizer(NULL, "a b c\n", NULL, STYX_ERR_FORMAT, "merge 1 is not two tokens");
    assert_no_tokenizer(NULL, NULL, "{\"model_max_length\": 2}", STYX_ERR_FORMAT,
                        "'model_max_length' is 2");
    assert_no_tokenizer(NULL, NULL, "{\"pad_token\": 7}", STYX_ERR_FORMAT,
                        "'pad_token' is neither a string nor an object");
    assert_no_tokenizer(NULL, NULL, "{\"pad_token\": {\"content\": \"!\", \"lstrip\": true}}",
                        STYX_ERR_UNSUPPORTED, "'pad_token' sets lstrip");
    assert_no_tokenizer(NULL, NULL, "{\"bos_token\": \"\"}", STYX_ERR_FORMAT,
                        "'bos_token' is empty");
    assert_no_tokenizer(NULL, NULL, "{\"added_tokens_decoder\": []}", STYX_ERR_FORMAT,
                        "'added_tokens_decoder' is a list");
}

/* Long words, runs of brackets and of combining marks: all in much less than a second. */
static void long_texts_are_fast(void **state)
{
    (void)state;
    static const char *const units[] = { "a",  "(",           "red cat, ", "\xCC\x81\xCC\x96",
                                         "1 ", "\xE6\x97\xA5" };
    struct tokenizer *tok = open_folder(DATA);
    size_t bytes = 100000;
    char *text = malloc(bytes + 16);
    int32_t ids[77];

    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t n = 0, unit = strlen(units[i]);
        for (; n + unit <= bytes; n += unit)
            memcpy(text + n, units[i], unit);
        struct token_report report;
        clock_t start = clock();
        assert_int_equal(tokenizer_encode(tok, text, n, ids, 77, &report, NULL), STYX_OK);
        assert_true(clock() - start < CLOCKS_PER_SEC / 2);
        assert_true(report.count > 75 && report.cut);
        free(report.cut);
    }
    free(text);
    tokenizer_free(tok);
}

static void code_points_come_and_go(void **state)
{
    (void)state;
    static const uint32_t edges[] = { 0,      0x7F,   0x80,   0x7FF,   0x800,
                                      0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF };
    char bytes[4];
    uint32_t rune;
    size_t offset;

    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        size_t n = utf8_put(edges[i], bytes);
        assert_int_equal(utf8_get(bytes, n, &rune), n);
        assert_int_equal(rune, edges[i]);
        if (n > 1) {
            assert_int_equal(utf8_get(bytes, n - 1, &rune), n - 1);
            assert_int_equal(rune, UTF8_BAD);
        }
    }
    /* The maximal subparts of Unicode's own example (table 3-8): 61, F1 80 80, E1 80, C2, 62. */
    const char *text = "\x61\xF1\x80\x80\xE1\x80\xC2\x62";
    assert_int_equal(utf8_get(text + 1, 7, &rune), 3);
    assert_int_equal(utf8_get(text + 4, 4, &rune), 2);
    assert_int_equal(utf8_get(text + 6, 2, &rune), 1);
    assert_false(utf8_valid(text, 8, &offset));
    assert_int_equal(offset, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_tokenizers),
        cmocka_unit_test(ids_are_those_of_clip),
        cmocka_unit_test(sequences_are_wrapped_padded_and_cut),
        cmocka_unit_test(special_tokens_follow_the_configs),
        cmocka_unit_test(added_tokens_get_the_next_ids),
        cmocka_unit_test(inversions_are_found_and_expanded),
        cmocka_unit_test(ids_become_text),
        cmocka_unit_test(one_file_says_the_same),
        cmocka_unit_test(invalid_utf8_is_refused),
        cmocka_unit_test(bad_folders_are_refused),
        cmocka_unit_test(long_texts_are_fast),
        cmocka_unit_test(code_points_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
