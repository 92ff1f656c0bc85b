/* stream.h - matrices that pass through the card in every step.
 *
 * The image is cut into chunks in program order. A chunk is copied into one of a few slots while
 * the chunks before it are being used; the order never changes, so the next ones are always known:
 * after the last chunk comes the first one of the next step. */
#ifndef STYX_CUDA_STREAM_H
#define STYX_CUDA_STREAM_H
#include "cuda/load.h"

struct stream;

/* Bytes of the slots for a budget; 0: as many as are useful. */
size_t stream_bytes(const tape *t, const struct layout *l, size_t budget);
int stream_open(struct loaded *l, const tape *t, size_t budget, struct stream **stream,
                styx_error *err);
void stream_close(struct stream *stream);

/* The chunk that holds a parameter; -1: it is not streamed. */
int stream_chunk(const struct stream *stream, int param);
/* What is enqueued from here on finds the chunk in its slot, and may no longer use the last one. */
int stream_need(struct stream *stream, int chunk, styx_error *err);
CUdeviceptr stream_at(const struct stream *stream, int param);

#endif
