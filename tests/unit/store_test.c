/* weights/store, open, bind: finding a component's files, and a program's parameters in them. */
#include "weights/store.h"

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

/* A file whose F32 tensors hold 1, 2, 3... in the order of shapes: "name dims...". */
static void put(const char *file, const char *const *shapes)
{
    char header[8192] = "{";
    float data[1024];
    size_t n = 0, h = 1;

    for (; *shapes; shapes++) {
        char name[128], shape[64] = "";
        int used;
        size_t count = 1, d = 0;
        sscanf(*shapes, "%127s%n", name, &used);
        for (const char *p = *shapes + used; *p;) {
            long length = strtol(p, (char **)&p, 10);
            count *= (size_t)length;
            d += (size_t)sprintf(shape + d, "%s%ld", d ? "," : "", length);
        }
        h += (size_t)sprintf(
            header + h, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
            h > 1 ? "," : "", name, shape, n * 4, (n + count) * 4);
        n += count;
    }
    sprintf(header + h, "}");
    for (size_t i = 0; i < n; i++)
        data[i] = (float)i + 1;
    write_safetensors(in_folder(folder, file), header, -1, data, n * 4);
}

#define PUT(file, ...) put(file, (const char *const[]){ __VA_ARGS__, NULL })

static float first(struct store *s, const char *name)
{
    struct span span;
    float value;
    const struct entry *e = store_find(s, name);
    assert_non_null(e);
    assert_int_equal(store_span(s, e, &span, NULL), STYX_OK);
    span_read(&span, 0, 1, &value);
    return value;
}

static struct store *component(const char *variant)
{
    struct store *s = NULL;
    styx_error err = { 0 };
    if (store_open_component(folder, "model", variant, &s, &err))
        print_error("%s\n", err.text);
    assert_non_null(s);
    return s;
}

static void refuse(const char *variant, int code, const char *message)
{
    struct store *s = NULL;
    styx_error err = { 0 };
    assert_int_equal(store_open_component(folder, "model", variant, &s, &err), code);
    assert_null(s);
    if (!strstr(err.text, message))
        print_error("got '%s', wanted '%s'\n", err.text, message);
    assert_non_null(strstr(err.text, message));
}

static void plain_file_and_variants(void **state)
{
    (void)state;
    PUT("model.safetensors", "plain 2");
    struct store *s = component(NULL);
    assert_non_null(store_find(s, "plain"));
    assert_null(store_note(s));
    store_unref(s);

    s = component("fp16");
    assert_non_null(store_find(s, "plain"));
    assert_non_null(strstr(store_note(s), "no variant 'fp16': the plain model.safetensors"));
    store_unref(s);

    PUT("model.fp16.safetensors", "half 2");
    s = component("fp16");
    assert_non_null(store_find(s, "half"));
    assert_null(store_note(s));
    store_unref(s);
    s = component("");
    assert_non_null(store_find(s, "plain"));
    store_unref(s);
    refuse("../x", STYX_ERR_INVALID, "no name of a variant");
}

static void index_file(const char *file, const char *text)
{
    write_file(in_folder(folder, file), text, strlen(text));
}

static const char two_shards[] = "{\"metadata\":{\"total_size\":16},\"weight_map\":"
                                 "{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\","
                                 "\"c\":\"m-2.safetensors\"}}";

static void shards_under_every_spelling(void **state)
{
    (void)state;
    const struct {
        const char *file, *variant;
    } spellings[] = {
        { "model.safetensors.index.json", NULL },
        { "model.safetensors.index.fp16.json", "fp16" },
        { "model.safetensors.fp16.index.json", "fp16" },
        { "model.fp16.safetensors.index.json", "fp16" },
    };

    PUT("m-1.safetensors", "a 2", "b 1");
    PUT("m-2.safetensors", "b 1", "c 1");
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        index_file(spellings[i].file, two_shards);
        struct store *s = component(spellings[i].variant);
        assert_null(store_note(s));
        assert_int_equal(store_count(s), 3);
        assert_true(first(s, "a") == 1);
        assert_true(first(s, "b") == 1); /* from m-2: in m-1 it would be 3 */
        assert_true(first(s, "c") == 2);
        store_unref(s);
        unlink(in_folder(folder, spellings[i].file));
    }
}

