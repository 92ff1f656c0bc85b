"""Types of styx.diffusers."""

from collections.abc import Callable, Sequence
from typing import Any, Self

from ..torch import Generator, Tensor, device, dtype
from ..transformers import CLIPImageProcessor, CLIPTextModel, CLIPTextModelWithProjection, \
    CLIPTokenizer

ArrayLike = Any  # styx, numpy or torch
PictureInput = Any  # a picture, an array, or a list of one kind
Generators = Generator | list[Generator] | Any | None

class FrozenDict(dict[str, Any]):
    def __getattr__(self, name: str) -> Any: ...

class BaseOutput:
    def to_tuple(self) -> tuple[Any, ...]: ...
    def keys(self) -> list[str]: ...
    def __getitem__(self, key: int | str | slice) -> Any: ...

class StableDiffusionPipelineOutput(BaseOutput):
    images: Any
    nsfw_content_detected: list[bool] | None
    seeds: list[int]
    seconds: dict[str, float]

class StableDiffusionXLPipelineOutput(BaseOutput):
    images: Any
    seeds: list[int]
    seconds: dict[str, float]

class _Component:
    config: FrozenDict
    @property
    def dtype(self) -> dtype: ...
    @property
    def device(self) -> device: ...
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, subfolder: str | None = None, *,
                        revision: str | None = None, cache_dir: Any = None,
                        variant: str | None = None, torch_dtype: Any = None, dtype: Any = None,
                        **kwargs: Any) -> Self: ...
    def save_pretrained(self, save_directory: Any, **ignored: Any) -> None: ...
    def to(self, *args: Any, **kwargs: Any) -> Self: ...
    def num_parameters(self) -> int: ...

class DiagonalGaussianDistribution:
    parameters: Tensor
    mean: Tensor
    logvar: Tensor
    std: Tensor
    def sample(self, generator: Any = None) -> Tensor: ...
    def mode(self) -> Tensor: ...

class AutoencoderKL(_Component):
    tile_sample_min_size: int
    use_tiling: bool
    use_slicing: bool
    def enable_tiling(self, use_tiling: bool = True) -> None: ...
    def disable_tiling(self) -> None: ...
    def enable_slicing(self) -> None: ...
    def disable_slicing(self) -> None: ...
    def encode(self, x: ArrayLike, return_dict: bool = True) -> Any: ...
    def decode(self, z: ArrayLike, return_dict: bool = True, generator: Any = None) -> Any: ...
    def __call__(self, sample: ArrayLike, sample_posterior: bool = False,
                 return_dict: bool = True, generator: Any = None) -> Any: ...

class UNet2DConditionModel(_Component):
    def __call__(self, sample: ArrayLike, timestep: Any, encoder_hidden_states: ArrayLike,
                 class_labels: None = None, timestep_cond: ArrayLike | None = None,
                 attention_mask: None = None,
                 cross_attention_kwargs: dict[str, float] | None = None,
                 added_cond_kwargs: dict[str, ArrayLike] | None = None,
                 return_dict: bool = True) -> Any: ...

class SchedulerMixin:
    config: FrozenDict
    num_inference_steps: int | None
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False,
                    **kwargs: Any) -> Self: ...
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any = None,
                        subfolder: str | None = None, return_unused_kwargs: bool = False,
                        **kwargs: Any) -> Self: ...
    def save_pretrained(self, save_directory: Any, **ignored: Any) -> None: ...
    def set_timesteps(self, num_inference_steps: int | None = None, device: Any = None,
                      timesteps: Sequence[int] | None = None,
                      sigmas: Sequence[float] | None = None) -> None: ...
    @property
    def timesteps(self) -> Tensor: ...
    @property
    def sigmas(self) -> Tensor: ...
    @property
    def init_noise_sigma(self) -> float: ...
    @property
    def order(self) -> int: ...
    def set_begin_index(self, begin_index: int = 0) -> None: ...
    def scale_model_input(self, sample: ArrayLike, timestep: Any = None) -> Tensor: ...
    def step(self, model_output: ArrayLike, timestep: Any, sample: ArrayLike,
             eta: float | None = None, use_clipped_model_output: bool = False,
             generator: Any = None, return_dict: bool = True, *, s_churn: float = 0.0,
             s_tmin: float = 0.0, s_tmax: float = ..., s_noise: float = 1.0) -> Any: ...
    def add_noise(self, original_samples: ArrayLike, noise: ArrayLike,
                  timesteps: Any) -> Tensor: ...

