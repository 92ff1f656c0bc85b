/* names.h - the two dialects of tensor names: diffusers' (ours) and that of single files, which
 * goes back to the CompVis latent-diffusion code (SD 1.x, 2.x) and Stability's generative-models
 * (SDXL). docs/names.md shows both side by side. */
#ifndef STYX_WEIGHTS_NAMES_H
#define STYX_WEIGHTS_NAMES_H
#include "weights/store.h"

enum single_file {
    SINGLE_UNKNOWN,
    SINGLE_SD15, /* and every other SD 1.x */
    SINGLE_SD15_INPAINT,
    SINGLE_SD2,
    SINGLE_SDXL,
    SINGLE_SDXL_INPAINT,
    SINGLE_REFINER
};

/* Told by names and shapes alone. */
enum single_file single_file_kind(const struct store *file);
const char *single_file_name(enum single_file kind); /* "SD 1.x", "SDXL inpainting", ... */

/* The tensors of "unet", "vae", "text_encoder" or "text_encoder_2" under their diffusers names.
 * Copies nothing but a transposed text projection. The view keeps the file alive. */
int single_file_component(struct store *file, const char *component, struct store **view,
                          styx_error *err);
bool single_file_has(const struct store *file, const char *component);

enum { NAME_BYTES = 256 };

/* How a tensor of ours lies in a single file. */
enum name_form {
    NAME_NONE,
    NAME_SAME,
    NAME_FUSED, /* stacked in one tensor with the keys and values that belong to it */
    NAME_TRANSPOSED
};

/* The single-file name, without its prefix, of a tensor of a component in diffusers names;
 * component is "unet", "vae", or "openclip". weights tells which blocks have attention and how many
 * levels there are. NAME_NONE: it has none of its own (keys and values of OpenCLIP). */
enum name_form name_to_single(const struct store *weights, const char *component, const char *ours,
                              char theirs[NAME_BYTES]);

#endif
