/* codec.h - what the three file formats give image.c, and the places where they keep texts. */
#ifndef STYX_IMAGE_CODEC_H
#define STYX_IMAGE_CODEC_H
#include "base/buffer.h"
#include "image/image.h"

/* A file in memory. */
struct source {
    const unsigned char *bytes;
    size_t nbytes;
    const char *name;
};

/* What a file carries besides pixels. `texts` is key NUL value NUL ..., all UTF-8; `exif` is a TIFF
 * structure without the "Exif\0\0" before it. */
struct metadata {
    struct buffer texts, exif;
};

void metadata_add(struct metadata *m, const char *key, const char *value, size_t bytes);

/* Decoders fill metadata always, and the picture (upright or not, as stored) with its notes if
 * img is not NULL. On failure the caller frees what was filled. */
int png_decode(const struct source *src, struct image *img, struct image_notes *notes,
               struct metadata *meta, styx_error *err);
int jpeg_decode(const struct source *src, struct image *img, struct image_notes *notes,
                struct metadata *meta, styx_error *err);
int webp_decode(const struct source *src, struct image *img, struct image_notes *notes,
                struct metadata *meta, styx_error *err);

int png_encode(const struct image *img, const struct image_text *texts, struct buffer *out,
               styx_error *err);
int jpeg_encode(const struct image *img, const struct metadata *meta, int quality,
                struct buffer *out, styx_error *err);
int webp_encode(const struct image *img, const struct metadata *meta, int quality,
                struct buffer *out, styx_error *err);

/* The one message for a picture that is too large, before it is allocated. */
int check_pixels(const char *name, uint64_t w, uint64_t h, styx_error *err);
/* Splits w x h RGBA in place: *img keeps the RGB, a new one-channel picture takes the alpha. */
int split_alpha(struct image *img, struct image *alpha, styx_error *err);

/* exif.c: 1 if there is no orientation, or none that makes sense. */
int exif_orientation(const void *tiff, size_t bytes);
/* The user comment as UTF-8 (free), NULL if there is none. */
int exif_comment(const void *tiff, size_t bytes, char **text, styx_error *err);
/* A TIFF structure that holds nothing but a user comment. */
void exif_write(const char *comment, struct buffer *out);

/* charset.c: other character sets into UTF-8 and back. Unpaired surrogates become U+FFFD. */
void charset_from_utf16(const void *text, size_t bytes, bool big_endian, struct buffer *out);
void charset_to_utf16_be(const char *text, struct buffer *out);
/* Many writers put UTF-8 where the format says Latin-1; what is valid UTF-8 hardly ever is not. */
void charset_guess(const void *text, size_t bytes, struct buffer *out);

#endif
