#include "weights/names.h"

#include <stdio.h>
#include <stdlib.h>

/* Modules within a block. */
struct inner {
    const char *theirs, *ours;
};

static const struct inner unet_resnet[] = {
    { "in_layers.0", "norm1" },
    { "in_layers.2", "conv1" },
    { "emb_layers.1", "time_emb_proj" },
    { "out_layers.0", "norm2" },
    { "out_layers.3", "conv2" },
    { "skip_connection", "conv_shortcut" },
    { NULL, NULL },
};

static const struct inner vae_resnet[] = { { "nin_shortcut", "conv_shortcut" }, { NULL, NULL } };

static const struct inner vae_attention[] = {
    { "norm", "group_norm" },   { "q", "to_q" }, { "k", "to_k" }, { "v", "to_v" },
    { "proj_out", "to_out.0" }, { NULL, NULL },
};

/* {a} and {b} are block and layer as diffusers counts them. Their single-file counterparts are
 *     {i} = 1 + 3a + b   input blocks: conv_in is block 0, and each level has 2 layers and a
 *                        downsampler
 *     {o} = 3a + b       output blocks: 3 layers a level
 *     {r} = levels-1-a   the VAE's decoder, which they count from the picture's end.
 * '*' is the rest of the name. */
struct rule {
    const char *theirs, *ours;
    const struct inner *inner; /* for the rest */
    int b;                     /* {b} where no pattern tells it */
    enum { ANY, WITH_ATTENTION, WITHOUT_ATTENTION } only;
    enum { PLAIN, SPLIT, TRANSPOSE } how; /* rows q|k|v of a fused projection; a matrix x @ P */
};

#define MAP(from, to, ...)                                                                         \
    {                                                                                              \
        .theirs = from, .ours = to, __VA_ARGS__                                                    \
    }

static const struct rule unet_rules[] = {
    MAP("time_embed.0.*", "time_embedding.linear_1.*"),
    MAP("time_embed.2.*", "time_embedding.linear_2.*"),
    MAP("label_emb.0.0.*", "add_embedding.linear_1.*"),
    MAP("label_emb.0.2.*", "add_embedding.linear_2.*"),
    MAP("input_blocks.0.0.*", "conv_in.*"),
    MAP("input_blocks.{i}.0.op.*", "down_blocks.{a}.downsamplers.0.conv.*", .b = 2),
    MAP("input_blocks.{i}.0.*", "down_blocks.{a}.resnets.{b}.*", .inner = unet_resnet),
    MAP("input_blocks.{i}.1.*", "down_blocks.{a}.attentions.{b}.*"),
    MAP("middle_block.0.*", "mid_block.resnets.0.*", .inner = unet_resnet),
    MAP("middle_block.1.*", "mid_block.attentions.0.*"),
    MAP("middle_block.2.*", "mid_block.resnets.1.*", .inner = unet_resnet),
    MAP("output_blocks.{o}.1.conv.*", "up_blocks.{a}.upsamplers.0.conv.*", .b = 2,
        .only = WITHOUT_ATTENTION),
    MAP("output_blocks.{o}.2.conv.*", "up_blocks.{a}.upsamplers.0.conv.*", .b = 2,
        .only = WITH_ATTENTION),
    MAP("output_blocks.{o}.0.*", "up_blocks.{a}.resnets.{b}.*", .inner = unet_resnet),
    MAP("output_blocks.{o}.1.*", "up_blocks.{a}.attentions.{b}.*"),
    MAP("out.0.*", "conv_norm_out.*"),
    MAP("out.2.*", "conv_out.*"),
    { .theirs = NULL },
};

