#!/usr/bin/env python3
"""Times guided steps and the VAE's decoder in stable-diffusion.cpp.

usage: run_sdcpp.py FLAGS MODEL.safetensors STEPS
FLAGS: default, or options of its constructor to turn on: vae_conv_direct,diffusion_flash_attn
"""

import importlib.metadata
import os
import re
import sys

import clock

import stable_diffusion_cpp as sd

SIDES = {"sd15": 512, "sdxl": 1024}


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    flags, model, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    chosen = {} if flags == "default" else {flag: True for flag in flags.split(",")}
    laps, watch = {"step": [], "decode": []}, clock.Clock()

    # What it has done it tells in its log alone.
    @sd.sd_log_callback
    def log(_, text, __):
        text = text.decode(errors="replace")
        sys.stderr.write(text)
        if "decode_first_stage completed" in text:
            laps["decode"].append(watch.lap())

    engine = sd.StableDiffusion(model_path=model, n_threads=clock.THREADS, vae_decode_only=True,
                                verbose=True, **chosen)
    sd.sd_set_log_callback(log, None)

    def progress(step, total, _):  # loading tells its progress too, by tensors
        if total == steps:
            lap = watch.lap()
            if step > 0:
                laps["step"].append(lap)

    side = SIDES[os.path.basename(model).split(".")[0]]
    engine.generate_image("a red apple", width=side, height=side, cfg_scale=7.5, seed=1,
                          sample_method="euler", sample_steps=steps, progress_callback=progress)
    found = re.findall(r"(\w+) = 1", sd.sd_get_system_info().decode())
    version = importlib.metadata.version("stable-diffusion-cpp-python")
    clock.tell(f"stable-diffusion-cpp-python {version}", f"{flags}, {' '.join(found)}", **laps)


if __name__ == "__main__":
    main()
