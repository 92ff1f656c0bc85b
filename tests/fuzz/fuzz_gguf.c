/* Run: clang -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Isrc -Itests tests/fuzz/fuzz_gguf.c src/weights/{gguf,quants,store}.c src/base/{file,json,error,dtype}.c src/tape/span.c -ljansson -o fuzz && ./fuzz -max_len=4096 */
#include "fuzz/fuzz_store.h"
#include "weights/gguf.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    return fuzz_store(gguf_parse, data, bytes);
}
