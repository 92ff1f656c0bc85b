"""The three networks in plain torch, with the tensor names of diffusers and transformers.

Only what the bundled model uses is here: the UNet of SD 1.x, its autoencoder and CLIP's text
encoder, at any width. Their weights load in diffusers, and diffusers' load here.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def pointwise(conv, x):
    """A 1x1 convolution as a matrix product: with channels last no element moves."""
    return F.linear(x.permute(0, 2, 3, 1), conv.weight[:, :, 0, 0], conv.bias).permute(0, 3, 1, 2)


def attend(q, k, v, heads, causal=False):
    """Attention over [n,tokens,width]."""
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return out.transpose(1, 2).flatten(2)


class Resnet(nn.Module):
    """Two convolutions around a shortcut; `time` is the width of the time embedding, if any."""

    def __init__(self, inside, outside, groups, eps, time=None):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inside, eps)
        self.conv1 = nn.Conv2d(inside, outside, 3, 1, 1)
        if time:
            self.time_emb_proj = nn.Linear(time, outside)
        self.norm2 = nn.GroupNorm(groups, outside, eps)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1)
        self.conv_shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else None

    def forward(self, x, time=None):
        h = self.conv1(F.silu(self.norm1(x)))
        if time is not None:
            h = h + self.time_emb_proj(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (pointwise(self.conv_shortcut, x) if self.conv_shortcut else x)


class Attention(nn.Module):
    """Self-attention, or cross-attention over a context of another width."""

    def __init__(self, width, heads, context=None, bias=False):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(context or width, width, bias=bias)
        self.to_v = nn.Linear(context or width, width, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x, context=None):
        c = x if context is None else context
        return self.to_out[0](attend(self.to_q(x), self.to_k(c), self.to_v(c), self.heads))


class GatedLinear(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.ModuleList([GatedLinear(width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x):
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    def __init__(self, width, heads, context):
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.attn2 = nn.LayerNorm(width), Attention(width, heads, context)
        self.norm3, self.ff = nn.LayerNorm(width), FeedForward(width)

    def forward(self, x, context):
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    """A transformer block over the places of a picture."""

    def __init__(self, width, heads, context, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, 1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, heads, context)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x, context):
        h, w = x.shape[2:]
        tokens = pointwise(self.proj_in, self.norm(x)).permute(0, 2, 3, 1).flatten(1, 2)
        tokens = self.transformer_blocks[0](tokens, context)
        return x + pointwise(self.proj_out, tokens.unflatten(1, (h, w)).permute(0, 3, 1, 2))


class Resampler(nn.Module):
    """Halves or doubles a picture's sides. `corner` pads only right and below, as SD's autoencoder
    does.
    """

    def __init__(self, width, double, corner=False):
        super().__init__()
        self.double, self.corner = double, corner
        stride, pad = (1, 1) if double else (2, 0 if corner else 1)
        self.conv = nn.Conv2d(width, width, 3, stride, pad)

    def forward(self, x):
        if self.double:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.corner else x)


class Block(nn.Module):
    """One size of a network: resnets, attention after each if asked for, and a resampler."""

    def __init__(self, resnets, attentions=(), down=None, up=None):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        if down:
            self.downsamplers = nn.ModuleList([down])
        if up:
            self.upsamplers = nn.ModuleList([up])

    def steps(self):
        """Pairs of a resnet and its attention (or None)."""
        return zip(self.resnets, getattr(self, "attentions", [None] * len(self.resnets)))

    def resample(self, x):
        for resampler in getattr(self, "downsamplers", getattr(self, "upsamplers", ())):
            x = resampler(x)
        return x


class TimeEmbedding(nn.Module):
    def __init__(self, inside, outside):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inside, outside), nn.Linear(outside, outside)

    def forward(self, t):
        half = self.linear_1.in_features // 2
        rate = torch.exp(-math.log(10000) / half * torch.arange(half, device=t.device))
        angle = t.float()[:, None] * rate
        return self.linear_2(F.silu(self.linear_1(torch.cat([angle.cos(), angle.sin()], 1))))


class UNet(nn.Module):
    """UNet2DConditionModel with one attention per resnet in the blocks whose type says so."""

    def __init__(self, config):
        super().__init__()
        widths, layers = config["block_out_channels"], config["layers_per_block"]
        heads, context = config["attention_head_dim"], config["cross_attention_dim"]
        groups, time, last = 32, 4 * widths[0], len(widths) - 1

        def resnet(inside, outside):
            return Resnet(inside, outside, groups, 1e-5, time)

        def attention(width):
            return Transformer(width, heads, context, groups)

        self.conv_in = nn.Conv2d(config["in_channels"], widths[0], 3, 1, 1)
        self.time_embedding = TimeEmbedding(widths[0], time)
        self.down_blocks, skips = nn.ModuleList(), [widths[0]]
        for i, (width, kind) in enumerate(zip(widths, config["down_block_types"])):
            sides = [skips[-1]] + [width] * (layers - 1)
            down = Resampler(width, False) if i < last else None
            self.down_blocks.append(
                Block(
                    [resnet(s, width) for s in sides],
                    [attention(width) for s in sides if "CrossAttn" in kind],
                    down,
                )
            )
            skips += [width] * (layers + (down is not None))
        self.mid_block = Block(
            [resnet(widths[-1], widths[-1]) for _ in range(2)], [attention(widths[-1])]
        )
        self.up_blocks, inside = nn.ModuleList(), widths[-1]
        for i, (width, kind) in enumerate(zip(widths[::-1], config["up_block_types"])):
            sides = [inside] + [width] * layers
            self.up_blocks.append(
                Block(
                    [resnet(s + skips.pop(), width) for s in sides],
                    [attention(width) for s in sides if "CrossAttn" in kind],
                    up=Resampler(width, True) if i < last else None,
                )
            )
            inside = width
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], 1e-5)
        self.conv_out = nn.Conv2d(widths[0], config["out_channels"], 3, 1, 1)

    def forward(self, x, t, context):
        """Noisy latents [n,4,h,w], times [n] and text states to the predicted velocity."""
        time = self.time_embedding(t)
        skips = [x := self.conv_in(x)]
        for block in self.down_blocks:
            for resnet, attention in block.steps():
                x = resnet(x, time)
                x = attention(x, context) if attention else x
                skips.append(x)
            if hasattr(block, "downsamplers"):
                skips.append(x := block.resample(x))
        first, second = self.mid_block.resnets
        x = second(self.mid_block.attentions[0](first(x, time), context), time)
        for block in self.up_blocks:
            for resnet, attention in block.steps():
                x = resnet(torch.cat([x, skips.pop()], 1), time)
                x = attention(x, context) if attention else x
            x = block.resample(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class PictureAttention(nn.Module):
    """The autoencoder's attention: one head over all places."""

    def __init__(self, width, groups):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, 1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x):
        h, w = x.shape[2:]
        c = self.group_norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        c = self.to_out[0](attend(self.to_q(c), self.to_k(c), self.to_v(c), 1))
        return x + c.unflatten(1, (h, w)).permute(0, 3, 1, 2)


