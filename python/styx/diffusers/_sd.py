"""The pipelines of Stable Diffusion 1.x: text to image, image to image, inpainting."""

from . import _run
from ._pipeline import DiffusionPipeline

#: what a default list of callback_on_step_end_tensor_inputs is
LATENTS = ["latents"]


class _StableDiffusion(DiffusionPipeline):
    component_names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler", "safety_checker",
                       "feature_extractor", "image_encoder")
    _optional_components = ("safety_checker", "feature_extractor", "image_encoder")
    _exclude_from_cpu_offload = ("safety_checker",)
    model_cpu_offload_seq = "text_encoder->image_encoder->unet->vae"
    _callback_tensor_inputs = ["latents", "prompt_embeds", "negative_prompt_embeds"]
    _lora_loadable_modules = ("unet", "text_encoder")
    settings = {"requires_safety_checker": True}
    is_xl = False

    def __init__(self, vae, text_encoder, tokenizer, unet, scheduler, safety_checker,
                 feature_extractor, image_encoder=None, requires_safety_checker=True):
        super().__init__(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet,
                         scheduler=scheduler, safety_checker=safety_checker,
                         feature_extractor=feature_extractor, image_encoder=image_encoder,
                         requires_safety_checker=requires_safety_checker)

    def _prepare_parts(self):
        """SD 1 pipelines correct two settings of the scheduler that they are made with."""
        self.scheduler._patch(steps_offset=1, clip_sample=False)

    def encode_prompt(self, prompt, device=None, num_images_per_prompt=1,
                      do_classifier_free_guidance=True, negative_prompt=None, prompt_embeds=None,
                      negative_prompt_embeds=None, lora_scale=None, clip_skip=None):
        """Texts to (prompt_embeds, negative_prompt_embeds), each [prompts * n, tokens, dim]; the
        second is None without guidance."""
        a = dict(prompt=prompt, num_images_per_prompt=num_images_per_prompt,
                 negative_prompt=negative_prompt, prompt_embeds=prompt_embeds,
                 negative_prompt_embeds=negative_prompt_embeds, clip_skip=clip_skip)
        scale = 1.0 if lora_scale is None else lora_scale
        return tuple(_run.encode_prompt(self, a, do_classifier_free_guidance, scale)[:2])


class StableDiffusionPipeline(_StableDiffusion):
    """Text to image with Stable Diffusion 1.x."""

    def __call__(self, prompt=None, height=None, width=None, num_inference_steps=50,
                 timesteps=None, sigmas=None, guidance_scale=7.5, negative_prompt=None,
                 num_images_per_prompt=1, eta=0.0, generator=None, latents=None,
                 prompt_embeds=None, negative_prompt_embeds=None, ip_adapter_image=None,
                 ip_adapter_image_embeds=None, output_type="pil", return_dict=True,
                 cross_attention_kwargs=None, guidance_rescale=0.0, clip_skip=None,
                 callback_on_step_end=None, callback_on_step_end_tensor_inputs=LATENTS, *,
                 callback=None, callback_steps=None):
        """Draws prompt (a text or a list of texts).

        height, width: multiples of 8; the model's own size by default. num_inference_steps: steps,
        or timesteps / sigmas for a schedule of your own. guidance_scale: how closely the prompt is
        followed; up to 1 switches guidance (and negative_prompt) off. generator: a torch.Generator,
        or a list with one for each picture. latents: noise to start from,
        [n, 4, height / 8, width / 8]. output_type: "pil", "np" [n, h, w, 3], "pt" [n, 3, h, w] or
        "latent". callback_on_step_end(pipe, step, timestep, arrays) returns the arrays.

        Returns .images and .nsfw_content_detected, or a tuple of both with return_dict=False.
        cross_attention_kwargs={"scale": s}: LoRAs count s times as much. Raises ValueError for
        arguments that contradict each other, NotImplementedError for IP adapters.
        """
        arguments = dict(locals())
        del arguments["self"]
        return self._call(**arguments)


class StableDiffusionImg2ImgPipeline(_StableDiffusion):
    """Image to image with Stable Diffusion 1.x."""

    task = "image"

    def __call__(self, prompt=None, image=None, strength=0.8, num_inference_steps=50,
                 timesteps=None, sigmas=None, guidance_scale=7.5, negative_prompt=None,
                 num_images_per_prompt=1, eta=0.0, generator=None, prompt_embeds=None,
                 negative_prompt_embeds=None, ip_adapter_image=None, ip_adapter_image_embeds=None,
                 output_type="pil", return_dict=True, cross_attention_kwargs=None, clip_skip=None,
                 callback_on_step_end=None, callback_on_step_end_tensor_inputs=LATENTS, *,
                 callback=None, callback_steps=None):
        """Redraws image (a picture, an array in [0, 1] or latents [n, 4, h, w]; or a list) as
        prompt says. strength, 0 to 1: how much changes; int(num_inference_steps * strength) steps
        are run. The size is the image's, rounded down to multiples of 8. The rest is as in
        StableDiffusionPipeline."""
        arguments = dict(locals())
        del arguments["self"]
        return self._call(**arguments)


class StableDiffusionInpaintPipeline(_StableDiffusion):
    """Inpainting with Stable Diffusion 1.x, for UNets of 9 and of 4 channels."""

    task = "inpaint"
    _callback_tensor_inputs = ["latents", "prompt_embeds", "negative_prompt_embeds", "mask",
                               "masked_image_latents"]

    def __call__(self, prompt=None, image=None, mask_image=None, masked_image_latents=None,
                 height=None, width=None, padding_mask_crop=None, strength=1.0,
                 num_inference_steps=50, timesteps=None, sigmas=None, guidance_scale=7.5,
                 negative_prompt=None, num_images_per_prompt=1, eta=0.0, generator=None,
                 latents=None, prompt_embeds=None, negative_prompt_embeds=None,
                 ip_adapter_image=None, ip_adapter_image_embeds=None, output_type="pil",
                 return_dict=True, cross_attention_kwargs=None, clip_skip=None,
                 callback_on_step_end=None, callback_on_step_end_tensor_inputs=LATENTS, *,
                 callback=None, callback_steps=None):
        """Repaints what is white in mask_image (a picture, or an array [h, w] in [0, 1]) of image.
        height, width: the size to work in, the model's own by default. The rest is as in
        StableDiffusionPipeline; padding_mask_crop and masked_image_latents are not there."""
        arguments = dict(locals())
        del arguments["self"]
        return self._call(**arguments)
