"""Writes prompts.jsonl, 500 prompts whose combinations were kept out of training, with what to
check, and truth.jpg, scenes composed from the cut-outs as the first of them say.

usage: prompts.py DATA

Each line: kind, prompt, seed, and the facts its check needs. Objects are common ones that the
checks can see: one piece, not too thin, and not white on white.
"""

import json
import os
import random
import sys

import numpy as np
from PIL import Image

import checks  # puts models/train on the path

import catalogue
import compose
import scenes

HERE = os.path.dirname(os.path.abspath(__file__))

TINTS = ["red", "orange", "yellow", "green", "teal", "blue", "purple", "pink"]
HOW_MANY = {"background": 100, "tint": 80, "count": 80, "place": 80, "size": 60, "identity": 100}


def visible(picture):
    """Whether a cut-out (uint8 [4,S,S]) suits the checks."""
    alpha = picture[3] > 127
    grid = checks.cells(alpha)
    sizes = checks.components(grid)
    ys, xs = np.nonzero(grid)
    if not sizes or sizes[0] < 0.97 * sum(sizes):
        return False
    sides = (np.ptp(ys) + 1) / 64, (np.ptp(xs) + 1) / 64
    contrast = (255 - picture[:3].astype(int)).max(0)[alpha] > checks.OBJECT_CONTRAST + 10
    return max(sides) >= 0.85 and min(sides) >= 0.45 and contrast.mean() > 0.85


def background(rng, names):
    name, colour = rng.choice(names), rng.choice(list(catalogue.COLOURS))
    text = f"{catalogue.article(name)} on {catalogue.article(colour)} background"
    return catalogue.held_out(name, "ground:" + colour), text, {"object": name, "ground": colour}


def tint(rng, names):
    name, colour = rng.choice(names), rng.choice(TINTS)
    return (
        catalogue.held_out(name, "tint:" + colour),
        f"{catalogue.article(colour)} {name}",
        {"object": name, "tint": colour},
    )


def count(rng, names):
    name, k = rng.choice(names), rng.randint(2, 4)
    return (
        catalogue.held_out(name, f"count:{k}"),
        f"{catalogue.NUMBERS[k]} {catalogue.plural(name)}",
        {"object": name, "count": k},
    )


def place(rng, names):
    (a, b), (s, t) = rng.sample(names, 2), rng.sample(TINTS, 2)
    hues = [checks.hue(np.array([checks.COLOURS[c]])) for c in (s, t)]
    apart = abs((hues[0] - hues[1] + 180) % 360 - 180) >= 70
    trained = not catalogue.held_out(a, "tint:" + s) and not catalogue.held_out(b, "tint:" + t)
    text = f"{catalogue.article(s)} {a} on the left and {catalogue.article(t)} {b} on the right"
    return (
        apart and trained and catalogue.held_out(a, "place:" + b),
        text,
        {"object": a, "other": b, "left": s, "right": t},
    )


def size(rng, names):
    name, word = rng.choice(names), rng.choice(["small", "big"])
    return (
        catalogue.held_out(name, "size:" + word),
        f"a {word} {name}",
        {"object": name, "size": word},
    )


MAKERS = {
    "background": background,
    "tint": tint,
    "count": count,
    "place": place,
    "size": size,
    "identity": background,
}


def make(rows, pictures):
    """The 500 prompts, kinds interleaved so that any first part of the list is a fair sample.

    `pictures` maps the names of common objects to their cut-outs.
    """
    everyone = catalogue.common_names(rows)
    plain = [n for n in everyone if visible(pictures[n])]
    rng, found = random.Random(2024), {}
    for kind, n in HOW_MANY.items():
        found[kind] = {}
        while len(found[kind]) < n:
            good, prompt, facts = MAKERS[kind](rng, everyone if kind == "identity" else plain)
            if good:
                found[kind].setdefault(prompt, facts)
    order = sorted(
        ((i + 0.5) / len(found[k]), k, p, f)
        for k in found
        for i, (p, f) in enumerate(found[k].items())
    )
    return [{"kind": k, "prompt": p, "seed": 1000 + i, **f} for i, (_, k, p, f) in enumerate(order)]


def true_scene(planner, fact):
    """A scene composed as the prompt says: the evaluation's control."""
    rng, scene, row = planner.rng, scenes.Scene(fact["prompt"]), planner.named(fact["object"])
    if fact["kind"] == "place":
        planner.place_pair(scene, row, planner.named(fact["other"]), fact["left"], fact["right"])
        return scene
    if fact["kind"] == "count":
        planner.place_count(scene, row, fact["count"], None)
        return scene
    if "ground" in fact:
        scene.colours = (catalogue.COLOUR_NAMES.index(fact["ground"]),) * 2
    low, high, free = {"small": (0.26, 0.40, 0.5), "big": (0.95, 1.05, 0.0)}.get(
        fact.get("size"), (0.66, 0.86, 0.08)
    )
    scene.objects = [
        planner.slot(
            row,
            rng.uniform(-free, free),
            rng.uniform(-free, free),
            rng.uniform(low, high),
            fact.get("tint"),
        )
    ]
    return scene


def compose_truth(folder, facts):
    """What the prompts say, composed from the cut-outs."""
    rows = catalogue.load(folder)
    planner = scenes.Planner(rows, random.Random(77))
    planned = [true_scene(planner, f) for f in facts]
    used = sorted({o[0] for s in planned for o in s.objects})
    place = {row: i for i, row in enumerate(used)}
    for s in planned:
        s.objects = [(place[o[0]], *o[1:]) for o in s.objects]
    pictures = compose.read_pictures(folder, [rows[i] for i in used])
    compositor = compose.Compositor(pictures, "cpu", 1)
    out = [compositor.draw(*scenes.pack(planned[k : k + 20])) for k in range(0, len(planned), 20)]
    return [
        ((p + 1) * 127.5).round().byte().numpy().transpose(1, 2, 0) for part in out for p in part
    ]


def write_truth(folder, facts):
    """One sheet of scenes for the control that needs neither torch nor the cut-outs."""
    pictures = compose_truth(folder, facts)
    rows = [np.concatenate(pictures[k : k + 5], 1) for k in range(0, len(pictures), 5)]
    Image.fromarray(np.concatenate(rows)).save(os.path.join(HERE, "truth.jpg"), quality=85)


def main():
    rows = catalogue.load(sys.argv[1])
    names = set(catalogue.common_names(rows))
    wanted = [r for r in rows if r["clean"] in names and r["style"] == "3d"]
    pictures = compose.read_pictures(sys.argv[1], wanted).numpy()
    lines = make(rows, {r["clean"]: p for r, p in zip(wanted, pictures)})
    with open(os.path.join(HERE, "prompts.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(json.dumps(line) + "\n" for line in lines)
    write_truth(sys.argv[1], lines[:20])
    print(f"{len(lines)} prompts")


if __name__ == "__main__":
    main()
