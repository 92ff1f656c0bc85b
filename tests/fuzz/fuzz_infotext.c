/* Any text is an infotext; what is written of it must be one again, with a prompt. */
#include <stdlib.h>
#include <string.h>

#include "image/infotext.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct infotext info, again;
    char *text = malloc(bytes + 1), *written = NULL;

    if (!text)
        return 0;
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    if (infotext_parse(text, &info, NULL) || !infotext_get(&info, "Prompt") ||
        infotext_write(&info, &written, NULL) || infotext_parse(written, &again, NULL) ||
        !infotext_get(&again, "Prompt"))
        abort();
    infotext_free(&info);
    infotext_free(&again);
    free(written);
    free(text);
    return 0;
}
