/* json.h - JSON files of a model folder, through jansson, with errors that name file and key.
 *
 * `where` is what messages call the document ("unet/config.json"). A getter whose key is missing or
 * null gives its fallback; a value of the wrong type or out of range is STYX_ERR_FORMAT. Strings
 * and objects that getters return are borrowed from the document. obj may be NULL: all is missing.
 *
 *     json_t *root = NULL;
 *     int layers;
 *     if ((rc = json_file(path, &root, err)) ||
 *         (rc = json_int(root, path, "layers_per_block", 2, 1, 16, &layers, err)))
 *         goto done;
 *     ...
 *     json_decref(root);
 */
#ifndef STYX_BASE_JSON_H
#define STYX_BASE_JSON_H
#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

enum { JSON_FILE_BYTES = 64 << 20, JSON_DEPTH = 64 };

/* Both want an object at the top, refuse duplicate keys and more than JSON_DEPTH levels.
 * *root is yours (json_decref). json_file also takes Python's Infinity and -Infinity. */
int json_file(const char *path, json_t **root, styx_error *err);
int json_bytes(const char *text, size_t bytes, const char *where, json_t **root, styx_error *err);

/* Is the key there, and not null? */
bool json_has(const json_t *obj, const char *key);

int json_int(const json_t *obj, const char *where, const char *key, int fallback, int min, int max,
             int *out, styx_error *err);
/* Takes integers too; min and max may be -INFINITY and INFINITY. */
int json_double(const json_t *obj, const char *where, const char *key, double fallback, double min,
                double max, double *out, styx_error *err);
int json_bool(const json_t *obj, const char *where, const char *key, bool fallback, bool *out,
              styx_error *err);
/* (json_string is jansson's.) fallback may be NULL. */
int json_text(const json_t *obj, const char *where, const char *key, const char *fallback,
              const char **out, styx_error *err);
/* A string out of names[0..nnames); *out is its index. */
int json_choice(const json_t *obj, const char *where, const char *key, const char *const *names,
                int nnames, int fallback, int *out, styx_error *err);
/* A missing object gives NULL, which the getters take as one without keys. */
int json_object_of(const json_t *obj, const char *where, const char *key, const json_t **out,
                   styx_error *err);

/* Lists of at most capacity values. A lone value counts as a list of one (diffusers writes both
 * `8` and `[5, 10, 20]`); missing or null gives *nvalues = 0 and leaves values alone. */
int json_ints(const json_t *obj, const char *where, const char *key, int min, int max, int *values,
              int capacity, int *nvalues, styx_error *err);
int json_doubles(const json_t *obj, const char *where, const char *key, double *values,
                 int capacity, int *nvalues, styx_error *err);
int json_texts(const json_t *obj, const char *where, const char *key, const char **values,
               int capacity, int *nvalues, styx_error *err);

#endif
