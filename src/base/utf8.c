#include "base/utf8.h"

size_t utf8_get(const char *text, size_t bytes, uint32_t *rune)
{
    const uint8_t *s = (const uint8_t *)text;
    /* What the second byte may be keeps out overlong forms, surrogates and code points too large.
     */
    uint8_t low = 0x80, high = 0xBF;
    size_t length;

    *rune = UTF8_BAD;
    if (s[0] < 0x80) {
        *rune = s[0];
        return 1;
    }
    if (s[0] >= 0xC2 && s[0] <= 0xDF)
        length = 2;
    else if (s[0] >= 0xE0 && s[0] <= 0xEF)
        length = 3;
    else if (s[0] >= 0xF0 && s[0] <= 0xF4)
        length = 4;
    else
        return 1;
    if (s[0] == 0xE0)
        low = 0xA0;
    else if (s[0] == 0xED)
        high = 0x9F;
    else if (s[0] == 0xF0)
        low = 0x90;
    else if (s[0] == 0xF4)
        high = 0x8F;

    uint32_t value = s[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if (i >= bytes || s[i] < low || s[i] > high)
            return i;
        value = value << 6 | (s[i] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    *rune = value;
    return length;
}

size_t utf8_put(uint32_t rune, char out[4])
{
    uint8_t *s = (uint8_t *)out;

    if (rune < 0x80) {
        s[0] = (uint8_t)rune;
        return 1;
    }
    if (rune < 0x800) {
        s[0] = (uint8_t)(0xC0 | rune >> 6);
        s[1] = (uint8_t)(0x80 | (rune & 0x3F));
        return 2;
    }
    if (rune < 0x10000) {
        s[0] = (uint8_t)(0xE0 | rune >> 12);
        s[1] = (uint8_t)(0x80 | (rune >> 6 & 0x3F));
        s[2] = (uint8_t)(0x80 | (rune & 0x3F));
        return 3;
    }
    s[0] = (uint8_t)(0xF0 | rune >> 18);
    s[1] = (uint8_t)(0x80 | (rune >> 12 & 0x3F));
    s[2] = (uint8_t)(0x80 | (rune >> 6 & 0x3F));
    s[3] = (uint8_t)(0x80 | (rune & 0x3F));
    return 4;
}

bool utf8_valid(const char *text, size_t bytes, size_t *offset)
{
    uint32_t rune;

    for (size_t i = 0; i < bytes;) {
        size_t length = utf8_get(text + i, bytes - i, &rune);
        if (rune == UTF8_BAD) {
            *offset = i;
            return false;
        }
        i += length;
    }
    return true;
}
