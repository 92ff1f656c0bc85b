"""Settings that can be read like a dict and like attributes."""

import json


class FrozenDict(dict):
    """A dict whose entries are attributes too, and which cannot be written."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the config has no '{name}'") from None

    def _refuse(self, *args, **kwargs):
        raise TypeError("a config cannot be changed; make a new object with from_config()")

    __setitem__ = __delitem__ = __setattr__ = pop = popitem = clear = update = setdefault = _refuse

    def __reduce__(self):
        return (FrozenDict, (dict(self),))


def _plain(x):
    """What json does not know: arrays and numpy's numbers."""
    if hasattr(x, "tolist"):
        return x.tolist()
    raise TypeError(f"{x!r} cannot stand in a config")


INFINITE = 1e308  # how the engine writes infinity, which JSON does not have


def _finite(x):
    return max(-INFINITE, min(INFINITE, x)) if isinstance(x, float) else x


def to_json(config):
    """A config as the engine reads it."""
    return json.dumps({k: _finite(v) for k, v in config.items()}, default=_plain)


def from_json(text):
    """A config that the engine wrote."""
    def infinite(x):
        return float("inf") * (1 if x > 0 else -1) if isinstance(x, float) and \
            abs(x) >= INFINITE else x

    return FrozenDict({k: infinite(v) for k, v in json.loads(text).items()})
