/* The little of EXIF that a picture generator meets: the orientation and the user comment, which
 * is where A1111 and its readers keep the parameters of JPEG and WebP files.
 *
 * A TIFF structure is a tree of directories with 12-byte entries: tag, type, count, and the value
 * or its offset. (TIFF 6.0, section 2; EXIF 2.3, section 4.6.) */
#include <stdlib.h>
#include <string.h>

#include "image/codec.h"

enum {
    TAG_ORIENTATION = 0x0112,
    TAG_EXIF = 0x8769, /* offset of a second directory */
    TAG_COMMENT = 0x9286,
    TYPE_SHORT = 3,
    TYPE_LONG = 4,
    TYPE_UNDEFINED = 7,
    CODE_BYTES = 8 /* the comment starts with its character code */
};

struct tiff {
    const unsigned char *data;
    size_t bytes;
    bool big_endian;
};

struct entry {
    unsigned type;
    uint32_t count;
    size_t value; /* where the value or its offset lies */
};

static uint32_t number(const struct tiff *t, size_t at, int nbytes)
{
    uint32_t x = 0;

    for (int i = 0; i < nbytes; i++) {
        int byte = t->big_endian ? i : nbytes - 1 - i;
        x = x << 8 | t->data[at + (size_t)byte];
    }
    return x;
}

static bool open_tiff(struct tiff *t, const void *data, size_t bytes)
{
    *t = (struct tiff){ data, bytes, false };
    if (bytes < 8)
        return false;
    if (!memcmp(data, "MM\0*", 4))
        t->big_endian = true;
    else if (memcmp(data, "II*\0", 4))
        return false;
    return true;
}

static bool find(const struct tiff *t, size_t dir, unsigned tag, struct entry *e)
{
    if (dir > t->bytes - 2)
        return false;
    unsigned n = number(t, dir, 2);
    for (unsigned i = 0; i < n; i++) {
        size_t at = dir + 2 + 12 * (size_t)i;
        if (at + 12 > t->bytes)
            return false;
        if (number(t, at, 2) == tag) {
            *e = (struct entry){ number(t, at + 2, 2), number(t, at + 4, 4), at + 8 };
            return true;
        }
    }
    return false;
}

int exif_orientation(const void *data, size_t bytes)
{
    struct tiff t;
    struct entry e;

    if (!open_tiff(&t, data, bytes) || !find(&t, number(&t, 4, 4), TAG_ORIENTATION, &e) ||
        e.type != TYPE_SHORT)
        return 1;
    unsigned o = number(&t, e.value, 2);
    return o >= 1 && o <= 8 ? (int)o : 1;
}

/* EXIF says UTF-16 in the byte order of the TIFF header, most writers say big-endian always; the
 * text itself decides: in most scripts the high bytes repeat, and those of ASCII are 0. */
static bool looks_big_endian(const unsigned char *p, size_t bytes)
{
    size_t zeros[2] = { 0, 0 };

    for (size_t i = 0; i < bytes; i++)
        zeros[i & 1] += !p[i];
    return zeros[0] >= zeros[1];
}

static void decode_comment(const unsigned char *p, size_t bytes, struct buffer *out)
{
    const unsigned char *body = p + CODE_BYTES;
    size_t n = bytes - CODE_BYTES;

    if (!memcmp(p, "UNICODE", CODE_BYTES)) {
        bool big = looks_big_endian(body, n);
        if (n >= 2 && (!memcmp(body, "\xfe\xff", 2) || !memcmp(body, "\xff\xfe", 2))) {
            big = body[0] == 0xfe;
            body += 2;
            n -= 2;
        }
        charset_from_utf16(body, n & ~(size_t)1, big, out);
    } else {
        while (n && (body[n - 1] == 0 || body[n - 1] == ' ')) /* padded by cameras */
            n--;
        charset_guess(body, n, out);
    }
}

int exif_comment(const void *data, size_t bytes, char **text, styx_error *err)
{
    struct tiff t;
    struct entry e;
    struct buffer out = { 0 };

    *text = NULL;
    if (!open_tiff(&t, data, bytes) || !find(&t, number(&t, 4, 4), TAG_EXIF, &e) ||
        e.type != TYPE_LONG || !find(&t, number(&t, e.value, 4), TAG_COMMENT, &e))
        return STYX_OK;
    size_t at = number(&t, e.value, 4);
    if (e.count <= CODE_BYTES || at > bytes || e.count > bytes - at)
        return STYX_OK;
    decode_comment(t.data + at, e.count, &out);
    return buffer_take_text(&out, text, err);
}

static void put(struct buffer *out, uint32_t x, int nbytes)
{
    for (int i = nbytes - 1; i >= 0; i--)
        buffer_byte(out, (unsigned char)(x >> 8 * i));
}

static void put_directory(struct buffer *out, unsigned tag, unsigned type, size_t count,
                          uint32_t value)
{
    put(out, 1, 2); /* entries */
    put(out, tag, 2);
    put(out, type, 2);
    put(out, (uint32_t)count, 4);
    put(out, value, 4);
    put(out, 0, 4); /* no further directory */
}

void exif_write(const char *comment, struct buffer *out)
{
    enum { HEADER = 8, DIRECTORY = 18 };
    struct buffer utf16 = { 0 };

    charset_to_utf16_be(comment, &utf16);
    buffer_add(out, "MM\0*", 4);
    put(out, HEADER, 4);
    put_directory(out, TAG_EXIF, TYPE_LONG, 1, HEADER + DIRECTORY);
    put_directory(out, TAG_COMMENT, TYPE_UNDEFINED, CODE_BYTES + utf16.bytes,
                  HEADER + 2 * DIRECTORY);
    buffer_add(out, "UNICODE", CODE_BYTES);
    buffer_add(out, utf16.data, utf16.bytes);
    out->nomem |= utf16.nomem;
    buffer_free(&utf16);
}
