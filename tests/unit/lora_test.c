/* weights/lora: every spelling of the keys meets its module, and W + s alpha/r up @ down comes out.
 */
#include "weights/lora.h"

#include <math.h>

#include "weights/save.h"
#include "weights_file.h"

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const char *folder;

static int make_folder(void **state)
{
    (void)state;
    folder = test_folder();
    return !folder;
}

static int drop_folder(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

/* Numbers that look random and are the same everywhere. */
static float number(const char *name, size_t i)
{
    uint32_t h = 2166136261u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    h = (h ^ (uint32_t)i) * 2654435761u;
    h ^= h >> 15;
    h *= 2246822519u;
    return (float)(h >> 8) / 8388608.0f - 1;
}

/* A file of F32 tensors, "name dims...", filled with number(name, i); ".alpha" holds 3. */
static const char *put(const char *file, const char *const *metadata, const char *const *shapes)
{
    struct saved t[64];
    char names[64][160];
    int n = 0;

    for (; shapes[n]; n++) {
        int used;
        size_t count = 1;
        sscanf(shapes[n], "%159s%n", names[n], &used);
        t[n] = (struct saved){ .name = names[n], .type = DT_F32 };
        for (const char *p = shapes[n] + used; *p;) {
            t[n].shape[t[n].dims] = (int)strtol(p, (char **)&p, 10);
            count *= (size_t)t[n].shape[t[n].dims++];
        }
        float *data = malloc(count * sizeof *data);
        for (size_t i = 0; i < count; i++)
            data[i] = strstr(names[n], ".alpha") ? 3 : number(names[n], i);
        t[n].data = data;
    }
    const char *path = in_folder(folder, file);
    assert_int_equal(save_file(path, t, n, metadata, FILE_REPLACE, NULL), STYX_OK);
    for (int i = 0; i < n; i++)
        free((void *)t[i].data);
    return path;
}

#define PUT(file, ...) put(file, NULL, (const char *const[]){ __VA_ARGS__, NULL })

static struct store *open_base(void)
{
    struct store *s = NULL;
    const char *path =
        PUT("unet.safetensors", "conv_in.weight 4 3 3 3", "conv_in.bias 4",
            "down_blocks.1.attentions.0.proj_in.weight 4 6 1 1",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight 4 6",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.weight 6 4",
            "up_blocks.0.resnets.2.conv1.weight 4 3 3 3", "up_blocks.0.attentions.2.norm.weight 4",
            "up_blocks.0.upsamplers.0.conv.weight 4 2 3 3");
    assert_int_equal(store_open_file(path, &s, NULL), STYX_OK);
    return s;
}

static struct lora *open_lora(const char *path)
{
    struct lora *l = NULL;
    styx_error err = { 0 };
    if (lora_open(path, &l, &err))
        print_error("%s\n", err.text);
    assert_non_null(l);
    return l;
}

/* The tensor is the base's plus scale * up @ down of the tensors of these names. */
static void check(struct store *merged, struct store *base, const char *name, const char *down,
                  const char *up, size_t rank, double scale)
{
    const struct entry *e = store_find(base, name);
    size_t rows = (size_t)e->shape[0], columns = e->count / rows;
    struct span was, is;
    float before, after;

    assert_int_equal(store_span(base, e, &was, NULL), STYX_OK);
    assert_int_equal(store_span(merged, store_find(merged, name), &is, NULL), STYX_OK);
    assert_int_equal(is.dims, was.dims);
    for (size_t i = 0; i < e->count; i++) {
        double want = 0;
        for (size_t r = 0; r < rank; r++)
            want += (double)number(up, i / columns * rank + r) *
                    number(down, r * columns + i % columns);
        span_read(&was, i, 1, &before);
        span_read(&is, i, 1, &after);
        if (fabs(before + scale * want - after) > 1e-6)
            print_error("%s[%zu]: %.9g instead of %.9g\n", name, i, after, before + scale * want);
        assert_true(fabs(before + scale * want - after) <= 1e-6);
    }
}

static int unmatched(const struct lora *l, const char *key)
{
    char *text;
    int n;
    assert_int_equal(lora_unmatched(l, &text, &n, NULL), STYX_OK);
    if (key && (!text || !strstr(text, key)))
        print_error("'%s' is not in '%s'\n", key, text);
    assert_true(!key || (text && strstr(text, key)));
    free(text);
    return n;
}

#define TO_Q "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"
#define TO_OUT "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.weight"

static void every_spelling(void **state)
{
    (void)state;
    const struct {
        const char *down, *up;
        const char *name;
        int rows, columns;
    } keys[] = {
        { "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
          "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight",
          TO_Q, 4, 6 },
        { "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
          "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_up.weight", TO_Q, 4, 6 },
        { "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.lora_A.weight",
          "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.lora_B.weight", TO_Q, 4,
          6 },
        { "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",
          "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight", TO_Q, 4,
          6 },
        { "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A."
          "default.weight",
          "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_B."
          "default.weight",
          TO_Q, 4, 6 },
        { "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down."
          "weight",
          "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.up."
          "weight",
          TO_Q, 4, 6 },
        { "down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight",
          "down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight",
          TO_OUT, 6, 4 },
        { "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora.down.weight",
          "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.lora.up.weight",
          TO_OUT, 6, 4 },
        { "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_down."
          "weight",
          "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_up.weight",
          TO_OUT, 6, 4 },
        { "lora_unet_down_blocks_1_attentions_0_proj_in.lora_down.weight",
          "lora_unet_down_blocks_1_attentions_0_proj_in.lora_up.weight",
          "down_blocks.1.attentions.0.proj_in.weight", 4, 6 },
    };
    struct store *base = open_base(), *merged;

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char down[200], up[200];
        snprintf(down, sizeof down, "%s 2 %d", keys[i].down, keys[i].columns);
        snprintf(up, sizeof up, "%s %d 2", keys[i].up, keys[i].rows);
        struct lora *l = open_lora(PUT("l.safetensors", down, up));
        const struct lora_use use = { l, 0.8f };
        assert_int_equal(lora_merge(base, "unet", &use, 1, DT_F32, 2, &merged, NULL), STYX_OK);
        assert_ptr_not_equal(merged, base);
        assert_int_equal(store_count(merged), store_count(base));
        check(merged, base, keys[i].name, keys[i].down, keys[i].up, 2, (double)0.8f);
        check(merged, base, "conv_in.weight", "", "", 0, 0);
        assert_int_equal(unmatched(l, NULL), 0);
        store_unref(merged);
        lora_free(l);
    }
    store_unref(base);
}

