"""Trains the autoencoder on composed scenes.

usage: train_vae.py --data DIR --tokenizer DIR --out DIR [--init DIR] [--seconds N]

`--init` continues from the vae of a pipeline folder (fp16 or 8-bit weights). The loss is absolute
and squared error, the same on 8x8 means (flat colours settle first), differences between neighbours
at three sizes (sharp edges), and a very small Kullback-Leibler term that keeps the latents near a
unit spread.
"""

import argparse
import math
import os
import random
import time

import torch
import torch.nn.functional as F

import catalogue
import compose
import networks
import scenes
from stream import sheet, stream
from tokenizer import Tokenizer


def arguments():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument("--data", required=True)
    a.add_argument("--tokenizer", required=True)
    a.add_argument("--out", required=True)
    a.add_argument("--init")
    a.add_argument("--seconds", type=float, default=180)
    a.add_argument("--batch", type=int, default=64)
    a.add_argument("--rate", type=float, default=4e-4)
    a.add_argument("--workers", type=int, default=8)
    a.add_argument("--eager", action="store_true", help="do not compile")
    return a.parse_args()


def edges(x):
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def loss_of(x, y, mean, logvar):
    """The training loss of reconstructions y of x."""
    loss = 2 * (y - x).abs().mean() + 4 * (y - x).square().mean()
    loss = loss + 2 * (F.avg_pool2d(x, 8) - F.avg_pool2d(y, 8)).abs().mean()
    for k in (1, 2, 4):
        a, b = (x, y) if k == 1 else (F.avg_pool2d(x, k), F.avg_pool2d(y, k))
        loss = loss + sum((p - q).abs().mean() for p, q in zip(edges(a), edges(b)))
    return loss + 1e-4 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def colours_of(z, y):
    """The colours of Styx's previews: a least-squares fit of pictures made small to their latents."""
    x = torch.cat([z, torch.ones_like(z[:, :1])], 1).movedim(1, 3).flatten(0, 2)
    return torch.linalg.lstsq(x, y.movedim(1, 3).flatten(0, 2)).solution.flatten().tolist()


@torch.no_grad()
def measure(vae, compositor, rows, out):
    """PSNR on scenes of another seed, the scaling factor, the channels' means, the colours of
    previews, and a sheet of originals above copies."""
    planner, first = scenes.Planner(rows, random.Random(987654)), None
    latents, small, errors = [], [], []
    for _ in range(8):
        x = compositor.draw(*scenes.pack([planner.scene() for _ in range(32)]))
        z, _ = vae.encode(x)
        y = vae.decode(z).clamp(-1, 1)
        first = first or (x[:16], y[:16])
        latents.append(z)
        small.append(F.avg_pool2d(y / 2 + 0.5, 8))
        errors.append(((x - y) / 2).square().mean((1, 2, 3)))
    z, e = torch.cat(latents), torch.cat(errors)
    psnr = (-10 * torch.log10(e)).mean().item()
    x, y = first
    sheet(torch.cat([x[:8], y[:8], x[8:], y[8:]]), os.path.join(out, "vae.jpg"))
    pooled, scale = -10 * math.log10(e.mean().item()), 1 / z.std().item()
    colours = colours_of(z * scale, torch.cat(small))
    return psnr, pooled, scale, z.mean((0, 2, 3)).tolist(), colours


def main():
    args = arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    os.makedirs(args.out, exist_ok=True)
    rows = catalogue.load(args.data)
    compositor = compose.Compositor(compose.read_pictures(args.data, rows), device, 1)
    vae = networks.load(args.init, "vae") if args.init else networks.make("vae", networks.VAE)
    vae.to(device, memory_format=torch.channels_last)
    print(f"vae {networks.parameters(vae):.2f} M parameters on {device}", flush=True)
    optimiser = torch.optim.AdamW(vae.parameters(), args.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    encode = vae.encoder if args.eager else torch.compile(vae.encoder)
    decode = vae.decoder if args.eager else torch.compile(vae.decoder)
    plans = stream(rows, Tokenizer.load(args.tokenizer), args.batch, 11, args.workers)
    start, step, part = time.time(), 0, 0.0
    while part < 1:
        rate = (
            args.rate * min(1, (step + 1) / 150) * max(0.01, 0.5 * (1 + math.cos(math.pi * part)))
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        r, o, g, _ = next(plans)
        x = compositor.draw(r, o, g).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            mean, logvar = vae.quant_conv(encode(x)).float().chunk(2, 1)
            logvar = logvar.clamp(-20, 10)
            z = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
            y = decode(vae.post_quant_conv(z.to(torch.bfloat16))).float()
        loss = loss_of(x, y, mean, logvar)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step == 3:  # the clock starts after compilation
            loss.item()
            print(f"first steps {time.time() - start:.0f} s", flush=True)
            start = time.time()
        part = (time.time() - start) / args.seconds
        if step % 100 == 0:
            psnr = -10 * math.log10(((y - x) / 2).square().mean().item())
            print(
                f"vae {step} loss {loss.item():.4f} psnr {psnr:.2f} rate {rate:.1e} "
                f"{time.time() - start:.0f} s",
                flush=True,
            )
    vae.eval()
    psnr, pooled, scale, means, colours = measure(vae, compositor, rows, args.out)
    vae.config["scaling_factor"] = scale
    vae.config["_latent_colours"] = [round(x, 3) for x in colours]
    networks.save(args.out, vae=vae)
    print(
        f"vae done: {step} steps, psnr {psnr:.2f} dB (of the mean error {pooled:.2f}), "
        f"scaling {scale:.5f}, "
        f"channel means {[round(m, 3) for m in means]}",
        flush=True,
    )


if __name__ == "__main__":
    main()
