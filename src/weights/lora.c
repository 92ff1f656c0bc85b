#include "weights/lora.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/json.h"
#include "base/thread.h"
#include "weights/names.h"

enum component { UNET, TEXT_ENCODER, TEXT_ENCODER_2 };

static const char *const components[] = { "unet", "text_encoder", "text_encoder_2" };

/* How the files name a component, longer prefixes first. Without any it is the UNet. */
static const struct {
    const char *text;
    enum component component;
} prefixes[] = {
    { "base_model.model.unet.", UNET },
    { "base_model.model.", UNET },
    { "lora_unet_", UNET },
    { "lora_te1_", TEXT_ENCODER },
    { "lora_te2_", TEXT_ENCODER_2 },
    { "lora_te_", TEXT_ENCODER },
    { "text_encoder_2.", TEXT_ENCODER_2 },
    { "text_encoder.", TEXT_ENCODER },
    { "diffusion_model.", UNET },
    { "unet.", UNET },
};

enum role { DOWN, UP, ALPHA, REFUSED };

static const struct suffix {
    const char *text;
    enum role role;
    const char *what; /* of REFUSED */
} suffixes[] = {
    { ".lora_down.weight", DOWN, NULL },
    { ".lora_up.weight", UP, NULL },
    { ".lora_A.weight", DOWN, NULL },
    { ".lora_B.weight", UP, NULL },
    { ".lora_A.default.weight", DOWN, NULL },
    { ".lora_B.default.weight", UP, NULL },
    { ".lora.down.weight", DOWN, NULL },
    { ".lora.up.weight", UP, NULL },
    { "_lora.down.weight", DOWN, NULL },
    { "_lora.up.weight", UP, NULL },
    { ".lora_linear_layer.down.weight", DOWN, NULL },
    { ".lora_linear_layer.up.weight", UP, NULL },
    { ".alpha", ALPHA, NULL },
    { ".dora_scale", REFUSED, "DoRA" },
    { ".lora_magnitude_vector", REFUSED, "DoRA" },
    { ".lora_magnitude_vector.weight", REFUSED, "DoRA" },
    { ".lora_mid.weight", REFUSED, "Tucker-decomposed LoRA" },
    { ".hada_w1_a", REFUSED, "LoHa" },
    { ".lokr_w1", REFUSED, "LoKr" },
    { ".lokr_w1_a", REFUSED, "LoKr" },
    { ".oft_blocks", REFUSED, "OFT" },
    { ".oft_diag", REFUSED, "OFT" },
};

/* One changed module. Its name has '_' for every '.', as in kohya's keys, so that all spellings
 * meet. */
struct module {
    char name[NAME_BYTES];
    enum component component;
    const struct entry *down, *up, *alpha;
    bool found; /* by a merge */
};

struct lora {
    struct store *file;
    struct module *modules;
    int nmodules;
    unsigned char *unknown; /* flags of entries whose role is not known */
    json_t *settings;       /* what PEFT and diffusers write into the metadata, or NULL */
};

static bool ends_with(const char *text, size_t length, const char *end)
{
    size_t n = strlen(end);
    return length >= n && !memcmp(text + length - n, end, n);
}

static void underscore(char *name)
{
    for (; *name; name++)
        if (*name == '.')
            *name = '_';
}

/* Replaces the end of a name, if it is that. */
static void replace_end(char name[NAME_BYTES], const char *from, const char *to)
{
    size_t length = strlen(name);
    if (ends_with(name, length, from) && length - strlen(from) + strlen(to) < NAME_BYTES)
        strcpy(name + length - strlen(from), to);
}

static const struct suffix *suffix_of(const char *key)
{
    size_t length = strlen(key);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
        if (ends_with(key, length, suffixes[i].text))
            return &suffixes[i];
    return NULL;
}

