/* compose.c - see compose.h. */
#include "compose.h"

#include "say.h"

/* A result that was drawn smaller is brought to the source's size, so that what lies outside the
 * mask can stay as it is. */
static int paste(struct styx_image *image, const struct source *s, int feather)
{
    struct styx_image large;
    styx_error err;
    if (image->width != s->image.width || image->height != s->image.height) {
        if (styx_image_resize(image, s->image.width, s->image.height, &large, &err))
            return complain_of(&err);
        styx_image_free(image);
        *image = large;
    }
    if (styx_image_paste(&s->image, &s->mask, feather, image, &err))
        return complain_of(&err);
    return 0;
}

int compose(struct styx_image *image, const struct source *source, const struct options *o)
{
    styx_error err;
    if (o->match_color && styx_image_match_color(image, &source->image, &err))
        return complain_of(&err);
    if (source->mask.pixels && !o->no_paste)
        return paste(image, source, o->feather);
    return 0;
}
