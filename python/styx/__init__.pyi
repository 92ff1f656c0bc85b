"""Types of styx."""

from typing import Any

from . import diffusers as diffusers
from . import torch as torch
from . import transformers as transformers

__version__: str

class FormatError(OSError, ValueError): ...
class Cancelled(RuntimeError): ...

def configure(*, backend: str | None = None, threads: int | None = None, isa: str | None = None,
              max_memory: int | None = None, device: int | None = None,
              offload: str | None = None, max_vram: int | None = None,
              winograd: bool | None = None, int8: bool | None = None,
              fp8: bool | None = None,
              compute: str | None = None) -> None: ...
def device_info() -> dict[str, Any]: ...
def devices() -> dict[str, Any]: ...
def free_memory() -> None: ...