/* "unet.down.attn1.processor.to_out_lora.up.weight" is of "down_attn1_to_out_0". */
static bool name_module(const char *key, const struct suffix *suffix, struct module *m)
{
    m->component = UNET;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (!strncmp(key, prefixes[i].text, strlen(prefixes[i].text))) {
            m->component = prefixes[i].component;
            key += strlen(prefixes[i].text);
            break;
        }
    size_t length = strlen(key) - strlen(suffix->text);
    if (strlen(key) < strlen(suffix->text) || length >= NAME_BYTES - 8)
        return false;
    memcpy(m->name, key, length);
    m->name[length] = '\0';
    char *processor = strstr(m->name, ".processor.");
    if (processor)
        memmove(processor, processor + 10, strlen(processor + 10) + 1);
    underscore(m->name);
    replace_end(m->name, "_to_out", "_to_out_0");
    if (m->component != UNET) { /* attention of text encoders, as diffusers once spelled it */
        replace_end(m->name, "_to_q", "_q_proj");
        replace_end(m->name, "_to_k", "_k_proj");
        replace_end(m->name, "_to_v", "_v_proj");
        replace_end(m->name, "_to_out_0", "_out_proj");
    }
    return true;
}

static struct module *find_or_add(struct lora *l, const struct module *like)
{
    for (int i = 0; i < l->nmodules; i++)
        if (l->modules[i].component == like->component && !strcmp(l->modules[i].name, like->name))
            return &l->modules[i];
    l->modules[l->nmodules] = *like;
    return &l->modules[l->nmodules++];
}

static bool sgm_name(const char *name)
{
    return strstr(name, "input_blocks_") || strstr(name, "middle_block_") ||
           strstr(name, "output_blocks_");
}

static bool diffusers_name(const char *name)
{
    return strstr(name, "down_blocks_") || strstr(name, "mid_block_") || strstr(name, "up_blocks_");
}

/* Some files hold every change twice, in both namings: the sgm ones go, as diffusers has it. */
static void drop_twins(struct lora *l)
{
    bool diffusers = false;
    int kept = 0;

    for (int i = 0; i < l->nmodules; i++)
        diffusers |= l->modules[i].component == UNET && diffusers_name(l->modules[i].name);
    for (int i = 0; diffusers && i < l->nmodules; i++)
        if (l->modules[i].component != UNET || !sgm_name(l->modules[i].name))
            l->modules[kept++] = l->modules[i];
    if (diffusers)
        l->nmodules = kept;
}

static int read_modules(struct lora *l, styx_error *err)
{
    for (int i = 0; i < store_count(l->file); i++) {
        const struct entry *e = store_at(l->file, i);
        const struct suffix *suffix = suffix_of(e->name);
        struct module like = { .down = NULL };

        if (suffix && suffix->role == REFUSED)
            return fail(err, STYX_ERR_UNSUPPORTED, "%s: is a %s ('%s'), which is not supported",
                        lora_path(l), suffix->what, SHOW(e->name));
        if (!suffix || !name_module(e->name, suffix, &like)) {
            l->unknown[i] = 1;
            continue;
        }
        struct module *m = find_or_add(l, &like);
        *(suffix->role == DOWN ? &m->down : suffix->role == UP ? &m->up : &m->alpha) = e;
    }
    drop_twins(l);
    for (int i = 0; i < l->nmodules; i++)
        if (l->modules[i].down && l->modules[i].up)
            return STYX_OK;
    return fail(err, STYX_ERR_FORMAT, "%s: is no LoRA: it holds no pair of 'down' and 'up' tensors",
                lora_path(l));
}

static const json_t *setting(const struct lora *l, enum component component, const char *key)
{
    char full[64];
    snprintf(full, sizeof full, "%s.%s", components[component], key);
    return json_object_get(l->settings, full);
}

/* PEFT takes regular expressions for the names of modules; diffusers never writes one. */
static int check_patterns(const struct lora *l, styx_error *err)
{
    const char *pattern;
    json_t *value;
    for (int c = UNET; c <= TEXT_ENCODER_2; c++)
        json_object_foreach((json_t *)setting(l, (enum component)c, "alpha_pattern"), pattern,
                            value)
        {
            if (strpbrk(pattern, "^$*+?()[]{}|\\"))
                return fail(err, STYX_ERR_UNSUPPORTED,
                            "%s: alpha_pattern in its metadata has the regular expression '%s'; "
                            "names of modules were wanted",
                            lora_path(l), SHOW(pattern));
        }
    return STYX_OK;
}

