/* zip.h - finds files within a ZIP archive in memory: just what PyTorch writes, which is stored
 * without compression, with the 64-bit extension where needed. (PKWARE APPNOTE 6.3.) */
#ifndef STYX_WEIGHTS_ZIP_H
#define STYX_WEIGHTS_ZIP_H
#include "base/error.h"

struct zip_file {
    char *name;
    const unsigned char *data;
    size_t bytes;
};

struct zip {
    struct zip_file *files; /* sorted by name */
    int nfiles;
};

/* The archive stays the caller's. path is for messages. zip_free in any case. */
int zip_read(const unsigned char *data, size_t bytes, const char *path, struct zip *zip,
             styx_error *err);
const struct zip_file *zip_find(const struct zip *zip, const char *name);
void zip_free(struct zip *zip);

#endif
