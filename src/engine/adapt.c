/* adapt.c - LoRA and textual inversion: parts of a model with changed weights and more words. The
 * parts that others share stay as they are; the model gets copies. */
#include "engine/engine.h"
#include "weights/embedding.h"
#include "weights/lora.h"
#include <math.h>
#include <stdlib.h>

static const enum slot changed[] = { SLOT_UNET, SLOT_TEXT_ENCODER, SLOT_TEXT_ENCODER_2 };
enum { NCHANGED = sizeof changed / sizeof *changed };

/* Puts a part with other weights (a reference that is taken) in the place of the model's. */
static int replace(styx_model *m, enum slot slot, struct store *weights, struct tokenizer *words,
                   styx_error *err)
{
    styx_component *c = NULL;
    int code = component_change(m->part[slot], weights, words, &c, err);
    if (code)
        return code;
    styx_component_free(m->part[slot]);
    m->part[slot] = c;
    return 0;
}

/* What a merged tensor is kept as: F32 loses nothing; the UNet of an SDXL model would take 10 GB,
 * so large networks of halves stay halves, rounded once. */
static enum dtype merged_type(const struct store *s)
{
    struct store_summary sum = { 0 };
    store_summarize(s, &sum);
    if (sum.parameters < (uint64_t)1 << 30 || !sum.ntypes)
        return DT_F32;
    return strcmp(sum.types[0].type, "F16") == 0    ? DT_F16
           : strcmp(sum.types[0].type, "BF16") == 0 ? DT_BF16
                                                    : DT_F32;
}

static void warn_unmatched(const struct lora *l, const struct styx_model_options *o)
{
    char *keys = NULL, text[1200];
    int n = 0;
    if (!o->warn || lora_unmatched(l, &keys, &n, NULL) || !keys)
        return;
    snprintf(text, sizeof text, "%.300s: %d keys change nothing in this model:\n%.800s%s",
             lora_path(l), n, keys, strlen(keys) > 800 ? "..." : "");
    o->warn(o->user, text);
    free(keys);
}

static int merge_loras(styx_model *m, const struct styx_model_options *o, styx_error *err)
{
    struct lora_use *uses = calloc(o->lora_count, sizeof *uses);
    int code = uses ? 0 : fail_nomem(err, o->lora_count * sizeof *uses), n = 0;
    for (; n < (int)o->lora_count && !code; n++) {
        const struct styx_lora *given = &o->loras[n];
        if (!given->path || !isfinite(given->scale))
            code = fail(err, STYX_ERR_INVALID, "a LoRA wants a path and a finite scale");
        else
            code = lora_open(given->path, &uses[n].lora, err);
        uses[n].scale = (float)given->scale;
    }
    for (int i = 0; i < NCHANGED && !code; i++) {
        const styx_component *part = m->part[changed[i]];
        struct store *merged = NULL;
        if (!part)
            continue;
        code = lora_merge(part->weights, slot_names[changed[i]], uses, n,
                          merged_type(part->weights), 0, &merged, err);
        if (!code && merged != part->weights)
            code = replace(m, changed[i], merged, NULL, err);
        store_unref(merged);
    }
    for (int i = 0; uses && i < n; i++) {
        if (!code)
            warn_unmatched(uses[i].lora, o);
        lora_free(uses[i].lora);
    }
    free(uses);
    return code;
}

/* ---- words ---- */

/* The words T, T_1, T_2... of all embeddings, in the order of their ids. */
static int list_words(struct embedding *const *e, int n, char ***list, int *count, styx_error *err)
{
    int rows = 0;
    *count = 0;
    for (int i = 0; i < n; i++)
        rows += embedding_rows(e[i]);
    *list = calloc((size_t)rows + 1, sizeof **list);
    if (!*list)
        return fail_nomem(err, (size_t)rows * sizeof **list);
    for (int i = 0; i < n; i++) {
        for (int row = 0; row < embedding_rows(e[i]); row++) {
            size_t bytes = strlen(embedding_word(e[i])) + 16;
            char *word = malloc(bytes);
            if (!word)
                return fail_nomem(err, bytes);
            snprintf(word, bytes, row ? "%s_%d" : "%s", embedding_word(e[i]), row);
            (*list)[(*count)++] = word;
        }
    }
    return 0;
}

static int add_words(styx_model *m, int i, struct embedding *const *e, int n, styx_error *err)
{
    enum slot slot = SLOT_TEXT_ENCODER + i, words = SLOT_TOKENIZER + i;
    const styx_component *encoder = m->part[slot], *vocabulary = m->part[words];
    struct store *weights = NULL;
    struct tokenizer *longer = NULL;
    char **list = NULL;
    int count = 0, known = encoder->clip.vocabulary, code;
    if (tokenizer_vocab_size(vocabulary->tokenizer) != known)
        return fail(err, STYX_ERR_UNSUPPORTED,
                    "%s: its text encoder has %d words, its tokenizer %d: new ones cannot be added",
                    m->path, known, (int)tokenizer_vocab_size(vocabulary->tokenizer));
    if ((code = list_words(e, n, &list, &count, err)) ||
        (code = tokenizer_with_tokens(vocabulary->tokenizer, (const char *const *)list, count,
                                      &longer, err)) ||
        (code = embedding_merge(encoder->weights, slot_names[slot], e, n, DT_F32, &weights, err)) ||
        (code = replace(m, slot, weights, NULL, err)))
        goto done;
    m->part[slot]->clip.vocabulary = known + count;
    if (!(code = replace(m, words, NULL, longer, err)))
        longer = NULL;
done:
    for (int k = 0; list && k < count; k++)
        free(list[k]);
    free(list);
    tokenizer_free(longer);
    store_unref(weights);
    return code;
}

static int merge_embeddings(styx_model *m, const struct styx_model_options *o, styx_error *err)
{
    size_t n = o->embedding_count, got = 0;
    struct embedding **e = calloc(n, sizeof *e);
    int code = e ? 0 : fail_nomem(err, n * sizeof *e);
    for (; got < n && !code; got++)
        code = embedding_open(o->embeddings[got].path, o->embeddings[got].word, &e[got], err);
    for (int i = 0; i < 2 && !code; i++)
        if (m->part[SLOT_TEXT_ENCODER + i])
            code = add_words(m, i, e, (int)n, err);
    for (size_t i = 0; e && i < got; i++)
        embedding_free(e[i]);
    free(e);
    return code;
}

int model_adapt(styx_model *m, const struct styx_model_options *o, styx_error *err)
{
    int code = o->lora_count ? merge_loras(m, o, err) : 0;
    if (!code && o->embedding_count)
        code = merge_embeddings(m, o, err);
    return code;
}

int styx_model_adapt(const styx_model *model, const struct styx_model_options *options,
                     styx_model **adapted, styx_error *err)
{
    struct styx_model_options o = STYX_MODEL_OPTIONS_INIT;
    styx_model *m = NULL;
    int code;
    if (!model || !adapted)
        return fail(err, STYX_ERR_INVALID,
                    "styx_model_adapt needs a model and a place for another");
    if ((code = model_options_take(&o, options, err)))
        return code;
    if (o.variant || o.component_count || o.config)
        return fail(err, STYX_ERR_INVALID,
                    "styx_model_adapt takes loras and embeddings; a variant, components and a "
                    "config are for styx_model_open");
    if ((code = model_share(model, &m, err)))
        return code;
    if ((code = model_adapt(m, &o, err)))
        styx_model_free(m);
    else
        *adapted = m;
    return code;
}
