"""Generators of anybody's as handles of ours."""

import sys

from .. import _core
from ..torch._types import Generator


def generator_handle(generator):
    """The handle of a styx generator, or one that goes on where a torch generator stands."""
    if isinstance(generator, Generator):
        return generator._handle
    if hasattr(generator, "initial_seed") and hasattr(generator, "get_state"):
        return _torch_handle(generator)
    raise TypeError(f"generator is a {type(generator).__name__}; a torch.Generator was wanted")


_twins = {}  # id of a torch generator -> (the generator, its twin, its state after the last use)
_MOST = 64   # torch generators cannot be watched by weak references: only so many are remembered


def _state(generator):
    return bytes(generator.get_state().numpy())


def _torch_handle(generator):
    """A twin with the same seed. After each use the torch generator is moved on by one number, so
    that the twin is continued as long as nobody else uses or reseeds it, as torch would continue.
    """
    known = _twins.pop(id(generator), None)
    if known is None or known[2] != _state(generator):
        kind = 1 if str(generator.device).startswith("cuda") else 0
        known = (generator, _core.generator_new(kind, generator.initial_seed() % 2 ** 64), None)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.rand(1, generator=generator, device=generator.device)
    _twins[id(generator)] = (generator, known[1], _state(generator))
    while len(_twins) > _MOST:
        del _twins[next(iter(_twins))]
    return known[1]
