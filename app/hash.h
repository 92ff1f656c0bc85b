/* hash.h - the SHA-256 of the weights of a model, found beside the run.
 *
 * Hashing gigabytes takes seconds, so it happens in a thread while the picture is drawn, and the
 * answer is kept in $XDG_CACHE_HOME/styx/hashes under the file's inode, size and time. */
#ifndef STYX_APP_HASH_H
#define STYX_APP_HASH_H
#include <jansson.h>

#include "options.h"

struct hashing;

/* Starts on every weights file of the models (each may be NULL) and of the LoRAs and embeddings of
 * the options. NULL without memory. */
struct hashing *hashing_start(const styx_model *model, const styx_model *refiner,
                              const struct options *o);
/* New objects. */
struct hashes {
    json_t *model, *refiner; /* component: SHA-256, a list of them for shards */
    json_t *extras;          /* "lora", "embedding": lists of {path, sha256} */
};
/* Waits, and frees h, which may be NULL. Exit code; *hashes is empty if it is not 0. */
int hashing_finish(struct hashing *h, struct hashes *hashes);

/* The hash of one file, from the cache if it can be. */
int hash_file(const char *path, char hex[65]);

#endif
