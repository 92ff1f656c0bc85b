/* weights/names: both dialects of names, generated side by side by walking the networks as their
 * authors build them, and single files made of them. */
#include "weights/names.h"

#include "weights/convert.h"
#include "weights_file.h"

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Pairs of names. The tensor of pair i is F32 of [rows, 2] and holds i, i + 0.5, i, ... */
static struct {
    char theirs[128], ours[128];
    int rows;
} pairs[4000];
static int npairs;

static void pair(int rows, const char *theirs, const char *ours, const char *prefix,
                 const char *their_rest, const char *our_rest)
{
    snprintf(pairs[npairs].theirs, sizeof pairs->theirs, "%s%s%s", prefix, theirs, their_rest);
    snprintf(pairs[npairs].ours, sizeof pairs->ours, "%s%s", ours, our_rest);
    pairs[npairs++].rows = rows;
}

static const char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static const char *format(const char *fmt, ...)
{
    static char texts[8][128];
    static int next;
    char *text = texts[next++ % 8];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof texts[0], fmt, ap);
    va_end(ap);
    return text;
}

static void unet_resnet(const char *prefix, const char *theirs, const char *ours, bool shortcut)
{
    const char *const inner[][2] = {
        { "in_layers.0.weight", "norm1.weight" },
        { "in_layers.2.weight", "conv1.weight" },
        { "emb_layers.1.bias", "time_emb_proj.bias" },
        { "out_layers.0.bias", "norm2.bias" },
        { "out_layers.3.weight", "conv2.weight" },
        { "skip_connection.weight", "conv_shortcut.weight" },
    };
    for (int i = 0; i < 5 + shortcut; i++)
        pair(1, theirs, ours, prefix, inner[i][0], inner[i][1]);
}

static void unet_attention(const char *prefix, const char *theirs, const char *ours)
{
    const char *const inner[] = { "norm.weight", "proj_in.weight",
                                  "transformer_blocks.0.attn1.to_out.0.bias",
                                  "transformer_blocks.1.ff.net.0.proj.weight" };
    for (int i = 0; i < 4; i++)
        pair(1, theirs, ours, prefix, inner[i], inner[i]);
}

/* openaimodel.py appends blocks one after the other; diffusers names them by level. */
static void unet(const char *prefix, const char *attention, bool label)
{
    int levels = (int)strlen(attention), block = 1;

    pair(1, "time_embed.0", "time_embedding.linear_1", prefix, ".weight", ".weight");
    pair(1, "time_embed.2", "time_embedding.linear_2", prefix, ".bias", ".bias");
    if (label) {
        pair(1, "label_emb.0.0", "add_embedding.linear_1", prefix, ".weight", ".weight");
        pair(1, "label_emb.0.2", "add_embedding.linear_2", prefix, ".bias", ".bias");
    }
    pair(1, "input_blocks.0.0", "conv_in", prefix, ".weight", ".weight");
    for (int level = 0; level < levels; level++) {
        for (int layer = 0; layer < 2; layer++, block++) {
            unet_resnet(prefix, format("input_blocks.%d.0.", block),
                        format("down_blocks.%d.resnets.%d.", level, layer), level && !layer);
            if (attention[level] == 'X')
                unet_attention(prefix, format("input_blocks.%d.1.", block),
                               format("down_blocks.%d.attentions.%d.", level, layer));
        }
        if (level < levels - 1)
            pair(1, format("input_blocks.%d.0.op", block++),
                 format("down_blocks.%d.downsamplers.0.conv", level), prefix, ".weight", ".weight");
    }
    unet_resnet(prefix, "middle_block.0.", "mid_block.resnets.0.", false);
    unet_attention(prefix, "middle_block.1.", "mid_block.attentions.0.");
    unet_resnet(prefix, "middle_block.2.", "mid_block.resnets.1.", false);
    block = 0;
    for (int level = 0; level < levels; level++)
        for (int layer = 0; layer < 3; layer++, block++) {
            bool with = attention[levels - 1 - level] == 'X';
            unet_resnet(prefix, format("output_blocks.%d.0.", block),
                        format("up_blocks.%d.resnets.%d.", level, layer), true);
            if (with)
                unet_attention(prefix, format("output_blocks.%d.1.", block),
                               format("up_blocks.%d.attentions.%d.", level, layer));
            if (layer == 2 && level < levels - 1)
                pair(1, format("output_blocks.%d.%d.conv", block, with ? 2 : 1),
                     format("up_blocks.%d.upsamplers.0.conv", level), prefix, ".bias", ".bias");
        }
    pair(1, "out.0", "conv_norm_out", prefix, ".weight", ".weight");
    pair(1, "out.2", "conv_out", prefix, ".bias", ".bias");
}

