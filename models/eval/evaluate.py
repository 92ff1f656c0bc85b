"""Measures how well the bundled model does what prompts ask; prints one table.

usage: evaluate.py [--n 500] [--styx build/styx | --pictures DIR] [--data DIR] [options]

Draws the first N lines of prompts.jsonl with `styx generate` (or takes the pictures of a folder,
named 0000.png, 0001.png, ...) and checks each. Two more rows guard the checks. The same pictures
judged by shuffled facts must be at chance, or a check holds for anything. Scenes composed from the
cut-outs as the prompts say must hold at 98 % or more: those of truth.jpg (20 of them), or with
--data as many as N. The exit status is 1 if a control is out of bounds, or if fewer of the prompts
hold than --at-least. Needs numpy and Pillow; --data needs torch as well.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

import checks
from classifier import Classifier

HERE = os.path.dirname(os.path.abspath(__file__))
KINDS = [*checks.CHECKS, "identity"]
COLUMNS = [*KINDS, "all"]
# A shuffled row above this means that the check sees nothing. Sizes are a choice of two, so chance
# is a half and a little more with 60 prompts. Fewer than 100 prompts are judged by all together.
CHANCE_AT_MOST = {"size": 0.65}
CHANCE_OF_OTHERS = 0.5
MANY = 100
TRUTH_AT_LEAST = 0.98
TRUTH_COLUMNS, TRUTH_SIDE = 5, 256  # of truth.jpg


def arguments():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument("--n", type=int, default=500)
    a.add_argument("--styx", default="styx", help="the styx command")
    a.add_argument("--model", help="the model folder (default: the bundled one)")
    a.add_argument("--pictures", help="judge these pictures and draw nothing")
    a.add_argument("--data", help="the folder of cut-outs, for the control of true scenes")
    a.add_argument("--keep", help="keep the pictures in this folder, and go on with what it holds")
    a.add_argument("--steps", type=int)
    a.add_argument("--guidance", type=float, default=7.5)
    a.add_argument("--at-least", type=float, default=0.0, help="the part of prompts that must hold")
    return a.parse_args()


def read_facts(n):
    with open(os.path.join(HERE, "prompts.jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f][:n]


def read_picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def draw(args, facts, folder):
    """Draws every prompt whose picture is not there yet with one run of the command; files are
    named by their line.
    """
    paths = [os.path.join(folder, f"{i:04d}.png") for i in range(len(facts))]
    left = [(p, fact) for p, fact in zip(paths, facts) if not os.path.exists(p)]
    if not left:
        return
    lines = os.path.join(folder, "prompts.jsonl")
    with open(lines, "w", encoding="utf-8") as f:
        for path, fact in left:
            line = {"prompt": fact["prompt"], "seed": fact["seed"], "output": path}
            f.write(json.dumps(line) + "\n")
    command = [args.styx, "generate", "-q", "--prompts", lines, "--guidance", str(args.guidance)]
    if args.model:
        command += ["--model", args.model]
    if args.steps:
        command += ["--steps", str(args.steps)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def read_truth():
    """The scenes of truth.jpg, which are those of the first prompts."""
    sheet = read_picture(os.path.join(HERE, "truth.jpg"))
    rows = sheet.shape[0] // TRUTH_SIDE
    parts = sheet.reshape(rows, TRUTH_SIDE, TRUTH_COLUMNS, TRUTH_SIDE, 3).swapaxes(1, 2)
    return list(parts.reshape(-1, TRUTH_SIDE, TRUTH_SIDE, 3))


def judge(pictures, facts, guesses):
    """The share that holds, a kind; `guesses` are the classifier's five names for each picture."""
    held = {k: [] for k in KINDS}
    for picture, fact, names in zip(pictures, facts, guesses):
        kind = fact["kind"]
        held[kind].append(
            fact["object"] in names if kind == "identity" else checks.CHECKS[kind](picture, fact)
        )
    held["all"] = [x for v in held.values() for x in v]
    return {k: float(np.mean(v)) if v else float("nan") for k, v in held.items()}


def shuffled(facts):
    """The same facts, moved on by half of their kind's list, so that none meets its own picture."""
    out = list(facts)
    for kind in KINDS:
        where = [i for i, f in enumerate(facts) if f["kind"] == kind]
        for k, i in enumerate(where):
            out[i] = facts[where[(k + max(1, len(where) // 2)) % len(where)]]
    return out


def row(title, result):
    print(f"{title:<26}" + "".join(f"{100 * result[k]:>16.1f}%" for k in COLUMNS))


def out_of_bounds(control, truth, n):
    """The names of the controls that do not do what they must."""
    kinds = KINDS if n >= MANY else ["all"]
    return [
        f"shuffled {k}" for k in kinds if control[k] > CHANCE_AT_MOST.get(k, CHANCE_OF_OTHERS)
    ] + [f"true {k}" for k in KINDS if truth[k] < TRUTH_AT_LEAST]


def measure(pictures, facts, classifier):
    """The shares of pictures[i] that hold what facts[i] says."""
    guesses = [
        g
        for k in range(0, len(pictures), 50)
        for g in classifier.best(np.stack(pictures[k : k + 50]))
    ]
    return judge(pictures, facts, guesses)


def main():
    args = arguments()
    facts, classifier = read_facts(args.n), Classifier()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.pictures or args.keep or scratch
        if not args.pictures:
            os.makedirs(folder, exist_ok=True)
            draw(args, facts, folder)
        pictures = [read_picture(os.path.join(folder, f"{i:04d}.png")) for i in range(len(facts))]
    if args.data:
        from prompts import compose_truth

        truths = compose_truth(args.data, facts)
    else:
        truths = read_truth()
    counts = {k: sum(f["kind"] == k for f in facts) for k in KINDS} | {"all": len(facts)}
    print(
        "held-out prompts".ljust(26) + "".join(f"{f'{k} ({counts[k]})':>17}" for k in COLUMNS)
    )
    result = measure(pictures, facts, classifier)
    control = measure(pictures, shuffled(facts), classifier)
    truth = measure(truths, read_facts(len(truths)), classifier)
    row("this model", result)
    row("control: shuffled prompts", control)
    row(f"control: {len(truths)} true scenes", truth)
    if bad := out_of_bounds(control, truth, len(facts)):
        sys.exit(f"controls out of bounds: {', '.join(bad)}")
    if result["all"] < args.at_least:
        sys.exit(f"{result['all']:.1%} of the prompts hold, {args.at_least:.1%} were wanted")


if __name__ == "__main__":
    main()
