#!/usr/bin/env python3
"""Makes tests/golden: what diffusers computes on tiny random models, for our engine to reproduce.

Everything runs in float32 on one CPU thread. The files it writes are described in
tests/golden/README.md. Needs requirements-golden.txt.
"""

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import warnings

import torch
from safetensors.numpy import save_file

import diffusers
import random_model
import transformers
from golden import cases, extras, parts, record, sampling

MODELS = {"tiny_sd15": "tiny", "tiny_inpaint": "tiny-inpaint", "tiny_lcm": "tiny-lcm",
          "tiny_small": "tiny-small",
          "tiny_sdxl": "tiny-sdxl", "tiny_refiner": "tiny-refiner"}
# Components that are the same bytes in another folder are kept there alone.
SD15_PARTS = {name: f"models/tiny_sd15/{name}" for name in ("vae", "text_encoder", "tokenizer")}
BORROW = {"tiny_inpaint": SD15_PARTS, "tiny_lcm": SD15_PARTS,
          "tiny_small": SD15_PARTS,
          "tiny_refiner": {name: f"models/tiny_sdxl/{name}" for name in ("vae", "text_encoder_2")}}
PACKAGES = ("torch", "transformers", "diffusers", "peft", "numpy", "tokenizers", "pillow")


def make_models(out):
    """Writes the tiny models and returns their manifest entries."""
    entries = {}
    options = random_model.options_of("tiny", seed=0, dtype="f16")
    for name, kind in MODELS.items():
        folder = os.path.join(out, "models", name)
        random_model.write_model(kind, folder, options)
        for component in BORROW.get(name, {}):
            shutil.rmtree(os.path.join(folder, component))
        with open(os.path.join(folder, "model_index.json"), encoding="utf-8") as file:
            pipeline = json.load(file)["_class_name"]
        entries[name] = {"dir": f"models/{name}", "class": pipeline,
                         "borrow": BORROW.get(name, {})}
    parts.make_safety(out, entries, load_pipeline, options)
    entries["tiny_safety"] = {"dir": "models/tiny_safety", "borrow": {},
                              "class": "StableDiffusionSafetyChecker"}
    return entries


def load_pipeline(out, models, model, pipeline, borrow, dtype="float32"):
    """The pipeline of a model folder, borrowed components included."""
    given = {}
    for name, path in {**models[model]["borrow"], **borrow}.items():
        given[name] = parts.load_component(os.path.join(out, path), name)
    pipe = getattr(diffusers, pipeline).from_pretrained(
        os.path.join(out, models[model]["dir"]), torch_dtype=torch.float32, **given)
    pipe.to(getattr(torch, dtype))
    pipe.set_progress_bar_config(disable=True)
    parts.unflatten(pipe)
    return pipe


def make_case(out, models, name, case):
    """Runs one case, writes its file and returns its manifest entry."""
    pipe = load_pipeline(out, models, case["model"], case["pipeline"], case["borrow"],
                         case["dtype"])
    pipe.scheduler = record.scheduler_of(pipe, *case["scheduler"])
    extras.load(out, pipe, case)
    tensors, extra = record.run(pipe, case["call"], case["seed"], case["arrays"], case["store"])
    file = f"cases/{name}.safetensors"
    save_file(tensors, os.path.join(out, file))
    entry = {"model": case["model"], "pipeline": case["pipeline"], "call": case["call"],
             "seed": case["seed"], "generator": "cpu",
             "scheduler": record.scheduler_entry(pipe.scheduler), **extra, "file": file,
             "dtype": case["dtype"]}
    for optional in ("borrow", "note", "loras", "words"):
        if case[optional]:
            entry[optional] = case[optional]
    for key, value in tensors.items():
        if value.dtype.kind == "f" and not all(map(bool, (abs(value) < 1e6).ravel())):
            raise ValueError(f"case {name}: {key} is not finite")
    return entry


def make_extras(out, models):
    """LoRAs and textual inversions for the tiny models."""
    pipes = [load_pipeline(out, models, name, models[name]["class"], {})
             for name in ("tiny_sd15", "tiny_sdxl")]
    extras.make_loras(out, *pipes)
    extras.make_words(out, *pipes)


def write_lines(path, document):
    """JSON with one entry of each top-level section on a line: small, and it can be compared."""
    def section(value):
        if isinstance(value, dict):
            rows = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()]
            return "{\n" + ",\n".join(rows) + "\n}"
        if isinstance(value, list):
            return "[\n" + ",\n".join(json.dumps(v) for v in value) + "\n]"
        return json.dumps(value)

    with open(path, "w", encoding="utf-8") as file:
        rows = [f"{json.dumps(key)}: {section(value)}" for key, value in document.items()]
        file.write("{\n" + ",\n".join(rows) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", help="the folder to write, tests/golden for the committed ones")
    out = parser.parse_args().out
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for folder in ("models", "cases", "extras"):
        shutil.rmtree(os.path.join(out, folder), ignore_errors=True)
        os.makedirs(os.path.join(out, folder))
    models = make_models(out)
    make_extras(out, models)
    entries = {}
    for name, case in cases.all_cases().items():
        entries[name] = make_case(out, models, name, case)
        print(name)
    entries |= parts.make_all(out, models, load_pipeline)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    versions["python"] = platform.python_version()
    write_lines(os.path.join(out, "manifest.json"),
                {"versions": versions, "models": models, "cases": entries})
    write_lines(os.path.join(out, "schedulers.json"), sampling.make(out))
    write_lines(os.path.join(out, "rng.json"), parts.make_rng(out))
    write_lines(os.path.join(out, "tokens.json"), parts.make_tokens(out))


if __name__ == "__main__":
    main()