class PNDMScheduler(SchedulerMixin): ...
class DDIMScheduler(SchedulerMixin): ...
class DDPMScheduler(SchedulerMixin): ...
class EulerDiscreteScheduler(SchedulerMixin): ...
class EulerAncestralDiscreteScheduler(SchedulerMixin): ...
class HeunDiscreteScheduler(SchedulerMixin): ...
class KDPM2DiscreteScheduler(SchedulerMixin): ...
class KDPM2AncestralDiscreteScheduler(SchedulerMixin): ...
class LMSDiscreteScheduler(SchedulerMixin): ...
class DPMSolverMultistepScheduler(SchedulerMixin): ...
class DPMSolverSDEScheduler(SchedulerMixin): ...
class UniPCMultistepScheduler(SchedulerMixin): ...
class DEISMultistepScheduler(SchedulerMixin): ...
class DPMSolverSinglestepScheduler(SchedulerMixin): ...
class LCMScheduler(SchedulerMixin): ...
class TCDScheduler(SchedulerMixin): ...

class DiffusionPipeline:
    scheduler: SchedulerMixin
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    _interrupt: bool
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *, torch_dtype: Any = None,
                        dtype: Any = None, variant: str | None = None,
                        revision: str | None = None, cache_dir: Any = None,
                        **kwargs: Any) -> Self: ...
    @classmethod
    def from_single_file(cls, pretrained_model_link_or_path: Any, *, torch_dtype: Any = None,
                         dtype: Any = None, config: Any = None, **kwargs: Any) -> Self: ...
    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Self: ...
    def save_pretrained(self, save_directory: Any, **ignored: Any) -> None: ...
    @property
    def components(self) -> dict[str, Any]: ...
    @property
    def config(self) -> FrozenDict: ...
    @property
    def dtype(self) -> dtype: ...
    @property
    def device(self) -> device: ...
    @property
    def num_timesteps(self) -> int: ...
    @property
    def guidance_scale(self) -> float | None: ...
    def register_modules(self, **parts: Any) -> None: ...
    def to(self, *args: Any, **kwargs: Any) -> Self: ...
    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: Any = None) -> None: ...
    def enable_sequential_cpu_offload(self, gpu_id: int | None = None,
                                      device: Any = None) -> None: ...
    def remove_all_hooks(self) -> None: ...
    def enable_attention_slicing(self, slice_size: Any = "auto") -> None: ...
    def disable_attention_slicing(self) -> None: ...
    def enable_xformers_memory_efficient_attention(self, attention_op: Any = None) -> None: ...
    def disable_xformers_memory_efficient_attention(self) -> None: ...
    def enable_vae_slicing(self) -> None: ...
    def disable_vae_slicing(self) -> None: ...
    def enable_vae_tiling(self) -> None: ...
    def disable_vae_tiling(self) -> None: ...
    def load_lora_weights(self, pretrained_model_name_or_path_or_dict: Any,
                          adapter_name: str | None = None, hotswap: bool = False,
                          **kwargs: Any) -> None: ...
    def unload_lora_weights(self) -> None: ...
    def set_adapters(self, adapter_names: str | list[str],
                     adapter_weights: Any = None) -> None: ...
    def get_active_adapters(self) -> list[str]: ...
    def get_list_adapters(self) -> dict[str, list[str]]: ...
    def delete_adapters(self, adapter_names: str | list[str]) -> None: ...
    def disable_lora(self) -> None: ...
    def enable_lora(self) -> None: ...
    def fuse_lora(self, components: Sequence[str] | None = None, lora_scale: float = 1.0,
                  safe_fusing: bool = False, adapter_names: list[str] | None = None,
                  **kwargs: Any) -> None: ...
    def unfuse_lora(self, components: Sequence[str] | None = None, **kwargs: Any) -> None: ...
    @property
    def fused_loras(self) -> set[str]: ...
    @property
    def num_fused_loras(self) -> int: ...
    def set_lora_device(self, adapter_names: list[str], device: Any) -> None: ...
    def load_textual_inversion(self, pretrained_model_name_or_path: Any,
                               token: str | list[str] | None = None,
                               tokenizer: CLIPTokenizer | None = None,
                               text_encoder: CLIPTextModel | None = None,
                               **kwargs: Any) -> None: ...
    def unload_textual_inversion(self, tokens: str | list[str] | None = None,
                                 tokenizer: CLIPTokenizer | None = None,
                                 text_encoder: CLIPTextModel | None = None) -> None: ...
    def set_progress_bar_config(self, **kwargs: Any) -> None: ...
    def progress_bar(self, iterable: Any = None, total: int | None = None) -> Any: ...
    def set_preview(self, every: int = 5, callback: Callable[..., None] | None = None) -> None: ...
    def set_trace(self, function: Callable[[str, Tensor], None] | None = None) -> None: ...

