/* register.c - see register.h.
 *
 * The cache gets hard links where the file system allows them, else copies: nothing lies there
 * twice, and what is removed, from the cache or from its first place, stays in the other. */
#include "register.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "choose.h"
#include "files.h"
#include "paths.h"
#include "pull.h"
#include "say.h"
#include "small.h"

struct registration {
    const struct options *o;
    const volatile int *cancel;
    char *folder; /* of the files; ends in '/' */
    struct model_id id;
    struct cache cache;
    struct hub_listing list;
    bool *chosen;
    struct stat *seen; /* when they were hashed */
    char commit[65];
    uint64_t bytes; /* that the cache lacks */
};

/* ---- what is there ---- */

static int add_file(struct registration *r, const char *path, const struct stat *st)
{
    struct hub_file *more = realloc(r->list.files, (r->list.count + 1) * sizeof *more);
    if (!more)
        return complain_memory();
    r->list.files = more;
    more[r->list.count] = (struct hub_file){ .path = strdup(path), .size = st->st_size };
    return more[r->list.count++].path ? 0 : complain_memory();
}

/* The files in the folder, and those one level deeper; within is "" or "unet/". */
static int list_folder(struct registration *r, const char *within)
{
    char *place = text_format("%s%s", r->folder, within);
    DIR *folder = place ? opendir(place) : NULL;
    struct dirent *entry;
    struct stat st;
    int rc = folder  ? 0
             : place ? complain(EXIT_FAILED, "%s: %s", place, strerror(errno))
                     : complain_memory();
    while (rc == 0 && (entry = readdir(folder))) {
        char *name = text_format("%s%s", within, entry->d_name);
        char *path = name ? text_format("%s%s/", r->folder, name) : NULL;
        if (!path) {
            rc = complain_memory();
        } else if (*entry->d_name != '.' && stat(path, &st) == 0) {
            rc = *within ? 0 : list_folder(r, path + strlen(r->folder));
        } else if (*entry->d_name != '.') {
            path[strlen(path) - 1] = '\0';
            if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
                rc = add_file(r, name, &st);
        }
        free(path);
        free(name);
    }
    if (folder)
        closedir(folder);
    free(place);
    return rc;
}

static int choose(struct registration *r, bool folder)
{
    json_error_t error;
    int rc = 0;
    r->chosen = calloc(r->list.count + 1, sizeof *r->chosen);
    r->seen = calloc(r->list.count + 1, sizeof *r->seen);
    char *path = text_format("%smodel_index.json", r->folder);
    if (!r->chosen || !r->seen || !path) {
        rc = complain_memory();
    } else if (folder && path_exists(path)) {
        json_t *index = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
        rc = index ? choose_files(&r->list, index, r->o->variant, r->o->only_parts, r->chosen)
                   : complain(EXIT_FAILED, "%s: %s (line %d)", path, error.text, error.line);
        json_decref(index);
    } else {
        int single = choose_single(&r->list);
        if (single >= 0)
            r->chosen[single] = true;
        else
            rc = complain(EXIT_FAILED, "%s: %s", r->o->subject,
                          folder ? "no model_index.json there, and not just one checkpoint file"
                                 : "want a .safetensors or .gguf file, or a model's folder");
    }
    free(path);
    return rc;
}

/* ---- hashing ---- */

static int check_weights(const char *path)
{
    char *info = NULL;
    styx_error err;
    if (!ends_with(path, ".safetensors") && !ends_with(path, ".gguf"))
        return 0;
    if (styx_weights_info(path, &info, &err))
        return complain_of(&err);
    styx_text_free(info);
    return 0;
}

static int hash_chosen(struct registration *r, size_t i)
{
    struct hub_file *file = &r->list.files[i];
    char *path = text_format("%s%s", r->folder, file->path);
    styx_error err;
    struct stat there;
    int rc = path ? check_weights(path) : complain_memory();
    if (rc == 0 && stat(path, &r->seen[i]) != 0)
        rc = complain(EXIT_FAILED, "%s: %s", path, strerror(errno));
    if (rc == 0 && styx_file_hash(path, file->etag, &err))
        rc = complain_of(&err);
    free(path);
    path = rc == 0 ? cache_blob(&r->cache, file->etag) : NULL;
    if (rc == 0 && !path)
        rc = complain_memory();
    if (rc == 0 && (stat(path, &there) != 0 || there.st_size != r->seen[i].st_size))
        r->bytes += (uint64_t)r->seen[i].st_size;
    free(path);
    return rc ? rc : *r->cancel ? EXIT_CANCELLED : 0;
}