static const struct rule vae_rules[] = {
    MAP("encoder.down.{a}.block.{b}.*", "encoder.down_blocks.{a}.resnets.{b}.*",
        .inner = vae_resnet),
    MAP("encoder.down.{a}.downsample.conv.*", "encoder.down_blocks.{a}.downsamplers.0.conv.*"),
    MAP("encoder.mid.block_1.*", "encoder.mid_block.resnets.0.*", .inner = vae_resnet),
    MAP("encoder.mid.block_2.*", "encoder.mid_block.resnets.1.*", .inner = vae_resnet),
    MAP("encoder.mid.attn_1.*", "encoder.mid_block.attentions.0.*", .inner = vae_attention),
    MAP("encoder.norm_out.*", "encoder.conv_norm_out.*"),
    MAP("decoder.up.{r}.block.{b}.*", "decoder.up_blocks.{a}.resnets.{b}.*", .inner = vae_resnet),
    MAP("decoder.up.{r}.upsample.conv.*", "decoder.up_blocks.{a}.upsamplers.0.conv.*"),
    MAP("decoder.mid.block_1.*", "decoder.mid_block.resnets.0.*", .inner = vae_resnet),
    MAP("decoder.mid.block_2.*", "decoder.mid_block.resnets.1.*", .inner = vae_resnet),
    MAP("decoder.mid.attn_1.*", "decoder.mid_block.attentions.0.*", .inner = vae_attention),
    MAP("decoder.norm_out.*", "decoder.conv_norm_out.*"),
    { .theirs = NULL },
};

