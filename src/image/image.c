#include "image/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "image/codec.h"

int check_pixels(const char *name, uint64_t w, uint64_t h, styx_error *err)
{
    if (w && h && w <= INT32_MAX && h <= IMAGE_MAX_PIXELS / w)
        return STYX_OK;
    return fail(err, w && h ? STYX_ERR_UNSUPPORTED : STYX_ERR_FORMAT,
                "%s: is %llu x %llu pixels; at least 1 and at most %d pixels are read", name,
                (unsigned long long)w, (unsigned long long)h, IMAGE_MAX_PIXELS);
}

int image_new(struct image *img, int w, int h, int channels, styx_error *err)
{
    *img = (struct image){ 0 };
    if (w < 1 || h < 1 || w > IMAGE_MAX_PIXELS / h || channels < 1 || channels > 4)
        return fail(err, STYX_ERR_INVALID,
                    "a picture of %d x %d pixels with %d channels was asked for; at least 1 and "
                    "at most %d pixels with 1 to 4 channels are possible",
                    w, h, channels, IMAGE_MAX_PIXELS);
    *img = (struct image){ w, h, channels, NULL };
    img->data = malloc(image_bytes(img));
    if (img->data)
        return STYX_OK;
    int rc = fail_nomem(err, image_bytes(img));
    *img = (struct image){ 0 };
    return rc;
}

void image_free(struct image *img)
{
    if (img) {
        free(img->data);
        *img = (struct image){ 0 };
    }
}

void image_notes_free(struct image_notes *notes)
{
    if (notes) {
        image_free(&notes->opacity);
        *notes = (struct image_notes){ 0 };
    }
}

size_t image_bytes(const struct image *img)
{
    return (size_t)img->w * (size_t)img->h * (size_t)img->channels;
}

static void metadata_free(struct metadata *m)
{
    buffer_free(&m->texts);
    buffer_free(&m->exif);
}

void metadata_add(struct metadata *m, const char *key, const char *value, size_t bytes)
{
    charset_guess(key, strlen(key), &m->texts);
    buffer_byte(&m->texts, 0);
    charset_guess(value, strnlen(value, bytes), &m->texts);
    buffer_byte(&m->texts, 0);
}

/* Borrowed; NULL if there is none. */
static const char *metadata_find(const struct metadata *m, const char *key)
{
    const char *p = (const char *)m->texts.data;

    if (!p)
        return NULL;
    /* A buffer always has a NUL after its end, so that a list cut short is still a string. */
    for (const char *end = p + m->texts.bytes; p < end;) {
        const char *value = p + strlen(p) + 1;
        if (value >= end)
            break;
        if (!strcmp(p, key))
            return value;
        p = value + strlen(value) + 1;
    }
    return NULL;
}

int split_alpha(struct image *img, struct image *alpha, styx_error *err)
{
    size_t n = (size_t)img->w * (size_t)img->h;
    unsigned char *p = img->data;
    int rc = image_new(alpha, img->w, img->h, 1, err);

    if (rc)
        return rc;
    for (size_t i = 0; i < n; i++) {
        alpha->data[i] = p[4 * i + 3];
        memmove(p + 3 * i, p + 4 * i, 3);
    }
    img->channels = 3;
    unsigned char *smaller = realloc(p, 3 * n);
    if (smaller)
        img->data = smaller;
    return STYX_OK;
}

/* EXIF 2.3, 4.6.4 A: orientation o says where the stored first row and column belong. From 5 on
 * rows and columns are exchanged. */
static int turn_upright(struct image *img, int orientation, styx_error *err)
{
    static const bool mirror_x[9] = { 0, 0, 1, 1, 0, 0, 0, 1, 1 };
    static const bool mirror_y[9] = { 0, 0, 0, 1, 1, 0, 1, 1, 0 };
    bool swap = orientation >= 5;
    struct image out;

    if (!img->data || orientation <= 1)
        return STYX_OK;
    int w = img->w, h = img->h, c = img->channels;
    int rc = image_new(&out, swap ? h : w, swap ? w : h, c, err);
    if (rc)
        return rc;
    unsigned char *to = out.data;
    for (int y = 0; y < out.h; y++)
        for (int x = 0; x < out.w; x++, to += c) {
            int sx = swap ? y : x, sy = swap ? x : y;
            sx = mirror_x[orientation] ? w - 1 - sx : sx;
            sy = mirror_y[orientation] ? h - 1 - sy : sy;
            memcpy(to, img->data + ((size_t)sy * (size_t)w + (size_t)sx) * (size_t)c, (size_t)c);
        }
    image_free(img);
    *img = out;
    return STYX_OK;
}

