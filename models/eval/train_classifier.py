"""Trains the classifier of the evaluation on the cut-outs themselves.

usage: train_classifier.py --data DIR [--seconds N] [--out FILE]

Every example is one common object, in any size and place, sometimes tinted, on a random background,
a little blurred or noisy, as a generated picture may be.
"""

import argparse
import json
import os
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "train"))

import catalogue
import compose

WIDTHS = (3, 32, 64, 96, 128, 160)


class Net(nn.Module):
    """See classifier.py, which runs the same with the norms folded in."""

    def __init__(self, classes):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, 1 if k == 0 else 2, 1, bias=False)
            for k, (a, b) in enumerate(zip(WIDTHS, WIDTHS[1:]))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in WIDTHS[1:])
        self.fc = nn.Linear(2 * WIDTHS[-1], classes)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms):
            x = norm(conv(x)).relu()
        return self.fc(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))

    def folded(self, names):
        """The tensors of classifier.py."""
        out = {}
        for k, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            out[f"conv{k}.weight"] = conv.weight * gain.view(-1, 1, 1, 1)
            out[f"conv{k}.bias"] = norm.bias - norm.running_mean * gain
        out |= {"fc.weight": self.fc.weight, "fc.bias": self.fc.bias}
        return {k: v.detach().half().cpu().contiguous() for k, v in out.items()}, {
            "names": json.dumps(names)
        }


class Examples:
    """Random labelled pictures of 64x64."""

    def __init__(self, data, device, seed):
        rows = catalogue.load(data)
        self.names = catalogue.common_names(rows)
        label = {n: i for i, n in enumerate(self.names)}
        rows = [r for r in rows if r["clean"] in label]
        self.level = compose.pyramid(compose.read_pictures(data, rows), device)[1]
        self.label = torch.tensor([label[r["clean"]] for r in rows], device=device)
        share = torch.tensor([1.0 if r["style"] == "3d" else 0.12 for r in rows], device=device)
        self.chance, self.chance_3d = share, (share == 1).float()
        self.palette = torch.tensor(list(catalogue.COLOURS.values()), device=device) / 255
        self.device = device
        self.gen = torch.Generator(device).manual_seed(seed)

    def rand(self, *shape):
        return torch.rand(*shape, device=self.device, generator=self.gen)

    @torch.no_grad()
    def draw(self, n, clean=False):
        i = torch.multinomial(self.chance_3d if clean else self.chance, n, True, generator=self.gen)
        x = self.level[i].float() / 255
        rgb, alpha = x[:, :3], x[:, 3:]
        if not clean:
            tinted = (self.rand(n) < 0.15).nonzero()[:, 0]
            tint = self.palette[
                torch.randint(0, len(self.palette), (len(tinted),), device=self.device)
            ]
            rgb = rgb.index_copy(
                0, tinted, compose.colourise(rgb[tinted], alpha[tinted], tint.view(-1, 3, 1, 1))
            )
        s, free = (0.66 + 0.2 * self.rand(n), 0.08) if clean else (0.5 + 0.55 * self.rand(n), 0.15)
        flip = 1 - 2 * (self.rand(n) < 0.25).float()
        theta = torch.zeros(n, 2, 3, device=self.device)
        theta[:, 0, 0], theta[:, 1, 1] = flip / s, 1 / s
        theta[:, :, 2] = (self.rand(n, 2) * 2 - 1) * free
        grid = F.affine_grid(theta, (n, 4, 128, 128), align_corners=False)
        layer = F.avg_pool2d(
            F.grid_sample(torch.cat([rgb, alpha], 1), grid, align_corners=False), 2
        )
        ground = self.palette[
            torch.randint(0, len(self.palette), (n,), device=self.device, generator=self.gen)
        ]
        out = layer[:, :3] + ground.view(n, 3, 1, 1) * (1 - layer[:, 3:])
        if not clean:
            soft = F.avg_pool2d(F.pad(out, (1, 1, 1, 1), mode="replicate"), 3, 1)
            out = torch.lerp(out, soft, self.rand(n, 1, 1, 1) * (self.rand(n, 1, 1, 1) < 0.6))
            out = out * (0.9 + 0.2 * self.rand(n, 3, 1, 1)) + 0.03 * torch.randn_like(out)
        return out * 2 - 1, self.label[i]


def main():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument("--data", required=True)
    a.add_argument("--seconds", type=float, default=60)
    a.add_argument("--batch", type=int, default=512)
    a.add_argument("--out", default=os.path.join(HERE, "classifier.safetensors"))
    args = a.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(3)
    examples = Examples(args.data, device, 1)
    net = Net(len(examples.names)).to(device)
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.02)
    start, step = time.time(), 0
    while (part := (time.time() - start) / args.seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 100) * (1 - part)
        x, y = examples.draw(args.batch)
        loss = F.cross_entropy(net(x), y, label_smoothing=0.05)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
        if step % 250 == 0:
            print(
                f"classifier {step} loss {loss.item():.3f} {time.time() - start:.0f} s", flush=True
            )
    net.eval()
    test = Examples(args.data, device, 2)
    with torch.no_grad():
        hits = [
            (net(x).topk(5).indices == y[:, None])
            for x, y in (test.draw(500, True) for _ in range(8))
        ]
    hits = torch.cat(hits).float()
    tensors, names = net.folded(examples.names)
    save_file(tensors, args.out, metadata=names)
    print(
        f"classifier done: {step} steps, top-1 {hits[:, 0].mean():.4f}, "
        f"top-5 {hits.sum(1).mean():.4f} "
        "on fresh pictures",
        flush=True,
    )


if __name__ == "__main__":
    main()
