"""LoRAs and textual inversions in the spellings that files come in, and how diffusers loads them.

transformers 5 has made CLIPTextModel flat, and diffusers 0.40 does not know yet that its modules are
called otherwise than in files: keys are renamed on the way (parts.unflatten says the same of calls).
"""

import json
import os
import re

import numpy as np
import torch
from safetensors.torch import save_file

from .cases import normal

RANK = 2
ATTENTION = r"\.0\.transformer_blocks\.0\.attn\d\.to_(q|k|v|out\.0)$"
LAYERS = ATTENTION + r"|attentions\.0\.(proj_in|proj_out|transformer_blocks\.0\.ff\.net)"
CONVOLUTIONS = (r"resnets\.0\.(conv1|conv2|conv_shortcut|time_emb_proj)$|samplers\.0\.conv$"
                r"|^conv_(in|out)$|^(time|add)_embedding\.linear_\d$")
ENCODER = r"layers\.1\.(self_attn\.(q|k|v|out)_proj|mlp\.fc\d)$"


def modules(pipe, component, pattern):
    """(name in files, shape) of the matrices and convolutions whose names match."""
    part = getattr(pipe, component)
    flat = component != "unet" and not any(n.startswith("text_model.")
                                           for n, _ in part.named_modules())
    return [("text_model." * flat + name, tuple(module.weight.shape))
            for name, module in part.named_modules()
            if re.search(pattern, name) and hasattr(module, "weight") and module.weight.ndim > 1]


def pair(shape, seed, rank=RANK):
    """down and up of one module."""
    ones = [1] * (len(shape) - 2)
    draw = (normal(rank, *shape[1:], seed=seed), normal(shape[0], rank, *ones, seed=seed + 1000))
    return [torch.from_numpy((0.15 * x).astype(np.float32)) for x in draw]


def spelled(found, form, seed, down, up):
    """Keys and tensors of the modules; form(name) is all before down and up."""
    out = {}
    for i, (name, shape) in enumerate(found):
        out[form(name) + down], out[form(name) + up] = pair(shape, seed + i)
    return out


def kohya(found, prefix, alpha, name=str):
    """kohya's keys; alpha None leaves them without."""
    out = spelled(found, lambda n: prefix + name(n).replace(".", "_"), 0, ".lora_down.weight",
                  ".lora_up.weight")
    if alpha is not None:
        out |= {k.replace("lora_up.weight", "alpha"): torch.tensor(float(alpha))
                for k in out if "lora_up" in k}
    return out


def sgm(name):
    """A module of SDXL's UNet (two layers a level) as generative-models calls it."""
    for ours, theirs in (("conv_in", "input_blocks.0.0"), ("conv_out", "out.2"),
                         ("time_embedding.linear_1", "time_embed.0"),
                         ("time_embedding.linear_2", "time_embed.2"),
                         ("add_embedding.linear_1", "label_emb.0.0"),
                         ("add_embedding.linear_2", "label_emb.0.2"),
                         ("conv1", "in_layers.2"), ("conv2", "out_layers.3"),
                         ("conv_shortcut", "skip_connection"), ("time_emb_proj", "emb_layers.1")):
        name = name.replace(ours, theirs)
    kind = {"resnets": 0, "attentions": 1}
    name = re.sub(r"^down_blocks\.(\d)\.(resnets|attentions)\.(\d)", lambda m:
                  f"input_blocks.{int(m[1]) * 3 + int(m[3]) + 1}.{kind[m[2]]}", name)
    name = re.sub(r"^down_blocks\.(\d)\.downsamplers\.0\.conv", lambda m:
                  f"input_blocks.{int(m[1]) * 3 + 3}.0.op", name)
    name = re.sub(r"^up_blocks\.(\d)\.(resnets|attentions)\.(\d)", lambda m:
                  f"output_blocks.{int(m[1]) * 3 + int(m[3])}.{kind[m[2]]}", name)
    name = re.sub(r"^up_blocks\.(\d)\.upsamplers\.0\.conv", lambda m:
                  f"output_blocks.{int(m[1]) * 3 + 2}.2.conv", name)
    return re.sub(r"^mid_block\.(resnets|attentions)\.(\d)", lambda m:
                  f"middle_block.{1 if m[1] == 'attentions' else 2 * int(m[2])}", name)


def processor(name):
    """The oldest spelling: a LoRA was a processor of the attention."""
    return "unet." + re.sub(r"\.(to_q|to_k|to_v|to_out)(\.0)?$", r".processor.\1", name)


