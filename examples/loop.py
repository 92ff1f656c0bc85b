"""A denoising loop by hand: text encoder, UNet, scheduler, VAE one by one. Needs numpy."""

from styx import torch
from styx.diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained("styx-emoji")
scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)

texts = ["", "a red apple at sunset"]
tokens = pipe.tokenizer(texts, padding="max_length", max_length=77, truncation=True,
                        return_tensors="pt")
context = pipe.text_encoder(tokens.input_ids).last_hidden_state

scheduler.set_timesteps(20)
side = pipe.unet.config.sample_size
latents = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(7))
latents = latents * scheduler.init_noise_sigma
for t in scheduler.timesteps:
    x = scheduler.scale_model_input(torch.cat([latents, latents]), t)
    empty, text = pipe.unet(x, t, encoder_hidden_states=context).sample.chunk(2)
    latents = scheduler.step(empty + 7.5 * (text - empty), t, latents).prev_sample

pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
bytes = ((pixels / 2 + 0.5).clamp(0, 1) * 255).numpy().round().astype("uint8")[0]

try:
    from PIL import Image
except ImportError:
    print("Pillow would save it:", bytes.shape)
else:
    Image.fromarray(bytes.transpose(1, 2, 0)).save("loop.png")
    print("loop.png")
