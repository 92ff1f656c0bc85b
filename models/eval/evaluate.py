"""Measures how well the bundled model does what prompts ask; prints one table.

usage: evaluate.py [--n 500] [--styx build/styx | --pictures DIR] [--data DIR] [options]

Draws the first N lines of prompts.jsonl with `styx generate` (or takes the pictures of a folder,
named 0000.png, 0001.png, ...), checks each, and repeats the checks with the facts shuffled within
each kind: that row must be at chance, or a check holds for anything. With --data, scenes composed
from the cut-outs as the prompts say are checked too: that row must be at 98 % or more. The exit
status is 1 if a control fails. Needs numpy and Pillow; --data needs torch as well.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import checks
from classifier import Classifier

KINDS = [*checks.CHECKS, "identity"]
# A shuffled row above this means that the check sees nothing. Sizes are a choice of two, so chance
# is a half and a little more with 60 prompts.
CHANCE_AT_MOST = {"size": 0.65}
CHANCE_OF_OTHERS = 0.5
TRUTH_AT_LEAST = 0.98


def arguments():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument("--n", type=int, default=500)
    a.add_argument("--styx", default="styx", help="the styx command")
    a.add_argument("--model", help="the model folder (default: the bundled one)")
    a.add_argument("--pictures", help="judge these pictures and draw nothing")
    a.add_argument("--data", help="the folder of cut-outs, for the control of true scenes")
    a.add_argument("--keep", help="keep the pictures in this folder")
    a.add_argument("--steps", type=int)
    a.add_argument("--guidance", type=float, default=7.5)
    return a.parse_args()


def read_facts(n):
    with open(os.path.join(HERE, "prompts.jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f][:n]


def read_picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def draw(args, facts, folder):
    """Draws every prompt with one run of the command; files are named by their line."""
    lines = os.path.join(folder, "prompts.jsonl")
    with open(lines, "w", encoding="utf-8") as f:
        for i, fact in enumerate(facts):
            f.write(
                json.dumps(
                    {
                        "prompt": fact["prompt"],
                        "seed": fact["seed"],
                        "output": os.path.join(folder, f"{i:04d}.png"),
                    }
                )
                + "\n"
            )
    command = [args.styx, "generate", "--prompts", lines, "--guidance", str(args.guidance)]
    if args.model:
        command += ["--model", args.model]
    if args.steps:
        command += ["--steps", str(args.steps)]
    subprocess.run(command, check=True)


def compose_truth(folder, facts):
    """What the prompts say, composed from the cut-outs."""
    import prompts  # puts models/train on the path
    import catalogue
    import compose
    import scenes

    rows = catalogue.load(folder)
    planner = scenes.Planner(rows, random.Random(77))
    planned = [prompts.true_scene(planner, f) for f in facts]
    used = sorted({o[0] for s in planned for o in s.objects})
    place = {row: i for i, row in enumerate(used)}
    for s in planned:
        s.objects = [(place[o[0]], *o[1:]) for o in s.objects]
    compositor = compose.Compositor(
        compose.read_pictures(folder, [rows[i] for i in used]), "cpu", 1
    )
    out = [compositor.draw(*scenes.pack(planned[k : k + 20])) for k in range(0, len(planned), 20)]
    return [
        ((p + 1) * 127.5).round().byte().numpy().transpose(1, 2, 0) for part in out for p in part
    ]


def judge(pictures, facts, guesses):
    """The share that holds, a kind; `guesses` are the classifier's five names for each picture."""
    held = {k: [] for k in KINDS}
    for picture, fact, names in zip(pictures, facts, guesses):
        kind = fact["kind"]
        held[kind].append(
            fact["object"] in names if kind == "identity" else checks.CHECKS[kind](picture, fact)
        )
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
    print(f"{title:<26}" + "".join(f"{100 * result[k]:>11.1f}%" for k in KINDS))


def main():
    args = arguments()
    facts = read_facts(args.n)
    judge_objects = Classifier()

    def measure(pictures, against):
        guesses = [
            g
            for k in range(0, len(pictures), 50)
            for g in judge_objects.best(np.stack(pictures[k : k + 50]))
        ]
        return judge(pictures, against, guesses)

    with tempfile.TemporaryDirectory() as scratch:
        folder = args.pictures or args.keep or scratch
        if not args.pictures:
            os.makedirs(folder, exist_ok=True)
            draw(args, facts, folder)
        pictures = [read_picture(os.path.join(folder, f"{i:04d}.png")) for i in range(len(facts))]
    counts = {k: sum(f["kind"] == k for f in facts) for k in KINDS}
    print(
        f"{len(facts)} held-out prompts".ljust(26)
        + "".join(f"{f'{k} ({counts[k]})':>12}" for k in KINDS)
    )
    row("this model", measure(pictures, facts))
    control = measure(pictures, shuffled(facts))
    row("control: shuffled prompts", control)
    bad = [
        k
        for k in KINDS
        if len(facts) >= 100 and control[k] > CHANCE_AT_MOST.get(k, CHANCE_OF_OTHERS)
    ]
    if args.data:
        truth = measure(compose_truth(args.data, facts), facts)
        row("control: true scenes", truth)
        bad += [k for k in KINDS if truth[k] < TRUTH_AT_LEAST]
    else:
        print("control: true scenes       not run (give --data)")
    if bad:
        sys.exit(f"controls out of bounds: {', '.join(bad)}")


if __name__ == "__main__":
    main()
