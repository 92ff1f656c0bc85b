"""What the package does to its process: imports, threads, signals, memory."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import GOLDEN, open_model

from styx import diffusers, torch

SD = {"model": "tiny_sd15", "pipeline": "StableDiffusionPipeline"}


def python(code, *flags, **environment):
    """Runs code in a fresh interpreter that finds styx where this one does."""
    path = os.pathsep.join(p for p in sys.path if p)
    run = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": path, **environment}, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_import_is_light():
    code = ("import time; t = time.perf_counter(); import styx; "
            "print(time.perf_counter() - t); import sys; "
            "print([m for m in ('torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'tqdm') "
            "if m in sys.modules])")
    lines = [python(code).split("\n") for _ in range(3)]
    assert min(float(line[0]) for line in lines) <= 0.15
    assert lines[0][1] == "[]"


def test_all_names_are_there():
    from styx import transformers
    from styx.diffusers.pipelines.stable_diffusion.safety_checker import \
        StableDiffusionSafetyChecker

    for module in (diffusers, transformers, torch):
        for name in module.__all__:
            assert getattr(module, name).__doc__, f"{module.__name__}.{name} has no docstring"
    assert StableDiffusionSafetyChecker.__doc__
    from styx.diffusers.schedulers import EulerDiscreteScheduler
    assert EulerDiscreteScheduler is diffusers.EulerDiscreteScheduler
    for name in dir(diffusers.StableDiffusionXLPipeline):
        member = getattr(diffusers.StableDiffusionXLPipeline, name)
        if not name.startswith("_") and callable(member):
            assert member.__doc__ or name.startswith(("disable", "enable", "load")), name


BARE = """
import sys
for name in ("numpy", "PIL", "tqdm"):
    sys.modules[name] = None
from styx.diffusers import StableDiffusionPipeline
from styx import torch
pipe = StableDiffusionPipeline.from_pretrained({folder!r})
image = pipe("a castle", num_inference_steps=2,
             generator=torch.Generator().manual_seed(0)).images[0]
assert image._repr_png_()[:4] == b"\\x89PNG" and image.size == (64, 64)
import hashlib
print(hashlib.sha256(image.tobytes()).hexdigest())
"""


def test_without_numpy_pillow_and_tqdm(tiny):
    import hashlib

    pipe = open_model(GOLDEN, SD)
    image = pipe("a castle", num_inference_steps=2,
                 generator=torch.Generator().manual_seed(0)).images[0]
    bare = python(BARE.format(folder=tiny("tiny_sd15"))).strip()
    assert bare == hashlib.sha256(image.tobytes()).hexdigest()


def test_own_bar_has_the_same_texts(capsys, monkeypatch):
    from styx import _progress

    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with _progress.bar(7, desc="Loading pipeline components...") as bar:
        bar.update(7)
    text = capsys.readouterr().err
    assert "Loading pipeline components...:   0%|" in text
    assert "| 0/7 [00:00<?, ?it/s]" in text and "100%|" in text and "7/7" in text


@pytest.mark.parametrize("call, total", [
    (dict(), 50), (dict(num_inference_steps=125), 125)])
def test_bars_of_text_to_image(capfd, call, total):
    pipe = open_model(GOLDEN, SD)
    capfd.readouterr()
    pipe.set_progress_bar_config(mininterval=0)
    pipe("a castle", **call)
    text = capfd.readouterr().err
    assert f"0/{total} [00:00<?, ?it/s]" in text and f"{total}/{total}" in text


def test_bars_of_the_refiner(capfd):
    from PIL import Image

    pipe = open_model(GOLDEN, {"model": "tiny_refiner",
                               "pipeline": "StableDiffusionXLImg2ImgPipeline"})
    assert "Loading pipeline components...: 100%" in capfd.readouterr().err
    pipe.set_progress_bar_config(mininterval=0)
    image = Image.new("RGB", (64, 64), "red")
    pipe("a castle", image=image)
    assert "15/15" in capfd.readouterr().err
    pipe("a castle", image=image, strength=0.5, guidance_scale=8.0)
    assert "25/25" in capfd.readouterr().err


def test_interrupt_from_the_keyboard():
    pipe = open_model(GOLDEN, SD)
    want = pipe("a", num_inference_steps=2, output_type="np",
                generator=torch.Generator().manual_seed(0)).images
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pipe("a", num_inference_steps=900, height=256, width=256)
    timer.join()
    assert time.monotonic() - begin < 5
    got = pipe("a", num_inference_steps=2, output_type="np",
               generator=torch.Generator().manual_seed(0)).images
    np.testing.assert_array_equal(got, want)


def test_other_threads_run_meanwhile():
    pipe = open_model(GOLDEN, SD)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.005)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.monotonic()
    pipe("a", num_inference_steps=40, height=128, width=128)
    seconds = time.monotonic() - begin
    stop.set()
    thread.join()
    assert len(ticks) > 20 * seconds


def test_two_threads_draw():
    pipe = open_model(GOLDEN, SD)
    made = {}

    def draw(seed):
        made[seed] = pipe("a", num_inference_steps=3, output_type="np",
                          generator=torch.Generator().manual_seed(seed)).images

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in (1, 2, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    draw(3)
    first = dict(made)
    draw(1)
    np.testing.assert_array_equal(first[1], made[1])


LEAK = """
import gc, json, os, sys, threading
from styx.diffusers import StableDiffusionPipeline
from styx import torch
def rss():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
def fresh():
    pipe = StableDiffusionPipeline.from_pretrained({folder!r})
    pipe.set_progress_bar_config(disable=True)
    return pipe
