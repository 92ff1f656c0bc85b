/* PNG bytes through the decoder and the search for texts, with the checksums made right first:
 * otherwise nearly every change would end there. */
#include <stdlib.h>
#include <string.h>

#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static uint32_t get(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t checksum(const uint8_t *p, size_t n)
{
    uint32_t crc = ~0u;

    while (n--) {
        crc ^= *p++;
        for (int i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* False if a chunk claims more than the file holds: libpng would take memory for it, which costs a
 * sanitizer dear, to find the file truncated. The unit tests cut files. */
static int mend(uint8_t *png, size_t bytes)
{
    for (size_t at = 8; at + 12 <= bytes;) {
        size_t n = get(png + at);
        if (n > bytes - at - 12)
            return 0;
        uint32_t crc = checksum(png + at + 4, n + 4);
        for (int i = 0; i < 4; i++)
            png[at + 8 + n + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += n + 12;
    }
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    enum { MAX_PIXELS = 1 << 14 }; /* larger ones are slow and no different */
    struct image img;
    struct image_notes notes;
    char *text;

    if (bytes >= 24 && (uint64_t)get(data + 16) * get(data + 20) > MAX_PIXELS)
        return 0;
    uint8_t *png = malloc(bytes + 1);
    if (!png)
        return 0;
    memcpy(png, data, bytes);
    if (!mend(png, bytes)) {
        free(png);
        return 0;
    }
    if (!image_decode(png, bytes, "png", &img, &notes, NULL) && img.channels != 3)
        abort();
    image_free(&img);
    image_notes_free(&notes);
    image_find_text(png, bytes, "png", "parameters", &text, NULL);
    free(text);
    free(png);
    return 0;
}
