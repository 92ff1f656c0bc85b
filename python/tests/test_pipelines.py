"""What pipelines promise beyond numbers: diffusers' own behavioural tests, restated."""

import inspect
import json
import os
import shutil

import numpy as np
import pytest
from conftest import GOLDEN, open_model

from styx import diffusers, torch

SD = {"model": "tiny_sd15", "pipeline": "StableDiffusionPipeline"}
XL = {"model": "tiny_sdxl", "pipeline": "StableDiffusionXLPipeline"}
REFINER = {"model": "tiny_refiner", "pipeline": "StableDiffusionXLImg2ImgPipeline"}


@pytest.fixture(scope="module")
def sd():
    return open_model(GOLDEN, SD)


@pytest.fixture(scope="module")
def xl():
    return open_model(GOLDEN, XL)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(pipe, prompt="a castle", seed=0, **call):
    call = {"num_inference_steps": 2, "output_type": "np", "generator": seeded(seed), **call}
    return pipe(prompt, **call).images


# ---- texts

def test_long_prompts_are_cut_and_said_so(sd, caplog):
    short = " ".join(["castle"] * 12)
    long = " ".join(["castle"] * 200)
    assert draw(sd, short).shape == (1, 64, 64, 3)
    assert not caplog.records
    draw(sd, long)
    assert "truncated because CLIP can only handle sequences up to 77 tokens" in caplog.text


def test_batch_equals_singles(sd):
    prompts = ["a castle", "an apple", "a lamp"]
    batch = draw(sd, prompts, generator=[seeded(i) for i in range(3)])
    for i, prompt in enumerate(prompts):
        assert np.abs(batch[i] - draw(sd, prompt, seed=i)[0]).max() < 1e-4


def test_embeddings_equal_text(sd, xl):
    embeds, negative = sd.encode_prompt("a castle", "cpu", 1, True, "blurry")
    given = draw(sd, None, prompt_embeds=embeds, negative_prompt_embeds=negative)
    np.testing.assert_allclose(given, draw(sd, negative_prompt="blurry"), atol=1e-5)
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds",
             "negative_pooled_prompt_embeds")
    arrays = xl.encode_prompt("a castle", negative_prompt="blurry")
    given = draw(xl, None, **dict(zip(names, arrays)))
    np.testing.assert_allclose(given, draw(xl, negative_prompt="blurry"), atol=1e-5)


def test_encode_prompt_shapes(sd, xl):
    embeds, negative = sd.encode_prompt(["a", "b"], "cpu", 2, False)
    assert embeds.shape[0] == 4 and negative is None
    refiner = open_model(GOLDEN, REFINER)
    arrays = refiner.encode_prompt("a", num_images_per_prompt=2)
    assert [x.shape[0] for x in arrays] == [2, 2, 2, 2]
    one = xl.encode_prompt("a")
    assert one[0].shape[2] == xl.unet.config.cross_attention_dim


def test_numpy_and_list_embeddings(sd):
    embeds, negative = sd.encode_prompt("a castle", "cpu", 1, True)
    first = draw(sd, None, prompt_embeds=embeds.numpy(), negative_prompt_embeds=negative.numpy())
    np.testing.assert_array_equal(first, draw(sd, None, prompt_embeds=embeds,
                                              negative_prompt_embeds=negative))


# ---- memory settings change nothing

def test_slicing_changes_nothing(sd):
    before = draw(sd, ["a", "b"])
    sd.enable_vae_slicing()
    after = draw(sd, ["a", "b"])
    sd.disable_vae_slicing()
    np.testing.assert_array_equal(before, after)


def test_tiling_uses_the_tile_size(sd):
    before = draw(sd, height=128, width=128)
    sd.enable_vae_tiling()
    sd.vae.tile_sample_min_size = 64
    after = draw(sd, height=128, width=128)
    sd.disable_vae_tiling()
    assert after.shape == before.shape and np.abs(after - before).max() > 1e-6


def test_settings_that_exist(sd):
    before = draw(sd)
    sd.enable_attention_slicing()
    sd.enable_xformers_memory_efficient_attention()
    sd.disable_attention_slicing()
    np.testing.assert_array_equal(before, draw(sd))


