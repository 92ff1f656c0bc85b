/* cache.c - see cache.h. */
#include "cache.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "digest.h"
#include "files.h"
#include "meter.h"
#include "options.h"
#include "paths.h"
#include "say.h"

/* What hubs allow in names; a name may not lead to another folder. */
static bool plain(const char *text, bool slashes)
{
    if (!*text || *text == '.' || *text == '/' || strstr(text, "..") || strstr(text, "--") ||
        strstr(text, "//"))
        return false;
    for (; *text; text++) {
        bool letter =
            (*text >= '0' && *text <= '9') || ((*text | 32) >= 'a' && (*text | 32) <= 'z');
        if (!letter && !strchr("-_.", *text) && !(slashes && *text == '/'))
            return false;
    }
    return true;
}

static const char *where_now(const char *id)
{
    const char *moved = styx_hub_moved(id);
    if (moved)
        say("%s is gone; taking its successor %s", id, moved);
    return moved ? moved : id;
}

int model_id_read(struct model_id *id, const char *text)
{
    char given[260];
    const char *at = strchr(text, '@');
    size_t length = at ? (size_t)(at - text) : strlen(text);
    *id = (struct model_id){ .revision = "main" };
    if (length < sizeof given && (!at || strlen(at + 1) < sizeof id->revision)) {
        memcpy(given, text, length);
        given[length] = '\0';
        const char *now = where_now(given), *slash = strchr(now, '/');
        if (slash && slash - now < 128 && strlen(slash + 1) < 128) {
            memcpy(id->organisation, now, (size_t)(slash - now));
            strcpy(id->name, slash + 1);
        }
        if (at)
            strcpy(id->revision, at + 1);
    }
    if (plain(id->organisation, false) && plain(id->name, false) && plain(id->revision, true))
        return 0;
    return complain(EXIT_USAGE,
                    "'%.200s' is no name of a model; want ORG/NAME or ORG/NAME@REVISION", text);
}

int cache_open(struct cache *c, const struct model_id *id)
{
    styx_error err;
    *c = (struct cache){ 0 };
    if (styx_hub_folder(&c->folder, &err))
        return complain_of(&err);
    c->name = text_format("models--%s--%s", id->organisation, id->name);
    c->repository = c->name ? text_format("%s/%s", c->folder, c->name) : NULL;
    if (c->repository)
        return 0;
    cache_close(c);
    return complain_memory();
}

void cache_close(struct cache *c)
{
    styx_text_free(c->folder);
    free(c->repository);
    free(c->name);
    *c = (struct cache){ 0 };
}

char *cache_blob(const struct cache *c, const char *hash)
{
    return text_format("%s/blobs/%s", c->repository, hash);
}

char *cache_lock(const struct cache *c, const char *hash)
{
    return text_format("%s/.locks/%s/%s.lock", c->folder, c->name, hash);
}

char *cache_snapshot(const struct cache *c, const char *commit)
{
    return text_format("%s/snapshots/%s", c->repository, commit);
}

int cache_link(const struct cache *c, const char *commit, const char *path, const char *hash)
{
    size_t depth = 2;
    for (const char *at = path; (at = strchr(at, '/')); at++)
        depth++;
    char *link = text_format("%s/snapshots/%s/%s", c->repository, commit, path);
    char *target = malloc(3 * depth + strlen(hash) + 7), *end = target;
    int rc = link && target ? 0 : complain_memory();
    if (rc == 0) {
        for (size_t i = 0; i < depth; i++, end += 3)
            memcpy(end, "../", 3);
        sprintf(end, "blobs/%s", hash);
        rc = files_link(target, link);
    }
    free(target);
    free(link);
    return rc;
}

int cache_refer(const struct cache *c, const char *revision, const char *commit)
{
    if (strcmp(revision, commit) == 0)
        return 0;
    char *path = text_format("%s/refs/%s", c->repository, revision);
    int rc = path ? files_write(path, commit) : complain_memory();
    free(path);
    return rc;
}

int cache_room(const struct cache *c, uint64_t bytes)
{
    struct statvfs fs;
    char want[16], have[16];
    char *probe = text_format("%s/", c->repository);
    int rc = probe ? files_make_folders(probe) : complain_memory();
    if (rc == 0 && statvfs(c->repository, &fs) == 0) {
        uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
        if (free_bytes < bytes)
            rc = complain(EXIT_FAILED, "%s: %s are wanted, %s are free", c->folder,
                          meter_bytes((double)bytes, want), meter_bytes((double)free_bytes, have));
    }
    free(probe);
    return rc;
}

/* ---- what is there ---- */

