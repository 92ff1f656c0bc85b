/* image.h - pictures in memory and in PNG, JPEG and WebP files, with the texts they carry.
 *
 * The format is found by the first bytes on reading and by the extension on writing. Reading gives
 * 8-bit RGB whatever the file holds, with the EXIF orientation applied, and notes what was
 * converted; as PIL's convert("RGB") does, an alpha channel is dropped, not composed (but kept in
 * the notes, for masks). Truncated files are errors. */
#ifndef STYX_IMAGE_IMAGE_H
#define STYX_IMAGE_IMAGE_H
#include <stdbool.h>

#include "base/error.h"
#include "base/file.h"

enum {
    /* More is refused by its header, before anything is allocated: 16384 x 8192. */
    IMAGE_MAX_PIXELS = 1 << 27,
    IMAGE_MAX_FILE_BYTES = 1 << 29,
    IMAGE_QUALITY = 95 /* what quality 0 means */
};

/* h rows of w pixels of channels bytes, without gaps. {0} is no picture. */
struct image {
    int w, h, channels;
    unsigned char *data;
};

enum image_format { IMAGE_UNKNOWN, IMAGE_PNG, IMAGE_JPEG, IMAGE_WEBP };

/* What the file held that the RGB picture does not. */
struct image_notes {
    enum image_format format;
    bool grey, palette, deep, cmyk;
    int orientation;      /* EXIF: 1 (upright) to 8; already applied */
    struct image opacity; /* one channel, 255 = opaque; {0} if the file has no alpha */
};

/* A list of these ends with a NULL key. Values are UTF-8. */
struct image_text {
    const char *key, *value;
};

/* Uninitialised pixels; w, h and channels must be positive and within IMAGE_MAX_PIXELS. */
int image_new(struct image *img, int w, int h, int channels, styx_error *err);
void image_free(struct image *img);
void image_notes_free(struct image_notes *notes);
size_t image_bytes(const struct image *img);

enum image_format image_format_of_bytes(const void *bytes, size_t nbytes);

/* notes may be NULL. name is what messages call the bytes. */
int image_load(const char *path, struct image *img, struct image_notes *notes, styx_error *err);
int image_decode(const void *bytes, size_t nbytes, const char *name, struct image *img,
                 struct image_notes *notes, styx_error *err);
/* "8-bit grey, its alpha channel was dropped": empty if nothing was converted. */
int image_notes_text(const struct image_notes *notes, char *text, size_t bytes);

/* texts may be NULL. quality is 1 to 100, or 0 for IMAGE_QUALITY; PNG is always lossless, and WebP
 * at 100. PNG takes 1, 3 or 4 channels, JPEG 1 or 3, WebP 3 or 4. The key "parameters" goes where
 * A1111's tools look for it (a PNG text chunk, the EXIF user comment), others beside it. */
int image_encode(enum image_format format, const struct image *img, const struct image_text *texts,
                 int quality, unsigned char **out, size_t *nbytes, styx_error *err);
/* As file_write: the whole file or none. */
int image_save(const char *path, const struct image *img, const struct image_text *texts,
               int quality, enum file_flags flags, styx_error *err);
/* Asked before the work: would image_save find a known extension and a place to write? */
int image_writable(const char *path, enum file_flags flags, styx_error *err);

/* The text of that key as UTF-8 (free), or NULL if the picture has none, which is no error. */
int image_read_text(const char *path, const char *key, char **text, styx_error *err);
int image_find_text(const void *bytes, size_t nbytes, const char *name, const char *key,
                    char **text, styx_error *err);

#endif
