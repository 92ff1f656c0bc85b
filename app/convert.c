/* convert.c - styx convert: a model in another layout, container or type. */
#include <signal.h>
#include <stdio.h>

#include "command.h"
#include "paths.h"
#include "progress.h"
#include "say.h"
#include "small.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* In megabytes; user is when it began. */
static int on_progress(void *user, uint64_t done, uint64_t all)
{
    const double *begin = user;
    struct styx_progress p = { .size = sizeof p,
                               .stage = "convert, MB",
                               .done = (int)(done >> 20),
                               .total = (int)(all >> 20) + 1,
                               .seconds = clock_seconds() - *begin };
    if (p.done > 0)
        progress_report(&p);
    return interrupted;
}

int run_convert(struct options *o)
{
    struct styx_convert_options options = STYX_CONVERT_OPTIONS_INIT;
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    double begin = clock_seconds();
    styx_error err;
    char *in = path_of_model(o->subject);
    int rc = in ? 0 : EXIT_FAILED;
    if (rc == 0) {
        options.type = o->set[flag_find("type") - flags] ? flag_find("type")->words[o->type] : NULL;
        options.config = o->model_config;
        options.allow_pickle = o->allow_pickle;
        options.overwrite = o->force;
        options.progress = on_progress;
        options.user = &begin;
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        progress_begin(o->quiet);
        if (styx_convert(in, o->target, &options, &err))
            rc = complain_of(&err);
        progress_clear();
    }
    styx_text_free(in);
    if (rc == 0)
        say("%s", o->target);
    return rc;
}
