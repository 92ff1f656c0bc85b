"""Writes the fixtures of tests/unit/{gguf,pickle}_test.c.

    pip install gguf numpy safetensors torch && python3 make.py

quants.gguf and quants.safetensors: blocks of every type that the GGUF reader takes, and the numbers
that the `gguf` package (0.19) makes of them. K-quants are random bytes (that package cannot quantise
to them) with sane scales.

checkpoint.pt and harmful.pt: what torch.save writes, with and without something to run."""

import collections
import os

import gguf
import numpy
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

here = os.path.dirname(os.path.abspath(__file__))
rng = numpy.random.default_rng(7)
ROWS, COLUMNS = 2, 256

# Where the half-precision scales of a block lie.
K_QUANTS = {
    Type.Q2_K: (80, 82),
    Type.Q3_K: (108,),
    Type.Q4_K: (0, 2),
    Type.Q5_K: (0, 2),
    Type.Q6_K: (208,),
}
ROUNDED = (Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q5_0, Type.Q5_1, Type.Q4_0, Type.Q4_1)

writer = gguf.GGUFWriter(os.path.join(here, "quants.gguf"), "sd1")
writer.add_string("general.name", "every type")
writer.add_array("some.list", ["a", "b"])
writer.add_float32("some.number", 1.5)
want = {}

for kind in ROUNDED:
    values = rng.normal(0, 0.1, (ROWS, COLUMNS)).astype(numpy.float32)
    if kind == Type.Q8_0:
        want["source"] = values
    data = gguf.quants.quantize(values, kind)
    if kind == Type.F16:
        data = values.astype(numpy.float16)
    writer.add_tensor(kind.name, data, raw_dtype=kind)
    want[kind.name] = gguf.quants.dequantize(data, kind).astype(numpy.float32)

for kind, scales in K_QUANTS.items():
    size = gguf.GGML_QUANT_SIZES[kind][1]
    data = rng.integers(0, 256, (ROWS, size), dtype=numpy.uint8)
    for at in scales:
        halves = rng.normal(0, 0.01, ROWS).astype(numpy.float16)
        data[:, at : at + 2] = halves.view(numpy.uint8).reshape(ROWS, 2)
    writer.add_tensor(kind.name, data, raw_dtype=kind)
    want[kind.name] = gguf.quants.dequantize(data, kind).astype(numpy.float32)

# A convolution as ComfyUI-GGUF stores it: flat rows of 256, and the shape they had.
values = rng.normal(0, 0.1, (2, 256)).astype(numpy.float32)
data = gguf.quants.quantize(values, Type.Q8_0)
writer.add_array("comfy.gguf.orig_shape.conv", [2, 64, 2, 2])
writer.add_tensor("conv", data, raw_dtype=Type.Q8_0)
want["conv"] = gguf.quants.dequantize(data, Type.Q8_0).reshape(2, 64, 2, 2)

writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file(want, os.path.join(here, "quants.safetensors"))

weights = torch.arange(24, dtype=torch.float32)
state = collections.OrderedDict()
state["a.weight"] = weights.reshape(4, 6)
state["a.half"] = weights.half().reshape(2, 3, 4, 1)
state["a.view"] = weights[12:18]  # shares the storage of a.weight
state["b.bf16"] = weights[:5].bfloat16()
state["b.ids"] = torch.arange(3)
state["b.scalar"] = torch.tensor(2.5, dtype=torch.float64)
state["b.parameter"] = torch.nn.Parameter(torch.ones(2))
state._metadata = {"": {"version": 1}}
checkpoint = {
    "epoch": 7,
    "global_step": 2**40,
    "lr": 1e-4,
    "name": "a text",
    "list": [1, (2, 3), None, True],
    "note": numpy.float64(0.5),
    "state_dict": state,
}
torch.save(checkpoint, os.path.join(here, "checkpoint.pt"))


class Harm:
    def __reduce__(self):
        return os.system, ("echo harm",)


torch.save({"state_dict": state, "x": Harm()}, os.path.join(here, "harmful.pt"))
