/* lineage.h - from a picture to those it was made from. */
#ifndef STYX_APP_LINEAGE_H
#define STYX_APP_LINEAGE_H
#include <jansson.h>

struct ancestor {
    char *path;    /* free it; NULL: not found */
    char why[400]; /* then one sentence about it */
};

/* The file that a recipe records with path and sha256: looked for as recorded, and beside the
 * picture. Exit code. */
int ancestor_find(const char *picture, const json_t *recorded, struct ancestor *a);

#endif