def make_loras(out, sd15, sdxl):
    """One file for each spelling."""
    peft = (spelled(modules(sd15, "unet", LAYERS), "unet.{}".format, 20, ".lora_A.weight",
                    ".lora_B.weight")
            | spelled(modules(sd15, "text_encoder", ENCODER), "text_encoder.{}".format, 40,
                      ".lora_A.weight", ".lora_B.weight"))
    settings = {f"{part}.{key}": value for part in ("unet", "text_encoder") for key, value in
                {"r": RANK, "lora_alpha": 3, "rank_pattern": {}, "alpha_pattern": {},
                 "use_rslora": True}.items()}
    settings["unet.target_modules"] = sorted({k.split(".lora_")[0].removeprefix("unet.")
                                              for k in peft if k.startswith("unet.")})
    settings["text_encoder.target_modules"] = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1",
                                               "fc2"]
    old = (spelled(modules(sd15, "unet", ATTENTION), processor, 60, "_lora.down.weight",
                   "_lora.up.weight")
           | spelled(modules(sd15, "text_encoder", ENCODER), "text_encoder.{}".format, 80,
                     ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"))
    files = {
        "kohya": kohya(modules(sd15, "unet", LAYERS + "|" + CONVOLUTIONS), "lora_unet_", 1.5)
        | kohya(modules(sd15, "text_encoder", ENCODER), "lora_te_", 1.5),
        "peft": peft, "old": old,
        "sgm": kohya(modules(sdxl, "unet", LAYERS + "|" + CONVOLUTIONS), "lora_unet_", None, sgm)
        | kohya(modules(sdxl, "text_encoder", ENCODER), "lora_te1_", None)
        | kohya(modules(sdxl, "text_encoder_2", ENCODER), "lora_te2_", None)}
    for name, tensors in files.items():
        metadata = {"format": "pt"}
        if name == "peft":
            metadata["lora_adapter_metadata"] = json.dumps(settings)
        save_file(tensors, os.path.join(out, "extras", f"lora_{name}.safetensors"), metadata)


def make_words(out, sd15, sdxl):
    """A word of three vectors for SD 1.5, one of two for both encoders of SDXL."""
    def vectors(encoder, rows, seed):
        return torch.from_numpy(normal(rows, encoder.config.hidden_size, seed=seed))

    save_file({"<sea>": vectors(sd15.text_encoder, 3, 1)},
              os.path.join(out, "extras", "word_sd15.safetensors"))
    save_file({"clip_l": vectors(sdxl.text_encoder, 2, 2),
               "clip_g": vectors(sdxl.text_encoder_2, 2, 3)},
              os.path.join(out, "extras", "word_sdxl.safetensors"))


def flat(tensors):
    """Keys as diffusers must be told them."""
    return {k.replace("text_encoder.text_model.", "text_encoder."): v for k, v in tensors.items()}


def load_lora(pipe, path, name):
    """The steps of load_lora_weights, with the text encoder's keys renamed."""
    tensors, alphas, metadata = pipe.lora_state_dict(path, unet_config=pipe.unet.config,
                                                     return_lora_metadata=True)
    options = {"network_alphas": flat(alphas) if alphas else None, "metadata": metadata,
               "adapter_name": name, "_pipeline": pipe}
    tensors = flat(tensors)
    pipe.load_lora_into_unet(tensors, unet=pipe.unet, **options)
    for part in ("text_encoder", "text_encoder_2"):
        if any(k.startswith(part + ".") for k in tensors):
            pipe.load_lora_into_text_encoder(tensors, text_encoder=getattr(pipe, part),
                                             prefix=part, **options)


def load_word(pipe, path, token):
    """Both encoders' halves of an SDXL file; the one table of another."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    for part, key in (("", "clip_l"), ("_2", "clip_g")):
        if key in tensors:
            pipe.load_textual_inversion(tensors[key], token=token,
                                        tokenizer=getattr(pipe, "tokenizer" + part),
                                        text_encoder=getattr(pipe, "text_encoder" + part))
    if "clip_l" not in tensors:
        pipe.load_textual_inversion(path, token=token)


def load(out, pipe, case):
    """The LoRAs [file, scale] and words [file, token] of a case."""
    names = []
    for i, (file, _) in enumerate(case["loras"]):
        names.append(f"lora{i}")
        load_lora(pipe, os.path.join(out, file), names[-1])
    if names:
        pipe.set_adapters(names, [scale for _, scale in case["loras"]])
    for file, token in case["words"]:
        load_word(pipe, os.path.join(out, file), token)
