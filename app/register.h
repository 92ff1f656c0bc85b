/* register.h - styx pull FILE|DIR: a model that is here already, put into the cache under a name.
 */
#ifndef STYX_APP_REGISTER_H
#define STYX_APP_REGISTER_H
#include "options.h"

/* The file or folder o->subject becomes local/NAME, NAME being o->target or its own name. Stops at
 * the next file when *cancel is set. Exit code. */
int register_model(struct options *o, const volatile int *cancel);

#endif
