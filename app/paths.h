/* paths.h - where the model lies and where pictures go. */
#ifndef STYX_APP_PATHS_H
#define STYX_APP_PATHS_H
#include <stdbool.h>
#include <stdint.h>

/* The path given, or that of ORG/NAME in the Hugging Face cache, else $STYX_MODEL, else the model
 * that comes with Styx, found from where the command lies. NULL with the reason on stderr; free it.
 */
char *path_of_model(const char *given);

/* Is it ORG/NAME or ORG/NAME@REVISION, and no path that is there? */
bool path_is_model_id(const char *given);

bool path_exists(const char *path);
bool path_is_folder(const char *path);
/* first + second in new memory, or NULL. */
char *path_add(const char *first, const char *second);
/* FOLDER of path + "/" + name; an absolute name stays. NULL without memory. */
char *path_beside(const char *path, const char *name);

/* Is -o to be read as a folder: none given, one that is there, or a name that ends in '/'? */
bool output_is_folder(const char *output);
/* Before the work: makes the folder, or looks whether the file can be written. */
int output_check(const char *output, bool force);
/* The same for a file that is no picture. */
int output_check_file(const char *flag, const char *path, bool force);
/* FOLDER/styx-SEED-N.png with the first free N; free it. */
char *output_name(const char *folder, uint64_t seed);

#endif
