"""Writes the model folder that is shipped: 8-bit weights in groups, and checks them.

usage: export.py TRAINED TOKENIZER OUT [--fp16 FOLDER] [--group N]

TRAINED holds unet/, text_encoder/ and vae/ as the training scripts leave them; a part that is not
there is taken from OUT, where an earlier export left it. OUT becomes a Stable Diffusion 1.x folder
in diffusers' layout whose matrices are I8 with F16 scales, the format of docs/formats.md, "8-bit
weights". diffusers cannot read it; --fp16 writes the same values, scaled back, as an fp16 folder
which it can.
"""

import argparse
import json
import os

from safetensors.torch import save_file

import eightbit
import networks
from tokenizer import Tokenizer


def write(folder, tokens, configs, tensors, metadata):
    """A whole pipeline folder with these tensors."""
    for part, file in networks.FILES.items():
        networks.write_json(os.path.join(folder, part, "config.json"), configs[part])
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
    configs, packed, plain = {}, {}, {}
    for part, file in networks.FILES.items():
        source = next(f for f in (args.trained, args.out) if os.path.isdir(os.path.join(f, part)))
        with open(os.path.join(source, part, "config.json"), encoding="utf-8") as f:
            configs[part] = json.load(f)
        tensors = eightbit.read(os.path.join(source, part, file))
        packed[part], plain[part] = eightbit.pack(tensors, args.group)
        error = sum((plain[part][k].float() - t).square().sum().item() for k, t in tensors.items())
        power = sum(t.square().sum().item() for t in tensors.values())
        size = sum(t.numel() * t.element_size() for t in packed[part].values())
        print(f"{part}: {size / 1e6:.2f} MB, relative error {(error / power) ** 0.5:.5f}")
    write(args.out, args.tokenizer, configs, packed, eightbit.FORMAT)
    if args.fp16:
        write(args.fp16, args.tokenizer, configs, plain, {"format": "pt"})


if __name__ == "__main__":
    main()
