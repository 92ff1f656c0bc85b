/* AVX-512 with BF16 arithmetic (Zen 4, Cooper Lake and later). */
#include "cpu/kernel_avx512bf16.inc"
#include "cpu/kernel.h"

#define KERNELS kernels_avx512bf16
#define KERNELS_NAME "avx512bf16"

#include "cpu/kernel.inc"
