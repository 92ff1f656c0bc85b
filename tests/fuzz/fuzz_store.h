/* fuzz_store.h - what the fuzz targets of the readers of weights share. */
#ifndef TESTS_FUZZ_STORE_H
#define TESTS_FUZZ_STORE_H
#include "weights/store.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes);

typedef int parse_fn(const unsigned char *data, size_t bytes, const char *path, struct store *into,
                     styx_error *err);

/* Whatever parses must lie inside of the input: every element is read. */
static inline void read_all(struct store *s)
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

static inline int fuzz_store(parse_fn *parse, const unsigned char *data, size_t bytes)
{
    struct store *s = store_new("input");
    if (s && !parse(data, bytes, "input", s, NULL) && !store_seal(s, NULL))
        read_all(s);
    store_unref(s);
    return 0;
}

#endif
