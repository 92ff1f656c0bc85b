"""A pipeline call: arguments become a request, the result becomes diffusers' output."""

import logging

from .. import _arrays, _core, _image
from .._engine import AUTO, F32, Session, compute_type, noise_type
from ..torch._tensor import Tensor
from ..torch._types import default_generator
from . import _checks, _crop, _pictures, _preview
from ._components import lora_scale
from ._generators import generator_handle
from ._outputs import StableDiffusionPipelineOutput, StableDiffusionXLPipelineOutput
from ._steps import StepCaller

logger = logging.getLogger("styx.diffusers")

NSFW_WARNING = ("Potential NSFW content was detected in one or more images. A black image will be "
                "returned instead. Try again with a different prompt and/or seed.")

#: argument -> field of the request, where the value is passed as it is
PLAIN = {"num_inference_steps": "steps", "guidance_scale": "guidance_scale",
         "guidance_rescale": "guidance_rescale", "eta": "eta", "height": "height",
         "width": "width", "num_images_per_prompt": "images_per_prompt", "clip_skip": "clip_skip",
         "strength": "strength", "denoising_start": "denoising_start",
         "denoising_end": "denoising_end", "aesthetic_score": "aesthetic_score",
         "negative_aesthetic_score": "negative_aesthetic_score",
         "original_size": "original_size", "target_size": "target_size",
         "crops_coords_top_left": "crop", "negative_original_size": "negative_original_size",
         "negative_target_size": "negative_target_size",
         "negative_crops_coords_top_left": "negative_crop"}
TENSORS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds",
           "negative_pooled_prompt_embeds", "latents")
OUTPUTS = {"pil": 0, "np": 1, "pt": 1, "latent": 2}
SAFETY_BLACK, SAFETY_OFF = 0, 2


def prompt_rows(a):
    """How many prompts a call has."""
    prompt = a.get("prompt")
    if isinstance(prompt, list):
        return len(prompt)
    return 1 if prompt is not None else int(a["prompt_embeds"].shape[0])


def text_fields(a):
    """The texts, as lists with one entry a prompt."""
    rows = prompt_rows(a)
    fields = {}
    for name, field in (("prompt", "prompts"), ("prompt_2", "prompts_2"),
                        ("negative_prompt", "negative_prompts"),
                        ("negative_prompt_2", "negative_prompts_2")):
        x = a.get(name)
        if isinstance(x, str):
            # "prompt_2 or prompt", says diffusers
            x = [x] * rows if x or not name.endswith("_2") else None
        if x is not None:
            fields[field] = [text.replace("\0", "") for text in x]  # which CLIP drops anyway
    return fields


def common_fields(pipe, a):
    """What calls and encode_prompt share."""
    fields = text_fields(a)
    for name in TENSORS:
        if a.get(name) is not None:
            fields[name] = _arrays.floats(a[name], name)
    for name, field in PLAIN.items():
        if a.get(name) is not None:
            fields[field] = a[name]
    fields["dtype"] = compute_type(pipe.dtype.name, pipe.unet.num_parameters())
    fields["vae_dtype"] = F32 if fields["dtype"] == F32 else AUTO
    fields["noise_dtype"] = noise_type(pipe.dtype.name)
    return fields


def _generators(pipe, generator):
    if generator is None:
        generator = default_generator(pipe.device.type)
    if not isinstance(generator, (list, tuple)):
        generator = [generator]
    return [generator_handle(g) for g in generator]


def _vae_fields(vae):
    return {"vae_slicing": int(vae.use_slicing), "vae_tiling": 2 if vae.use_tiling else 1,
            "vae_tile": int(vae.tile_sample_min_size)}


def _task_fields(pipe, a):
    if pipe.task == "text":
        return {}
    if a.get("image") is None:
        raise ValueError("`image` input cannot be undefined.")
    fields = _pictures.image_fields(a["image"])
    if pipe.task == "inpaint":
        if a.get("mask_image") is None:
            raise ValueError("`mask_image` input cannot be undefined.")
        side = pipe.unet.config["sample_size"] * pipe.vae_scale_factor
        fields.update(_pictures.mask_fields(a["mask_image"], a.get("height") or side,
                                            a.get("width") or side))
    return fields


def _guided(pipe, a):
    return (a["guidance_scale"] or 0) > 1 and pipe.unet.config.get("time_cond_proj_dim") is None


def _check(pipe, a):
    _checks.check_missing(a)
    _checks.check_numbers(pipe, a)
    _checks.check_callback(pipe, a)
    _checks.check_prompts(pipe, a, _guided(pipe, a))
    _checks.check_crop(a)
    _checks.check_output(a)
    _checks.check_batch(a, prompt_rows(a) * (a.get("num_images_per_prompt") or 1))