static void vae_resnet(const char *prefix, const char *theirs, const char *ours)
{
    pair(1, theirs, ours, prefix, "norm1.weight", "norm1.weight");
    pair(1, theirs, ours, prefix, "conv2.bias", "conv2.bias");
    pair(1, theirs, ours, prefix, "nin_shortcut.weight", "conv_shortcut.weight");
}

static void vae(const char *prefix, int levels)
{
    const char *const sides[] = { "encoder", "decoder" };
    const char *const inner[][2] = { { "norm.bias", "group_norm.bias" },
                                     { "q.weight", "to_q.weight" },
                                     { "k.weight", "to_k.weight" },
                                     { "v.bias", "to_v.bias" },
                                     { "proj_out.weight", "to_out.0.weight" } };
    for (int i = 0; i < levels; i++) {
        for (int j = 0; j < 2; j++)
            vae_resnet(prefix, format("encoder.down.%d.block.%d.", i, j),
                       format("encoder.down_blocks.%d.resnets.%d.", i, j));
        for (int j = 0; j < 3; j++)
            vae_resnet(prefix, format("decoder.up.%d.block.%d.", i, j),
                       format("decoder.up_blocks.%d.resnets.%d.", levels - 1 - i, j));
    }
    for (int i = 0; i < levels - 1; i++) {
        pair(1, format("encoder.down.%d.downsample.conv", i),
             format("encoder.down_blocks.%d.downsamplers.0.conv", i), prefix, ".weight", ".weight");
        pair(1, format("decoder.up.%d.upsample.conv", i + 1),
             format("decoder.up_blocks.%d.upsamplers.0.conv", levels - 2 - i), prefix, ".weight",
             ".weight");
    }
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < 2; i++)
            vae_resnet(prefix, format("%s.mid.block_%d.", sides[side], i + 1),
                       format("%s.mid_block.resnets.%d.", sides[side], i));
        for (int i = 0; i < 5; i++)
            pair(1, format("%s.mid.attn_1.", sides[side]),
                 format("%s.mid_block.attentions.0.", sides[side]), prefix, inner[i][0],
                 inner[i][1]);
        pair(1, format("%s.norm_out", sides[side]), format("%s.conv_norm_out", sides[side]), prefix,
             ".weight", ".weight");
        pair(1, format("%s.conv_in", sides[side]), format("%s.conv_in", sides[side]), prefix,
             ".weight", ".weight");
    }
    pair(1, "post_quant_conv", "post_quant_conv", prefix, ".bias", ".bias");
}

static void clip(const char *prefix)
{
    pair(1, "text_model.embeddings.", "text_model.embeddings.", prefix, "token_embedding.weight",
         "token_embedding.weight");
    for (int i = 0; i < 2; i++)
        pair(1, format("text_model.encoder.layers.%d.", i),
             format("text_model.encoder.layers.%d.", i), prefix, "self_attn.q_proj.bias",
             "self_attn.q_proj.bias");
}

static void openclip(const char *prefix)
{
    const char *const inner[][2] = {
        { "ln_1.weight", "layer_norm1.weight" },
        { "ln_2.bias", "layer_norm2.bias" },
        { "mlp.c_fc.weight", "mlp.fc1.weight" },
        { "mlp.c_proj.bias", "mlp.fc2.bias" },
        { "attn.out_proj.weight", "self_attn.out_proj.weight" },
    };
    pair(1, "positional_embedding", "text_model.embeddings.position_embedding.weight", prefix, "",
         "");
    pair(1, "token_embedding", "text_model.embeddings.token_embedding", prefix, ".weight",
         ".weight");
    pair(1, "ln_final", "text_model.final_layer_norm", prefix, ".bias", ".bias");
    pair(2, "text_projection", "text_projection.weight", prefix, "", "");
    pair(1, "logit_scale", "logit_scale", prefix, "", "");
    for (int i = 0; i < 12; i++) {
        const char *theirs = format("transformer.resblocks.%d.", i);
        const char *ours = format("text_model.encoder.layers.%d.", i);
        for (int j = 0; j < 5; j++)
            pair(1, theirs, ours, prefix, inner[j][0], inner[j][1]);
        pair(3, theirs, ours, prefix, "attn.in_proj_weight", "self_attn.?_proj.weight");
    }
}

