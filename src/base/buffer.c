#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for that many more bytes and a NUL. */
static bool reserve(struct buffer *b, size_t more)
{
    if (b->nomem)
        return false;
    if (b->capacity - b->bytes > more)
        return true;
    size_t want = b->capacity ? b->capacity : 64;
    while (want - b->bytes <= more && want <= SIZE_MAX / 2)
        want *= 2;
    unsigned char *data = want - b->bytes > more ? realloc(b->data, want) : NULL;
    if (!data) {
        b->nomem = true;
        return false;
    }
    b->data = data;
    b->capacity = want;
    return true;
}

void buffer_add(struct buffer *b, const void *data, size_t bytes)
{
    if (!reserve(b, bytes))
        return;
    if (bytes)
        memcpy(b->data + b->bytes, data, bytes);
    b->bytes += bytes;
    b->data[b->bytes] = '\0';
}

void buffer_text(struct buffer *b, const char *text)
{
    buffer_add(b, text, strlen(text));
}

void buffer_byte(struct buffer *b, unsigned char byte)
{
    buffer_add(b, &byte, 1);
}

void buffer_printf(struct buffer *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !reserve(b, (size_t)n))
        return;
    va_start(ap, fmt);
    vsnprintf((char *)b->data + b->bytes, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->bytes += (size_t)n;
}

int buffer_take(struct buffer *b, unsigned char **data, size_t *bytes, styx_error *err)
{
    int rc = STYX_OK;

    *data = NULL;
    if (reserve(b, 0))
        b->data[b->bytes] = '\0';
    if (b->nomem) {
        rc = fail_nomem(err, b->capacity);
    } else {
        *data = b->data;
        b->data = NULL;
    }
    if (bytes)
        *bytes = rc ? 0 : b->bytes;
    buffer_free(b);
    return rc;
}

int buffer_take_text(struct buffer *b, char **text, styx_error *err)
{
    unsigned char *data;
    int rc = buffer_take(b, &data, NULL, err);

    *text = (char *)data;
    return rc;
}

void buffer_free(struct buffer *b)
{
    if (b) {
        free(b->data);
        *b = (struct buffer){ 0 };
    }
}
