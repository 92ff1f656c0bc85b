"""Objects of the real torch and diffusers, where they are installed. In processes of their own."""

import importlib.util

import pytest
from test_process import python

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None,
                                reason="torch is not installed")

BEGIN = """
import numpy as np
from styx.diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from styx import torch as ours
import sys
assert "torch" not in sys.modules
import torch
pipe = StableDiffusionPipeline.from_pretrained({folder!r}, torch_dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
call = dict(num_inference_steps=2, output_type="np")
def draw(**more):
    return pipe("a castle", **dict(call, **more)).images
"""


def run(code, tiny):
    python(BEGIN.format(folder=tiny("tiny_sd15")) + code)


def test_generators(tiny):
    run("""
theirs, mine = torch.Generator("cpu").manual_seed(5), ours.Generator().manual_seed(5)
for _ in range(2):  # the second call goes on where the first stopped
    assert np.array_equal(draw(generator=theirs), draw(generator=mine))
theirs.manual_seed(5)
mine.manual_seed(5)
assert np.array_equal(draw(generator=[theirs]), draw(generator=[mine]))
x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float16)
y = ours.randn(2, 3, generator=ours.Generator().manual_seed(1), dtype=torch.float16)
assert np.array_equal(x.float().numpy(), y.numpy())
""", tiny)


def test_dtypes_and_devices(tiny):
    run("""
assert ours.float16 == torch.float16 and ours.bfloat16 != torch.float16
assert pipe.to(torch.device("cpu"), torch.float16).dtype == ours.float16
assert pipe.to(torch.float32).unet.dtype == torch.float32
""", tiny)


def test_tensors(tiny):
    run("""
embeds, negative = pipe.encode_prompt("a castle", "cpu", 1, True)
embeds, negative = torch.tensor(np.asarray(embeds)), torch.tensor(np.asarray(negative))
latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
made = pipe(prompt_embeds=embeds, negative_prompt_embeds=negative, latents=latents, **call).images
assert np.abs(made - draw(generator=ours.Generator().manual_seed(0))).max() < 1e-5
image = torch.rand(1, 3, 64, 64)
img2img = StableDiffusionImg2ImgPipeline(**pipe.components)
img2img.set_progress_bar_config(disable=True)
out = img2img("a castle", image=image, output_type="pt", num_inference_steps=2)
assert torch.from_numpy(out.images.numpy()).shape == (1, 3, 64, 64)
z = pipe.vae.encode(image * 2 - 1).latent_dist.mode()
assert pipe.vae.decode(torch.as_tensor(np.asarray(z))).sample.shape == (1, 3, 64, 64)
""", tiny)


def test_configs_of_diffusers(tiny):
    if importlib.util.find_spec("diffusers") is None:
        pytest.skip("diffusers is not installed")
    run("""
import diffusers
from styx.diffusers import EulerDiscreteScheduler
theirs = diffusers.EulerDiscreteScheduler.from_config(
    diffusers.PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True).config)
mine = EulerDiscreteScheduler.from_config(
    diffusers.PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True).config)
for scheduler in (theirs, mine):
    scheduler.set_timesteps(7)
assert np.allclose(theirs.timesteps.numpy(), mine.timesteps.numpy())
assert np.allclose(theirs.sigmas.numpy(), mine.sigmas.numpy(), atol=1e-4)
for key, value in theirs.config.items():
    if not key.startswith("_"):
        assert mine.config[key] == value, key
""", tiny)


def test_the_same_picture_as_diffusers(tiny):
    if importlib.util.find_spec("diffusers") is None or \
            importlib.util.find_spec("transformers") is None:
        pytest.skip("diffusers is not installed")
    run("""
import diffusers
real = diffusers.StableDiffusionPipeline.from_pretrained(
    pipe.config._name_or_path, torch_dtype=torch.float32)
real.set_progress_bar_config(disable=True)
generator = torch.Generator().manual_seed(3)
want = real("a castle", generator=generator, **call).images
assert np.abs(want - draw(generator=torch.Generator().manual_seed(3))).max() < 1e-3
""", tiny)
