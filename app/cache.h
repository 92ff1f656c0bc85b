/* cache.h - the cache that Hugging Face's Python packages share:
 *     models--ORG--NAME/blobs/HASH                 the files, by their hashes
 *     models--ORG--NAME/refs/REVISION              a commit
 *     models--ORG--NAME/snapshots/COMMIT/PATH      links to the blobs
 *     .locks/models--ORG--NAME/HASH.lock           held while a blob is fetched */
#ifndef STYX_APP_CACHE_H
#define STYX_APP_CACHE_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct model_id {
    char organisation[128], name[128], revision[128];
};

/* "ORG/NAME" or "ORG/NAME@REVISION"; an id that has moved is led to where it is now, and that is
 * said. Exit code. */
int model_id_read(struct model_id *id, const char *text);

struct cache {
    char *folder;     /* .../hub */
    char *repository; /* its models--ORG--NAME */
    char *name;       /* that last part */
};

int cache_open(struct cache *c, const struct model_id *id);
void cache_close(struct cache *c);

/* In new memory, NULL without. */
char *cache_blob(const struct cache *c, const char *hash);
char *cache_lock(const struct cache *c, const char *hash);
char *cache_snapshot(const struct cache *c, const char *commit);
/* Exit codes. */
int cache_link(const struct cache *c, const char *commit, const char *path, const char *hash);
int cache_refer(const struct cache *c, const char *revision, const char *commit);
/* Would `bytes` more fit? Says so if not. */
int cache_room(const struct cache *c, uint64_t bytes);

/* What is there: a list of {id, revisions: {name: commit}, bytes, path}. NULL without memory. */
json_t *cache_list(void);
int cache_remove(const struct cache *c);
/* Hashes every blob and follows every link. *broken gets a list of {path, why}; with clean, broken
 * blobs are removed, so that the next pull fetches them. */
int cache_verify(const struct cache *c, bool clean, json_t **broken, size_t *checked);

#endif
