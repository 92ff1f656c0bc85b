"""Draws the same prompts with diffusers, with Styx and with the networks of models/train from one
model folder and compares them.

usage: compare_diffusers.py --styx build/styx --model models/styx-emoji [--steps 20]

diffusers reads no 8-bit weights, so all draw from the folder that `styx convert --type f16` makes,
in float32. The exit status is 1 if a picture differs by more than LEVELS of 255 anywhere, and 77,
which ctest reports as skipped, if torch, diffusers, transformers or regex is not installed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "models", "train"))

try:
    import diffusers
    import numpy as np
    import torch
    import transformers
    from PIL import Image

    import networks
    import sample
    from tokenizer import Tokenizer
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

LEVELS = 2
PROMPTS = ["a blue dog on a yellow background", "a castle by a calm lake"]


def arguments():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument("--styx", default="styx")
    a.add_argument("--model", required=True, help="a folder in the diffusers layout")
    a.add_argument("--steps", type=int, default=20)
    return a.parse_args()


def with_styx(args, model, folder):
    """The pictures of `styx generate`, seeds 0, 1, ..."""
    paths = [os.path.join(folder, f"{i}.png") for i in range(len(PROMPTS))]
    lines = os.path.join(folder, "prompts.jsonl")
    with open(lines, "w", encoding="utf-8") as f:
        for seed, (prompt, path) in enumerate(zip(PROMPTS, paths)):
            f.write(json.dumps({"prompt": prompt, "seed": seed, "output": path}) + "\n")
    flags = ["--steps", str(args.steps), "--dtype", "f32", "--vae-dtype", "f32", "--force", "-q"]
    command = [args.styx, "generate", "--model", model, "--prompts", lines, *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [np.asarray(Image.open(p).convert("RGB")).astype(int) for p in paths]


def with_diffusers(args, model):
    """The same with diffusers."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    out = []
    for seed, prompt in enumerate(PROMPTS):
        generator = torch.Generator().manual_seed(seed)
        image = pipe(prompt, num_inference_steps=args.steps, generator=generator).images[0]
        out.append(np.asarray(image).astype(int))
    return out


def with_training(args, model):
    """The same with the networks and the sampler of models/train."""
    unet, text, vae = (networks.load(model, p).eval() for p in ("unet", "text_encoder", "vae"))
    tokens, seeds = Tokenizer.load(os.path.join(model, "tokenizer")), list(range(len(PROMPTS)))
    out = sample.draw(unet, text, vae, tokens, PROMPTS, seeds, steps=args.steps)
    return list(((out + 1) * 127.5).round().int().numpy().transpose(0, 2, 3, 1))


def main():
    args = arguments()
    print(f"diffusers {diffusers.__version__}, transformers {transformers.__version__}")
    worst = 0
    with tempfile.TemporaryDirectory() as scratch:
        half = os.path.join(scratch, "fp16")
        convert = [args.styx, "convert", args.model, half, "--type", "f16", "-q"]
        subprocess.run(convert, check=True)
        theirs = with_diffusers(args, half)
        others = {"styx": with_styx(args, half, scratch), "models/train": with_training(args, half)}
        for name, pictures in others.items():
            for prompt, a, b in zip(PROMPTS, theirs, pictures):
                d = abs(a - b)
                worst = max(worst, int(d.max()))
                print(f"{name}: {prompt}: at most {d.max()} levels, mean {d.mean():.4f}")
    if worst > LEVELS:
        sys.exit(f"{worst} levels apart, at most {LEVELS} are allowed")


if __name__ == "__main__":
    main()
