"""Draws a file of prompts with an exported folder, many at a time: for a GPU.

usage: draw_prompts.py MODEL TOKENIZER PROMPTS.jsonl OUT [GUIDANCE] [STEPS]
"""

import json
import os
import sys

import torch
from PIL import Image

import networks
import sample
from tokenizer import Tokenizer


def main():
    model, tokens, lines, out = sys.argv[1:5]
    guidance, steps = (float(v) for v in (sys.argv[5:7] + ["7.5", "50"][len(sys.argv) - 5 :]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    unet, text, vae = (
        networks.load(model, part).to(device).eval() for part in ("unet", "text_encoder", "vae")
    )
    with open(lines, encoding="utf-8") as f:
        facts = [json.loads(line) for line in f]
    os.makedirs(out, exist_ok=True)
    pictures = sample.draw(
        unet,
        text,
        vae,
        Tokenizer.load(tokens),
        [f["prompt"] for f in facts],
        [f["seed"] for f in facts],
        guidance,
        int(steps),
    )
    for i, p in enumerate(pictures):
        pixels = ((p + 1) * 127.5).round().byte().numpy().transpose(1, 2, 0)
        Image.fromarray(pixels).save(os.path.join(out, f"{i:04d}.png"), compress_level=1)


if __name__ == "__main__":
    main()
