/* WebP through libwebp. The metadata's EXIF is the container's EXIF chunk; its texts are a chunk of
 * our own, "STYX". */
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include "image/codec.h"

static const char TEXTS_CHUNK[] = "STYX";

static void take_chunk(const WebPDemuxer *demux, const char *fourcc, struct buffer *out)
{
    WebPChunkIterator chunk;

    if (WebPDemuxGetChunk(demux, fourcc, 1, &chunk))
        buffer_add(out, chunk.chunk.bytes, chunk.chunk.size);
    WebPDemuxReleaseChunkIterator(&chunk);
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
    static const char *const reasons[] = { "", "", "a value is out of range",
                                           "its bit stream is broken", "it uses unknown features",
                                           "", "the file is truncated" };

    if (status == VP8_STATUS_OUT_OF_MEMORY)
        return fail_nomem(err, src->nbytes);
    return fail(err, STYX_ERR_FORMAT, "%s: is no good WebP: %s", src->name,
                (size_t)status < sizeof reasons / sizeof *reasons ? reasons[status]
                                                                  : "the file is truncated");
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
    WebPData data = { src->bytes, src->nbytes };
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
    WebPDemuxer *demux = WebPDemux(&data);
    if (!demux) /* the picture may be all there; its container is not */
        return bad(src, VP8_STATUS_NOT_ENOUGH_DATA, err);
    take_chunk(demux, "EXIF", &meta->exif);
    take_chunk(demux, TEXTS_CHUNK, &meta->texts);
    WebPDemuxDelete(demux);
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
