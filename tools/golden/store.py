"""Safetensors files written as a stream, and the random numbers that fill them."""

import json
import math
import os
import struct
import zlib

import numpy as np

# A prime, so that neither rows nor kernels repeat in step with the block.
BLOCK = 1_048_573
NAMES = {"f16": "F16", "bf16": "BF16", "f32": "F32"}
BYTES = {"f16": 2, "bf16": 2, "f32": 4}


def encode(values, dtype):
    """float32 values as stored ones, rounded to nearest even; bfloat16 as its 16 bits."""
    if dtype == "bf16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return values.astype({"f16": np.float16, "f32": np.float32}[dtype])


class Random:
    """One block of normal numbers; every tensor reads it from a place its name decides.

    Billions of fresh numbers would take minutes. A tensor longer than the block goes on at its
    start, and the encoded block is kept for each (mean, spread): there are few of them.
    """

    def __init__(self, seed, dtype):
        self.block = np.random.Generator(np.random.PCG64(seed)).standard_normal(BLOCK, np.float32)
        self.dtype = dtype
        self.encoded = {}

    def write(self, file, name, shape, role):
        mean, spread = moments(shape, role)
        if (mean, spread) not in self.encoded:
            self.encoded[mean, spread] = encode(self.block * np.float32(spread) + np.float32(mean),
                                                self.dtype)
        block = self.encoded[mean, spread]
        left, at = math.prod(shape), zlib.crc32(name.encode()) % BLOCK
        while left:
            piece = block[at:at + left]
            file.write(memoryview(piece).cast("B"))
            left, at = left - len(piece), 0


def moments(shape, role):
    """Mean and spread of a tensor's values. A residual branch adds half of what flows by."""
    flow = 1 / math.sqrt(math.prod(shape[1:]))
    return {"weight": (0.0, flow), "sharp": (0.0, 1.5 * flow), "branch": (0.0, 0.5 * flow),
            "gain": (1.0, 0.1), "bias": (0.0, 0.1), "table": (0.0, 0.5),
            "threshold": (0.2, 0.02)}[role]


def write_random(path, tensors, seed, dtype):
    """Writes the tensors and returns (parameters, tensors)."""
    tensors = sorted(tensors)
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in tensors:
        end = at + math.prod(shape) * BYTES[dtype]
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    source = Random(seed, dtype)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape, role in tensors:
            source.write(file, name, shape, role)
    return at // BYTES[dtype], len(tensors)