static const char *folder;

static int make_folder(void **state)
{
    (void)state;
    folder = test_folder();
    npairs = 0;
    return !folder;
}

static int drop_folder(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

/* All pairs as one file, under their names. */
static struct store *write_pairs(void)
{
    char *header = malloc(1 << 20);
    float *data = malloc(1 << 20);
    size_t h = 0, n = 0;
    struct store *s = NULL;
    styx_error err = { 0 };

    for (int i = 0; i < npairs; i++) {
        size_t count = (size_t)pairs[i].rows * 2;
        h += (size_t)sprintf(header + h,
                             "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[%d,2],"
                             "\"data_offsets\":[%zu,%zu]}",
                             i ? ',' : '{', pairs[i].theirs, pairs[i].rows, n * 4, (n + count) * 4);
        for (size_t j = 0; j < count; j++)
            data[n++] = (float)i + 0.5f * (float)(j % 2) + 0.25f * (float)(j / 2);
    }
    strcpy(header + h, "}");
    write_safetensors(in_folder(folder, "one.safetensors"), header, -1, data, n * 4);
    if (store_open_file(in_folder(folder, "one.safetensors"), &s, &err))
        print_error("%s\n", err.text);
    assert_non_null(s);
    free(header);
    free(data);
    return s;
}

static void check_values(struct store *view, const char *name, float a, float b)
{
    struct span span;
    float got[2];
    const struct entry *e = store_find(view, name);
    if (!e)
        print_error("no %s\n", name);
    assert_non_null(e);
    assert_int_equal(store_span(view, e, &span, NULL), STYX_OK);
    span_read(&span, 0, 2, got);
    if (got[0] != a || got[1] != b)
        print_error("%s holds %g %g instead of %g %g\n", name, got[0], got[1], a, b);
    assert_true(got[0] == a && got[1] == b);
}

/* The view of pairs [from, to) has exactly our names, with the right numbers. */
static void check_view(struct store *file, const char *component, int from, int to)
{
    struct store *view = NULL;
    styx_error err = { 0 };
    int tensors = 0;

    assert_true(single_file_has(file, component));
    if (single_file_component(file, component, &view, &err))
        print_error("%s\n", err.text);
    assert_non_null(view);
    for (int i = from; i < to; i++) {
        char *split = strstr(pairs[i].ours, "?");
        for (int part = 0; part < (split ? 3 : 1); part++, tensors++) {
            float first = (float)i + 0.25f * (float)part;
            if (split)
                *split = "qkv"[part];
            if (strcmp(pairs[i].ours, "text_projection.weight"))
                check_values(view, pairs[i].ours, first, first + 0.5f);
            else /* transposed: the first column of [2, 2] */
                check_values(view, pairs[i].ours, first, first + 0.25f);
        }
    }
    assert_int_equal(store_count(view), tensors);
    store_unref(view);
}

static void sd15(void **state)
{
    (void)state;
    unet("model.diffusion_model.", "XXXD", false);
    int vae_at = npairs;
    vae("first_stage_model.", 4);
    int text_at = npairs;
    clip("cond_stage_model.transformer.");
    int end = npairs;
    pair(1, "model_ema.decay", "", "", "", "");
    struct store *s = write_pairs(), *view;
    styx_error err;
    assert_int_equal(single_file_kind(s), SINGLE_SD15);
    check_view(s, "unet", 0, vae_at);
    check_view(s, "vae", vae_at, text_at);
    check_view(s, "text_encoder", text_at, end);
    assert_false(single_file_has(s, "text_encoder_2"));
    assert_int_equal(single_file_component(s, "text_encoder_2", &view, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "one.safetensors: holds no text_encoder_2"));
    store_unref(s);
}

static void sdxl(void **state)
{
    (void)state;
    unet("model.diffusion_model.", "DXX", true);
    int vae_at = npairs;
    vae("first_stage_model.", 4);
    int text_at = npairs;
    clip("conditioner.embedders.0.transformer.");
    int text2_at = npairs;
    openclip("conditioner.embedders.1.model.");
    struct store *s = write_pairs();
    assert_int_equal(single_file_kind(s), SINGLE_SDXL);
    check_view(s, "unet", 0, vae_at);
    check_view(s, "vae", vae_at, text_at);
    check_view(s, "text_encoder", text_at, text2_at);
    check_view(s, "text_encoder_2", text2_at, npairs);
    store_unref(s);
}

static void refiner(void **state)
{
    (void)state;
    unet("model.diffusion_model.", "DXXD", true);
    int text_at = npairs;
    openclip("conditioner.embedders.0.model.");
    struct store *s = write_pairs();
    assert_int_equal(single_file_kind(s), SINGLE_REFINER);
    check_view(s, "unet", 0, text_at);
    check_view(s, "text_encoder_2", text_at, npairs);
    assert_false(single_file_has(s, "text_encoder"));
    assert_false(single_file_has(s, "vae"));
    store_unref(s);
}

static void sd2_and_bare_components(void **state)
{
    (void)state;
    unet("model.diffusion_model.", "XXXD", false);
    int text_at = npairs;
    openclip("cond_stage_model.model.");
    struct store *s = write_pairs();
    assert_int_equal(single_file_kind(s), SINGLE_SD2);
    check_view(s, "text_encoder", text_at, npairs);
    store_unref(s);

    npairs = 0;
    vae("", 3); /* fewer levels than usual: the decoder is counted from its end */
    s = write_pairs();
    assert_int_equal(single_file_kind(s), SINGLE_UNKNOWN);
    check_view(s, "vae", 0, npairs);
    store_unref(s);

    npairs = 0;
    unet("", "DXX", true);
    s = write_pairs();
    check_view(s, "unet", 0, npairs);
    store_unref(s);
}

/* Every rule read backwards, against the same pairs. */
static void back_to_single(void **state)
{
    (void)state;
    static const char *const shapes[] = { "XXXD", "DXX", "DXXD", "XXX" };
    char theirs[NAME_BYTES];

    for (int shape = 0; shape < 4; shape++) {
        npairs = 0;
        unet("", shapes[shape], true);
        struct store *file = write_pairs(), *view;
        assert_int_equal(single_file_component(file, "unet", &view, NULL), STYX_OK);
        for (int i = 0; i < npairs; i++) {
            assert_true(name_to_single(view, "unet", pairs[i].ours, theirs));
            assert_string_equal(theirs, pairs[i].theirs);
        }
        store_unref(view);
        store_unref(file);
    }
    npairs = 0;
    vae("", 4);
    struct store *file = write_pairs(), *view;
    assert_int_equal(single_file_component(file, "vae", &view, NULL), STYX_OK);
    for (int i = 0; i < npairs; i++) {
        assert_true(name_to_single(view, "vae", pairs[i].ours, theirs));
        assert_string_equal(theirs, pairs[i].theirs);
    }
    store_unref(view);
    store_unref(file);
}

/* A single file, taken apart and put together again, is the same. */
static void there_and_back(void **state)
{
    (void)state;
    static const char *const components[] = { "unet", "vae", "text_encoder", "text_encoder_2" };
    const struct convert_options options = { .single = true };
    struct convert_part parts[4];

    for (int kind = 0; kind < 3; kind++) { /* SD 1.x, SDXL, refiner */
        npairs = 0;
        unet("model.diffusion_model.", kind == 0 ? "XXXD" : kind == 1 ? "DXX" : "DXXD", kind);
        vae("first_stage_model.", 4);
        if (kind < 2)
            clip(kind ? "conditioner.embedders.0.transformer." : "cond_stage_model.transformer.");
        if (kind)
            openclip(kind == 1 ? "conditioner.embedders.1.model."
                               : "conditioner.embedders.0.model.");
        struct store *file = write_pairs(), *again;
        int nparts = 0;
        styx_error err = { 0 };
        for (int i = 0; i < 4; i++)
            if (single_file_has(file, components[i])) {
                parts[nparts].component = components[i];
                assert_int_equal(
                    single_file_component(file, components[i], &parts[nparts++].store, NULL),
                    STYX_OK);
            }
        const char *path = in_folder(folder, "again.safetensors");
        if (convert_write(path, parts, nparts, &options, &err))
            print_error("%s\n", err.text);
        assert_int_equal(store_open_file(path, &again, &err), STYX_OK);
        assert_int_equal(store_count(again), store_count(file));
        for (int i = 0; i < store_count(file); i++) {
            const struct entry *a = store_at(file, i), *b = store_at(again, i);
            assert_string_equal(a->name, b->name);
            assert_int_equal(a->bytes, b->bytes);
            assert_memory_equal(a->raw, b->raw, a->bytes);
            if (strstr(a->name, ".mid.attn_1.") && a->dims == 2)
                assert_int_equal(b->dims, 4);
        }
        for (int i = 0; i < nparts; i++)
            store_unref(parts[i].store);
        store_unref(again);
        store_unref(file);
    }
}

static struct store *open_shapes(const char *header, size_t bytes)
{
    static const unsigned char zeros[1 << 16];
    struct store *s = NULL;
    write_safetensors(in_folder(folder, "s.safetensors"), header, -1, zeros, bytes);
    assert_int_equal(store_open_file(in_folder(folder, "s.safetensors"), &s, NULL), STYX_OK);
    return s;
}

static void kinds_by_shape(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int channels, width;
        enum single_file kind;
    } cases[] = {
        { "cond_stage_model.transformer.x", 9, 1, SINGLE_SD15_INPAINT },
        { "conditioner.embedders.1.model.transformer.resblocks.0.x", 9, 1, SINGLE_SDXL_INPAINT },
        { "other", 4, 768, SINGLE_SD15 },
        { "other", 9, 768, SINGLE_SD15_INPAINT },
        { "other", 4, 1024, SINGLE_SD2 },
        { "other", 4, 1280, SINGLE_REFINER },
        { "other", 4, 2048, SINGLE_SDXL },
        { "other", 4, 5, SINGLE_UNKNOWN },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char header[1000];
        int c = cases[i].channels, w = cases[i].width;
        sprintf(header,
                "{\"%s\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
                "\"model.diffusion_model.input_blocks.0.0.weight\":"
                "{\"dtype\":\"U8\",\"shape\":[1,%d],\"data_offsets\":[0,%d]},"
                "\"model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight\":"
                "{\"dtype\":\"U8\",\"shape\":[1,%d],\"data_offsets\":[%d,%d]}}",
                cases[i].text, c, c, w, c, c + w);
        struct store *s = open_shapes(header, (size_t)(c + w));
        assert_int_equal(single_file_kind(s), cases[i].kind);
        assert_true(strlen(single_file_name(cases[i].kind)) > 3);
        store_unref(s);
    }
}

static void bad_projections(void **state)
{
    (void)state;
    struct store *s, *view;
    styx_error err;

    s = open_shapes("{\"conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight\""
                    ":{\"dtype\":\"F16\",\"shape\":[4,3],\"data_offsets\":[0,24]}}",
                    24);
    assert_int_equal(single_file_component(s, "text_encoder_2", &view, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "no stack of queries, keys and values"));
    store_unref(s);
    s = open_shapes("{\"conditioner.embedders.1.model.transformer.x\":{\"dtype\":\"U8\","
                    "\"shape\":[0],\"data_offsets\":[0,0]},"
                    "\"conditioner.embedders.1.model.text_projection\":"
                    "{\"dtype\":\"F16\",\"shape\":[12],\"data_offsets\":[0,24]}}",
                    24);
    assert_int_equal(single_file_component(s, "text_encoder_2", &view, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "is no matrix"));
    store_unref(s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        TEST(sd15),           TEST(sdxl),
        TEST(refiner),        TEST(sd2_and_bare_components),
        TEST(back_to_single), TEST(there_and_back),
        TEST(kinds_by_shape), TEST(bad_projections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
