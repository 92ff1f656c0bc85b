/* image/terminal: the right kind for an environment, and bytes that such a terminal understands. */
#include "image/terminal.h"

#include <stdlib.h>
#include <string.h>

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The environment of a test: "NAME=value" strings up to NULL. */
static const char *get(void *user, const char *name)
{
    size_t n = strlen(name);

    for (const char *const *v = user; *v; v++)
        if (!strncmp(*v, name, n) && (*v)[n] == '=')
            return *v + n + 1;
    return NULL;
}

static void kinds_are_told_by_the_environment(void **state)
{
    (void)state;
    static const struct {
        const char *vars[4];
        enum terminal_kind kind;
    } cases[] = {
        { { NULL }, TERMINAL_NONE },
        { { "TERM=dumb" }, TERMINAL_NONE },
        { { "TERM=linux", "KITTY_WINDOW_ID=1" }, TERMINAL_NONE },
        { { "TERM=xterm-256color" }, TERMINAL_BLOCKS },
        { { "TERM=xterm-kitty" }, TERMINAL_KITTY },
        { { "TERM=xterm-ghostty" }, TERMINAL_KITTY },
        { { "TERM=xterm-256color", "TERM_PROGRAM=ghostty" }, TERMINAL_KITTY },
        { { "TERM=xterm-256color", "TERM_PROGRAM=WezTerm" }, TERMINAL_KITTY },
        { { "TERM=xterm-256color", "KONSOLE_VERSION=221203" }, TERMINAL_KITTY },
        { { "TERM=xterm-256color", "KONSOLE_VERSION=200401" }, TERMINAL_BLOCKS },
        { { "TERM=xterm-256color", "TERM_PROGRAM=iTerm.app" }, TERMINAL_ITERM },
        { { "TERM=xterm-256color", "LC_TERMINAL=iTerm2" }, TERMINAL_ITERM },
        { { "TERM=xterm-256color", "TERM_PROGRAM=vscode" }, TERMINAL_ITERM },
        { { "TERM=tmux-256color", "KITTY_WINDOW_ID=1" }, TERMINAL_BLOCKS },
        { { "TERM=xterm-kitty", "TMUX=/tmp/x" }, TERMINAL_BLOCKS },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(terminal_kind(get, (void *)(uintptr_t)cases[i].vars), cases[i].kind);
}

static void fill(struct image *img, int w, int h)
{
    assert_int_equal(image_new(img, w, h, 3, NULL), STYX_OK);
    for (size_t i = 0; i < image_bytes(img); i++)
        img->data[i] = (unsigned char)(i * i + i / 9);
}

static void blocks_are_two_pixels(void **state)
{
    (void)state;
    struct image img;
    char *text;
    size_t n;

    fill(&img, 2, 3);
    memset(img.data, 9, image_bytes(&img));
    img.data[0] = 255;
    img.data[11] = 1;
    assert_int_equal(terminal_picture(&img, TERMINAL_BLOCKS, 80, 0, &text, &n, NULL), STYX_OK);
    assert_string_equal(text, "\033[38;2;255;9;9m\033[48;2;9;9;9m\u2580"
                              "\033[38;2;9;9;9m\033[48;2;9;9;1m\u2580\033[0m\n"
                              "\033[38;2;9;9;9m\u2580\u2580\033[0m\n");
    assert_int_equal(n, strlen(text));
    free(text);
    image_free(&img);
}

static int count(const char *text, const char *what)
{
    int n = 0;

    for (; (text = strstr(text, what)); text++)
        n++;
    return n;
}

static void blocks_fit(void **state)
{
    (void)state;
    struct image img;
    char *text;
    size_t n;

    fill(&img, 100, 200);
    assert_int_equal(terminal_picture(&img, TERMINAL_BLOCKS, 20, 0, &text, &n, NULL), STYX_OK);
    assert_int_equal(count(text, "\n"), 20);
    assert_int_equal(count(text, "\u2580"), 20 * 20);
    free(text);
    assert_int_equal(terminal_picture(&img, TERMINAL_BLOCKS, 20, 5, &text, &n, NULL), STYX_OK);
    assert_int_equal(count(text, "\n"), 5);
    assert_int_equal(count(text, "\u2580"), 5 * 5);
    free(text);
    image_free(&img);
}

/* The payload's characters without the escapes around them, decoded. */
static size_t decode(const char *text, unsigned char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t x = 0;
    int bits = 0;
    size_t n = 0;

    for (; *text && strchr(digits, *text); text++) {
        x = x << 6 | (uint32_t)(strchr(digits, *text) - digits);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[n++] = (unsigned char)(x >> bits);
        }
    }
    return n;
}

static void protocols_carry_the_picture(void **state)
{
    (void)state;
    struct image img, back;
    char *text, *whole;
    size_t n;
    styx_error err = { 0 };

    fill(&img, 61, 47);
    assert_int_equal(terminal_picture(&img, TERMINAL_KITTY, 40, 0, &text, &n, &err), STYX_OK);
    whole = calloc(1, n + 1);
    unsigned char *png = malloc(n);
    assert_int_equal(strncmp(text, "\033_Gf=100,a=T,q=2,c=40,m=1;", 26), 0);
    for (char *p = text; (p = strstr(p, "\033_G"));) {
        char *payload = strchr(p, ';') + 1, *end = strstr(payload, "\033\\");
        assert_true(end && end - payload <= 4096);
        assert_int_equal(payload[-2] == '0', !strstr(end, "\033_G"));
        strncat(whole, payload, (size_t)(end - payload));
        p = end;
    }
    assert_int_equal(image_decode(png, decode(whole, png), "kitty", &back, NULL, &err), STYX_OK);
    assert_memory_equal(back.data, img.data, image_bytes(&img));
    image_free(&back);
    free(text);

    assert_int_equal(terminal_picture(&img, TERMINAL_ITERM, 40, 0, &text, &n, &err), STYX_OK);
    assert_int_equal(strncmp(text, "\033]1337;File=inline=1;size=", 26), 0);
    size_t bytes = decode(strchr(text, ':') + 1, png);
    assert_int_equal(strtoul(text + 26, NULL, 10), bytes);
    assert_int_equal(image_decode(png, bytes, "iterm", &back, NULL, &err), STYX_OK);
    assert_memory_equal(back.data, img.data, image_bytes(&img));
    assert_string_equal(text + n - 2, "\a\n");
    free(whole);
    free(png);
    free(text);
    image_free(&back);
    image_free(&img);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct image img;
    char *text;
    size_t n;

    fill(&img, 4, 4);
    assert_int_equal(terminal_picture(&img, TERMINAL_NONE, 80, 0, &text, &n, NULL),
                     STYX_ERR_UNSUPPORTED);
    assert_int_equal(terminal_picture(&img, TERMINAL_BLOCKS, 0, 0, &text, &n, NULL),
                     STYX_ERR_INVALID);
    assert_null(text);
    image_free(&img);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_are_told_by_the_environment),
        cmocka_unit_test(blocks_are_two_pixels),
        cmocka_unit_test(blocks_fit),
        cmocka_unit_test(protocols_carry_the_picture),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