enum image_format image_format_of_bytes(const void *bytes, size_t nbytes)
{
    const unsigned char *p = bytes;

    if (nbytes >= 8 && !memcmp(p, "\x89PNG\r\n\x1a\n", 8))
        return IMAGE_PNG;
    if (nbytes >= 3 && !memcmp(p, "\xff\xd8\xff", 3))
        return IMAGE_JPEG;
    if (nbytes >= 12 && !memcmp(p, "RIFF", 4) && !memcmp(p + 8, "WEBP", 4))
        return IMAGE_WEBP;
    return IMAGE_UNKNOWN;
}

/* By extension, in any case. */
static int format_of_path(const char *path, enum image_format *format, styx_error *err)
{
    static const struct {
        const char *extension;
        enum image_format format;
    } known[] = {
        { "png", IMAGE_PNG }, { "jpg", IMAGE_JPEG }, { "jpeg", IMAGE_JPEG }, { "webp", IMAGE_WEBP }
    };
    const char *extension = path_extension(path);

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcasecmp(extension, known[i].extension)) {
            *format = known[i].format;
            return STYX_OK;
        }
    return fail(err, STYX_ERR_INVALID,
                "%s: pictures are written as .png, .jpg, .jpeg or .webp, not as '%s'", path,
                extension);
}

static int decode(const struct source *src, struct image *img, struct image_notes *notes,
                  struct metadata *meta, styx_error *err)
{
    enum image_format format = image_format_of_bytes(src->bytes, src->nbytes);

    if (notes)
        notes->format = format;
    switch (format) {
    case IMAGE_PNG:
        return png_decode(src, img, notes, meta, err);
    case IMAGE_JPEG:
        return jpeg_decode(src, img, notes, meta, err);
    case IMAGE_WEBP:
        return webp_decode(src, img, notes, meta, err);
    case IMAGE_UNKNOWN:
        break;
    }
    return fail(err, STYX_ERR_FORMAT, "%s: is no PNG, JPEG or WebP picture", src->name);
}

int image_decode(const void *bytes, size_t nbytes, const char *name, struct image *img,
                 struct image_notes *notes, styx_error *err)
{
    struct source src = { bytes, nbytes, name };
    struct metadata meta = { 0 };
    struct image_notes found = { 0 };

    *img = (struct image){ 0 };
    int rc = decode(&src, img, &found, &meta, err);
    if (!rc) {
        found.orientation = exif_orientation(meta.exif.data, meta.exif.bytes);
        rc = turn_upright(img, found.orientation, err);
    }
    if (!rc)
        rc = turn_upright(&found.opacity, found.orientation, err);
    if (rc) {
        image_free(img);
        image_notes_free(&found);
    }
    if (notes)
        *notes = found;
    else
        image_notes_free(&found);
    metadata_free(&meta);
    return rc;
}

int image_load(const char *path, struct image *img, struct image_notes *notes, styx_error *err)
{
    char *bytes;
    size_t nbytes;

    *img = (struct image){ 0 };
    if (notes)
        *notes = (struct image_notes){ 0 };
    int rc = file_read(path, IMAGE_MAX_FILE_BYTES, &bytes, &nbytes, err);
    if (!rc)
        rc = image_decode(bytes, nbytes, path, img, notes, err);
    free(bytes);
    return rc;
}

int image_notes_text(const struct image_notes *n, char *text, size_t bytes)
{
    const char *const parts[] = {
        n->deep ? "16 bits were cut to 8" : NULL,
        n->palette ? "its palette was resolved" : NULL,
        n->grey ? "grey became RGB" : NULL,
        n->cmyk ? "CMYK became RGB" : NULL,
        n->opacity.data ? "its alpha channel was dropped" : NULL,
        n->orientation > 1 ? "it was turned upright as its EXIF says" : NULL,
    };
    size_t at = 0;

    if (bytes)
        *text = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i] && at < bytes)
            at += (size_t)snprintf(text + at, bytes - at, "%s%s", at ? ", " : "", parts[i]);
    return (int)at;
}