int lora_open(const char *path, struct lora **out, styx_error *err)
{
    struct lora *l = calloc(1, sizeof *l);
    const char *settings;
    int rc;

    *out = NULL;
    if (!l)
        return fail_nomem(err, sizeof *l);
    if ((rc = store_open_file(path, &l->file, err)))
        goto done;
    size_t n = (size_t)store_count(l->file) + 1;
    l->modules = calloc(n, sizeof *l->modules);
    l->unknown = calloc(n, 1);
    if (!l->modules || !l->unknown) {
        rc = fail_nomem(err, n * sizeof *l->modules);
        goto done;
    }
    settings = store_metadata(l->file, "lora_adapter_metadata");
    if (settings && (rc = json_bytes(settings, strlen(settings), path, &l->settings, err)))
        goto done;
    if ((rc = check_patterns(l, err)) || (rc = read_modules(l, err)))
        goto done;
    *out = l;
    l = NULL;
done:
    lora_free(l);
    return rc;
}

void lora_free(struct lora *l)
{
    if (!l)
        return;
    store_unref(l->file);
    json_decref(l->settings);
    free(l->modules);
    free(l->unknown);
    free(l);
}

const char *lora_path(const struct lora *l)
{
    return store_path(l->file);
}

void lora_describe(const struct lora *l, struct lora_facts *facts)
{
    *facts = (struct lora_facts){ .least_rank = INT_MAX };
    for (int i = 0; i < l->nmodules; i++) {
        const struct module *m = &l->modules[i];
        if (!m->down || !m->up || m->down->dims < 2)
            continue;
        int rank = m->down->shape[0];
        facts->modules[m->component]++;
        facts->least_rank = rank < facts->least_rank ? rank : facts->least_rank;
        facts->most_rank = rank > facts->most_rank ? rank : facts->most_rank;
        if (m->component == UNET && strstr(m->name, "attn2_to_k"))
            facts->context = m->down->shape[1];
    }
    if (!facts->most_rank)
        facts->least_rank = 0;
}

/* ---- The scale of one module. ---- */

/* Is it that module, or one of that name in another? */
static bool ends_in_module(const char *name, const char *end)
{
    size_t length = strlen(name), n = strlen(end);
    return ends_with(name, length, end) && (length == n || name[length - n - 1] == '_');
}

/* The alpha that PEFT's config gives a module: the pattern that its name ends with, or the one for
 * all; or the rank. */
static double configured_alpha(const struct lora *l, const struct module *m, double rank)
{
    const json_t *patterns = setting(l, m->component, "alpha_pattern"), *value;
    const json_t *common = setting(l, m->component, "lora_alpha");
    const char *pattern;
    char name[NAME_BYTES];

    json_object_foreach((json_t *)patterns, pattern, value)
    {
        snprintf(name, sizeof name, "%s", pattern);
        underscore(name);
        if (json_is_number(value) && ends_in_module(m->name, name))
            return json_number_value(value);
    }
    return json_is_number(common) ? json_number_value(common) : rank;
}

static int read_alpha(const struct lora *l, const struct module *m, double rank, double *scale,
                      styx_error *err)
{
    struct span span;
    float value;

    double alpha = configured_alpha(l, m, rank);
    if (m->alpha) {
        int rc = store_span(l->file, m->alpha, &span, err);
        if (rc)
            return rc;
        if (m->alpha->count != 1)
            return fail(err, STYX_ERR_FORMAT, "%s: '%s' is no single number", lora_path(l),
                        SHOW(m->alpha->name));
        span_read(&span, 0, 1, &value);
        alpha = value;
    }
    /* rsLoRA (Kalajdzievski 2023, arXiv:2312.03732) divides by the root of the rank. */
    *scale = alpha / (json_is_true(setting(l, m->component, "use_rslora")) ? sqrt(rank) : rank);
    return STYX_OK;
}

/* ---- Which module of the base a name means. ---- */

struct known {
    char name[NAME_BYTES];
    const struct entry *weight;
};

struct known_list {
    struct known *names;
    int nnames;
};

static int by_known_name(const void *a, const void *b)
{
    return strcmp(((const struct known *)a)->name, ((const struct known *)b)->name);
}

