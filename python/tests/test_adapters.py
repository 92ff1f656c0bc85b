"""LoRA and textual inversion through the pipelines: what diffusers 0.40 with PEFT does, restated.
The numbers themselves are in test_golden."""

import numpy as np
import pytest
from conftest import GOLDEN, open_model
from test_pipelines import SD, XL, draw

from styx import diffusers

EXTRAS = GOLDEN / "extras"
KOHYA, OLD = str(EXTRAS / "lora_kohya.safetensors"), str(EXTRAS / "lora_old.safetensors")
TO_V = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_v"


@pytest.fixture
def sd():
    return open_model(GOLDEN, SD)


def arrays(seed=0, key=TO_V, size=12):
    rng = np.random.default_rng(seed)
    return {f"{key}.lora_A.weight": rng.standard_normal((2, size), "f"),
            f"{key}.lora_B.weight": rng.standard_normal((size, 2), "f")}


def same(a, b):
    return np.array_equal(a, b)


def test_switching(sd):
    plain = draw(sd)
    sd.load_lora_weights(KOHYA, adapter_name="k")
    k = draw(sd)
    assert not same(k, plain)
    sd.load_lora_weights(arrays(), adapter_name="a")
    assert sd.get_list_adapters() == {"unet": ["k", "a"], "text_encoder": ["k"]}
    assert sd.get_active_adapters() == ["a"]  # as PEFT has it: the last one loaded
    sd.set_adapters("k")
    assert same(draw(sd), k)
    sd.set_adapters(["k", "a"], [0.5, 2.0])
    both = draw(sd)
    assert sd.get_active_adapters() == ["k", "a"]
    sd.disable_lora()
    assert same(draw(sd), plain)
    sd.enable_lora()
    assert same(draw(sd), both)
    sd.set_adapters(["k", "a"], [1.0, 4.0])
    assert same(draw(sd, cross_attention_kwargs={"scale": 0.5}), both)
    sd.delete_adapters("a")
    assert same(draw(sd), k)
    sd.unload_lora_weights()
    assert same(draw(sd), plain) and sd.get_list_adapters() == {}


def test_weights_for_one_component(sd, caplog):
    sd.load_lora_weights(KOHYA, adapter_name="k")
    plain = sd.encode_prompt("a castle", lora_scale=0.0)[0].numpy()
    assert not same(sd.encode_prompt("a castle")[0].numpy(), plain)
    sd.set_adapters("k", {"unet": 1.0, "text_encoder": 0.0, "vae": 1.0})
    assert "vae is not a component" in caplog.text
    assert same(sd.encode_prompt("a castle")[0].numpy(), plain)
    with pytest.raises(NotImplementedError, match="one for each block"):
        sd.set_adapters("k", {"unet": {"down": 1.0}})


def test_shared_by_pipelines(sd):
    other = diffusers.StableDiffusionPipeline(**sd.components)
    other.set_progress_bar_config(disable=True)
    plain = draw(other)
    sd.load_lora_weights(OLD)
    assert same(draw(other), draw(sd)) and not same(draw(other), plain)
    assert other.get_list_adapters()["unet"] == ["default_0"]


def test_components_by_themselves(sd):
    x = np.random.default_rng(0).standard_normal((1, 4, 8, 8), "f")
    text = sd.encode_prompt("a castle")[0]
    plain = sd.unet(x, 10, text).sample.numpy()
    sd.load_lora_weights(arrays())
    assert not same(sd.unet(x, 10, text).sample.numpy(), plain)
    off = sd.unet(x, 10, text, cross_attention_kwargs={"scale": 0.0}).sample.numpy()
    np.testing.assert_allclose(off, plain, atol=1e-6)


def test_fused(sd):
    plain = draw(sd)
    sd.load_lora_weights(arrays(), adapter_name="a")
    sd.set_adapters("a", 0.5)
    half = draw(sd)
    sd.set_adapters("a")
    sd.fuse_lora(lora_scale=0.5)
    assert same(draw(sd), half) and sd.fused_loras == {"a"} and sd.num_fused_loras == 1
    assert same(draw(sd, cross_attention_kwargs={"scale": 0.1}), half)
    sd.load_lora_weights(arrays(1), adapter_name="b")
    assert same(draw(sd), half)  # what is active beside a fused one does nothing
    sd.unfuse_lora()
    sd.delete_adapters("b")
    sd.set_adapters("a", 0.5)
    assert same(draw(sd), half)
    sd.fuse_lora(components=["unet"], adapter_names=["a"])
    sd.unload_lora_weights()
    assert same(draw(sd), half) and not same(half, plain)
    with pytest.raises(ValueError, match="vae is not found"):
        sd.fuse_lora(components=["vae"])
    with pytest.raises(ValueError, match="cannot be an empty list"):
        sd.fuse_lora(components=[])


def test_hotswap(sd):
    sd.load_lora_weights(arrays(1), adapter_name="a")
    wanted = draw(sd)
    sd.load_lora_weights(arrays(2), adapter_name="a", hotswap=True)
    assert not same(draw(sd), wanted)
    sd.load_lora_weights(arrays(1), adapter_name="a", hotswap=True)
    assert same(draw(sd), wanted)
    with pytest.raises(ValueError, match="no existing adapter"):
        sd.load_lora_weights(arrays(1), adapter_name="b", hotswap=True)


