"""A small network that names the object in a picture; weights in classifier.safetensors, run in
numpy.

Five convolutions (batch norm folded in) on the picture shrunk to 64x64, the mean and the maximum
over the last 4x4 places, and one matrix to the 500 common objects. `train_classifier.py` makes it.
"""

import json
import os
import struct

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))


def read_safetensors(path):
    """The tensors and the metadata of a safetensors file that holds F16."""
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        data = f.read()
    meta = header.pop("__metadata__", {})
    return {
        k: np.frombuffer(data[v["data_offsets"][0] : v["data_offsets"][1]], "<f2")
        .reshape(v["shape"])
        .astype(np.float32)
        for k, v in header.items()
    }, meta


def convolve(x, weight, bias, stride):
    """A 3x3 convolution with one pixel of padding: x [n,h,w,c], weight [out,c,3,3]."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::stride, ::stride]
    return np.tensordot(view, weight, ((3, 4, 5), (1, 2, 3))) + bias


class Classifier:
    """Scores pictures against the 500 common objects."""

    def __init__(self, path=os.path.join(HERE, "classifier.safetensors")):
        self.tensors, meta = read_safetensors(path)
        self.names = json.loads(meta["names"])

    def scores(self, pictures):
        """uint8 [n,256,256,3] to scores [n,500]."""
        n, h, w, _ = pictures.shape
        x = (
            pictures.reshape(n, 64, h // 64, 64, w // 64, 3).mean((2, 4), dtype=np.float32) / 127.5
            - 1
        )
        for k in range(5):
            x = convolve(
                x,
                self.tensors[f"conv{k}.weight"],
                self.tensors[f"conv{k}.bias"],
                1 if k == 0 else 2,
            )
            x = np.maximum(x, 0)
        pooled = np.concatenate([x.mean((1, 2)), x.max((1, 2))], 1)
        return pooled @ self.tensors["fc.weight"].T + self.tensors["fc.bias"]

    def best(self, pictures, k=5):
        """The names of the k best guesses for each picture, best first."""
        order = np.argsort(-self.scores(pictures), 1)[:, :k]
        return [[self.names[i] for i in row] for row in order]
