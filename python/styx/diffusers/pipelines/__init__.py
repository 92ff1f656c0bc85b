"""The pipelines, under the path that diffusers has them."""

from .. import *  # noqa: F401,F403
from .._outputs import StableDiffusionPipelineOutput, StableDiffusionXLPipelineOutput  # noqa: F401
