/* lineage.c - see lineage.h. */
#include "lineage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "paths.h"
#include "say.h"

static int try_path(char *path, const char *hash, struct ancestor *a)
{
    char hex[65];
    int rc = path ? 0 : complain_memory();
    if (rc == 0 && path_exists(path)) {
        rc = hash_file(path, hex);
        if (rc == 0 && strcmp(hex, hash) == 0) {
            a->path = path;
            return 0;
        }
        snprintf(a->why, sizeof a->why, "%.300s is not what it was (its hash differs)", path);
    }
    free(path);
    return rc;
}

int ancestor_find(const char *picture, const json_t *recorded, struct ancestor *a)
{
    const char *path = json_string_value(json_object_get(recorded, "path"));
    const char *hash = json_string_value(json_object_get(recorded, "sha256"));
    *a = (struct ancestor){ 0 };
    if (!path || !hash) {
        snprintf(a->why, sizeof a->why, "the recipe of %.300s does not name its parent", picture);
        return 0;
    }
    const char *slash = strrchr(path, '/');
    int rc = try_path(strdup(path), hash, a);
    if (rc == 0 && !a->path)
        rc = try_path(path_beside(picture, path), hash, a);
    if (rc == 0 && !a->path)
        rc = try_path(path_beside(picture, slash ? slash + 1 : path), hash, a);
    if (rc == 0 && !a->path && !*a->why)
        snprintf(a->why, sizeof a->why, "%.300s is missing", path);
    return rc;
}
