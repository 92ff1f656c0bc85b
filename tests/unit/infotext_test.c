/* image/infotext: what A1111 writes is understood, and what we write comes back. */
#include "image/infotext.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void parse(const char *text, struct infotext *info)
{
    styx_error err = { 0 };

    assert_int_equal(infotext_parse(text, info, &err), STYX_OK);
}

static void expect(const struct infotext *info, const char *key, const char *value)
{
    const char *found = infotext_get(info, key);

    if (!value) {
        assert_null(found);
        return;
    }
    if (!found)
        fail_msg("there is no '%s'", key);
    assert_string_equal(found, value);
}

static void a_usual_text_is_understood(void **state)
{
    (void)state;
    struct infotext info;

    parse("masterpiece, (a red fox:1.3)\nin snow, Steps: of stone\n"
          "Negative prompt: blurry, text,\n ugly \n"
          "Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 4294967295, "
          "Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned, Denoising strength: 0.5, "
          "Lora hashes: \"a: 1234, b: 5678\", TI: \"say \\\"hi\\\"\\n\\u96ea\", Version: v1.10.1",
          &info);
    expect(&info, "Prompt", "masterpiece, (a red fox:1.3)\nin snow, Steps: of stone");
    expect(&info, "Negative prompt", "blurry, text,\nugly");
    expect(&info, "Steps", "25");
    expect(&info, "sampler", "DPM++ 2M");
    expect(&info, "Schedule type", "Karras");
    expect(&info, "CFG scale", "7.5");
    expect(&info, "Seed", "4294967295");
    expect(&info, "Size", "512x768");
    expect(&info, "Model hash", "6ce0161689");
    expect(&info, "Lora hashes", "a: 1234, b: 5678");
    expect(&info, "TI", "say \"hi\"\n\xe9\x9b\xaa");
    expect(&info, "Version", "v1.10.1");
    expect(&info, "Absent", NULL);
    assert_int_equal(info.nitems, 14);
    infotext_free(&info);
}

static void parts_may_be_missing(void **state)
{
    (void)state;
    struct infotext info;

    parse("", &info);
    expect(&info, "Prompt", "");
    assert_int_equal(info.nitems, 1);
    infotext_free(&info);

    parse("only a prompt\r\nof two lines: yes, two: of them", &info);
    expect(&info, "Prompt", "only a prompt\nof two lines: yes, two: of them");
    assert_int_equal(info.nitems, 1);
    infotext_free(&info);

    parse("Steps: 20, Seed: 7, Size: 8x8\n", &info);
    expect(&info, "Prompt", "");
    expect(&info, "Seed", "7");
    infotext_free(&info);

    parse("Negative prompt: nothing\nSteps: 20, Seed: 7, Size: 8x8", &info);
    expect(&info, "Prompt", "");
    expect(&info, "Negative prompt", "nothing");
    infotext_free(&info);
}

static void broken_values_are_kept(void **state)
{
    (void)state;
    struct infotext info;

    parse("p\nSteps: , Note: \"open, Seed: 7, Bad: \"\\x\", Odd: \"a\"b, , :, junk, Size: 8x8, "
          "A/B-c: 1",
          &info);
    expect(&info, "Steps", "");
    expect(&info, "Note", "\"open");
    expect(&info, "Seed", "7");
    expect(&info, "Bad", "\"\\x\"");
    expect(&info, "Odd", "\"a\"b");
    expect(&info, "Size", "8x8");
    expect(&info, "A/B-c", "1");
    infotext_free(&info);
}

static void what_is_written_comes_back(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        { "Prompt", "a fox, red: very\nin \xe9\x9b\xaa" },
        { "Negative prompt", "dull, \"grey\"" },
        { "Steps", "20" },
        { "Sampler", "Euler a" },
        { "Model", "C:\\models\\a, b.safetensors" },
        { "Note", "two\nlines and \"quotes\"" },
        { "Size", "512x512" },
    };
    const size_t npairs = sizeof pairs / sizeof *pairs;
    struct infotext info = { 0 }, back;
    char *text;

    for (size_t i = 0; i < npairs; i++)
        assert_int_equal(infotext_set(&info, pairs[i][0], "first", NULL), STYX_OK);
    for (size_t i = 0; i < npairs; i++)
        assert_int_equal(infotext_set(&info, pairs[i][0], pairs[i][1], NULL), STYX_OK);
    assert_int_equal(info.nitems, npairs);
    assert_int_equal(infotext_write(&info, &text, NULL), STYX_OK);
    assert_string_equal(text,
                        "a fox, red: very\nin \xe9\x9b\xaa\nNegative prompt: dull, \"grey\"\n"
                        "Steps: 20, Sampler: Euler a, Model: \"C:\\\\models\\\\a, b.safetensors\", "
                        "Note: \"two\\nlines and \\\"quotes\\\"\", Size: 512x512");
    parse(text, &back);
    assert_int_equal(back.nitems, npairs);
    for (size_t i = 0; i < npairs; i++)
        expect(&back, pairs[i][0], pairs[i][1]);
    infotext_free(&back);
    infotext_free(&info);
    free(text);
}

/* Texts of the bytes that mean something, in any order. */
static void any_text_is_parsed(void **state)
{
    (void)state;
    static const char *const words[] = {
        "\n", ":",  ", ",       "\"", "\\", " ",          "ab",
        "1",  "a:", "\xc3\xa9", ",",  "\r", "Steps: 1, ", "Negative prompt:"
    };
    uint64_t x = 1;

    for (int round = 0; round < 20000; round++) {
        char text[512] = "";
        struct infotext info;
        for (int n = 0; n < 24; n++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            strcat(text, words[(x >> 40) % (sizeof words / sizeof *words)]);
        }
        parse(text, &info);
        assert_non_null(infotext_get(&info, "Prompt"));
        infotext_free(&info);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_usual_text_is_understood), cmocka_unit_test(parts_may_be_missing),
        cmocka_unit_test(broken_values_are_kept),     cmocka_unit_test(what_is_written_comes_back),
        cmocka_unit_test(any_text_is_parsed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
