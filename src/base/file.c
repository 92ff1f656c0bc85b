#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int file_read(const char *path, size_t max_bytes, char **data, size_t *bytes, styx_error *err)
{
    int rc = STYX_OK;
    char *buffer = NULL;
    struct stat st;

    *data = NULL;
    if (bytes)
        *bytes = 0;
    /* Asked before opening: opening a pipe would wait for a writer. */
    if (stat(path, &st))
        return fail(err, STYX_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return fail(err, STYX_ERR_FORMAT, "%s: is not a regular file", path);
    if ((uintmax_t)st.st_size > max_bytes)
        return fail(err, STYX_ERR_FORMAT, "%s: has %jd bytes, at most %zu were expected", path,
                    (intmax_t)st.st_size, max_bytes);

    size_t want = (size_t)st.st_size, got = 0;
    FILE *f = fopen(path, "rb");
    if (!f)
        return fail(err, STYX_ERR_IO, "%s: %s", path, strerror(errno));
    buffer = malloc(want + 1);
    if (!buffer) {
        rc = fail_nomem(err, want + 1);
        goto done;
    }
    got = fread(buffer, 1, want, f);
    if (got < want) {
        rc = fail(err, STYX_ERR_IO, "%s: cannot read: %s", path,
                  ferror(f) ? strerror(errno) : "the file ended early");
        goto done;
    }
    buffer[got] = '\0';
    *data = buffer;
    if (bytes)
        *bytes = got;
    buffer = NULL;
done:
    free(buffer);
    fclose(f);
    return rc;
}