# ---- generators and latents

def test_generator_goes_on(sd):
    generator = seeded(3)
    first, second = draw(sd, generator=generator), draw(sd, generator=generator)
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(first, draw(sd, seed=3))


def test_manual_seed_rules_calls_without_generator(sd):
    torch.manual_seed(5)
    first = draw(sd, generator=None)
    np.testing.assert_array_equal(first, draw(sd, seed=5))


def test_latents_equal_their_noise(sd):
    latents = torch.randn(1, 4, 8, 8, generator=seeded(4))
    np.testing.assert_allclose(draw(sd, latents=latents), draw(sd, seed=4), atol=1e-6)


def test_cuda_generator_without_a_card(sd):
    made = draw(sd, generator=torch.Generator("cuda").manual_seed(0))
    assert np.abs(made - draw(sd, seed=0)).max() > 1e-3


class FakeTorchGenerator:
    """What Styx needs of a torch.Generator: a seed, a device, a state."""

    def __init__(self, seed):
        self.device, self._seed = "cpu", seed

    def initial_seed(self):
        return self._seed

    def get_state(self):
        state = np.zeros(4, "uint8")
        state[0] = self._seed
        return type("State", (), {"numpy": lambda me: state})()


def test_foreign_generators(sd):
    np.testing.assert_array_equal(draw(sd, generator=FakeTorchGenerator(7)), draw(sd, seed=7))
    with pytest.raises(TypeError, match="Generator"):
        draw(sd, generator=7)


# ---- outputs

def test_output_types(sd):
    pil = draw(sd, output_type="pil")[0]
    assert pil.size == (64, 64) and pil.mode == "RGB"
    array = draw(sd, output_type="np")
    tensor = draw(sd, output_type="pt")
    np.testing.assert_array_equal(array, tensor.numpy().transpose(0, 2, 3, 1))
    assert np.abs(np.asarray(pil) / 255 - array[0]).max() <= 0.5 / 255 + 1e-6
    latents = draw(sd, output_type="latent")
    assert latents.shape == (1, 4, 8, 8)
    with pytest.warns(FutureWarning, match="set to `np`"):
        assert np.array_equal(draw(sd, output_type="jpeg"), array)


def test_return_dict(sd, xl):
    images, flags = sd("a", num_inference_steps=1, return_dict=False)
    assert len(images) == 1 and flags is None
    assert len(xl("a", num_inference_steps=1, return_dict=False)) == 1
    out = sd("a", num_inference_steps=1)
    assert out[0] is out.images and out["images"] is out.images and out.to_tuple()[0] is out.images


def test_hand_over_of_latents(xl):
    """denoising_end and denoising_start with shared parts, as base and refiner are used."""
    img2img = diffusers.StableDiffusionXLImg2ImgPipeline(**xl.components)
    img2img.set_progress_bar_config(disable=True)
    latents = draw(xl, num_inference_steps=10, denoising_end=0.8, output_type="latent")
    out = img2img("a castle", image=latents, num_inference_steps=10, denoising_start=0.8,
                  output_type="np", generator=seeded())
    whole = draw(xl, num_inference_steps=10)
    np.testing.assert_allclose(out.images, whole, atol=1e-4)


# ---- callbacks

