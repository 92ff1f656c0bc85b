/* `make fuzz` runs it with all the others. */
#include "fuzz/fuzz_store.h"
#include "weights/gguf.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    return fuzz_store(gguf_parse, data, bytes);
}
