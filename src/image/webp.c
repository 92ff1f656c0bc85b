/* WebP through libwebp. The metadata's EXIF is the container's EXIF chunk; its texts are a chunk of
 * our own, "STYX". */
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include "image/codec.h"

static const char TEXTS_CHUNK[] = "STYX";

static size_t little_endian(const unsigned char *p)
{
    return (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
}

/* A WebP file is "RIFF", a size, "WEBP", then chunks: name, size, data, padded to an even length.
 * False if they end beyond the file. */
static bool take_chunks(const struct source *src, struct metadata *meta)
{
    const unsigned char *p = src->bytes;
    size_t end = 8 + little_endian(p + 4);

    if (end > src->nbytes)
        return false;
    for (size_t at = 12; at + 8 <= end;) {
        size_t n = little_endian(p + at + 4);
        if (n > end - at - 8)
            return false;
        if (!memcmp(p + at, "EXIF", 4) && !meta->exif.bytes)
            buffer_add(&meta->exif, p + at + 8, n);
        if (!memcmp(p + at, TEXTS_CHUNK, 4) && !meta->texts.bytes)
            buffer_add(&meta->texts, p + at + 8, n);
        at += 8 + n + (n & 1);
    }
    return true;
}

/* Some writers keep JPEG's name before the TIFF structure. */
static void strip_exif_name(struct buffer *exif)
{
    if (exif->bytes > 6 && !memcmp(exif->data, "Exif\0", 6)) {
        exif->bytes -= 6;
        memmove(exif->data, exif->data + 6, exif->bytes + 1);
    }
}

static int bad(const struct source *src, VP8StatusCode status, styx_error *err)
{
    static const char *const reasons[] = {
        [VP8_STATUS_BITSTREAM_ERROR] = "its bit stream is broken",
        [VP8_STATUS_UNSUPPORTED_FEATURE] = "it uses unknown features",
        [VP8_STATUS_SUSPENDED] = "the file is truncated",
        [VP8_STATUS_NOT_ENOUGH_DATA] = "the file is truncated",
    };
    const char *reason = NULL;

    if (status == VP8_STATUS_OUT_OF_MEMORY)
        return fail_nomem(err, src->nbytes);
    if ((size_t)status < sizeof reasons / sizeof *reasons)
        reason = reasons[status];
    return fail(err, STYX_ERR_FORMAT, "%s: is no good WebP: %s", src->name,
                reason ? reason : "it cannot be decoded");
}

static int read_pixels(const struct source *src, const WebPBitstreamFeatures *features,
                       struct image *img, struct image_notes *notes, styx_error *err)
{
    WebPDecoderConfig config;
    int channels = features->has_alpha ? 4 : 3;

    int rc = image_new(img, features->width, features->height, channels, err);
    if (rc)
        return rc;
    if (!WebPInitDecoderConfig(&config))
        return fail(err, STYX_ERR_INTERNAL, "libwebp has another version than its headers");
    config.output.colorspace = channels == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = img->data;
    config.output.u.RGBA.stride = img->w * channels;
    config.output.u.RGBA.size = image_bytes(img);
    VP8StatusCode status = WebPDecode(src->bytes, src->nbytes, &config);
    WebPFreeDecBuffer(&config.output);
    if (status != VP8_STATUS_OK)
        return bad(src, status, err);
    return channels == 4 ? split_alpha(img, &notes->opacity, err) : STYX_OK;
}

int webp_decode(const struct source *src, struct image *img, struct image_notes *notes,
                struct metadata *meta, styx_error *err)
{
    WebPBitstreamFeatures features;
    VP8StatusCode status = WebPGetFeatures(src->bytes, src->nbytes, &features);

    if (status != VP8_STATUS_OK)
        return bad(src, status, err);
    if (features.has_animation)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: is an animated WebP; save the frame that is meant as a picture",
                    src->name);
    int rc = check_pixels(src->name, (uint64_t)features.width, (uint64_t)features.height, err);
    if (rc)
        return rc;
    if (!take_chunks(src, meta))
        return bad(src, VP8_STATUS_NOT_ENOUGH_DATA, err);
    if (meta->exif.nomem || meta->texts.nomem)
        return fail_nomem(err, src->nbytes);
    strip_exif_name(&meta->exif);
    return img ? read_pixels(src, &features, img, notes, err) : STYX_OK;
}

static int encode_pixels(const struct image *img, int quality, WebPMemoryWriter *writer,
                         styx_error *err)
{
    WebPConfig config;
    WebPPicture picture;
    int rc = STYX_OK, stride = img->w * img->channels;

    if (!WebPConfigInit(&config) || !WebPPictureInit(&picture))
        return fail(err, STYX_ERR_INTERNAL, "libwebp has another version than its headers");
    config.quality = (float)quality;
    config.lossless = config.exact = picture.use_argb = quality == 100;
    picture.width = img->w;
    picture.height = img->h;
    picture.writer = WebPMemoryWrite;
    picture.custom_ptr = writer;
    if (img->w > WEBP_MAX_DIMENSION || img->h > WEBP_MAX_DIMENSION)
        return fail(err, STYX_ERR_INVALID,
                    "%d x %d pixels do not fit into WebP, which ends at %d; write a PNG", img->w,
                    img->h, WEBP_MAX_DIMENSION);
    int ok = img->channels == 4 ? WebPPictureImportRGBA(&picture, img->data, stride)
                                : WebPPictureImportRGB(&picture, img->data, stride);
    if (!ok || !WebPEncode(&config, &picture))
        rc = picture.error_code == VP8_ENC_ERROR_OUT_OF_MEMORY ||
                     picture.error_code == VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY
                 ? fail_nomem(err, image_bytes(img))
                 : fail(err, STYX_ERR_INVALID, "cannot write this WebP (libwebp's error %d)",
                        picture.error_code);
    WebPPictureFree(&picture);
    return rc;
}

int webp_encode(const struct image *img, const struct metadata *meta, int quality,
                struct buffer *out, styx_error *err)
{
    WebPMemoryWriter writer;
    WebPMux *mux = NULL;
    WebPData whole = { 0 };
    const WebPData exif = { meta->exif.data, meta->exif.bytes };
    const WebPData texts = { meta->texts.data, meta->texts.bytes };

    WebPMemoryWriterInit(&writer);
    int rc = encode_pixels(img, quality, &writer, err);
    if (rc)
        goto done;
    const WebPData picture = { writer.mem, writer.size };
    mux = WebPMuxNew();
    if (!mux || WebPMuxSetImage(mux, &picture, 0) != WEBP_MUX_OK ||
        (exif.size && WebPMuxSetChunk(mux, "EXIF", &exif, 0) != WEBP_MUX_OK) ||
        (texts.size && WebPMuxSetChunk(mux, TEXTS_CHUNK, &texts, 0) != WEBP_MUX_OK) ||
        WebPMuxAssemble(mux, &whole) != WEBP_MUX_OK) {
        rc = fail_nomem(err, writer.size); /* nothing else can go wrong with good parts */
        goto done;
    }
    buffer_add(out, whole.bytes, whole.size);
done:
    WebPDataClear(&whole);
    WebPMuxDelete(mux);
    WebPMemoryWriterClear(&writer);
    return rc;
}
