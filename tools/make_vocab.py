#!/usr/bin/env python3
"""Trains a small byte-level BPE vocabulary in CLIP's file format, for the tests.

    python3 tools/make_vocab.py OUT [--merges N]

Writes vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json to the folder OUT.
Layout as CLIP's: 256 byte symbols, the same with </w>, the merges, BOS, EOS. The text it learns
from is made here, of a few hand-written lines, so the result is the same everywhere.
"""

import argparse
import collections
import itertools
import json
import os
import re

SUBJECTS = """a red apple on a wooden table / a lighthouse at dusk / two cats asleep in the sun /
an old map of an island / the portrait of a young sailor / a street after the rain, neon signs /
a small boat under a stone bridge / snow on the mountains / a bowl of cherries / an empty theatre /
the first train of the morning / a garden with a pond and dragonflies / a robot painting itself /
a castle made of glass / an owl reading a letter / three foxes in the forest / a market at noon"""
STYLES = """oil painting / watercolour / photograph, 35mm / ink drawing / highly detailed, 8k /
pixel art / soft light, morning mist / in the style of a woodcut / charcoal sketch / wide angle"""
EXTRAS = """it's we're I've don't he'll she'd I'm / masterpiece, best quality, sharp focus /
blurry, low quality, deformed, watermark, text / no people, no text, no frame /
café, naïve, Zürich, smörgåsbord / red, green, blue and yellow / background, foreground, close-up"""


def lines(text):
    return [line.strip() for line in text.replace("\n", " ").split("/")]


def corpus():
    pairs = itertools.product(lines(SUBJECTS), lines(STYLES))
    return [f"{subject}, {style}" for subject, style in pairs] + 20 * lines(EXTRAS)


def alphabet():
    """GPT-2's printable character of each byte, in the order of CLIP's ids."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}


def train(nmerges):
    letters = alphabet()
    words = collections.Counter()
    for line in corpus():
        for word in re.findall(r"'[a-z]+|[^\W\d_]+|\d|[^\s\w]+", line.lower()):
            symbols = [letters[b] for b in word.encode()]
            words[(*symbols[:-1], symbols[-1] + "</w>")] += 1
    merges = []
    while len(merges) < nmerges:
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = collections.Counter({merged(word, best): n for word, n in words.items()})
    return merges


def merged(word, pair):
    out = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("out")
    ap.add_argument("--merges", type=int, default=400)
    args = ap.parse_args()

    merges = train(args.merges)
    tokens = list(alphabet().values())
    tokens += [token + "</w>" for token in tokens]
    tokens += ["".join(pair) for pair in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    assert len(vocab) == len(tokens)

    def special(content):
        flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        return {"content": content, **flags}

    roles = {
        "bos_token": special("<|startoftext|>"),
        "eos_token": special("<|endoftext|>"),
        "unk_token": special("<|endoftext|>"),
        "pad_token": "<|endoftext|>",
    }
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **roles}
    os.makedirs(args.out, exist_ok=True)
    for name, content in (
        ("vocab.json", vocab),
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", roles),
    ):
        with open(os.path.join(args.out, name), "w", encoding="utf-8") as f:
            json.dump(content, f, ensure_ascii=False, indent=None if content is vocab else 1)
            f.write("\n")
    with open(os.path.join(args.out, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n")
        f.writelines(f"{left} {right}\n" for left, right in merges)
    print(f"{args.out}: {len(vocab)} tokens, {len(merges)} merges")


if __name__ == "__main__":
    main()
