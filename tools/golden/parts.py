"""Components by themselves: VAE, text encoders, safety checker, pictures, random numbers, ids."""

import json
import os

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

import diffusers
import random_model
import transformers
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.stable_diffusion.safety_checker import (StableDiffusionSafetyChecker,
                                                                 cosine_distance)
from . import cases, configs, record, tokens
from .cases import APPLE, FERRY, LONG, SEA, normal, picture

CLASSES = {"vae": diffusers.AutoencoderKL, "text_encoder": transformers.CLIPTextModel,
           "text_encoder_2": transformers.CLIPTextModelWithProjection,
           "tokenizer": transformers.CLIPTokenizer, "safety_checker": StableDiffusionSafetyChecker,
           "feature_extractor": transformers.CLIPImageProcessor}
SAFETY_PICTURES = [picture(40, 40, 0), 255 - picture(47, 30, 1), picture(30, 52, 5)]
SAFETY_CALL = {"prompt": [SEA, APPLE, FERRY], "num_inference_steps": 3, "height": 40, "width": 48}


def load_component(path, name):
    """A component in float32, as the pipelines here run it."""
    component = CLASSES[name].from_pretrained(path)
    return component.float() if hasattr(component, "float") else component


def unflatten(pipe):
    """diffusers 0.40 asks CLIPTextModel for text_model, which transformers 5 has made flat."""
    encoder = getattr(pipe, "text_encoder", None)
    if encoder is not None and not hasattr(encoder, "text_model"):
        type(encoder).text_model = property(lambda self: self)


def save(out, name, tensors):
    file = f"cases/{name}.safetensors"
    save_file({k: record.to_array(v) for k, v in tensors.items()}, os.path.join(out, file))
    return file


def make_vae(out, vae, sizes):
    """Encoder moments, a posterior sample and the decoded picture of each size (w, h, batch)."""
    tensors = {}
    for i, (width, height, batch) in enumerate(sizes):
        image = torch.from_numpy(normal(batch, 3, height, width, seed=i)).clamp(-1.5, 1.5)
        posterior = vae.encode(image).latent_dist
        eps = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(i))
        z = torch.from_numpy(normal(*posterior.mean.shape, seed=10 + i))
        tensors |= {f"{i}.image": image, f"{i}.mean": posterior.mean,
                    f"{i}.logvar": posterior.logvar, f"{i}.eps": eps, f"{i}.z": z,
                    f"{i}.sample": posterior.mean + posterior.std * eps,
                    f"{i}.decoded": vae.decode(z).sample}
    return save(out, "vae", tensors)


