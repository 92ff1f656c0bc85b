"""torch.cuda, as far as scripts ask what cards there are."""

import functools

from .. import _engine


@functools.lru_cache(maxsize=None)
def _cards():
    return [card for card in _engine.devices()["cards"] if "why" not in card]


def _card(device):
    from ._types import device as as_device

    if device is None:
        index = current_device()
    else:
        index = device if isinstance(device, int) else as_device(device).index or 0
    for card in _cards():
        if card["index"] == index:
            return card
    raise RuntimeError(f"cuda:{index}: there is no such card that Styx can use")


def is_available():
    """Is there a CUDA card that Styx can use?"""
    return bool(_cards())


def device_count():
    """How many cards Styx can use."""
    return len(_cards())


def current_device():
    """The number of the card that all pipelines run on."""
    return _engine.card_number()


def get_device_name(device=None):
    """"NVIDIA H200"."""
    return _card(device)["name"]


def get_device_capability(device=None):
    """(9, 0) for compute capability 9.0."""
    major, minor = _card(device)["compute_capability"].split(".")
    return int(major), int(minor)


def mem_get_info(device=None):
    """(free, total) bytes of a card, asked afresh."""
    index = _card(device)["index"]
    card = next(c for c in _engine.devices()["cards"] if c["index"] == index)
    return card["free"], card["memory"]


def memory_allocated(device=None):
    """Bytes that Styx holds on the card: weights, arenas, workspaces."""
    return _engine.device_info()["held_bytes"] if _engine.on_card() else 0


def synchronize(device=None):
    """Nothing to wait for: calls return when their results are there."""


def manual_seed(seed):
    """Seeds the default CUDA generator."""
    from ._types import default_generator

    default_generator("cuda").manual_seed(seed)


manual_seed_all = manual_seed


def empty_cache():
    """Drops what no pipeline is using at the moment: see styx.free_memory."""
    _engine.free_memory()