def test_callback_sees_and_changes(sd):
    seen = []

    def look(pipe, i, t, arrays):
        assert pipe is sd
        seen.append((i, int(t), arrays["latents"].shape, arrays["prompt_embeds"].shape))
        return arrays

    draw(sd, num_inference_steps=3, callback_on_step_end=look,
         callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"])
    assert [s[0] for s in seen] == [0, 1, 2, 3]  # PNDM repeats its second timestep
    assert seen[0][2:] == ((1, 4, 8, 8), (2, 77, 16))

    def zero(pipe, i, t, arrays):
        if i == pipe.num_timesteps - 1:
            arrays["latents"] = arrays["latents"] * 0
        return arrays

    latents = draw(sd, output_type="latent", callback_on_step_end=zero)
    assert not latents.numpy().any()


def previews(pipe, every=1, **call):
    seen = []
    pipe.set_preview(every, lambda step, picture: seen.append((step, picture)))
    images = draw(pipe, **call)
    pipe.set_preview(0)
    draw(pipe)
    return seen, images[0]


def test_previews_come_every_so_often_and_last(sd):
    seen, _ = previews(sd, 2, num_inference_steps=5)
    assert [(step, picture.size) for step, picture in seen] == [(i, (8, 8)) for i in (1, 3, 4)]


def test_a_vae_tells_the_colours_of_its_previews(tiny, tmp_path):
    folder = shutil.copytree(tiny("tiny_sd15"), tmp_path / "coloured")
    config = json.loads((folder / "vae" / "config.json").read_text())
    config["_latent_colours"] = [0] * 12 + [0.2, 0.4, 0.6]
    (folder / "vae" / "config.json").write_text(json.dumps(config))
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(str(folder))
    seen, _ = previews(pipe)
    assert all(picture.tobytes() == bytes([51, 102, 153]) * 64 for _, picture in seen)
    assert len(seen) == 2


def test_previews_of_the_bundled_model_resemble_its_pictures():
    pipe = diffusers.StableDiffusionPipeline.from_pretrained("styx-emoji")
    pipe.set_progress_bar_config(disable=True)
    seen, image = previews(pipe, prompt="a red apple", num_inference_steps=8)
    preview = np.frombuffer(seen[-1][1].tobytes(), "u1").reshape(32, 32, 3) / 255
    small = image.reshape(32, 8, 32, 8, 3).mean((1, 3))
    assert np.sqrt(np.square(preview - small).mean()) < 0.1  # with the colours of SD 1.5: 0.2


def test_callback_in_place(sd):
    def zero(pipe, i, t, arrays):
        arrays["latents"].numpy()[:] = 0
        return arrays

    assert not draw(sd, output_type="latent", callback_on_step_end=zero).numpy().any()


def test_interrupt(sd):
    kept = []

    def stop(pipe, i, t, arrays):
        kept.append(arrays["latents"].numpy().copy())
        pipe._interrupt = i == 1
        return arrays

    latents = draw(sd, num_inference_steps=10, output_type="latent", callback_on_step_end=stop)
    assert len(kept) == 2
    np.testing.assert_array_equal(latents.numpy(), kept[1])


def test_guidance_switched_off_on_the_way(sd):
    def off(pipe, i, t, arrays):
        if i == 1:
            pipe._guidance_scale = 0.0
            arrays["prompt_embeds"] = arrays["prompt_embeds"].chunk(2)[-1]
        return arrays

    call = dict(num_inference_steps=5, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    made = draw(sd, callback_on_step_end=off, **call)
    assert np.isfinite(made).all() and np.abs(made - draw(sd, num_inference_steps=5)).max() > 1e-4


def test_guidance_rescaled_on_the_way(sd):
    def rescale(pipe, i, t, arrays):
        pipe._guidance_rescale = 0.7
        return arrays

    call = dict(num_inference_steps=2, output_type="latent")
    first, kept = [], []
    for into, options in ((first, {}), (kept, {"callback_on_step_end": rescale})):
        sd.set_trace(lambda name, x, into=into: name == "latents.000" and into.append(x.numpy()))
        into.append(draw(sd, **call, **options).numpy())
    sd.set_trace(None)
    np.testing.assert_array_equal(first[0], kept[0])
    assert np.abs(first[1] - kept[1]).max() > 1e-3
    assert np.abs(kept[1] - draw(sd, guidance_rescale=0.7, **call).numpy()).max() > 1e-3


def test_callback_exceptions_come_through(sd):
    def fail(pipe, i, t, arrays):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        draw(sd, callback_on_step_end=fail)
    assert draw(sd).shape == (1, 64, 64, 3)


def test_callback_may_decode(sd):
    sizes = []

    def decode(pipe, i, t, arrays):
        sizes.append(pipe.vae.decode(arrays["latents"] / 0.18215).sample.shape)
        return arrays

    draw(sd, callback_on_step_end=decode)
    assert set(sizes) == {(1, 3, 64, 64)}


def test_old_callback(sd):
    seen = []
    with pytest.warns(FutureWarning, match="callback"):
        draw(sd, callback=lambda i, t, x: seen.append((i, x.shape)), callback_steps=2)
    assert seen


def test_micro_conditioning_of_callbacks(xl):
    shapes = {}

    def look(pipe, i, t, arrays):
        shapes.update({k: v.shape for k, v in arrays.items()})
        return {}

    draw(xl, callback_on_step_end=look,
         callback_on_step_end_tensor_inputs=["add_text_embeds", "add_time_ids"])
    assert shapes["add_time_ids"] == (2, 6) and shapes["add_text_embeds"][0] == 2


# ---- bad input

@pytest.mark.parametrize("call, error, words", [
    (dict(prompt=None), ValueError, "Provide either `prompt` or `prompt_embeds`"),
    (dict(prompt=3), ValueError, "has to be of type `str` or `list`"),
    (dict(prompt=["a", 3]), ValueError, "list of `str`"),
    (dict(prompt=[]), ValueError, "empty"),
    (dict(prompt_embeds=np.zeros((1, 77, 16), "f")), ValueError, "Cannot forward both"),
    (dict(height=65), ValueError, "divisible by 8"),
    (dict(height="64"), TypeError, "whole numbers"),
    (dict(num_inference_steps=0), ValueError, "positive integer"),
    (dict(num_inference_steps=2.5), ValueError, "positive integer"),
    (dict(timesteps=[9], sigmas=[1.0]), ValueError, "Only one of"),
    (dict(negative_prompt=["a"]), TypeError, "same type"),
    (dict(generator=[torch.Generator(), torch.Generator()]), ValueError, "list of generators"),
    (dict(generator=[torch.Generator()], num_images_per_prompt=2), ValueError, "of length 1"),
    (dict(latents=np.zeros((2, 4, 8, 8), "f")), ValueError, "latents"),
    (dict(callback_on_step_end_tensor_inputs=["noise"]), ValueError, "has to be in"),
    (dict(ip_adapter_image=1), NotImplementedError, "ip_adapter_image"),
    (dict(cross_attention_kwargs={"gligen": 1}), NotImplementedError, "knows 'scale'"),
    (dict(colour="red"), TypeError, "colour"),
])
def test_bad_calls(sd, call, error, words):
    with pytest.raises(error, match=words):
        sd(**{"prompt": "a", "num_inference_steps": 1, **call})


def test_a_part_of_a_picture(sd):
    from PIL import Image

    pipe = diffusers.StableDiffusionInpaintPipeline(**sd.components)
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 256, (70, 90, 3), "uint8")
    mask = np.zeros((70, 90), "uint8")
    mask[20:40, 50:70] = 255
    call = {"prompt": "a", "image": Image.fromarray(whole), "mask_image": Image.fromarray(mask),
            "num_inference_steps": 2, "padding_mask_crop": 4}
    changed = np.asarray(pipe(**call).images[0]) != whole
    assert changed[mask == 255].mean() > 0.5 and not changed[mask == 0].any()
    for bad, words in (({"output_type": "np"}, "output type should be PIL"),
                       ({"image": whole}, "`image` should be a PIL image"),
                       ({"mask_image": mask}, "`mask_image` should be a PIL image"),
                       ({"mask_image": Image.fromarray(mask[:9])}, "do not match"),
                       ({"mask_image": Image.fromarray(0 * mask)}, "is black")):
        with pytest.raises(ValueError, match=words):
            pipe(**{**call, **bad})


def test_masks_of_bits_keep_their_pixels(sd):
    from PIL import Image

    pipe = diffusers.StableDiffusionInpaintPipeline(**sd.components)
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (64, 64, 3), "uint8"))
    mask = Image.fromarray(255 * rng.integers(0, 2, (90, 70), "uint8"))

    def paint(mask):
        return draw(pipe, image=picture, mask_image=mask, num_inference_steps=2)

    nearest = paint(mask.resize((64, 64), Image.NEAREST))
    assert np.array_equal(paint(mask.convert("1")), nearest)
    assert np.array_equal(paint(mask.convert("P")), nearest)
    assert not np.array_equal(paint(mask), nearest)


