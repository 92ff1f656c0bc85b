/* infotext.h - the "parameters" text that A1111's web UI puts into pictures and its relatives read:
 *
 *     prompt
 *     Negative prompt: ...
 *     Steps: 25, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, ...
 */
#ifndef STYX_APP_INFOTEXT_H
#define STYX_APP_INFOTEXT_H
#include "options.h"
#include "recipe.h"

/* Of picture k of a job; free it. NULL without memory. */
char *infotext_write(const struct record *r, const struct options *o, const struct source *source,
                     const struct styx_result *result, size_t k);

/* Sets what is not set yet; what Styx has no setting for is left out. Exit code. */
int infotext_take(struct options *o, const char *text, const char *where);

#endif
