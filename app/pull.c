/* pull.c - styx pull: models from a hub, from Civitai or from anywhere, into the cache that Python
 * uses too. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "choose.h"
#include "command.h"
#include "download.h"
#include "files.h"
#include "hash.h"
#include "hub.h"
#include "meter.h"
#include "paths.h"
#include "pull.h"
#include "recipe.h"
#include "register.h"
#include "say.h"

static volatile int interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

struct pull {
    const struct options *o;
    struct model_id id;
    struct cache cache;
    struct hub hub;
    struct hub_listing list;
    bool *chosen;
    struct download *downloads; /* of those chosen that are not there yet */
    int count;
    uint64_t bytes; /* that they lack */
};

static struct download_options download_options(const struct options *o)
{
    return (struct download_options){ .parallel = o->jobs,
                                      .stalled = o->timeout,
                                      .cancel = &interrupted };
}

int pull_print(json_t *value)
{
    char *text = json_text_of(value, JSON_COMPACT);
    int rc = text ? 0 : complain_memory();
    if (text)
        puts(text);
    free(text);
    json_decref(value);
    return rc;
}

/* ---- a hub's model ---- */

static struct hub_file *find_file(const struct pull *p, const char *path)
{
    for (size_t i = 0; i < p->list.count; i++)
        if (strcmp(p->list.files[i].path, path) == 0)
            return &p->list.files[i];
    return NULL;
}

static void free_downloads(struct download *list, int n)
{
    for (int i = 0; i < n; i++) {
        free((char *)list[i].url);
        free((char *)list[i].path);
        free((char *)list[i].lock);
    }
    free(list);
}

/* The download of one file, unless its blob is there. */
static int plan_file(struct pull *p, struct hub_file *file)
{
    struct download *d = &p->downloads[p->count];
    struct stat st;
    int rc = *file->etag ? 0 : hub_ask(&p->hub, &p->id, p->list.commit, file);
    if (rc)
        return rc;
    *d = (struct download){
        .label = file->path, .token = p->hub.token, .digest = file->etag, .size = file->size
    };
    d->path = cache_blob(&p->cache, file->etag);
    d->lock = cache_lock(&p->cache, file->etag);
    d->url = hub_url(&p->hub, &p->id, p->list.commit, file->path);
    p->count++;
    if (!d->path || !d->lock || !d->url)
        return complain_memory();
    for (int i = 0; i + 1 < p->count; i++) /* two files of the same bytes are one blob */
        if (strcmp(p->downloads[i].path, d->path) == 0)
            goto there;
    if (stat(d->path, &st) != 0 || (file->size >= 0 && st.st_size != file->size)) {
        p->bytes += file->size > 0 ? (uint64_t)file->size : 0;
        return 0;
    }
there:
    free((char *)d->url);
    free((char *)d->path);
    free((char *)d->lock);
    p->count--;
    return 0;
}

/* model_index.json is fetched first: it says what else is wanted. */
static int read_index(struct pull *p, json_t **index)
{
    struct hub_file *file = find_file(p, "model_index.json");
    struct download_options options = download_options(p->o);
    json_error_t error;
    *index = NULL;
    if (!file)
        return 0;
    p->downloads = calloc(1, sizeof *p->downloads);
    int rc = p->downloads ? plan_file(p, file) : complain_memory();
    if (rc == 0)
        rc = download_all(p->downloads, p->count, &options);
    char *path = rc == 0 ? cache_blob(&p->cache, file->etag) : NULL;
    if (path && !(*index = json_load_file(path, JSON_REJECT_DUPLICATES, &error)))
        rc = complain(EXIT_FAILED, "model_index.json: %s (line %d)", error.text, error.line);
    free(path);
    free_downloads(p->downloads, p->count);
    p->downloads = NULL;
    p->count = 0;
    p->bytes = 0;
    return rc;
}

static int choose(struct pull *p)
{
    json_t *index;
    int rc = read_index(p, &index);
    p->chosen = calloc(p->list.count + 1, sizeof *p->chosen);
    if (rc == 0 && !p->chosen)
        rc = complain_memory();
    if (rc == 0 && index) {
        rc = choose_files(&p->list, index, p->o->variant, p->o->only_parts, p->chosen);
    } else if (rc == 0) {
        int single = choose_single(&p->list);
        if (single >= 0)
            p->chosen[single] = true;
        else
            rc = complain(EXIT_FAILED,
                          "%s/%s has no model_index.json and not just one checkpoint "
                          "file: name the file's URL",
                          p->id.organisation, p->id.name);
    }
    json_decref(index);
    p->downloads = rc ? NULL : calloc(p->list.count + 1, sizeof *p->downloads);
    if (rc == 0 && !p->downloads)
        rc = complain_memory();
    for (size_t i = 0; i < p->list.count && rc == 0; i++)
        if (p->chosen[i])
            rc = plan_file(p, &p->list.files[i]);
    return rc;
}

