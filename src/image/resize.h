/* resize.h - pictures and tensors of another size, with the numbers of the Python tools: pictures
 * as PIL's Image.resize, tensors as torch's interpolate(mode="nearest"). */
#ifndef STYX_IMAGE_RESIZE_H
#define STYX_IMAGE_RESIZE_H
#include "image/image.h"

enum resize_filter { RESIZE_NEAREST, RESIZE_BOX, RESIZE_BILINEAR, RESIZE_BICUBIC, RESIZE_LANCZOS };

/* *out is new (also when the size stays). Channels are independent: with an alpha channel among
 * them colours are not weighted by it, as PIL would do. */
int image_resize(const struct image *in, int w, int h, enum resize_filter filter, struct image *out,
                 styx_error *err);

/* nplanes planes of in_h x in_w floats to out_h x out_w. */
void floats_resize_nearest(const float *in, int nplanes, int in_h, int in_w, float *out, int out_h,
                           int out_w);

#endif
