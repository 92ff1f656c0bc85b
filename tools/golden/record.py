"""Runs one pipeline call of diffusers and keeps what went through it, by the manifest's names."""

import sys

import numpy as np
import torch
from PIL import Image

import diffusers
from diffusers.schedulers import scheduling_dpmsolver_sde
from diffusers.utils import torch_utils

# Conditioning that costs next to nothing is always kept.
SMALL = ("text_embeds", "time_ids", "timestep_cond")
RANDN = torch_utils.randn_tensor


class PlainNoise:
    """In place of torchsde's Brownian tree, whose bits nobody else can draw: one normal tensor of
    the call's generator for every increment."""

    generator = None

    def __init__(self, sample, *_):
        self.shape = sample.shape

    def __call__(self, sigma, sigma_next):
        return torch_utils.randn_tensor(self.shape, generator=PlainNoise.generator)


class Recorder:
    """Listens to the random draws, the UNet, the latents and the VAE while it is entered."""

    def __init__(self, pipe):
        self.pipe = pipe
        self.noise, self.calls, self.latents, self.cond = [], [], [], {}
        self.decode_in = None

    def __enter__(self):
        self.modules = [m for m in list(sys.modules.values())
                        if getattr(m, "__name__", "").startswith("diffusers")
                        and vars(m).get("randn_tensor") is not None]
        for module in self.modules:
            module.randn_tensor = self.draw
        self.tree = scheduling_dpmsolver_sde.BrownianTreeNoiseSampler
        scheduling_dpmsolver_sde.BrownianTreeNoiseSampler = PlainNoise
        self.hook = self.pipe.unet.register_forward_hook(self.unet_called, with_kwargs=True)
        self.decode = self.pipe.vae.decode
        self.pipe.vae.decode = self.decoded
        return self

    def __exit__(self, *_):
        for module in self.modules:
            module.randn_tensor = RANDN
        scheduling_dpmsolver_sde.BrownianTreeNoiseSampler = self.tree
        self.hook.remove()
        del self.pipe.vae.decode

    def draw(self, *args, **kwargs):
        noise = RANDN(*args, **kwargs)
        self.noise.append(noise.clone())
        return noise

    def unet_called(self, _, args, kwargs, out):
        sample, t = args
        self.calls.append((float(t), sample.clone(), out[0].clone()))
        if len(self.calls) == 1:
            self.cond["encoder_hidden_states"] = kwargs["encoder_hidden_states"]
            self.cond |= kwargs.get("added_cond_kwargs") or {}
            if kwargs.get("timestep_cond") is not None:
                self.cond["timestep_cond"] = kwargs["timestep_cond"]

    def decoded(self, z, *args, **kwargs):
        self.decode_in = z.clone()
        return self.decode(z, *args, **kwargs)

    def stepped(self, pipe, i, t, tensors):
        self.latents.append(tensors["latents"].clone())
        return tensors


def as_pictures(array):
    """One picture (H,W[,3]) or a list of them (N,H,W,3), as a caller would pass them."""
    return [Image.fromarray(a) for a in array] if array.ndim == 4 else Image.fromarray(array)


def arguments(arrays):
    """Call keywords of the arg.* arrays: bytes become pictures, floats become tensors."""
    return {name.removesuffix("_u8"):
            as_pictures(a) if name.endswith("_u8") else torch.from_numpy(a)
            for name, a in arrays.items()}


def generators(seed):
    """One CPU generator, or one for each picture when there is a list of seeds."""
    if isinstance(seed, list):
        return [generators(s) for s in seed]
    return torch.Generator("cpu").manual_seed(seed)


def run(pipe, call, seed, arrays, store):
    """(tensors by name, manifest entries that the run decides). store: what beyond the least is
    wanted: "cond", "unet" (first and last call), "noise" (of the steps too), "image" (bytes),
    "float" (the picture as floats)."""
    generator = generators(seed)
    PlainNoise.generator = generator
    latent = call.get("output_type") == "latent"
    cropped = "padding_mask_crop" in call  # which comes back as pictures alone
    keywords = {**call, **arguments(arrays),
                "output_type": "latent" if latent else "pil" if cropped else "pt"}
    with Recorder(pipe) as recorder, torch.no_grad():
        result = pipe(generator=generator, callback_on_step_end=recorder.stepped, **keywords)
    out = {f"arg.{name}": array for name, array in arrays.items()}
    out["unet.timesteps"] = np.array([t for t, _, _ in recorder.calls])
    keep_first_and_last(out, recorder, store)
    if "cond" in store:
        out |= {f"cond.{name}": value for name, value in recorder.cond.items()}
    else:
        out |= {f"cond.{name}": recorder.cond[name] for name in SMALL
                if name in recorder.cond}
    if latent:
        out["out.latents"] = result.images
    else:
        out["vae.decode_in"] = recorder.decode_in
    if cropped:
        out["out.image_u8"] = np.stack([np.asarray(image) for image in result.images])
    elif not latent:
        if "float" in store:
            out["out.image"] = result.images
        if "image" in store:
            pixels = result.images.permute(0, 2, 3, 1).numpy()
            out["out.image_u8"] = (pixels * 255).round().astype(np.uint8)
    extra = {"unet_calls": len(recorder.calls)}
    if getattr(result, "nsfw_content_detected", None) is not None:
        extra["nsfw_content_detected"] = [bool(b) for b in result.nsfw_content_detected]
    return {name: to_array(value) for name, value in out.items()}, extra


def keep_first_and_last(out, recorder, store):
    """The ends of long series: what goes wrong shows at the end, where it began at the start."""
    for i, noise in enumerate(recorder.noise):
        if i < 2 or ("noise" in store and i in (2, len(recorder.noise) - 1)):
            out[f"noise.{i:03}"] = noise
    for i, latents in enumerate(recorder.latents):
        if i in (0, len(recorder.latents) - 1) or (i == 1 and "unet" in store):
            out[f"latents.{i:03}"] = latents
    if "unet" in store:
        for i in {0, len(recorder.calls) - 1}:
            out[f"unet.{i:03}.in"], out[f"unet.{i:03}.out"] = recorder.calls[i][1:]


def to_array(value):
    """A numpy array of it; half precision as the same numbers in float32."""
    array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    return np.ascontiguousarray(array, np.float32 if array.dtype == np.float16 else None)


def scheduler_of(pipe, name, overrides):
    """The class swapped in as users do it: from the config of the pipeline's own scheduler."""
    cls = type(pipe.scheduler) if name is None else getattr(diffusers, name + "Scheduler")
    return cls.from_config(pipe.scheduler.config, **overrides)


def scheduler_entry(scheduler):
    config = {k: v for k, v in scheduler.config.items() if not k.startswith("_")}
    return {"class": type(scheduler).__name__, "config": config}