/* The same files are the same commit: 40 digits of the SHA-256 of their names and hashes. */
static int hash_all(struct registration *r)
{
    styx_hash *hash = NULL;
    styx_error err;
    int rc = styx_hash_new(&hash, &err) ? complain_of(&err) : 0;
    for (size_t i = 0; i < r->list.count && rc == 0; i++) {
        if (!r->chosen[i] || (rc = hash_chosen(r, i)))
            continue;
        styx_hash_add(hash, r->list.files[i].path, strlen(r->list.files[i].path) + 1);
        styx_hash_add(hash, r->list.files[i].etag, 64);
    }
    if (rc == 0) {
        styx_hash_end(hash, r->commit);
        r->commit[40] = '\0';
    }
    styx_hash_free(hash);
    return rc;
}

static int check_hash(const struct registration *r, bool folder)
{
    if (!r->o->sha256)
        return 0;
    if (folder)
        return complain(EXIT_USAGE, "--sha256 is for one file, and %s is a folder", r->o->subject);
    int rc = pull_check_sha256(r->o->sha256);
    for (size_t i = 0; i < r->list.count && rc == 0; i++)
        if (r->chosen[i] && strcmp(r->list.files[i].etag, r->o->sha256) != 0)
            rc = complain(EXIT_FAILED, "%s: its SHA-256 is %s, not %s", r->o->subject,
                          r->list.files[i].etag, r->o->sha256);
    return rc;
}

/* ---- into the cache ---- */

static bool copy_bytes(int from, int to)
{
    enum { CHUNK = 1 << 20 };
    char *buffer = malloc(CHUNK);
    ssize_t n = buffer ? 1 : -1;
    while (n > 0 && (n = read(from, buffer, CHUNK)) > 0)
        for (ssize_t at = 0, put; at < n; at += put)
            if ((put = write(to, buffer + at, (size_t)(n - at))) < 0) {
                free(buffer);
                return false;
            }
    free(buffer);
    return n == 0 && fsync(to) == 0;
}