static void convolutions_and_alphas(void **state)
{
    (void)state;
    struct store *base = open_base(), *merged;
    struct lora *l = open_lora(
        PUT("l.safetensors", "lora_unet_up_blocks_0_resnets_2_conv1.lora_down.weight 2 3 3 3",
            "lora_unet_up_blocks_0_resnets_2_conv1.lora_up.weight 4 2 1 1",
            "lora_unet_up_blocks_0_resnets_2_conv1.alpha",
            "lora_unet_up_blocks_0_upsamplers_0_conv.lora_down.weight 5 2 3 3",
            "lora_unet_up_blocks_0_upsamplers_0_conv.lora_up.weight 4 5 1 1",
            "lora_unet_conv_in.lora_down.weight 1 27", "lora_unet_conv_in.lora_up.weight 4 1",
            "lora_unet_conv_in.alpha 1"));
    const struct lora_use use = { l, -2 };

    assert_int_equal(lora_merge(base, "unet", &use, 1, DT_F32, 2, &merged, NULL), STYX_OK);
    check(merged, base, "up_blocks.0.resnets.2.conv1.weight",
          "lora_unet_up_blocks_0_resnets_2_conv1.lora_down.weight",
          "lora_unet_up_blocks_0_resnets_2_conv1.lora_up.weight", 2, -2 * 3.0 / 2);
    check(merged, base, "up_blocks.0.upsamplers.0.conv.weight",
          "lora_unet_up_blocks_0_upsamplers_0_conv.lora_down.weight",
          "lora_unet_up_blocks_0_upsamplers_0_conv.lora_up.weight", 5, -2);
    check(merged, base, "conv_in.weight", "lora_unet_conv_in.lora_down.weight",
          "lora_unet_conv_in.lora_up.weight", 1, -2 * 3.0);
    assert_int_equal(unmatched(l, NULL), 0);
    store_unref(merged);
    store_unref(base);
    lora_free(l);
}

