/* studio.c - see studio.h. */
#include "studio.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "paths.h"
#include "say.h"
#include "value.h"

static volatile sig_atomic_t interrupted;
static styx_session *volatile running;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
    styx_cancel(running);
}

bool studio_interrupted(void)
{
    return interrupted;
}

static const char *word(const char *flag, int index)
{
    return flag_find(flag)->words[index];
}

static void on_log(void *user, enum styx_log_level level, const char *text)
{
    (void)user;
    if (level == STYX_LOG_WARNING) {
        size_t length = strlen(text); /* a report of many lines ends with one */
        while (length > 0 && text[length - 1] == '\n')
            length--;
        say("%.*s", (int)length, text);
    }
}

static void on_warning(void *user, const char *text)
{
    (void)user;
    say("%s", text);
}

int studio_begin(struct studio *s, const struct options *o)
{
    struct styx_session_options options = STYX_SESSION_OPTIONS_INIT;
    styx_error err;
    options.backend = word("backend", o->backend);
    options.isa = word("isa", o->isa);
    options.no_winograd = o->winograd;
    options.int8 = o->int8;
    options.fp8 = o->fp8;
    options.threads = o->threads;
    options.max_memory = o->max_memory;
    options.device = o->device;
    options.offload = (enum styx_offload)o->offload;
    options.max_vram = o->max_vram;
    options.log = on_log;
    if (styx_session_new(&options, &s->session, &err))
        return complain_of(&err);
    /* A second Ctrl-C ends the process at once. */
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    running = s->session;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit is an error of write(), not the end */
    return 0;
}

void studio_end(struct studio *s)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    running = NULL;
    styx_session_free(s->session);
    s->session = NULL;
}

static int parts_add(struct parts *p, const char *name, styx_component *component)
{
    if (p->count == MAX_PARTS) {
        styx_component_free(component);
        return complain(EXIT_USAGE, "more than %d components are given by hand", MAX_PARTS);
    }
    p->list[p->count++] = (struct part){ name, component };
    return 0;
}

int parts_open(struct parts *p, const char *name, const char *folder, const char *variant)
{
    styx_component *component;
    styx_error err;
    if (styx_component_open(folder, name, variant, &component, &err))
        return complain_of(&err);
    return parts_add(p, name, component);
}

int parts_borrow(struct parts *p, const char *name, const styx_model *model, const char *its_name)
{
    styx_component *component;
    styx_error err;
    if (styx_model_component(model, its_name, &component, &err))
        return complain_of(&err);
    return component ? parts_add(p, name, component) : 0;
}

int parts_leave_out(struct parts *p, const char *name)
{
    return parts_add(p, name, NULL);
}

void parts_free(struct parts *p)
{
    for (size_t i = 0; i < p->count; i++)
        styx_component_free(p->list[i].component);
    p->count = 0;
}

int extra_split(const char *text, char **path, const char **rest)
{
    const char *colon = strrchr(text, ':');
    bool whole = !colon || path_exists(text);
    *path = whole ? strdup(text) : strndup(text, (size_t)(colon - text));
    *rest = whole ? NULL : colon + 1;
    return *path ? 0 : complain_memory();
}

/* The extras of a model, as the library takes them. */
struct extras {
    struct styx_lora *loras;
    struct styx_embedding *embeddings;
    size_t lora_count, embedding_count;
};

static int read_lora(const char *text, struct styx_lora *lora)
{
    static const struct flag number = { .kind = KIND_REAL, .min = -100, .max = 100 };
    const char *scale;
    char *path;
    int rc = extra_split(text, &path, &scale);
    lora->path = path;
    lora->scale = 1;
    return rc == 0 && scale ? value_parse(&number, "--lora: the scale", scale, &lora->scale) : rc;
}

static int extras_read(struct extras *e, const struct texts *loras, const struct texts *embeddings)
{
    int rc = 0;
    e->loras = calloc((loras ? loras->count : 0) + 1, sizeof *e->loras);
    e->embeddings = calloc((embeddings ? embeddings->count : 0) + 1, sizeof *e->embeddings);
    if (!e->loras || !e->embeddings)
        return complain_memory();
    for (size_t i = 0; loras && i < loras->count && rc == 0; i++)
        rc = read_lora(loras->values[i], &e->loras[e->lora_count++]);
    for (size_t i = 0; embeddings && i < embeddings->count && rc == 0; i++) {
        struct styx_embedding *x = &e->embeddings[e->embedding_count++];
        char *path = NULL;
        rc = extra_split(embeddings->values[i], &path, &x->word);
        x->path = path;
    }
    return rc;
}

