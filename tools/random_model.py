#!/usr/bin/env python3
"""Writes random models in the diffusers layout: full-size ones for benchmarks, tiny ones for tests.

Activations stay of order one and every norm has its own gain and bias, so that a forgotten affine
shows. The same seed gives the same bytes. Needs numpy alone.
"""

import argparse
import json
import os

from golden import configs, store, tensors, vocab

DIFFUSERS, TRANSFORMERS = "diffusers", "transformers"
WEIGHTS = {DIFFUSERS: "diffusion_pytorch_model.safetensors", TRANSFORMERS: "model.safetensors"}
# What a component is: its grammar, the library that owns it and its class.
KINDS = {
    "unet": (tensors.unet, DIFFUSERS, "UNet2DConditionModel"),
    "vae": (tensors.vae, DIFFUSERS, "AutoencoderKL"),
    "text_encoder": (tensors.clip_text, TRANSFORMERS, "CLIPTextModel"),
    "text_encoder_2": (tensors.clip_text, TRANSFORMERS, "CLIPTextModelWithProjection"),
    "safety_checker": (tensors.safety_checker, "stable_diffusion", "StableDiffusionSafetyChecker"),
}
TINY_VOCAB = 720
COMPONENTS = {"vae": ("vae", configs.VAE_15), "clip-l": ("text_encoder", configs.CLIP_L),
              "bigg": ("text_encoder_2", configs.BIGG),
              "safety": ("safety_checker", configs.SAFETY)}


def write_json(path, document):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.write("\n")


def write_component(folder, kind, config, options, published=None):
    """config.json and weights; a published size is checked against what was written."""
    grammar, library, _ = KINDS[kind]
    write_json(os.path.join(folder, "config.json"), config)
    path = os.path.join(folder, WEIGHTS.get(library, WEIGHTS[TRANSFORMERS]))
    size = store.write_random(path, grammar(config), options.seed, options.dtype)
    if published and size != configs.PUBLISHED[published]:
        raise SystemExit(f"{path}: {size[0]} parameters in {size[1]} tensors, but {published} has "
                         f"{configs.PUBLISHED[published]}")
    print(f"{path}: {size[0]:,} parameters, {size[1]} tensors, {options.dtype}")


def write_pipeline(out, pipeline, parts, scheduler, absent, extra, options):
    """parts: component to (config, published name); tokenizers follow from the text encoders."""
    index = {"_class_name": pipeline, "_diffusers_version": "0.40.0", **extra}
    for name, (config, published) in parts.items():
        folder = os.path.join(out, name)
        if options.share and os.path.isdir(os.path.join(options.share, name)) and name != "unet":
            os.symlink(os.path.relpath(os.path.join(options.share, name), out), folder)
            print(f"{folder}: shared with {options.share}")
        else:
            write_component(folder, name, config, options, published)
        index[name] = [KINDS[name][1], KINDS[name][2]]
    for suffix in ("", "_2"):
        if f"text_encoder{suffix}" in parts:
            config = parts[f"text_encoder{suffix}"][0]
            words, merges = vocab.build(config["vocab_size"], options.merges)
            vocab.save(os.path.join(out, f"tokenizer{suffix}"), words, merges,
                       pad="!" if suffix else vocab.EOS)
            index[f"tokenizer{suffix}"] = [TRANSFORMERS, "CLIPTokenizer"]
    if "safety_checker" in parts:
        size = parts["safety_checker"][0]["vision_config"]["image_size"]
        write_json(os.path.join(out, "feature_extractor", "preprocessor_config.json"),
                   configs.preprocessor(size))
        index["feature_extractor"] = [TRANSFORMERS, "CLIPImageProcessor"]
    write_json(os.path.join(out, "scheduler", "scheduler_config.json"), scheduler)
    index["scheduler"] = [DIFFUSERS, scheduler["_class_name"]]
    index |= {name: [None, None] for name in absent}
    write_json(os.path.join(out, "model_index.json"), index)


def pipeline_parts(model, options):
    """The parts of a pipeline: full size, or those of the tiny configs."""
    full = not model.startswith("tiny")
    kind = "sd15" if model == "tiny" else model.removeprefix("tiny-")
    small = configs.tiny(options.tiny_vocab)
    pick = {
        "sd15": {"unet": (configs.SD15, "sd15.unet"), "vae": (configs.VAE_15, "vae"),
                 "text_encoder": (configs.CLIP_L, "clip-l")},
        "sdxl": {"unet": (configs.SDXL, "sdxl.unet"), "vae": (configs.VAE_XL, "vae"),
                 "text_encoder": (configs.CLIP_L, "clip-l"),
                 "text_encoder_2": (configs.BIGG, "bigg")},
        "refiner": {"unet": (configs.REFINER, "refiner.unet"), "vae": (configs.VAE_XL, "vae"),
                    "text_encoder_2": (configs.BIGG, "bigg")},
    }.get(kind if full else None)
    if pick is None:
        names = {"text_encoder": "text", "text_encoder_2": "text_2"}
        wanted = {"sdxl": ["vae", "text_encoder", "text_encoder_2"],
                  "refiner": ["vae", "text_encoder_2"]}.get(kind, ["vae", "text_encoder"])
        pick = {"unet": (small["unet" if kind == "sd15" else kind], None)}
        for name in wanted:
            large = kind in ("sdxl", "refiner") and name == "vae"
            pick[name] = (small["vae_xl" if large else names.get(name, name)], None)
    if options.safety:
        pick["safety_checker"] = (configs.SAFETY, "safety") if full else (small["safety"], None)
    return kind, pick


def write_model(model, out, options):
    if model in COMPONENTS:
        kind, config = COMPONENTS[model]
        write_component(out, kind, config, options, model)
        return
    kind, parts = pipeline_parts(model, options)
    if kind == "sdxl":
        write_pipeline(out, "StableDiffusionXLPipeline", parts, configs.EULER, [],
                       {"force_zeros_for_empty_prompt": True}, options)
    elif kind == "refiner":
        write_pipeline(out, "StableDiffusionXLImg2ImgPipeline", parts, configs.EULER,
                       ["text_encoder", "tokenizer"],
                       {"force_zeros_for_empty_prompt": False,
                        "requires_aesthetics_score": True}, options)
    else:
        absent = [] if options.safety else ["safety_checker", "feature_extractor"]
        name = "StableDiffusionInpaintPipeline" if kind == "inpaint" else "StableDiffusionPipeline"
        write_pipeline(out, name, parts, configs.PNDM, absent, {}, options)


def options_of(model, seed, dtype, safety=False, share=None, **_):
    """What the writers want to know. A tiny vocabulary has room for its own merges alone."""
    merges = TINY_VOCAB - 2 * 256 - 2 if model.startswith("tiny") else 1000
    return argparse.Namespace(seed=seed, dtype=dtype, safety=safety, share=share, merges=merges,
                              tiny_vocab=TINY_VOCAB)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["sd15", "sdxl", "refiner", *COMPONENTS, "tiny",
                                          "tiny-sdxl", "tiny-refiner", "tiny-inpaint", "tiny-lcm",
                                          "tiny-small"])
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--dtype", choices=list(store.NAMES), default="f16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--safety", action="store_true", help="with a safety checker (SD 1.x)")
    parser.add_argument("--share", metavar="FOLDER",
                        help="link the components that this model folder has, all but the UNet")
    given = parser.parse_args()
    write_model(given.model, given.out, options_of(**vars(given)))


if __name__ == "__main__":
    main()
