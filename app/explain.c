/* explain.c - styx explain: what a request would do. */
#include <stdio.h>

#include "command.h"
#include "request.h"
#include "say.h"

int run_explain(struct options *o)
{
    struct studio studio = { 0 };
    struct request request;
    styx_model *model = NULL;
    char *text = NULL;
    styx_error err;
    int rc = model_of_options(o, &model);
    if (rc == 0)
        rc = studio_begin(&studio, o);
    if (rc == 0) {
        o->count = o->batch;
        rc = request_new(&request, o, model, NULL, NULL);
        request.r.offload = 1; /* as styx generate does */
    }
    if (rc == 0) {
        if (styx_explain(studio.session, model, &request.r, o->network, o->code, &text, &err))
            rc = complain_of(&err);
        else
            fputs(text, stdout);
        request_free(&request);
    }
    styx_text_free(text);
    styx_model_free(model);
    if (studio.session)
        studio_end(&studio);
    return rc;
}
