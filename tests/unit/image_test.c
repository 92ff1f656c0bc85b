/* image: every kind of file gives PIL's pixels; texts come back; bad files are refused.
 * The fixtures are made by tests/data/image/make.py. */
#include "image/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DATA STYX_TEST_DATA "/data/image/"
#define FISH "\xe9\xb1\xbc" /* U+9C7C */

static char *dir;

static int make_dir(void **state)
{
    (void)state;
    char name[] = "/tmp/styx-image-XXXXXX";
    dir = mkdtemp(name) ? strdup(name) : NULL;
    return dir ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    int rc = rmdir(dir);
    free(dir);
    return rc;
}

static int worst(const unsigned char *a, const unsigned char *b, size_t n)
{
    int worst = 0;

    for (size_t i = 0; i < n; i++)
        worst = abs(a[i] - b[i]) > worst ? abs(a[i] - b[i]) : worst;
    return worst;
}

static char *read_fixture(const char *name, const char *suffix, size_t *bytes)
{
    char path[512], *data;

    snprintf(path, sizeof path, "%s%s%s", DATA, name, suffix);
    assert_int_equal(file_read(path, 1 << 20, &data, bytes, NULL), STYX_OK);
    return data;
}

static void load(const char *name, struct image *img, struct image_notes *notes)
{
    char path[512];
    styx_error err = { 0 };

    snprintf(path, sizeof path, "%s%s", DATA, name);
    if (image_load(path, img, notes, &err))
        fail_msg("%s", err.text);
}

static const struct {
    const char *name, *notes;
    int tolerance; /* of lossy decoders */
} pictures[] = {
    { "rgb.png", "", 0 },
    { "rgba.png", "its alpha channel was dropped", 0 },
    { "grey.png", "grey became RGB", 0 },
    { "grey_alpha.png", "grey became RGB, its alpha channel was dropped", 0 },
    { "bits.png", "grey became RGB", 0 },
    { "palette.png", "its palette was resolved", 0 },
    { "palette_alpha.png", "its palette was resolved, its alpha channel was dropped", 0 },
    { "interlaced.png", "", 0 },
    { "key.png", "its alpha channel was dropped", 0 },
    { "rgb16.png", "16 bits were cut to 8", 0 },
    { "grey16.png", "16 bits were cut to 8, grey became RGB", 0 },
    { "turned.png", "it was turned upright as its EXIF says", 0 },
    { "lossless.webp", "its alpha channel was dropped", 0 },
    { "lossy.webp", "", 2 },
    { "turned.webp", "it was turned upright as its EXIF says", 2 },
    { "rgb.jpg", "", 2 },
    { "progressive.jpg", "", 2 },
    { "grey.jpg", "grey became RGB", 2 },
    { "cmyk.jpg", "CMYK became RGB", 2 },
    { "turned1.jpg", "", 2 },
    { "turned2.jpg", "it was turned upright as its EXIF says", 2 },
    { "turned3.jpg", "it was turned upright as its EXIF says", 2 },
    { "turned4.jpg", "it was turned upright as its EXIF says", 2 },
    { "turned5.jpg", "it was turned upright as its EXIF says", 2 },
    { "turned6.jpg", "it was turned upright as its EXIF says", 2 },
    { "turned7.jpg", "it was turned upright as its EXIF says", 2 },
    { "turned8.jpg", "it was turned upright as its EXIF says", 2 },
};

static void pixels_are_those_of_pil(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++) {
        struct image img;
        struct image_notes notes;
        char text[256];
        size_t n;
        char *want = read_fixture(pictures[i].name, ".rgb", &n);

        load(pictures[i].name, &img, &notes);
        assert_int_equal(image_bytes(&img), n);
        assert_int_equal(img.channels, 3);
        assert_int_equal(img.w, notes.orientation >= 5 ? 17 : 24);
        int off = worst(img.data, (unsigned char *)want, n);
        if (off > pictures[i].tolerance)
            fail_msg("%s: a value is off by %d", pictures[i].name, off);
        image_notes_text(&notes, text, sizeof text);
        assert_string_equal(text, pictures[i].notes);
        free(want);
        if (notes.opacity.data) {
            want = read_fixture(pictures[i].name, ".alpha", &n);
            assert_int_equal(image_bytes(&notes.opacity), n);
            assert_memory_equal(notes.opacity.data, want, n);
            free(want);
        }
        image_free(&img);
        image_notes_free(&notes);
    }
}

