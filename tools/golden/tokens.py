"""Texts on which tokenizers like to differ, and random Unicode."""

import random

from .cases import APPLE, FERRY, LONG, SEA

TEXTS = [
    SEA, APPLE, FERRY, LONG, "", "   ", "\t\n\v\f\r", "a", "A", "!", "!!!", "a!b! c !", "...",
    "it's WE'RE I'VE don't he'll she'd 'S 'sup o'clock rock'n'roll ''s",
    "1984 1,234.50 3.14e-10 8K 50mm f/1.8 16:9", "red_green__blue _ a_b", "a-b--c / d\\e",
    "<|startoftext|>", "<|endoftext|>", "a<|endoftext|>b", "<|ENDOFTEXT|> <|StartOfText|>",
    "<| endoftext |> <|endoftext|", "caf\u00e9 cafe\u0301 CAF\u00c9", "\u00df \u1e9e STRASSE",
    "\u0130stanbul \u0131 I", "\u01c4 \u01c5 \u01c6", "\u039f\u0394\u039f\u03a3 \u03a3 \u03c2",
    "\u5ddd\u306e\u5411\u3053\u3046\u306b\u5c71",
    "\u0420\u0435\u043a\u0430 \u0442\u0435\u0447\u0451\u0442",
    "\U0001f415\U0001f34e apple \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "\ufb01 \u2460 \u00bd \u00b2 \u2167 \u0663 \u096a", "\uff21\uff22\uff23 \uff11\uff12",
    "a\u00a0b\u2003c\u3000d\u200be\u2028f\u2029g\u0085h", "\u0000a\u0001\u007f\u00ad\ufeff\ufffd",
    "e\u0301\u0301\u0323 q\u0307\u0323 \u1100\u1161\u11a8 \uac01", "\u0e01\u0e33 \u0915\u093f",
    "\U0001d4d0\U0001d7d8 \U00010400 \U000e0041 \ue000", "\u2019s \u2018t\u2019 'T 'Re",
]
ALPHABETS = [
    (0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x17F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF),
    (0x900, 0xDFF), (0x1E00, 0x206F), (0x2100, 0x218F), (0x3000, 0x30FF), (0x4E00, 0x4EFF),
    (0xAC00, 0xACFF), (0xFB00, 0xFFEF), (0x10000, 0x104FF), (0x1F300, 0x1F6FF), (0x0, 0x10FFFF)]


def random_text(source):
    """A few runs, each of one script; surrogates are no characters and are left out."""
    text = ""
    for _ in range(source.randint(1, 4)):
        low, high = source.choice(ALPHABETS)
        for _ in range(source.randint(1, 8)):
            code = source.randint(low, high)
            text += chr(code) if not 0xD800 <= code < 0xE000 else " "
            text += source.choice(("", "", "", " ", "'s", "!"))
    return text


def texts(count, seed=0):
    source = random.Random(seed)
    return TEXTS + [random_text(source) for _ in range(count)]
