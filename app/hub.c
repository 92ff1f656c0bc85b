/* hub.c - see hub.h. */
#include "hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "download.h"
#include "files.h"
#include "options.h"
#include "say.h"

enum { MAX_JSON = 64 << 20, MAX_PAGES = 200, TRIES = 5 };

static const char *set(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* $HF_TOKEN, else the file that `hf auth login` writes. NULL if there is none. */
static char *read_token(void)
{
    char line[512] = "";
    const char *direct = set("HF_TOKEN"), *home = set("HF_HOME"), *cache = set("XDG_CACHE_HOME");
    if (direct)
        return strdup(direct);
    char *path = set("HF_TOKEN_PATH") ? strdup(set("HF_TOKEN_PATH"))
                 : home               ? text_format("%s/token", home)
                 : cache              ? text_format("%s/huggingface/token", cache)
                 : set("HOME")        ? text_format("%s/.cache/huggingface/token", set("HOME"))
                                      : NULL;
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file && !fgets(line, sizeof line, file))
        line[0] = '\0';
    if (file)
        fclose(file);
    free(path);
    line[strcspn(line, " \r\n")] = '\0';
    return *line ? strdup(line) : NULL;
}

int hub_open(struct hub *h, long stalled, const volatile int *cancel)
{
    const char *endpoint = set("HF_ENDPOINT");
    *h = (struct hub){ .endpoint = h->buffer, .cancel = cancel };
    if (!http_available())
        return complain(EXIT_FAILED, "this styx was built without libcurl and cannot fetch models");
    snprintf(h->buffer, sizeof h->buffer, "%s", endpoint ? endpoint : "https://huggingface.co");
    while (*h->buffer && h->buffer[strlen(h->buffer) - 1] == '/')
        h->buffer[strlen(h->buffer) - 1] = '\0';
    h->token = read_token();
    if (h->token && strpbrk(h->token, "\r\n"))
        return complain(EXIT_USAGE, "HF_TOKEN is no token: it has a line's end in it");
    h->http = http_new(stalled, cancel);
    return h->http ? 0 : complain_memory();
}

void hub_close(struct hub *h)
{
    http_free(h->http);
    free(h->token);
    *h = (struct hub){ 0 };
}

/* One request, repeated while there is hope. Exit code; the status is any. */
static int patiently(struct hub *h, const char *url, const char *token, bool head, const char *what,
                     char **text, struct http_answer *a)
{
    for (int n = 1;; n++) {
        struct http_request r = { .url = url, .token = token, .head = true, .stop = true };
        enum http_result result =
            head ? http_get(h->http, &r, a) : http_text(h->http, url, token, MAX_JSON, text, a);
        if (result == HTTP_CANCELLED)
            return EXIT_CANCELLED;
        if (result == HTTP_DONE && !status_passes(a->status))
            return 0;
        if (result == HTTP_REFUSED || result == HTTP_STOPPED)
            return complain(EXIT_FAILED, "%s %s", what, a->why);
        if (n == TRIES && result == HTTP_DONE)
            return complain(EXIT_FAILED, "%s: the server answers %ld again and again", what,
                            a->status);
        if (n == TRIES)
            return complain(EXIT_FAILED, "%s: %s", what, a->why);
        if (!wait_for(backoff(n, a->retry_after), h->cancel))
            return EXIT_CANCELLED;
    }
}

int hub_json(struct hub *h, const char *url, const char *token, const char *what, json_t **root,
             struct http_answer *a)
{
    char *text = NULL;
    json_error_t error;
    int rc = patiently(h, url, token, false, what, &text, a);
    *root = NULL;
    if (rc == 0 && text && !(*root = json_loads(text, JSON_REJECT_DUPLICATES, &error)))
        rc = complain(EXIT_FAILED, "%s: the server's answer is no JSON: %s", what, error.text);
    free(text);
    return rc;
}

/* Why there is no answer of success. */
static int refuse(const struct hub *h, const struct model_id *id, const struct http_answer *a)
{
    const char *org = id->organisation, *name = id->name;
    if (strcmp(a->code, "GatedRepo") == 0 || a->status == 403)
        return complain(EXIT_FAILED,
                        "%s/%s is gated: accept its terms at %s/%s/%s and set HF_TOKEN%s", org,
                        name, h->endpoint, org, name, h->token ? " to a token that may" : "");
    if (strcmp(a->code, "RevisionNotFound") == 0)
        return complain(EXIT_FAILED, "%s/%s has no revision %s", org, name, id->revision);
    if (a->status == 401 || a->status == 404)
        return complain(EXIT_FAILED, "%s/%s is not at %s, or is private%s", org, name, h->endpoint,
                        h->token ? "" : ": set HF_TOKEN to see private models");
    return complain(EXIT_FAILED, "%s/%s: the server answers %ld", org, name, a->status);
}

/* A path within a repository, as it may be made in a folder of ours. */
static bool safe_path(const char *path)
{
    if (!*path || *path == '/' || strlen(path) > 400)
        return false;
    for (const char *at = path; *at; at++)
        if ((unsigned char)*at < 32 || *at == '\\')
            return false;
    for (const char *part = path; part; part = strchr(part, '/'), part += part != NULL)
        if (*part == '/' || !*part || (*part == '.' && strspn(part, ".") == strcspn(part, "/")))
            return false;
    return true;
}

