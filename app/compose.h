/* compose.h - what an edit does to the finished picture: paste it back, match its colours. */
#ifndef STYX_APP_COMPOSE_H
#define STYX_APP_COMPOSE_H
#include "options.h"
#include "source.h"

/* Under a mask only the repainted part is taken, so that all else keeps the source's very bytes.
 * Exit code. */
int compose(struct styx_image *image, const struct source *source, const struct options *o);

#endif