/* name without its ".weight", in underscores. */
static void add_known(struct known_list *list, const char *name, const struct entry *e)
{
    struct known *k = &list->names[list->nnames++];
    snprintf(k->name, sizeof k->name, "%.*s", (int)(strlen(name) - strlen(".weight")), name);
    underscore(k->name);
    k->weight = e;
}

/* Every name that a module of the base goes by: the diffusers one, and the sgm one, or a text
 * encoder's with and without "text_model.". */
static int list_names(const struct store *base, enum component component, struct known_list *list,
                      styx_error *err)
{
    static const char flat[] = "text_model.";
    char other[NAME_BYTES];
    size_t n = 2 * (size_t)store_count(base) + 1;

    *list = (struct known_list){ calloc(n, sizeof *list->names), 0 };
    if (!list->names)
        return fail_nomem(err, n * sizeof *list->names);
    for (int i = 0; i < store_count(base); i++) {
        const struct entry *e = store_at(base, i);
        size_t length = strlen(e->name);
        if (e->dims < 2 || !e->count || length >= NAME_BYTES - sizeof flat ||
            !ends_with(e->name, length, ".weight"))
            continue;
        add_known(list, e->name, e);
        if (component == UNET) {
            if (name_to_single(base, "unet", e->name, other) && strcmp(other, e->name))
                add_known(list, other, e);
        } else if (!strncmp(e->name, flat, sizeof flat - 1)) {
            add_known(list, e->name + sizeof flat - 1, e);
        } else {
            snprintf(other, sizeof other, "%s%s", flat, e->name);
            add_known(list, other, e);
        }
    }
    if (list->nnames)
        qsort(list->names, (size_t)list->nnames, sizeof *list->names, by_known_name);
    return STYX_OK;
}

static const struct entry *look_up(const struct known_list *list, const char *name)
{
    struct known key;
    snprintf(key.name, sizeof key.name, "%s", name);
    const struct known *k =
        list->nnames ? bsearch(&key, list->names, (size_t)list->nnames, sizeof key, by_known_name)
                     : NULL;
    return k ? k->weight : NULL;
}

/* ---- Merging. ---- */

/* scale * up[rows, rank] @ down[rank, columns] */
struct factors {
    float *up, *down;
    size_t rank;
    float scale;
};

/* One tensor of the base being changed, row by row. */
struct merging {
    const struct span *base;
    const struct factors *factors;
    int nfactors;
    size_t rows, columns;
    enum dtype type;
    char *out;
    float *scratch; /* a row for each thread */
};

/* row[columns] += scale * up[rank] @ down[rank, columns]. Four rows of down at a time, so that the
 * sums stay in registers for longer. */
