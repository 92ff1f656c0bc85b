"""The pipelines of Stable Diffusion XL: text to image, image to image (the refiner), inpainting."""

from . import _run
from ._pipeline import DiffusionPipeline
from ._sd import LATENTS


class _StableDiffusionXL(DiffusionPipeline):
    component_names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet",
                       "scheduler", "image_encoder", "feature_extractor")
    _optional_components = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2",
                            "image_encoder", "feature_extractor")
    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->unet->vae"
    _callback_tensor_inputs = ["latents", "prompt_embeds", "add_text_embeds", "add_time_ids"]
    _lora_loadable_modules = ("unet", "text_encoder", "text_encoder_2")
    settings = {"force_zeros_for_empty_prompt": True}
    is_xl = True

    def encode_prompt(self, prompt, prompt_2=None, device=None, num_images_per_prompt=1,
                      do_classifier_free_guidance=True, negative_prompt=None,
                      negative_prompt_2=None, prompt_embeds=None, negative_prompt_embeds=None,
                      pooled_prompt_embeds=None, negative_pooled_prompt_embeds=None,
                      lora_scale=None, clip_skip=None):
        """Texts to (prompt_embeds, negative_prompt_embeds, pooled_prompt_embeds,
        negative_pooled_prompt_embeds): [prompts * n, tokens, dim] and [prompts * n, dim]; the
        negative ones are None without guidance."""
        arguments = dict(locals())
        for name in ("self", "device", "lora_scale", "do_classifier_free_guidance"):
            del arguments[name]
        return tuple(_run.encode_prompt(self, arguments, do_classifier_free_guidance,
                                        1.0 if lora_scale is None else lora_scale))


class StableDiffusionXLPipeline(_StableDiffusionXL):
    """Text to image with SDXL."""

    def __init__(self, vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, unet, scheduler,
                 image_encoder=None, feature_extractor=None, force_zeros_for_empty_prompt=True,
                 add_watermarker=None):
        super().__init__(vae=vae, text_encoder=text_encoder, text_encoder_2=text_encoder_2,
                         tokenizer=tokenizer, tokenizer_2=tokenizer_2, unet=unet,
                         scheduler=scheduler, image_encoder=image_encoder,
                         feature_extractor=feature_extractor,
                         force_zeros_for_empty_prompt=force_zeros_for_empty_prompt)

    def __call__(self, prompt=None, prompt_2=None, height=None, width=None, num_inference_steps=50,
                 timesteps=None, sigmas=None, denoising_end=None, guidance_scale=5.0,
                 negative_prompt=None, negative_prompt_2=None, num_images_per_prompt=1, eta=0.0,
                 generator=None, latents=None, prompt_embeds=None, negative_prompt_embeds=None,
                 pooled_prompt_embeds=None, negative_pooled_prompt_embeds=None,
                 ip_adapter_image=None, ip_adapter_image_embeds=None, output_type="pil",
                 return_dict=True, cross_attention_kwargs=None, guidance_rescale=0.0,
                 original_size=None, crops_coords_top_left=(0, 0), target_size=None,
                 negative_original_size=None, negative_crops_coords_top_left=(0, 0),
                 negative_target_size=None, clip_skip=None, callback_on_step_end=None,
                 callback_on_step_end_tensor_inputs=LATENTS, *, callback=None,
                 callback_steps=None):
        """Draws prompt; prompt_2 (the same text by default) is for the second text encoder.

        denoising_end, between 0 and 1: stops there, for a refiner with denoising_start to go on
        (with output_type="latent"). original_size, crops_coords_top_left, target_size and their
        negative_ ones: what the model is told about the picture's size, (height, width). The rest
        is as in StableDiffusionPipeline; ready embeddings want the pooled ones with them.

        Returns .images, or a tuple with return_dict=False.
        """
        arguments = dict(locals())
        del arguments["self"]
        return self._call(**arguments)


