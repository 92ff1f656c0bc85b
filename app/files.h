/* files.h - making names, folders, links and small files. */
#ifndef STYX_APP_FILES_H
#define STYX_APP_FILES_H
#include <stdbool.h>

/* As asprintf; NULL without memory. */
char *text_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Makes the folders that lead to path, and path itself if it ends in '/'. Exit code. */
int files_make_folders(const char *path);
/* Puts path in the place of what lies there, whole or not at all. Exit codes. */
int files_write(const char *path, const char *text);
int files_link(const char *target, const char *path);
/* Removes a folder with all in it, never following a link out of it. */
int files_remove(const char *folder);

#endif
