"""Draws docs/bundled-model.jpg: 48 prompts, each with its number as the seed, taken as they come.

usage: sheet.py [--styx build/styx] [--out docs/bundled-model.jpg] [--model DIR]
"""

import argparse
import json
import os
import subprocess
import tempfile

from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
COLUMNS, SIDE = 8, 192

PROMPTS = [
    "a red apple",
    "a cat face",
    "a blue dog on a yellow background",
    "two pizzas",
    "three strawberries on a mint background",
    "a green car",
    "a penguin in the snow",
    "a robot",
    "a cactus in the desert",
    "a rocket at night",
    "a sailboat on the ocean",
    "a mushroom in a forest",
    "a pink elephant",
    "four cupcakes",
    "a small banana",
    "a big pumpkin",
    "a castle by a calm lake",
    "a purple butterfly on a beige background",
    "a hamburger",
    "a hot air balloon in a bright sky",
    "a red mushroom on the left and a blue key on the right",
    "a cactus and a guitar",
    "a ghost in a cave with crystals",
    "a skull by a river of lava",
    "a flat icon of a rabbit",
    "a noto style drawing of a cherry blossom",
    "a 3d render of a doughnut",
    "an orange fish on a navy background",
    "a bell pepper, background from lavender to white",
    "a teapot",
    "a gold trophy on a purple background",
    "a gem stone",
    "an astronaut under a starry sky",
    "a tree on green hills",
    "a bus in a city",
    "a snowman at sunset",
    "a sunset over the water",
    "a starry night",
    "a forest",
    "a city skyline",
    "a cave with crystals",
    "sand dunes in the desert",
    "a crowd of robots in a meadow",
    "many small ninjas in the snow",
    "a fantasy landscape with a castle, glowing crystals, a bright sky",
    "Literal hell. Brimstone, flying demons, souls down the river Styx.",
    "a peaceful fantasy landscape with bright skies, no dragons, calm water, glowing crystals, "
    "and soft ambient light",
    "hyper realistic sprawling with hundreds of dwarves bustling about",
]


def main():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument("--styx", default="styx")
    a.add_argument("--model")
    a.add_argument("--out", default=os.path.join(HERE, "..", "..", "docs", "bundled-model.jpg"))
    args = a.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = os.path.join(folder, "prompts.jsonl")
        paths = [os.path.join(folder, f"{i:02d}.png") for i in range(len(PROMPTS))]
        with open(lines, "w", encoding="utf-8") as f:
            for i, (prompt, path) in enumerate(zip(PROMPTS, paths)):
                f.write(json.dumps({"prompt": prompt, "seed": i, "output": path}) + "\n")
        command = [args.styx, "generate", "--prompts", lines]
        subprocess.run(command + (["--model", args.model] if args.model else []), check=True)
        rows = -(-len(PROMPTS) // COLUMNS)
        sheet = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE), "white")
        for i, path in enumerate(paths):
            with Image.open(path) as picture:
                small = picture.convert("RGB").resize((SIDE, SIDE), Image.LANCZOS)
            sheet.paste(small, (i % COLUMNS * SIDE, i // COLUMNS * SIDE))
        sheet.save(args.out, quality=87)


if __name__ == "__main__":
    main()
