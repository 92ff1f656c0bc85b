/* Run: clang -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Isrc -Itests tests/fuzz/fuzz_safetensors.c src/weights/{safetensors,store}.c src/base/{file,json,error,dtype}.c src/tape/span.c -ljansson -o fuzz && ./fuzz -max_len=4096 */
#include "fuzz/fuzz_store.h"
#include "weights/safetensors.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    return fuzz_store(safetensors_parse, data, bytes);
}
