"""Trains the UNet and the text encoder together on latents of composed scenes.

usage: train_unet.py --data DIR --tokenizer DIR --vae DIR --out DIR [--init DIR] [--seconds N]

A pool of latents lives on the device and is renewed piece by piece while training runs. The
learning rate is constant at first and falls linearly to zero at the deadline; what is exported is
the moving average of the weights. `--init` continues from an exported folder (unet/, text_encoder/)
with a fresh optimiser. If the file OUT/deadline holds a time (seconds since 1970), it replaces
`--seconds`.
"""

import argparse
import itertools
import os
import time

import torch

import catalogue
import compose
import networks
import sample
from stream import sheet, stream
from tokenizer import LENGTH, Tokenizer

FRESH = 768  # scenes composed at a time: many, for composing is bound by kernel launches
PART = 192  # of them encoded at a time
RENEW_EVERY = 36  # steps between two renewals
WARMUP = 300
CONSTANT = 0.35  # the part of the time before the rate falls
BUCKETS = 5  # the loss is printed for this many ranges of t


def arguments():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument("--data", required=True)
    a.add_argument("--tokenizer", required=True)
    a.add_argument("--vae", required=True)
    a.add_argument("--out", required=True)
    a.add_argument("--init")
    a.add_argument("--seconds", type=float, default=1200)
    a.add_argument("--batch", type=int, default=256)
    a.add_argument("--rate", type=float, default=8e-4)
    a.add_argument("--average", type=float, default=0.9995, help="decay of the moving average")
    a.add_argument("--pool", type=int, default=131072, help="latents kept on the device")
    a.add_argument("--first", type=int, default=16128, help="latents made before the first step")
    a.add_argument(
        "--sheet-every", type=float, default=240, help="seconds between sample sheets and exports"
    )
    a.add_argument("--workers", type=int, default=12)
    a.add_argument("--eager", action="store_true", help="do not compile")
    a.add_argument(
        "--rehearse",
        action="store_true",
        help="run three steps on noise to fill the compiler's cache, then stop",
    )
    return a.parse_args()


