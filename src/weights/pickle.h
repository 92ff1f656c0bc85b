/* pickle.h - PyTorch's .ckpt, .pt and .bin files, read without running anything.
 *
 * A pickle is a program for a stack machine which may import and call whatever it names. This
 * reader knows only the few names that a file of tensors needs, builds plain values from them, and
 * refuses the file at the first other name. Only the ZIP layout (PyTorch 1.6 and later). */
#ifndef STYX_WEIGHTS_PICKLE_H
#define STYX_WEIGHTS_PICKLE_H
#include "weights/store.h"

/* The tensors of the file: of its "state_dict" if it has one, else of all its dictionaries, with
 * '.' between their keys. Texts among them become metadata. */
int pickle_open(const char *path, struct store **out, styx_error *err);

int pickle_parse(const unsigned char *data, size_t bytes, const char *path, struct store *into,
                 styx_error *err);

#endif