static int copy_file(const char *from, const char *to)
{
    int in = open(from, O_RDONLY), out = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    bool good = out >= 0 && copy_bytes(in, out);
    int why = errno;
    if (in >= 0)
        close(in);
    if (out >= 0 && close(out) != 0)
        good = false;
    if (good)
        return 0;
    unlink(to);
    return complain(EXIT_FAILED, "%s: cannot be copied to %s: %s", from, to, strerror(why));
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Under another name first: a blob is there whole or not at all. */
static int put_blob(const struct registration *r, size_t i)
{
    struct stat st;
    const struct hub_file *file = &r->list.files[i];
    char *from = text_format("%s%s", r->folder, file->path);
    char *blob = cache_blob(&r->cache, file->etag);
    char *temp = blob ? text_format("%s.%ld.new", blob, (long)getpid()) : NULL;
    int rc = from && temp ? files_make_folders(blob) : complain_memory();
    if (rc == 0 && stat(blob, &st) == 0 && st.st_size == r->seen[i].st_size)
        goto done;
    if (rc == 0 && linkat(AT_FDCWD, from, AT_FDCWD, temp, AT_SYMLINK_FOLLOW) != 0)
        rc = copy_file(from, temp);
    if (rc == 0 && (stat(from, &st) != 0 || !same_file(&st, &r->seen[i])))
        rc = complain(EXIT_FAILED, "%s: was written to while it was hashed", from);
    if (rc == 0 && rename(temp, blob) != 0)
        rc = complain(EXIT_FAILED, "%s: cannot be made: %s", blob, strerror(errno));
    if (rc == 0)
        unlink(temp); /* rename leaves both names of one file */
done:
    if (rc && temp)
        unlink(temp);
    free(temp);
    free(blob);
    free(from);
    return rc;
}

/* Links and the ref come last, when every byte is there. */
static int publish(const struct registration *r)
{
    int rc = cache_room(&r->cache, 0);
    for (size_t i = 0; i < r->list.count && rc == 0; i++)
        if (r->chosen[i])
            rc = *r->cancel ? EXIT_CANCELLED : put_blob(r, i);
    for (size_t i = 0; i < r->list.count && rc == 0; i++)
        if (r->chosen[i])
            rc = cache_link(&r->cache, r->commit, r->list.files[i].path, r->list.files[i].etag);
    return rc ? rc : cache_refer(&r->cache, r->id.revision, r->commit);
}

static int tell(const struct registration *r)
{
    char *snapshot = cache_snapshot(&r->cache, r->commit);
    if (!snapshot)
        return complain_memory();
    int rc = 0;
    if (r->o->json) {
        json_t *files = json_array();
        for (size_t i = 0; i < r->list.count; i++)
            if (r->chosen[i])
                json_array_append_new(files,
                                      json_pack("{s:s, s:I, s:s}", "path", r->list.files[i].path,
                                                "size", (json_int_t)r->seen[i].st_size, "hash",
                                                r->list.files[i].etag));
        rc = pull_print(json_pack("{s:o, s:s, s:s, s:b, s:I, s:o}", "id",
                                  json_sprintf("%s/%s", r->id.organisation, r->id.name), "commit",
                                  r->commit, "path", snapshot, "dry_run", (int)r->o->dry_run,
                                  "bytes", (json_int_t)r->bytes, "files", files));
    } else if (r->o->dry_run) {
        for (size_t i = 0; i < r->list.count; i++)
            if (r->chosen[i])
                printf("%s %s\n", r->list.files[i].path, r->list.files[i].etag);
    } else {
        puts(snapshot);
    }
    if (rc == 0 && !r->o->dry_run)
        say("--model %s/%s finds it", r->id.organisation, r->id.name);
    free(snapshot);
    return rc;
}

/* ---- names ---- */

/* A file's name as that of a model: without its ending, and with single dashes for what such names
 * cannot have. */
static char *own_name(const char *path)
{
    size_t length = strlen(path), to = 0;
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/')
        start--;
    char *name = strndup(path + start, length - start);
    char *dot = name ? strrchr(name, '.') : NULL;
    if (dot && (strcmp(dot, ".safetensors") == 0 || strcmp(dot, ".gguf") == 0))
        *dot = '\0';
    for (char *c = name; c && *c; c++) {
        bool fine = (*c >= '0' && *c <= '9') || ((*c | 32) >= 'a' && (*c | 32) <= 'z') || *c == '_';
        char put = fine || *c == '.' ? *c : '-';
        if (fine || (to > 0 && name[to - 1] != '-' && name[to - 1] != '.'))
            name[to++] = put;
    }
    while (to > 0 && (name[to - 1] == '-' || name[to - 1] == '.'))
        to--;
    if (name)
        name[to] = '\0';
    return name;
}

static int name_it(struct registration *r)
{
    char *name = r->o->target ? strdup(r->o->target) : own_name(r->o->subject);
    char *id = name ? text_format("local/%s", name) : NULL;
    int rc = !id                               ? complain_memory()
             : strpbrk(name, "/@") || !name[0] ? complain(EXIT_USAGE,
                                                          "'%.100s' is no name for a model here; "
                                                          "want letters, digits, - _ .",
                                                          name)
                                               : model_id_read(&r->id, id);
    free(id);
    free(name);
    return rc ? rc : cache_open(&r->cache, &r->id);
}

static int gather(struct registration *r)
{
    bool folder = path_is_folder(r->o->subject);
    const char *subject = r->o->subject, *slash = strrchr(subject, '/');
    struct stat st;
    int rc = 0;
    r->folder = folder ? text_format("%s%s", subject, slash && !slash[1] ? "" : "/")
                       : strndup(subject, slash ? (size_t)(slash - subject) + 1 : 0);
    if (!r->folder)
        return complain_memory();
    if (folder)
        rc = list_folder(r, "");
    else if (stat(subject, &st) != 0)
        rc = complain(EXIT_FAILED, "%s: %s", subject, strerror(errno));
    else
        rc = add_file(r, slash ? slash + 1 : subject, &st);
    if (rc == 0)
        rc = choose(r, folder);
    if (rc == 0)
        rc = hash_all(r);
    return rc ? rc : check_hash(r, folder);
}

int register_model(struct options *o, const volatile int *cancel)
{
    struct registration r = { .o = o, .cancel = cancel };
    int rc = name_it(&r);
    if (rc == 0)
        rc = gather(&r);
    if (rc == 0 && !o->dry_run)
        rc = publish(&r);
    if (rc == 0)
        rc = tell(&r);
    hub_listing_free(&r.list);
    cache_close(&r.cache);
    free(r.chosen);
    free(r.seen);
    free(r.folder);
    return rc;
}
