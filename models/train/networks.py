"""The networks and the noise schedule: configurations of diffusers' and transformers' classes."""

import json
import os

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

TEXT_WIDTH = 256

# 256x256 pictures become 32x32x4 latents.
VAE = dict(
    in_channels=3,
    out_channels=3,
    latent_channels=4,
    block_out_channels=(32, 64, 128, 128),
    layers_per_block=1,
    norm_num_groups=16,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    sample_size=256,
    scaling_factor=1.0,
    force_upcast=False,
)

# 21.8 M parameters and 5.7 GFLOP a forward at 32x32: most weights sit where the picture is small.
# As in SD 1.x, "attention_head_dim" is the number of heads: widths of 40 and 72 a head.
UNET = dict(
    sample_size=32,
    in_channels=4,
    out_channels=4,
    block_out_channels=(64, 160, 288),
    layers_per_block=1,
    cross_attention_dim=TEXT_WIDTH,
    attention_head_dim=4,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
)

# Velocity prediction (Salimans and Ho 2022) on SD's scaled-linear betas, with a last beta of 0.02
# in place of 0.012: at t = 999 the signal is 0.015 of the picture, so pure noise is an honest
# start, and yet every sampler and spacing works, which a terminal signal of exactly zero would
# forbid.
SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.02,
    beta_schedule="scaled_linear",
    prediction_type="v_prediction",
    clip_sample=False,
    set_alpha_to_one=True,
    steps_offset=1,
    timestep_spacing="trailing",
)


def make_vae():
    return AutoencoderKL(**VAE)


def make_unet():
    return UNet2DConditionModel(**UNET)


def make_text(tokenizer):
    """A CLIP text encoder of 4 layers for this vocabulary."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer.vocab),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=77,
            projection_dim=TEXT_WIDTH,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.start,
            eos_token_id=tokenizer.end,
            pad_token_id=tokenizer.end,
        )
    )


def schedule():
    return DDIMScheduler(**SCHEDULE)


def save(folder, **parts):
    """Writes networks as subfolders (unet=..., vae=..., text_encoder=...) in fp16.

    The text encoder's tensors get the prefix that SD 1.x checkpoints have and that newer versions
    of transformers leave out.
    """
    for name, net in parts.items():
        path = os.path.join(folder, name)
        half = {
            k: v.detach().to("cpu", torch.float16).contiguous() for k, v in net.state_dict().items()
        }
        (net.config.save_pretrained if name == "text_encoder" else net.save_config)(path)
        file = "diffusion_pytorch_model.safetensors"
        if name == "text_encoder":
            half = {
                k if k.startswith("text_model.") else "text_model." + k: v for k, v in half.items()
            }
            file = "model.safetensors"
        save_file(half, os.path.join(path, file), metadata={"format": "pt"})


def finish_folder(folder):
    """Writes model_index.json and the scheduler, which make the folder a diffusers pipeline."""
    schedule().save_pretrained(os.path.join(folder, "scheduler"))
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.40.0",
        "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    }
    with open(os.path.join(folder, "model_index.json"), "w", encoding="utf-8") as f:
        json.dump(index, f, indent=2)
        f.write("\n")


def parameters(net):
    """Millions of parameters."""
    return sum(p.numel() for p in net.parameters()) / 1e6
