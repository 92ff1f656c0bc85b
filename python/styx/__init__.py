"""Stable Diffusion in C, with the Python interface of diffusers.

    from styx.diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained("styx-emoji")
    pipe("a red apple").images[0].save("apple.png")

`styx.diffusers`, `styx.transformers` and `styx.torch` stand where `diffusers`, `transformers` and
`torch` stand in a script: only the import lines change. None of those three is needed or imported;
their dtypes, generators and tensors are accepted when you have them.
"""

from ._core import Cancelled, FormatError
from ._core import version as _version
from ._engine import configure, device_info, devices, free_memory

__version__ = _version()
__all__ = ["Cancelled", "FormatError", "configure", "device_info", "devices", "diffusers",
           "free_memory", "torch", "transformers"]


def __getattr__(name):
    if name in ("diffusers", "torch", "transformers"):
        import importlib

        return importlib.import_module("." + name, __name__)
    raise AttributeError(f"module 'styx' has no attribute '{name}'")