class StableDiffusionPipeline(DiffusionPipeline):
    def __init__(self, **components: Any) -> None: ...
    def encode_prompt(self, prompt: str | list[str] | None, device: Any = None,
                      num_images_per_prompt: int | None = 1,
                      do_classifier_free_guidance: bool = True,
                      negative_prompt: str | list[str] | None = None,
                      prompt_embeds: ArrayLike | None = None,
                      negative_prompt_embeds: ArrayLike | None = None,
                      lora_scale: float | None = None,
                      clip_skip: int | None = None) -> tuple[Tensor | None, ...]: ...
    def __call__(self, prompt: str | list[str] | None = None, height: int | None = None,
                 width: int | None = None, num_inference_steps: int = 50,
                 timesteps: Sequence[int] | None = None, sigmas: Sequence[float] | None = None,
                 guidance_scale: float = 7.5, negative_prompt: str | list[str] | None = None,
                 num_images_per_prompt: int | None = 1, eta: float = 0.0,
                 generator: Generators = None, latents: ArrayLike | None = None,
                 prompt_embeds: ArrayLike | None = None,
                 negative_prompt_embeds: ArrayLike | None = None, ip_adapter_image: Any = None,
                 ip_adapter_image_embeds: Any = None, output_type: str = "pil",
                 return_dict: bool = True, cross_attention_kwargs: dict[str, float] | None = None,
                 guidance_rescale: float = 0.0, clip_skip: int | None = None,
                 callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
                 callback_on_step_end_tensor_inputs: list[str] = ..., *,
                 callback: Callable[..., None] | None = None,
                 callback_steps: int | None = None) -> StableDiffusionPipelineOutput | Any: ...