static int report(const struct pull *p, const char *snapshot)
{
    json_t *files = json_array();
    for (size_t i = 0; i < p->list.count; i++) {
        const struct hub_file *f = &p->list.files[i];
        bool missing = false;
        for (int k = 0; k < p->count; k++)
            missing |= strcmp(p->downloads[k].digest, f->etag) == 0;
        if (p->chosen[i])
            json_array_append_new(files, json_pack("{s:s, s:I, s:s, s:b}", "path", f->path, "size",
                                                   (json_int_t)f->size, "hash", f->etag, "fetched",
                                                   (int)missing));
    }
    return pull_print(json_pack("{s:o, s:s, s:s, s:b, s:I, s:o}", "id",
                                json_sprintf("%s/%s", p->id.organisation, p->id.name), "commit",
                                p->list.commit, "path", snapshot, "dry_run", (int)p->o->dry_run,
                                "bytes", (json_int_t)p->bytes, "files", files));
}

/* Links and the ref come last, when every byte is there. */
static int publish(struct pull *p)
{
    int rc = 0;
    for (size_t i = 0; i < p->list.count && rc == 0; i++)
        if (p->chosen[i])
            rc =
                cache_link(&p->cache, p->list.commit, p->list.files[i].path, p->list.files[i].etag);
    return rc ? rc : cache_refer(&p->cache, p->id.revision, p->list.commit);
}

static int fetch(struct pull *p)
{
    struct download_options options = download_options(p->o);
    char size[16];
    int rc = choose(p);
    char *snapshot = rc == 0 ? cache_snapshot(&p->cache, p->list.commit) : NULL;
    if (rc == 0 && !snapshot)
        rc = complain_memory();
    if (rc == 0 && p->count)
        say("%d files, %s to fetch", p->count, meter_bytes((double)p->bytes, size));
    if (rc == 0 && p->o->dry_run && !p->o->json)
        for (int i = 0; i < p->count; i++)
            printf("%s %s\n", p->downloads[i].label,
                   meter_bytes((double)p->downloads[i].size, size));
    if (rc == 0 && !p->o->dry_run) {
        rc = p->count ? cache_room(&p->cache, p->bytes) : 0;
        if (rc == 0)
            rc = download_all(p->downloads, p->count, &options);
        if (rc == 0)
            rc = publish(p);
    }
    if (rc == 0 && p->o->json)
        rc = report(p, snapshot);
    else if (rc == 0 && !p->o->dry_run)
        puts(snapshot);
    free(snapshot);
    return rc;
}

static int offline(void)
{
    const char *value = getenv("HF_HUB_OFFLINE");
    return value && strchr("1YyTt", *value) && *value;
}

static int pull_model(const struct options *o, const char *name)
{
    struct pull p = { .o = o };
    char *there = NULL;
    styx_error err;
    int rc = model_id_read(&p.id, name);
    if (rc == 0 && offline()) {
        char *id = text_format("%s/%s@%s", p.id.organisation, p.id.name, p.id.revision);
        if (id && styx_hub_find(id, &there, &err) == 0)
            puts(there);
        else
            rc = complain(EXIT_FAILED, "%s is not in the cache, and HF_HUB_OFFLINE is set", name);
        free(id);
        styx_text_free(there);
        return rc;
    }
    if (rc == 0)
        rc = cache_open(&p.cache, &p.id);
    if (rc == 0)
        rc = hub_open(&p.hub, o->timeout, &interrupted);
    if (rc == 0)
        rc = hub_list(&p.hub, &p.id, &p.list);
    if (rc == 0)
        rc = fetch(&p);
    free_downloads(p.downloads, p.count);
    free(p.chosen);
    hub_listing_free(&p.list);
    hub_close(&p.hub);
    cache_close(&p.cache);
    return rc;
}

/* ---- one file from anywhere ---- */

