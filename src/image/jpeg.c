/* JPEG through libjpeg-turbo, which reports errors by longjmp: all that must survive one lives in
 * a struct that the caller of setjmp owns.
 *
 * The metadata's EXIF is an APP1 segment; its texts are APP10 segments that start with "Styx\0",
 * cut to a segment's size and joined again in order. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "image/codec.h"

enum {
    MAX_SCANS = 256, /* progressive files of a few bytes a scan would keep us busy for hours */
    MARKER_EXIF = JPEG_APP0 + 1,
    MARKER_TEXTS = JPEG_APP0 + 10,
    SEGMENT_BYTES = 65533
};

static const unsigned char EXIF_NAME[6] = "Exif\0", TEXTS_NAME[5] = "Styx";

struct jpeg {
    struct jpeg_error_mgr errors; /* first: libjpeg hands us its address */
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    bool nomem, truncated;
    char message[JMSG_LENGTH_MAX];
    unsigned char *row, *packed; /* ours; packed is jpeg_mem_dest's */
    unsigned long packed_bytes;
};

static void on_error(j_common_ptr c)
{
    struct jpeg *j = (struct jpeg *)c->err;

    j->nomem = c->err->msg_code == JERR_OUT_OF_MEMORY;
    c->err->format_message(c, j->message);
    longjmp(j->jump, 1);
}

/* libjpeg fills what is missing with grey and goes on; a picture cut short is an error to us. */
static void on_message(j_common_ptr c, int level)
{
    struct jpeg *j = (struct jpeg *)c->err;

    if (level < 0 && (c->err->msg_code == JWRN_JPEG_EOF || c->err->msg_code == JWRN_HIT_MARKER))
        j->truncated = true;
}

static void on_progress(j_common_ptr c)
{
    struct jpeg *j = (struct jpeg *)c->err;

    if (c->is_decompressor && ((j_decompress_ptr)c)->input_scan_number > MAX_SCANS) {
        snprintf(j->message, sizeof j->message, "more than %d scans", MAX_SCANS);
        longjmp(j->jump, 1);
    }
}

static void setup(struct jpeg *j)
{
    *j = (struct jpeg){ 0 };
    jpeg_std_error(&j->errors);
    j->errors.error_exit = on_error;
    j->errors.emit_message = on_message;
    j->progress.progress_monitor = on_progress;
}

static void take_markers(struct jpeg_decompress_struct *d, struct metadata *meta)
{
    for (jpeg_saved_marker_ptr m = d->marker_list; m; m = m->next) {
        size_t n = m->data_length;
        if (m->marker == MARKER_EXIF && n > sizeof EXIF_NAME && !meta->exif.bytes &&
            !memcmp(m->data, EXIF_NAME, sizeof EXIF_NAME))
            buffer_add(&meta->exif, m->data + sizeof EXIF_NAME, n - sizeof EXIF_NAME);
        if (m->marker == MARKER_TEXTS && n > sizeof TEXTS_NAME &&
            !memcmp(m->data, TEXTS_NAME, sizeof TEXTS_NAME))
            buffer_add(&meta->texts, m->data + sizeof TEXTS_NAME, n - sizeof TEXTS_NAME);
    }
}

/* The product of two bytes over 255, rounded, as PIL does it. */
static unsigned scale255(unsigned a, unsigned b)
{
    unsigned x = a * b + 128;

    return (x + (x >> 8)) >> 8;
}

/* Adobe's programs store CMYK inverted and so does everybody: 255 is no ink. */
static void cmyk_to_rgb(const unsigned char *cmyk, unsigned char *rgb, int npixels)
{
    for (int i = 0; i < npixels; i++, cmyk += 4, rgb += 3)
        for (int c = 0; c < 3; c++) {
            unsigned light = cmyk[3], ink = scale255(255u - cmyk[c], light);
            rgb[c] = (unsigned char)(light > ink ? light - ink : 0);
        }
}

static int read_pixels(struct jpeg *j, struct jpeg_decompress_struct *d, struct image *img,
                       struct image_notes *notes, styx_error *err)
{
    bool four = d->num_components == 4;

    notes->grey = d->jpeg_color_space == JCS_GRAYSCALE;
    notes->cmyk = four;
    d->out_color_space = four ? JCS_CMYK : JCS_RGB; /* YCCK too comes out as CMYK */
    jpeg_start_decompress(d);
    int rc = image_new(img, (int)d->output_width, (int)d->output_height, 3, err);
    if (rc)
        return rc;
    if (four && !(j->row = malloc((size_t)img->w * 4)))
        return fail_nomem(err, (size_t)img->w * 4);
    while (d->output_scanline < d->output_height) {
        unsigned char *to = img->data + (size_t)d->output_scanline * (size_t)img->w * 3;
        JSAMPROW row = four ? j->row : to;
        jpeg_read_scanlines(d, &row, 1);
        if (four)
            cmyk_to_rgb(row, to, img->w);
        if (j->truncated)
            break;
    }
    if (!j->truncated)
        jpeg_finish_decompress(d);
    return STYX_OK;
}

