/* gguf.h - the container of llama.cpp and stable-diffusion.cpp: typed metadata, then tensors, which
 * may be quantised in blocks. Versions 2 and 3, little-endian. */
#ifndef STYX_WEIGHTS_GGUF_H
#define STYX_WEIGHTS_GGUF_H
#include "weights/store.h"

int gguf_open(const char *path, struct store **out, styx_error *err);

/* Adds the tensors and string metadata of a file in memory, which the caller keeps alive, to a
 * store that is being made. */
int gguf_parse(const unsigned char *data, size_t bytes, const char *path, struct store *into,
               styx_error *err);

#endif
