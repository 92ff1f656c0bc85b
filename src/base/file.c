#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Asked before opening: opening a pipe would wait for a writer. */
static int regular_size(const char *path, size_t *bytes, styx_error *err)
{
    struct stat st;

    if (stat(path, &st))
        return fail(err, STYX_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return fail(err, STYX_ERR_FORMAT, "%s: is not a regular file", path);
    if ((uintmax_t)st.st_size > SIZE_MAX / 2)
        return fail(err, STYX_ERR_FORMAT, "%s: has %jd bytes, too many for this machine", path,
                    (intmax_t)st.st_size);
    *bytes = (size_t)st.st_size;
    return STYX_OK;
}

int file_map(const char *path, struct file_map *map, styx_error *err)
{
    size_t bytes;
    void *data = NULL;

    *map = (struct file_map){ .fd = -1 };
    int rc = regular_size(path, &bytes, err);
    if (rc)
        return rc;
    char *name = strdup(path);
    if (!name)
        return fail_nomem(err, strlen(path) + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        rc = fail(err, STYX_ERR_IO, "%s: %s", path, strerror(errno));
        goto done;
    }
    if (bytes) /* mmap refuses a length of 0 */
        data = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
        rc = fail(err, STYX_ERR_IO, "%s: cannot map: %s", path, strerror(errno));
        close(fd);
        goto done;
    }
    *map = (struct file_map){ data, bytes, fd, name };
    name = NULL;
done:
    free(name);
    return rc;
}

void file_unmap(struct file_map *map)
{
    if (!map || !map->path)
        return;
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->bytes);
    close(map->fd);
    free(map->path);
    *map = (struct file_map){ .fd = -1 };
}