/* PIL writes no YCCK, and libjpeg both kinds: the same inks must give the same colours. */
static void ycck_is_cmyk(void **state)
{
    (void)state;
    unsigned char row[8 * 4];
    struct image cmyk, ycck, *out[] = { &cmyk, &ycck };

    for (size_t i = 0; i < sizeof row; i++)
        row[i] = (unsigned char)(i % 4 == 3 ? 230 : 120 + 3 * i);
    for (int k = 0; k < 2; k++) {
        struct jpeg_compress_struct c;
        struct jpeg_error_mgr errors;
        unsigned char *bytes = NULL;
        unsigned long nbytes = 0;
        JSAMPROW rows[] = { row };

        c.err = jpeg_std_error(&errors);
        jpeg_create_compress(&c);
        jpeg_mem_dest(&c, &bytes, &nbytes);
        c.image_width = c.image_height = 8;
        c.input_components = 4;
        c.in_color_space = JCS_CMYK;
        jpeg_set_defaults(&c);
        jpeg_set_colorspace(&c, k ? JCS_YCCK : JCS_CMYK);
        jpeg_set_quality(&c, 100, TRUE);
        jpeg_start_compress(&c, TRUE);
        while (c.next_scanline < 8)
            jpeg_write_scanlines(&c, rows, 1);
        jpeg_finish_compress(&c);
        jpeg_destroy_compress(&c);
        assert_int_equal(image_decode(bytes, nbytes, "inks", out[k], NULL, NULL), STYX_OK);
        free(bytes);
    }
    assert_true(worst(cmyk.data, ycck.data, 8 * 8 * 3) <= 4);
    for (int c = 0; c < 3; c++) /* little ink: cyan 120 of 255 at 230 of black's 255 */
        assert_in_range(cmyk.data[c], 230 * (120 + 3 * c) / 255 - 4, 230 * (120 + 3 * c) / 255 + 4);
    image_free(&cmyk);
    image_free(&ycck);
}

static void fill(struct image *img, int w, int h, int channels)
{
    assert_int_equal(image_new(img, w, h, channels, NULL), STYX_OK);
    for (size_t i = 0; i < image_bytes(img); i++)
        img->data[i] = (unsigned char)(i * 7 + i / 50);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    static const struct image_text texts[] = {
        { "parameters", "a cat\nSteps: 3, Size: 5x4" },
        { "styx", "{\"prompt\": \"" FISH " \xf0\x9f\x8d\x8e\"}" },
        { NULL, NULL },
    };
    static const struct {
        const char *name;
        int channels, quality;
        bool exact;
    } files[] = {
        { "a.png", 3, 0, true },    { "a.PNG", 1, 0, true },    { "a.png", 4, 0, true },
        { "a.jpg", 3, 0, false },   { "a.jpeg", 1, 80, false }, { "a.webp", 3, 0, false },
        { "a.webp", 3, 100, true }, { "a.webp", 4, 100, true },
    };

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct image img, back;
        struct image_notes notes;
        styx_error err = { 0 };
        char *path = path_join(dir, files[i].name), *text;
        fill(&img, 40, 30, files[i].channels);

        assert_int_equal(image_save(path, &img, texts, files[i].quality, FILE_NEW, &err), STYX_OK);
        assert_int_equal(image_save(path, &img, texts, 0, FILE_NEW, &err), STYX_ERR_INVALID);
        assert_int_equal(image_load(path, &back, &notes, &err), STYX_OK);
        assert_true(back.w == 40 && back.h == 30 && back.channels == 3);
        assert_int_equal(notes.opacity.data != NULL, files[i].channels == 4);
        for (int p = 0; files[i].exact && p < 40 * 30; p++)
            for (int c = 0; c < 3; c++)
                assert_int_equal(back.data[3 * p + c],
                                 img.data[files[i].channels * p + (img.channels == 1 ? 0 : c)]);
        for (int t = 0; t < 2; t++) {
            assert_int_equal(image_read_text(path, texts[t].key, &text, &err), STYX_OK);
            assert_string_equal(text, texts[t].value);
            free(text);
        }
        assert_int_equal(image_read_text(path, "absent", &text, &err), STYX_OK);
        assert_null(text);
        assert_int_equal(unlink(path), 0);
        free(path);
        image_free(&img);
        image_free(&back);
        image_notes_free(&notes);
    }
}

