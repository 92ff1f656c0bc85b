"""diffusers' pipelines, schedulers and models over Styx. See docs/coming-from-diffusers.md."""

from . import _schedulers
from ._auto import (AutoPipelineForImage2Image, AutoPipelineForInpainting,
                    AutoPipelineForText2Image)
from ._components import AutoencoderKL, UNet2DConditionModel
from ._pipeline import DiffusionPipeline
from ._schedulers import CLASSES as _CLASSES
from ._schedulers import SchedulerMixin
from ._sd import (StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline,
                  StableDiffusionPipeline)
from ._sdxl import (StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline,
                    StableDiffusionXLPipeline)

for _name in _CLASSES:
    globals()[_name] = getattr(_schedulers, _name)

__all__ = ["AutoPipelineForImage2Image", "AutoPipelineForInpainting", "AutoPipelineForText2Image",
           "AutoencoderKL", "DiffusionPipeline", "SchedulerMixin",
           "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline",
           "StableDiffusionPipeline", "StableDiffusionXLImg2ImgPipeline",
           "StableDiffusionXLInpaintPipeline", "StableDiffusionXLPipeline",
           "UNet2DConditionModel", *_CLASSES]
