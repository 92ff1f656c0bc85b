#include <string.h>

#include "base/utf8.h"
#include "image/codec.h"

enum { REPLACEMENT = 0xfffd };

static void add_rune(struct buffer *out, uint32_t rune)
{
    char utf8[4];

    buffer_add(out, utf8, utf8_put(rune, utf8));
}

static void from_latin1(const void *text, size_t bytes, struct buffer *out)
{
    const unsigned char *p = text;

    for (size_t i = 0; i < bytes; i++)
        add_rune(out, p[i]);
}

void charset_from_utf16(const void *text, size_t bytes, bool big_endian, struct buffer *out)
{
    const unsigned char *p = text;
    uint32_t high = 0; /* a surrogate that waits for its second half */

    for (size_t i = 0; i + 1 < bytes; i += 2) {
        uint32_t unit = (uint32_t)p[i + !big_endian] << 8 | p[i + big_endian];
        if (high && unit >= 0xdc00 && unit < 0xe000) {
            add_rune(out, 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00));
            high = 0;
            continue;
        }
        if (high)
            add_rune(out, REPLACEMENT);
        high = unit >= 0xd800 && unit < 0xdc00 ? unit : 0;
        if (!high)
            add_rune(out, unit >= 0xdc00 && unit < 0xe000 ? REPLACEMENT : unit);
    }
    if (high)
        add_rune(out, REPLACEMENT);
}

static void put_unit(struct buffer *out, uint32_t unit)
{
    buffer_byte(out, (unsigned char)(unit >> 8));
    buffer_byte(out, (unsigned char)unit);
}

void charset_to_utf16_be(const char *text, struct buffer *out)
{
    size_t bytes = strlen(text);
    uint32_t rune;

    for (size_t i = 0; i < bytes;) {
        i += utf8_get(text + i, bytes - i, &rune);
        if (rune == UTF8_BAD)
            rune = REPLACEMENT;
        if (rune >= 0x10000) {
            put_unit(out, 0xd800 + ((rune - 0x10000) >> 10));
            rune = 0xdc00 + ((rune - 0x10000) & 0x3ff);
        }
        put_unit(out, rune);
    }
}

void charset_guess(const void *text, size_t bytes, struct buffer *out)
{
    size_t offset;

    if (utf8_valid(text, bytes, &offset))
        buffer_add(out, text, bytes);
    else
        from_latin1(text, bytes, out);
}
