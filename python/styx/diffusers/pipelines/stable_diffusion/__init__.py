"""The pipelines of Stable Diffusion 1.x."""

from ..._outputs import StableDiffusionPipelineOutput
from ..._sd import (StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline,
                    StableDiffusionPipeline)
from .safety_checker import StableDiffusionSafetyChecker

__all__ = ["StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline",
           "StableDiffusionPipeline", "StableDiffusionPipelineOutput",
           "StableDiffusionSafetyChecker"]