class StableDiffusionImg2ImgPipeline(DiffusionPipeline):
    def __init__(self, **components: Any) -> None: ...
    def encode_prompt(self, prompt: str | list[str] | None, device: Any = None,
                      num_images_per_prompt: int | None = 1,
                      do_classifier_free_guidance: bool = True,
                      negative_prompt: str | list[str] | None = None,
                      prompt_embeds: ArrayLike | None = None,
                      negative_prompt_embeds: ArrayLike | None = None,
                      lora_scale: float | None = None,
                      clip_skip: int | None = None) -> tuple[Tensor | None, ...]: ...
    def __call__(self, prompt: str | list[str] | None = None, image: PictureInput = None,
                 strength: float = 0.8, num_inference_steps: int = 50,
                 timesteps: Sequence[int] | None = None, sigmas: Sequence[float] | None = None,
                 guidance_scale: float = 7.5, negative_prompt: str | list[str] | None = None,
                 num_images_per_prompt: int | None = 1, eta: float = 0.0,
                 generator: Generators = None, prompt_embeds: ArrayLike | None = None,
                 negative_prompt_embeds: ArrayLike | None = None, ip_adapter_image: Any = None,
                 ip_adapter_image_embeds: Any = None, output_type: str = "pil",
                 return_dict: bool = True, cross_attention_kwargs: dict[str, float] | None = None,
                 clip_skip: int | None = None,
                 callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
                 callback_on_step_end_tensor_inputs: list[str] = ..., *,
                 callback: Callable[..., None] | None = None,
                 callback_steps: int | None = None) -> StableDiffusionPipelineOutput | Any: ...

class StableDiffusionInpaintPipeline(DiffusionPipeline):
    def __init__(self, **components: Any) -> None: ...
    def encode_prompt(self, prompt: str | list[str] | None, device: Any = None,
                      num_images_per_prompt: int | None = 1,
                      do_classifier_free_guidance: bool = True,
                      negative_prompt: str | list[str] | None = None,
                      prompt_embeds: ArrayLike | None = None,
                      negative_prompt_embeds: ArrayLike | None = None,
                      lora_scale: float | None = None,
                      clip_skip: int | None = None) -> tuple[Tensor | None, ...]: ...
    def __call__(self, prompt: str | list[str] | None = None, image: PictureInput = None,
                 mask_image: PictureInput = None, masked_image_latents: Any = None,
                 height: int | None = None, width: int | None = None,
                 padding_mask_crop: Any = None, strength: float = 1.0,
                 num_inference_steps: int = 50, timesteps: Sequence[int] | None = None,
                 sigmas: Sequence[float] | None = None, guidance_scale: float = 7.5,
                 negative_prompt: str | list[str] | None = None,
                 num_images_per_prompt: int | None = 1, eta: float = 0.0,
                 generator: Generators = None, latents: ArrayLike | None = None,
                 prompt_embeds: ArrayLike | None = None,
                 negative_prompt_embeds: ArrayLike | None = None, ip_adapter_image: Any = None,
                 ip_adapter_image_embeds: Any = None, output_type: str = "pil",
                 return_dict: bool = True, cross_attention_kwargs: dict[str, float] | None = None,
                 clip_skip: int | None = None,
                 callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
                 callback_on_step_end_tensor_inputs: list[str] = ..., *,
                 callback: Callable[..., None] | None = None,
                 callback_steps: int | None = None) -> StableDiffusionPipelineOutput | Any: ...

