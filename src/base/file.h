/* file.h - read a small file whole. Large files (weights) are mapped elsewhere. */
#ifndef STYX_BASE_FILE_H
#define STYX_BASE_FILE_H
#include "base/error.h"

/* Reads path into *data, which is yours (free) and ends with a NUL that *bytes does not count.
 * A file that is no regular file or longer than max_bytes is STYX_ERR_FORMAT. bytes may be NULL. */
int file_read(const char *path, size_t max_bytes, char **data, size_t *bytes, styx_error *err);

#endif