static void bad_shards(void **state)
{
    (void)state;
    const char *index = "model.safetensors.index.json";

    PUT("m-1.safetensors", "a 2");
    index_file(index, two_shards);
    refuse(NULL, STYX_ERR_IO, "m-2.safetensors");
    PUT("m-2.safetensors", "b 1");
    refuse(NULL, STYX_ERR_FORMAT, "tensor 'c' should be in m-2.safetensors and is not");
    index_file(index, "{\"weight_map\":{\"a\":\"../m-1.safetensors\"}}");
    refuse(NULL, STYX_ERR_FORMAT, "tensor 'a' is not in a file of this folder");
    index_file(index, "{\"weight_map\":{\"a\":3}}");
    refuse(NULL, STYX_ERR_FORMAT, "tensor 'a' is not in a file of this folder");
    index_file(index, "{\"weight_map\":{}}");
    refuse(NULL, STYX_ERR_FORMAT, "names no tensors");
    index_file(index, "{}");
    refuse(NULL, STYX_ERR_FORMAT, "names no tensors");
    index_file(index, "{\"weight_map\":3}");
    refuse(NULL, STYX_ERR_FORMAT, "'weight_map'");
    index_file(index, "[");
    refuse(NULL, STYX_ERR_FORMAT, "not valid JSON");
}

static void nothing_to_open(void **state)
{
    (void)state;
    struct store *s;
    styx_error err;

    refuse("fp16", STYX_ERR_IO, "has no weights (model.safetensors was wanted)");
    write_file(in_folder(folder, "pytorch_model.bin"), "x", 1);
    refuse(NULL, STYX_ERR_UNSUPPORTED, "holds only the pickle pytorch_model.bin");
    assert_int_equal(store_open_component("/nowhere", "model", NULL, &s, &err), STYX_ERR_IO);

    const char *f = in_folder(folder, "file");
    write_file(f, "\x80\x02}q", 4);
    assert_int_equal(store_open_file(f, &s, &err), STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "is a Python pickle"));
    write_file(f, "PK\3\4xxxxx", 9);
    assert_int_equal(store_open_file(f, &s, &err), STYX_ERR_UNSUPPORTED);
    write_file(f, "version https://git-lfs.github.com/spec/v1\n", 43);
    assert_int_equal(store_open_file(f, &s, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "git lfs pull"));
}

static void parameters_are_bound(void **state)
{
    (void)state;
    const param wanted[] = {
        { .name = "conv.weight", .dims = 4, .shape = { 2, 3, 1, 1 } },
        { .name = "proj.weight", .dims = 2, .shape = { 2, 2 } },
        { .name = "norm.bias", .dims = 1, .shape = { 3 } },
    };
    struct span spans[3];
    struct store_report report = { 0 };
    float got[4];

    PUT("model.safetensors", "conv.weight 2 3", "proj.weight 2 2 1 1", "norm.bias 3",
        "text_model.embeddings.position_ids 1 77", "model_ema.decay 1", "left.over 2 5");
    struct store *s = component(NULL);
    assert_int_equal(store_bind(s, wanted, 3, spans, &report, NULL), STYX_OK);
    assert_int_equal(spans[0].dims, 4);
    assert_int_equal(spans[0].shape[3], 1);
    assert_int_equal(spans[1].dims, 2);
    span_read(&spans[1], 0, 4, got);
    assert_true(got[0] == 7 && got[3] == 10);
    assert_null(report.text);
    assert_int_equal(store_unused(s, &report, NULL), STYX_OK);
    assert_int_equal(report.unexpected, 1);
    assert_string_equal(report.text, "unexpected: left.over F32 [2,5]\n");
    store_report_free(&report);
    store_unref(s);
}

