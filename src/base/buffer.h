/* buffer.h - bytes that grow. The first failed allocation sticks: later calls do nothing, and
 * buffer_take reports it, so that a writer checks once at the end. */
#ifndef STYX_BASE_BUFFER_H
#define STYX_BASE_BUFFER_H
#include <stdbool.h>

#include "base/error.h"

struct buffer {
    unsigned char *data; /* NUL after the last byte; NULL while empty */
    size_t bytes, capacity;
    bool nomem;
};

void buffer_add(struct buffer *b, const void *data, size_t bytes);
void buffer_text(struct buffer *b, const char *text);
void buffer_byte(struct buffer *b, unsigned char byte);
void buffer_printf(struct buffer *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Gives the bytes away (free) and empties the buffer. *bytes may be NULL. An empty buffer gives
 * an empty string, never NULL. */
int buffer_take(struct buffer *b, unsigned char **data, size_t *bytes, styx_error *err);
int buffer_take_text(struct buffer *b, char **text, styx_error *err);
void buffer_free(struct buffer *b);

#endif