static void extras_free(struct extras *e)
{
    for (size_t i = 0; i < e->lora_count; i++)
        free((char *)e->loras[i].path);
    for (size_t i = 0; i < e->embedding_count; i++)
        free((char *)e->embeddings[i].path);
    free(e->loras);
    free(e->embeddings);
}

int model_open(const char *path, const char *variant, const struct parts *parts,
               const struct texts *loras, const struct texts *embeddings, styx_model **model)
{
    struct styx_model_options options = STYX_MODEL_OPTIONS_INIT;
    struct extras extras = { 0 };
    const char *names[MAX_PARTS];
    styx_component *components[MAX_PARTS];
    styx_error err;
    int rc = extras_read(&extras, loras, embeddings);
    for (size_t i = 0; i < parts->count; i++) {
        names[i] = parts->list[i].name;
        components[i] = parts->list[i].component;
    }
    options.variant = variant;
    options.names = names;
    options.components = components;
    options.component_count = parts->count;
    options.config = parts->config;
    options.loras = extras.loras;
    options.lora_count = extras.lora_count;
    options.embeddings = extras.embeddings;
    options.embedding_count = extras.embedding_count;
    options.warn = on_warning;
    if (rc == 0 && styx_model_open(path, &options, model, &err))
        rc = complain_of(&err);
    extras_free(&extras);
    return rc;
}

int model_of_options(const struct options *o, styx_model **model)
{
    struct parts parts = { .config = o->model_config };
    int rc = 0;
    char *path = path_of_model(o->model);
    if (!path)
        return EXIT_FAILED;
    if (o->vae)
        rc = parts_open(&parts, "vae", o->vae, o->variant);
    if (rc == 0 && o->text_encoder_2)
        rc = parts_open(&parts, "text_encoder_2", o->text_encoder_2, o->variant);
    if (rc == 0 && o->tokenizer)
        rc = parts_open(&parts, "tokenizer", o->tokenizer, NULL);
    if (rc == 0)
        rc = model_open(path, o->variant, &parts, &o->loras, &o->embeddings, model);
    parts_free(&parts);
    free(path);
    return rc;
}

int refiner_of_options(const struct options *o, const styx_model *model, styx_model **refiner)
{
    struct parts parts = { 0 };
    struct model_facts facts;
    char *path = path_of_model(o->refiner);
    int rc = path ? model_facts(model, &facts) : EXIT_FAILED;
    if (rc == 0 && strcmp(facts.family, "sdxl") == 0) {
        rc = parts_borrow(&parts, "vae", model, "vae");
        if (rc == 0)
            rc = parts_borrow(&parts, "text_encoder_2", model, "text_encoder_2");
    }
    if (rc == 0)
        rc = model_open(path, o->variant, &parts, NULL, NULL, refiner);
    if (rc == 0)
        rc = model_facts(*refiner, &facts);
    if (rc == 0 && strcmp(facts.family, "sdxl") == 0)
        rc = complain(EXIT_USAGE,
                      "--refiner: %s is an SDXL base, want a refiner; --model takes the base",
                      o->refiner);
    parts_free(&parts);
    free(path);
    return rc;
}

static json_t *parse_info(int failed, char *text, const styx_error *err)
{
    json_t *info = failed ? NULL : json_loads(text, 0, NULL);
    if (failed)
        complain_of(err);
    else if (!info)
        complain(EXIT_FAILED, "the library's description is no JSON: please report this");
    styx_text_free(text);
    return info;
}

json_t *model_info(const styx_model *model)
{
    char *text = NULL;
    styx_error err;
    int failed = styx_model_info(model, &text, &err);
    return parse_info(failed, text, &err);
}

json_t *session_info(const styx_session *session)
{
    char *text = NULL;
    styx_error err;
    int failed = styx_session_info(session, &text, &err);
    return parse_info(failed, text, &err);
}

int model_facts(const styx_model *model, struct model_facts *facts)
{
    json_t *info = model_info(model);
    if (!info)
        return EXIT_FAILED;
    const char *family = json_string_value(json_object_get(info, "family"));
    *facts = (struct model_facts){ .side = (int)json_integer_value(json_object_get(info, "size")) };
    strncpy(facts->family, family ? family : "", sizeof facts->family - 1);
    json_decref(info);
    return 0;
}
