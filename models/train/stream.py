"""Scenes planned by worker processes, so that the device never waits for Python."""

import random

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import scenes

EMPTY = 0.10  # the share of captions left empty, for classifier-free guidance


class Plans(IterableDataset):
    """An endless stream of packed batches: rows, objects, ground, token ids."""

    def __init__(self, rows, tokenizer, batch, seed):
        self.rows, self.tokenizer, self.batch, self.seed = rows, tokenizer, batch, seed

    def __iter__(self):
        info = get_worker_info()
        rng = random.Random(self.seed * 1000003 + (info.id if info else 0))
        planner = scenes.Planner(self.rows, rng)
        while True:
            batch = [planner.scene() for _ in range(self.batch)]
            captions = ["" if rng.random() < EMPTY else s.caption for s in batch]
            packed = scenes.pack(batch)
            yield tuple(
                map(torch.from_numpy, (*packed, self.tokenizer.encode(captions).astype(np.int16)))
            )


def stream(rows, tokenizer, batch, seed, workers):
    """An iterator over packed batches."""
    extra = {"prefetch_factor": 4} if workers else {}
    return iter(
        DataLoader(
            Plans(rows, tokenizer, batch, seed), batch_size=None, num_workers=workers, **extra
        )
    )


def sheet(pictures, path, columns=8):
    """Writes pictures [n,3,S,S] in [-1,1] as one JPEG sheet."""
    from PIL import Image

    x = (
        ((pictures.float().clamp(-1, 1) + 1) * 127.5)
        .round()
        .byte()
        .cpu()
        .numpy()
        .transpose(0, 2, 3, 1)
    )
    n, size = len(x), x.shape[1]
    out = np.full((-(-n // columns) * size, columns * size, 3), 255, np.uint8)
    for i, picture in enumerate(x):
        r, c = divmod(i, columns)
        out[r * size : (r + 1) * size, c * size : (c + 1) * size] = picture
    Image.fromarray(out).save(path, quality=88)
