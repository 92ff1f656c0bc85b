"""Plans random scenes: what is drawn where, and a caption that is exactly true of it.

A scene is a background, an optional growth of crystals, and up to SLOTS cut-outs painted in order.
Positions are in [-1, 1] with y downwards; a cut-out of scale s covers 2s x 2s around its centre.
"""

from bisect import bisect
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from catalogue import COLOUR_NAMES, NUMBERS, TINTS, article, common_names, held_out, plural, weights

SLOTS = 40
PLAIN, GRADIENT = 0, 1
KINDS = [
    "plain",
    "gradient",
    "sky",
    "sunset",
    "night",
    "sea",
    "lake",
    "hills",
    "snow",
    "desert",
    "forest",
    "city",
    "cave",
    "underworld",
]
SCENERY = KINDS[2:]
OPEN_AIR = ("sky", "sunset", "night")  # no ground to stand on

# Said after an object ("a dog in the snow") and on its own ("a snowy landscape").
WHERE = {
    "sky": ["in a bright sky", "in the sky", "in a blue sky with clouds", "under bright skies"],
    "sunset": ["at sunset", "in front of a sunset", "in the evening sun"],
    "night": ["at night", "under a starry sky", "in a night with stars"],
    "sea": ["by the sea", "at the sea", "on the ocean"],
    "lake": ["by a calm lake", "at a lake", "on calm water"],
    "hills": ["on green hills", "in the hills", "in a meadow"],
    "snow": ["in the snow", "in a snowy landscape", "in winter"],
    "desert": ["in the desert", "on sand dunes"],
    "forest": ["in a forest", "in the woods"],
    "city": ["in a city", "in front of a city", "in the street of a city"],
    "cave": ["in a cave with crystals", "in a crystal cave", "in a dark cave"],
    "underworld": ["in hell", "in a burning underworld", "by a river of lava"],
}
ALONE = {
    "sky": ["a bright sky", "bright skies", "a blue sky with clouds", "white clouds in a blue sky"],
    "sunset": ["a sunset", "a sunset over the water", "the setting sun, orange and purple sky"],
    "night": ["a starry night", "a night with stars", "a dark sky with stars and a moon"],
    "sea": ["the sea", "the ocean under a bright sky", "sea and sky, waves"],
    "lake": ["a calm lake", "a lake with mountains", "calm water, hills and a bright sky"],
    "hills": ["green hills", "a landscape with green hills", "a meadow under a blue sky"],
    "snow": ["a snowy landscape", "snow and hills", "a winter landscape, falling snow"],
    "desert": ["a desert", "sand dunes in the desert", "a hot desert landscape"],
    "forest": ["a forest", "a deep forest", "the woods, green trees"],
    "city": ["a city", "a city skyline", "a cityscape with tall buildings"],
    "cave": ["a cave with crystals", "a dark cave, glowing crystals", "a crystal cave"],
    "underworld": ["a burning underworld", "hell", "a river of lava under a dark red sky"],
}
FLYERS = {
    "bird",
    "bat",
    "dragon",
    "eagle",
    "dove",
    "owl",
    "parrot",
    "butterfly",
    "honeybee",
    "airplane",
    "helicopter",
    "rocket",
    "flying saucer",
    "fairy",
    "balloon",
    "kite",
    "parachute",
    "duck",
    "small airplane",
    "black bird",
    "flying disc",
    "ghost",
    "superhero",
    "baby angel",
}
DEMONS = ["smiling face with horns", "angry face with horns", "ogre", "goblin"]
SOULS = ["ghost", "skull"]
DWARVES = [
    "man beard",
    "person beard",
    "mage",
    "man mage",
    "construction worker",
    "man construction worker",
]
FOLK = {
    "dwarves": DWARVES,
    "dwarfs": DWARVES,
    "elves": ["elf", "man elf", "woman elf"],
    "mages": ["mage", "man mage", "woman mage"],
    "wizards": ["mage", "man mage"],
    "fairies": ["fairy", "woman fairy"],
    "trolls": ["troll"],
    "ogres": ["ogre"],
    "robots": ["robot"],
    "people": ["man", "woman", "person", "boy", "girl", "old man", "old woman"],
    "zombies": ["zombie", "man zombie"],
    "ninjas": ["ninja"],
    "vampires": ["vampire"],
    "workers": ["construction worker", "factory worker", "mechanic"],
    "demons": DEMONS,
    "goblins": ["goblin"],
    "ghosts": ["ghost"],
    "genies": ["genie"],
}
MANY = [
    "hundreds of",
    "dozens of",
    "a crowd of",
    "many",
    "lots of",
    "many small",
    "thousands of",
    "an army of",
]
BUSTLE = ["bustling about", "everywhere", "walking around", "standing together", "at work"]
FILLERS = [
    "highly detailed",
    "soft ambient light",
    "digital art",
    "4k",
    "beautiful",
    "masterpiece",
    "soft light",
]
PREFIXES = [
    "a picture of ",
    "an image of ",
    "an emoji of ",
    "a photo of ",
    "hyper realistic ",
    "a drawing of ",
]
STYLE_PREFIX = {
    "3d": ["a 3d render of ", "a 3d icon of ", "3d render, "],
    "flat": ["a flat icon of ", "a flat style icon of ", "flat icon, "],
    "noto": ["a noto style drawing of ", "a noto drawing of ", "noto style, "],
}