/* An etag becomes the name of a file. */
static bool safe_etag(const char *etag)
{
    size_t length = strlen(etag);
    return length > 0 && length <= 128 &&
           strspn(etag, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-") ==
               length;
}

static bool is_commit(const char *text)
{
    return strlen(text) == 40 && strspn(text, "0123456789abcdef") == 40;
}

static int add_file(struct hub_listing *list, const char *path, const char *etag, int64_t size)
{
    struct hub_file *more = realloc(list->files, (list->count + 1) * sizeof *more);
    if (!more)
        return complain_memory();
    list->files = more;
    more[list->count] = (struct hub_file){ .path = strdup(path), .size = size };
    if (etag && safe_etag(etag))
        strcpy(more[list->count].etag, etag);
    return more[list->count++].path ? 0 : complain_memory();
}

/* [{"type": "file", "path", "oid", "size", "lfs": {"oid", "size"}}] */
static int add_page(struct hub_listing *list, const json_t *page)
{
    size_t i;
    json_t *entry;
    int rc = 0;
    json_array_foreach((json_t *)page, i, entry)
    {
        const char *type = json_string_value(json_object_get(entry, "type"));
        const char *path = json_string_value(json_object_get(entry, "path"));
        const json_t *from = json_object_get(entry, "lfs");
        if (!type || strcmp(type, "file") != 0 || !path || !safe_path(path))
            continue;
        if (!json_is_object(from))
            from = entry;
        const char *oid = json_string_value(json_object_get(from, "oid"));
        const json_t *size = json_object_get(from, "size");
        if (rc == 0)
            rc = add_file(list, path, json_is_integer(size) ? oid : NULL,
                          json_is_integer(size) ? json_integer_value(size) : -1);
    }
    return rc;
}

static int read_tree(struct hub *h, const struct model_id *id, struct hub_listing *list)
{
    struct http_answer a;
    json_t *page = NULL;
    char *url = text_format("%s/api/models/%s/%s/tree/%s?recursive=1", h->endpoint,
                            id->organisation, id->name, list->commit);
    int rc = url ? 0 : complain_memory();
    for (int n = 0; rc == 0 && url && n < MAX_PAGES; n++) {
        rc = hub_json(h, url, h->token, id->name, &page, &a);
        if (rc == 0 && page)
            rc = add_page(list, page);
        json_decref(page);
        free(url);
        /* the next page is of the same hub, or none of ours */
        url = rc == 0 && url_same_origin(a.next, h->endpoint) ? strdup(a.next) : NULL;
    }
    free(url);
    return rc;
}

int hub_list(struct hub *h, const struct model_id *id, struct hub_listing *list)
{
    struct http_answer a;
    json_t *info = NULL, *entry;
    size_t i;
    char *revision = url_encode(id->revision, true);
    char *url = revision ? text_format("%s/api/models/%s/%s/revision/%s", h->endpoint,
                                       id->organisation, id->name, revision)
                         : NULL;
    int rc = url ? hub_json(h, url, h->token, id->name, &info, &a) : complain_memory();
    *list = (struct hub_listing){ 0 };
    if (rc == 0 && !info)
        rc = refuse(h, id, &a);
    const char *commit = json_string_value(json_object_get(info, "sha"));
    if (rc == 0 && (!commit || !is_commit(commit)))
        rc = complain(EXIT_FAILED, "%s/%s: the server tells no commit", id->organisation, id->name);
    if (rc == 0) {
        strcpy(list->commit, commit);
        rc = read_tree(h, id, list);
    }
    if (rc == 0 && !list->count) /* an older server: names only */
        json_array_foreach(json_object_get(info, "siblings"), i, entry)
        {
            const char *path = json_string_value(json_object_get(entry, "rfilename"));
            if (rc == 0 && path && safe_path(path))
                rc = add_file(list, path, NULL, -1);
        }
    json_decref(info);
    free(url);
    free(revision);
    if (rc)
        hub_listing_free(list);
    return rc;
}

void hub_listing_free(struct hub_listing *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->files[i].path);
    free(list->files);
    *list = (struct hub_listing){ 0 };
}

char *hub_url(const struct hub *h, const struct model_id *id, const char *commit, const char *path)
{
    char *encoded = url_encode(path, false);
    char *url = encoded ? text_format("%s/%s/%s/resolve/%s/%s", h->endpoint, id->organisation,
                                      id->name, commit, encoded)
                        : NULL;
    free(encoded);
    return url;
}

int hub_ask(struct hub *h, const struct model_id *id, const char *commit, struct hub_file *file)
{
    struct http_answer a;
    char *url = hub_url(h, id, commit, file->path);
    int rc = url ? patiently(h, url, h->token, true, file->path, NULL, &a) : complain_memory();
    free(url);
    if (rc)
        return rc;
    if (a.status >= 400)
        return refuse(h, id, &a);
    const char *etag = *a.linked_etag ? a.linked_etag : a.etag;
    if (!safe_etag(etag))
        return complain(EXIT_FAILED, "%s: the server does not tell its hash", file->path);
    strcpy(file->etag, etag);
    file->size = a.linked_size >= 0 ? a.linked_size : a.length;
    return 0;
}
