"""Writes the model folder that is shipped: 8-bit weights in groups, and checks them.

usage: export.py TRAINED TOKENIZER OUT [--fp16 FOLDER] [--group N]

TRAINED holds unet/, text_encoder/ and vae/ as the training scripts leave them (fp16). OUT becomes a
Stable Diffusion 1.x folder in diffusers' layout whose matrices are I8 with F16 scales, the format
of docs/formats.md, "8-bit weights". diffusers cannot read it; --fp16 writes the same values, scaled
back, as an fp16 folder which it can.
"""

import argparse
import os
import shutil

from safetensors.torch import load_file, save_file

import eightbit
import networks
from tokenizer import Tokenizer


def write(folder, trained, tokens, tensors, metadata):
    """A whole pipeline folder with these tensors."""
    for part, file in networks.FILES.items():
        os.makedirs(os.path.join(folder, part), exist_ok=True)
        config = os.path.join(folder, part, "config.json")
        shutil.copy(os.path.join(trained, part, "config.json"), config)
        os.chmod(config, 0o644)
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
        "--group",
        type=int,
        default=eightbit.GROUP,
        help="the longest run of elements with one scale",
    )
    args = a.parse_args()
    packed, plain = {}, {}
    for part, file in networks.FILES.items():
        tensors = load_file(os.path.join(args.trained, part, file))
        packed[part], plain[part] = eightbit.pack(tensors, args.group)
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
        eightbit.FORMAT,
    )
    if args.fp16:
        write(args.fp16, args.trained, args.tokenizer, plain, {"format": "pt"})


if __name__ == "__main__":
    main()
