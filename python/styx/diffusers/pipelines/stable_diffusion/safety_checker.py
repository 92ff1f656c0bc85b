"""The safety checker, under the path that diffusers has it."""

from ..._components import StableDiffusionSafetyChecker

__all__ = ["StableDiffusionSafetyChecker"]