static int read_all(struct jpeg *j, struct jpeg_decompress_struct *d, const struct source *src,
                    struct image *img, struct image_notes *notes, struct metadata *meta,
                    styx_error *err)
{
    if (setjmp(j->jump))
        return j->nomem
                   ? fail_nomem(err, src->nbytes)
                   : fail(err, STYX_ERR_FORMAT, "%s: is no good JPEG: %s", src->name, j->message);
    jpeg_create_decompress(d);
    d->progress = &j->progress;
    jpeg_mem_src(d, src->bytes, src->nbytes);
    jpeg_save_markers(d, MARKER_EXIF, 0xffff);
    jpeg_save_markers(d, MARKER_TEXTS, 0xffff);
    jpeg_read_header(d, TRUE);
    int rc = check_pixels(src->name, d->image_width, d->image_height, err);
    if (rc)
        return rc;
    take_markers(d, meta);
    if (meta->exif.nomem || meta->texts.nomem)
        return fail_nomem(err, src->nbytes);
    if (img)
        rc = read_pixels(j, d, img, notes, err);
    if (!rc && j->truncated)
        rc = fail(err, STYX_ERR_FORMAT, "%s: is no good JPEG: the file is truncated", src->name);
    return rc;
}

int jpeg_decode(const struct source *src, struct image *img, struct image_notes *notes,
                struct metadata *meta, styx_error *err)
{
    struct jpeg j;
    struct jpeg_decompress_struct d = { 0 };

    setup(&j);
    d.err = &j.errors;
    int rc = read_all(&j, &d, src, img, notes, meta, err);
    jpeg_destroy_decompress(&d);
    free(j.row);
    return rc;
}

static void write_segments(struct jpeg_compress_struct *c, int marker, const void *name,
                           size_t name_bytes, const struct buffer *data)
{
    size_t room = SEGMENT_BYTES - name_bytes;

    for (size_t at = 0; at < data->bytes; at += room) {
        size_t n = data->bytes - at < room ? data->bytes - at : room;
        jpeg_write_m_header(c, marker, (unsigned)(name_bytes + n));
        for (size_t i = 0; i < name_bytes; i++)
            jpeg_write_m_byte(c, ((const unsigned char *)name)[i]);
        for (size_t i = 0; i < n; i++)
            jpeg_write_m_byte(c, data->data[at + i]);
    }
}

static int write_all(struct jpeg *j, struct jpeg_compress_struct *c, const struct image *img,
                     const struct metadata *meta, int quality, styx_error *err)
{
    size_t stride = (size_t)img->w * (size_t)img->channels;

    if (setjmp(j->jump))
        return j->nomem ? fail_nomem(err, image_bytes(img))
                        : fail(err, STYX_ERR_INVALID, "cannot write this JPEG: %s", j->message);
    jpeg_create_compress(c);
    jpeg_mem_dest(c, &j->packed, &j->packed_bytes);
    c->image_width = (JDIMENSION)img->w;
    c->image_height = (JDIMENSION)img->h;
    c->input_components = img->channels;
    c->in_color_space = img->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, quality, TRUE);
    if (quality >= 90) /* who asks for quality wants his colours at full resolution */
        c->comp_info[0].h_samp_factor = c->comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(c, TRUE);
    write_segments(c, MARKER_EXIF, EXIF_NAME, sizeof EXIF_NAME, &meta->exif);
    write_segments(c, MARKER_TEXTS, TEXTS_NAME, sizeof TEXTS_NAME, &meta->texts);
    while (c->next_scanline < c->image_height) {
        JSAMPROW row = img->data + (size_t)c->next_scanline * stride;
        jpeg_write_scanlines(c, &row, 1);
    }
    jpeg_finish_compress(c);
    return STYX_OK;
}

int jpeg_encode(const struct image *img, const struct metadata *meta, int quality,
                struct buffer *out, styx_error *err)
{
    struct jpeg j;
    struct jpeg_compress_struct c = { 0 };

    setup(&j);
    c.err = &j.errors;
    int rc = write_all(&j, &c, img, meta, quality, err);
    if (!rc)
        buffer_add(out, j.packed, j.packed_bytes);
    jpeg_destroy_compress(&c);
    free(j.packed);
    return rc;
}