def test_files(sd, tmp_path):
    sd.load_lora_weights(EXTRAS, weight_name="lora_old.safetensors")
    with pytest.raises(ValueError, match="more than one file of weights"):
        sd.load_lora_weights(EXTRAS)
    with pytest.raises(OSError, match="no file named nothing.safetensors"):
        sd.load_lora_weights(EXTRAS, weight_name="nothing.safetensors")
    with pytest.raises(OSError, match="styx pull some/lora"):
        sd.load_lora_weights("some/lora", cache_dir=tmp_path)
    (tmp_path / "pytorch_lora_weights.bin").write_bytes(b"\x80\x02")
    with pytest.raises(OSError, match="no file named pytorch_lora_weights.safetensors"):
        sd.load_lora_weights(tmp_path)


def test_refused(sd, caplog):
    sd.load_lora_weights(arrays(), adapter_name="a")
    before = draw(sd)
    with pytest.raises(ValueError, match="Adapter name a already in use"):
        sd.load_lora_weights(arrays(1), adapter_name="a")
    with pytest.raises(ValueError, match="not in the list of present adapters"):
        sd.set_adapters("b")
    with pytest.raises(ValueError, match="Length of adapter names 1"):
        sd.set_adapters("a", [1.0, 2.0])
    with pytest.raises(ValueError, match="no key of this LoRA belongs"):
        sd.load_lora_weights(arrays(key="unet.nowhere"), adapter_name="c")
    with pytest.raises((OSError, ValueError), match="do not fit"):
        sd.load_lora_weights(arrays(size=11), adapter_name="c")
    with pytest.raises(NotImplementedError, match="DoRA"):
        sd.load_lora_weights({**arrays(), TO_V + ".dora_scale": np.zeros(12, "f")})
    assert same(draw(sd), before) and sd.get_list_adapters() == {"unet": ["a"]}
    sd.load_lora_weights({**arrays(), **arrays(key="unet.nowhere")}, adapter_name="c")
    assert "unet.nowhere.lora_A.weight" in caplog.text


def prompt(pipe, text):
    return [x.numpy() for x in pipe.encode_prompt(text) if x is not None]


def test_words(sd):
    rng = np.random.default_rng(0)
    plain = prompt(sd, "a <x>")[0]
    sd.load_textual_inversion(rng.standard_normal((2, 16), "f"), token="<x>")
    one = prompt(sd, "a <x>")[0]
    assert not same(one, plain)
    sd.load_textual_inversion({"<y>": rng.standard_normal(16, "f")})
    assert same(prompt(sd, "a <x>")[0], one)
    assert len(sd.tokenizer("<y>").input_ids) == 3
    sd.load_lora_weights(KOHYA)  # over the longer table
    with pytest.raises(ValueError, match="'<x>' is in the vocabulary already"):
        sd.load_textual_inversion(rng.standard_normal((1, 16), "f"), token="<x>")
    sd.unload_lora_weights()
    sd.unload_textual_inversion("<y>")
    assert same(prompt(sd, "a <x>")[0], one)
    sd.unload_textual_inversion()
    assert same(prompt(sd, "a <x>")[0], plain)


def test_words_of_two_encoders():
    rng = np.random.default_rng(0)
    pair = {k: rng.standard_normal((2, n), "f") for k, n in (("clip_l", 16), ("clip_g", 24))}
    together, apart = open_model(GOLDEN, XL), open_model(GOLDEN, XL)
    together.load_textual_inversion(pair, token="<x>")
    apart.load_textual_inversion(pair["clip_l"], token=["<x>", "<x>_1"],
                                 tokenizer=apart.tokenizer, text_encoder=apart.text_encoder)
    apart.load_textual_inversion(pair["clip_g"], token="<x>", tokenizer=apart.tokenizer_2,
                                 text_encoder=apart.text_encoder_2)
    for a, b in zip(prompt(together, "a <x>"), prompt(apart, "a <x>")):
        assert same(a, b)


@pytest.mark.parametrize("given, token, error, says", [
    (np.zeros((1, 7), "f"), "<x>", ValueError, "its vectors have 7 numbers"),
    (np.zeros((1, 16), "f"), None, ValueError, "token=..."),
    ({"a": np.zeros(16, "f"), "b": np.zeros(16, "f")}, None, ValueError, "single key"),
    ([np.zeros(16, "f")] * 2, ["<x>"], ValueError, "Make sure both lists have the same length"),
    ([np.zeros(16, "f")] * 2, ["<x>", "<x>"], ValueError, "duplicates"),
    ("/nowhere", None, OSError, "/nowhere"),
    (EXTRAS, None, OSError, "learned_embeds.safetensors"),
])
def test_words_refused(sd, given, token, error, says):
    with pytest.raises(error, match=says):
        sd.load_textual_inversion(given, token=token)
    with pytest.raises(ValueError, match="No tokens to remove"):
        sd.unload_textual_inversion("<x>")
