"""8-bit weights: I8 matrices with F16 scales, the format of docs/formats.md, "8-bit weights"."""

import torch
from safetensors import safe_open

FORMAT = {"format": "pt", "styx.format": "i8-grouped"}
GROUP = 96  # the longest run of elements with one scale
# Small matrices at the borders of the networks stay F16: they cost little and every picture passes
# through them.
KEPT = (
    "conv_in.weight",
    "conv_out.weight",
    "quant_conv.weight",
    "time_embedding.linear_1.weight",
    "position_embedding.weight",
)


def groups_of(length, limit):
    """The fewest equal runs of at most `limit` elements that a row of this length divides into."""
    return next(g for g in range(1, length + 1) if length % g == 0 and length // g <= limit)


def quantise(weight, limit):
    """A tensor as I8 values of its shape and F16 scales [rows, groups]; value = q * scale."""
    rows = weight.shape[0]
    length = weight[0].numel()
    x = weight.float().reshape(rows, groups_of(length, limit), -1)
    scale = (x.abs().amax(2) / 127).half()
    step = scale.float().unsqueeze(2)
    q = torch.where(step > 0, x / step, 0.0).round().clamp(-127, 127).to(torch.int8)
    return q.reshape(weight.shape).contiguous(), scale.contiguous()


def expand(q, scale):
    """The values that I8 and its scales stand for."""
    rows, groups = scale.shape
    return (q.float().reshape(rows, groups, -1) * scale.float().unsqueeze(2)).reshape(q.shape)


def pack(tensors, limit=GROUP):
    """The tensors of an 8-bit file, and the values it stands for in F16."""
    packed, plain = {}, {}
    for name, t in tensors.items():
        if t.dim() < 2 or name.endswith(KEPT):
            packed[name] = plain[name] = t.half().contiguous()
            continue
        packed[name], packed[name + ".scale"] = quantise(t, limit)
        plain[name] = expand(packed[name], packed[name + ".scale"]).half()
    return packed, plain


def read(path):
    """The tensors of a safetensors file in F32, those of an 8-bit file scaled back."""
    with safe_open(path, "pt") as f:
        tensors = {k: f.get_tensor(k) for k in f.keys()}
    scales = {k: tensors.pop(k) for k in list(tensors) if k.endswith(".scale")}
    return {
        k: expand(t, scales[k + ".scale"]) if t.dtype == torch.int8 else t.float()
        for k, t in tensors.items()
    }
