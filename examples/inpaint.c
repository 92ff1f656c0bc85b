/* inpaint.c - repaints what is white in a mask, and keeps the rest of the picture bit for bit.
 *
 *     example_inpaint MODEL PICTURE MASK PROMPT OUT.png */
#include <stdio.h>
#include <styx.h>

int main(int argc, char **argv)
{
    struct styx_request request = STYX_REQUEST_INIT;
    struct styx_result result = STYX_RESULT_INIT;
    struct styx_save_options save = { .size = sizeof save, .overwrite = 1 };
    struct styx_image picture = { 0 }, mask = { 0 };
    styx_session *session = NULL;
    styx_model *model = NULL;
    styx_error err = { 0 };
    if (argc != 6) {
        fprintf(stderr, "usage: %s MODEL PICTURE MASK PROMPT OUT.png\n", argv[0]);
        return 2;
    }
    if (styx_image_load(argv[2], &picture, NULL, NULL, &err) ||
        styx_image_load(argv[3], &mask, NULL, NULL, &err) ||
        styx_model_open(argv[1], NULL, &model, &err) || styx_session_new(NULL, &session, &err))
        goto done;
    request.prompt = argv[4];
    request.images = &picture;
    request.image_count = 1;
    request.mask = &mask;
    request.width = picture.width;
    request.height = picture.height;
    if (styx_generate(session, model, &request, &result, &err) ||
        styx_image_paste(&picture, &mask, 8, &result.images[0], &err) ||
        styx_image_save(&result.images[0], argv[5], &save, &err))
        goto done;
    printf("%s\n", argv[5]);
done:
    if (err.code)
        fprintf(stderr, "%s\n", err.text);
    styx_result_free(&result);
    styx_session_free(session);
    styx_model_free(model);
    styx_image_free(&picture);
    styx_image_free(&mask);
    return err.code ? 1 : 0;
}
