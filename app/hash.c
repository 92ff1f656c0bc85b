/* hash.c - see hash.h. */
#include "hash.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "options.h"
#include "paths.h"
#include "say.h"
#include "studio.h"

struct hashing {
    pthread_t thread;
    json_t *files[2];  /* component: path, or list of paths */
    json_t *hashes[2]; /* component: hash, or list of hashes */
    json_t *extras;    /* flag: list of {path}, which get their sha256 */
    int rc;
};

/* FOLDER/styx/hashes, or false if there is no place for a cache. */
static bool cache_path(char *path, size_t bytes, bool make)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int used = cache && *cache == '/' ? snprintf(path, bytes, "%s", cache)
               : home && *home == '/' ? snprintf(path, bytes, "%s/.cache", home)
                                      : -1;
    if (used < 0 || (size_t)used + 16 >= bytes)
        return false;
    if (make)
        mkdir(path, 0777);
    strcat(path, "/styx");
    if (make)
        mkdir(path, 0777);
    strcat(path, "/hashes");
    return true;
}

/* What a file is known by as long as nobody writes to it. */
static void cache_key(const struct stat *st, char *key, size_t bytes)
{
    snprintf(key, bytes, "%ju:%ju:%jd:%jd.%09ld", (uintmax_t)st->st_dev, (uintmax_t)st->st_ino,
             (intmax_t)st->st_size, (intmax_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

static bool cache_find(const char *key, char hex[65])
{
    char path[PATH_MAX], line[256];
    FILE *file = cache_path(path, sizeof path, false) ? fopen(path, "r") : NULL;
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        size_t length = strlen(key);
        found = strncmp(line, key, length) == 0 && line[length] == ' ' &&
                strspn(line + length + 1, "0123456789abcdef") == 64;
        if (found)
            snprintf(hex, 65, "%.64s", line + length + 1);
    }
    if (file)
        fclose(file);
    return found;
}

/* One short line appended at once, so that two commands do not mix theirs. A cache that cannot be
 * written costs time, nothing else. */
static void cache_keep(const char *key, const char *hex)
{
    char path[PATH_MAX];
    FILE *file = cache_path(path, sizeof path, true) ? fopen(path, "a") : NULL;
    if (file) {
        fprintf(file, "%s %s\n", key, hex);
        fclose(file);
    }
}

/* A blob of a hub cache is named by its SHA-256, and a snapshot's files are links to blobs. */
static bool blob_name(const char *path, char hex[65])
{
    char real[PATH_MAX];
    if (!realpath(path, real))
        return false;
    const char *name = strrchr(real, '/') + 1;
    if (!strstr(real, "/blobs/") || strlen(name) != 64 || strspn(name, "0123456789abcdef") != 64)
        return false;
    memcpy(hex, name, 65);
    return true;
}

int hash_file(const char *path, char hex[65])
{
    char key[128];
    struct stat st;
    styx_error err;
    if (blob_name(path, hex))
        return 0;
    if (stat(path, &st) != 0)
        return complain(EXIT_FAILED, "%s: %s", path, strerror(errno));
    cache_key(&st, key, sizeof key);
    if (cache_find(key, hex))
        return 0;
    if (styx_file_hash(path, hex, &err))
        return complain_of(&err);
    cache_keep(key, hex);
    return 0;
}

static json_t *hash_value(const char *path, int *rc)
{
    char hex[65];
    if (*rc == 0)
        *rc = hash_file(path, hex);
    return *rc == 0 ? json_string(hex) : NULL;
}

static void *hash_all(void *user)
{
    struct hashing *h = user;
    const char *name;
    json_t *file, *shard;
    size_t i;
/* Where a priority is a thread's: the first step is waited for, hashes are not. */
#ifdef __linux__
    setpriority(PRIO_PROCESS, 0, 10);
#endif
    for (int m = 0; m < 2; m++) {
        json_object_foreach(h->files[m], name, file)
        {
            if (json_is_string(file)) {
                json_object_set_new(h->hashes[m], name,
                                    hash_value(json_string_value(file), &h->rc));
                continue;
            }
            json_t *list = json_array();
            json_array_foreach(file, i, shard)
                json_array_append_new(list, hash_value(json_string_value(shard), &h->rc));
            json_object_set_new(h->hashes[m], name, list);
        }
    }
    json_object_foreach(h->extras, name, file) json_array_foreach(file, i, shard)
        json_object_set_new(shard, "sha256",
                            hash_value(json_string_value(json_object_get(shard, "path")), &h->rc));
    return NULL;
}

/* The files that an index of shards names, in the order of their names. */
static json_t *shards(const char *index)
{
    json_t *root = json_load_file(index, 0, NULL), *value;
    json_t *seen = json_object(), *list = json_array();
    const char *tensor;
    json_object_foreach(json_object_get(root, "weight_map"), tensor, value)
    {
        const char *name = json_string_value(value);
        if (!name || json_object_get(seen, name))
            continue;
        json_object_set_new(seen, name, json_true());
        char *path = path_beside(index, name);
        json_array_append_new(list, json_string(path));
        free(path);
    }
    json_decref(seen);
    json_decref(root);
    return list;
}

static json_t *weights_files(const styx_model *model)
{
    json_t *files = json_object(), *info = model ? model_info(model) : NULL, *part;
    const char *name;
    json_object_foreach(json_object_get(info, "components"), name, part)
    {
        const char *file = json_string_value(json_object_get(part, "file"));
        size_t length = file ? strlen(file) : 0;
        if (length > 5 && strcmp(file + length - 5, ".json") == 0)
            json_object_set_new(files, name, shards(file));
        else if (file)
            json_object_set_new(files, name, json_string(file));
    }
    json_decref(info);
    return files;
}

/* The files of a flag that may be given several times. */
static void add_extras(json_t *extras, const char *flag, const struct texts *given)
{
    const char *rest;
    if (!given->count)
        return;
    json_t *list = json_array();
    json_object_set_new(extras, flag, list);
    for (size_t i = 0; i < given->count; i++) {
        char *path = NULL;
        if (extra_split(given->values[i], &path, &rest) == 0)
            json_array_append_new(list, json_pack("{s:s}", "path", path));
        free(path);
    }
}

static void free_files(struct hashing *h)
{
    for (int m = 0; m < 2; m++) {
        json_decref(h->files[m]);
        json_decref(h->hashes[m]);
    }
    json_decref(h->extras);
    free(h);
}

struct hashing *hashing_start(const styx_model *model, const styx_model *refiner,
                              const struct options *o)
{
    struct hashing *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->files[0] = weights_files(model);
    h->files[1] = weights_files(refiner);
    h->hashes[0] = json_object();
    h->hashes[1] = json_object();
    h->extras = json_object();
    add_extras(h->extras, "lora", &o->loras);
    add_extras(h->extras, "embedding", &o->embeddings);
    if (pthread_create(&h->thread, NULL, hash_all, h) == 0)
        return h;
    free_files(h);
    return NULL;
}

int hashing_finish(struct hashing *h, struct hashes *hashes)
{
    *hashes = (struct hashes){ 0 };
    if (!h)
        return complain_memory();
    pthread_join(h->thread, NULL);
    int rc = h->rc;
    if (rc == 0)
        *hashes = (struct hashes){ json_incref(h->hashes[0]), json_incref(h->hashes[1]),
                                   json_incref(h->extras) };
    free_files(h);
    return rc;
}
