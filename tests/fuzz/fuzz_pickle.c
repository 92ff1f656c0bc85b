/* Run: clang -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Isrc tests/fuzz/fuzz_pickle.c src/weights/{pickle,zip,store}.c src/base/{bump,file,error,dtype}.c src/tape/span.c -o fuzz && ./fuzz -max_len=4096 */
#include <stdlib.h>

#include "weights/pickle.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes);

/* Whatever parses must lie inside of the input: every element is read. */
static void read_all(struct store *s)
{
    volatile float sum = 0;
    for (int i = 0; i < store_count(s); i++) {
        struct span span;
        if (store_span(s, store_at(s, i), &span, NULL))
            continue;
        for (size_t at = 0, n = span_count(&span); at < n; at++) {
            float value;
            span_read(&span, at, 1, &value);
            sum = sum + value;
        }
    }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    struct store *s = store_new("input");
    if (s && !pickle_parse(data, bytes, "input", s, NULL) && !store_seal(s, NULL))
        read_all(s);
    store_unref(s);
    return 0;
}
