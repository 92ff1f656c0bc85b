#include "image/terminal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "image/resize.h"

static bool starts(const char *text, const char *with)
{
    return text && !strncmp(text, with, strlen(with));
}

enum terminal_kind terminal_kind(const char *(*get)(void *user, const char *name), void *user)
{
    const char *term = get(user, "TERM"), *program = get(user, "TERM_PROGRAM");
    const char *konsole = get(user, "KONSOLE_VERSION");

    if (!term || !*term || !strcmp(term, "dumb") || !strcmp(term, "linux") || starts(term, "vt"))
        return TERMINAL_NONE;
    /* Multiplexers swallow the graphics unless told otherwise, but pass colours on. */
    if (get(user, "TMUX") || starts(term, "screen") || starts(term, "tmux"))
        return TERMINAL_BLOCKS;
    if (!strcmp(term, "xterm-kitty") || !strcmp(term, "xterm-ghostty") ||
        get(user, "KITTY_WINDOW_ID") || starts(program, "ghostty") || starts(program, "WezTerm"))
        return TERMINAL_KITTY;
    if (konsole && atoi(konsole) >= 220400) /* 22.04 brought the protocol */
        return TERMINAL_KITTY;
    if (starts(program, "iTerm") || starts(program, "vscode") || starts(program, "mintty") ||
        starts(get(user, "LC_TERMINAL"), "iTerm"))
        return TERMINAL_ITERM;
    return TERMINAL_BLOCKS;
}

/* RFC 4648, section 4. */
static void base64(const unsigned char *p, size_t bytes, struct buffer *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < bytes; i += 3) {
        size_t n = bytes - i < 3 ? bytes - i : 3;
        uint32_t x =
            (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0);
        char four[4] = { digits[x >> 18], digits[x >> 12 & 63], digits[x >> 6 & 63],
                         digits[x & 63] };
        memset(four + n + 1, '=', 3 - n);
        buffer_add(out, four, 4);
    }
}

/* sw.kovidgoyal.net/kitty/graphics-protocol: f=100 is PNG, a=T shows it at once, q=2 asks for no
 * answer, c is the width in cells; the data goes in pieces of at most 4096 bytes, m=1 on all but
 * the last. */
static void kitty(const struct buffer *data, int columns, struct buffer *out)
{
    enum { PIECE = 4096 };

    for (size_t at = 0; at < data->bytes; at += PIECE) {
        size_t n = data->bytes - at < PIECE ? data->bytes - at : PIECE;
        buffer_text(out, "\033_G");
        if (!at)
            buffer_printf(out, "f=100,a=T,q=2,c=%d,", columns);
        buffer_printf(out, "m=%d;", at + n < data->bytes);
        buffer_add(out, data->data + at, n);
        buffer_text(out, "\033\\");
    }
    buffer_byte(out, '\n');
}

/* iterm2.com/documentation-images.html */
static void iterm(const struct buffer *data, size_t png_bytes, int columns, struct buffer *out)
{
    buffer_printf(out,
                  "\033]1337;File=inline=1;size=%zu;width=%d;preserveAspectRatio=1:", png_bytes,
                  columns);
    buffer_add(out, data->data, data->bytes);
    buffer_text(out, "\a\n");
}

static int protocol(const struct image *img, enum terminal_kind kind, int columns,
                    struct buffer *out, styx_error *err)
{
    unsigned char *png = NULL;
    size_t n;
    struct buffer data = { 0 };
    int rc = image_encode(IMAGE_PNG, img, NULL, 0, &png, &n, err);

    if (rc)
        return rc;
    base64(png, n, &data);
    if (kind == TERMINAL_KITTY)
        kitty(&data, columns, out);
    else
        iterm(&data, n, columns, out);
    out->nomem |= data.nomem;
    buffer_free(&data);
    free(png);
    return STYX_OK;
}

/* U+2580 fills the upper half of a cell with the foreground; the background is the lower half.
 * A colour is only told where it changes. */
static void blocks(const struct image *img, struct buffer *out)
{
    size_t stride = (size_t)img->w * 3;

    for (int y = 0; y < img->h; y += 2) {
        const unsigned char *upper = img->data + (size_t)y * stride, *lower = upper + stride;
        bool pair = y + 1 < img->h;
        for (size_t x = 0; x < stride; x += 3) {
            if (!x || memcmp(upper + x, upper + x - 3, 3))
                buffer_printf(out, "\033[38;2;%d;%d;%dm", upper[x], upper[x + 1], upper[x + 2]);
            if (pair && (!x || memcmp(lower + x, lower + x - 3, 3)))
                buffer_printf(out, "\033[48;2;%d;%d;%dm", lower[x], lower[x + 1], lower[x + 2]);
            buffer_text(out, "\u2580");
        }
        buffer_text(out, "\033[0m\n");
    }
}

/* Cells are about twice as high as wide, so that a half block is square. */
static int half_blocks(const struct image *img, int columns, int rows, struct buffer *out,
                       styx_error *err)
{
    struct image small;
    double scale = (double)columns / img->w;

    if (rows && img->h * scale > 2.0 * rows)
        scale = 2.0 * rows / img->h;
    if (scale > 1)
        scale = 1;
    int w = (int)(img->w * scale + 0.5), h = (int)(img->h * scale + 0.5);
    int rc = image_resize(img, w < 1 ? 1 : w, h < 1 ? 1 : h, RESIZE_LANCZOS, &small, err);
    if (rc)
        return rc;
    blocks(&small, out);
    image_free(&small);
    return STYX_OK;
}

int terminal_picture(const struct image *img, enum terminal_kind kind, int columns, int rows,
                     char **text, size_t *bytes, styx_error *err)
{
    struct buffer out = { 0 };
    unsigned char *data;
    int rc;

    *text = NULL;
    *bytes = 0;
    if (img->channels != 3 || columns < 1 || rows < 0)
        return fail(err, STYX_ERR_INVALID, "an RGB picture and at least one column were wanted");
    if (kind == TERMINAL_NONE)
        return fail(err, STYX_ERR_UNSUPPORTED, "this terminal cannot show pictures");
    rc = kind == TERMINAL_BLOCKS ? half_blocks(img, columns, rows, &out, err)
                                 : protocol(img, kind, columns, &out, err);
    if (!rc && !(rc = buffer_take(&out, &data, bytes, err)))
        *text = (char *)data;
    buffer_free(&out);
    return rc;
}
