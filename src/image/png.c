/* PNG through libpng, which reports errors by longjmp: all that must survive one lives in a struct
 * that the caller of setjmp owns. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "image/codec.h"

enum { MAX_TEXT_BYTES = 16 << 20 }; /* one chunk, unpacked: stops zTXt bombs */

struct png {
    png_structp png;
    png_infop info;
    const struct source *src; /* reading */
    size_t offset;
    struct buffer *out; /* writing */
    png_bytep *rows;
    png_textp texts;
    bool nomem;
    char message[160];
    jmp_buf jump;
};

static void on_error(png_structp png, png_const_charp message)
{
    struct png *p = png_get_error_ptr(png);

    strncpy(p->message, message, sizeof p->message - 1);
    longjmp(p->jump, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

/* Errors name no reason; this tells a failed allocation from a bad file. */
static png_voidp on_malloc(png_structp png, png_alloc_size_t bytes)
{
    struct png *p = png_get_mem_ptr(png);
    void *memory = malloc(bytes);

    if (!memory)
        p->nomem = true;
    return memory;
}

static void on_free(png_structp png, png_voidp memory)
{
    (void)png;
    free(memory);
}

static void on_read(png_structp png, png_bytep data, size_t bytes)
{
    struct png *p = png_get_io_ptr(png);

    if (bytes > p->src->nbytes - p->offset)
        png_error(png, "the file is truncated");
    memcpy(data, p->src->bytes + p->offset, bytes);
    p->offset += bytes;
}

static int add_texts(struct png *p, struct metadata *meta, styx_error *err)
{
    png_textp texts;
    int ntexts = 0;

    png_get_text(p->png, p->info, &texts, &ntexts);
    for (int i = 0; i < ntexts; i++) {
        bool utf8 = texts[i].compression >= PNG_ITXT_COMPRESSION_NONE;
        size_t bytes = utf8 ? texts[i].itxt_length : texts[i].text_length;
        if (texts[i].text)
            metadata_add(meta, texts[i].key, texts[i].text, bytes);
    }
    return meta->texts.nomem ? fail_nomem(err, meta->texts.bytes) : STYX_OK;
}

static void add_exif(struct png *p, struct metadata *meta)
{
    png_bytep exif;
    png_uint_32 bytes;

    if (!meta->exif.bytes && png_get_eXIf_1(p->png, p->info, &bytes, &exif))
        buffer_add(&meta->exif, exif, bytes);
}

static void note_header(struct png *p, struct image_notes *notes)
{
    int type = png_get_color_type(p->png, p->info);

    notes->palette = type == PNG_COLOR_TYPE_PALETTE;
    notes->grey = !(type & PNG_COLOR_MASK_COLOR);
    notes->deep = png_get_bit_depth(p->png, p->info) == 16;
}

/* Everything becomes 8-bit RGB or RGBA. A 16-bit value gives its high byte, as in PIL. */
static int read_pixels(struct png *p, struct image *img, styx_error *err)
{
    png_set_expand(p->png);
    png_set_strip_16(p->png);
    png_set_gray_to_rgb(p->png);
    png_set_interlace_handling(p->png);
    png_read_update_info(p->png, p->info);

    int h = (int)png_get_image_height(p->png, p->info);
    int channels = png_get_channels(p->png, p->info);
    int rc = image_new(img, (int)png_get_image_width(p->png, p->info), h, channels, err);
    if (rc)
        return rc;
    p->rows = malloc((size_t)h * sizeof *p->rows);
    if (!p->rows)
        return fail_nomem(err, (size_t)h * sizeof *p->rows);
    for (int y = 0; y < h; y++)
        p->rows[y] = img->data + (size_t)y * (size_t)img->w * (size_t)channels;
    png_read_image(p->png, p->rows);
    return STYX_OK;
}

static int read_all(struct png *p, struct image *img, struct image_notes *notes,
                    struct metadata *meta, styx_error *err)
{
    if (setjmp(p->jump))
        return p->nomem
                   ? fail_nomem(err, p->src->nbytes)
                   : fail(err, STYX_ERR_FORMAT, "%s: is no good PNG: %s", p->src->name, p->message);
    png_set_read_fn(p->png, p, on_read);
    /* Our own limit tells the size; libpng's would say "exceeds user limits". */
    png_set_user_limits(p->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_chunk_malloc_max(p->png, MAX_TEXT_BYTES);
    png_read_info(p->png, p->info);
    int rc = check_pixels(p->src->name, png_get_image_width(p->png, p->info),
                          png_get_image_height(p->png, p->info), err);
    if (rc)
        return rc;
    note_header(p, notes);
    if ((rc = read_pixels(p, img, err)))
        return rc;
    png_read_end(p->png, p->info);
    add_exif(p, meta);
    return add_texts(p, meta, err);
}

int png_decode(const struct source *src, struct image *img, struct image_notes *notes,
               struct metadata *meta, styx_error *err)
{
    struct png p = { .src = src };
    /* libpng reaches the texts behind the pixels only through them. */
    struct image unwanted = { 0 };
    struct image_notes unnoted = { 0 };
    int rc;

    p.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &p, on_error, on_warning, &p, on_malloc,
                                     on_free);
    p.info = p.png ? png_create_info_struct(p.png) : NULL;
    if (!p.info)
        rc = fail_nomem(err, src->nbytes);
    else if (img)
        rc = read_all(&p, img, notes, meta, err);
    else
        rc = read_all(&p, &unwanted, &unnoted, meta, err);
    if (!rc && img && img->channels == 4)
        rc = split_alpha(img, &notes->opacity, err);
    png_destroy_read_struct(&p.png, &p.info, NULL);
    free(p.rows);
    image_free(&unwanted);
    return rc;
}

static void on_write(png_structp png, png_bytep data, size_t bytes)
{
    struct png *p = png_get_io_ptr(png);

    buffer_add(p->out, data, bytes);
    if (p->out->nomem) {
        p->nomem = true;
        png_error(png, "out of memory");
    }
}

static void on_flush(png_structp png)
{
    (void)png;
}

static bool is_ascii(const char *text)
{
    for (; *text; text++)
        if (*text & 0x80)
            return false;
    return true;
}

/* tEXt where ASCII is enough, because every reader knows it; else iTXt. */
static int set_texts(struct png *p, const struct image_text *texts, styx_error *err)
{
    int n = 0;

    while (texts && texts[n].key)
        n++;
    if (!n)
        return STYX_OK;
    p->texts = calloc((size_t)n, sizeof *p->texts);
    if (!p->texts)
        return fail_nomem(err, (size_t)n * sizeof *p->texts);
    for (int i = 0; i < n; i++) {
        bool ascii = is_ascii(texts[i].value);
        p->texts[i].compression = ascii ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
        /* libpng's struct has no const, but it copies both. */
        p->texts[i].key = (char *)(uintptr_t)texts[i].key;
        p->texts[i].text = (char *)(uintptr_t)texts[i].value;
        *(ascii ? &p->texts[i].text_length : &p->texts[i].itxt_length) = strlen(texts[i].value);
    }
    png_set_text(p->png, p->info, p->texts, n);
    return STYX_OK;
}

static int write_all(struct png *p, const struct image *img, const struct image_text *texts,
                     styx_error *err)
{
    static const int types[] = { 0, PNG_COLOR_TYPE_GRAY, 0, PNG_COLOR_TYPE_RGB,
                                 PNG_COLOR_TYPE_RGBA };
    size_t stride = (size_t)img->w * (size_t)img->channels;

    if (setjmp(p->jump))
        return p->nomem ? fail_nomem(err, p->out->bytes)
                        : fail(err, STYX_ERR_INVALID, "cannot write this PNG: %s", p->message);
    png_set_write_fn(p->png, p, on_write, on_flush);
    png_set_IHDR(p->png, p->info, (png_uint_32)img->w, (png_uint_32)img->h, 8, types[img->channels],
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    int rc = set_texts(p, texts, err);
    if (rc)
        return rc;
    png_write_info(p->png, p->info);
    for (int y = 0; y < img->h; y++)
        png_write_row(p->png, img->data + (size_t)y * stride);
    png_write_end(p->png, p->info);
    return STYX_OK;
}

int png_encode(const struct image *img, const struct image_text *texts, struct buffer *out,
               styx_error *err)
{
    struct png p = { .out = out };
    int rc;

    p.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &p, on_error, on_warning, &p,
                                      on_malloc, on_free);
    p.info = p.png ? png_create_info_struct(p.png) : NULL;
    rc = p.info ? write_all(&p, img, texts, err) : fail_nomem(err, image_bytes(img));
    png_destroy_write_struct(&p.png, &p.info);
    free(p.texts);
    return rc;
}
