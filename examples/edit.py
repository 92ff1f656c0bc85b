"""Image to image: draws a picture, then edits it twice, each time a little more."""

import sys

from styx import torch
from styx.diffusers import AutoPipelineForImage2Image, StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained("styx-emoji")
edit = AutoPipelineForImage2Image.from_pipe(pipe)  # the same weights, held once
generator = torch.Generator().manual_seed(7)

image = pipe("a red apple at sunset", num_inference_steps=20, generator=generator).images[0]
image.save("edit-0.png")
for i, strength in enumerate((0.5, 0.7), 1):
    image = edit("a red apple at night with stars", image=image, strength=strength,
                 generator=generator).images[0]
    image.save(f"edit-{i}.png")
print("edit-0.png, edit-1.png, edit-2.png", file=sys.stderr)
