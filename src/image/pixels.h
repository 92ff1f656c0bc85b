/* pixels.h - between 8-bit pictures and the networks' floats, with the roundings of numpy and
 * diffusers. Tensors are planes: channels x h x w. */
#ifndef STYX_IMAGE_PIXELS_H
#define STYX_IMAGE_PIXELS_H
#include "image/image.h"

/* For the VAE: 2 (x / 255) - 1 in single precision. out has image_bytes(img) floats. */
void pixels_to_floats(const struct image *img, float *out);

/* From the VAE: round(255 clamp(x/2 + 1/2)), halves to even. Takes NaN as black. */
int pixels_from_floats(const float *planes, int w, int h, int channels, struct image *out,
                       styx_error *err);

/* A colour for every latent: rgb = 255 (sum of factor[i] * latent i + bias). */
struct latent_colours {
    float factor[4][3], bias[3];
};

extern const struct latent_colours LATENT_COLOURS_SD15, LATENT_COLOURS_SDXL;

/* What a latent of 4 x h x w will roughly look like, at its own size: a preview for the price of
 * twelve multiplications a pixel instead of a VAE. */
int pixels_preview(const float *latent, int w, int h, const struct latent_colours *colours,
                   struct image *out, styx_error *err);

/* Gives img the mean and spread of reference's colours in CIELAB, channel by channel (Reinhard et
 * al., "Color transfer between images", 2001). The sizes may differ. */
int pixels_match_colours(struct image *img, const struct image *reference, styx_error *err);

#endif
