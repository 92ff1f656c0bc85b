"""The few things of torch that a diffusers script mentions: dtypes, generators, small tensors.

`from styx import torch` in place of `import torch`.
"""

import os as _os

from . import cuda
from ._tensor import (Tensor, arange, cat, from_numpy, full, linspace, manual_seed, ones, randn,
                      stack, tensor, zeros)
from ._types import (Generator, bfloat16, default_generator, device, dtype, float16, float32,
                     float64, half, int32, int64, long, uint8)
from ._types import float as float

__version__ = "styx"
__all__ = ["Generator", "Tensor", "arange", "bfloat16", "cat", "cuda", "device", "dtype",
           "float16", "float32", "float64", "from_numpy", "full", "inference_mode", "int32",
           "int64", "linspace", "manual_seed", "no_grad", "ones", "randn", "stack", "tensor",
           "uint8", "zeros"]


class no_grad:
    """Nothing here has gradients: a context manager and decorator that changes nothing."""

    def __init__(self, mode=True):
        self.function = mode if callable(mode) else None

    def __enter__(self):
        return None

    def __exit__(self, *exception):
        return False

    def __call__(self, *args, **kwargs):
        if self.function is not None:  # @no_grad without brackets
            return self.function(*args, **kwargs)
        return args[0]  # @no_grad()


class inference_mode(no_grad):
    """As no_grad."""


enable_grad = autocast = no_grad


def is_tensor(x):
    """Is x a styx tensor?"""
    return isinstance(x, Tensor)


def initial_seed():
    """The seed of the default generator."""
    return default_generator("cpu").initial_seed()


def seed():
    """Gives the default generators a random seed and returns it."""
    return manual_seed(int.from_bytes(_os.urandom(8), "little")).initial_seed()


def is_grad_enabled():
    """Always False."""
    return False
