/* clipvision.h - pictures as CLIP's vision models want them: transformers' CLIPImageProcessor. */
#ifndef STYX_IMAGE_CLIPVISION_H
#define STYX_IMAGE_CLIPVISION_H
#include "image/image.h"

struct clip_processor {
    int shortest_edge, crop_w, crop_h; /* crops may not be larger than the shortest edge */
    float mean[3], std[3];
};

/* OpenAI's numbers, in the preprocessor_config.json of every Stable Diffusion 1.x. */
extern const struct clip_processor CLIP_PROCESSOR;

/* Fills p from a preprocessor_config.json; what the file lacks is as in CLIP_PROCESSOR. */
int clip_processor_load(const char *path, struct clip_processor *p, styx_error *err);

/* Bicubic to the shortest edge, centre crop, x / 255, (x - mean) / std: out is 3 x crop_h x crop_w.
 * img is RGB. */
int clip_preprocess(const struct clip_processor *p, const struct image *img, float *out,
                    styx_error *err);

#endif
