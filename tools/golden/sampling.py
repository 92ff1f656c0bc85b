"""Loops of every scheduler class with a dummy model, over the knobs that change its numbers."""

import os

import torch
from safetensors.numpy import save_file

import diffusers
from . import record
from .cases import (BETA, DPM2, DPM2_A, EULER, EULER_A, EXPONENTIAL, HEUN, KARRAS, LMS, MULTI, SDE,
                    SINGLE, UNIPC, ZERO_SNR)

NOTE = ("loop: x = arange(768).reshape(3,8,8,4)/768 permuted to (4,3,8,8), times init_noise_sigma; "
        "each t: x = scale_model_input(x,t) and the SAME scaled x goes into step(); "
        "model(x,t) = x*t/(t+1); noise from a CPU generator seeded with 0, in order; "
        "stored: final x flattened, every 37th value. DPMSolverSDE draws plain normal tensors in "
        "place of torchsde's Brownian tree. add_noise: of the first x and randn (seed 1) at the "
        "middle timestep, every 37th value, under KEY.noised")
BASE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "prediction_type": "epsilon"}
PLAIN = {"clip_sample": False}
V, SAMPLE = {"prediction_type": "v_prediction"}, {"prediction_type": "sample"}
SIGMAS = [KARRAS, EXPONENTIAL, BETA]
LAST, LINEAR = {"final_sigmas_type": "sigma_min"}, {"beta_schedule": "linear"}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
THRESHOLD = {"thresholding": True, "sample_max_value": 1.5}
# Per class: what all its variants share, the variants, and whether timestep_spacing is a knob.
CLASSES = {
    "PNDM": ({"skip_prk_steps": True}, [{}, V, {"skip_prk_steps": False}, COSINE,
                                        {"set_alpha_to_one": True}], True),
    "DDIM": (PLAIN, [{}, V, SAMPLE, ZERO_SNR, THRESHOLD, {"clip_sample": True},
                     {"set_alpha_to_one": False}, COSINE, {"eta": 0.7},
                     {"use_clipped_model_output": True, "clip_sample": True}], True),
    "DDPM": (PLAIN, [{}, V, ZERO_SNR, THRESHOLD, {"variance_type": "fixed_large"}, LINEAR,
                     {"clip_sample": True, "clip_sample_range": 2.0},
                     {"beta_schedule": "sigmoid"}, {"beta_schedule": "laplace"}], True),
    EULER: ({}, [{}, V, ZERO_SNR, *SIGMAS, LAST, {"interpolation_type": "log_linear"}, LINEAR,
                 {"sigma_min": 0.1, "sigma_max": 10.0, **KARRAS}], True),
    EULER_A: ({}, [{}, V, ZERO_SNR, LINEAR], True),
    HEUN: ({}, [{}, V, *SIGMAS, COSINE], True),
    DPM2: ({}, [{}, V, *SIGMAS, COSINE], True),
    DPM2_A: ({}, [{}, V, *SIGMAS, LINEAR], True),
    LMS: ({}, [{}, V, *SIGMAS, LINEAR], True),
    MULTI: ({}, [{}, V, SAMPLE, ZERO_SNR, *SIGMAS, {"use_lu_lambdas": True}, LAST,
                 {"solver_order": 1}, {"solver_order": 3}, {"solver_type": "heun"},
                 {"algorithm_type": "sde-dpmsolver++"},
                 {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun", **KARRAS},
                 {"algorithm_type": "sde-dpmsolver++", "solver_order": 3, **KARRAS},
                 {"euler_at_final": True}, {"lower_order_final": False}, THRESHOLD,
                 {"algorithm_type": "dpmsolver", **LAST}, {"variance_type": "fixed_large_log"}],
            True),
    SINGLE: ({}, [{}, V, *SIGMAS, {"solver_order": 1}, {"solver_order": 3},
                  {"solver_type": "heun"}, LAST, {"algorithm_type": "sde-dpmsolver++", **LAST},
                  {"variance_type": "fixed_large_log"}], False),
    SDE: ({}, [{}, V, *SIGMAS], True),
    UNIPC: ({}, [{}, V, SAMPLE, ZERO_SNR, *SIGMAS, {"solver_order": 1}, {"solver_order": 3},
                 {"solver_type": "bh1", **LAST}, {"disable_corrector": [0, 2]},
                 {"predict_x0": False, **LAST}, {"lower_order_final": False, **LAST}, THRESHOLD],
            True),
    "DEISMultistep": ({}, [{}, V, *SIGMAS, {"solver_order": 1}, {"solver_order": 3}], True),
    "LCM": (PLAIN, [{}, V, SAMPLE, ZERO_SNR, {"original_inference_steps": 25}], False),
    "TCD": ({}, [{}, V, ZERO_SNR, {"eta": 0.0}, {"eta": 1.0}], False),
}
STEP_KNOBS = ("eta", "use_clipped_model_output")
SPACINGS = ("linspace", "leading", "trailing")


def start():
    x = torch.arange(768, dtype=torch.float32).reshape(3, 8, 8, 4) / 768
    return x.permute(3, 0, 1, 2)


def every_37th(x):
    return x.contiguous().flatten()[::37].numpy().copy()


def run(scheduler, steps, step_knobs):
    """(final x, one noised x)."""
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    record.PlainNoise.generator = generator
    x = start() * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.scale_model_input(x, t)
        out = x * t / (t + 1)
        if "generator" in scheduler.step.__code__.co_varnames:
            x = scheduler.step(out, t, x, generator=generator, **step_knobs).prev_sample
        else:
            x = scheduler.step(out, t, x, **step_knobs).prev_sample
    noise = torch.randn(start().shape, generator=torch.Generator().manual_seed(1))
    scheduler.set_timesteps(steps)
    middle = scheduler.timesteps[len(scheduler.timesteps) // 2]
    return x, scheduler.add_noise(start(), noise, middle.repeat(len(noise)))


def digits(x):
    """Nine significant digits: all that a float32 has."""
    return float(f"{float(x):.9g}")


def variants():
    """(class, config, steps, step keywords); spacing and length change from one to the next."""
    turn = 0
    for name, (shared, knobs, spaced) in CLASSES.items():
        for knob in knobs:
            for steps in (4, 7, 21) if not knob else (5, 15):
                config = {**BASE, **shared, **knob}
                step = {k: config.pop(k) for k in STEP_KNOBS if k in config}
                original = {k: config.pop(k) for k in ("original_inference_steps",) if k in config}
                if spaced and "timestep_spacing" not in config:
                    config["timestep_spacing"] = SPACINGS[turn % 3]
                    config["steps_offset"] = turn // 3 % 2
                    turn += 1
                yield name + "Scheduler", {**config, **original}, steps, step
                if knob and step:
                    break


def make(out):
    """Writes schedulers.safetensors and returns schedulers.json."""
    module = record.scheduling_dpmsolver_sde
    tree, module.BrownianTreeNoiseSampler = module.BrownianTreeNoiseSampler, record.PlainNoise
    entries, tensors = [], {}
    for name, config, steps, step in variants():
        if name == DPM2_A + "Scheduler" and config.get("use_beta_sigmas"):
            continue  # its last jump is so long that sqrt(to^2 - up^2) is torch's rounding alone
        scheduler = getattr(diffusers, name)(**config)
        x, noised = run(scheduler, steps, step)
        if not torch.isfinite(x).all():
            raise ValueError(f"{name} {config} is not finite")
        key = f"s{len(entries):03}"
        tensors[key], tensors[key + ".noised"] = every_37th(x), every_37th(noised)
        entry = {"key": key, "class": name, "config": config, "steps": steps, "step_kw": step,
                 "order": scheduler.order, "init_noise_sigma": float(scheduler.init_noise_sigma),
                 "timesteps": [digits(t) for t in scheduler.timesteps]}
        if hasattr(scheduler, "sigmas"):
            entry["sigmas"] = [digits(s) for s in scheduler.sigmas]
        entries.append({**entry, "sum": digits(x.double().sum())})
    module.BrownianTreeNoiseSampler = tree
    save_file(tensors, os.path.join(out, "schedulers.safetensors"))
    return {"matrix": entries, "note": NOTE}
