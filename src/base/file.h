/* file.h - files and paths: map large ones, read small ones, write whole ones or none.
 *
 * Paths are byte strings as the system takes them (UTF-8 by custom). */
#ifndef STYX_BASE_FILE_H
#define STYX_BASE_FILE_H
#include <stdbool.h>

#include "base/error.h"

/* A whole file, mapped read-only and private, and open. An empty file has data == NULL. */
struct file_map {
    const unsigned char *data;
    size_t bytes;
    int fd;
    char *path; /* NULL: nothing is open */
};

/* Maps a regular file. The map outlives the file's name, but not a file that is cut short while it
 * is mapped: reading beyond the new end is SIGBUS, as with every mmap. */
int file_map(const char *path, struct file_map *map, styx_error *err);
/* Takes NULL and an already unmapped map; leaves map empty. */
void file_unmap(struct file_map *map);

/* Copies the bytes that lie at `at` of the map, without touching it: what is touched becomes
 * resident memory of the process, with as many neighbours as the system likes. A file that was cut
 * short is STYX_ERR_IO here. */
int file_map_read(const struct file_map *map, const void *at, void *to, size_t bytes,
                  styx_error *err);
/* These bytes will be read soon: the system may fetch them from the disk meanwhile. */
void file_map_expect(const struct file_map *map, const void *at, size_t bytes);
/* The pages that were touched need not stay in memory; they come back when they are read. */
void file_map_forget(const struct file_map *map);

/* Reads path into *data, which is yours (free) and ends with a NUL that *bytes does not count.
 * A file that is no regular file or longer than max_bytes is STYX_ERR_FORMAT. bytes may be NULL. */
int file_read(const char *path, size_t max_bytes, char **data, size_t *bytes, styx_error *err);

enum file_flags {
    FILE_REPLACE = 0,
    FILE_NEW = 1 /* an existing file is STYX_ERR_INVALID and stays as it is */
};

/* Writes the file in one piece: into a temporary neighbour, synced, then renamed, so that path
 * holds the old bytes or all of the new ones whatever happens. Devices and pipes, which have
 * nothing to lose, are written straight. */
int file_write(const char *path, const void *data, size_t bytes, enum file_flags flags,
               styx_error *err);

/* The same for what comes in pieces:
 *     file_out_open, file_out_put..., file_out_commit, and file_out_drop in any case. */
struct file_out {
    int fd;
    char *path, *temp; /* temp is NULL for devices and pipes */
    enum file_flags flags;
};
int file_out_open(const char *path, enum file_flags flags, struct file_out *out, styx_error *err);
int file_out_put(struct file_out *out, const void *data, size_t bytes, styx_error *err);
int file_out_commit(struct file_out *out, styx_error *err);
/* Removes what was not committed. Takes NULL, and an out that is all zero. */
void file_out_drop(struct file_out *out);

/* Could file_write succeed? For asking before the work: looks at the folder, the permissions and
 * what already lies there; a full disk is still found out later. */
int file_writable(const char *path, enum file_flags flags, styx_error *err);

bool file_exists(const char *path);
bool file_is_dir(const char *path);

/* dir/name in new memory (free), or NULL without memory. An empty dir gives name alone; an absolute
 * name stays what it is. */
char *path_join(const char *dir, const char *name);
/* The last component ("b.png" of "a/b.png"), borrowed from path. */
const char *path_base(const char *path);
/* The extension without its dot ("png"), "" if there is none, borrowed from path. */
const char *path_extension(const char *path);

#endif