class StableDiffusionXLPipeline(DiffusionPipeline):
    text_encoder_2: CLIPTextModelWithProjection
    tokenizer_2: CLIPTokenizer
    def __init__(self, **components: Any) -> None: ...
    def encode_prompt(self, prompt: str | list[str] | None,
                      prompt_2: str | list[str] | None = None, device: Any = None,
                      num_images_per_prompt: int | None = 1,
                      do_classifier_free_guidance: bool = True,
                      negative_prompt: str | list[str] | None = None,
                      negative_prompt_2: str | list[str] | None = None,
                      prompt_embeds: ArrayLike | None = None,
                      negative_prompt_embeds: ArrayLike | None = None,
                      pooled_prompt_embeds: ArrayLike | None = None,
                      negative_pooled_prompt_embeds: ArrayLike | None = None,
                      lora_scale: float | None = None,
                      clip_skip: int | None = None) -> tuple[Tensor | None, ...]: ...
    def __call__(self, prompt: str | list[str] | None = None,
                 prompt_2: str | list[str] | None = None, height: int | None = None,
                 width: int | None = None, num_inference_steps: int = 50,
                 timesteps: Sequence[int] | None = None, sigmas: Sequence[float] | None = None,
                 denoising_end: float | None = None, guidance_scale: float = 5.0,
                 negative_prompt: str | list[str] | None = None,
                 negative_prompt_2: str | list[str] | None = None,
                 num_images_per_prompt: int | None = 1, eta: float = 0.0,
                 generator: Generators = None, latents: ArrayLike | None = None,
                 prompt_embeds: ArrayLike | None = None,
                 negative_prompt_embeds: ArrayLike | None = None,
                 pooled_prompt_embeds: ArrayLike | None = None,
                 negative_pooled_prompt_embeds: ArrayLike | None = None,
                 ip_adapter_image: Any = None, ip_adapter_image_embeds: Any = None,
                 output_type: str = "pil", return_dict: bool = True,
                 cross_attention_kwargs: dict[str, float] | None = None,
                 guidance_rescale: float = 0.0,
                 original_size: tuple[int, int] | None = None,
                 crops_coords_top_left: tuple[int, int] = (0, 0),
                 target_size: tuple[int, int] | None = None,
                 negative_original_size: tuple[int, int] | None = None,
                 negative_crops_coords_top_left: tuple[int, int] = (0, 0),
                 negative_target_size: tuple[int, int] | None = None,
                 clip_skip: int | None = None,
                 callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
                 callback_on_step_end_tensor_inputs: list[str] = ..., *,
                 callback: Callable[..., None] | None = None,
                 callback_steps: int | None = None) -> StableDiffusionXLPipelineOutput | Any: ...

class StableDiffusionXLImg2ImgPipeline(DiffusionPipeline):
    text_encoder_2: CLIPTextModelWithProjection
    tokenizer_2: CLIPTokenizer
    def __init__(self, **components: Any) -> None: ...
    def encode_prompt(self, prompt: str | list[str] | None,
                      prompt_2: str | list[str] | None = None, device: Any = None,
                      num_images_per_prompt: int | None = 1,
                      do_classifier_free_guidance: bool = True,
                      negative_prompt: str | list[str] | None = None,
                      negative_prompt_2: str | list[str] | None = None,
                      prompt_embeds: ArrayLike | None = None,
                      negative_prompt_embeds: ArrayLike | None = None,
                      pooled_prompt_embeds: ArrayLike | None = None,
                      negative_pooled_prompt_embeds: ArrayLike | None = None,
                      lora_scale: float | None = None,
                      clip_skip: int | None = None) -> tuple[Tensor | None, ...]: ...
    def __call__(self, prompt: str | list[str] | None = None,
                 prompt_2: str | list[str] | None = None, image: PictureInput = None,
                 strength: float = 0.3, num_inference_steps: int = 50,
                 timesteps: Sequence[int] | None = None, sigmas: Sequence[float] | None = None,
                 denoising_start: float | None = None, denoising_end: float | None = None,
                 guidance_scale: float = 5.0, negative_prompt: str | list[str] | None = None,
                 negative_prompt_2: str | list[str] | None = None,
                 num_images_per_prompt: int | None = 1, eta: float = 0.0,
                 generator: Generators = None, latents: ArrayLike | None = None,
                 prompt_embeds: ArrayLike | None = None,
                 negative_prompt_embeds: ArrayLike | None = None,
                 pooled_prompt_embeds: ArrayLike | None = None,
                 negative_pooled_prompt_embeds: ArrayLike | None = None,
                 ip_adapter_image: Any = None, ip_adapter_image_embeds: Any = None,
                 output_type: str = "pil", return_dict: bool = True,
                 cross_attention_kwargs: dict[str, float] | None = None,
                 guidance_rescale: float = 0.0,
                 original_size: tuple[int, int] | None = None,
                 crops_coords_top_left: tuple[int, int] = (0, 0),
                 target_size: tuple[int, int] | None = None,
                 negative_original_size: tuple[int, int] | None = None,
                 negative_crops_coords_top_left: tuple[int, int] = (0, 0),
                 negative_target_size: tuple[int, int] | None = None,
                 aesthetic_score: float = 6.0, negative_aesthetic_score: float = 2.5,
                 clip_skip: int | None = None,
                 callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
                 callback_on_step_end_tensor_inputs: list[str] = ..., *,
                 callback: Callable[..., None] | None = None,
                 callback_steps: int | None = None) -> StableDiffusionXLPipelineOutput | Any: ...