/* The name in a URL, without what a file should not be called. */
static char *name_of_url(const char *url)
{
    size_t length = strcspn(url, "?#"), start = length;
    while (start > 0 && url[start - 1] != '/')
        start--;
    char *name = strndup(url + start, length - start);
    for (char *c = name; c && *c; c++)
        if (!strchr("-_.+", *c) &&
            !((*c >= '0' && *c <= '9') || ((*c | 32) >= 'a' && (*c | 32) <= 'z')))
            *c = '_';
    if (name && (!*name || *name == '.')) {
        free(name);
        name = strdup("model.safetensors");
    }
    return name;
}

/* -o FILE, or the name in the folder -o. */
static char *target_of(const struct options *o, const char *name)
{
    if (o->place && !output_is_folder(o->place))
        return strdup(o->place);
    const char *folder = o->place ? o->place : ".";
    bool slash = *folder && folder[strlen(folder) - 1] == '/';
    return strcmp(folder, ".") == 0 ? strdup(name)
                                    : text_format("%s%s%s", folder, slash ? "" : "/", name);
}

int pull_check_sha256(char *hash)
{
    for (char *c = hash; *c; c++)
        if (*c >= 'A' && *c <= 'F')
            *c |= 32;
    if (strlen(hash) == 64 && strspn(hash, "0123456789abcdef") == 64)
        return 0;
    return complain(EXIT_USAGE, "--sha256 is '%.80s', want 64 hexadecimal digits", hash);
}

static int pull_file(const struct options *o, const char *url, const char *token, const char *name,
                     char *sha256, int64_t size)
{
    struct download_options options = download_options(o);
    struct download d = {
        .label = name, .url = url, .token = token, .size = size, .digest = sha256 ? sha256 : ""
    };
    char *path = target_of(o, name), hash[65] = "";
    int rc = path ? 0 : complain_memory();
    if (rc == 0 && sha256)
        rc = pull_check_sha256(sha256);
    if (rc == 0 && path_exists(path) && !o->force)
        rc = complain(EXIT_USAGE, "%s exists already; --force overwrites it", path);
    d.path = path;
    if (rc == 0 && o->dry_run) {
        printf("%s %s\n", url, path);
        free(path);
        return 0;
    }
    if (rc == 0)
        rc = download_all(&d, 1, &options);
    if (rc == 0)
        rc = sha256 ? 0 : hash_file(path, hash);
    if (rc == 0 && !sha256)
        say("its SHA-256, which nothing was said about, is %s", hash);
    if (rc == 0 && o->json)
        rc = pull_print(json_pack("{s:s, s:s, s:s, s:I}", "url", url, "path", path, "sha256",
                                  sha256 ? sha256 : hash, "bytes",
                                  (json_int_t)atomic_load(&d.done)));
    else if (rc == 0)
        puts(path);
    free(path);
    return rc;
}

static int pull_url(const struct options *o, const char *url)
{
    char *name = name_of_url(url);
    int rc = !http_available() ? complain(EXIT_FAILED, "this styx was built without libcurl and "
                                                       "cannot fetch models")
             : name            ? pull_file(o, url, NULL, name, o->sha256, -1)
                               : complain_memory();
    free(name);
    return rc;
}

/* ---- Civitai ---- */

/* The version's main file, which must be none of those that can run programs. */
static const json_t *civitai_file(const json_t *version)
{
    const json_t *best = NULL;
    size_t i;
    json_t *file;
    json_array_foreach(json_object_get(version, "files"), i, file)
    {
        const char *name = json_string_value(json_object_get(file, "name"));
        const char *dot = name ? strrchr(name, '.') : NULL;
        if (!dot || (strcmp(dot, ".safetensors") != 0 && strcmp(dot, ".gguf") != 0))
            continue;
        if (!best || json_is_true(json_object_get(file, "primary")))
            best = file;
    }
    return best;
}