class Coder(nn.Module):
    """The encoder or the decoder: blocks of one width each, with the middle block first or last."""

    def __init__(self, inside, outside, widths, layers, groups, decode):
        super().__init__()
        self.decode, top, last = decode, widths[-1], len(widths) - 1

        def resnet(a, b):
            return Resnet(a, b, groups, 1e-6)

        widths = widths[::-1] if decode else widths
        self.conv_in = nn.Conv2d(inside, widths[0], 3, 1, 1)
        blocks, width = [], widths[0]
        for i, w in enumerate(widths):
            sides = [width] + [w] * (layers - 1)
            sampler = Resampler(w, decode, not decode) if i < last else None
            blocks.append(
                Block([resnet(s, w) for s in sides], **{"up" if decode else "down": sampler})
            )
            width = w
        setattr(self, "up_blocks" if decode else "down_blocks", nn.ModuleList(blocks))
        middle = [resnet(top, top), resnet(top, top)]
        self.mid_block = Block(middle, [PictureAttention(top, groups)])
        self.conv_norm_out = nn.GroupNorm(groups, width, 1e-6)
        self.conv_out = nn.Conv2d(width, outside, 3, 1, 1)

    def middle(self, x):
        first, second = self.mid_block.resnets
        return second(self.mid_block.attentions[0](first(x)))

    def forward(self, x):
        x = self.conv_in(x)
        x = self.middle(x) if self.decode else x
        for block in self.up_blocks if self.decode else self.down_blocks:
            for resnet in block.resnets:
                x = resnet(x)
            x = block.resample(x)
        x = x if self.decode else self.middle(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    """AutoencoderKL."""

    def __init__(self, config):
        super().__init__()
        widths, layers, z = (
            config[k] for k in ("block_out_channels", "layers_per_block", "latent_channels")
        )
        groups = config["norm_num_groups"]
        self.encoder = Coder(config["in_channels"], 2 * z, widths, layers, groups, False)
        self.decoder = Coder(z, config["out_channels"], widths, layers + 1, groups, True)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(2 * z, 2 * z, 1), nn.Conv2d(z, z, 1)

    def encode(self, x):
        """Pictures in [-1,1] to the means and log variances of their latents."""
        return self.quant_conv(self.encoder(x)).chunk(2, 1)

    def decode(self, z):
        """Latents to pictures."""
        return self.decoder(self.post_quant_conv(z))


class ClipAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return self.out_proj(attend(q, k, v, self.heads, causal=True))


class ClipLayer(nn.Module):
    def __init__(self, width, inner, heads):
        super().__init__()
        self.self_attn = ClipAttention(width, heads)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        h = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](h * torch.sigmoid(1.702 * h))


class TextEncoder(nn.Module):
    """CLIPTextModel."""

    def __init__(self, config):
        super().__init__()
        width, layers = config["hidden_size"], config["num_hidden_layers"]
        inner, heads = config["intermediate_size"], config["num_attention_heads"]
        self.text_model = nn.ModuleDict(
            {
                "embeddings": nn.ModuleDict(
                    {
                        "token_embedding": nn.Embedding(config["vocab_size"], width),
                        "position_embedding": nn.Embedding(
                            config["max_position_embeddings"], width
                        ),
                    }
                ),
                "encoder": nn.ModuleDict(
                    {
                        "layers": nn.ModuleList(
                            ClipLayer(width, inner, heads) for _ in range(layers)
                        )
                    }
                ),
                "final_layer_norm": nn.LayerNorm(width),
            }
        )
        for m in self.modules():
            if isinstance(m, (nn.Linear, nn.Embedding)):
                nn.init.normal_(m.weight, std=0.02)  # as CLIP starts
            if isinstance(m, nn.Linear):
                nn.init.zeros_(m.bias)

    def forward(self, ids):
        """Token ids [n,77] to their states."""
        embed = self.text_model["embeddings"]
        x = embed["token_embedding"](ids) + embed["position_embedding"].weight[: ids.shape[1]]
        for layer in self.text_model["encoder"]["layers"]:
            x = layer(x)
        return self.text_model["final_layer_norm"](x)