pipe = fresh()
def keep(pipe, i, t, arrays):
    return arrays
def draw(n):
    for i in range(n):
        pipe("a castle", num_inference_steps=1, callback_on_step_end=keep,
             generator=torch.Generator().manual_seed(i)).images
draw(60)
seen = []
for window in range(4):
    gc.collect()
    seen.append([rss(), len(os.listdir("/proc/self/task"))])
    draw(200 if window < 3 else 0)
print(json.dumps(seen))
"""


def test_two_hundred_pictures_leak_nothing(tiny):
    """A leak grows in every window of 200 pictures. The allocator's arena of a thread grows once,
    whenever that thread first happens to get a large job, so a window may show such a step."""
    seen = json.loads(python(LEAK.format(folder=tiny("tiny_sd15"))))
    growth = [after[0] / before[0] for before, after in zip(seen, seen[1:])]
    assert min(growth) <= 1.01 and seen[-1][0] <= seen[0][0] * 1.05, f"{seen} kB, threads"
    assert max(threads for _, threads in seen) == seen[0][1]


def test_configure():
    import styx

    info = styx.device_info()
    assert info["backend"] in ("cpu", "cuda") and info["threads"] >= 1
    styx.configure(threads=1)
    assert styx.device_info()["threads"] == 1
    with pytest.raises(ValueError, match="backend"):
        styx.configure(backend="abacus")
    assert styx.device_info()["threads"] == 1
    styx.configure(threads=0)
    styx.free_memory()
    with pytest.raises(ValueError, match="compute"):
        styx.configure(compute="float8")
    with pytest.raises(ValueError, match="offload"):
        styx.configure(offload="disk")


def test_devices():
    """What is listed, what torch.cuda says of it, and that what needs a card says why there is none."""
    import styx
    from styx import torch

    listed = styx.devices()
    assert {b["name"] for b in listed["backends"]} == {"cpu", "cuda"}
    usable = [c for c in listed["cards"] if "why" not in c]
    assert torch.cuda.is_available() == bool(usable)
    assert torch.cuda.device_count() == len(usable)
    assert torch.cuda.current_device() == 0
    for card in usable:
        assert torch.cuda.get_device_name(card["index"]) == card["name"]
        assert torch.cuda.get_device_capability(card["index"]) >= (7, 5)
    with pytest.raises(RuntimeError, match="cuda:63"):
        torch.cuda.get_device_name(63)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() >= 0
    if not usable:
        before = styx.device_info()
        with pytest.raises(Exception, match="CUDA"):
            styx.configure(offload="stream")
        assert styx.device_info() == before


def test_offloading_without_a_card_changes_nothing(tiny):
    import styx

    if styx.device_info()["backend"] == "cuda":
        pytest.skip("there is a card")
    before = styx.device_info()
    pipe = open_model(GOLDEN, SD)
    pipe.enable_model_cpu_offload()
    pipe.enable_sequential_cpu_offload()
    pipe.remove_all_hooks()
    assert styx.device_info()["backend"] == before["backend"]


def test_del_frees_the_weights():
    import gc

    import styx

    styx.free_memory()
    pipe = open_model(GOLDEN, SD)
    vae = pipe.vae
    pipe("a", num_inference_steps=1)
    full = styx.device_info()["held_bytes"]
    assert full > 0
    del pipe
    gc.collect()
    rest = styx.device_info()["held_bytes"]
    assert 0 < rest < full  # the VAE is still held
    del vae
    gc.collect()
    assert styx.device_info()["held_bytes"] == 0


def test_a_call_costs_little_beside_the_engine():
    """What Python adds to a call, as the least of many: a loaded machine adds to every single one."""
    pipe = open_model(GOLDEN, SD)
    added = []
    for _ in range(30):
        begin = time.perf_counter()
        out = pipe("a", num_inference_steps=1)
        added.append(time.perf_counter() - begin - sum(out.seconds.values()))
    assert min(added) < 0.005
