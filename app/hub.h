/* hub.h - what a Hugging Face hub says: which files a model has, and where they are. */
#ifndef STYX_APP_HUB_H
#define STYX_APP_HUB_H
#include <jansson.h>

#include "cache.h"
#include "http.h"

struct hub {
    const char *endpoint; /* $HF_ENDPOINT, without a slash at its end */
    char *token;          /* NULL: none */
    struct http *http;
    const volatile int *cancel;
    char buffer[512];
};

struct hub_file {
    char *path;
    char etag[129]; /* the name of its blob: SHA-256, or git's SHA-1; "" not known yet */
    int64_t size;   /* -1: not known yet */
};

struct hub_listing {
    char commit[65];
    struct hub_file *files;
    size_t count;
};

/* Exit codes. */
int hub_open(struct hub *h, long stalled, const volatile int *cancel);
void hub_close(struct hub *h);
int hub_list(struct hub *h, const struct model_id *id, struct hub_listing *list);
void hub_listing_free(struct hub_listing *list);
/* Asks for the etag and size of a file that the listing does not tell. */
int hub_ask(struct hub *h, const struct model_id *id, const char *commit, struct hub_file *file);
/* .../resolve/COMMIT/PATH; free it. */
char *hub_url(const struct hub *h, const struct model_id *id, const char *commit, const char *path);

/* A JSON document from anywhere, with retries; what is how messages call it. */
int hub_json(struct hub *h, const char *url, const char *token, const char *what, json_t **root,
             struct http_answer *a);

#endif
