"""Fetches the public packages of pictures and names, and makes a data folder of them.

usage: fetch.py OUT [--size 256] [--quality 60]

Needs npm with access to its registry (there is no other source: where the registry is out of reach,
this script says so and stops), and the Python packages Pillow and cairosvg. OUT gets one WebP
picture of 256x256 with transparency for each emoji and style, and captions.jsonl. Flags and skin
tones are left out; see models/styx-emoji/NOTICE for the licences.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile

from PIL import Image

PACKAGES = {
    "fluent": "@lobehub/fluent-emoji-3d@1.1.0",
    "flat": "@iconify-json/fluent-emoji-flat@1.2.6",
    "noto": "@iconify-json/noto@1.2.9",
    "names": "unicode-emoji-json",
    "words": "cldr-annotations-full",
}
VARIATION = 0xFE0F
TONES = range(0x1F3FB, 0x1F400)


def fetch(package, folder):
    """Unpacks an npm package; returns its folder."""
    done = subprocess.run(
        ["npm", "pack", "--silent", package], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(
            f"npm could not fetch {package}; is its registry within reach?\n{done.stderr.strip()}"
        )
    archive = os.path.join(folder, done.stdout.split()[-1])
    target = archive + ".d"
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    return os.path.join(target, "package")


def read_json(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return json.load(f)


def code(emoji, variation=True):
    """The code points in hexadecimal, joined by "-"."""
    return "-".join(f"{ord(c):04x}" for c in emoji if variation or ord(c) != VARIATION)


def fluent_pictures(folder):
    """A function from an emoji to its 3D picture, or None."""
    files = {
        f.rsplit(".", 1)[0]: os.path.join(root, f)
        for root, _, names in os.walk(folder)
        for f in names
        if f.endswith((".webp", ".png"))
    }

    def picture(emoji, size):
        path = files.get(code(emoji)) or files.get(code(emoji, False))
        return (
            Image.open(path).convert("RGBA").resize((size, size), Image.LANCZOS) if path else None
        )

    return picture


def icon_pictures(folder):
    """The same for a set of SVG icons in Iconify's JSON."""
    import cairosvg

    icons, chars = read_json(folder, "icons.json"), read_json(folder, "chars.json")

    def picture(emoji, size):
        name = chars.get(code(emoji)) or chars.get(code(emoji, False))
        icon = icons["icons"].get(name)
        if not icon:
            return None
        w, h = (icon.get(k, icons.get(k, 16)) for k in ("width", "height"))
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {w} {h}">{icon["body"]}</svg>'
        )
        png = cairosvg.svg2png(svg.encode(), output_width=size, output_height=size)
        return Image.open(io.BytesIO(png)).convert("RGBA")

    return picture


def main():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument("out")
    a.add_argument("--size", type=int, default=256)
    a.add_argument("--quality", type=int, default=60)
    args = a.parse_args()
    os.makedirs(args.out, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        at = {k: fetch(p, scratch) for k, p in PACKAGES.items()}
        names = read_json(at["names"], "data-by-emoji.json")
        words = read_json(at["words"], "annotations", "en", "annotations.json")["annotations"][
            "annotations"
        ]
        styles = (
            ("3d", "", fluent_pictures(at["fluent"])),
            ("flat", "flat-", icon_pictures(at["flat"])),
            ("noto", "noto-", icon_pictures(at["noto"])),
        )
        with open(os.path.join(args.out, "captions.jsonl"), "w", encoding="utf-8") as out:
            for style, prefix, picture in styles:
                for emoji, about in names.items():
                    if about["group"] == "Flags" or any(ord(c) in TONES for c in emoji):
                        continue
                    image = picture(emoji, args.size)
                    if not image:
                        continue
                    file = prefix + code(emoji)
                    image.save(
                        os.path.join(args.out, file + ".webp"), quality=args.quality, method=6
                    )
                    known = words.get(emoji) or words.get(emoji.replace(chr(VARIATION), "")) or {}
                    row = {
                        "file": file,
                        "name": about["name"].replace(":", ""),
                        "kw": known.get("default", []),
                        "group": about["group"],
                        "tone": "",
                        "style": style,
                    }
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
