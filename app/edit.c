/* edit.c - styx edit: image to image and inpainting. */
#include "command.h"
#include "draw.h"
#include "recipe.h"
#include "say.h"

int run_edit(struct options *o)
{
    struct studio studio = { 0 };
    struct source source = { 0 };
    styx_model *model = NULL;
    int rc = o->from ? recipe_take(o, o->from) : 0;
    if (rc == 0 && !o->prompt)
        rc = complain(EXIT_USAGE, "styx edit wants a PICTURE and a PROMPT");
    if (rc == 0)
        rc = draw_check(o);
    if (rc == 0)
        rc = model_of_options(o, &model);
    if (rc == 0)
        rc = source_open(&source, o, model);
    if (rc == 0)
        rc = studio_begin(&studio, o);
    if (rc == 0) {
        struct job job = { .studio = &studio, .model = model, .source = &source };
        rc = draw(&job, o);
    }
    source_free(&source);
    styx_model_free(model);
    if (studio.session)
        studio_end(&studio);
    return rc;
}
