/* WebP bytes through the decoder and the search for texts. */
#include <stdlib.h>

#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct image img;
    struct image_notes notes;
    char *text;

    if (!image_decode(data, bytes, "webp", &img, &notes, NULL) && img.channels != 3)
        abort();
    image_free(&img);
    image_notes_free(&notes);
    image_find_text(data, bytes, "webp", "parameters", &text, NULL);
    free(text);
    return 0;
}
