"""All scheduler classes, under the path that diffusers has them."""

from . import _schedulers
from ._schedulers import CLASSES, SchedulerMixin

__all__ = ["SchedulerMixin", *CLASSES]


def __getattr__(name):
    if name in CLASSES:
        return getattr(_schedulers, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
