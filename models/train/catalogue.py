"""The cut-outs: what they are called, how often each is drawn, and which combinations are kept
unseen.

A data folder holds 256x256 RGBA pictures (WebP) and `captions.jsonl`, one JSON object a picture:
file, name, kw (keywords), group, tone (skin tone), style ("3d", "flat" or "noto"). `fetch.py` makes
it.
"""

import hashlib
import json
import math
import os

# The palette of backgrounds and tints. Captions use these words, the compositor these values, and
# the evaluation measures against them.
COLOURS = {
    "white": (255, 255, 255),
    "black": (12, 12, 14),
    "gray": (128, 128, 128),
    "red": (214, 40, 40),
    "orange": (245, 130, 32),
    "yellow": (250, 210, 50),
    "green": (50, 160, 70),
    "teal": (20, 140, 140),
    "blue": (40, 90, 210),
    "sky blue": (135, 200, 245),
    "navy": (22, 30, 80),
    "purple": (120, 60, 170),
    "pink": (245, 150, 190),
    "brown": (120, 75, 40),
    "beige": (235, 220, 190),
    "mint": (170, 230, 200),
    "lavender": (200, 180, 240),
    "gold": (212, 170, 60),
}
COLOUR_NAMES = list(COLOURS)
TINTS = [
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "gold",
]
# Words that prompts use and the data's keywords lack.
EXTRA_KEYWORDS = {
    "mage": ["dwarf", "wizard"],
    "man mage": ["dwarf", "wizard"],
    "man beard": ["dwarf"],
    "person beard": ["dwarf"],
    "construction worker": ["dwarf"],
    "ogre": ["demon"],
    "goblin": ["demon"],
    "ghost": ["soul"],
    "skull": ["soul"],
    "gem stone": ["crystal"],
}
NUMBERS = ["", "", "two", "three", "four"]

# How often a group is drawn, before the bonus of the common objects. Symbols and the many variants
# of people teach little; animals, food and things are what prompts ask for.
GROUP_WEIGHT = {
    "Symbols": 0.15,
    "People & Body": 0.45,
    "Smileys & Emotion": 0.9,
    "Animals & Nature": 1.0,
    "Food & Drink": 1.0,
    "Activities": 0.8,
    "Travel & Places": 0.8,
    "Objects": 0.7,
}
STYLE_WEIGHT = {"3d": 0.76, "flat": 0.10, "noto": 0.14}
COMMON_BONUS = 2.2
# Intricate pictures need more steps than plain ones: each is drawn by the square root of its file's
# bytes over the style's median, within these bounds.
DETAIL = (0.6, 1.8)
COMMON_GROUPS = ("Animals & Nature", "Food & Drink", "Activities", "Objects", "Travel & Places")
NCOMMON = 500


def unit_hash(text):
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2.0**48


def held_out(name, attribute):
    """Whether this object with this attribute ("tint:blue", "count:3", "place:cat") is never
    trained.

    One combination in eight is kept for the evaluation; the planner refuses to draw it.
    """
    return unit_hash(f"{name}|{attribute}") < 0.125


def clean(text):
    """Lower case, plain quotes: the spelling used in captions."""
    return " ".join(
        text.lower().replace("\u2019", "'").replace("\u201c", "").replace("\u201d", "").split()
    )


def load(folder):
    """Reads captions.jsonl; each row also gets `clean`, its name as captions spell it, and `bytes`,
    the size of its picture's file.
    """
    with open(os.path.join(folder, "captions.jsonl"), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    for r in rows:
        r["clean"] = clean(r["name"])
        r["bytes"] = os.path.getsize(os.path.join(folder, r["file"] + ".webp"))
        words = [clean(k) for k in r["kw"]] + EXTRA_KEYWORDS.get(r["clean"], [])
        r["kw"] = [k for k in dict.fromkeys(words) if k != r["clean"]] or [r["clean"]]
    return rows


def common_names(rows):
    """The 500 common objects: nature, food, activities, things and places with short names.

    Clock faces and moon phases look alike by design and are left out. All animals and food stay;
    the rest is filled in the order of a hash, so the list depends on nothing but the data.
    """
    names = {}
    for r in rows:
        if r["style"] == "3d" and r["group"] in COMMON_GROUPS and len(r["clean"].split()) <= 2:
            if not any(
                w in r["clean"] for w in ("o'clock", "thirty", "moon", "crescent", "gibbous")
            ):
                names[r["clean"]] = r["group"]
    first = ("Animals & Nature", "Food & Drink")
    order = sorted(names, key=lambda n: (names[n] not in first, unit_hash("common|" + n)))
    return sorted(order[:NCOMMON])


def weights(rows, common):
    """The chance of each row; the three styles keep fixed shares."""
    common, middle = set(common), {}
    for style in STYLE_WEIGHT:
        sizes = sorted(r["bytes"] for r in rows if r["style"] == style)
        middle[style] = sizes[len(sizes) // 2] if sizes else 1
    share = []
    for r in rows:
        detail = math.sqrt(r["bytes"] / middle[r["style"]])
        bonus = COMMON_BONUS if r["clean"] in common else 1.0
        share.append(GROUP_WEIGHT[r["group"]] * bonus * min(max(detail, DETAIL[0]), DETAIL[1]))
    total = {}
    for r, s in zip(rows, share):
        total[r["style"]] = total.get(r["style"], 0.0) + s
    return [s / total[r["style"]] * STYLE_WEIGHT[r["style"]] for r, s in zip(rows, share)]


def plural(name):
    """The plural of a name: "hot dog" -> "hot dogs", "jar of honey" -> "jars of honey"."""
    words = name.split()
    head = (
        next(
            (i for i, w in enumerate(words) if w in ("with", "of", "on", "in") and i > 0),
            len(words),
        )
        - 1
    )
    w = words[head]
    if w.endswith(("ss", "x", "ch", "sh")):
        w += "es"
    elif w.endswith("y") and w[-2:-1] not in "aeiou":
        w = w[:-1] + "ies"
    elif not w.endswith("s"):
        w += "s"
    words[head] = w
    return " ".join(words)


def article(text):
    """The text with its indefinite article."""
    vowel = text[0] in "aeiou" and not text.startswith(("uni", "eu", "ewe", "one"))
    return ("an " if vowel else "a ") + text