def test_bad_lists(xl):
    with pytest.raises(ValueError, match="batch size 3"):
        xl(["a", "b"], negative_prompt=["x", "y", "z"], num_inference_steps=1)
    embeds = xl.encode_prompt("a")[0]
    with pytest.raises(ValueError, match="pooled_prompt_embeds"):
        xl(prompt_embeds=embeds, num_inference_steps=1)


def test_negatives_that_nobody_looks_at(sd):
    """Without guidance diffusers does not compare them with the prompt."""
    images = draw(sd, negative_prompt=["x", "y"], guidance_scale=1.0)
    assert np.array_equal(images, draw(sd, guidance_scale=1.0))


def test_steps_beside_a_schedule_do_not_count(xl):
    images = draw(xl, sigmas=[9.0, 3.0], num_inference_steps=-1)
    assert np.array_equal(images, draw(xl, sigmas=[9.0, 3.0]))


def test_latents_decide_the_size(sd, xl):
    latents = np.random.default_rng(0).standard_normal((1, 4, 5, 9)).astype("f")
    assert draw(sd, latents=latents, height=64, width=64).shape == (1, 40, 72, 3)
    told = draw(xl, latents=latents, height=32, width=48)
    sizes = {"original_size": (32, 48), "target_size": (32, 48)}
    assert np.array_equal(told, draw(xl, latents=latents, **sizes))
    assert not np.array_equal(told, draw(xl, latents=latents))