static void long_texts_fit_everywhere(void **state)
{
    (void)state;
    enum { LONG = 200000 };
    static const enum image_format formats[] = { IMAGE_PNG, IMAGE_JPEG, IMAGE_WEBP };
    char *value = malloc(LONG + 1), *text;
    struct image img;

    memset(value, 'x', LONG);
    value[LONG] = '\0';
    fill(&img, 8, 8, 3);
    for (int i = 0; i < 3; i++) {
        const struct image_text texts[] = { { "parameters", value },
                                            { "styx", value + 7 },
                                            { NULL, NULL } };
        unsigned char *bytes;
        size_t n;
        assert_int_equal(image_encode(formats[i], &img, texts, 0, &bytes, &n, NULL), STYX_OK);
        assert_int_equal(image_format_of_bytes(bytes, n), formats[i]);
        for (int t = 0; t < 2; t++) {
            assert_int_equal(image_find_text(bytes, n, "long", texts[t].key, &text, NULL), STYX_OK);
            assert_string_equal(text, texts[t].value);
            free(text);
        }
        free(bytes);
    }
    free(value);
    image_free(&img);
}

static void others_texts_are_read(void **state)
{
    (void)state;
    const char *utf8 =
        "a red \xc3\xa4pple, \xe9\x9b\xaa \xf0\x9f\x8d\x8e\nNegative prompt: blurry\n"
        "Steps: 20, Seed: 1, Size: 8x8";
    const struct {
        const char *name, *text;
    } files[] = {
        { "text_latin1.png", "caf\xc3\xa9" },
        { "text_ztxt.png", "caf\xc3\xa9" },
        { "text_utf8.png", utf8 },
        { "text_itxt.png", utf8 },
        { "text_late.png", utf8 },
        { "text_be.jpg", utf8 },
        { "text_le.jpg", utf8 },
        { "text_be_in_le.jpg", utf8 },
        { "text_bom.jpg", utf8 },
        { "text_ascii.jpg", "plain words" },
        { "text_be.webp", utf8 },
        { "rgb.png", NULL },
        { "rgb.jpg", NULL },
        { "turned6.jpg", NULL },
        { "lossy.webp", NULL },
    };

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[512], *text;
        styx_error err = { 0 };
        snprintf(path, sizeof path, "%s%s", DATA, files[i].name);
        if (image_read_text(path, "parameters", &text, &err))
            fail_msg("%s", err.text);
        if (!files[i].text)
            assert_null(text);
        else
            assert_string_equal(text, files[i].text);
        free(text);
    }
}

/* A file cut anywhere is an error, and never a crash. */
static void truncated_files_are_errors(void **state)
{
    (void)state;
    static const char *const names[] = { "rgb.png",      "rgba.png", "interlaced.png",
                                         "palette.png",  "rgb.jpg",  "progressive.jpg",
                                         "cmyk.jpg",     "grey.jpg", "lossy.webp",
                                         "lossless.webp" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n;
        char *bytes = read_fixture(names[i], "", &n);
        for (size_t cut = 0; cut + 2 < n; cut++) { /* a JPEG's last two bytes are its end mark */
            struct image img = { 1, 1, 1, NULL };
            struct image_notes notes;
            styx_error err = { 0 };
            unsigned char *exact = malloc(cut + 1); /* so that ASan sees a step too far */
            memcpy(exact, bytes, cut);
            int rc = image_decode(exact, cut, "cut.bin", &img, &notes, &err);
            if (!rc)
                fail_msg("%s was taken without its last %zu bytes", names[i], n - cut);
            assert_int_equal(rc, STYX_ERR_FORMAT);
            assert_non_null(strstr(err.text, "cut.bin: "));
            assert_null(img.data);
            assert_null(notes.opacity.data);
            free(exact);
        }
        free(bytes);
    }
}

/* Every byte of every kind of file set to three other values: decoded or refused, never more. */
static void damaged_files_do_no_harm(void **state)
{
    (void)state;
    static const char *const names[] = { "palette_alpha.png", "text_itxt.png", "text_le.jpg",
                                         "turned6.jpg",       "turned.webp",   "text_be.webp" };
    static const unsigned char masks[] = { 0xff, 0x80, 0x01 };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n;
        unsigned char *bytes = (unsigned char *)read_fixture(names[i], "", &n);
        for (size_t at = 0; at < n; at++)
            for (size_t m = 0; m < sizeof masks; m++) {
                struct image img;
                char *text;
                bytes[at] ^= masks[m];
                if (!image_decode(bytes, n, "a", &img, NULL, NULL))
                    assert_true(img.data && img.channels == 3);
                image_find_text(bytes, n, "a", "parameters", &text, NULL);
                free(text);
                image_free(&img);
                bytes[at] ^= masks[m];
            }
        free(bytes);
    }
}

