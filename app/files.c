/* files.c - see files.h. */
#define _GNU_SOURCE /* vasprintf, nftw */
#include "files.h"

#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "options.h"
#include "say.h"

char *text_format(const char *fmt, ...)
{
    char *text;
    va_list args;
    va_start(args, fmt);
    int length = vasprintf(&text, fmt, args);
    va_end(args);
    return length < 0 ? NULL : text;
}

int files_make_folders(const char *path)
{
    char *copy = strdup(path);
    int rc = copy ? 0 : complain_memory();
    for (char *slash = rc ? NULL : strchr(copy + 1, '/'); slash && rc == 0;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            rc = complain(EXIT_FAILED, "%s: cannot make this folder: %s", copy, strerror(errno));
        *slash = '/';
    }
    free(copy);
    return rc;
}

/* A name beside path that nobody else has. */
static char *neighbour(const char *path)
{
    return text_format("%s.%ld.new", path, (long)getpid());
}

int files_write(const char *path, const char *text)
{
    char *temp = neighbour(path);
    int rc = temp ? files_make_folders(path) : complain_memory();
    FILE *file = rc ? NULL : fopen(temp, "w");
    if (rc == 0) {
        bool written =
            file && fputs(text, file) >= 0 && fflush(file) == 0 && fsync(fileno(file)) == 0;
        if (file && fclose(file) != 0)
            written = false;
        if (!written || rename(temp, path) != 0)
            rc = complain(EXIT_FAILED, "%s: cannot be written: %s", path, strerror(errno));
        if (rc)
            unlink(temp);
    }
    free(temp);
    return rc;
}

int files_link(const char *target, const char *path)
{
    char *temp = neighbour(path);
    int rc = temp ? files_make_folders(path) : complain_memory();
    if (rc == 0) {
        unlink(temp);
        if (symlink(target, temp) != 0 || rename(temp, path) != 0) {
            rc = complain(EXIT_FAILED, "%s: cannot be made: %s", path, strerror(errno));
            unlink(temp);
        }
    }
    free(temp);
    return rc;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

int files_remove(const char *folder)
{
    if (nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT)
        return 0;
    return complain(EXIT_FAILED, "%s: cannot be removed: %s", folder, strerror(errno));
}