def make_tiling(out, vae):
    """The same with tiles of 32 pixels, rows and columns, with a remainder."""
    vae.tile_sample_min_size, vae.tile_latent_min_size = 32, 4
    vae.enable_tiling()
    tensors = {}
    for i, (width, height) in enumerate(((40, 56),)):
        image = torch.from_numpy(normal(1, 3, height, width, seed=20 + i)).clamp(-1.5, 1.5)
        posterior = vae.encode(image).latent_dist
        z = torch.from_numpy(normal(1, 4, height // 8, width // 8, seed=30 + i))
        tensors |= {f"{i}.image": image, f"{i}.mean": posterior.mean,
                    f"{i}.logvar": posterior.logvar, f"{i}.z": z,
                    f"{i}.decoded": vae.decode(z).sample}
    vae.disable_tiling()
    return save(out, "vae_tiling", tensors)


def make_text(out, name, encoder, tokenizer):
    ids = tokenizer([SEA, "", LONG], padding="max_length", max_length=77, truncation=True,
                    return_tensors="pt").input_ids
    result = encoder(ids, output_hidden_states=True)
    tensors = {"input_ids": ids.to(torch.int32), "last_hidden_state": result.last_hidden_state[:1]}
    # The last entry is told apart by version: newer ones have normalised it already.
    for i, hidden in enumerate(result.hidden_states[:-1]):
        tensors[f"hidden.{i}"] = hidden[:1, :20]
    tensors["hidden.penultimate"] = result.hidden_states[-2][1:, ::4]
    tensors["last_hidden_state.rest"] = result.last_hidden_state[1:, ::4]
    for pooled in ("pooler_output", "text_embeds"):
        if getattr(result, pooled, None) is not None:
            tensors[pooled] = result[pooled]
    return save(out, name, tensors)


def make_safety(out, models, load_pipeline, options):
    """A random checker. Its thresholds lie so that one of the pipeline's pictures is bad, and one
    of SAFETY_PICTURES is bad only because a special concept lowers the threshold by 0.01."""
    config = configs.tiny(options.tiny_vocab)["safety"]
    folder = os.path.join(out, "models", "tiny_safety")
    random_model.write_component(os.path.join(folder, "safety_checker"), "safety_checker", config,
                                 options)
    size = config["vision_config"]["image_size"]
    random_model.write_json(os.path.join(folder, "feature_extractor", "preprocessor_config.json"),
                            configs.preprocessor(size))
    checker, extractor = load_safety(folder)
    pipe = load_pipeline(out, models, "tiny_sd15", cases.TEXT, {})
    drawn = record.run(pipe, SAFETY_CALL, 0, {}, {"image"})[0]["out.image_u8"]
    pictures = [*drawn, *SAFETY_PICTURES]
    concept, special = cosines(checker, torch.cat([pixels(extractor, [p]) for p in pictures]))
    concept_limits, special_limits = concept.max(0) + 0.05, special.max(0) + 0.05
    own = np.arange(len(pictures)) >= len(drawn)
    split, _, concept_limits[split] = widest_gap(concept, ~own)
    row, who, special_limits[row] = widest_gap(special, own)
    lowered, _, _ = widest_gap(concept, np.arange(len(pictures)) == who)
    concept_limits[lowered] = concept[who, lowered] + 0.005
    path = os.path.join(folder, "safety_checker", "model.safetensors")
    tensors = load_file(path)
    tensors["concept_embeds_weights"] = concept_limits.astype(np.float16)
    tensors["special_care_embeds_weights"] = special_limits.astype(np.float16)
    save_file(tensors, path, metadata={"format": "pt"})


def widest_gap(cosine, allowed):
    """(column, row, middle): where an allowed row stands highest above all the others."""
    ordered = np.sort(cosine, 0)
    gaps = np.where(allowed[cosine.argmax(0)], ordered[-1] - ordered[-2], -1)
    column = gaps.argmax()
    return column, cosine[:, column].argmax(), ordered[-2:, column].mean()


def load_safety(folder):
    return (load_component(os.path.join(folder, "safety_checker"), "safety_checker"),
            load_component(os.path.join(folder, "feature_extractor"), "feature_extractor"))


def pixels(extractor, pictures):
    return extractor([Image.fromarray(p) for p in pictures], return_tensors="pt").pixel_values


def cosines(checker, values):
    with torch.no_grad():
        embeds = checker.visual_projection(checker.vision_model(values)[1])
        return [cosine_distance(embeds, table).numpy()
                for table in (checker.concept_embeds, checker.special_care_embeds)]


def make_safety_case(out):
    """Pictures of several shapes through the image processor, the tower and the verdict."""
    checker, extractor = load_safety(os.path.join(out, "models", "tiny_safety"))
    values = torch.cat([pixels(extractor, [p]) for p in SAFETY_PICTURES])
    concept, special = cosines(checker, values)
    embeds = checker.visual_projection(checker.vision_model(values)[1])
    state = checker.vision_model(values)[0]
    _, bad = checker(clip_input=values, images=[np.zeros((2, 2, 3)) for _ in SAFETY_PICTURES])
    scores = [c - limits.numpy() for c, limits in ((concept, checker.concept_embeds_weights),
                                                   (special, checker.special_care_embeds_weights))]
    lowered = (scores[0].max(1) < 0) & (scores[1].max(1) > 0) & np.array(bad)
    if len(set(bad)) != 2 or not lowered.any() or min(np.abs(s).min() for s in scores) < 0.002:
        raise ValueError(f"the safety pictures show too little: {bad}, {scores}")
    tensors = {f"{i}.u8": p for i, p in enumerate(SAFETY_PICTURES)}
    tensors |= {"pixel_values": values, "image_embeds": embeds, "last_hidden_state": state,
                "cos.concept": concept, "cos.special": special, "bad": np.array(bad, np.uint8)}
    return save(out, "safety", tensors)


def make_pictures(out):
    """VaeImageProcessor on pictures of many sizes, and PIL's own resampling."""
    processor = VaeImageProcessor(vae_scale_factor=8)
    tensors = {}
    for i, (width, height) in enumerate(((24, 16), (37, 21), (50, 31), (9, 63))):
        tensors[f"{i}.u8"] = picture(width, height, i)
        tensors[f"{i}.pre"] = processor.preprocess(Image.fromarray(tensors[f"{i}.u8"]))
    tensors["1.pre_to_16x40"] = processor.preprocess(Image.fromarray(tensors["1.u8"]), 16, 40)
    source = Image.fromarray(tensors["2.u8"])
    for name in ("lanczos", "bicubic", "nearest"):
        for way, size in (("up", (53, 40)), ("down", (17, 13)), ("mixed", (60, 11))):
            resized = source.resize(size, Image.Resampling[name.upper()])
            tensors[f"resize.{name}.{way}"] = np.asarray(resized)
    post = torch.linspace(-1.2, 1.2, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    tensors["post.in"] = post
    tensors["post.u8"] = np.stack([np.asarray(p) for p in processor.postprocess(post, "pil")])
    halves = (torch.arange(192).reshape(1, 3, 8, 8) + 0.5) / 255 * 2 - 1
    tensors["half.in"] = halves
    tensors["half.u8"] = np.stack([np.asarray(p) for p in processor.postprocess(halves, "pil")])
    masks = VaeImageProcessor(vae_scale_factor=8, do_normalize=False, do_binarize=True,
                              do_convert_grayscale=True)
    tensors["mask.u8"] = cases.mask(43, 30)
    tensors["mask.pre"] = masks.preprocess(Image.fromarray(tensors["mask.u8"]))
    return save(out, "image_processor", tensors)


def make_safety_pipeline(out, models, load_pipeline):
    """The whole pipeline with the checker: one of its pictures is black."""
    borrow = {"safety_checker": "models/tiny_safety/safety_checker",
              "feature_extractor": "models/tiny_safety/feature_extractor"}
    pipe = load_pipeline(out, models, "tiny_sd15", cases.TEXT, borrow)
    tensors, extra = record.run(pipe, SAFETY_CALL, 0, {}, {"image"})
    if len(set(extra["nsfw_content_detected"])) != 2:
        raise ValueError("the checker treats all the pictures alike")
    entry = {"model": "tiny_sd15", "pipeline": cases.TEXT, "call": SAFETY_CALL, "seed": 0,
             "generator": "cpu", "scheduler": record.scheduler_entry(pipe.scheduler), **extra,
             "file": save(out, "sd15_safety", tensors), "dtype": "float32", "borrow": borrow}
    return {"sd15_safety": entry}


def make_all(out, models, load_pipeline):
    """Writes the component cases and returns their manifest entries."""
    folder = os.path.join(out, "models")
    with torch.no_grad():
        vae = load_component(f"{folder}/tiny_sd15/vae", "vae")
        entries = {
            "vae": {"model": "tiny_sd15", "kind": "vae", "note": "42x30 encodes to floor sizes",
                    "file": make_vae(out, vae, ((24, 24, 1), (24, 16, 2), (42, 30, 1)))},
            "vae_tiling": {"model": "tiny_sd15", "kind": "vae_tiling",
                           "note": "tile_sample_min_size 32, tile_latent_min_size 4, overlap 0.25",
                           "file": make_tiling(out, vae)}}
        for model, suffix in (("tiny_sd15", ""), ("tiny_sdxl", "_2")):
            name = f"{model}.text_encoder{suffix}"
            encoder = load_component(f"{folder}/{model}/text_encoder{suffix}",
                                     f"text_encoder{suffix}")
            tokenizer = load_component(f"{folder}/{model}/tokenizer{suffix}", "tokenizer")
            entries["clip_" + name] = {
                "model": name, "kind": "clip_text",
                "file": make_text(out, "clip_" + name, encoder, tokenizer),
                "note": "hidden.k is before layer k, its first row and 20 positions; "
                        "hidden.penultimate and last_hidden_state.rest: rows 1 and 2, "
                        "every fourth position"}
        entries["safety"] = {"model": "tiny_safety", "kind": "safety",
                             "file": make_safety_case(out)}
        entries["image_processor"] = {"kind": "image", "file": make_pictures(out)}
    return entries | make_safety_pipeline(out, models, load_pipeline)


def make_rng(out):
    """torch's CPU generator: sizes about 16 and its multiples, every type, mixed sequences."""
    entries, tensors = [], {}

    def keep(key, seed, call, value):
        tensors[key] = value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
        entries.append({"key": key, "seed": seed, "call": call, "numel": value.numel(),
                        "sum_f64": float(value.double().sum())})

    for seed in (0, 7, 2**32 + 5, 2**63 - 1):
        for n in (1, 2, 7, 15, 16, 17, 31, 32, 33, 100):
            g = torch.Generator().manual_seed(seed)
            keep(f"cpu.randn.s{seed}.n{n}", seed, f"randn({n})", torch.randn(n, generator=g))
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        name = str(dtype).removeprefix("torch.")
        for n in (3, 8, 16, 23, 48, 70):
            g = torch.Generator().manual_seed(n)
            keep(f"cpu.{name}.{n}", n, f"randn({n}, dtype={name})",
                 torch.randn(n, generator=g, dtype=dtype))
    for name, kinds in (("float", ["float32"]), ("mixed", ["float32", "float64", "float16"])):
        g = torch.Generator().manual_seed(7)
        for i, n in enumerate((5, 16, 3, 20, 1, 64, 2, 40)):
            dtype = kinds[i % len(kinds)]
            keep(f"cpu.{name}.{i}", 7, f"one generator, call {i}: randn({n}, dtype={dtype})",
                 torch.randn(n, generator=g, dtype=getattr(torch, dtype)))
    g = torch.Generator().manual_seed(0)
    keep("cpu.rand", 0, "rand(40)", torch.rand(40, generator=g))
    g = torch.Generator().manual_seed(0)
    keep("cpu.rand64", 0, "rand(16, dtype=float64)",
         torch.rand(16, generator=g, dtype=torch.float64))
    save_file(tensors, os.path.join(out, "rng.safetensors"))
    return {"cpu": entries, "note": "bfloat16 is stored as the same numbers in float32"}


def make_tokens(out):
    """Ids of both tokenizers of tiny_sdxl; the second pads with ! (which is then a token apart)."""
    result = {}
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer = load_component(os.path.join(out, "models/tiny_sdxl", name), "tokenizer")
        result[name] = []
        for i, text in enumerate(tokens.texts(150 if name == "tokenizer" else 20)):
            entry = {"text": text, "ids": tokenizer(text).input_ids}
            if i < 6:
                entry["ids77"] = tokenizer(text, padding="max_length", max_length=77,
                                           truncation=True).input_ids
            result[name].append(entry)
    result["note"] = "ids: not truncated, with BOS and EOS; ids77: padded and truncated"
    return json.loads(json.dumps(result))
