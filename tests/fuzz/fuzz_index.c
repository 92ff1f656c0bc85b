/* The index of shards, of any bytes, beside two good shards: what opens is read to its end. */
#include "fuzz_folder.h"
#include "fuzz_store.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    static const float numbers[4] = { 1, 2, 3, 4 };
    const struct saved first[] = { { "a", DT_F32, 1, { 4 }, numbers },
                                   { "b", DT_F32, 2, { 2, 2 }, numbers } };
    const struct saved second[] = { { "c", DT_F32, 1, { 3 }, numbers } };
    static bool made;
    struct store *s = NULL;
    if (!made) {
        put_weights(0, "1.safetensors", first, 2);
        put_weights(1, "2.safetensors", second, 1);
        made = true;
    }
    put_bytes(2, "model.safetensors.index.json", data, bytes);
    if (!store_open_component(fuzz_folder, "model", NULL, &s, NULL))
        read_all(s);
    store_unref(s);
    return 0;
}