static inline __attribute__((always_inline)) void add_row(const struct factors *f, const float *up,
                                                          size_t columns, float *row)
{
    enum { BLOCK = 512 };
    float part[BLOCK];

    for (size_t from = 0; from < columns; from += BLOCK) {
        size_t n = columns - from < BLOCK ? columns - from : BLOCK, r = 0;
        const float *down = f->down + from;
        memset(part, 0, n * sizeof *part);
        for (; r + 4 <= f->rank; r += 4, down += 4 * columns) {
            const float *d1 = down + columns, *d2 = d1 + columns, *d3 = d2 + columns;
            for (size_t j = 0; j < n; j++)
                part[j] +=
                    up[r] * down[j] + up[r + 1] * d1[j] + up[r + 2] * d2[j] + up[r + 3] * d3[j];
        }
        for (; r < f->rank; r++, down += columns)
            for (size_t j = 0; j < n; j++)
                part[j] += up[r] * down[j];
        for (size_t j = 0; j < n; j++)
            row[from + j] += f->scale * part[j];
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void add_row_wide(const struct factors *f, const float *up,
                                                         size_t columns, float *row)
{
    add_row(f, up, columns, row);
}

static bool has_wide(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
static void add_row_wide(const struct factors *f, const float *up, size_t columns, float *row)
{
    add_row(f, up, columns, row);
}

static bool has_wide(void)
{
    return true;
}
#endif

enum { ROWS_A_JOB = 16 };

/* The same bytes for any CPU and any number of threads: no sum is split, nothing is contracted. */
static void merge_rows(void *ctx, int job, int thread)
{
    const struct merging *m = ctx;
    size_t row = (size_t)job * ROWS_A_JOB;
    size_t end = row + ROWS_A_JOB < m->rows ? row + ROWS_A_JOB : m->rows;
    float *values = m->scratch + (size_t)thread * m->columns;
    bool wide = has_wide();

    for (; row < end; row++) {
        span_read(m->base, row * m->columns, m->columns, values);
        for (int i = 0; i < m->nfactors; i++) {
            const struct factors *f = &m->factors[i];
            (wide ? add_row_wide : add_row)(f, f->up + row * f->rank, m->columns, values);
        }
        dtype_from_f32(m->type, values, m->out + row * m->columns * dtype_bytes(m->type),
                       m->columns);
    }
}

static float *read_all(struct store *s, const struct entry *e, int *rc, styx_error *err)
{
    struct span span;
    float *values = NULL;

    if ((*rc = store_span(s, e, &span, err)))
        return NULL;
    values = malloc(e->count * sizeof *values + 1);
    if (values)
        span_read(&span, 0, e->count, values);
    else
        *rc = fail_nomem(err, e->count * sizeof *values);
    return values;
}

/* What one module adds to e of [rows, columns]. Convolutions too: down is [r, in, k, k] and up
 * [out, r, 1, 1]. */
static int read_factors(const struct lora_use *use, struct module *m, const struct entry *e,
                        struct factors *f, styx_error *err)
{
    const struct lora *l = use->lora;
    size_t rows = (size_t)e->shape[0], columns = e->count / rows;
    double scale = 0;
    int rc;

    f->rank = m->down->dims > 0 ? (size_t)m->down->shape[0] : 0;
    if (!f->rank || m->down->count != f->rank * columns || m->up->count != rows * f->rank)
        return fail(err, STYX_ERR_FORMAT,
                    "%s: '%s' and its 'up' do not fit '%s' of [%zu, %zu]: the LoRA is for another "
                    "model",
                    lora_path(l), SHOW(m->down->name), SHOW(e->name), rows, columns);
    if ((rc = read_alpha(l, m, (double)f->rank, &scale, err)))
        return rc;
    f->scale = (float)(use->scale * scale);
    if ((f->down = read_all(l->file, m->down, &rc, err)))
        f->up = read_all(l->file, m->up, &rc, err);
    m->found = !rc;
    return rc;
}

/* The changed numbers of e, in new memory. */
static int merge_one(struct store *base, const struct entry *e, const struct factors *factors,
                     int nfactors, enum dtype type, struct pool *pool, char **out, styx_error *err)
{
    struct span span;
    struct merging m = { .base = &span,
                         .factors = factors,
                         .nfactors = nfactors,
                         .rows = (size_t)e->shape[0],
                         .columns = e->count / (size_t)e->shape[0],
                         .type = type };
    int rc = store_span(base, e, &span, err);

    if (rc)
        return rc;
    m.out = malloc(e->count * dtype_bytes(type));
    m.scratch = malloc((size_t)pool_threads(pool) * m.columns * sizeof *m.scratch);
    if (m.out && m.scratch)
        pool_run(pool, merge_rows, &m, (int)((m.rows + ROWS_A_JOB - 1) / ROWS_A_JOB));
    else
        rc = fail_nomem(err, e->count * dtype_bytes(type));
    free(m.scratch);
    if (rc)
        free(m.out);
    else
        *out = m.out;
    return rc;
}

/* Adds the changed tensor e of base to out, or e itself if no use changes it. */
static int add_merged(struct store *out, struct store *base, const struct entry *e,
                      struct module *const *changes, const struct lora_use *uses, int nuses,
                      enum dtype type, struct pool *pool, styx_error *err)
{
    struct factors *factors = calloc((size_t)nuses, sizeof *factors);
    struct entry merged = *e;
    char *data = NULL;
    int rc = factors ? STYX_OK : fail_nomem(err, (size_t)nuses * sizeof *factors), n = 0;

    for (int i = 0; !rc && i < nuses; i++)
        if (changes[i])
            rc = read_factors(&uses[i], changes[i], e, &factors[n++], err);
    if (!rc && n)
        rc = merge_one(base, e, factors, n, type, pool, &data, err);
    for (int i = 0; i < n; i++) {
        free(factors[i].up);
        free(factors[i].down);
    }
    free(factors);
    if (rc || !n)
        return rc ? rc : store_add(out, e, err);
    merged.span = (struct span){ .data = data, .type = type, .dims = e->dims };
    memcpy(merged.span.shape, e->shape, sizeof e->shape);
    merged.type = dtype_name(type);
    merged.bytes = e->count * dtype_bytes(type);
    merged.raw = data;
    if ((rc = store_keep(out, data, free, err)))
        return rc;
    return store_add(out, &merged, err);
}

/* changes[entry * nuses + use]: the module of that use which changes that entry. */
static int find_changes(const struct store *base, enum component component,
                        const struct lora_use *uses, int nuses, struct module ***changes,
                        int *nfound, styx_error *err)
{
    struct known_list list;
    size_t n = (size_t)store_count(base) * (size_t)nuses + 1;
    int rc = list_names(base, component, &list, err);

    *nfound = 0;
    if (rc)
        return rc;
    *changes = calloc(n, sizeof **changes);
    if (!*changes)
        rc = fail_nomem(err, n * sizeof **changes);
    for (int u = 0; !rc && u < nuses; u++)
        for (int i = 0; i < uses[u].lora->nmodules; i++) {
            struct module *m = &uses[u].lora->modules[i];
            const struct entry *e =
                m->component == component && m->down && m->up ? look_up(&list, m->name) : NULL;
            if (!e)
                continue;
            (*changes)[(size_t)store_index(base, e) * (size_t)nuses + (size_t)u] = m;
            ++*nfound;
        }
    free(list.names);
    return rc;
}

int lora_merge(struct store *base, const char *component, const struct lora_use *uses, int nuses,
               enum dtype type, int threads, struct store **out, styx_error *err)
{
    struct module **changes = NULL;
    struct store *s = NULL;
    struct pool *pool = NULL;
    int rc, nfound, c = 0;

    *out = NULL;
    while (c < 3 && strcmp(components[c], component))
        c++;
    if (c < 3)
        rc = find_changes(base, (enum component)c, uses, nuses, &changes, &nfound, err);
    else /* no LoRA changes a VAE */
        rc = nfound = 0;
    if (rc)
        goto done;
    if (!nfound) {
        *out = store_ref(base);
        goto done;
    }
    s = store_new(store_path(base));
    if (!s) {
        rc = fail_nomem(err, strlen(store_path(base)));
        goto done;
    }
    if ((rc = pool_new(threads, &pool, err)) || (rc = store_keep_store(s, base, err)))
        goto done;
    for (int i = 0; !rc && i < store_count(base); i++)
        rc = add_merged(s, base, store_at(base, i), changes + (size_t)i * (size_t)nuses, uses,
                        nuses, type, pool, err);
    store_forget_all(base);
    if (rc || (rc = store_seal(s, err)))
        goto done;
    *out = s;
    s = NULL;
done:
    store_unref(s);
    pool_free(pool);
    free(changes);
    return rc;
}

int lora_unmatched(const struct lora *l, char **text, int *nkeys, styx_error *err)
{
    struct buffer lines = { 0 };

    *text = NULL;
    *nkeys = 0;
    for (int i = 0; i < store_count(l->file); i++)
        if (l->unknown[i] && ++*nkeys)
            buffer_printf(&lines, "%s\n", SHOW(store_at(l->file, i)->name));
    for (int i = 0; i < l->nmodules; i++) {
        const struct module *m = &l->modules[i];
        const struct entry *const entries[] = { m->down, m->up, m->alpha };
        for (int k = 0; !m->found && k < 3; k++)
            if (entries[k] && ++*nkeys)
                buffer_printf(&lines, "%s\n", SHOW(entries[k]->name));
    }
    return *nkeys ? buffer_take_text(&lines, text, err) : STYX_OK;
}