def test_second_negative_alone(xl):
    """Where None is the empty text and not zeros, negative_prompt_2 counts by itself."""
    pipe = diffusers.StableDiffusionXLPipeline(**xl.components, force_zeros_for_empty_prompt=False)
    alone = pipe.encode_prompt("a", negative_prompt_2="x")
    both = pipe.encode_prompt("a", negative_prompt="", negative_prompt_2="x")
    none = pipe.encode_prompt("a")
    assert np.array_equal(alone[1].numpy(), both[1].numpy())
    assert not np.array_equal(alone[1].numpy(), none[1].numpy())


def test_pictures_of_bytes_in_one_array(sd):
    from PIL import Image

    img2img = diffusers.StableDiffusionImg2ImgPipeline(**sd.components)
    img2img.set_progress_bar_config(disable=True)
    bytes_ = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3)).astype("uint8")
    images = draw(img2img, prompt=["a", "b"], image=bytes_)
    assert np.array_equal(images, draw(img2img, prompt=["a", "b"],
                                       image=[Image.fromarray(x) for x in bytes_]))


def test_bad_images(sd):
    from PIL import Image

    img2img = diffusers.StableDiffusionImg2ImgPipeline(**sd.components)
    img2img.set_progress_bar_config(disable=True)
    with pytest.raises(ValueError, match="cannot be undefined"):
        img2img("a")
    with pytest.raises(ValueError, match="incorrect format"):
        img2img("a", image="picture.png")
    with pytest.raises(ValueError, match="strength"):
        img2img("a", image=Image.new("RGB", (64, 64)), strength=1.5)
    grey = img2img("a", image=Image.new("RGBA", (70, 64)), num_inference_steps=2, strength=1.0)
    assert grey.images[0].size == (64, 64)


def test_bad_folders(tmp_path, tiny):
    cls = diffusers.StableDiffusionPipeline
    with pytest.raises(OSError, match="no such folder"):
        cls.from_pretrained(str(tmp_path / "nothing"))
    with pytest.raises(OSError, match="model_index.json"):
        cls.from_pretrained(tmp_path)
    with pytest.raises(OSError, match="styx pull nobody/nothing"):
        cls.from_pretrained("nobody/nothing", cache_dir=tmp_path)
    with pytest.raises(OSError, match="no folder vae"):
        cls.from_pretrained(tiny("tiny_inpaint"))
    with pytest.raises(TypeError, match="colour"):
        cls.from_pretrained(tiny("tiny_sd15"), colour=1)
    with pytest.raises(ValueError, match="expected|missing|belong|UNet"):
        cls.from_pretrained(tiny("tiny_sdxl"))("a", num_inference_steps=1)
    broken = tmp_path / "broken"
    shutil.copytree(tiny("tiny_sd15"), broken)
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(OSError, match="unet"):
        cls.from_pretrained(broken)
    with pytest.raises(ValueError, match="vae"):
        cls.from_pretrained(tiny("tiny_sd15"), vae="a vae")


