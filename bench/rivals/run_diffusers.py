#!/usr/bin/env python3
"""Times guided steps and the VAE's decoder in diffusers, computed by torch or OpenVINO.

usage: run_diffusers.py MODE MODEL STEPS
MODE: torch-f32, torch-bf16, the same with -compiled, openvino, or openvino-export, which
writes the static networks that openvino runs beside the model, once.
"""

import os
import sys
import types

import clock

import diffusers
import torch

torch.set_num_threads(clock.THREADS)
SIDES = {"sd15": 512, "sdxl": 1024}


# ---- OpenVINO ----

class Flat(torch.nn.Module):
    """A network with tensors alone for arguments and for its result, as the converter wants it."""

    def __init__(self, network, call):
        super().__init__()
        self.network, self.call = network.eval(), call

    def forward(self, *tensors):
        return self.call(self.network, *tensors)[0]


def export(model):
    """The UNet of SD 1.x for a batch of two, and the decoder: static shapes, 16-bit weights."""
    save(model, "unet", diffusers.UNet2DConditionModel,
         lambda unet, x, t, text: unet(x, t, text, return_dict=False),
         (torch.zeros(2, 4, 64, 64), torch.tensor(1.0), torch.zeros(2, 77, 768)))
    save(model, "vae", diffusers.AutoencoderKL, lambda vae, z: vae.decode(z, return_dict=False),
         (torch.zeros(1, 4, 64, 64),))


def exported(model, part):
    return os.path.join(model, "openvino", part + ".xml")


def save(model, part, kind, call, inputs):
    import openvino

    if os.path.exists(exported(model, part)):
        return
    network = Flat(kind.from_pretrained(model, subfolder=part), call)
    with torch.inference_mode():
        traced = torch.jit.trace(network, inputs, check_trace=False)
        converted = openvino.convert_model(traced, example_input=inputs,
                                           input=[tuple(x.shape) for x in inputs])
    openvino.save_model(converted, exported(model, part))


class Compiled(torch.nn.Module):
    """What a pipeline of diffusers expects of a network, around one that OpenVINO runs."""

    def __init__(self, compiled, config):
        super().__init__()
        self.compiled, self.config = compiled, config
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def run(self, *tensors):
        return (torch.from_numpy(self.compiled([x.numpy() for x in tensors])[0]),)

    def forward(self, x, t, encoder_hidden_states, **_):
        return self.run(x, t.to(torch.float32), encoder_hidden_states)

    def decode(self, z, **_):
        return self.run(z)


def with_openvino(model):
    import openvino

    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": clock.THREADS, "NUM_STREAMS": 1,
                              "INFERENCE_PRECISION_HINT": "bf16",
                              "PERFORMANCE_HINT": "LATENCY"})
    parts = {}
    for part, kind in (("unet", diffusers.UNet2DConditionModel), ("vae", diffusers.AutoencoderKL)):
        config = {"time_cond_proj_dim": None} | kind.load_config(model, subfolder=part)
        network = core.compile_model(exported(model, part), "CPU")
        precision = network.get_property("INFERENCE_PRECISION_HINT").to_string()
        parts[part] = Compiled(network, types.SimpleNamespace(**config))
    pipe = diffusers.DiffusionPipeline.from_pretrained(model, unet=None, vae=None)
    pipe.unet, pipe.vae = parts["unet"], parts["vae"]
    flags = (f"static shapes, latency hint, bf16 asked for and {precision} chosen; "
             f"diffusers {diffusers.__version__} around it")
    return pipe, f"OpenVINO {openvino.get_version().split('-')[0]}", flags


# ---- torch ----

def with_torch(model, mode):
    dtype = torch.bfloat16 if "bf16" in mode else torch.float32
    pipe = diffusers.DiffusionPipeline.from_pretrained(model, torch_dtype=dtype)
    flags = [str(dtype).removeprefix("torch."), "channels last", "SDPA", "inference mode"]
    for network in (pipe.unet, pipe.vae):
        network.to(memory_format=torch.channels_last)
    if mode.endswith("-compiled"):
        import torch._inductor.config as inductor

        inductor.freezing = True
        pipe.unet = torch.compile(pipe.unet)
        pipe.vae.decode = torch.compile(pipe.vae.decode)
        flags.append("torch.compile with freezing")
    return pipe, f"diffusers {diffusers.__version__}, torch {torch.__version__}", ", ".join(flags)


# ---- the measurement ----

def measure(pipe, steps, side):
    """Laps of all guided steps but the first, and of all decodings but the first."""
    pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    laps, watch = {"step": [], "decode": []}, clock.Clock()

    def end_of_step(_, i, __, values):
        lap = watch.lap()
        if i > 0:
            laps["step"].append(lap)
        return values

    with torch.inference_mode():
        latents = pipe("a red apple", width=side, height=side, num_inference_steps=steps + 1,
                       guidance_scale=7.5, output_type="latent",
                       callback_on_step_end=end_of_step).images
        latents = (latents / pipe.vae.config.scaling_factor).to(pipe.vae.dtype)
        for i in range(3):
            watch.lap()
            pipe.vae.decode(latents, return_dict=False)
            if i > 0:
                laps["decode"].append(watch.lap())
    return laps


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    mode, model, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if mode == "openvino-export":
        export(model)
        return
    pipe, version, flags = with_openvino(model) if mode == "openvino" else with_torch(model, mode)
    side = SIDES[os.path.basename(os.path.normpath(model))]
    clock.tell(version, flags, **measure(pipe, steps, side))


if __name__ == "__main__":
    main()