int file_map_read(const struct file_map *map, const void *at, void *to, size_t bytes,
                  styx_error *err)
{
    size_t from = (size_t)((const unsigned char *)at - map->data);

    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(map->fd, (char *)to + done, bytes - done, (off_t)(from + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(err, STYX_ERR_IO, "%s: cannot read: %s", map->path,
                        n ? strerror(errno) : "the file ended early");
        done += (size_t)n;
    }
    return STYX_OK;
}

void file_map_expect(const struct file_map *map, const void *at, size_t bytes)
{
    enum { STEP = 128 * 1024 }; /* one call fetches no more than one request to the disk holds */
    size_t from = (size_t)((const unsigned char *)at - map->data), end = from + bytes;

    for (; from < end; from += STEP)
        posix_fadvise(map->fd, (off_t)from, (off_t)(end - from < STEP ? end - from : STEP),
                      POSIX_FADV_WILLNEED);
}

void file_map_forget(const struct file_map *map)
{
    if (map->data)
        madvise((void *)(uintptr_t)map->data, map->bytes, MADV_DONTNEED);
}

int file_read(const char *path, size_t max_bytes, char **data, size_t *bytes, styx_error *err)
{
    size_t want, got;

    *data = NULL;
    if (bytes)
        *bytes = 0;
    int rc = regular_size(path, &want, err);
    if (rc)
        return rc;
    if (want > max_bytes)
        return fail(err, STYX_ERR_FORMAT, "%s: has %zu bytes, at most %zu were expected", path,
                    want, max_bytes);
    FILE *f = fopen(path, "rb");
    if (!f)
        return fail(err, STYX_ERR_IO, "%s: %s", path, strerror(errno));
    char *buffer = malloc(want + 1);
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

static int write_all(int fd, const void *data, size_t bytes)
{
    const char *p = data;

    while (bytes) {
        /* Linux moves at most 2 GiB at once; ask for less, so that a short count is no surprise. */
        ssize_t n = write(fd, p, bytes < 1u << 30 ? bytes : 1u << 30);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        bytes -= (size_t)n;
    }
    return 0;
}

static int existing(const char *path, int code, styx_error *err)
{
    return fail(err, code, "%s: exists already and is not replaced unless asked for", path);
}

/* Moves temp to path without replacing anything. link() is the atomic way; file systems without
 * hard links get the name reserved first. */
static int rename_new(const char *temp, const char *path)
{
    if (!link(temp, path))
        return unlink(temp);
    if (errno == EEXIST)
        return -1;
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    if (fd < 0)
        return -1;
    close(fd);
    return rename(temp, path);
}

/* A hidden neighbour of path, created now. Not mkstemp: its mode 0600 would stay with the file. */
static int open_neighbour(const char *path, char **name)
{
    static atomic_uint counter;
    const char *base = path_base(path);
    size_t bytes = strlen(path) + 48;
    int fd = -1;

    *name = malloc(bytes);
    if (!*name)
        return -1;
    for (int tries = 0; tries < 100 && fd < 0; tries++) {
        snprintf(*name, bytes, "%.*s.styx-%ld-%u.tmp", (int)(base - path), path, (long)getpid(),
                 atomic_fetch_add(&counter, 1));
        fd = open(*name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST)
            break;
    }
    return fd;
}

int file_out_open(const char *path, enum file_flags flags, struct file_out *out, styx_error *err)
{
    struct stat st;
    int rc = file_writable(path, flags, err);

    *out = (struct file_out){ .fd = -1, .flags = flags };
    if (rc)
        return rc;
    bool there = !stat(path, &st);
    out->path = strdup(path);
    if (!out->path)
        return fail_nomem(err, strlen(path) + 1);
    if (there && !S_ISREG(st.st_mode)) {
        out->fd = open(path, O_WRONLY | O_CLOEXEC);
        if (out->fd < 0)
            rc = fail(err, STYX_ERR_IO, "%s: %s", path, strerror(errno));
    } else {
        out->fd = open_neighbour(path, &out->temp);
        if (!out->temp)
            rc = fail_nomem(err, strlen(path));
        else if (out->fd < 0 || (there && fchmod(out->fd, st.st_mode & 07777)))
            rc =
                fail(err, STYX_ERR_IO, "%s: cannot create a file there: %s", path, strerror(errno));
    }
    if (rc)
        file_out_drop(out);
    return rc;
}

int file_out_put(struct file_out *out, const void *data, size_t bytes, styx_error *err)
{
    if (write_all(out->fd, data, bytes))
        return fail(err, STYX_ERR_IO, "%s: cannot write: %s", out->path, strerror(errno));
    return STYX_OK;
}

int file_out_commit(struct file_out *out, styx_error *err)
{
    int rc = STYX_OK;
    bool bad = out->temp && fsync(out->fd);
    int why = errno;

    if (close(out->fd) && !bad) /* NFS tells about a full disk only here */
        bad = true, why = errno;
    out->fd = -1;
    if (!bad && out->temp &&
        (out->flags & FILE_NEW ? rename_new(out->temp, out->path) : rename(out->temp, out->path)))
        bad = true, why = errno;
    if (bad && out->flags & FILE_NEW && why == EEXIST)
        rc = existing(out->path, STYX_ERR_INVALID, err);
    else if (bad)
        rc = fail(err, STYX_ERR_IO, "%s: cannot write: %s", out->path, strerror(why));
    if (!bad) {
        free(out->temp);
        out->temp = NULL;
    }
    return rc;
}

void file_out_drop(struct file_out *out)
{
    if (!out || !out->path)
        return;
    if (out->fd >= 0)
        close(out->fd);
    if (out->temp)
        unlink(out->temp);
    free(out->temp);
    free(out->path);
    *out = (struct file_out){ .fd = -1 };
}

int file_write(const char *path, const void *data, size_t bytes, enum file_flags flags,
               styx_error *err)
{
    struct file_out out;
    int rc = file_out_open(path, flags, &out, err);

    if (!rc && !(rc = file_out_put(&out, data, bytes, err)))
        rc = file_out_commit(&out, err);
    file_out_drop(&out);
    return rc;
}

int file_writable(const char *path, enum file_flags flags, styx_error *err)
{
    struct stat st;
    int rc = STYX_OK;
    const char *base = path_base(path);
    size_t length = (size_t)(base - path);

    if (!*base)
        return fail(err, STYX_ERR_INVALID, "'%s': a file name was wanted", path);
    if (!stat(path, &st)) {
        if (S_ISDIR(st.st_mode))
            return fail(err, STYX_ERR_INVALID, "%s: is a folder, a file was wanted", path);
        if (!S_ISREG(st.st_mode))
            return access(path, W_OK) ? fail(err, STYX_ERR_IO, "%s: %s", path, strerror(errno))
                                      : STYX_OK;
        if (flags & FILE_NEW)
            return existing(path, STYX_ERR_INVALID, err);
    }
    char *dir = length ? strndup(path, length) : strdup(".");
    if (!dir)
        return fail_nomem(err, length + 2);
    if (stat(dir, &st))
        rc = fail(err, STYX_ERR_IO, "%s: the folder %s: %s", path, dir, strerror(errno));
    else if (!S_ISDIR(st.st_mode))
        rc = fail(err, STYX_ERR_IO, "%s: %s is not a folder", path, dir);
    else if (access(dir, W_OK | X_OK))
        rc = fail(err, STYX_ERR_IO, "%s: cannot write into %s: %s", path, dir, strerror(errno));
    free(dir);
    return rc;
}

bool file_exists(const char *path)
{
    return !access(path, F_OK);
}

bool file_is_dir(const char *path)
{
    struct stat st;

    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

char *path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir);

    if (!n || *name == '/')
        return strdup(name);
    size_t bytes = n + strlen(name) + 2;
    char *path = malloc(bytes);
    if (path)
        snprintf(path, bytes, "%s%s%s", dir, dir[n - 1] == '/' ? "" : "/", name);
    return path;
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

const char *path_extension(const char *path)
{
    const char *base = path_base(path), *dot = strrchr(base, '.');

    return dot && dot != base ? dot + 1 : "";
}