# ---- components

def test_signatures_are_diffusers_own():
    wanted = json.loads((GOLDEN.parents[1] / "python" / "tests" / "signatures.json").read_text())
    for name, parameters in wanted.items():
        got = inspect.signature(getattr(diffusers, name).__call__).parameters
        mine = [[p.name, list(p.default) if isinstance(p.default, tuple) else p.default]
                for p in got.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
        assert mine == parameters, name


def test_sharing_and_replacing(sd, tiny):
    other = diffusers.StableDiffusionPipeline(**sd.components)
    assert other.vae is sd.vae and list(other.components) == list(sd.components)
    other.set_progress_bar_config(disable=True)
    np.testing.assert_array_equal(draw(other), draw(sd))
    from styx.transformers import CLIPTokenizer

    other.tokenizer = CLIPTokenizer.from_pretrained(tiny("tiny_sdxl"), subfolder="tokenizer")
    assert other.tokenizer is not sd.tokenizer
    np.testing.assert_array_equal(draw(other), draw(sd))  # the same vocabulary
    with pytest.raises(ValueError, match="tokenizer"):
        other.tokenizer = "words"
    with pytest.raises(AttributeError):
        other.text_encoder_3


def test_auto_and_from_pipe(sd, xl, tiny):
    image = diffusers.AutoPipelineForImage2Image.from_pipe(sd)
    assert type(image) is diffusers.StableDiffusionImg2ImgPipeline and image.unet is sd.unet
    back = diffusers.AutoPipelineForText2Image.from_pipe(image)
    assert type(back) is diffusers.StableDiffusionPipeline
    paint = diffusers.AutoPipelineForInpainting.from_pretrained(tiny("tiny_sdxl"))
    assert type(paint) is diffusers.StableDiffusionXLInpaintPipeline
    assert type(diffusers.DiffusionPipeline.from_pretrained(tiny("tiny_sd15"))) is \
        diffusers.StableDiffusionPipeline
    with pytest.raises(OSError):
        diffusers.AutoPipelineForText2Image()
    with pytest.raises(ValueError, match="text_encoder_2"):
        diffusers.StableDiffusionXLPipeline(**{**xl.components, "text_encoder_2": 3})
    with pytest.raises(TypeError, match="text_encoder"):
        diffusers.StableDiffusionPipeline(vae=sd.vae, unet=sd.unet)


def test_save_and_cache(sd, tmp_path, monkeypatch):
    sd.save_pretrained(tmp_path / "copy")
    copy = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "copy")
    copy.set_progress_bar_config(disable=True)
    np.testing.assert_array_equal(draw(copy), draw(sd))
    hub = tmp_path / "hub"
    model = hub / "models--me--castle"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("abc123")
    shutil.copytree(tmp_path / "copy", model / "snapshots" / "abc123")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert diffusers.StableDiffusionPipeline.from_pretrained("me/castle").config._name_or_path \
        == "me/castle"
    with pytest.raises(OSError, match="styx pull"):
        diffusers.StableDiffusionPipeline.from_pretrained("me/castle", revision="old")


def test_offloading(tiny, caplog):
    pipe = open_model(GOLDEN, SD)
    pipe.enable_model_cpu_offload()
    pipe.to("cuda")
    assert "individual components vae, text_encoder, tokenizer, unet, scheduler" in caplog.text
    caplog.clear()
    shared = diffusers.StableDiffusionImg2ImgPipeline(**pipe.components)
    shared.to("cuda")
    assert "activated model offloading" in caplog.text
    pipe.remove_all_hooks()
    pipe.enable_sequential_cpu_offload()
    with pytest.raises(ValueError, match="sequential model offloading"):
        pipe.to("cuda")
    assert pipe.to("cpu").device.type == "cpu"


