"""What the tests share: the goldens' folder, the tiny models, and the promise about imports."""

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(autouse=True)
def neither_torch_nor_diffusers():
    """Nothing that Styx does may import them."""
    yield
    assert "torch" not in sys.modules
    assert "diffusers" not in sys.modules
    assert "transformers" not in sys.modules


@pytest.fixture
def tiny():
    """tiny("tiny_sd15"): the folder of a model that lies there whole."""
    return lambda name: str(GOLDEN / "models" / name)


def open_model(root, entry, cls=None, **options):
    """The pipeline of a manifest entry, with the parts that it borrows from other folders."""
    from styx import diffusers, transformers

    manifest = json.loads((Path(root) / "manifest.json").read_text())
    model = manifest.get("models", {}).get(entry["model"], {"dir": "models/" + entry["model"]})
    folder = Path(root) / model["dir"]
    classes = {"vae": diffusers.AutoencoderKL, "unet": diffusers.UNet2DConditionModel,
               "text_encoder": transformers.CLIPTextModel,
               "text_encoder_2": transformers.CLIPTextModelWithProjection,
               "tokenizer": transformers.CLIPTokenizer,
               "tokenizer_2": transformers.CLIPTokenizer,
               "feature_extractor": transformers.CLIPImageProcessor}
    from styx.diffusers.pipelines.stable_diffusion.safety_checker import \
        StableDiffusionSafetyChecker
    classes["safety_checker"] = StableDiffusionSafetyChecker
    parts = {}
    for name, path in {**model.get("borrow", {}), **entry.get("borrow", {})}.items():
        parts[name] = classes[name].from_pretrained(os.path.join(root, path))
    made = cls or getattr(diffusers, entry["pipeline"])
    pipe = made.from_pretrained(str(folder), **parts, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe
