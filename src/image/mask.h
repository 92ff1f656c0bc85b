/* mask.h - where to paint: masks for inpainting, and the way back into the picture. A mask has one
 * channel; white (128 and more) is painted anew, black stays. */
#ifndef STYX_IMAGE_MASK_H
#define STYX_IMAGE_MASK_H
#include "image/image.h"

/* RGB to grey as PIL's convert("L"): ITU-R 601 luma in 16 bits of fraction. One channel is copied.
 */
int mask_from_image(const struct image *img, struct image *mask, styx_error *err);

/* What is transparent is painted: 255 - opacity. */
int mask_from_opacity(const struct image *opacity, struct image *mask, styx_error *err);

/* diffusers' mask processor: resized (Lanczos) to w x h, to grey, and 0 or 1 by 0.5; out has w * h
 * floats. The latents' mask is floats_resize_nearest of it. */
int mask_to_floats(const struct image *img, int w, int h, float *out, styx_error *err);

/* Puts painted into original where the mask is white; pixels outside it keep their bits. With
 * feather > 0 the new pixels fade in over that many pixels from the mask's edge inwards. All three
 * pictures have the same size, the result goes into painted. */
int mask_paste(const struct image *original, const struct image *mask, int feather,
               struct image *painted, styx_error *err);

#endif
