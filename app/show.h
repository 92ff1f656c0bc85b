/* show.h - a picture in the terminal. */
#ifndef STYX_APP_SHOW_H
#define STYX_APP_SHOW_H
#include "styx.h"

/* By the protocol that the terminal says it knows, else in coloured half blocks. Exit code. */
int show(const struct styx_image *image);

#endif