static void sgm_resnets_and_twins(void **state)
{
    (void)state;
    struct store *base = open_base(), *merged;
    struct lora *l = open_lora(
        PUT("l.safetensors", "lora_unet_output_blocks_2_0_in_layers_2.lora_down.weight 2 3 3 3",
            "lora_unet_output_blocks_2_0_in_layers_2.lora_up.weight 4 2 1 1",
            "lora_unet_output_blocks_2_2_conv.lora_down.weight 2 2 3 3",
            "lora_unet_output_blocks_2_2_conv.lora_up.weight 4 2 1 1",
            "lora_unet_input_blocks_0_0.lora_down.weight 2 3 3 3",
            "lora_unet_input_blocks_0_0.lora_up.weight 4 2 1 1"));
    struct lora_use use = { l, 1 };

    assert_int_equal(lora_merge(base, "unet", &use, 1, DT_F32, 2, &merged, NULL), STYX_OK);
    check(merged, base, "up_blocks.0.resnets.2.conv1.weight",
          "lora_unet_output_blocks_2_0_in_layers_2.lora_down.weight",
          "lora_unet_output_blocks_2_0_in_layers_2.lora_up.weight", 2, 1);
    check(merged, base, "up_blocks.0.upsamplers.0.conv.weight",
          "lora_unet_output_blocks_2_2_conv.lora_down.weight",
          "lora_unet_output_blocks_2_2_conv.lora_up.weight", 2, 1);
    check(merged, base, "conv_in.weight", "lora_unet_input_blocks_0_0.lora_down.weight",
          "lora_unet_input_blocks_0_0.lora_up.weight", 2, 1);
    assert_int_equal(unmatched(l, NULL), 0);
    store_unref(merged);
    lora_free(l);

    /* Both namings: only diffusers' one counts. */
    l = open_lora(PUT("l.safetensors",
                      "lora_unet_output_blocks_2_0_in_layers_2.lora_down.weight 2 3 3 3",
                      "lora_unet_output_blocks_2_0_in_layers_2.lora_up.weight 4 2 1 1",
                      "lora_unet_up_blocks_0_resnets_2_conv1.lora_down.weight 2 3 3 3",
                      "lora_unet_up_blocks_0_resnets_2_conv1.lora_up.weight 4 2 1 1"));
    use.lora = l;
    assert_int_equal(lora_merge(base, "unet", &use, 1, DT_F32, 2, &merged, NULL), STYX_OK);
    check(merged, base, "up_blocks.0.resnets.2.conv1.weight",
          "lora_unet_up_blocks_0_resnets_2_conv1.lora_down.weight",
          "lora_unet_up_blocks_0_resnets_2_conv1.lora_up.weight", 2, 1);
    assert_int_equal(unmatched(l, NULL), 0);
    store_unref(merged);
    store_unref(base);
    lora_free(l);
}

