/* pictures.c - the public face of src/image/ and of tensors in files. */
#include "engine/engine.h"
#include "image/image.h"
#include "image/mask.h"
#include "image/pixels.h"
#include "image/resize.h"
#include "image/terminal.h"
#include "weights/save.h"
#include <stdlib.h>

static struct image inner(const struct styx_image *x)
{
    return (struct image){ x->width, x->height, x->channels, x->pixels };
}

static struct styx_image outer(const struct image *x)
{
    return (struct styx_image){ x->w, x->h, x->channels, x->data };
}

static int check_picture_arg(const struct styx_image *x, const char *name, styx_error *err)
{
    if (x && x->pixels && x->width > 0 && x->height > 0 && (x->channels == 1 || x->channels == 3))
        return 0;
    return fail(err, STYX_ERR_INVALID, "%s is empty; a picture of 1 or 3 channels was wanted",
                name);
}

int styx_image_load(const char *path, struct styx_image *image, struct styx_image *alpha,
                    char **note, styx_error *err)
{
    struct image made = { 0 };
    struct image_notes notes = { 0 };
    char text[256];
    int code = image_load(path, &made, &notes, err);
    if (code)
        return code;
    image_notes_text(&notes, text, sizeof text);
    if (note) {
        *note = *text ? strdup(text) : NULL;
        if (*text && !*note) {
            image_free(&made);
            image_notes_free(&notes);
            return fail_nomem(err, sizeof text);
        }
    }
    if (alpha) {
        *alpha = outer(&notes.opacity);
        notes.opacity = (struct image){ 0 };
    }
    image_notes_free(&notes);
    *image = outer(&made);
    return 0;
}

int styx_image_save(const struct styx_image *image, const char *path,
                    const struct styx_save_options *options, styx_error *err)
{
    struct styx_save_options o = { .size = sizeof o };
    struct image_text texts[3] = { { 0 } };
    int n = 0, code = check_picture_arg(image, "the picture", err);
    if (code)
        return code;
    if (options)
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    if (o.parameters)
        texts[n++] = (struct image_text){ "parameters", o.parameters };
    if (o.recipe)
        texts[n++] = (struct image_text){ "styx", o.recipe };
    struct image in = inner(image);
    return image_save(path, &in, texts, o.quality, o.overwrite ? FILE_REPLACE : FILE_NEW, err);
}

int styx_image_check(const char *path, int overwrite, styx_error *err)
{
    return image_writable(path, overwrite ? FILE_REPLACE : FILE_NEW, err);
}

int styx_image_text(const char *path, char **parameters, char **recipe, styx_error *err)
{
    char *a = NULL, *b = NULL;
    int code = 0;
    if (parameters)
        code = image_read_text(path, "parameters", &a, err);
    if (!code && recipe)
        code = image_read_text(path, "styx", &b, err);
    if (code) {
        free(a);
        return code;
    }
    if (parameters)
        *parameters = a;
    if (recipe)
        *recipe = b;
    return 0;
}

int styx_image_resize(const struct styx_image *image, int width, int height, struct styx_image *out,
                      styx_error *err)
{
    struct image made = { 0 };
    int code = check_picture_arg(image, "the picture", err);
    if (code)
        return code;
    if (width < 1 || height < 1 || width > MAX_SIDE || height > MAX_SIDE)
        return fail(err, STYX_ERR_INVALID, "a size of %d x %d; 1 to %d a side was wanted", width,
                    height, MAX_SIDE);
    struct image in = inner(image);
    if ((code = image_resize(&in, width, height, RESIZE_LANCZOS, &made, err)))
        return code;
    *out = outer(&made);
    return 0;
}

int styx_image_alpha_mask(const struct styx_image *alpha, struct styx_image *mask, styx_error *err)
{
    struct image made = { 0 };
    int code = check_picture_arg(alpha, "the alpha channel", err);
    if (code)
        return code;
    struct image in = inner(alpha);
    if ((code = mask_from_opacity(&in, &made, err)))
        return code;
    *mask = outer(&made);
    return 0;
}