def test_dtypes(tiny):
    from styx.diffusers import StableDiffusionPipeline as Pipe

    for given in (torch.float16, "float16", np.float16):
        assert Pipe.from_pretrained(tiny("tiny_sd15"), torch_dtype=given).dtype == torch.float16
    pipe = Pipe.from_pretrained(tiny("tiny_sd15"), torch_dtype=torch.bfloat16)
    assert pipe.unet.dtype == torch.bfloat16
    pipe.set_progress_bar_config(disable=True)
    assert draw(pipe).shape == (1, 64, 64, 3)
    assert pipe.to(torch.float32).dtype == torch.float32


def test_safety_checker_blackens(caplog):
    entry = {**SD, "borrow": {"safety_checker": "models/tiny_safety/safety_checker",
                              "feature_extractor": "models/tiny_safety/feature_extractor"}}
    pipe = open_model(GOLDEN, entry)
    out = pipe(["a castle"] * 3, num_inference_steps=1, generator=seeded())
    flags = out.nsfw_content_detected
    assert len(flags) == 3 and all(isinstance(f, bool) for f in flags)
    for image, bad in zip(out.images, flags):
        assert np.asarray(image).any() != bad
    assert ("NSFW" in caplog.text) == any(flags)
    pipe.safety_checker = None
    assert pipe("a", num_inference_steps=1).nsfw_content_detected is None


def test_hand_written_loop(sd):
    """The pipeline's parts called one by one give what the pipeline gives."""
    scheduler = diffusers.DDIMScheduler.from_config(sd.scheduler.config)
    pipe = diffusers.StableDiffusionPipeline(**{**sd.components, "scheduler": scheduler})
    pipe.set_progress_bar_config(disable=True)
    embeds, negative = pipe.encode_prompt("a castle", "cpu", 1, True)
    context = torch.cat([negative, embeds])
    latents = torch.randn(1, 4, 8, 8, generator=seeded()) * scheduler.init_noise_sigma
    scheduler.set_timesteps(4)
    for t in scheduler.timesteps:
        x = scheduler.scale_model_input(torch.cat([latents, latents]), t)
        empty, text = pipe.unet(x, t, encoder_hidden_states=context).sample.chunk(2)
        latents = scheduler.step(empty + 7.5 * (text - empty), t, latents).prev_sample
    image = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    image = (image / 2 + 0.5).clamp(0, 1).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(image, draw(pipe, num_inference_steps=4), atol=1e-4)


def test_from_single_file_says_what_is_wrong(tmp_path):
    with pytest.raises(OSError, match="no such file"):
        diffusers.StableDiffusionPipeline.from_single_file(tmp_path / "model.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises((OSError, NotImplementedError), match="bad.safetensors"):
        diffusers.StableDiffusionPipeline.from_single_file(tmp_path / "bad.safetensors")


def test_from_single_file_by_its_name_in_the_cache(tmp_path):
    snapshot = tmp_path / "models--local--x" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "one.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises((OSError, NotImplementedError), match="main/one.safetensors"):
        diffusers.StableDiffusionPipeline.from_single_file("local/x", cache_dir=tmp_path)
    (snapshot / "two.gguf").write_bytes(b"")
    with pytest.raises(OSError, match="not just one checkpoint file"):
        diffusers.StableDiffusionPipeline.from_single_file("local/x", cache_dir=tmp_path)


@pytest.mark.skipif(not os.environ.get("STYX_GOLDENS"), reason="a single file lies there")
def test_from_single_file():
    root = os.environ["STYX_GOLDENS"]
    file = next(os.path.join(root, "single_file", f)
                for f in os.listdir(os.path.join(root, "single_file"))
                if f.endswith(".safetensors"))
    pipe = diffusers.StableDiffusionPipeline.from_single_file(
        file, config=os.path.join(root, "models", "tiny_sd15"))
    assert draw(pipe).ndim == 4
