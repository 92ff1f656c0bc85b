"""Trains the UNet and the text encoder together on latents of composed scenes.

usage: train_unet.py --data DIR --tokenizer DIR --vae DIR --out DIR [--init DIR] [--seconds N]

A pool of latents lives on the device and is renewed piece by piece while training runs. The
learning rate warms up and falls along a cosine to FLOOR of its peak at the deadline, `--seconds`
after the start of the process; what is exported is the moving average of the weights. `--init`
continues from a pipeline folder (fp16 or 8-bit weights) with a fresh optimiser. If the file
OUT/deadline holds a time (seconds since 1970), it replaces `--seconds`.
"""

import argparse
import itertools
import math
import os
import time

BEGIN = time.time()  # before the slow imports: they belong to the time that was asked for

import torch

import catalogue
import compose
import networks
import sample
from stream import sheet, stream
from tokenizer import LENGTH, Tokenizer

PART = 192  # of them encoded at a time
RENEW_EVERY = 36  # steps between two renewals
FLOOR = 0.05  # the last learning rate, as a part of the peak
BUCKETS = 5  # the loss is printed for this many ranges of t


def arguments():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument("--data", required=True)
    a.add_argument("--tokenizer", required=True)
    a.add_argument("--vae", required=True, help="a folder with vae/")
    a.add_argument("--out", required=True)
    a.add_argument("--init", help="a folder with unet/ and text_encoder/")
    a.add_argument("--seconds", type=float, default=1200)
    a.add_argument("--batch", type=int, default=512)
    a.add_argument("--rate", type=float, default=8e-4)
    a.add_argument("--warmup", type=int, default=100, help="steps to the peak learning rate")
    a.add_argument("--average", type=float, default=0.9995, help="decay of the moving average")
    a.add_argument("--pool", type=int, default=131072, help="latents kept on the device")
    a.add_argument(
        "--fresh",
        type=int,
        default=768,
        help="scenes composed at a time: many, for composing is bound by kernel launches",
    )
    a.add_argument("--first", type=int, default=16128, help="latents made before the first step")
    a.add_argument("--export-every", type=float, default=60, help="seconds between two exports")
    a.add_argument("--sheets", action="store_true", help="draw sample.PROMPTS at each export")
    a.add_argument("--workers", type=int, default=12)
    a.add_argument("--eager", action="store_true", help="do not compile")
    return a.parse_args()


class Pool:
    """Latents and token ids on the device, renewed in a ring."""

    def __init__(self, size, vae, compositor, plans, device):
        self.z = torch.zeros(size, 4, 32, 32, dtype=torch.float16, device=device)
        self.ids = torch.zeros(size, LENGTH, dtype=torch.int16, device=device)
        self.vae, self.compositor, self.plans = vae, compositor, plans
        self.filled = self.at = 0
        self.broken = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def renew(self):
        """Replaces the oldest entries by a batch of new scenes; one with a value that is not finite
        is never kept.
        """
        rows, objects, ground, ids = next(self.plans)
        x = self.compositor.draw(rows, objects, ground).contiguous(
            memory_format=torch.channels_last
        )
        with torch.autocast(x.device.type, torch.bfloat16):
            mean = torch.cat([self.vae.encode(part)[0].float() for part in x.split(PART)])
        broken = ~torch.isfinite(mean).all((1, 2, 3))
        self.broken += broken.sum()
        mean = torch.where(broken.view(-1, 1, 1, 1), mean[(~broken).int().argmax()], mean)
        ids = torch.where(
            broken.view(-1, 1),
            ids.to(broken.device)[(~broken).int().argmax()],
            ids.to(broken.device),
        )
        n = min(len(mean), len(self.z) - self.at)
        self.z[self.at : self.at + n] = (mean[:n] * self.vae.config["scaling_factor"]).half()
        self.ids[self.at : self.at + n] = ids[:n]
        self.filled = max(self.filled, self.at + n)
        self.at = (self.at + n) % len(self.z)

    def draw(self, n):
        i = torch.randint(0, self.filled, (n,), device=self.z.device)
        return self.z[i].float(), self.ids[i].long()


