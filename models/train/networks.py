"""The configurations of the three networks, the noise schedule, and their files."""

import json
import os

import torch
from safetensors.torch import save_file

import eightbit
from layers import Autoencoder, TextEncoder, UNet

TEXT_WIDTH = 256
DIFFUSERS = "0.40.0"  # the version whose folders these are
FILES = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}

# 256x256 pictures become 32x32x4 latents.
VAE = dict(
    _class_name="AutoencoderKL",
    _diffusers_version=DIFFUSERS,
    act_fn="silu",
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
    mid_block_add_attention=True,
    use_quant_conv=True,
    use_post_quant_conv=True,
)

# 21.8 M parameters and 5.7 GFLOP a forward at 32x32: most weights sit where the picture is small.
# As in SD 1.x, "attention_head_dim" is the number of heads: widths of 40 and 72 a head.
UNET = dict(
    _class_name="UNet2DConditionModel",
    _diffusers_version=DIFFUSERS,
    act_fn="silu",
    sample_size=32,
    in_channels=4,
    out_channels=4,
    block_out_channels=(64, 160, 288),
    layers_per_block=1,
    cross_attention_dim=TEXT_WIDTH,
    attention_head_dim=4,
    norm_num_groups=32,
    norm_eps=1e-5,
    flip_sin_to_cos=True,
    freq_shift=0,
    downsample_padding=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    mid_block_type="UNetMidBlock2DCrossAttn",
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    use_linear_projection=False,
)

# Velocity prediction (Salimans and Ho 2022) on SD's scaled-linear betas, with a last beta of 0.02
# in place of 0.012: at t = 999 the signal is 0.015 of the picture, so pure noise is an honest
# start, and yet every sampler and spacing works, which a terminal signal of exactly zero would
# forbid.
SCHEDULE = dict(
    _class_name="DDIMScheduler",
    _diffusers_version=DIFFUSERS,
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


def text_config(tokenizer):
    """A CLIP text encoder of 4 layers for this vocabulary."""
    return dict(
        model_type="clip_text_model",
        vocab_size=len(tokenizer.vocab),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=TEXT_WIDTH,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
        bos_token_id=tokenizer.start,
        eos_token_id=tokenizer.end,
        pad_token_id=tokenizer.end,
    )


CLASSES = {"unet": UNet, "vae": Autoencoder, "text_encoder": TextEncoder}


def make(part, config):
    """A network with fresh weights; it keeps its configuration as `config`."""
    net = CLASSES[part](config)
    net.config = dict(config)
    return net


def load(folder, part):
    """A network of a pipeline folder, in F32: fp16 and 8-bit weights are read alike."""
    with open(os.path.join(folder, part, "config.json"), encoding="utf-8") as f:
        net = make(part, json.load(f))
    net.load_state_dict(eightbit.read(os.path.join(folder, part, FILES[part])))
    return net


def levels():
    """How much of the picture's variance is left at each t: SD's cumulative product of alphas."""
    first, last = SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5
    betas = torch.linspace(first, last, 1000, dtype=torch.float32) ** 2
    return torch.cumprod(1 - betas, 0)


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2, sort_keys=True)
        f.write("\n")


def save(folder, **parts):
    """Writes networks as subfolders (unet=..., vae=..., text_encoder=...) in fp16."""
    for part, net in parts.items():
        write_json(os.path.join(folder, part, "config.json"), net.config)
        half = {
            k: v.detach().to("cpu", torch.float16).contiguous() for k, v in net.state_dict().items()
        }
        save_file(half, os.path.join(folder, part, FILES[part]), metadata={"format": "pt"})


def finish_folder(folder):
    """Writes model_index.json and the scheduler, which make the folder a diffusers pipeline."""
    write_json(os.path.join(folder, "scheduler", "scheduler_config.json"), SCHEDULE)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": DIFFUSERS,
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
    write_json(os.path.join(folder, "model_index.json"), index)


def parameters(net):
    """Millions of parameters."""
    return sum(p.numel() for p in net.parameters()) / 1e6