/* Every match of a pattern under folder, to each; stops at non-zero. */
static int each_match(const char *folder, const char *pattern,
                      int (*each)(void *user, const char *path), void *user)
{
    glob_t found = { 0 };
    char *whole = text_format("%s/%s", folder, pattern);
    int rc = whole ? 0 : complain_memory();
    if (rc == 0 && glob(whole, 0, NULL, &found) == GLOB_NOSPACE)
        rc = complain_memory();
    for (size_t i = 0; i < found.gl_pathc && rc == 0; i++)
        rc = each(user, found.gl_pathv[i]);
    globfree(&found);
    free(whole);
    return rc;
}

static const char *last(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int add_bytes(void *user, const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0)
        *(uint64_t *)user += (uint64_t)st.st_size;
    return 0;
}

static int add_revision(void *user, const char *path)
{
    char commit[80] = "";
    FILE *file = fopen(path, "r");
    if (file && fgets(commit, sizeof commit, file)) {
        commit[strcspn(commit, "\r\n")] = '\0';
        json_object_set_new(user, last(path), json_string(commit));
    }
    if (file)
        fclose(file);
    return 0;
}

/* models--ORG--NAME is ORG/NAME. */
static int add_repository(void *user, const char *path)
{
    const char *name = last(path) + strlen("models--"), *gap = strstr(name, "--");
    uint64_t bytes = 0;
    json_t *revisions = json_object();
    each_match(path, "blobs/*", add_bytes, &bytes);
    each_match(path, "refs/*", add_revision, revisions);
    json_t *entry = json_pack("{s:o, s:o, s:I, s:s}", "id",
                              gap ? json_sprintf("%.*s/%s", (int)(gap - name), name, gap + 2)
                                  : json_string(name),
                              "revisions", revisions, "bytes", (json_int_t)bytes, "path", path);
    return json_array_append_new(user, entry) ? complain_memory() : 0;
}

json_t *cache_list(void)
{
    char *folder;
    styx_error err;
    json_t *list = json_array();
    if (styx_hub_folder(&folder, &err)) {
        complain_of(&err);
        json_decref(list);
        return NULL;
    }
    if (each_match(folder, "models--*", add_repository, list)) {
        json_decref(list);
        list = NULL;
    }
    styx_text_free(folder);
    return list;
}

int cache_remove(const struct cache *c)
{
    char *locks = text_format("%s/.locks/%s", c->folder, c->name);
    int rc = locks ? 0 : complain_memory();
    if (rc == 0 && !path_is_folder(c->repository))
        rc = complain(EXIT_FAILED, "%s: no such model in the cache", c->repository);
    if (rc == 0)
        rc = files_remove(c->repository);
    if (rc == 0)
        rc = files_remove(locks);
    free(locks);
    return rc;
}

/* ---- verifying ---- */

struct verifying {
    json_t *broken;
    bool clean;
    size_t checked;
};

static void add_broken(struct verifying *v, const char *path, const char *why)
{
    json_array_append_new(v->broken, json_pack("{s:s, s:s}", "path", path, "why", why));
}

static int verify_blob(void *user, const char *path)
{
    struct verifying *v = user;
    struct digest d = { 0 };
    struct stat st;
    char hash[65], *buffer;
    const char *ending = strrchr(last(path), '.');
    if (ending && strcmp(ending, ".incomplete") == 0)
        return 0; /* the next pull goes on with it */
    FILE *file = stat(path, &st) == 0 ? fopen(path, "rb") : NULL;
    buffer = malloc(1 << 20);
    int rc =
        buffer ? digest_begin(&d, last(path), file ? (uint64_t)st.st_size : 0) : complain_memory();
    for (size_t n; rc == 0 && file && (n = fread(buffer, 1, 1 << 20, file)) > 0;)
        digest_add(&d, buffer, n);
    if (rc == 0 && (!file || ferror(file))) {
        add_broken(v, path, "it cannot be read");
    } else if (rc == 0 && !digest_matches(&d, last(path), hash)) {
        add_broken(v, path, "its bytes have another hash");
        if (v->clean)
            unlink(path);
    }
    v->checked++;
    if (file)
        fclose(file);
    free(buffer);
    digest_free(&d);
    return rc;
}

static int verify_link(void *user, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        add_broken(user, path, "it leads nowhere");
    return 0;
}

int cache_verify(const struct cache *c, bool clean, json_t **broken, size_t *checked)
{
    struct verifying v = { .broken = json_array(), .clean = clean };
    int rc = path_is_folder(c->repository)
                 ? each_match(c->repository, "blobs/*", verify_blob, &v)
                 : complain(EXIT_FAILED, "%s: no such model in the cache", c->repository);
    if (rc == 0)
        rc = each_match(c->repository, "snapshots/*/*", verify_link, &v);
    if (rc == 0)
        rc = each_match(c->repository, "snapshots/*/*/*", verify_link, &v);
    *broken = v.broken;
    *checked = v.checked;
    return rc;
}
