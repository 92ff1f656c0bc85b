"""Generators of anybody's as handles of ours."""

import sys
import weakref

from .. import _core
from ..torch._types import Generator


def generator_handle(generator):
    """The handle of a styx generator, or one that goes on where a torch generator stands."""
    if isinstance(generator, Generator):
        return generator._handle
    if hasattr(generator, "initial_seed") and hasattr(generator, "get_state"):
        return _torch_handle(generator)
    raise TypeError(f"generator is a {type(generator).__name__}; a torch.Generator was wanted")


_twins = weakref.WeakKeyDictionary()


def _torch_handle(generator):
    """A twin with the same seed. After each use the torch generator is moved on by one number, so
    that the twin is continued as long as nobody else uses or reseeds it, as torch would continue.
    """
    state = bytes(generator.get_state().numpy())
    twin = _twins.get(generator)
    if twin is None or twin[1] != state:
        kind = 1 if str(generator.device).startswith("cuda") else 0
        twin = (_core.generator_new(kind, generator.initial_seed() % 2 ** 64), None)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.rand(1, generator=generator, device=generator.device)
    _twins[generator] = (twin[0], bytes(generator.get_state().numpy()))
    return twin[0]