static int pull_civitai(const struct options *o, const char *version)
{
    const char *endpoint = getenv("CIVITAI_ENDPOINT"), *token = getenv("CIVITAI_TOKEN");
    struct http_answer a;
    struct hub hub;
    json_t *info = NULL;
    if (!*version || version[strspn(version, "0123456789")])
        return complain(EXIT_USAGE, "civitai:%.60s: want the number of a version, civitai:128713",
                        version);
    if (token && !*token)
        token = NULL;
    int rc = hub_open(&hub, o->timeout, &interrupted);
    char *url = text_format("%s/api/v1/model-versions/%s",
                            endpoint && *endpoint ? endpoint : "https://civitai.com", version);
    if (rc == 0)
        rc = url ? hub_json(&hub, url, token, "Civitai", &info, &a) : complain_memory();
    if (rc == 0 && !info)
        rc = complain(EXIT_FAILED, "Civitai answers %ld for version %s%s", a.status, version,
                      token ? "" : "; a token in CIVITAI_TOKEN may be wanted");
    const json_t *file = civitai_file(info);
    const char *from = json_string_value(json_object_get(file, "downloadUrl"));
    const char *name = json_string_value(json_object_get(file, "name"));
    const char *hash =
        json_string_value(json_object_get(json_object_get(file, "hashes"), "SHA256"));
    if (rc == 0 && (!from || !hash))
        rc = complain(EXIT_FAILED, "version %s at Civitai has no safetensors file with a SHA-256",
                      version);
    if (rc == 0) {
        char *clean = name_of_url(name), *digest = strdup(hash);
        bool theirs = url_same_origin(from, url);
        rc = clean && digest ? pull_file(o, from, theirs ? token : NULL, clean, digest, -1)
                             : complain_memory();
        free(clean);
        free(digest);
    }
    json_decref(info);
    free(url);
    hub_close(&hub);
    return rc;
}

/* ---- what is there ---- */

static int list_models(const struct options *o)
{
    json_t *list = cache_list(), *entry, *commit;
    const char *name;
    char size[16];
    size_t i;
    if (!list)
        return EXIT_FAILED;
    if (o->json)
        return pull_print(list);
    json_array_foreach(list, i, entry)
    {
        printf("%-52s %8s", json_string_value(json_object_get(entry, "id")),
               meter_bytes((double)json_integer_value(json_object_get(entry, "bytes")), size));
        json_object_foreach(json_object_get(entry, "revisions"), name, commit)
            printf("  %s %.8s", name, json_string_value(commit));
        putchar('\n');
    }
    json_decref(list);
    return 0;
}

static int remove_model(const char *name)
{
    struct model_id id;
    struct cache cache = { 0 };
    int rc = model_id_read(&id, name);
    if (rc == 0)
        rc = cache_open(&cache, &id);
    if (rc == 0)
        rc = cache_remove(&cache);
    if (rc == 0)
        say("%s is removed", cache.repository);
    cache_close(&cache);
    return rc;
}

static int verify_model(const struct options *o, const char *name)
{
    struct model_id id;
    struct cache cache = { 0 };
    json_t *broken = NULL, *entry;
    size_t checked = 0, i;
    int rc = model_id_read(&id, name);
    if (rc == 0)
        rc = cache_open(&cache, &id);
    if (rc == 0)
        rc = cache_verify(&cache, o->force, &broken, &checked);
    cache_close(&cache);
    if (rc) {
        json_decref(broken);
        return rc;
    }
    int bad = (int)json_array_size(broken);
    if (o->json) {
        rc = pull_print(json_pack("{s:s, s:I, s:o}", "id", name, "checked", (json_int_t)checked,
                                  "broken", broken));
        return rc ? rc : bad ? EXIT_FAILED : 0;
    }
    json_array_foreach(broken, i, entry)
        complain(EXIT_FAILED, "%s: %s", json_string_value(json_object_get(entry, "path")),
                 json_string_value(json_object_get(entry, "why")));
    json_decref(broken);
    if (bad)
        say("%s", o->force ? "what was broken is removed: pull the model again"
                           : "--force removes what is broken, so that it is fetched again");
    else
        printf("%s: all %zu files are right\n", name, checked);
    return bad ? EXIT_FAILED : 0;
}

int run_pull(struct options *o)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    const char *what = o->subject, *name = o->target;
    bool wants_name = strcmp(what, "rm") == 0 || strcmp(what, "verify") == 0;
    if (!o->set[flag_find("timeout") - flags])
        o->timeout = 30;
    if (!o->set[flag_find("jobs") - flags])
        o->jobs = 4;
    if (wants_name && !name)
        return complain(EXIT_USAGE, "styx pull %s wants ORG/NAME", what);
    if (!wants_name && name && !path_exists(what))
        return complain(EXIT_USAGE, "styx pull takes one model at a time, not also '%.60s'", name);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (strcmp(what, "list") == 0)
        return list_models(o);
    if (strcmp(what, "rm") == 0)
        return remove_model(name);
    if (strcmp(what, "verify") == 0)
        return verify_model(o, name);
    if (strncmp(what, "civitai:", 8) == 0)
        return pull_civitai(o, what + 8);
    if (strncmp(what, "http://", 7) == 0 || strncmp(what, "https://", 8) == 0)
        return pull_url(o, what);
    if (path_exists(what))
        return register_model(o, &interrupted);
    return pull_model(o, what);
}