int styx_image_paste(const struct styx_image *original, const struct styx_image *mask, int feather,
                     struct styx_image *painted, styx_error *err)
{
    struct image grey = { 0 };
    int code;
    if ((code = check_picture_arg(original, "the original", err)) ||
        (code = check_picture_arg(mask, "the mask", err)) ||
        (code = check_picture_arg(painted, "the painted picture", err)))
        return code;
    if (original->width != painted->width || original->height != painted->height ||
        mask->width != painted->width || mask->height != painted->height)
        return fail(err, STYX_ERR_INVALID,
                    "pasting %d x %d through a mask of %d x %d into %d x %d; one size was wanted",
                    painted->width, painted->height, mask->width, mask->height, original->width,
                    original->height);
    struct image from = inner(original), through = inner(mask), to = inner(painted);
    if ((code = mask_from_image(&through, &grey, err)))
        return code;
    code = mask_paste(&from, &grey, feather, &to, err);
    image_free(&grey);
    return code;
}

int styx_image_match_color(struct styx_image *image, const struct styx_image *reference,
                           styx_error *err)
{
    int code;
    if ((code = check_picture_arg(image, "the picture", err)) ||
        (code = check_picture_arg(reference, "the reference", err)))
        return code;
    struct image to = inner(image), from = inner(reference);
    return pixels_match_colours(&to, &from, err);
}

static const char *environment(void *user, const char *name)
{
    (void)user;
    return getenv(name);
}

int styx_image_terminal(const struct styx_image *image, const char *protocol, int columns,
                        char **bytes, size_t *count, styx_error *err)
{
    static const char *const names[] = { "blocks", "kitty", "iterm2" };
    static const enum terminal_kind kinds[] = { TERMINAL_BLOCKS, TERMINAL_KITTY, TERMINAL_ITERM };
    enum terminal_kind kind = TERMINAL_NONE;
    int code = check_picture_arg(image, "the picture", err);
    if (code)
        return code;
    if (columns < 1 || columns > 10000)
        return fail(err, STYX_ERR_INVALID, "%d columns; 1 to 10000 were wanted", columns);
    if (strcmp(protocol, "auto") == 0)
        kind = terminal_kind(environment, NULL);
    for (int i = 0; i < 3; i++)
        if (strcmp(names[i], protocol) == 0)
            kind = kinds[i];
    if (kind == TERMINAL_NONE)
        return fail(err, STYX_ERR_INVALID,
                    "terminal protocol '%s'; kitty, iterm2, blocks, or auto in a terminal that "
                    "shows colours, was wanted",
                    protocol);
    struct image in = inner(image);
    return terminal_picture(&in, kind, columns, 0, bytes, count, err);
}

int styx_tensors_save(const char *path, const char *const *names, const struct styx_tensor *tensors,
                      size_t count, int overwrite, styx_error *err)
{
    struct saved *list = calloc(count + 1, sizeof *list);
    if (!list)
        return fail_nomem(err, count * sizeof *list);
    for (size_t i = 0; i < count; i++) {
        list[i] = (struct saved){
            .name = names[i], .type = DT_F32, .dims = tensors[i].dims, .data = tensors[i].data
        };
        memcpy(list[i].shape, tensors[i].shape, sizeof list[i].shape);
    }
    save_sort(list, (int)count);
    int code = save_file(path, list, (int)count, NULL, overwrite ? FILE_REPLACE : FILE_NEW, err);
    free(list);
    return code;
}

void styx_tensors_free(char **names, struct styx_tensor *tensors, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (names)
            free(names[i]);
        if (tensors)
            styx_tensor_free(&tensors[i]);
    }
    free(names);
    free(tensors);
}

static int read_entry(struct store *file, const struct entry *e, char **name,
                      struct styx_tensor *to, styx_error *err)
{
    struct span span;
    int code = store_span(file, e, &span, err);
    if (code || (code = tensor_new(to, span.dims, span.shape, err)))
        return code;
    span_read(&span, 0, span_count(&span), to->data);
    *name = strdup(e->name);
    return *name ? 0 : fail_nomem(err, strlen(e->name));
}

int styx_tensors_load(const char *path, char ***names, struct styx_tensor **tensors, size_t *count,
                      styx_error *err)
{
    struct store *file = NULL;
    int code = store_open_file(path, &file, err);
    if (code)
        return code;
    int n = store_count(file);
    char **list = calloc((size_t)n + 1, sizeof *list);
    struct styx_tensor *made = calloc((size_t)n + 1, sizeof *made);
    code = list && made ? 0 : fail_nomem(err, (size_t)n * sizeof *made);
    for (int i = 0; i < n && !code; i++)
        code = read_entry(file, store_at(file, i), &list[i], &made[i], err);
    store_unref(file);
    if (code) {
        styx_tensors_free(list, made, list && made ? (size_t)n : 0);
        return code;
    }
    *names = list;
    *tensors = made;
    *count = (size_t)n;
    return 0;
}
