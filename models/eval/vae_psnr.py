"""Measures the autoencoder on composed scenes of a seed that training never used.

usage: vae_psnr.py MODEL DATA [N]: a pipeline folder (fp16 or 8-bit), N scenes (default 64)
"""

import os
import random
import sys

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "train"))

import catalogue
import compose
import networks
import scenes


@torch.no_grad()
def main():
    vae = networks.load(sys.argv[1], "vae").eval()
    rows = catalogue.load(sys.argv[2])
    planner = scenes.Planner(rows, random.Random(424242))
    planned = [planner.scene() for _ in range(int(sys.argv[3]) if len(sys.argv) > 3 else 64)]
    used = sorted({o[0] for s in planned for o in s.objects})
    place = {row: i for i, row in enumerate(used)}
    for s in planned:
        s.objects = [(place[o[0]], *o[1:]) for o in s.objects]
    compositor = compose.Compositor(
        compose.read_pictures(sys.argv[2], [rows[i] for i in used]), "cpu", 9
    )
    errors = []
    for k in range(0, len(planned), 8):
        x = compositor.draw(*scenes.pack(planned[k : k + 8]))
        y = vae.decode(vae.encode(x)[0]).clamp(-1, 1)
        errors.append(((x - y) / 2).square().mean((1, 2, 3)))
    e = torch.cat(errors)
    print(
        f"{len(e)} scenes: {(-10 * e.log10()).mean():.2f} dB (mean of PSNRs), "
        f"{-10 * e.mean().log10():.2f} dB (of the mean error)"
    )


if __name__ == "__main__":
    main()
