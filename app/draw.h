/* draw.h - one job of generate, edit, replay or run: from options to saved pictures. */
#ifndef STYX_APP_DRAW_H
#define STYX_APP_DRAW_H
#include "options.h"
#include "source.h"
#include "studio.h"
#include "trace.h"

struct job {
    struct studio *studio;
    const styx_model *model, *refiner; /* refiner: NULL without one */
    const struct source *source;       /* NULL: text to image */
    bool more; /* the model draws again after this, so its weights stay loaded */
    /* replay: texts to store instead of new ones, and nothing to tell about the result */
    const char *recipe, *parameters;
    char *fresh_recipe; /* gets what would have been stored; free it */
    struct trace trace;
};

/* Everything that can be known to be wrong before the work: contradictions between flags, files
 * that exist or cannot be written. Also settles seed and count. Exit code. */
int draw_check(struct options *o);

/* Draws and saves. Exit code; nothing is left half done. */
int draw(struct job *job, const struct options *o);

#endif