class _WithImage(_StableDiffusionXL):
    settings = {"requires_aesthetics_score": False, "force_zeros_for_empty_prompt": True}

    def __init__(self, vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, unet, scheduler,
                 image_encoder=None, feature_extractor=None, requires_aesthetics_score=False,
                 force_zeros_for_empty_prompt=True, add_watermarker=None):
        super().__init__(vae=vae, text_encoder=text_encoder, text_encoder_2=text_encoder_2,
                         tokenizer=tokenizer, tokenizer_2=tokenizer_2, unet=unet,
                         scheduler=scheduler, image_encoder=image_encoder,
                         feature_extractor=feature_extractor,
                         requires_aesthetics_score=requires_aesthetics_score,
                         force_zeros_for_empty_prompt=force_zeros_for_empty_prompt)


class StableDiffusionXLImg2ImgPipeline(_WithImage):
    """Image to image with SDXL: its base model, or the refiner."""

    task = "image"

    def __call__(self, prompt=None, prompt_2=None, image=None, strength=0.3,
                 num_inference_steps=50, timesteps=None, sigmas=None, denoising_start=None,
                 denoising_end=None, guidance_scale=5.0, negative_prompt=None,
                 negative_prompt_2=None, num_images_per_prompt=1, eta=0.0, generator=None,
                 latents=None, prompt_embeds=None, negative_prompt_embeds=None,
                 pooled_prompt_embeds=None, negative_pooled_prompt_embeds=None,
                 ip_adapter_image=None, ip_adapter_image_embeds=None, output_type="pil",
                 return_dict=True, cross_attention_kwargs=None, guidance_rescale=0.0,
                 original_size=None, crops_coords_top_left=(0, 0), target_size=None,
                 negative_original_size=None, negative_crops_coords_top_left=(0, 0),
                 negative_target_size=None, aesthetic_score=6.0, negative_aesthetic_score=2.5,
                 clip_skip=None, callback_on_step_end=None,
                 callback_on_step_end_tensor_inputs=LATENTS, *, callback=None,
                 callback_steps=None):
        """Redraws image (a picture, an array in [0, 1], or latents [n, 4, h, w]) as prompt says.

        strength, 0 to 1: int(num_inference_steps * strength) steps are run. denoising_start instead
        goes on where a base model with that denoising_end stopped. aesthetic_score: for refiners.
        The rest is as in StableDiffusionXLPipeline.
        """
        arguments = dict(locals())
        del arguments["self"]
        return self._call(**arguments)


class StableDiffusionXLInpaintPipeline(_WithImage):
    """Inpainting with SDXL, for UNets of 9 and of 4 channels."""

    task = "inpaint"
    _callback_tensor_inputs = ["latents", "prompt_embeds", "add_text_embeds", "add_time_ids",
                               "mask", "masked_image_latents"]

    def __call__(self, prompt=None, prompt_2=None, image=None, mask_image=None,
                 masked_image_latents=None, height=None, width=None, padding_mask_crop=None,
                 strength=0.9999, num_inference_steps=50, timesteps=None, sigmas=None,
                 denoising_start=None, denoising_end=None, guidance_scale=7.5,
                 negative_prompt=None, negative_prompt_2=None, num_images_per_prompt=1, eta=0.0,
                 generator=None, latents=None, prompt_embeds=None, negative_prompt_embeds=None,
                 pooled_prompt_embeds=None, negative_pooled_prompt_embeds=None,
                 ip_adapter_image=None, ip_adapter_image_embeds=None, output_type="pil",
                 return_dict=True, cross_attention_kwargs=None, guidance_rescale=0.0,
                 original_size=None, crops_coords_top_left=(0, 0), target_size=None,
                 negative_original_size=None, negative_crops_coords_top_left=(0, 0),
                 negative_target_size=None, aesthetic_score=6.0, negative_aesthetic_score=2.5,
                 clip_skip=None, callback_on_step_end=None,
                 callback_on_step_end_tensor_inputs=LATENTS, *, callback=None,
                 callback_steps=None):
        """Repaints what is white in mask_image of image. The rest is as in
        StableDiffusionXLImg2ImgPipeline; padding_mask_crop and masked_image_latents are not
        there."""
        arguments = dict(locals())
        del arguments["self"]
        return self._call(**arguments)
