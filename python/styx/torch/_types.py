"""dtypes, devices and generators."""

import os

from .. import _core


class dtype:
    """A type of numbers. styx.torch.float16 == torch.float16 compares by name."""

    def __init__(self, name, itemsize, floating):
        self.name, self.itemsize, self.is_floating_point = name, itemsize, floating

    def __repr__(self):
        return "torch." + self.name

    def __eq__(self, other):
        return isinstance(other, dtype) and self.name == other.name or str(other) == repr(self)

    def __hash__(self):
        return hash(self.name)


float16 = half = dtype("float16", 2, True)
bfloat16 = dtype("bfloat16", 2, True)
float32 = float = dtype("float32", 4, True)
float64 = double = dtype("float64", 8, True)
int32 = dtype("int32", 4, False)
int64 = long = dtype("int64", 8, False)
uint8 = dtype("uint8", 1, False)


def dtype_of(x):
    """Our dtype for ours, torch's, numpy's or a name; None stays None."""
    if x is None or isinstance(x, dtype):
        return x
    name = getattr(x, "__name__", None) or str(x)
    name = name.split(".")[-1]
    for known in (float16, bfloat16, float32, float64, int32, int64, uint8):
        if known.name == name:
            return known
    raise ValueError(f"{x!r} is no dtype that Styx knows: float16, bfloat16 or float32")


class device:
    """Where things are: "cpu" or "cuda:0"."""

    def __init__(self, type, index=None):
        if not isinstance(type, str):  # another device, ours or torch's
            type, index = type.type, type.index if index is None else index
        name, _, number = type.partition(":")
        if name not in ("cpu", "cuda"):
            raise RuntimeError(f"device '{type}': cpu or cuda was wanted")
        self.type = name
        self.index = int(number) if number else index

    def __repr__(self):
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other):
        return str(self) == str(other)

    def __hash__(self):
        return hash(str(self))


DEFAULT_SEED = 67280421310721  # of a torch.Generator that nobody seeded


class Generator:
    """Random numbers, the same as torch's for the same seed.

    device: "cpu" (mt19937) or "cuda" (Philox, the numbers of an H100; no card is needed for them).
    """

    def __init__(self, device="cpu"):
        self.device = globals()["device"](device)
        kind = 0 if self.device.type == "cpu" else 1
        self._handle = _core.generator_new(kind, DEFAULT_SEED if kind == 0 else 0)

    def manual_seed(self, seed):
        """Starts over from seed (negative ones count from 2**64 down); returns the generator."""
        seed = int(seed)
        if not -(2 ** 63) <= seed < 2 ** 64:
            raise RuntimeError(f"a seed of {seed}; 64 bits were wanted")
        _core.generator_seed(self._handle, seed % 2 ** 64)
        return self

    def seed(self):
        """Starts over from a random seed and returns it."""
        seed = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(seed)
        return seed

    def initial_seed(self):
        """The seed it started from."""
        return _core.generator_initial_seed(self._handle)

    def __repr__(self):
        return f"<styx.torch.Generator device={self.device} seed={self.initial_seed()}>"


_defaults = {}


def default_generator(kind):
    """The generator that is used where none is given; seeded at random, or by manual_seed."""
    if kind not in _defaults:
        _defaults[kind] = Generator(kind)
        _defaults[kind].seed()
    return _defaults[kind]