static void old_names_are_known(void **state)
{
    (void)state;
    const char *const names[][2] = {
        { "encoder.mid_block.attentions.0.to_q.weight",
          "encoder.mid_block.attentions.0.query.weight" },
        { "encoder.mid_block.attentions.0.to_out.0.bias",
          "encoder.mid_block.attentions.0.proj_attn.bias" },
        { "text_model.final_layer_norm.weight", "final_layer_norm.weight" },
        { "final_layer_norm.weight", "text_model.final_layer_norm.weight" },
        { "vision_model.vision_model.pre_layrnorm.bias", "vision_model.pre_layrnorm.bias" },
        { "vision_model.pre_layrnorm.bias", "vision_model.vision_model.pre_layrnorm.bias" },
        { "vision_model.pre_layrnorm.bias", "pre_layrnorm.bias" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const param wanted = { .name = names[i][0], .dims = 1, .shape = { 2 } };
        struct store_report report = { 0 };
        struct span span;
        char stored[128];

        snprintf(stored, sizeof stored, "%s 2", names[i][1]);
        PUT("model.safetensors", stored);
        struct store *s = component(NULL);
        assert_int_equal(store_bind(s, &wanted, 1, &span, &report, NULL), STYX_OK);
        assert_non_null(span.data);
        assert_int_equal(store_unused(s, &report, NULL), STYX_OK);
        assert_int_equal(report.unexpected, 0);
        store_report_free(&report);
        store_unref(s);
    }
}

static void all_that_is_wrong_is_told(void **state)
{
    (void)state;
    const param wanted[] = {
        { .name = "a", .dims = 1, .shape = { 3 } },   { .name = "b", .dims = 2, .shape = { 2, 3 } },
        { .name = "c", .dims = 1, .shape = { 1 } },   { .name = "d", .dims = 1, .shape = { 2 } },
        { .name = "ids", .dims = 1, .shape = { 1 } },
    };
    struct span spans[5];
    struct store_report report = { 0 };
    styx_error err;
    const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
                          "\"b\":{\"dtype\":\"F32\",\"shape\":[3,2],\"data_offsets\":[12,36]},"
                          "\"d\":{\"dtype\":\"F8_E8M0\",\"shape\":[2],\"data_offsets\":[36,38]},"
                          "\"ids\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[38,39]}}";
    unsigned char zeros[39] = { 0 };

    write_safetensors(in_folder(folder, "model.safetensors"), header, -1, zeros, sizeof zeros);
    struct store *s = component(NULL);
    assert_int_equal(store_bind(s, wanted, 5, spans, &report, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "model.safetensors: 1 tensor is missing (c [1]); 1 tensor has "
                                     "another shape than the config says (b is [3,2], [2,3] was "
                                     "wanted); 2 tensors cannot be used ("));
    assert_int_equal(report.missing, 1);
    assert_int_equal(report.misshapen, 1);
    assert_int_equal(report.unusable, 2);
    assert_non_null(strstr(report.text, "missing: c [1]\n"));
    assert_non_null(strstr(report.text, "wrong shape: b is [3,2], [2,3] was wanted\n"));
    assert_non_null(strstr(report.text, "'d' is F8_E8M0, which is not supported"));
    assert_non_null(strstr(report.text, "ids holds integers (U8)"));
    assert_int_equal(store_bind(s, wanted, 5, spans, NULL, NULL), STYX_ERR_FORMAT);
    store_report_free(&report);
    store_unref(s);
}

static void many_wrong_names_are_cut(void **state)
{
    (void)state;
    param wanted[40];
    char names[40][120];
    struct span spans[40];
    struct store_report report = { 0 };
    styx_error err;
    int lines = 0;

    PUT("model.safetensors", "a 1");
    for (int i = 0; i < 40; i++) {
        snprintf(names[i], sizeof names[i], "down_blocks.%d.some.long.name.of.a.tensor.%050d", i,
                 i);
        wanted[i] = (param){ .name = names[i], .dims = 1, .shape = { 1 } };
    }
    struct store *s = component(NULL);
    assert_int_equal(store_bind(s, wanted, 40, spans, &report, &err), STYX_ERR_FORMAT);
    assert_non_null(strstr(err.text, "40 tensors are missing (down_blocks.0."));
    assert_non_null(strstr(err.text, ", ...)"));
    for (const char *c = report.text; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 40);
    store_report_free(&report);
    store_unref(s);
}

static void summaries_add_up(void **state)
{
    (void)state;
    struct store_summary sum;
    unsigned char zeros[32] = { 0 };

    write_safetensors(in_folder(folder, "model.safetensors"),
                      "{\"q\":{\"dtype\":\"I8\",\"shape\":[2,4],\"data_offsets\":[0,8]},"
                      "\"q.scale\":{\"dtype\":\"F16\",\"shape\":[2,1],\"data_offsets\":[8,12]},"
                      "\"f\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[12,32]}}",
                      -1, zeros, sizeof zeros);
    struct store *s = component(NULL);
    store_summarize(s, &sum);
    assert_int_equal(sum.tensors, 2);
    assert_int_equal(sum.parameters, 13);
    assert_int_equal(sum.bytes, 32);
    assert_int_equal(sum.ntypes, 3);
    assert_string_equal(sum.types[0].type, "F32");
    assert_int_equal(sum.types[0].bytes, 20);
    assert_string_equal(sum.types[1].type, "I8");
    assert_int_equal(sum.types[1].parameters, 8);
    assert_int_equal(sum.types[2].tensors, 0); /* the scales are no tensor of their own */
    store_unref(s);
}

static void references_keep_it(void **state)
{
    (void)state;
    PUT("model.safetensors", "a 1");
    struct store *s = component(NULL), *again = store_ref(s);
    store_unref(s);
    unlink(in_folder(folder, "model.safetensors"));
    assert_true(first(again, "a") == 1);
    store_unref(again);
    store_unref(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        TEST(plain_file_and_variants),
        TEST(shards_under_every_spelling),
        TEST(bad_shards),
        TEST(nothing_to_open),
        TEST(parameters_are_bound),
        TEST(old_names_are_known),
        TEST(all_that_is_wrong_is_told),
        TEST(many_wrong_names_are_cut),
        TEST(summaries_add_up),
        TEST(references_keep_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
