#!/usr/bin/env python3
"""Compares the library's tokenizer with PyPI's `tokenizers` on random Unicode strings.

    python3 tools/tokenizer_compare.py FOLDER [--count N] [--seed S] [--fixture OUT.json]

FOLDER is a model's tokenizer folder (vocab.json, merges.txt and the configs). The rival is put
together as transformers 5 does for CLIPTokenizer. Exit status 1 if any string gets other ids.
--fixture writes the strings and the rival's ids instead of comparing. Needs a C compiler.
"""

import argparse
import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATTERN = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def special_tokens(folder):
    """The tokens with a role; a later one of the same spelling replaces an earlier one."""
    docs = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                docs.update(json.load(f))
    tokens = {}
    for role in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = docs.get(role, "<|startoftext|>" if role == "bos_token" else "<|endoftext|>")
        if isinstance(value, str):
            value = {"content": value}
        tokens[value["content"]] = bool(value.get("normalized", False))
    return tokens


def rival(folder):
    with open(os.path.join(folder, "vocab.json"), encoding="utf-8") as f:
        vocab = json.load(f)
    with open(os.path.join(folder, "merges.txt"), encoding="utf-8") as f:
        lines = [line for line in f.read().split("\n") if line and not line.startswith("#version")]
    merges = [tuple(line.split(" ")) for line in lines]
    tok = Tokenizer(
        BPE(
            vocab=vocab,
            merges=merges,
            end_of_word_suffix="</w>",
            continuing_subword_prefix="",
            fuse_unk=False,
            unk_token="<|endoftext|>",
        )
    )
    tok.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    for text, normalized in special_tokens(folder).items():
        tok.add_tokens([AddedToken(text, special=True, normalized=normalized)])
    return tok


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("text", ctypes.c_char * 508)]


class Tokens(ctypes.Structure):
    _fields_ = [
        ("v", ctypes.POINTER(ctypes.c_int32)),
        ("count", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
    ]


class Ours:
    """The C tokenizer, compiled on the spot."""

    def __init__(self, folder, work):
        so = os.path.join(work, "text.so")
        sources = [f"src/base/{n}.c" for n in ("error", "file", "json", "utf8")]
        sources += [f"src/text/{n}.c" for n in ("bpe", "special", "tokenizer", "unicode", "vocab")]
        command = [os.environ.get("CC", "cc"), "-std=gnu17", "-O2", "-shared", "-fPIC"]
        command += ["-Iinclude", "-Isrc", *sources, "-o", so, "-ljansson", "-lutf8proc", "-lm"]
        subprocess.run(command, cwd=ROOT, check=True)
        self.lib = ctypes.CDLL(so)
        self.tok = ctypes.c_void_p()
        err = Error()
        if self.lib.tokenizer_open(folder.encode(), ctypes.byref(self.tok), ctypes.byref(err)):
            sys.exit(err.text.decode())

    def ids(self, text):
        data, out, err = text.encode(), Tokens(), Error()
        if self.lib.tokenizer_append(
            self.tok, data, ctypes.c_size_t(len(data)), ctypes.byref(out), ctypes.byref(err)
        ):
            return err.text.decode()
        ids = out.v[: out.count]
        self.lib.tokens_free(ctypes.byref(out))
        return ids


def code_point(rng, top):
    while True:
        c = rng.randrange(top)
        if not 0xD800 <= c < 0xE000:
            return chr(c)


WORDS = """a the photo of an astronaut riding horse on mars, painting by it's we're I'VE don't he'll
she'd 'S o'clock 8K 4k 16:9 f/1.8 (masterpiece:1.3) [blurry] BREAK highly-detailed!!! ... --ar C++
<|startoftext|> <|endoftext|> <|STARTOFTEXT|> <|EndOfText|> </w> <lora:x:0.8> café naïve Straße
ΟΔΟΣ ΣΑΣ İstanbul ǅ ﬁ Å Å 가각힣 가 日本語 テスト かな ภาษาไทย हिन्दी العربية עברית 🐎 👩‍🚀 🏳️‍🌈 ½ ٣ Ⅷ""".split()
SPACES = [" ", "  ", "\n", "\t", "\u00a0", "\u2003", "\u3000", "\u0085", "\u200b", "\x1c", ""]
MARKS = "\u0301\u0316\u0327\u0345\u093c\u0591\u05b0\u0e38\u0f71\u1ab0\u20d0\u302a\ua806\U0001d165"


def random_text(rng):
    """Words, ASCII, one script, anything, combining marks, or all of that in turns."""
    kind = rng.randrange(6)
    parts = []
    for _ in range(rng.randrange(1, 24)):
        k = kind if kind < 5 else rng.randrange(5)
        if k == 0:
            parts.append(rng.choice(WORDS) + rng.choice(SPACES))
        elif k == 1:
            parts.append(chr(rng.randrange(0x80)))
        elif k == 2:
            start = rng.randrange(0x20) * 0x80
            parts.append(chr(start + rng.randrange(0x80)))
        elif k == 3:
            parts.append(code_point(rng, rng.choice([0x800, 0x3000, 0x10000, 0x20000, 0x110000])))
        else:
            base = rng.choice("aeoAZ'1 <|\u1100\u0915\u0391") + rng.choice(SPACES)
            parts.append(base + "".join(rng.choice(MARKS) for _ in range(rng.randrange(4))))
    return "".join(parts)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("folder")
    ap.add_argument("--count", type=int, default=100000)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--fixture")
    args = ap.parse_args()

    rng = random.Random(args.seed)
    theirs = rival(args.folder)
    texts = [random_text(rng) for _ in range(args.count)]
    if args.fixture:
        cases = [[t, theirs.encode(t, add_special_tokens=False).ids] for t in texts]
        with open(args.fixture, "w", encoding="ascii") as f:
            lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
            f.write('{"cases":[\n' + lines + "\n]}\n")
        return 0

    mismatches = ids = 0
    with tempfile.TemporaryDirectory() as work:
        ours = Ours(args.folder, work)
        for text in texts:
            want, got = theirs.encode(text, add_special_tokens=False).ids, ours.ids(text)
            ids += len(want)
            if got != want:
                mismatches += 1
                if mismatches <= 20:
                    print(f"{ascii(text)}\n  theirs {want}\n  ours   {got}")
    print(f"{args.folder}: {args.count} strings, {ids} ids, {mismatches} mismatches")
    return 1 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