def _size_of_latents(pipe, fields):
    """latents= decide the size, whatever height= and width= say; SDXL is told the latter."""
    height, width = fields.pop("height", None), fields.pop("width", None)
    if pipe.is_xl and (height or width):
        side = pipe.unet.config["sample_size"] * pipe.vae_scale_factor
        for name in ("original_size", "target_size"):
            fields.setdefault(name, (height or side, width or side))


def _request(pipe, a):
    fields = {**common_fields(pipe, a), **_task_fields(pipe, a), **_vae_fields(pipe.vae)}
    if pipe.task == "text" and "latents" in fields:
        _size_of_latents(pipe, fields)
    for name in ("timesteps", "sigmas"):
        if a.get(name) is not None:
            fields[name] = [float(x) for x in a[name]]
            fields.pop("steps", None)
    fields["generators"] = _generators(pipe, a.get("generator"))
    fields["scheduler"] = pipe.scheduler._handle
    fields["output"] = OUTPUTS[a["output_type"]]
    fields["safety"] = SAFETY_BLACK if pipe.components.get("safety_checker") else SAFETY_OFF
    return fields


class _Bar:
    """diffusers' bar over the denoising steps, made when their number is known, and previews."""

    def __init__(self, pipe):
        self.pipe = pipe
        self.bar = None
        self.show = _preview.maker(pipe)

    def __call__(self, stage, done, total, seconds, preview):
        if stage != "denoise":
            return
        if self.bar is None:
            self.bar = self.pipe.progress_bar(total=total)
            self.done = 0
        if done > self.done:
            self.bar.update(done - self.done)
            self.done = done
        if preview is not None and self.show is not None:
            self.show(done, total, preview)
        if done == total:
            self.close()

    def close(self):
        if self.bar is not None:
            self.bar.close()


def call(pipe, a):
    """Runs the call with the arguments by name."""
    _check(pipe, a)
    pipe._guidance_scale = a.get("guidance_scale")
    pipe._guidance_rescale = a.get("guidance_rescale")
    pipe._clip_skip = a.get("clip_skip")
    pipe._interrupt = False
    model = pipe._assembled(lora_scale(a.get("cross_attention_kwargs")))
    crop = _crop.crop_of(pipe, a)
    request = _request(pipe, a)
    caller = StepCaller(pipe, a, pipe.scheduler.order)
    trace = pipe._trace and (lambda name, view: pipe._trace(name, Tensor(view)))
    bar = _Bar(pipe)
    try:
        with Session() as session:
            result = _core.generate(session, model, request, bar,
                                    caller if caller.needed() else None, trace)
    finally:
        bar.close()
    return _output(pipe, a, result, crop)


def _pictures_of(result, output_type):
    if output_type == "pil":
        return [_image.from_view(view) for view in result["images"]]
    if output_type == "latent":
        return Tensor(result["latents"])
    pixels = Tensor(result["pixels"])
    if output_type == "pt":
        return pixels
    return pixels.numpy().transpose(0, 2, 3, 1).copy()


def _output(pipe, a, result, crop):
    images = _pictures_of(result, a["output_type"])
    if crop:
        images = [crop.over(image) for image in images]
    flags = None if a["output_type"] == "latent" else result["nsfw"]
    if flags and any(flags):
        logger.warning(NSFW_WARNING)
    if not a.get("return_dict", True):
        return (images,) if pipe.is_xl else (images, flags)
    made = (StableDiffusionXLPipelineOutput(images=images) if pipe.is_xl else
            StableDiffusionPipelineOutput(images=images, nsfw_content_detected=flags))
    made.seeds, made.seconds = result["seeds"], result["seconds"]
    return made


def encode_prompt(pipe, a, guided, scale):
    """The four arrays of encode_prompt; those that do not apply are None. scale: of the LoRAs."""
    _checks.check_prompts(pipe, a, guided)
    fields = common_fields(pipe, a)
    fields["guidance_scale"] = 7.5 if guided else 1.0
    if pipe.unet.config["in_channels"] != 4 or not pipe.components.get("text_encoder"):
        # refiners and inpainting UNets refuse requests without a picture; nobody looks at this one
        fields["image_tensor"] = _arrays.zeros([1, 3, 64, 64])
        if pipe.unet.config["in_channels"] != 4:
            fields["mask_tensor"] = _arrays.zeros([1, 1, 64, 64])
    with Session() as session:
        arrays = _core.encode_prompt(session, pipe._assembled(scale), fields)
    return [None if x is None else Tensor(x) for x in arrays]