class Trainer:
    """The networks, their optimiser and moving average."""

    def __init__(self, args, device):
        self.args, self.device = args, device
        self.tokenizer = Tokenizer.load(args.tokenizer)
        if args.init:
            self.unet, self.text = (networks.load(args.init, p) for p in ("unet", "text_encoder"))
        else:
            torch.manual_seed(5)
            self.unet = networks.make("unet", networks.UNET)
            self.text = networks.make("text_encoder", networks.text_config(self.tokenizer))
        self.unet.to(device, memory_format=torch.channels_last).train()
        self.text.to(device).train()
        self.forward = self.unet if args.eager else torch.compile(self.unet)
        self.params = [*self.unet.parameters(), *self.text.parameters()]
        self.optimiser = torch.optim.AdamW(
            self.params, args.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.average = [p.detach().clone() for p in self.params]
        self.levels = networks.levels().to(device)
        # Half-noisy latents decide shapes; they are drawn most, and every t often enough.
        self.chance = 0.35 + 4 * self.levels * (1 - self.levels)
        self.losses = torch.zeros(2, BUCKETS, device=device)
        self.step, self.seen = 0, (BEGIN, 0)  # seen: the time and step of the last report
        self.skipped = torch.zeros((), device=device)

    def train_step(self, z, ids, rate):
        """One step on latents and captions, by the velocity loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        n = len(z)
        t = torch.multinomial(self.chance, n, True)
        a = self.levels[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(z)
        noisy, velocity = (
            a.sqrt() * z + (1 - a).sqrt() * noise,
            a.sqrt() * noise - (1 - a).sqrt() * z,
        )
        with torch.autocast(self.device, torch.bfloat16):
            context = self.text(ids)
            guess = self.forward(noisy.contiguous(memory_format=torch.channels_last), t, context)
        each = (guess.float() - velocity).square().mean((1, 2, 3))
        self.optimiser.zero_grad(set_to_none=True)
        each.mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimiser.found_inf = (
            ~torch.isfinite(norm)
        ).float()  # the fused step then leaves the weights alone
        self.optimiser.grad_scale = None
        self.skipped += self.optimiser.found_inf
        self.optimiser.step()
        self.step += 1
        decay = min(self.args.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.params], 1 - decay)
        bucket = t * BUCKETS // 1000
        self.losses[0].index_add_(0, bucket, each.detach().nan_to_num(0, 0, 0))
        self.losses[1].index_add_(0, bucket, torch.ones_like(each))

    def report(self):
        """The mean losses since the last report: of all t alike, and from low noise to high."""
        total, count = self.losses.tolist()
        self.losses.zero_()
        means = [a / max(1.0, b) for a, b in zip(total, count)]
        return f"{sum(means) / BUCKETS:.4f} [" + " ".join(f"{m:.4f}" for m in means) + "]"

    @torch.no_grad()
    def exported(self):
        """The networks with the averaged weights, as copies."""
        unet = networks.make("unet", self.unet.config)
        text = networks.make("text_encoder", self.text.config)
        for p, q in zip([*unet.parameters(), *text.parameters()], self.average):
            p.copy_(q)
        return unet.to(self.device).eval(), text.to(self.device).eval()

    def export(self, vae, name):
        """Writes the averaged weights (fp16) and, if asked for, a sheet of samples."""
        start = time.time()
        unet, text = self.exported()
        networks.save(self.args.out, unet=unet, text_encoder=text)
        if self.args.sheets:
            prompts = sample.PROMPTS
            seeds = list(range(len(prompts)))
            pictures = sample.draw(unet, text, vae, self.tokenizer, prompts, seeds)
            sheet(pictures, os.path.join(self.args.out, name + ".jpg"))
        print(f"export {name} {time.time() - start:.1f} s", flush=True)


def deadline_of(out, default):
    """The time to stop: OUT/deadline if it is there."""
    try:
        with open(os.path.join(out, "deadline"), encoding="ascii") as f:
            return float(f.read())
    except (OSError, ValueError):
        return default


def report(trainer, pool, rate, end):
    """One line on how training goes."""
    now, (then, before) = time.time(), trainer.seen
    trainer.seen = (now, trainer.step)
    pace = (trainer.step - before) * trainer.args.batch / (now - then)
    print(
        f"unet {trainer.step} loss {trainer.report()} rate {rate:.1e} {pace:.0f} pictures/s "
        f"pool {pool.filled} skipped {int(trainer.skipped)} broken {int(pool.broken)} "
        f"{now - BEGIN:.0f} of {end - BEGIN:.0f} s",
        flush=True,
    )


def train(trainer, pool, vae, args):
    """Steps until the deadline."""
    end, exports = deadline_of(args.out, BEGIN + args.seconds), itertools.count(1)
    start = shown = time.time()
    while (now := time.time()) < end:
        part = (now - start) / (end - start)
        rate = args.rate * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * part)))
        rate *= min(1, (trainer.step + 1) / args.warmup)
        if trainer.step % RENEW_EVERY == 0:
            pool.renew()
        trainer.train_step(*pool.draw(args.batch), rate)
        if trainer.step % 100 == 0 or trainer.step in (3, 30):
            report(trainer, pool, rate, end)
            end = deadline_of(args.out, end)
        if now - shown > args.export_every:
            trainer.export(vae, f"export{next(exports)}")
            shown = time.time()
    trainer.export(vae, "final")
    print(
        f"unet done: {trainer.step} steps, {trainer.step * args.batch / 1e6:.2f} M samples, "
        f"{time.time() - start:.0f} s after {start - BEGIN:.0f} s of start",
        flush=True,
    )


def main():
    args = arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    # Flash attention instead: its backward pass has been the steadier.
    torch.backends.cuda.enable_cudnn_sdp(False)
    os.makedirs(args.out, exist_ok=True)
    vae = networks.load(args.vae, "vae").to(device, memory_format=torch.channels_last)
    vae.eval().requires_grad_(False)
    trainer = Trainer(args, device)
    print(
        f"unet {networks.parameters(trainer.unet):.2f} M, "
        f"text {networks.parameters(trainer.text):.2f} M",
        flush=True,
    )
    rows, seed = catalogue.load(args.data), int(BEGIN) % 100000
    plans = stream(rows, trainer.tokenizer, args.fresh, seed, args.workers)
    compositor = compose.Compositor(compose.read_pictures(args.data, rows), device, seed)
    pool = Pool(args.pool, vae, compositor, plans, device)
    while pool.filled < args.first:
        pool.renew()
    print(f"pool of {pool.filled} after {time.time() - BEGIN:.1f} s", flush=True)
    train(trainer, pool, vae, args)


if __name__ == "__main__":
    main()
