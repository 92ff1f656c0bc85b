"""Schedulers as objects: diffusers' loops, its rules for configs, and arrays of all kinds."""

import json

import numpy as np
import pytest
from conftest import GOLDEN

from styx import _core, diffusers, torch

MATRIX = json.loads((GOLDEN / "schedulers.json").read_text())["matrix"]
ARRAYS = {k: np.asarray(v) for k, v in
          _core.tensors_load(str(GOLDEN / "schedulers.safetensors")).items()}


def first_sample():
    x = np.arange(768, dtype="float32").reshape(3, 8, 8, 4) / np.float32(768)
    return np.ascontiguousarray(x.transpose(3, 0, 1, 2))


def near(got, want):
    return np.abs(got - want).max() <= 1e-4 * max(1, np.abs(want).max())


@pytest.mark.parametrize("entry", MATRIX, ids=lambda e: f"{e['key']}-{e['class']}")
def test_loops(entry):
    scheduler = getattr(diffusers, entry["class"])(**entry["config"])
    scheduler.set_timesteps(entry["steps"])
    assert scheduler.order == entry["order"]
    assert near(scheduler.init_noise_sigma, np.float64(entry["init_noise_sigma"]))
    np.testing.assert_allclose(scheduler.timesteps.numpy(), entry["timesteps"], rtol=1e-5,
                               atol=1e-3)
    if "sigmas" in entry:
        assert near(scheduler.sigmas.numpy(), np.asarray(entry["sigmas"]))
    x = torch.from_numpy(first_sample() * np.float32(scheduler.init_noise_sigma))
    generator = torch.Generator().manual_seed(0)
    for t in scheduler.timesteps:
        x = scheduler.scale_model_input(x, t)
        output = x * (float(t) / (float(t) + 1))
        x = scheduler.step(output, t, x, generator=generator, **entry["step_kw"]).prev_sample
    assert near(x.numpy().ravel()[::37], ARRAYS[entry["key"]])


def test_all_classes_are_there():
    from styx.diffusers.schedulers import CLASSES

    assert {e["class"] for e in MATRIX} <= set(CLASSES)
    for name in CLASSES:
        scheduler = getattr(diffusers, name)()
        assert scheduler.config["_class_name"] == name and len(scheduler) == 1000
        again = getattr(diffusers, name).from_config(scheduler.config)
        assert dict(again.config) == dict(scheduler.config)


def test_from_config_drops_what_was_only_a_default():
    pndm = diffusers.PNDMScheduler(beta_schedule="scaled_linear", steps_offset=1)
    assert "timestep_spacing" in pndm.config["_use_default_values"]
    euler = diffusers.EulerDiscreteScheduler.from_config(pndm.config)
    assert euler.config.timestep_spacing == "linspace"  # not PNDM's "leading"
    assert euler.config.steps_offset == 1 and euler.config.beta_schedule == "scaled_linear"
    given = diffusers.PNDMScheduler(timestep_spacing="leading")
    assert diffusers.EulerDiscreteScheduler.from_config(given.config).config.timestep_spacing \
        == "leading"
    karras = diffusers.DPMSolverMultistepScheduler.from_config(given.config,
                                                               use_karras_sigmas=True)
    assert karras.config.use_karras_sigmas is True
    assert karras.config.lambda_min_clipped == -np.inf


def test_pipelines_correct_the_scheduler_they_are_made_with(tiny):
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny("tiny_sd15"))
    later = diffusers.DDIMScheduler(steps_offset=0, clip_sample=True)
    made = diffusers.StableDiffusionPipeline(**{**pipe.components, "scheduler": later})
    assert made.scheduler.config.steps_offset == 1 and made.scheduler.config.clip_sample is False
    pipe.scheduler = diffusers.DDIMScheduler(steps_offset=0, clip_sample=True)
    assert pipe.scheduler.config.steps_offset == 0  # assigned later: left alone


def test_files(tmp_path):
    scheduler = diffusers.UniPCMultistepScheduler(solver_order=3)
    scheduler.save_pretrained(tmp_path / "scheduler")
    again = diffusers.UniPCMultistepScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    assert again.config.solver_order == 3
    with pytest.raises(OSError, match="scheduler_config.json"):
        diffusers.UniPCMultistepScheduler.from_pretrained(tmp_path)


def test_add_noise_and_the_kinds_of_arrays():
    scheduler = diffusers.DDPMScheduler()
    x = np.ones((2, 4, 8, 8), "float64")
    eps = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    both = scheduler.add_noise(x, eps, [10, 500]).numpy()
    first = scheduler.add_noise(x[:1], eps[:1], 10).numpy()
    np.testing.assert_allclose(both[:1], first, atol=1e-6)
    every = scheduler.add_noise(x, eps, np.array([500])).numpy()
    np.testing.assert_allclose(every[1], both[1], atol=1e-6)
    scheduler.set_timesteps(3)
    out = scheduler.step(x, scheduler.timesteps[0], x, generator=torch.Generator().manual_seed(0),
                         return_dict=False)
    assert isinstance(out, tuple) and out[0].shape == (2, 4, 8, 8)
    with pytest.raises(ValueError, match="numbers"):
        scheduler.step(x, 1, x[:1])


@pytest.mark.parametrize("make, error, words", [
    (lambda: diffusers.DDIMScheduler(colour=1), TypeError, "colour"),
    (lambda: diffusers.DDIMScheduler(beta_schedule="round"), (ValueError, NotImplementedError),
     "round"),
    (lambda: diffusers.DDIMScheduler().set_timesteps(), ValueError, "exactly one"),
    (lambda: diffusers.DDIMScheduler().set_timesteps(2000), ValueError, "2000|1000"),
    (lambda: diffusers.DDIMScheduler().step([1.0], 1, [1.0]), ValueError, "set_timesteps"),
    (lambda: diffusers.DDIMScheduler.from_config("a/folder"), TypeError, "from_pretrained"),
    (lambda: diffusers.DDIMScheduler().sigmas, AttributeError, "sigmas"),
])
def test_mistakes(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_tensors():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert (x + 1).tolist() == [[2.0, 3.0], [4.0, 5.0]] and (2 * x)[1, 0].item() == 6.0
    assert np.asarray(x).base is not None and np.shares_memory(np.asarray(x), x.numpy())
    assert x[0].shape == (2,) and x[-1].tolist() == [3.0, 4.0] and len(list(x)) == 2
    assert x.chunk(2)[1].shape == (1, 2) and torch.cat([x, x]).shape == (4, 2)
    assert torch.stack([x, x], dim=1).shape == (2, 2, 2) and x.reshape(-1).shape == (4,)
    assert x.unsqueeze(0).squeeze(0).shape == (2, 2) and x.permute(1, 0)[0].tolist() == [1.0, 3.0]
    assert x.to("cpu").to(torch.float16).dtype == torch.float16 and x.mean().item() == 2.5
    assert float(x.std()) == pytest.approx(1.2909944) and bool((x > 0).min())
    x[0, 0] = 9
    assert x.numpy()[0, 0] == 9 and x.clone().tolist() == x.tolist()
    with pytest.raises(RuntimeError):
        x.item()
    with pytest.raises(IndexError):
        x[5]
    with torch.inference_mode(), torch.no_grad():
        assert torch.zeros(2, 3).shape == (2, 3) and torch.ones(2).tolist() == [1.0, 1.0]
    assert torch.no_grad()(lambda: 3)() == 3
    assert torch.Generator().initial_seed() == 67280421310721
    assert torch.cuda.is_available() in (True, False)
