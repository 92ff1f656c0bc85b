"""Turns packed scenes into pictures on the device: backgrounds, then the cut-outs in order."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import backgrounds
from backgrounds import SIZE

LEVELS = 4  # the pyramid: 256, 128, 64, 32 pixels


def read_pictures(folder, rows):
    """All cut-outs as uint8 [n,4,S,S]."""

    def read(r):
        image = Image.open(os.path.join(folder, r["file"] + ".webp")).convert("RGBA")
        if image.size != (SIZE, SIZE):
            image = image.resize((SIZE, SIZE), Image.LANCZOS)
        return np.asarray(image).transpose(2, 0, 1)

    with ThreadPoolExecutor(16) as pool:
        return torch.from_numpy(np.stack(list(pool.map(read, rows))))


def pyramid(pictures, device):
    """Premultiplied cut-outs at LEVELS sizes, uint8 on the device; small objects sample small
    levels.
    """
    levels = [[] for _ in range(LEVELS)]
    for part in pictures.split(256):
        x = part.to(device).float() / 255
        x = torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], 1)
        for k in range(LEVELS):
            levels[k].append((x * 255).round().byte())
            x = F.avg_pool2d(x, 2)
    return [torch.cat(level) for level in levels]


def colourise(rgb, alpha, tint):
    """Repaints a premultiplied cut-out in one colour, keeping its light and shade."""
    straight = rgb / alpha.clamp(min=1e-3)
    light = (straight * torch.tensor([0.3, 0.59, 0.11], device=rgb.device).view(1, 3, 1, 1)).sum(
        1, keepdim=True
    )
    mean = (light * alpha).sum((2, 3), keepdim=True) / alpha.sum((2, 3), keepdim=True).clamp(min=1)
    x = (light / mean.clamp(0.15, 0.9) / 2).clamp(0, 1)
    tinted = torch.where(x < 0.5, tint * (2 * x), tint + (1 - tint) * (2 * x - 1) * 0.85)
    return tinted * alpha


class Compositor:
    """Holds the cut-outs on the device and draws scenes with them."""

    def __init__(self, pictures, device, seed=0):
        self.levels = pyramid(pictures, device)
        self.canvas = backgrounds.Canvas(device, seed)
        self.device = device

    @torch.no_grad()
    def draw(self, rows, objects, ground):
        """Packed scenes (numpy or tensors) to pictures [n,3,S,S] in [-1,1]."""
        rows, objects, ground = (
            torch.as_tensor(a).to(self.device, non_blocking=True) for a in (rows, objects, ground)
        )
        out = backgrounds.paint(ground, self.canvas)
        for k in range(int((objects[..., 0] > 0).sum(1).max())):
            here = objects[:, k, 0] > 0
            level = (
                (-torch.log2(objects[:, k, 3].clamp(min=1e-3) * 1.3))
                .floor()
                .clamp(0, LEVELS - 1)
                .long()
            )
            for j in range(LEVELS):
                m = (here & (level == j)).nonzero()[:, 0]
                if len(m):
                    out[m] = self.over(out[m], rows[m, k], objects[m, k], self.levels[j])
        return out.clamp(0, 1) * 2 - 1

    def over(self, out, rows, objects, pictures):
        """Lays one cut-out over each picture."""
        n = len(rows)
        cut = pictures[rows].float() / 255
        rgb, alpha = cut[:, :3], cut[:, 3:]
        tinted = (objects[:, 4] >= 0).nonzero()[:, 0]
        if len(tinted):
            tint = self.canvas.palette[objects[tinted, 4].long()].view(-1, 3, 1, 1)
            rgb = rgb.index_copy(0, tinted, colourise(rgb[tinted], alpha[tinted], tint))
        flip, s = 1 - 2 * objects[:, 5], objects[:, 3]
        theta = torch.zeros(n, 2, 3, device=self.device)
        theta[:, 0, 0], theta[:, 1, 1] = flip / s, 1 / s
        theta[:, 0, 2], theta[:, 1, 2] = -objects[:, 1] / s * flip, -objects[:, 2] / s
        grid = F.affine_grid(theta, (n, 4, SIZE, SIZE), align_corners=False)
        layer = F.grid_sample(torch.cat([rgb, alpha], 1), grid, align_corners=False)
        return layer[:, :3] + out * (1 - layer[:, 3:])
