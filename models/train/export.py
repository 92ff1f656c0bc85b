"""Writes the model folder that is shipped: 8-bit weights in groups, and checks them.

usage: export.py TRAINED TOKENIZER OUT [--fp16 FOLDER] [--group N]

TRAINED holds unet/, text_encoder/ and vae/ as the training scripts leave them (fp16). OUT becomes a
Stable Diffusion 1.x folder in diffusers' layout whose matrices are I8 with F16 scales, the format
of docs/formats.md, "8-bit weights". diffusers cannot read it; --fp16 writes the same values, scaled
back, as an fp16 folder which it can.
"""

import argparse
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file

import networks
from tokenizer import Tokenizer

FILES = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
# Small matrices at the borders of the networks stay F16: they cost little and every picture passes
# through them.
KEPT = (
    "conv_in.weight",
    "conv_out.weight",
    "quant_conv.weight",
    "time_embedding.linear_1.weight",
    "position_embedding.weight",
)


def groups_of(length, limit):
    """The fewest equal runs of at most `limit` elements that a row of this length divides into."""
    return next(g for g in range(1, length + 1) if length % g == 0 and length // g <= limit)


def quantise(weight, limit):
    """A tensor as I8 values of its shape and F16 scales [rows, groups]; value = q * scale."""
    rows = weight.shape[0]
    length = weight[0].numel()
    x = weight.float().reshape(rows, groups_of(length, limit), -1)
    scale = (x.abs().amax(2) / 127).half()
    step = scale.float().unsqueeze(2)
    q = torch.where(step > 0, x / step, 0.0).round().clamp(-127, 127).to(torch.int8)
    return q.reshape(weight.shape).contiguous(), scale.contiguous()


def expand(q, scale):
    """The values that I8 and its scales stand for."""
    rows, groups = scale.shape
    return (q.float().reshape(rows, groups, -1) * scale.float().unsqueeze(2)).reshape(q.shape)


def pack(tensors, limit):
    """The tensors of an 8-bit file, and the values it stands for in F16."""
    packed, plain = {}, {}
    for name, t in tensors.items():
        if t.dim() < 2 or name.endswith(KEPT):
            packed[name] = plain[name] = t.half().contiguous()
            continue
        packed[name], packed[name + ".scale"] = quantise(t, limit)
        plain[name] = expand(packed[name], packed[name + ".scale"]).half()
    return packed, plain


def clean_config(path):
    """Drops the traces of where a config was loaded from."""
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    config = {k: v for k, v in config.items() if k not in ("_name_or_path", "dtype", "torch_dtype")}
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f, indent=2)
        f.write("\n")


def write(folder, trained, tokens, tensors, metadata):
    """A whole pipeline folder with these tensors."""
    for part, file in FILES.items():
        os.makedirs(os.path.join(folder, part), exist_ok=True)
        config = os.path.join(folder, part, "config.json")
        shutil.copy(os.path.join(trained, part, "config.json"), config)
        os.chmod(config, 0o644)
        clean_config(config)
        path = os.path.join(folder, part, file)
        save_file(tensors[part], path, metadata=metadata)
        os.chmod(path, 0o644)
    Tokenizer.load(tokens).save(os.path.join(folder, "tokenizer"))
    networks.finish_folder(folder)


def main():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument("trained")
    a.add_argument("tokenizer")
    a.add_argument("out")
    a.add_argument("--fp16", help="write the scaled-back values here, for diffusers")
    a.add_argument(
        "--group", type=int, default=96, help="the longest run of elements with one scale"
    )
    args = a.parse_args()
    packed, plain = {}, {}
    for part, file in FILES.items():
        tensors = load_file(os.path.join(args.trained, part, file))
        packed[part], plain[part] = pack(tensors, args.group)
        error = sum(
            (plain[part][k].float() - t.float()).square().sum().item() for k, t in tensors.items()
        )
        power = sum(t.float().square().sum().item() for t in tensors.values())
        size = sum(t.numel() * t.element_size() for t in packed[part].values())
        print(f"{part}: {size / 1e6:.2f} MB, relative error {(error / power) ** 0.5:.5f}")
    write(
        args.out,
        args.trained,
        args.tokenizer,
        packed,
        {"format": "pt", "styx.format": "i8-grouped"},
    )
    if args.fp16:
        write(args.fp16, args.trained, args.tokenizer, plain, {"format": "pt"})


if __name__ == "__main__":
    main()
