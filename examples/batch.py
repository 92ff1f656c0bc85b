"""Several prompts at once, each with a seed of its own: any of them can be drawn again alone."""

from styx import torch
from styx.diffusers import StableDiffusionPipeline

prompts = ["a blue dog on a plain green background", "two red apples"]
seeds = [11, 12]

pipe = StableDiffusionPipeline.from_pretrained("styx-emoji")
generators = [torch.Generator().manual_seed(seed) for seed in seeds]
out = pipe(prompts, num_inference_steps=20, generator=generators)
for image, prompt, seed in zip(out.images, prompts, seeds):
    name = f"batch-{seed}.png"
    image.save(name)
    print(f"{name}: {prompt}")
