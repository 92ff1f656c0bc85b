/* progress.h - one line on the terminal that tells how far the work is. */
#ifndef STYX_APP_PROGRESS_H
#define STYX_APP_PROGRESS_H
#include <stdbool.h>

#include "styx.h"

/* Silent with quiet; a line that is redrawn on a terminal; else a plain line now and then. */
void progress_begin(bool quiet);
void progress_report(const struct styx_progress *progress);
/* Wipes the line, so that something else can be said. */
void progress_clear(void);

#endif
