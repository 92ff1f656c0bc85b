/* weights/embedding: the files that hold textual inversions, and the longer table they make. */
#include "weights/embedding.h"

#include "weights/save.h"
#include "weights_file.h"

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const char *folder;
static const float numbers[64] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

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

static const char *put(const char *file, int n, const struct saved *tensors)
{
    const char *path = in_folder(folder, file);
    assert_int_equal(save_file(path, tensors, n, NULL, FILE_REPLACE, NULL), STYX_OK);
    return path;
}

static struct embedding *open_good(const char *path, const char *word)
{
    struct embedding *e = NULL;
    styx_error err = { 0 };
    if (embedding_open(path, word, &e, &err))
        print_error("%s\n", err.text);
    assert_non_null(e);
    return e;
}

static void words_and_rows(void **state)
{
    (void)state;
    const struct saved one = { "<cat-toy>", DT_F32, 1, { 4 }, numbers };
    const struct saved params = { "emb_params", DT_F32, 2, { 3, 4 }, numbers };
    const struct saved more = { "step", DT_F32, 1, { 1 }, numbers };
    const struct saved sdxl[] = { { "clip_g", DT_F32, 2, { 2, 6 }, numbers },
                                  { "clip_l", DT_F32, 2, { 2, 4 }, numbers } };

    struct embedding *e = open_good(put("a.safetensors", 1, &one), NULL);
    assert_string_equal(embedding_word(e), "<cat-toy>");
    assert_int_equal(embedding_rows(e), 1);
    assert_true(embedding_has(e, "text_encoder"));
    assert_false(embedding_has(e, "text_encoder_2"));
    embedding_free(e);

    const struct saved two[] = { params, more };
    e = open_good(put("easy.negative.safetensors", 2, two), NULL);
    assert_string_equal(embedding_word(e), "easy.negative");
    assert_int_equal(embedding_rows(e), 3);
    embedding_free(e);

    const char *const metadata[] = { "name", "converted", NULL };
    const struct saved old[] = { { "string_to_param.*", DT_F32, 2, { 2, 4 }, numbers },
                                 { "string_to_token.*", DT_F32, 1, { 1 }, numbers } };
    const char *path = in_folder(folder, "pt.safetensors");
    assert_int_equal(save_file(path, old, 2, metadata, FILE_REPLACE, NULL), STYX_OK);
    e = open_good(path, NULL);
    assert_string_equal(embedding_word(e), "converted");
    assert_int_equal(embedding_rows(e), 2);
    embedding_free(e);

    e = open_good(put("xl.safetensors", 2, sdxl), "word");
    assert_string_equal(embedding_word(e), "word");
    assert_int_equal(embedding_rows(e), 2);
    assert_true(embedding_has(e, "text_encoder_2"));
    embedding_free(e);
    embedding_free(NULL);
}

static void refused(void **state)
{
    (void)state;
    const struct saved files[][2] = {
        { { "a", DT_F32, 1, { 4 }, numbers }, { "b", DT_F32, 1, { 4 }, numbers } },
        { { "clip_l", DT_F32, 2, { 2, 4 }, numbers }, { "clip_g", DT_F32, 2, { 3, 4 }, numbers } },
        { { "clip_l", DT_F32, 3, { 2, 2, 1 }, numbers }, { "b", DT_F32, 1, { 4 }, numbers } },
        { { "emb_params", DT_F32, 2, { 0, 4 }, numbers }, { "b", DT_F32, 1, { 4 }, numbers } },
    };
    const char *const messages[] = { "is no textual inversion", "clip_l has 2 vectors, clip_g 3",
                                     "'clip_l' is no list", "'emb_params' is no list" };
    struct embedding *e;
    styx_error err;

    for (int i = 0; i < 4; i++) {
        assert_int_equal(embedding_open(put("x.safetensors", 2, files[i]), NULL, &e, &err),
                         STYX_ERR_FORMAT);
        assert_null(e);
        assert_non_null(strstr(err.text, messages[i]));
    }
    write_file(in_folder(folder, "x.pt"), "PK\3\4aaaa", 8);
    assert_int_equal(embedding_open(in_folder(folder, "x.pt"), NULL, &e, &err),
                     STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "Python pickle"));
}

static struct store *text_encoder(const char *table, int width)
{
    const struct saved t[] = { { table, DT_F32, 2, { 3, width }, numbers },
                               { "z", DT_F32, 1, { 2 }, numbers } };
    struct store *s = NULL;
    assert_int_equal(store_open_file(put("te.safetensors", 2, t), &s, NULL), STYX_OK);
    return s;
}

static void the_table_grows(void **state)
{
    (void)state;
    static const char *const names[] = { "text_model.embeddings.token_embedding.weight",
                                         "embeddings.token_embedding.weight" };
    const struct saved a = { "a", DT_F32, 2, { 2, 4 }, numbers + 8 };
    const struct saved b[] = { { "clip_l", DT_F32, 1, { 4 }, numbers + 1 },
                               { "clip_g", DT_F32, 1, { 5 }, numbers } };
    struct embedding *both[] = { open_good(put("a.safetensors", 1, &a), NULL),
                                 open_good(put("b.safetensors", 2, b), NULL) };
    const float want[24] = { 1, 2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12,
                             9, 10, 11, 12, 13, 14, 15, 16, 2, 3,  4,  5 };
    float got[24];
    styx_error err;

    for (int i = 0; i < 2; i++)
        for (int type = DT_F32; type <= DT_F16; type++) {
            struct store *base = text_encoder(names[i], 4), *grown;
            struct span span;
            assert_int_equal(
                embedding_merge(base, "text_encoder", both, 2, (enum dtype)type, &grown, NULL),
                STYX_OK);
            store_unref(base);
            assert_int_equal(store_count(grown), 2);
            assert_int_equal(store_span(grown, store_find(grown, names[i]), &span, NULL), STYX_OK);
            assert_int_equal(span.type, type);
            assert_int_equal(span.shape[0], 6);
            span_read(&span, 0, 24, got);
            assert_memory_equal(got, want, sizeof want);
            assert_int_equal(store_span(grown, store_find(grown, "z"), &span, NULL), STYX_OK);
            store_unref(grown);
        }

    struct store *base = text_encoder(names[0], 5), *grown;
    assert_int_equal(embedding_merge(base, "text_encoder_2", both, 2, DT_F32, &grown, &err),
                     STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "a.safetensors: has no vectors for text_encoder_2"));
    assert_int_equal(embedding_merge(base, "text_encoder", both, 2, DT_F32, &grown, &err),
                     STYX_ERR_INVALID);
    assert_non_null(strstr(err.text, "its vectors have 4 numbers, those of the model's text "
                                     "encoder 5"));
    assert_int_equal(embedding_merge(base, "text_encoder_2", both + 1, 1, DT_F32, &grown, NULL),
                     STYX_OK);
    store_unref(grown);
    store_unref(base);
    base = text_encoder(names[0], 4); /* a refiner's only one: a table without a name fits */
    assert_int_equal(embedding_merge(base, "text_encoder_2", both, 1, DT_F32, &grown, NULL),
                     STYX_OK);
    store_unref(grown);
    store_unref(base);
    base = text_encoder("other", 4);
    assert_int_equal(embedding_merge(base, "text_encoder", both, 1, DT_F32, &grown, &err),
                     STYX_ERR_FORMAT);
    store_unref(base);
    embedding_free(both[0]);
    embedding_free(both[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, drop_folder)
    const struct CMUnitTest tests[] = { TEST(words_and_rows), TEST(refused),
                                        TEST(the_table_grows) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
