#!/usr/bin/env python3
"""Styx and its rivals in turn on the same random weights: times, CPU share, memory, ratios.

Needs what setup.sh has put into $RIVALS_DIR. Every rival runs in a process of its own, as often
as there are rounds, and its best time counts. STYX and BENCH_KERNELS name other programs than those
in build/. Prints tables in Markdown; everything also goes to $RIVALS_DIR/log/.
"""

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "..", "..", "build")
STYX = os.environ.get("STYX", os.path.join(BUILD, "styx"))
BENCH = os.environ.get("BENCH_KERNELS", os.path.join(BUILD, "bench_kernels"))
SIZES = {"sd15": "512x512", "sdxl": "1024x1024"}


def in_folder(*names):
    return os.path.join(os.environ["RIVALS_DIR"], *names)


# ---- what is run ----

def styx(dtype):
    def command(model, steps):
        return [STYX, "generate", "a red apple", "--model", in_folder(model), "--sampler", "euler",
                "--size", SIZES[model], "--steps", str(steps + 1), "--seed", "1", "--json",
                "--quiet", "--force", "--dtype", dtype, "--vae-dtype", dtype,
                "--threads", os.environ["OMP_NUM_THREADS"], "-o", in_folder("log", "styx.png")]
    return command


def diffusers(mode):
    def command(model, steps):
        return [in_folder("torch", "bin", "python"), os.path.join(HERE, "run_diffusers.py"), mode,
                in_folder(model), str(steps)]
    return command


def sdcpp(venv, flags):
    def command(model, _):  # a step takes so long that one has to do
        return [in_folder(venv, "bin", "python"), os.path.join(HERE, "run_sdcpp.py"), flags,
                in_folder(model + ".safetensors"), "1"]
    return command


# In the order in which they run; the name of the Styx that a rival is held against.
RIVALS = {
    "styx": (styx("auto"), "styx"),
    "styx-f32": (styx("f32"), "styx-f32"),
    "torch-f32": (diffusers("torch-f32"), "styx-f32"),
    "torch-bf16": (diffusers("torch-bf16"), "styx"),
    "openvino": (diffusers("openvino"), "styx"),
    "sdcpp-llamafile": (sdcpp("sdcpp-llamafile", "default"), "styx"),
    "sdcpp": (sdcpp("sdcpp", "default"), "styx"),
    "torch-f32-compiled": (diffusers("torch-f32-compiled"), "styx-f32"),
    "torch-bf16-compiled": (diffusers("torch-bf16-compiled"), "styx"),
    "sdcpp-direct": (sdcpp("sdcpp-llamafile", "diffusion_conv_direct,vae_conv_direct"), "styx"),
    "sdcpp-flash": (sdcpp("sdcpp-llamafile", "diffusion_flash_attn"), "styx"),
}
USUAL = ["styx", "styx-f32", "torch-f32", "torch-bf16", "openvino", "sdcpp-llamafile", "sdcpp"]


# ---- running ----

def run(name, command, limit):
    """A measurement, or a dict with the reason why there is none."""
    log = in_folder("log", name + ".txt")
    begin = time.monotonic()
    with open(log, "a", encoding="utf-8") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True,
                                 start_new_session=True)
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(child.pid, signal.SIGKILL))
        signal.alarm(limit)
        text = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        signal.alarm(0)
    wall = time.monotonic() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode == -signal.SIGKILL and wall >= limit:
        return {"failed": f"nothing within {limit} s"}
    if child.returncode:
        return {"failed": f"exit status {child.returncode}, see {log}"}
    found = json.loads(text.strip().splitlines()[-1])
    if "recipe" in found:
        busy = (usage.ru_utime + usage.ru_stime) / (wall * int(os.environ["OMP_NUM_THREADS"]))
        found = of_styx(found, busy)
    return found | {"peak": usage.ru_maxrss * 1024, "wall": wall}


def of_styx(told, share):
    """A step is a share of all denoising; the share of the CPU is that of the whole process."""
    machine, seconds = told["recipe"]["machine"], told["seconds"]
    steps = {"step": seconds["denoise"] / told["unet_calls"], "decode": seconds["decode"]}
    return {"version": f"Styx {told['recipe']['styx']}",
            "dtype": machine["dtype"],
            "flags": f"{machine['isa']}, {machine['dtype']}, VAE {machine['vae_dtype']}",
            "seconds": steps, "share": dict.fromkeys(steps, share)}


