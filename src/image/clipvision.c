#include "image/clipvision.h"

#include "base/json.h"
#include "image/resize.h"

enum { MAX_EDGE = 4096, PIL_BICUBIC = 3 };

const struct clip_processor CLIP_PROCESSOR = {
    224,
    224,
    224,
    { 0.48145466f, 0.4578275f, 0.40821073f },
    { 0.26862954f, 0.26130258f, 0.27577711f },
};

/* Only the processing that every CLIP uses is offered; anything else is named. */
static int check_steps(const json_t *root, const char *path, styx_error *err)
{
    static const char *const steps[] = { "do_resize", "do_center_crop", "do_rescale",
                                         "do_normalize", "do_convert_rgb" };
    bool on;
    int rc, resample;
    double factor;

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if ((rc = json_bool(root, path, steps[i], true, &on, err)))
            return rc;
        if (!on)
            return fail(err, STYX_ERR_UNSUPPORTED, "%s: '%s' is false, only true is supported",
                        path, steps[i]);
    }
    if ((rc = json_int(root, path, "resample", PIL_BICUBIC, 0, 5, &resample, err)) ||
        (rc = json_double(root, path, "rescale_factor", 1 / 255.0, 0, 1, &factor, err)))
        return rc;
    if (resample != PIL_BICUBIC)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: 'resample' is %d, only 3 (bicubic) is supported", path, resample);
    if (factor < 0.999 / 255 || factor > 1.001 / 255)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: 'rescale_factor' is %g, only 1/255 is supported", path, factor);
    return STYX_OK;
}

/* A size is a number in old files, an object in newer ones. */
static int read_sizes(const json_t *root, const char *path, struct clip_processor *p,
                      styx_error *err)
{
    const json_t *size = NULL, *crop = NULL;
    const char *edge_key = "size", *w_key = "crop_size", *h_key = "crop_size";
    int rc = STYX_OK;

    if (json_is_object(json_object_get(root, "size"))) {
        rc = json_object_of(root, path, "size", &size, err);
        edge_key = "shortest_edge";
        if (!rc && !json_has(size, edge_key))
            rc = fail(err, STYX_ERR_UNSUPPORTED,
                      "%s: 'size' has no 'shortest_edge', which alone "
                      "is supported",
                      path);
    }
    if (!rc && json_is_object(json_object_get(root, "crop_size"))) {
        rc = json_object_of(root, path, "crop_size", &crop, err);
        w_key = "width";
        h_key = "height";
    }
    if (rc ||
        (rc = json_int(size ? size : root, path, edge_key, p->shortest_edge, 1, MAX_EDGE,
                       &p->shortest_edge, err)) ||
        (rc = json_int(crop ? crop : root, path, w_key, p->crop_w, 1, MAX_EDGE, &p->crop_w, err)) ||
        (rc = json_int(crop ? crop : root, path, h_key, p->crop_h, 1, MAX_EDGE, &p->crop_h, err)))
        return rc;
    if (p->crop_w > p->shortest_edge || p->crop_h > p->shortest_edge)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: a crop of %d x %d from a shortest edge of %d "
                    "would need a border, which is not supported",
                    path, p->crop_w, p->crop_h, p->shortest_edge);
    return STYX_OK;
}

static int read_colours(const json_t *root, const char *path, const char *key, float out[3],
                        styx_error *err)
{
    double values[3];
    int n, rc = json_doubles(root, path, key, values, 3, &n, err);

    if (rc || n == 0)
        return rc;
    for (int i = 0; i < 3; i++) {
        if (n != 3 || !(values[i] > -1e3 && values[i] < 1e3))
            return fail(err, STYX_ERR_FORMAT, "%s: '%s' must be three numbers", path, key);
        out[i] = (float)values[i];
    }
    return STYX_OK;
}

int clip_processor_load(const char *path, struct clip_processor *p, styx_error *err)
{
    json_t *root = NULL;
    int rc;

    *p = CLIP_PROCESSOR;
    if ((rc = json_file(path, &root, err)) || (rc = check_steps(root, path, err)) ||
        (rc = read_sizes(root, path, p, err)) ||
        (rc = read_colours(root, path, "image_mean", p->mean, err)) ||
        (rc = read_colours(root, path, "image_std", p->std, err)))
        goto done;
    for (int c = 0; c < 3; c++)
        if (p->std[c] <= 0) {
            rc = fail(err, STYX_ERR_FORMAT, "%s: 'image_std' must be positive", path);
            goto done;
        }
done:
    json_decref(root);
    return rc;
}

int clip_preprocess(const struct clip_processor *p, const struct image *img, float *out,
                    styx_error *err)
{
    bool wide = img->w > img->h;
    double ratio = wide ? (double)img->w / img->h : (double)img->h / img->w;
    struct image sized;

    if (img->channels != 3 || p->crop_w > p->shortest_edge || p->crop_h > p->shortest_edge)
        return fail(err, STYX_ERR_INVALID, "CLIP takes RGB pictures and crops within its edge");
    if (ratio * p->shortest_edge >= IMAGE_MAX_PIXELS / p->shortest_edge)
        return fail(err, STYX_ERR_INVALID, "a picture of %d x %d pixels is too narrow for CLIP",
                    img->w, img->h);
    /* In transformers' order: size * long / short, cut off. */
    long longest =
        wide ? (long)p->shortest_edge * img->w / img->h : (long)p->shortest_edge * img->h / img->w;
    int w = wide ? (int)longest : p->shortest_edge, h = wide ? p->shortest_edge : (int)longest;
    int rc = image_resize(img, w, h, RESIZE_BICUBIC, &sized, err);
    if (rc)
        return rc;
    int left = (w - p->crop_w) / 2, top = (h - p->crop_h) / 2;
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < p->crop_h; y++) {
            const unsigned char *row = sized.data + 3 * ((size_t)(top + y) * (size_t)w);
            for (int x = 0; x < p->crop_w; x++) {
                float v = (float)row[3 * (left + x) + c] * (float)(1 / 255.0);
                *out++ = (v - p->mean[c]) / p->std[c];
            }
        }
    image_free(&sized);
    return STYX_OK;
}
