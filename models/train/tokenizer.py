"""A byte-level BPE tokenizer in CLIP's file format, with a vocabulary of our own.

The rules are CLIP's (lower case, the same splitting of words, `</w>` at a word's end); the merges
are learnt here from the captions' words, so the vocabulary is small and belongs to this project.
"""

import json
import os
from collections import Counter

import numpy as np
import regex

LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"
PATTERN = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


def byte_letters():
    """GPT-2's map from bytes to letters: visible Latin-1 stays, the rest moves above 255."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in visible]
    return {
        **{b: chr(b) for b in visible},
        **{b: chr(256 + i) for i, b in enumerate(hidden)},
    }, visible + hidden


LETTERS, BYTE_ORDER = byte_letters()


def split_words(text):
    """The words of a text, each spelled in byte letters."""
    return [
        "".join(LETTERS[b] for b in w.encode())
        for w in PATTERN.findall(" ".join(text.lower().split()))
    ]


def join_pair(symbols, pair):
    """Joins every occurrence of the pair, from left to right."""
    out, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


def train(word_counts, nmerges):
    """Learns the merges from counted words; the vocabulary is CLIP's order: bytes, bytes</w>,
    merges.
    """
    words = [([*w[:-1], w[-1] + "</w>"], n) for w, n in sorted(word_counts.items())]
    merges = []
    while len(merges) < nmerges:
        pairs = Counter()
        for symbols, n in words:
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        if pairs[best] < 2:
            break
        merges.append(best)
        words = [(join_pair(s, best) if best[0] in s else s, n) for s, n in words]
    base = [LETTERS[b] for b in BYTE_ORDER]
    tokens = base + [b + "</w>" for b in base] + [a + b for a, b in merges] + [START, END]
    return {t: i for i, t in enumerate(dict.fromkeys(tokens))}, merges


class Tokenizer:
    """Encodes texts to rows of LENGTH ids: start, words, end, then end again as padding."""

    def __init__(self, vocab, merges):
        self.vocab, self.merges = vocab, [tuple(m) for m in merges]
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.start, self.end = vocab[START], vocab[END]
        self.cache = {}

    @classmethod
    def load(cls, folder):
        with open(os.path.join(folder, "vocab.json"), encoding="utf-8") as f:
            vocab = json.load(f)
        with open(os.path.join(folder, "merges.txt"), encoding="utf-8") as f:
            merges = [
                tuple(line.rstrip("\n").split(" ")) for line in f if not line.startswith("#version")
            ]
        return cls(vocab, merges)

    def save(self, folder):
        """Writes the four files of a CLIP tokenizer folder."""
        os.makedirs(folder, exist_ok=True)
        special = {
            k: {
                "content": t,
                "lstrip": False,
                "normalized": True,
                "rstrip": False,
                "single_word": False,
            }
            for k, t in (("bos_token", START), ("eos_token", END), ("unk_token", END))
        }
        config = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": LENGTH,
            "do_lower_case": True,
            "bos_token": START,
            "eos_token": END,
            "unk_token": END,
            "pad_token": END,
        }

        def write(name, text):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                f.write(text)

        write(
            "vocab.json", json.dumps(self.vocab, ensure_ascii=False, separators=(",", ":")) + "\n"
        )
        write("merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in self.merges))
        write("special_tokens_map.json", json.dumps({**special, "pad_token": END}, indent=2) + "\n")
        write("tokenizer_config.json", json.dumps(config, indent=2) + "\n")

    def word_ids(self, word):
        """The ids of one word in byte letters."""
        if word not in self.cache:
            symbols = [*word[:-1], word[-1] + "</w>"]
            while len(symbols) > 1:
                best = min(zip(symbols, symbols[1:]), key=lambda p: self.rank.get(p, 1 << 30))
                if best not in self.rank:
                    break
                symbols = join_pair(symbols, best)
            self.cache[word] = [self.vocab[s] for s in symbols]
        return self.cache[word]

    def encode(self, texts):
        """An int16 array [len(texts), LENGTH]."""
        out = np.full((len(texts), LENGTH), self.end, np.int16)
        for row, text in zip(out, texts):
            ids = [i for w in split_words(text) for i in self.word_ids(w)][: LENGTH - 2]
            row[0] = self.start
            row[1 : 1 + len(ids)] = ids
        return out


def main():
    """usage: tokenizer.py DATA OUT [MERGES]: learns the vocabulary from the data's names and our
    captions.
    """
    import random
    import sys

    import catalogue
    import scenes

    rows = catalogue.load(sys.argv[1])
    counts = Counter()
    for r in rows:
        for text, n in [(r["clean"], 8)] + [(k, 3) for k in r["kw"]]:
            for w in split_words(text):
                counts[w] += n
    planner = scenes.Planner(rows, random.Random(1))
    for _ in range(20000):
        for w in split_words(planner.scene().caption):
            counts[w] += 1
    vocab, merges = train(counts, int(sys.argv[3]) if len(sys.argv) > 3 else 2900)
    Tokenizer(vocab, merges).save(sys.argv[2])
    print(f"{len(counts)} words, {len(merges)} merges, {len(vocab)} tokens -> {sys.argv[2]}")


if __name__ == "__main__":
    main()
