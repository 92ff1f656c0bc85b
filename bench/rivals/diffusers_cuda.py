#!/usr/bin/env python3
"""Times diffusers on a card, on a model folder that Styx reads too: pictures, guided steps, memory.

    diffusers_cuda.py MODEL [--compile] [--size 512] [--steps 50] [--batch 1] [--latents]

fp16, the model's own scheduler, scaled dot product attention. --compile adds what makes diffusers
fastest: torch.compile with CUDA graphs, channels last, fused projections. The time of a step is
the difference between pictures of different numbers of steps, so that text and decoder do not
count. The last line is JSON.
"""

import argparse
import json
import statistics
import time

import torch
from diffusers import DiffusionPipeline


def speed_up(pipe):
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    pipe.fuse_qkv_projections()
    pipe.unet = torch.compile(pipe.unet, mode="reduce-overhead", fullgraph=True)
    pipe.vae.decode = torch.compile(pipe.vae.decode, mode="reduce-overhead", fullgraph=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--latents", action="store_true", help="without the decoder")
    given = parser.parse_args()
    since = time.perf_counter()
    pipe = DiffusionPipeline.from_pretrained(given.model, torch_dtype=torch.float16).to("cuda")
    pipe.set_progress_bar_config(disable=True)
    if given.compile:
        speed_up(pipe)
    loaded = time.perf_counter() - since
    extra = {"output_type": "latent"} if given.latents else {}
    if "Img2Img" in type(pipe).__name__:  # the refiner, from a picture, all steps of the schedule
        from PIL import Image
        extra |= {"image": Image.new("RGB", (given.size, given.size), (90, 120, 60)),
                  "strength": 1.0}
    else:
        extra |= {"width": given.size, "height": given.size}

    def picture(steps):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        pipe("a red apple on a table", num_inference_steps=steps, num_images_per_prompt=given.batch,
             generator=torch.Generator("cuda").manual_seed(1), **extra)
        torch.cuda.synchronize()
        return time.perf_counter() - begin

    first = picture(4)
    picture(4)
    few = max(2, given.steps // 5)
    long = statistics.median(picture(given.steps) for _ in range(given.runs))
    short = statistics.median(picture(few) for _ in range(given.runs))
    torch.cuda.reset_peak_memory_stats()
    picture(2)
    print(json.dumps({
        "what": "compile" if given.compile else "eager", "model": given.model, "size": given.size,
        "batch": given.batch, "steps": given.steps, "load_s": round(loaded, 2),
        "first_s": round(first, 2), "picture_s": round(long, 3),
        "step_ms": round(1e3 * (long - short) / (given.steps - few), 2),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)}))


if __name__ == "__main__":
    main()
