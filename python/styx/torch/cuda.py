"""torch.cuda, as far as scripts ask whether there is a card."""

import json

from .. import _core


def is_available():
    """Does this build compute on a CUDA card of this machine?"""
    try:
        info = json.loads(_core.session_info(_core.session_new("cuda", 0, None, 0)))
    except (ValueError, RuntimeError, NotImplementedError, OSError):
        return False
    return info["backend"] == "cuda"


def device_count():
    """1 or 0."""
    return int(is_available())


def manual_seed(seed):
    """Seeds the default CUDA generator."""
    from ._types import default_generator

    default_generator("cuda").manual_seed(seed)


manual_seed_all = manual_seed


def empty_cache():
    """Drops what no pipeline is using at the moment: see styx.free_memory."""
    from .._engine import free_memory

    free_memory()