static void text_encoders(void **state)
{
    (void)state;
    const struct {
        const char *base, *component, *down, *up;
    } cases[] = {
        { "text_model.encoder.layers.0.self_attn.q_proj.weight", "text_encoder",
          "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
          "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight" },
        { "encoder.layers.0.self_attn.q_proj.weight", "text_encoder",
          "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
          "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight" },
        { "text_model.encoder.layers.0.mlp.fc1.weight", "text_encoder_2",
          "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
          "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight" },
        { "text_model.encoder.layers.0.self_attn.out_proj.weight", "text_encoder",
          "text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.down.weight",
          "text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.up.weight" },
        { "text_model.encoder.layers.0.self_attn.v_proj.weight", "text_encoder_2",
          "text_encoder_2.encoder.layers.0.self_attn.v_proj.lora_A.weight",
          "text_encoder_2.encoder.layers.0.self_attn.v_proj.lora_B.weight" },
        { "text_model.encoder.layers.0.self_attn.v_proj.weight", "text_encoder",
          "text_encoder.text_model.encoder.layers.0.self_attn.v_proj.lora_linear_layer.down.weight",
          "text_encoder.text_model.encoder.layers.0.self_attn.v_proj.lora_linear_layer.up.weight" },
        { "text_projection.weight", "text_encoder_2", "lora_te2_text_projection.lora_down.weight",
          "lora_te2_text_projection.lora_up.weight" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char weight[160], down[160], up[160];
        struct store *base, *merged;
        snprintf(weight, sizeof weight, "%s 3 5", cases[i].base);
        snprintf(down, sizeof down, "%s 2 5", cases[i].down);
        snprintf(up, sizeof up, "%s 3 2", cases[i].up);
        assert_int_equal(store_open_file(PUT("te.safetensors", weight), &base, NULL), STYX_OK);
        struct lora *l = open_lora(PUT("l.safetensors", down, up));
        const struct lora_use use = { l, 1 };
        bool second = !strcmp(cases[i].component, "text_encoder_2");
        assert_int_equal(lora_merge(base, second ? "text_encoder" : "text_encoder_2", &use, 1,
                                    DT_F32, 2, &merged, NULL),
                         STYX_OK);
        assert_ptr_equal(merged, base);
        assert_int_equal(unmatched(l, cases[i].down), 2);
        store_unref(merged);
        assert_int_equal(lora_merge(base, cases[i].component, &use, 1, DT_F32, 2, &merged, NULL),
                         STYX_OK);
        check(merged, base, cases[i].base, cases[i].down, cases[i].up, 2, 1);
        assert_int_equal(unmatched(l, NULL), 0);
        store_unref(merged);
        store_unref(base);
        lora_free(l);
    }
}

static void settings_in_the_metadata(void **state)
{
    (void)state;
    const struct {
        const char *json;
        double scale;
    } cases[] = {
        { "{\"unet.lora_alpha\": 8}", 8.0 / 2 },
        { "{\"unet.lora_alpha\": 8, \"unet.use_rslora\": true}", 8 / 1.4142135623730951 },
        { "{\"unet.lora_alpha\": 8, \"unet.alpha_pattern\": {\"attn1.to_q\": 5}}", 5.0 / 2 },
        { "{\"unet.lora_alpha\": 8, \"unet.alpha_pattern\": {\"attn1.to_k\": 5}}", 8.0 / 2 },
        { "{\"unet.lora_alpha\": 8, \"unet.alpha_pattern\": {\"o_q\": 5}}", 8.0 / 2 },
        { "{\"text_encoder.lora_alpha\": 8}", 1 },
    };
    struct store *base = open_base(), *merged;
    const char *shapes[] = {
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight 2 6",
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight 4 2", NULL
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const metadata[] = { "lora_adapter_metadata", cases[i].json, NULL };
        struct lora *l = open_lora(put("l.safetensors", metadata, shapes));
        const struct lora_use use = { l, 1 };
        assert_int_equal(lora_merge(base, "unet", &use, 1, DT_F32, 2, &merged, NULL), STYX_OK);
        check(merged, base, TO_Q,
              "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight",
              "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight", 2,
              cases[i].scale);
        store_unref(merged);
        lora_free(l);
    }
    store_unref(base);

    const char *const regular[] = { "lora_adapter_metadata",
                                    "{\"unet.alpha_pattern\": {\"mid_block.*to_q\": 5}}", NULL };
    struct lora *l;
    styx_error err;
    assert_int_equal(lora_open(put("l.safetensors", regular, shapes), &l, &err),
                     STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "the regular expression 'mid_block.*to_q'"));
}

static void several_at_once_and_narrow(void **state)
{
    (void)state;
    struct store *base = open_base(), *once, *both, *narrow;
    struct lora *a = open_lora(PUT("a.safetensors", "lora_unet_conv_in.lora_down.weight 2 27",
                                   "lora_unet_conv_in.lora_up.weight 4 2"));
    struct lora *b = open_lora(PUT("b.safetensors", "unet.conv_in.lora_A.weight 3 3 3 3",
                                   "unet.conv_in.lora_B.weight 4 3 1 1"));
    const struct lora_use uses[] = { { a, 0.5f }, { b, 0.25f } };

    assert_int_equal(lora_merge(base, "unet", uses, 1, DT_F32, 2, &once, NULL), STYX_OK);
    assert_int_equal(lora_merge(base, "unet", uses, 2, DT_F32, 2, &both, NULL), STYX_OK);
    check(both, once, "conv_in.weight", "unet.conv_in.lora_A.weight", "unet.conv_in.lora_B.weight",
          3, 0.25);
    for (enum dtype type = DT_BF16; type <= DT_F16; type++) {
        struct span wide, small;
        float x, y;
        assert_int_equal(lora_merge(base, "unet", uses, 2, type, 2, &narrow, NULL), STYX_OK);
        store_span(both, store_find(both, "conv_in.weight"), &wide, NULL);
        store_span(narrow, store_find(narrow, "conv_in.weight"), &small, NULL);
        assert_int_equal(small.type, type);
        for (size_t i = 0; i < span_count(&wide); i++) {
            uint16_t bits;
            span_read(&wide, i, 1, &x);
            span_read(&small, i, 1, &y);
            dtype_from_f32(type, &x, &bits, 1);
            dtype_to_f32(type, &bits, &x, 1);
            assert_true(x == y);
        }
        store_unref(narrow);
    }
    store_unref(both);
    store_unref(once);
    store_unref(base);
    lora_free(a);
    lora_free(b);
}

