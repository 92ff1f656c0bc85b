"""Text to image: python examples/txt2img.py "a red apple" apple.png"""

import sys

from styx import torch
from styx.diffusers import StableDiffusionPipeline

prompt = sys.argv[1] if len(sys.argv) > 1 else "a red apple at sunset"
output = sys.argv[2] if len(sys.argv) > 2 else "picture.png"

# A folder in the diffusers layout or a name in Hugging Face's cache works as well.
pipe = StableDiffusionPipeline.from_pretrained("styx-emoji")
image = pipe(prompt, num_inference_steps=20, generator=torch.Generator().manual_seed(7)).images[0]
image.save(output)
print(f"{output}: {image.size[0]} x {image.size[1]}")
