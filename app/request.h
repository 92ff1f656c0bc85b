/* request.h - options as a request to the library. */
#ifndef STYX_APP_REQUEST_H
#define STYX_APP_REQUEST_H
#include "options.h"
#include "source.h"
#include "studio.h"

/* A request and all that it points to. */
struct request {
    struct styx_request r;
    styx_scheduler *scheduler;
    struct styx_tensor latents;
    const char **prompts, **negatives; /* of a refiner's batch */
    const char **prompts_2, **negatives_2;
};

/* Random numbers of one job, which a refiner draws on. */
struct generators {
    styx_generator **list;
    size_t count;
};

/* Does --seed agree with --count? Draws a seed if none was given; sets count to the number of
 * seeds. Exit code. */
int settle_seeds(struct options *o);
int generators_new(const struct options *o, struct generators *g);
void generators_free(struct generators *g);

/* source is NULL for text to image. What r points to belongs to o, g, source and *request. */
int request_new(struct request *request, const struct options *o, const styx_model *model,
                const struct generators *g, const struct source *source);
/* The second half: base is what the first request gave. */
int request_refine(struct request *request, const struct options *o, const styx_model *refiner,
                   const struct generators *g, const struct styx_result *base);
void request_free(struct request *request);

#endif
