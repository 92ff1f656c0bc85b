/* A config of any bytes, and every getter on it. */
#include <math.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    static const char *const names[] = { "a", "silu" };
    const char *w = "input", *text, *texts[4];
    const json_t *object;
    json_t *root;
    styx_error err;
    int i, ints[4], n;
    double d, doubles[4];
    bool b;

    if (json_bytes((const char *)data, bytes, w, &root, &err))
        return 0;
    json_int(root, w, "a", 1, -5, 5, &i, &err);
    json_double(root, w, "a", 0, -INFINITY, INFINITY, &d, &err);
    json_bool(root, w, "a", true, &b, &err);
    json_text(root, w, "a", NULL, &text, &err);
    json_choice(root, w, "a", names, 2, 0, &i, &err);
    json_ints(root, w, "a", -5, 5, ints, 4, &n, &err);
    json_doubles(root, w, "a", doubles, 4, &n, &err);
    json_texts(root, w, "a", texts, 4, &n, &err);
    if (!json_object_of(root, w, "a", &object, &err))
        json_int(object, w, "b", 1, 0, 9, &i, &err);
    json_decref(root);
    return 0;
}
