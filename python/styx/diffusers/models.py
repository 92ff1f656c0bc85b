"""The networks, under the path that diffusers has them."""

from ._components import AutoencoderKL, UNet2DConditionModel

__all__ = ["AutoencoderKL", "UNet2DConditionModel"]
