/* JPEG bytes through the decoder (CMYK and EXIF orientation too) and the search for texts. */
#include <stdlib.h>

#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Frame headers (SOF0 to SOF15, less DHT, JPG and DAC) whose size would only make the run slow. */
static int large(const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i + 9 < bytes; i++)
        if (p[i] == 0xff && (p[i + 1] & 0xf0) == 0xc0 && p[i + 1] != 0xc4 && p[i + 1] != 0xc8 &&
            p[i + 1] != 0xcc && (p[i + 5] || p[i + 7]))
            return 1;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct image img;
    struct image_notes notes;
    char *text;

    if (large(data, bytes))
        return 0;
    if (!image_decode(data, bytes, "jpeg", &img, &notes, NULL) && img.channels != 3)
        abort();
    image_free(&img);
    image_notes_free(&notes);
    image_find_text(data, bytes, "jpeg", "parameters", &text, NULL);
    free(text);
    return 0;
}
