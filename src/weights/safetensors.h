/* safetensors.h - the format that weights come in: a length (u64, little-endian), that many bytes
 * of JSON ({"NAME": {"dtype", "shape", "data_offsets"}, ..., "__metadata__": {...}}), then data.
 *
 * Everything is checked before a byte of data is believed: lengths, types, products of shapes, and
 * that the tensors tile the data without overlap, hole or rest. */
#ifndef STYX_WEIGHTS_SAFETENSORS_H
#define STYX_WEIGHTS_SAFETENSORS_H
#include "weights/store.h"

/* The limit of the format's own library. */
enum { SAFETENSORS_HEADER_BYTES = 100 * 1000 * 1000 };

int safetensors_open(const char *path, struct store **out, styx_error *err);

/* Adds the tensors and metadata of a file in memory, which the caller keeps alive, to a store that
 * is being made. */
int safetensors_parse(const unsigned char *data, size_t bytes, const char *path, struct store *into,
                      styx_error *err);

#endif