static void what_does_not_fit(void **state)
{
    (void)state;
    static const char *const refused[][2] = {
        { "lora_unet_conv_in.dora_scale 4", "is a DoRA" },
        { "unet.conv_in.lora_magnitude_vector 4", "is a DoRA" },
        { "lora_unet_conv_in.hada_w1_a 4 2", "is a LoHa" },
        { "lora_unet_conv_in.lokr_w1 4 2", "is a LoKr" },
        { "lora_unet_conv_in.lora_mid.weight 2 2 3 3", "is a Tucker-decomposed LoRA" },
        { "conv_in.weight 3", "is no LoRA" },
        { "lora_unet_conv_in.lora_down.weight 2 3", "is no LoRA" },
    };
    struct store *base = open_base(), *merged;
    struct lora *l;
    styx_error err;

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_true(lora_open(PUT("l.safetensors", refused[i][0]), &l, &err) < 0);
        assert_null(l);
        assert_non_null(strstr(err.text, refused[i][1]));
    }
    const char *bad[] = { "lora_unet_conv_in.lora_down.weight 2 26",
                          "lora_unet_conv_in.lora_down.weight 3 27",
                          "lora_unet_conv_in.lora_down.weight" };
    for (int i = 0; i < 3; i++) {
        l = open_lora(PUT("l.safetensors", bad[i], "lora_unet_conv_in.lora_up.weight 4 2"));
        const struct lora_use use = { l, 1 };
        assert_int_equal(lora_merge(base, "unet", &use, 1, DT_F32, 2, &merged, &err),
                         STYX_ERR_FORMAT);
        assert_non_null(strstr(err.text, "do not fit 'conv_in.weight' of [4, 27]"));
        lora_free(l);
    }
    l = open_lora(PUT("l.safetensors", "lora_unet_conv_in.lora_down.weight 2 27",
                      "lora_unet_conv_in.lora_up.weight 4 2", "lora_unet_conv_in.alpha 2"));
    const struct lora_use alpha = { l, 1 };
    assert_int_equal(lora_merge(base, "unet", &alpha, 1, DT_F32, 2, &merged, &err),
                     STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "is no single number"));
    lora_free(l);

    l = open_lora(PUT("l.safetensors", "lora_unet_conv_in.lora_down.weight 2 27",
                      "lora_unet_conv_in.lora_up.weight 4 2", "something.else 2",
                      "lora_unet_nowhere.lora_down.weight 2 2",
                      "lora_unet_nowhere.lora_up.weight 2 2", "lora_unet_nowhere.alpha",
                      "lora_unet_mid_block_x.lora_up.weight 2 2"));
    const struct lora_use use = { l, 1 };
    assert_int_equal(lora_merge(base, "vae", &use, 1, DT_F32, 2, &merged, NULL), STYX_OK);
    assert_ptr_equal(merged, base);
    store_unref(merged);
    assert_int_equal(lora_merge(base, "unet", &use, 1, DT_F32, 2, &merged, NULL), STYX_OK);
    assert_int_equal(unmatched(l, "something.else\n"), 5);
    assert_int_equal(unmatched(l, "lora_unet_mid_block_x.lora_up.weight"), 5);
    store_unref(merged);
    lora_free(l);
    store_unref(base);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        TEST(every_spelling),    TEST(convolutions_and_alphas),  TEST(sgm_resnets_and_twins),
        TEST(text_encoders),     TEST(settings_in_the_metadata), TEST(several_at_once_and_narrow),
        TEST(what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