#define OURS "text_model.encoder.layers.{a}."
#define THEIRS "transformer.resblocks.{a}."
static const struct rule openclip_rules[] = {
    MAP("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    MAP("token_embedding.*", "text_model.embeddings.token_embedding.*"),
    MAP(THEIRS "ln_1.*", OURS "layer_norm1.*"),
    MAP(THEIRS "ln_2.*", OURS "layer_norm2.*"),
    MAP(THEIRS "attn.in_proj_weight", OURS "self_attn.q_proj.weight", .how = SPLIT),
    MAP(THEIRS "attn.in_proj_bias", OURS "self_attn.q_proj.bias", .how = SPLIT),
    MAP(THEIRS "attn.out_proj.*", OURS "self_attn.out_proj.*"),
    MAP(THEIRS "mlp.c_fc.*", OURS "mlp.fc1.*"),
    MAP(THEIRS "mlp.c_proj.*", OURS "mlp.fc2.*"),
    MAP("ln_final.*", "text_model.final_layer_norm.*"),
    MAP("text_projection", "text_projection.weight", .how = TRANSPOSE),
    { .theirs = NULL },
};
#undef OURS
#undef THEIRS

static const struct rule same_names[] = { { .theirs = NULL } };
#undef MAP

/* Where a component lies in a file: the first row whose probe is there. */
static const struct place {
    const char *component, *prefix, *probe;
    const struct rule *rules;
} places[] = {
    { "unet", "model.diffusion_model.", "model.diffusion_model.input_blocks.0.0.", unet_rules },
    { "unet", "", "input_blocks.0.0.", unet_rules },
    { "unet", "", "conv_in.", same_names },
    { "vae", "first_stage_model.", "first_stage_model.decoder.", vae_rules },
    { "vae", "", "decoder.up.0.", vae_rules },
    { "vae", "", "decoder.up_blocks.0.", same_names },
    { "text_encoder", "cond_stage_model.transformer.", "cond_stage_model.transformer.",
      same_names },
    { "text_encoder", "conditioner.embedders.0.transformer.",
      "conditioner.embedders.0.transformer.", same_names },
    { "text_encoder", "cond_stage_model.model.", "cond_stage_model.model.transformer.",
      openclip_rules },
    { "text_encoder", "", "text_model.encoder.", same_names },
    { "text_encoder_2", "conditioner.embedders.1.model.",
      "conditioner.embedders.1.model.transformer.", openclip_rules },
    { "text_encoder_2", "conditioner.embedders.0.model.",
      "conditioner.embedders.0.model.transformer.", openclip_rules },
    { "text_encoder_2", "", "text_model.encoder.", same_names },
};

/* ---- Applying a rule, in either direction. ---- */

struct match {
    int a, b, levels;
    const char *rest;
};

static bool read_index(struct match *m, char letter, int value)
{
    switch (letter) {
    case 'a':
        m->a = value;
        return true;
    case 'b':
        m->b = value;
        return true;
    case 'i':
        m->a = (value - 1) / 3;
        m->b = (value - 1) % 3;
        return value > 0;
    case 'o':
        m->a = value / 3;
        m->b = value % 3;
        return true;
    default:
        m->a = m->levels - 1 - value;
        return m->a >= 0;
    }
}

static int write_index(const struct match *m, char letter)
{
    switch (letter) {
    case 'a':
        return m->a;
    case 'b':
        return m->b;
    case 'i':
        return 1 + 3 * m->a + m->b;
    case 'o':
        return 3 * m->a + m->b;
    default:
        return m->levels - 1 - m->a;
    }
}

static bool matches(const char *pattern, const char *name, struct match *m)
{
    for (; *pattern; pattern++) {
        if (*pattern == '*') {
            m->rest = name;
            return true;
        }
        if (*pattern != '{') {
            if (*pattern != *name++)
                return false;
            continue;
        }
        int value = 0, digits = 0;
        for (; name[digits] >= '0' && name[digits] <= '9' && digits < 6; digits++)
            value = 10 * value + name[digits] - '0';
        if (!digits || !read_index(m, pattern[1], value))
            return false;
        name += digits;
        pattern += 2;
    }
    return !*name;
}

/* The rest of a name with its module renamed. */
static void rename_rest(const struct inner *inner, bool to_ours, const char *rest,
                        char out[NAME_BYTES])
{
    for (; inner && inner->theirs; inner++) {
        const char *from = to_ours ? inner->theirs : inner->ours;
        const char *to = to_ours ? inner->ours : inner->theirs;
        size_t n = strlen(from);
        if (!strncmp(rest, from, n) && (rest[n] == '.' || !rest[n])) {
            snprintf(out, NAME_BYTES, "%s%s", to, rest + n);
            return;
        }
    }
    snprintf(out, NAME_BYTES, "%s", rest);
}

static bool fill(const char *pattern, const struct match *m, const char *rest, char out[NAME_BYTES])
{
    size_t n = 0;
    for (; *pattern && n < NAME_BYTES; pattern++) {
        if (*pattern == '*') {
            n += (size_t)snprintf(out + n, NAME_BYTES - n, "%s", rest);
        } else if (*pattern == '{') {
            n += (size_t)snprintf(out + n, NAME_BYTES - n, "%d", write_index(m, pattern[1]));
            pattern += 2;
        } else {
            out[n++] = *pattern;
        }
    }
    if (n >= NAME_BYTES)
        return false;
    out[n] = '\0';
    return true;
}

/* Renames by one rule. What no pattern tells stays -1, but for the rule's own b. */
static bool apply(const struct rule *rule, bool to_ours, int levels, const char *name,
                  char out[NAME_BYTES], struct match *m)
{
    char rest[NAME_BYTES];

    *m = (struct match){ -1, -1, levels, "" };
    if (!matches(to_ours ? rule->theirs : rule->ours, name, m))
        return false;
    if (rule->b && m->b < 0)
        m->b = rule->b;
    if (rule->b && m->b != rule->b)
        return false;
    rename_rest(rule->inner, to_ours, m->rest, rest);
    return fill(to_ours ? rule->ours : rule->theirs, m, rest, out);
}

static int count_levels(const struct store *s, const char *prefix, const char *pattern)
{
    char name[NAME_BYTES];
    int n = 0;
    do
        snprintf(name, sizeof name, "%s%s%d.", prefix, pattern, n);
    while (store_has_prefix(s, name) && ++n < 100);
    return n;
}

/* ---- The view. ---- */

/* The VAE's attention is 1x1 convolutions there, matrices here. */
static int add_renamed(struct store *view, const struct entry *e, const char *name, styx_error *err)
{
    struct entry renamed = *e;
    renamed.name = name;
    if (strstr(name, "coder.mid_block.attentions.0.to_") && e->dims == 4 && e->shape[2] == 1 &&
        e->shape[3] == 1)
        renamed.dims = renamed.span.dims = 2;
    return store_add(view, &renamed, err);
}

/* Rows [part/3, (part+1)/3) of a fused projection, where they lie. */
static int add_split(struct store *view, const struct entry *e, const char *q_name, styx_error *err)
{
    int rc = STYX_OK, rows = e->dims > 0 ? e->shape[0] / 3 : 0;
    char name[NAME_BYTES];

    if (e->dims < 1 || e->shape[0] % 3 || e->bytes % 3)
        return fail(err, STYX_ERR_FORMAT, "%s: tensor '%s' is no stack of queries, keys and values",
                    store_path(view), SHOW(e->name));
    for (int part = 0; !rc && part < 3; part++) {
        struct entry third = *e;
        size_t skip = e->bytes / 3 * (size_t)part;
        strcpy(name, q_name);
        *strstr(name, "q_proj") = "qkv"[part];
        third.name = name;
        third.shape[0] = third.span.shape[0] = rows;
        third.count /= 3;
        third.bytes /= 3;
        third.raw = (const char *)e->raw + skip;
        if (e->span.data)
            third.span.data = (const char *)e->span.data + skip;
        if (e->span.scale)
            third.span.scale += (size_t)(part * rows) * (size_t)e->span.groups;
        rc = store_add(view, &third, err);
    }
    return rc;
}

static int add_transposed(struct store *view, struct store *file, const struct entry *e,
                          const char *name, styx_error *err)
{
    struct span from;
    int rc = store_span(file, e, &from, err);

    if (rc)
        return rc;
    if (e->dims != 2)
        return fail(err, STYX_ERR_FORMAT, "%s: tensor '%s' is no matrix", store_path(view),
                    SHOW(e->name));
    size_t rows = (size_t)e->shape[0], columns = (size_t)e->shape[1], n = rows * columns;
    enum dtype type = from.type == DT_F16 || from.type == DT_BF16 ? from.type : DT_F32;
    float *a = malloc(n * 4 + 1), *b = malloc(n * 4 + 1);
    if (!a || !b) {
        free(a);
        free(b);
        return fail_nomem(err, n * 8);
    }
    span_read(&from, 0, n, a);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            b[j * rows + i] = a[i * columns + j];
    dtype_from_f32(type, b, a, n);
    free(b);

    struct entry t = { .name = name,
                       .type = dtype_name(type),
                       .dims = 2,
                       .shape = { e->shape[1], e->shape[0] },
                       .count = n,
                       .bytes = n * dtype_bytes(type),
                       .raw = a };
    t.span = (struct span){ .data = a, .type = type, .dims = 2 };
    memcpy(t.span.shape, t.shape, sizeof t.shape);
    if ((rc = store_keep(view, a, free, err)))
        return rc;
    return store_add(view, &t, err);
}

static int add_entry(struct store *view, struct store *file, const struct place *at, int levels,
                     const struct entry *e, styx_error *err)
{
    const char *theirs = e->name + strlen(at->prefix);
    char ours[NAME_BYTES];
    struct match m;

    for (const struct rule *rule = at->rules; rule->theirs; rule++) {
        if (!apply(rule, true, levels, theirs, ours, &m))
            continue;
        if (rule->how == SPLIT)
            return add_split(view, e, ours, err);
        if (rule->how == TRANSPOSE)
            return add_transposed(view, file, e, ours, err);
        return add_renamed(view, e, ours, err);
    }
    return add_renamed(view, e, theirs, err);
}

static const struct place *find_place(const struct store *file, const char *component)
{
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (!strcmp(places[i].component, component) && store_has_prefix(file, places[i].probe))
            return &places[i];
    return NULL;
}

bool single_file_has(const struct store *file, const char *component)
{
    return find_place(file, component) != NULL;
}

/* "FILE (unet)", so that messages tell where in the file they are. */
static struct store *new_view(const struct store *file, const char *component)
{
    size_t bytes = strlen(store_path(file)) + strlen(component) + 4;
    char *path = malloc(bytes);
    struct store *view = NULL;
    if (path) {
        snprintf(path, bytes, "%s (%s)", store_path(file), component);
        view = store_new(path);
    }
    free(path);
    return view;
}

int single_file_component(struct store *file, const char *component, struct store **view,
                          styx_error *err)
{
    const struct place *at = find_place(file, component);
    const char *key, *value;
    int rc = STYX_OK;

    *view = NULL;
    if (!at)
        return fail(err, STYX_ERR_FORMAT, "%s: holds no %s", store_path(file), component);
    struct store *s = new_view(file, component);
    if (!s)
        return fail_nomem(err, strlen(store_path(file)));
    if ((rc = store_keep_store(s, file, err)))
        goto done;
    int levels = count_levels(file, at->prefix, "decoder.up.");
    for (int i = 0; !rc && i < store_count(file); i++) {
        const struct entry *e = store_at(file, i);
        if (!e->companion && !strncmp(e->name, at->prefix, strlen(at->prefix)))
            rc = add_entry(s, file, at, levels, e, err);
    }
    for (int i = 0; !rc && store_metadata_at(file, i, &key, &value); i++)
        rc = store_set_metadata(s, key, value, err);
    if (rc || (rc = store_seal(s, err)))
        goto done;
    *view = s;
    s = NULL;
done:
    store_unref(s);
    return rc;
}

enum name_form name_to_single(const struct store *weights, const char *component, const char *ours,
                              char theirs[NAME_BYTES])
{
    static const enum name_form forms[] = {
        [PLAIN] = NAME_SAME, [SPLIT] = NAME_FUSED, [TRANSPOSE] = NAME_TRANSPOSED
    };
    const struct rule *rule = !strcmp(component, "unet")  ? unet_rules
                              : !strcmp(component, "vae") ? vae_rules
                                                          : openclip_rules;
    int levels = count_levels(weights, "", "decoder.up_blocks.");
    char block[64];
    struct match m;

    if (rule == openclip_rules &&
        (strstr(ours, ".self_attn.k_proj.") || strstr(ours, ".self_attn.v_proj.")))
        return NAME_NONE;
    for (; rule->theirs; rule++) {
        if (!apply(rule, false, levels, ours, theirs, &m))
            continue;
        snprintf(block, sizeof block, "up_blocks.%d.attentions.", m.a);
        if (rule->only == ANY || (rule->only == WITH_ATTENTION) == store_has_prefix(weights, block))
            return forms[rule->how];
    }
    snprintf(theirs, NAME_BYTES, "%s", ours);
    return strlen(ours) < NAME_BYTES ? NAME_SAME : NAME_NONE;
}

/* ---- What a file is. ---- */

static int length_of(const struct store *s, const char *prefix, const char *name, int dimension)
{
    char full[NAME_BYTES];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const struct entry *e = store_find(s, full);
    return e && e->dims > dimension ? e->shape[dimension] : 0;
}

enum single_file single_file_kind(const struct store *file)
{
    const struct place *unet = find_place(file, "unet");
    if (!unet || unet->rules != unet_rules)
        return SINGLE_UNKNOWN;
    bool inpaint = length_of(file, unet->prefix, "input_blocks.0.0.weight", 1) == 9;
    /* The width of the text, for a file without its encoders. */
    int width =
        length_of(file, unet->prefix, "middle_block.1.transformer_blocks.0.attn2.to_k.weight", 1);

    if (store_has_prefix(file, "conditioner.embedders.1.model.transformer.resblocks."))
        return inpaint ? SINGLE_SDXL_INPAINT : SINGLE_SDXL;
    if (store_has_prefix(file, "conditioner.embedders.0.model.transformer.resblocks."))
        return SINGLE_REFINER;
    if (store_has_prefix(file, "cond_stage_model.model.transformer.resblocks."))
        return SINGLE_SD2;
    if (store_has_prefix(file, "cond_stage_model.transformer."))
        return inpaint ? SINGLE_SD15_INPAINT : SINGLE_SD15;
    switch (width) {
    case 768:
        return inpaint ? SINGLE_SD15_INPAINT : SINGLE_SD15;
    case 1024:
        return SINGLE_SD2;
    case 1280:
        return SINGLE_REFINER;
    case 2048:
        return inpaint ? SINGLE_SDXL_INPAINT : SINGLE_SDXL;
    default:
        return SINGLE_UNKNOWN;
    }
}

const char *single_file_name(enum single_file kind)
{
    static const char *const names[] = {
        "unknown", "SD 1.x",          "SD 1.x inpainting", "SD 2.x",
        "SDXL",    "SDXL inpainting", "SDXL refiner",
    };
    return names[kind];
}