class StableDiffusionXLInpaintPipeline(DiffusionPipeline):
    text_encoder_2: CLIPTextModelWithProjection
    tokenizer_2: CLIPTokenizer
    def __init__(self, **components: Any) -> None: ...
    def encode_prompt(self, prompt: str | list[str] | None,
                      prompt_2: str | list[str] | None = None, device: Any = None,
                      num_images_per_prompt: int | None = 1,
                      do_classifier_free_guidance: bool = True,
                      negative_prompt: str | list[str] | None = None,
                      negative_prompt_2: str | list[str] | None = None,
                      prompt_embeds: ArrayLike | None = None,
                      negative_prompt_embeds: ArrayLike | None = None,
                      pooled_prompt_embeds: ArrayLike | None = None,
                      negative_pooled_prompt_embeds: ArrayLike | None = None,
                      lora_scale: float | None = None,
                      clip_skip: int | None = None) -> tuple[Tensor | None, ...]: ...
    def __call__(self, prompt: str | list[str] | None = None,
                 prompt_2: str | list[str] | None = None, image: PictureInput = None,
                 mask_image: PictureInput = None, masked_image_latents: Any = None,
                 height: int | None = None, width: int | None = None,
                 padding_mask_crop: Any = None, strength: float = 0.9999,
                 num_inference_steps: int = 50, timesteps: Sequence[int] | None = None,
                 sigmas: Sequence[float] | None = None, denoising_start: float | None = None,
                 denoising_end: float | None = None, guidance_scale: float = 7.5,
                 negative_prompt: str | list[str] | None = None,
                 negative_prompt_2: str | list[str] | None = None,
                 num_images_per_prompt: int | None = 1, eta: float = 0.0,
                 generator: Generators = None, latents: ArrayLike | None = None,
                 prompt_embeds: ArrayLike | None = None,
                 negative_prompt_embeds: ArrayLike | None = None,
                 pooled_prompt_embeds: ArrayLike | None = None,
                 negative_pooled_prompt_embeds: ArrayLike | None = None,
                 ip_adapter_image: Any = None, ip_adapter_image_embeds: Any = None,
                 output_type: str = "pil", return_dict: bool = True,
                 cross_attention_kwargs: dict[str, float] | None = None,
                 guidance_rescale: float = 0.0,
                 original_size: tuple[int, int] | None = None,
                 crops_coords_top_left: tuple[int, int] = (0, 0),
                 target_size: tuple[int, int] | None = None,
                 negative_original_size: tuple[int, int] | None = None,
                 negative_crops_coords_top_left: tuple[int, int] = (0, 0),
                 negative_target_size: tuple[int, int] | None = None,
                 aesthetic_score: float = 6.0, negative_aesthetic_score: float = 2.5,
                 clip_skip: int | None = None,
                 callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
                 callback_on_step_end_tensor_inputs: list[str] = ..., *,
                 callback: Callable[..., None] | None = None,
                 callback_steps: int | None = None) -> StableDiffusionXLPipelineOutput | Any: ...

class _AutoPipeline:
    @classmethod
    def from_pretrained(cls, pretrained_model_or_path: Any, **kwargs: Any) -> Any: ...
    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Any: ...

class AutoPipelineForText2Image(_AutoPipeline): ...
class AutoPipelineForImage2Image(_AutoPipeline): ...
class AutoPipelineForInpainting(_AutoPipeline): ...
