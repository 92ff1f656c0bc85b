"""A CLIP-format vocabulary of our own: byte-pair merges learnt from corpus.txt."""

import collections
import json
import os
import re

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
CORPUS = os.path.join(os.path.dirname(__file__), "corpus.txt")
# An approximation of the tokenizer's pieces is enough here: merges may be learnt from any pieces.
PIECE = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+")


def byte_symbols():
    """The printable stand-in of every byte, in the order in which CLIP numbers them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in set(plain)]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}


def learn_merges(text, count):
    """At most `count` merges in rank order; the most frequent pair first, ties by spelling."""
    symbols = byte_symbols()
    words = collections.Counter()
    for piece in PIECE.findall(text.lower()):
        spelt = [symbols[b] for b in piece.encode()]
        spelt[-1] += "</w>"
        words[tuple(spelt)] += 1
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = collections.Counter(
            {merge(word, best): times for word, times in words.items()})
    return merges


def merge(word, pair):
    """The word with every occurrence of the pair joined, left to right."""
    joined, i = [], 0
    while i < len(word):
        if word[i:i + 2] == pair:
            joined.append(word[i] + word[i + 1])
            i += 2
        else:
            joined.append(word[i])
            i += 1
    return tuple(joined)


def padding_merges(count):
    """Merges of UTF-8 lead bytes with each other: well formed, and never used by any valid text."""
    symbols = byte_symbols()
    leads = [symbols[b] for b in range(0xC2, 0xF5)]
    pairs = [(a, b) for a in leads for b in leads]
    triples = [(a + b, c) for a, b in pairs for c in leads]
    if count > len(pairs) + len(triples):
        raise ValueError(f"cannot pad a vocabulary by {count} merges")
    return (pairs + triples)[:count]


def build(size=None, learnt=1000):
    """(vocabulary: token to id, merges) with `size` tokens, or just as many as were learnt."""
    with open(CORPUS, encoding="utf-8") as file:
        merges = learn_merges(file.read(), learnt)
    base = list(byte_symbols().values())
    if size is not None:
        merges += padding_merges(size - 2 * 256 - 2 - len(merges))
    tokens = base + [s + "</w>" for s in base] + [a + b for a, b in merges] + [BOS, EOS]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ValueError("a token occurs twice")
    return vocabulary, merges


def save(folder, vocabulary, merges, pad=EOS):
    """Writes the four files that diffusers keeps in a tokenizer folder."""
    os.makedirs(folder, exist_ok=True)

    def special(content):
        return {"content": content, "lstrip": False, "normalized": True, "rstrip": False,
                "single_word": False}

    specials = {"bos_token": special(BOS), "eos_token": special(EOS), "pad_token": pad,
                "unk_token": special(EOS)}
    config = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace",
              "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    for name, value in specials.items():
        config[name] = {"__type": "AddedToken", **value} if isinstance(value, dict) else value
    documents = {"vocab.json": vocabulary, "special_tokens_map.json": specials,
                 "tokenizer_config.json": config}
    for name, document in documents.items():
        indent = None if name == "vocab.json" else 1
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=False, indent=indent)
            file.write("\n")
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as file:
        file.write("#version: 0.2\n")
        file.writelines(f"{a} {b}\n" for a, b in merges)
