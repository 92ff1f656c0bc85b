/* hub.c - finds what lies in the cache that Hugging Face's Python packages share:
 *     models--ORG--NAME/refs/REVISION              a commit
 *     models--ORG--NAME/snapshots/COMMIT/...       links to the files
 * Only reads; the command's `styx pull` writes it. */
#include "base/file.h"
#include "styx.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Repositories that moved: the first official one of SD 1.5 was deleted in 2024. */
static const char *const moved[][2] = {
    { "runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5" },
    { "runwayml/stable-diffusion-inpainting", "stable-diffusion-v1-5/stable-diffusion-inpainting" },
};

static const char *set(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

int styx_hub_folder(char **path, styx_error *err)
{
    const char *direct = set("HF_HUB_CACHE"), *home = set("HF_HOME");
    const char *cache = set("XDG_CACHE_HOME"), *user = set("HOME");
    char *folder;
    if (direct)
        folder = strdup(direct);
    else if (home)
        folder = path_join(home, "hub");
    else if (cache)
        folder = path_join(cache, "huggingface/hub");
    else if (user)
        folder = path_join(user, ".cache/huggingface/hub");
    else
        return fail(err, STYX_ERR_IO, "there is no cache: neither HF_HOME nor HOME is set");
    if (!folder)
        return fail_nomem(err, 256);
    *path = folder;
    return 0;
}

/* Revisions may have slashes ("refs/pr/1"), names of models may not; neither may lead elsewhere. */
static bool safe(const char *text, bool slashes)
{
    if (!*text || *text == '/' || *text == '.' || strstr(text, "..") || strstr(text, "//"))
        return false;
    return slashes || !strchr(text, '/');
}

struct model_id {
    char organisation[128], name[128], revision[128];
};

const char *styx_hub_moved(const char *id)
{
    for (size_t i = 0; id && i < sizeof moved / sizeof *moved; i++)
        if (strcmp(id, moved[i][0]) == 0)
            return moved[i][1];
    return NULL;
}

static bool read_id(const char *text, struct model_id *id)
{
    const char *now = styx_hub_moved(text);
    text = now ? now : text;
    const char *slash = strchr(text, '/'), *at = slash ? strchr(slash, '@') : NULL;
    size_t end = at ? (size_t)(at - text) : strlen(text);
    if (!slash || (size_t)(slash - text) >= 128 || end - (size_t)(slash - text) > 128 ||
        (at && strlen(at) > 128))
        return false;
    snprintf(id->organisation, 128, "%.*s", (int)(slash - text), text);
    snprintf(id->name, 128, "%.*s", (int)(text + end - slash - 1), slash + 1);
    snprintf(id->revision, 128, "%s", at ? at + 1 : "main");
    return safe(id->organisation, false) && safe(id->name, false) && safe(id->revision, true);
}

/* The commit that a revision means: refs/REVISION, or itself. */
static int read_commit(const char *repository, const char *revision, char commit[129],
                       styx_error *err)
{
    char name[160], *text = NULL;
    snprintf(name, sizeof name, "refs/%s", revision);
    char *path = path_join(repository, name);
    int code = path ? 0 : fail_nomem(err, 256);
    snprintf(commit, 129, "%s", revision);
    if (!code && file_exists(path) && !file_is_dir(path) &&
        !(code = file_read(path, 128, &text, NULL, err))) {
        text[strcspn(text, " \r\n")] = '\0';
        if (safe(text, false))
            snprintf(commit, 129, "%s", text);
        else
            code = fail(err, STYX_ERR_FORMAT, "%s: holds no commit", path);
    }
    free(text);
    free(path);
    return code;
}

/* A repository of one checkpoint file is that file: *path becomes it. */
static int take_single(char **path, styx_error *err)
{
    struct dirent *entry;
    char *index = path_join(*path, "model_index.json"), *single = NULL;
    int code = index ? 0 : fail_nomem(err, 256), found = 0;
    DIR *folder = code || file_exists(index) ? NULL : opendir(*path);
    while (folder && !code && (entry = readdir(folder))) {
        const char *end = path_extension(entry->d_name);
        if ((strcmp(end, "safetensors") && strcmp(end, "gguf")) || ++found > 1)
            continue;
        if (!(single = path_join(*path, entry->d_name)))
            code = fail_nomem(err, 256);
    }
    if (folder)
        closedir(folder);
    free(index);
    if (!code && found == 1) {
        free(*path);
        *path = single;
        return 0;
    }
    free(single);
    return code;
}

int styx_hub_find(const char *given, char **path, styx_error *err)
{
    struct model_id id;
    char *cache = NULL, *repository = NULL, *snapshot = NULL, name[300], commit[129];
    int code;
    if (!given || !path || !read_id(given, &id))
        return fail(err, STYX_ERR_INVALID,
                    "'%.100s' is no name of a model on a hub; ORG/NAME or "
                    "ORG/NAME@REVISION was wanted",
                    given ? given : "");
    if ((code = styx_hub_folder(&cache, err)))
        return code;
    snprintf(name, sizeof name, "models--%s--%s", id.organisation, id.name);
    if (!(repository = path_join(cache, name))) {
        code = fail_nomem(err, 256);
        goto done;
    }
    if ((code = read_commit(repository, id.revision, commit, err)))
        goto done;
    snprintf(name, sizeof name, "snapshots/%s", commit);
    if (!(snapshot = path_join(repository, name))) {
        code = fail_nomem(err, 256);
        goto done;
    }
    if (!file_is_dir(snapshot)) {
        code = fail(err, STYX_ERR_IO,
                    "%s/%s (%s) is not in the cache %s; 'styx pull %s/%s%s%s' "
                    "fetches it",
                    id.organisation, id.name, id.revision, cache, id.organisation, id.name,
                    strcmp(id.revision, "main") ? "@" : "",
                    strcmp(id.revision, "main") ? id.revision : "");
        goto done;
    }
    if ((code = take_single(&snapshot, err)))
        goto done;
    *path = snapshot;
    snapshot = NULL;
done:
    free(snapshot);
    free(repository);
    free(cache);
    return code;
}