class Pool:
    """Latents and token ids on the device, renewed in a ring."""

    def __init__(self, size, vae, encode, compositor, plans, device):
        self.z = torch.zeros(size, 4, 32, 32, dtype=torch.float16, device=device)
        self.ids = torch.zeros(size, LENGTH, dtype=torch.int16, device=device)
        self.vae, self.encode, self.compositor, self.plans = vae, encode, compositor, plans
        self.filled = self.at = 0
        self.broken = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def renew(self):
        """Replaces the oldest FRESH entries by new scenes; one with a value that is not finite is
        never kept.
        """
        rows, objects, ground, ids = next(self.plans)
        x = self.compositor.draw(rows, objects, ground).contiguous(
            memory_format=torch.channels_last
        )
        with torch.autocast(x.device.type, torch.bfloat16):
            mean = torch.cat(
                [
                    self.vae.quant_conv(self.encode(part)).float().chunk(2, 1)[0]
                    for part in x.split(PART)
                ]
            )
        broken = ~torch.isfinite(mean).all((1, 2, 3))
        self.broken += broken.sum()
        mean = torch.where(broken.view(-1, 1, 1, 1), mean[(~broken).int().argmax()], mean)
        ids = torch.where(
            broken.view(-1, 1),
            ids.to(broken.device)[(~broken).int().argmax()],
            ids.to(broken.device),
        )
        n = min(len(mean), len(self.z) - self.at)
        self.z[self.at : self.at + n] = (mean[:n] * self.vae.config.scaling_factor).half()
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
            self.unet = networks.UNet2DConditionModel.from_pretrained(
                f"{args.init}/unet", torch_dtype=torch.float32
            )
            self.text = networks.CLIPTextModel.from_pretrained(
                f"{args.init}/text_encoder", dtype=torch.float32
            )
        else:
            torch.manual_seed(5)
            self.unet, self.text = networks.make_unet(), networks.make_text(self.tokenizer)
        self.unet.to(device, memory_format=torch.channels_last).train()
        self.text.to(device).train()
        self.forward = self.unet if args.eager else torch.compile(self.unet)
        self.params = [*self.unet.parameters(), *self.text.parameters()]
        self.optimiser = torch.optim.AdamW(
            self.params, args.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.average = [p.detach().clone() for p in self.params]
        self.levels = networks.schedule().alphas_cumprod.to(device)
        self.losses = torch.zeros(2, BUCKETS, device=device)
        self.step = 0
        self.skipped = torch.zeros((), device=device)

    def train_step(self, z, ids, rate):
        """One step on latents and captions; the plain velocity loss weights all t alike."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        n = len(z)
        t = torch.randint(0, 1000, (n,), device=self.device)
        a = self.levels[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(z)
        noisy, velocity = (
            a.sqrt() * z + (1 - a).sqrt() * noise,
            a.sqrt() * noise - (1 - a).sqrt() * z,
        )
        with torch.autocast(self.device, torch.bfloat16):
            context = self.text(ids).last_hidden_state
            guess = self.forward(
                noisy.contiguous(memory_format=torch.channels_last), t, context
            ).sample
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
        """The mean losses since the last report, from low noise to high."""
        total, count = self.losses.tolist()
        self.losses.zero_()
        mean = sum(total) / max(1.0, sum(count))
        return (
            f"{mean:.4f} [" + " ".join(f"{a / max(1.0, b):.4f}" for a, b in zip(total, count)) + "]"
        )

    @torch.no_grad()
    def exported(self):
        """The networks with the averaged weights, as copies."""
        unet, text = networks.make_unet(), networks.make_text(self.tokenizer)
        for p, q in zip([*unet.parameters(), *text.parameters()], self.average):
            p.copy_(q)
        return unet.to(self.device).eval(), text.to(self.device).eval()

    def export(self, vae, name):
        """Writes the averaged weights (fp16) and a sheet of samples."""
        start = time.time()
        unet, text = self.exported()
        networks.save(self.args.out, unet=unet, text_encoder=text)
        prompts = sample.PROMPTS
        pictures = sample.draw(unet, text, vae, self.tokenizer, prompts, list(range(len(prompts))))
        sheet(pictures, os.path.join(self.args.out, name))
        print(f"export {name} {time.time() - start:.1f} s", flush=True)


def deadline_of(out, default):
    """The time to stop: OUT/deadline if it is there."""
    try:
        with open(os.path.join(out, "deadline"), encoding="ascii") as f:
            return float(f.read())
    except (OSError, ValueError):
        return default


def rehearse(trainer, vae, encode, args):
    """Compiles everything on random numbers."""
    x = torch.zeros(PART, 3, 256, 256, device=trainer.device).contiguous(
        memory_format=torch.channels_last
    )
    with torch.no_grad(), torch.autocast(trainer.device, torch.bfloat16):
        encode(x)
    for _ in range(3):
        z = torch.randn(args.batch, 4, 32, 32, device=trainer.device)
        trainer.train_step(
            z, torch.zeros(args.batch, LENGTH, dtype=torch.long, device=trainer.device), 1e-4
        )
    print("rehearsed: loss", trainer.report(), flush=True)


def main():
    args = arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.enable_cudnn_sdp(
        False
    )  # flash attention instead: its backward pass has been the steadier
    os.makedirs(args.out, exist_ok=True)
    vae = (
        networks.make_vae()
        if args.rehearse
        else networks.AutoencoderKL.from_pretrained(args.vae, torch_dtype=torch.float32)
    )
    vae.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    encode = vae.encoder if args.eager else torch.compile(vae.encoder)
    trainer = Trainer(args, device)
    print(
        f"unet {networks.parameters(trainer.unet):.2f} M, "
        f"text {networks.parameters(trainer.text):.2f} M",
        flush=True,
    )
    if args.rehearse:
        rehearse(trainer, vae, encode, args)
        return
    rows = catalogue.load(args.data)
    compositor = compose.Compositor(compose.read_pictures(args.data, rows), device, 2)
    plans = stream(rows, trainer.tokenizer, FRESH, 17 + int(time.time()) % 100000, args.workers)
    pool, start = Pool(args.pool, vae, encode, compositor, plans, device), time.time()
    while pool.filled < args.first:
        pool.renew()
    print(f"pool of {pool.filled} in {time.time() - start:.1f} s", flush=True)
    start = shown = time.time()
    end, sheets = deadline_of(args.out, start + args.seconds), itertools.count(1)
    while (now := time.time()) < end:
        part = (now - start) / (end - start)
        rate = args.rate * min(1, (trainer.step + 1) / WARMUP) * min(1, (1 - part) / (1 - CONSTANT))
        if trainer.step % RENEW_EVERY == 0:
            pool.renew()
        trainer.train_step(*pool.draw(args.batch), rate)
        if trainer.step % 200 == 0 or trainer.step in (3, 50):
            print(
                f"unet {trainer.step} loss {trainer.report()} rate {rate:.1e} pool {pool.filled} "
                f"skipped {int(trainer.skipped)} broken {int(pool.broken)} "
                f"{time.time() - start:.0f} of {end - start:.0f} s",
                flush=True,
            )
            end = deadline_of(args.out, end)
        if now - shown > args.sheet_every:
            trainer.export(vae, f"sheet{next(sheets)}.jpg")
            shown = time.time()
    trainer.export(vae, "final.jpg")
    print(
        f"unet done: {trainer.step} steps, {trainer.step * args.batch / 1e6:.2f} M samples",
        flush=True,
    )


if __name__ == "__main__":
    main()
