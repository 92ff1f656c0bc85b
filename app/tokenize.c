/* tokenize.c - styx tokenize: the ids of a text. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "recipe.h"
#include "say.h"
#include "studio.h"

static int print_json(const styx_model *model, const struct options *o, const int32_t *ids,
                      size_t count, const char *cut)
{
    json_t *list = json_array(), *pieces = json_array();
    char *piece, *text;
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, json_integer(ids[i]));
        if (styx_detokenize(model, o->encoder, &ids[i], 1, &piece, NULL) == 0) {
            json_array_append_new(pieces, json_string(piece));
            styx_text_free(piece);
        }
    }
    json_t *root = json_pack("{s:o, s:o, s:s?}", "ids", list, "tokens", pieces, "cut", cut);
    text = root ? json_text_of(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text)
        return complain_memory();
    puts(text);
    free(text);
    return 0;
}

static void print_plain(const styx_model *model, const struct options *o, const int32_t *ids,
                        size_t count)
{
    char *piece;
    for (size_t i = 0; i < count; i++) {
        printf("%6" PRId32, ids[i]);
        if (styx_detokenize(model, o->encoder, &ids[i], 1, &piece, NULL) == 0) {
            printf("  %s", piece);
            styx_text_free(piece);
        }
        putchar('\n');
    }
}

int run_tokenize(struct options *o)
{
    styx_model *model = NULL;
    int32_t *ids = NULL;
    size_t count = 0;
    char *cut = NULL;
    styx_error err;
    int rc = model_of_options(o, &model);
    if (rc == 0 && styx_tokenize(model, o->encoder, o->subject, &ids, &count, &cut, &err))
        rc = complain_of(&err);
    if (rc == 0 && o->json)
        rc = print_json(model, o, ids, count, cut);
    else if (rc == 0)
        print_plain(model, o, ids, count);
    if (rc == 0 && cut)
        say("cut off, beyond the model's %zu tokens: \"%s\"", count, cut);
    styx_ids_free(ids);
    styx_text_free(cut);
    styx_model_free(model);
    return rc;
}