/* Where JPEG and WebP keep texts: "parameters" in the EXIF if it fits into a JPEG segment, what
 * remains in a list of our own. */
static int collect(const struct image_text *texts, struct metadata *meta, styx_error *err)
{
    enum { EXIF_ROOM = 65533 - 6 };

    for (; texts && texts->key; texts++) {
        if (!strcmp(texts->key, "parameters") && !meta->exif.bytes) {
            exif_write(texts->value, &meta->exif);
            if (meta->exif.bytes <= EXIF_ROOM)
                continue;
            buffer_free(&meta->exif);
        }
        metadata_add(meta, texts->key, texts->value, strlen(texts->value));
    }
    return meta->exif.nomem || meta->texts.nomem ? fail_nomem(err, meta->texts.bytes) : STYX_OK;
}

int image_encode(enum image_format format, const struct image *img, const struct image_text *texts,
                 int quality, unsigned char **out, size_t *nbytes, styx_error *err)
{
    struct buffer bytes = { 0 };
    struct metadata meta = { 0 };
    bool grey = img->channels == 1, alpha = img->channels == 4;
    int rc = STYX_OK;

    *out = NULL;
    *nbytes = 0;
    quality = quality ? quality : IMAGE_QUALITY;
    if (quality < 1 || quality > 100)
        return fail(err, STYX_ERR_INVALID, "a quality of %d was asked for; 1 to 100 is possible",
                    quality);
    if (!img->data ||
        !(img->channels == 3 || (grey && format != IMAGE_WEBP) || (alpha && format != IMAGE_JPEG)))
        return fail(err, STYX_ERR_INVALID,
                    "a picture of %d x %d pixels with %d channels cannot "
                    "be written in this format",
                    img->w, img->h, img->channels);
    if (format == IMAGE_PNG)
        rc = png_encode(img, texts, &bytes, err);
    else if (!(rc = collect(texts, &meta, err)))
        rc = format == IMAGE_JPEG ? jpeg_encode(img, &meta, quality, &bytes, err)
                                  : webp_encode(img, &meta, quality, &bytes, err);
    if (!rc)
        rc = buffer_take(&bytes, out, nbytes, err);
    buffer_free(&bytes);
    metadata_free(&meta);
    return rc;
}

int image_writable(const char *path, enum file_flags flags, styx_error *err)
{
    enum image_format format;
    int rc = format_of_path(path, &format, err);

    return rc ? rc : file_writable(path, flags, err);
}

int image_save(const char *path, const struct image *img, const struct image_text *texts,
               int quality, enum file_flags flags, styx_error *err)
{
    enum image_format format = IMAGE_UNKNOWN;
    unsigned char *bytes = NULL;
    size_t nbytes;
    int rc = format_of_path(path, &format, err);

    if (!rc)
        rc = image_encode(format, img, texts, quality, &bytes, &nbytes, err);
    if (!rc)
        rc = file_write(path, bytes, nbytes, flags, err);
    free(bytes);
    return rc;
}

int image_find_text(const void *bytes, size_t nbytes, const char *name, const char *key,
                    char **text, styx_error *err)
{
    struct source src = { bytes, nbytes, name };
    struct metadata meta = { 0 };
    struct buffer utf8 = { 0 };

    *text = NULL;
    int rc = decode(&src, NULL, NULL, &meta, err);
    const char *found = rc ? NULL : metadata_find(&meta, key);
    if (found) {
        charset_guess(found, strlen(found), &utf8);
        rc = buffer_take_text(&utf8, text, err);
    } else if (!rc && !strcmp(key, "parameters")) {
        rc = exif_comment(meta.exif.data, meta.exif.bytes, text, err);
    }
    metadata_free(&meta);
    return rc;
}

int image_read_text(const char *path, const char *key, char **text, styx_error *err)
{
    char *bytes;
    size_t nbytes;

    *text = NULL;
    int rc = file_read(path, IMAGE_MAX_FILE_BYTES, &bytes, &nbytes, err);
    if (!rc)
        rc = image_find_text(bytes, nbytes, path, key, text, err);
    free(bytes);
    return rc;
}
