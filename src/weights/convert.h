/* convert.h - the same weights in another type, container or dialect of names.
 *
 * Streams: one tensor at a time is in memory, and pages of the source that were written are given
 * back. */
#ifndef STYX_WEIGHTS_CONVERT_H
#define STYX_WEIGHTS_CONVERT_H
#include "base/file.h"
#include "weights/store.h"

enum convert_type {
    CONVERT_SAME, /* but K-quants become F16, and F64 F32 */
    CONVERT_F32,
    CONVERT_F16,
    CONVERT_BF16,
    CONVERT_Q8_0 /* 8 bits where rows are whole blocks of 32, the rest F16 */
};

struct convert_part {
    const char *component; /* "unet", "vae", "text_encoder", "text_encoder_2" */
    struct store *store;   /* under diffusers names */
};

struct convert_options {
    enum convert_type type;
    bool single; /* as a single file, under CompVis or Stability names; else diffusers names, for
                  * which there must be one part */
    enum file_flags flags;
    /* Told after each tensor; other than 0 stops with STYX_ERR_CANCELLED. May be NULL. */
    int (*progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    void *ctx;
};

/* Writes path, GGUF if its extension is "gguf", else safetensors. 8-bit safetensors are I8 tensors
 * with an F16 NAME.scale of [rows, groups] (docs/formats.md). Metadata of the parts is kept. */
int convert_write(const char *path, const struct convert_part *parts, int nparts,
                  const struct convert_options *options, styx_error *err);

#endif