def keep_best(best, found):
    """The best time of every kind of work, with its share; memory is the most that was seen."""
    if "failed" in found or "failed" in best:
        return best or found
    if not best:
        return found
    for work, seconds in found["seconds"].items():
        if seconds < best["seconds"][work]:
            best["seconds"][work], best["share"][work] = seconds, found["share"][work]
    best["peak"] = max(best["peak"], found["peak"])
    return best


# ---- telling ----

def machine():
    name = flags = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                name = line.split(":")[1].strip()
            if line.startswith("flags"):
                flags = " ".join(f for f in line.split() if f.startswith(("avx", "amx")))
    load = " ".join(f"{x:.2f}" for x in os.getloadavg())
    ours = sorted(os.sched_getaffinity(0))
    pinned = "" if len(ours) == os.cpu_count() else f" on CPUs {', '.join(map(str, ours))}"
    return (f"{datetime.datetime.now():%Y-%m-%d %H:%M}, {name} ({flags}), {os.cpu_count()} cores, "
            f"{os.environ['OMP_NUM_THREADS']} threads each{pinned}, load before: {load}")


def is_f32(results):
    """Whether Styx computes in float32 of itself, as it does without AVX-512 BF16."""
    return results.get("styx", {}).get("dtype") == "f32"


def cells(results, name, work):
    found = results[name]
    if "failed" in found:
        return "-", "-", "-"
    seconds = found["seconds"][work]
    own = results.get("styx" if is_f32(results) else RIVALS[name][1], {})
    ratio = f"{seconds / own['seconds'][work]:.2f}" if "seconds" in own else "-"
    return f"{seconds:.2f}", ratio, f"{100 * found['share'][work]:.0f} %"


def tell(results, model):
    size = SIZES[model]
    print(f"\n| {model} | guided step {size}, s | ratio | CPU | VAE decode, s | ratio | CPU | "
          "peak RSS | version and settings |\n|---|---|---|---|---|---|---|---|---|")
    for name, found in results.items():
        row = [name, *cells(results, name, "step"), *cells(results, name, "decode")]
        row += ["-", found["failed"]] if "failed" in found else \
            [f"{found['peak'] / 1e9:.2f} GB", f"{found['version']}; {found['flags']}"]
        print("| " + " | ".join(row) + " |")
    print("\nratio: the rival's time over that of Styx in the same precision")


def layers(dtype):
    print(f"\n## oneDNN, layer by layer, {dtype}\n", flush=True)
    log = in_folder("log", "kernels.txt")
    threads = {"STYX_THREADS": os.environ["OMP_NUM_THREADS"]}
    with open(log, "w", encoding="utf-8") as out:
        subprocess.run([BENCH, dtype], stdout=out, check=True, env=os.environ | threads)
    with open(log, encoding="utf-8") as shapes:
        subprocess.run([in_folder("onednn", "bin", "onednn")], stdin=shapes, check=True)


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rivals", nargs="*", help="default: " + " ".join(USUAL))
    parser.add_argument("--model", choices=list(SIZES), default="sd15")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="that are timed in each round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=600, help="seconds for one process")
    parser.add_argument("--once", default="sdcpp,sdcpp-llamafile",
                        help="rivals that run in the first round alone, since they take minutes")
    parser.add_argument("--layers", choices=["f32", "bf16"], action="append", default=[],
                        help="oneDNN's convolutions, linear layers and attention too")
    given = parser.parse_args()
    unknown = [name for name in given.rivals if name not in RIVALS]
    if unknown:
        parser.error(f"no rival is called {unknown[0]}; there are {', '.join(RIVALS)}")
    if "RIVALS_DIR" not in os.environ:
        parser.error("set RIVALS_DIR to the folder that setup.sh has filled")
    return given


def main():
    given = options()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    os.makedirs(in_folder("log"), exist_ok=True)
    print(machine(), flush=True)
    results = {}
    for turn in range(given.rounds):
        for name in given.rivals or USUAL:
            if name == "styx-f32" and is_f32(results):
                continue
            if turn and (name in given.once.split(",") or "failed" in results[name]):
                continue
            found = run(name, RIVALS[name][0](given.model, given.steps), given.limit)
            print(f"round {turn + 1}, {name}: {json.dumps(found)}", file=sys.stderr, flush=True)
            results[name] = keep_best(results.get(name, {}), found)
    tell(results, given.model)
    sys.stdout.flush()
    for dtype in given.layers:
        layers(dtype)


if __name__ == "__main__":
    main()
