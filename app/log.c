/* log.c - styx log: the chain of pictures back to the first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "hash.h"
#include "lineage.h"
#include "recipe.h"
#include "say.h"
#include "small.h"

/* More is a circle that somebody made by hand: a real one would need a hash of itself. */
enum { MAX_CHAIN = 10000 };

static void print_link(const char *picture, const char *hash, const json_t *recipe)
{
    const json_t *settings = json_object_get(recipe, "settings"), *value;
    const json_t *model = json_object_get(recipe, "model");
    const char *key;
    printf("%s  %.12s\n", picture, hash);
    if (!recipe) {
        printf("    no recipe inside: the chain begins here\n");
        return;
    }
    printf("    %s \"%s\"\n", text_at(recipe, "command"), text_at(settings, "prompt"));
    printf("    model %s, Styx %s\n    ", text_at(model, "path"), text_at(recipe, "styx"));
    json_object_foreach((json_t *)settings, key, value)
    {
        if (strcmp(key, "prompt") == 0 || strcmp(key, "model") == 0)
            continue;
        char *text = json_text_of(value, JSON_ENCODE_ANY | JSON_COMPACT);
        printf("%s %s  ", key, text ? text : "?");
        free(text);
    }
    putchar('\n');
}

/* One picture; *next (free) is its parent, or NULL at the root. */
static int follow(const char *picture, json_t *list, char **next)
{
    char hash[65];
    json_t *recipe = NULL;
    struct ancestor parent = { 0 };
    int rc = hash_file(picture, hash);
    if (rc == 0)
        rc = recipe_read(picture, &recipe);
    const json_t *recorded = json_object_get(recipe, "parent");
    if (rc == 0 && recorded)
        rc = ancestor_find(picture, recorded, &parent);
    if (rc == 0 && list)
        json_array_append_new(list, json_pack("{s:s, s:s, s:O?, s:s?}", "path", picture, "sha256",
                                              hash, "recipe", recipe, "missing",
                                              recorded && !parent.path ? parent.why : NULL));
    else if (rc == 0)
        print_link(picture, hash, recipe);
    if (rc == 0 && recorded && !parent.path)
        rc = complain(EXIT_FAILED, "%s", parent.why);
    json_decref(recipe);
    *next = parent.path;
    return rc;
}

int run_log(struct options *o)
{
    json_t *list = o->json ? json_array() : NULL;
    char *picture = strdup(o->picture);
    int rc = picture ? 0 : complain_memory();
    for (int i = 0; rc == 0 && picture; i++) {
        char *next = NULL;
        rc = i < MAX_CHAIN ? follow(picture, list, &next)
                           : complain(EXIT_FAILED, "%s: its chain does not end", o->picture);
        free(picture);
        picture = next;
    }
    free(picture);
    if (list) {
        char *text = json_text_of(list, JSON_INDENT(2));
        if (text)
            puts(text);
        free(text);
    }
    json_decref(list);
    return rc;
}
