#include "cuda/kernels/args.h"
