"""Inpainting: repaints the left half of a picture. Needs Pillow."""

from PIL import Image, ImageDraw

from styx import torch
from styx.diffusers import AutoPipelineForInpainting, StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained("styx-emoji")
image = pipe("a red apple at sunset", num_inference_steps=20,
             generator=torch.Generator().manual_seed(7)).images[0]

mask = Image.new("L", image.size, 0)  # white is repainted
ImageDraw.Draw(mask).rectangle([0, 0, image.width // 2, image.height], fill=255)

paint = AutoPipelineForInpainting.from_pipe(pipe)
painted = paint("a snowy forest", image=image, mask_image=mask, num_inference_steps=20,
                generator=torch.Generator().manual_seed(8)).images[0]
painted.save("inpaint.png")
print("inpaint.png")
