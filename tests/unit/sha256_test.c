/* base/sha256: the vectors of FIPS 180 and NIST's short-message file, and both block functions. */
#include "base/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Last: cmocka defines a macro fail(). */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void known_answers(void **state)
{
    (void)state;
    static const struct {
        const char *text, *hex;
    } vectors[] = {
        { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
        { "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
          "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
          "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1" },
        { "\xd3", "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1" },
        { "\x11\xaf", "5ca7133fa735326081558ac312c620eeca9970d1e70a4b95533d956f072d1f98" },
    };
    char hex[SHA256_HEX];

    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        sha256_hex(vectors[i].text, strlen(vectors[i].text), hex);
        assert_string_equal(hex, vectors[i].hex);
    }
}

static void a_million_letters_in_any_pieces(void **state)
{
    (void)state;
    struct sha256 s;
    unsigned char digest[SHA256_BYTES], *letters = malloc(1000000);
    size_t done = 0, piece = 1;

    memset(letters, 'a', 1000000);
    sha256_start(&s);
    while (done < 1000000) {
        size_t n = piece < 1000000 - done ? piece : 1000000 - done;
        sha256_add(&s, letters + done, n);
        done += n;
        piece = piece * 7 % 1009;
    }
    sha256_finish(&s, digest);
    assert_memory_equal(digest,
                        "\xcd\xc7\x6e\x5c\x99\x14\xfb\x92\x81\xa1\xc7\xe2\x84\xd7\x3e\x67"
                        "\xf1\x80\x9a\x48\xa4\x97\x20\x0e\x04\x6d\x39\xcc\xc7\x11\x2c\xd0",
                        32);
    free(letters);
}

static void plain_and_chosen_blocks_agree(void **state)
{
    (void)state;
    unsigned char data[200], a[SHA256_BYTES], b[SHA256_BYTES];

    for (size_t n = 0; n < sizeof data; n++)
        data[n] = (unsigned char)(n * 151 + 7);
    for (size_t n = 0; n <= sizeof data; n++) {
        struct sha256 s;
        sha256_start(&s);
        sha256_add(&s, data, n);
        sha256_finish(&s, a);
        sha256_start(&s);
        s.blocks = sha256_blocks_plain;
        sha256_add(&s, data, n);
        sha256_finish(&s, b);
        assert_memory_equal(a, b, sizeof a);
    }
}

static void files_are_hashed(void **state)
{
    (void)state;
    char path[] = "/tmp/styx-sha256-XXXXXX", hex[SHA256_HEX];
    int fd = mkstemp(path);
    styx_error err = { 0 };

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "abc", 3), 3);
    close(fd);
    assert_int_equal(sha256_file(path, hex, &err), STYX_OK);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    unlink(path);
    assert_int_equal(sha256_file(path, hex, &err), STYX_ERR_IO);
    assert_int_equal(sha256_file("/tmp", hex, &err), STYX_ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(a_million_letters_in_any_pieces),
        cmocka_unit_test(plain_and_chosen_blocks_agree),
        cmocka_unit_test(files_are_hashed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