@dataclass
class Scene:
    """One planned picture. `objects` holds (row, x, y, scale, tint index or -1, flip) in painting
    order.
    """

    caption: str = ""
    kind: int = PLAIN
    colours: tuple = (0, 0)
    horizon: float = 0.1
    crystals: bool = False
    objects: list = field(default_factory=list)


def pack(scenes):
    """Arrays the compositor takes: rows [n,SLOTS], objects [n,SLOTS,6], background [n,5]."""
    rows = np.zeros((len(scenes), SLOTS), np.int64)
    objects = np.zeros((len(scenes), SLOTS, 6), np.float32)
    ground = np.zeros((len(scenes), 5), np.float32)
    for i, s in enumerate(scenes):
        ground[i] = (s.kind, *s.colours, s.horizon, s.crystals)
        for j, (row, x, y, scale, tint, flip) in enumerate(s.objects[:SLOTS]):
            rows[i, j] = row
            objects[i, j] = (1, x, y, scale, tint, flip)
    return rows, objects, ground


class Planner:
    """Draws random scenes from the catalogue with the given random.Random."""

    def __init__(self, rows, rng):
        self.rows, self.rng = rows, rng
        self.common = common_names(rows)
        chance = weights(rows, self.common)
        self.by_style = {}
        for style in STYLE_PREFIX:
            index = [i for i, r in enumerate(rows) if r["style"] == style]
            self.by_style[style] = (index, list(accumulate(chance[i] for i in index)))
        self.share = list(accumulate(s[1][-1] if s[0] else 0.0 for s in self.by_style.values()))
        self.index = {(r["style"], r["clean"]): i for i, r in enumerate(rows)}

    # ---- draws ----

    def row(self, style):
        """A random row of this style."""
        index, total = self.by_style[style]
        return index[min(bisect(total, self.rng.random() * total[-1]), len(index) - 1)]

    def named(self, name, style="3d"):
        """The row of this name; styles that lack it give the 3d one."""
        return self.index.get((style, name), self.index.get(("3d", name)))

    def style(self):
        u = self.rng.random() * self.share[-1]
        return list(self.by_style)[min(bisect(self.share, u), 2)]

    def tint(self, row, chance=0.2):
        """A tint that may be trained with this object, or None."""
        r = self.rows[row]
        if r["group"] in ("Symbols", "People & Body") or self.rng.random() >= chance:
            return None
        tint = self.rng.choice(TINTS)
        return None if held_out(r["clean"], "tint:" + tint) else tint

    def noun(self, row, tint=None, many=False, plain=0.7):
        """How a caption names the object: its name (with chance `plain`), name and keywords, or
        keywords.
        """
        r, u = self.rows[row], self.rng.random()
        name = plural(r["clean"]) if many else r["clean"]
        if u >= plain and not many:
            words = self.rng.sample(r["kw"], min(len(r["kw"]), self.rng.randint(1, 3)))
            name = ", ".join(([name] if u < 0.5 + plain / 2 else []) + words)
        return f"{tint} {name}" if tint else name

    def slot(self, row, x, y, scale, tint=None, flip=None):
        flip = self.rng.random() < 0.25 if flip is None else flip
        return (row, x, y, scale, COLOUR_NAMES.index(tint) if tint else -1, flip)

    # ---- backgrounds ----

    def background(self, scene, row, scenery):
        """Chooses a background; returns the words that end the caption (none for plain white)."""
        u = self.rng.random()
        if u < scenery:
            kind = self.rng.choice(SCENERY)
            self.scenery(scene, kind)
            return " " + self.rng.choice(WHERE[kind])
        u = self.rng.random()
        if u < 0.50:
            return ""
        if u < 0.88:
            colour = self.rng.choice(COLOUR_NAMES)
            if held_out(self.rows[row]["clean"], "ground:" + colour):
                return ""
            c = COLOUR_NAMES.index(colour)
            scene.colours = (c, c)
            return self.rng.choice(
                [
                    f" on {article(colour)} background",
                    f", {colour} background",
                    f" with {article(colour)} background",
                ]
            )
        a, b = self.rng.sample(range(len(COLOUR_NAMES)), 2)
        scene.kind, scene.colours = GRADIENT, (a, b)
        return f", background from {COLOUR_NAMES[a]} to {COLOUR_NAMES[b]}"

    def scenery(self, scene, kind):
        scene.kind = KINDS.index(kind)
        scene.horizon = self.rng.uniform(-0.15, 0.3)

    def stand(self, scene, row, scale):
        """Where an object of this size stands (or flies) in the scene's background: x, y."""
        rng, kind = self.rng, KINDS[scene.kind]
        if kind in OPEN_AIR or kind in ("plain", "gradient"):
            return rng.uniform(-0.15, 0.15), rng.uniform(-0.12, 0.12)
        x = rng.uniform(-0.25, 0.25)
        if self.rows[row]["clean"] in FLYERS and rng.random() < 0.6:
            return x, rng.uniform(-0.45, -0.1)
        return x, rng.uniform(0.72, 0.95) - scale

    # ---- scenes ----

    def single(self, style):
        rng, scene, row = self.rng, Scene(), self.row(style)
        name, tint, size, u = self.rows[row]["clean"], self.tint(row), "", rng.random()
        ground = self.background(scene, row, 0.24)
        if u < 0.13 and not held_out(name, "size:small"):
            size, scale = rng.choice(["small ", "tiny ", "small "]), rng.uniform(0.26, 0.40)
            x, y = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)
        elif u < 0.21 and not held_out(name, "size:big"):
            size, scale = rng.choice(["big ", "large ", "huge "]), rng.uniform(0.95, 1.05)
            x, y = 0.0, 0.0
        elif scene.kind >= 2:
            scale = rng.uniform(0.45, 0.72)
            x, y = self.stand(scene, row, scale)
        else:
            scale = rng.uniform(0.66, 0.86)
            x, y = rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08)
        text = size + self.noun(row, tint)
        scene.objects = [self.slot(row, x, y, scale, tint)]
        scene.caption = (article(text) if rng.random() < 0.5 else text) + ground
        return scene

    def pair(self, style):
        """Two objects side by side; in scenery they stand on the ground."""
        rng, scene = self.rng, Scene()
        a, b = self.row(style), self.row(style)
        if held_out(self.rows[a]["clean"], "place:" + self.rows[b]["clean"]):
            return self.single(style)
        ta, tb = self.tint(a, 0.35), self.tint(b, 0.35)
        ground = self.background(scene, a, 0.15)
        self.place_pair(scene, a, b, ta, tb)
        p, q = (self.noun(r, t, plain=0.9) for r, t in ((a, ta), (b, tb)))
        scene.caption = (
            rng.choice(
                [
                    f"{p} and {q}",
                    f"{article(p)} and {article(q)}",
                    f"{p} next to {q}",
                    f"{article(p)} on the left and {article(q)} on the right",
                    f"{article(p)} on the left and {article(q)} on the right",
                    f"{article(p)} to the left of {article(q)}",
                ]
            )
            + ground
        )
        return scene

    def place_pair(self, scene, a, b, ta, tb):
        rng = self.rng
        for row, side, tint in ((a, -1, ta), (b, 1, tb)):
            scale, x = rng.uniform(0.38, 0.46), side * rng.uniform(0.46, 0.52)
            y = rng.uniform(-0.08, 0.08) if scene.kind < 2 else rng.uniform(0.7, 0.85) - scale
            scene.objects.append(self.slot(row, x, y, scale, tint))

    def count(self, style):
        scene, row, k = Scene(), self.row(style), self.rng.randint(2, 4)
        if held_out(self.rows[row]["clean"], f"count:{k}"):
            return self.single(style)
        tint = self.tint(row)
        ground = self.background(scene, row, 0.1)
        self.place_count(scene, row, k, tint)
        scene.caption = f"{NUMBERS[k]} {self.noun(row, tint, many=True)}{ground}"
        return scene

    def place_count(self, scene, row, k, tint):
        """k copies: side by side, a triangle, or a square, each with a little freedom."""
        rng = self.rng
        spots = {
            2: [(-0.48, 0), (0.48, 0)],
            3: [(-0.5, 0.42), (0.5, 0.42), (0, -0.46)],
            4: [(-0.48, -0.48), (0.48, -0.48), (-0.48, 0.48), (0.48, 0.48)],
        }[k]
        for x, y in spots:
            scene.objects.append(
                self.slot(
                    row,
                    x + rng.uniform(-0.03, 0.03),
                    y + rng.uniform(-0.03, 0.03),
                    rng.uniform(0.36, 0.42),
                    tint,
                    False,
                )
            )

    def crowd(self, style):
        """Ten to forty small figures, smaller towards the horizon."""
        rng, scene = self.rng, Scene(horizon=self.rng.uniform(-0.4, 0.0))
        if rng.random() < 0.65:
            who = rng.choice(["dwarves", "dwarfs", *FOLK, "elves", "mages"])
            rows = [self.named(n, style) for n in FOLK[who] if self.named(n, style) is not None]
        else:
            rows = [self.row(style)]
            who = plural(self.rows[rows[0]]["clean"])
        kind, ground = rng.choice(["hills", "city", "cave", "desert", "snow", "plain"]), ""
        if kind == "plain":
            c = rng.randrange(len(COLOUR_NAMES))
            scene.colours, ground = (c, c), f" on {article(COLOUR_NAMES[c])} background"
        else:
            horizon = scene.horizon
            self.scenery(scene, kind)
            scene.horizon = horizon
            if rng.random() < 0.6:
                ground = " " + rng.choice(WHERE[kind])
        top = scene.horizon if kind != "plain" else -0.8
        figures = []
        for _ in range(rng.randint(12, SLOTS)):
            depth = rng.random()
            scale = (0.10 + 0.09 * depth) if kind != "plain" else rng.uniform(0.11, 0.17)
            figures.append(
                (top + (0.88 - top) * depth, rng.uniform(-0.9, 0.9), scale, rng.choice(rows))
            )
        scene.objects = [self.slot(row, x, y, s) for y, x, s, row in sorted(figures)]
        lead = rng.choice(
            [
                "",
                "",
                "sprawling with ",
                "hyper realistic sprawling with ",
                "sprawling, ",
                "hyper realistic ",
            ]
        )
        act = " " + rng.choice(BUSTLE) if rng.random() < 0.6 else ""
        scene.caption = f"{lead}{rng.choice(MANY)} {who}{act}{ground}"
        return scene

    def hell(self, style):
        """The burning underworld with what lives there; the caption names what is drawn."""
        rng, scene = self.rng, Scene()
        self.scenery(scene, "underworld")
        parts = rng.sample(
            ["brimstone", "a river of lava", "dark red sky", "fire", "rocks and lava", "flames"],
            rng.randint(0, 2),
        )
        if rng.random() < 0.75:
            who = rng.choice(["demons", "demons", "devils", "ogres", "goblins"])
            names = {"ogres": ["ogre"], "goblins": ["goblin"]}.get(who, DEMONS)
            for _ in range(rng.randint(2, 6)):
                self.winged(scene, rng.choice(names), style)
            parts.append(rng.choice([f"flying {who}", f"flying {who}", f"{who} in the sky", who]))
        if rng.random() < 0.6:
            parts.append(self.souls(scene, style))
        for name, chance in (("fire", 0.3), ("volcano", 0.15), ("dragon", 0.15)):
            if rng.random() < chance:
                scale = rng.uniform(0.2, 0.35)
                y = rng.uniform(-0.6, -0.2) if name == "dragon" else rng.uniform(0.3, 0.7) - scale
                scene.objects.insert(
                    0,
                    self.slot(
                        self.named(name, style),
                        rng.choice([-1, 1]) * rng.uniform(0.45, 0.75),
                        y,
                        scale,
                    ),
                )
                parts.append(article(name) if name != "fire" else "burning fire")
        rng.shuffle(parts)
        base = rng.choice(
            [
                "hell",
                "literal hell",
                "the underworld",
                "a burning underworld",
                "an inferno",
                "literal hell",
                "fiery hell",
                "the burning underworld",
            ]
        )
        scene.caption = (
            base + rng.choice([". ", ", ", ", ", ": "]) + ", ".join(parts) if parts else base
        )
        return scene

    def souls(self, scene, style):
        """Small pale figures down the river, nearer ones larger; returns their words."""
        rng = self.rng
        for _ in range(rng.randint(3, 8)):
            t = rng.random()
            scene.objects.append(
                self.slot(
                    self.named(rng.choice(SOULS), style),
                    rng.gauss(0, 0.1 + 0.25 * t),
                    scene.horizon + 0.1 + (0.85 - scene.horizon) * t,
                    0.08 + 0.1 * t,
                )
            )
        return rng.choice(
            [
                "souls down the river styx",
                "souls down the river styx",
                "lost souls",
                "souls on the river styx",
                "ghosts on a river of lava",
                "ghosts and skulls on the river",
            ]
        )

    def winged(self, scene, name, style):
        """A flying figure: a dark bat behind the face gives it wings."""
        rng = self.rng
        x, y, s = rng.uniform(-0.8, 0.8), rng.uniform(-0.82, -0.1), rng.uniform(0.12, 0.24)
        bat = self.named("bat", style)
        if rng.random() < 0.6:
            scene.objects.append(self.slot(bat, x, y, s * 1.6, "black"))
        scene.objects.append(self.slot(self.named(name, style), x, y, s))

    def fantasy(self, style):
        """A peaceful landscape with water, hills, castles, crystals, as the caption says."""
        rng, scene = self.rng, Scene()
        kind = rng.choice(["lake", "lake", "lake", "sea", "hills", "snow"])
        self.scenery(scene, kind)
        parts = rng.sample(
            ["bright skies", "a bright sky", "soft ambient light", "soft light"], rng.randint(0, 2)
        )
        if kind in ("lake", "sea") and rng.random() < 0.7:
            parts.append("calm water")
        if kind in ("hills", "snow"):
            parts.append({"hills": "green hills", "snow": "snow"}[kind])
        scene.crystals = rng.random() < 0.5
        if scene.crystals:
            parts.append(rng.choice(["glowing crystals", "crystals", "glowing crystals"]))
        dragon = False
        for name, chance, low in (
            ("castle", 0.5, 1),
            ("unicorn", 0.12, 1),
            ("dragon", 0.15, 0),
            ("fairy", 0.12, 0),
            ("rainbow", 0.1, 0),
            ("evergreen tree", 0.15, 1),
            ("deciduous tree", 0.15, 1),
            ("swan", 0.08, 1),
        ):
            if rng.random() < chance and self.named(name, style) is not None:
                scale, n = rng.uniform(0.2, 0.36), rng.choice([1, 1, 2])
                for _ in range(n):
                    y = (
                        scene.horizon + rng.uniform(-0.1, 0.15) - scale * 0.7
                        if low
                        else rng.uniform(-0.7, -0.35)
                    )
                    scene.objects.append(
                        self.slot(self.named(name, style), rng.uniform(-0.75, 0.75), y, scale)
                    )
                parts.append(article(name) if n == 1 else "two " + plural(name))
                dragon = dragon or name == "dragon"
        if not dragon and rng.random() < 0.35:
            parts.append("no dragons")
        rng.shuffle(parts)
        base = rng.choice(
            [
                "a peaceful fantasy landscape",
                "a fantasy landscape",
                "a peaceful landscape",
                "a magical landscape",
                "a calm fantasy world",
            ]
        )
        scene.caption = base + (rng.choice([" with ", ", "]) + ", ".join(parts) if parts else "")
        return scene

    def landscape(self, style):
        """Scenery with nothing or one small thing in it."""
        rng, scene = self.rng, Scene()
        kind = rng.choice(SCENERY)
        self.scenery(scene, kind)
        scene.caption = rng.choice(ALONE[kind])
        if rng.random() < 0.4:
            row, scale = self.row(style), rng.uniform(0.2, 0.4)
            x, y = self.stand(scene, row, scale)
            scene.objects = [self.slot(row, rng.uniform(-0.6, 0.6), y, scale)]
            scene.caption += f" with {article(self.noun(row))}"
        return scene

    def scene(self):
        """A random scene with its caption."""
        rng, style = self.rng, self.style()
        make = rng.choices(
            (
                self.single,
                self.pair,
                self.count,
                self.crowd,
                self.hell,
                self.fantasy,
                self.landscape,
            ),
            (0.49, 0.13, 0.13, 0.075, 0.06, 0.065, 0.05),
        )[0]
        scene = make(style)
        if style != "3d" or rng.random() < 0.12:
            scene.caption = rng.choice(STYLE_PREFIX[style]) + scene.caption
        elif rng.random() < 0.08:
            scene.caption = rng.choice(PREFIXES) + scene.caption
        if rng.random() < 0.06:
            scene.caption += ", " + rng.choice(FILLERS)
        if rng.random() < 0.02:
            present = {o[0] for o in scene.objects}
            absent = self.row(style)
            if absent not in present:
                scene.caption += f", no {plural(self.rows[absent]['clean'])}"
        return scene
