/* generate.c - a prompt becomes a picture, with progress, and Ctrl-C that stops it.
 *
 *     example_generate MODEL PROMPT OUT.png */
#include <signal.h>
#include <stdio.h>
#include <styx.h>

static styx_session *session;

static void on_interrupt(int number)
{
    (void)number;
    styx_cancel(session); /* safe in a signal handler */
}

static int on_progress(void *user, const struct styx_progress *p)
{
    (void)user;
    fprintf(stderr, "%s %d/%d\n", p->stage, p->done, p->total);
    return 0; /* anything else would cancel */
}

int main(int argc, char **argv)
{
    struct styx_request request = STYX_REQUEST_INIT;
    struct styx_result result = STYX_RESULT_INIT;
    styx_model *model = NULL;
    styx_error err = { 0 };
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL PROMPT OUT.png\n", argv[0]);
        return 2;
    }
    request.prompt = argv[2];
    request.progress = on_progress;
    signal(SIGINT, on_interrupt);
    if (styx_image_check(argv[3], 1, &err) || /* before the work */
        styx_model_open(argv[1], NULL, &model, &err) || styx_session_new(NULL, &session, &err) ||
        styx_generate(session, model, &request, &result, &err) ||
        styx_image_save(
            &result.images[0], argv[3],
            &(struct styx_save_options){ .size = sizeof(struct styx_save_options), .overwrite = 1 },
            &err))
        fprintf(stderr, "%s\n", err.text);
    else
        printf("%s: seed %llu\n", argv[3], (unsigned long long)result.seeds[0]);
    styx_result_free(&result);
    styx_session_free(session);
    styx_model_free(model);
    return err.code ? 1 : 0;
}