static void put_be(unsigned char *p, unsigned value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(value >> (24 - 8 * i));
}

static void bombs_are_refused_by_their_header(void **state)
{
    (void)state;
    size_t n;
    struct image img;
    styx_error err = { 0 };
    unsigned char *png = (unsigned char *)read_fixture("rgb.png", "", &n);

    put_be(png + 16, 60000);
    put_be(png + 20, 60000);
    put_be(png + 29, 0x0fb0e215); /* the CRC of that header */
    assert_int_equal(image_decode(png, n, "bomb.png", &img, NULL, &err), STYX_ERR_UNSUPPORTED);
    assert_string_equal(err.text, "bomb.png: is 60000 x 60000 pixels; at least 1 and at most "
                                  "134217728 pixels are read");
    free(png);

    unsigned char *jpeg = (unsigned char *)read_fixture("rgb.jpg", "", &n), *sof = jpeg;
    while (sof[0] != 0xff || sof[1] != 0xc0)
        sof++;
    memset(sof + 5, 0xea, 4);
    assert_int_equal(image_decode(jpeg, n, "bomb.jpg", &img, NULL, &err), STYX_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "60138 x 60138"));
    free(jpeg);
}

static void other_files_are_refused(void **state)
{
    (void)state;
    struct image img;
    char *text;
    styx_error err = { 0 };

    assert_int_equal(image_decode("GIF89a...", 9, "a.gif", &img, NULL, &err), STYX_ERR_FORMAT);
    assert_string_equal(err.text, "a.gif: is no PNG, JPEG or WebP picture");
    assert_int_equal(image_load("/no/such.png", &img, NULL, &err), STYX_ERR_IO);
    assert_int_equal(image_load("/tmp", &img, NULL, &err), STYX_ERR_FORMAT);
    assert_int_equal(image_load(DATA "animated.webp", &img, NULL, &err), STYX_ERR_UNSUPPORTED);
    assert_int_equal(image_read_text(DATA "make.py", "styx", &text, &err), STYX_ERR_FORMAT);
    assert_null(text);
}

static void places_are_checked_before_the_work(void **state)
{
    (void)state;
    styx_error err = { 0 };
    struct image img;
    unsigned char *bytes;
    size_t n;
    char *path = path_join(dir, "a.png");

    assert_int_equal(image_writable(path, FILE_NEW, &err), STYX_OK);
    assert_int_equal(image_writable("a.bmp", FILE_NEW, &err), STYX_ERR_INVALID);
    assert_string_equal(err.text,
                        "a.bmp: pictures are written as .png, .jpg, .jpeg or .webp, not as 'bmp'");
    assert_int_equal(image_writable("/no/such/a.png", FILE_NEW, &err), STYX_ERR_IO);
    assert_int_equal(image_writable(DATA "rgb.png", FILE_NEW, &err), STYX_ERR_INVALID);
    free(path);

    fill(&img, 4, 4, 4);
    assert_int_equal(image_encode(IMAGE_JPEG, &img, NULL, 0, &bytes, &n, &err), STYX_ERR_INVALID);
    assert_int_equal(image_encode(IMAGE_PNG, &img, NULL, 101, &bytes, &n, &err), STYX_ERR_INVALID);
    assert_null(bytes);
    image_free(&img);
    assert_int_equal(image_new(&img, 0, 4, 3, &err), STYX_ERR_INVALID);
    assert_int_equal(image_new(&img, 100000, 100000, 3, &err), STYX_ERR_INVALID);
    assert_int_equal(image_new(&img, 4, 4, 5, &err), STYX_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pixels_are_those_of_pil),
        cmocka_unit_test(ycck_is_cmyk),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(long_texts_fit_everywhere),
        cmocka_unit_test(others_texts_are_read),
        cmocka_unit_test(truncated_files_are_errors),
        cmocka_unit_test(damaged_files_do_no_harm),
        cmocka_unit_test(bombs_are_refused_by_their_header),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(places_are_checked_before_the_work),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
