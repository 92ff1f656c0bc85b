/* Run: clang -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Isrc -Itests tests/fuzz/fuzz_pickle.c src/weights/{pickle,zip,store}.c src/base/{bump,file,error,dtype}.c src/tape/span.c -o fuzz && ./fuzz -max_len=4096 */
#include "fuzz/fuzz_store.h"
#include "weights/pickle.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    return fuzz_store(pickle_parse, data, bytes);
}
