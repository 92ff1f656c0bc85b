"""AutoPipelineFor...: the pipeline of a task that fits a model."""

import os

from .. import _hub
from ._pipeline import _read_index
from ._sd import (StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline,
                  StableDiffusionPipeline)
from ._sdxl import (StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline,
                    StableDiffusionXLPipeline)


class _AutoPipeline:
    sd = xl = None

    def __init__(self, *args, **kwargs):
        name = type(self).__name__
        raise EnvironmentError(f"{name} is designed to be instantiated using the "
                               f"`{name}.from_pretrained(pretrained_model_name_or_path)` or "
                               f"`{name}.from_pipe(pipeline)` methods.")

    @classmethod
    def _class_for(cls, name):
        if not isinstance(name, str) or not name.startswith("StableDiffusion"):
            raise ValueError(f"AutoPipeline can't find a pipeline linked to {name} for Styx")
        return cls.xl if name.startswith("StableDiffusionXL") else cls.sd

    @classmethod
    def from_pretrained(cls, pretrained_model_or_path, **kwargs):
        """The task's pipeline for the family that the model's model_index.json names."""
        path = _hub.find(pretrained_model_or_path, kwargs.get("revision"), kwargs.get("cache_dir"))
        made = cls._class_for(_read_index(path).get("_class_name"))
        return made.from_pretrained(os.fspath(pretrained_model_or_path), **kwargs)

    @classmethod
    def from_pipe(cls, pipeline, **kwargs):
        """The task's pipeline with the components of another pipeline."""
        return cls._class_for(type(pipeline).__name__).from_pipe(pipeline, **kwargs)


class AutoPipelineForText2Image(_AutoPipeline):
    """Text to image."""

    sd, xl = StableDiffusionPipeline, StableDiffusionXLPipeline


class AutoPipelineForImage2Image(_AutoPipeline):
    """Image to image."""

    sd, xl = StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline


class AutoPipelineForInpainting(_AutoPipeline):
    """Inpainting."""

    sd, xl = StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline
