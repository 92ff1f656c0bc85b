"""The parts of a pipeline as objects: networks, tokenizers, the safety checker.

They are light handles on folders: weights are mapped when opened and loaded when first used, and
pipelines that share an object share its weights.
"""

import json
import os
import shutil

from .. import _arrays, _core, _hub, _image
from .._engine import Session, compute_type, sweep
from ..torch._tensor import Tensor, _numpy, from_numpy
from ..torch._types import device as _device
from ..torch._types import dtype_of, float32
from ._config import FrozenDict
from ._generators import generator_handle
from ._outputs import BaseOutput

#: what from_pretrained takes for diffusers' sake and has no use for
UNUSED = ("force_download", "proxies", "local_files_only", "token", "use_safetensors",
          "low_cpu_mem_usage", "device_map", "max_memory", "offload_folder", "offload_state_dict",
          "output_loading_info", "use_fast", "trust_remote_code", "mirror", "use_onnx",
          "resume_download", "use_auth_token", "attn_implementation", "disable_mmap",
          "keep_in_fp32_modules", "ignore_mismatched_sizes")


def take_unused(kwargs, where):
    """Drops what changes nothing; TypeError for what nobody knows."""
    for name in UNUSED:
        kwargs.pop(name, None)
    if kwargs:
        raise TypeError(f"{where}() got an unexpected keyword argument '{next(iter(kwargs))}'")


class Component:
    """One folder of a model."""

    slot = None  # what the engine calls it
    is_network = False

    def __init__(self, *args, **kwargs):
        raise EnvironmentError(f"{type(self).__name__} is made with "
                               f"{type(self).__name__}.from_pretrained(folder)")

    @classmethod
    def _open(cls, folder, variant=None, dtype=None, slot=None):
        return cls._of(_core.component_open(folder, slot or cls.slot, variant), dtype)

    @classmethod
    def _of(cls, handle, dtype=None):
        made = object.__new__(cls)
        made._handle = handle
        info = json.loads(_core.component_info(handle))
        made._info = info
        made._dtype = dtype_of(dtype) or float32
        made._to = _device("cpu")
        made._offload = None
        made._loose_set = None, None
        made._untaught, made._words = None, []  # _textual_inversion.py
        config = dict(info.get("config") or {})
        made.config = FrozenDict(config)
        return made

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, subfolder=None, *, revision=None,
                        cache_dir=None, variant=None, torch_dtype=None, dtype=None, **kwargs):
        """Opens a folder, or the subfolder of a model (a folder or a name in the cache)."""
        take_unused(kwargs, f"{cls.__name__}.from_pretrained")
        path = _hub.find(pretrained_model_name_or_path, revision, cache_dir)
        folder = _hub.subfolder(path, subfolder, f"a {cls.__name__}")
        return cls._open(folder, variant, dtype if dtype is not None else torch_dtype)

    def save_pretrained(self, save_directory, **ignored):
        """Copies the component's files into the folder."""
        os.makedirs(save_directory, exist_ok=True)
        for name in os.listdir(self._info["path"]):
            source = os.path.join(self._info["path"], name)
            if os.path.isfile(source):
                shutil.copyfile(source, os.path.join(save_directory, name))

    def __del__(self):
        if self.is_network and self.__dict__.pop("_handle", None) is not None:
            self.__dict__.pop("_loose_set")
            sweep()

    # ---- what torch modules answer

    @property
    def dtype(self):
        return self._dtype

    @property
    def device(self):
        return self._to

    def to(self, *args, **kwargs):
        """Takes a dtype or a device; computing happens where the engine runs."""
        for a in (*args, kwargs.get("device"), kwargs.get("dtype")):
            if a is None:
                continue
            if isinstance(a, _device) or hasattr(a, "type") and hasattr(a, "index") or \
                    isinstance(a, str) and a.split(":")[0] in ("cpu", "cuda"):
                self._to = _device(a)
            else:
                self._dtype = dtype_of(a)
        return self

    def cuda(self, *args):
        return self.to("cuda")

    def cpu(self):
        return self.to("cpu")

    def half(self):
        return self.to("float16")

    def float(self):
        return self.to("float32")

    def eval(self):
        return self

    def requires_grad_(self, flag=True):
        return self

    def num_parameters(self, *args, **kwargs):
        """How many numbers the weights are."""
        return self._info.get("parameters", 0)

    def __repr__(self):
        return f"<{type(self).__name__} {self._info['path']}>"

    # ---- for calls

    def _replace(self, handle):
        self._handle = handle
        sweep()

    def _at(self, scale=1.0):
        """The engine's component, its LoRAs scaled by that much more (_lora.py)."""
        return self._handle

    def _loose(self, scale=1.0):
        """A set of this component alone, which the engine's single calls want."""
        handle = self._at(scale)
        if self._loose_set[0] is not handle:
            self._loose_set = handle, _core.model_assemble(None, None, {self.slot: handle})
        return self._loose_set[1]

    def _compute(self):
        return compute_type(self._dtype.name, self.num_parameters())


class Adaptable(Component):
    """A network that LoRAs change. _handle is it without them; merged weights are made when a call
    first wants them."""

    is_network = True

    @classmethod
    def _of(cls, handle, dtype=None):
        made = super()._of(handle, dtype)
        made._adapters, made._weights = {}, {}  # by name, of all that are loaded
        made._active = []
        made._fused = {}  # name: weight
        made._baked = {}  # name: (file, weight), of those that were fused when adapters went
        made._lora_off = False
        made._merged = (), None  # what was merged last, and the handle of that
        return made

    def __del__(self):
        self.__dict__.pop("_merged", None)
        super().__del__()

    # ---- adapters: see _lora.py

    def set_adapters(self, adapter_names, weights=None):
        """Makes these adapters active, as far as they change this network."""
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        weights = weights if isinstance(weights, list) else [weights] * len(names)
        if any(isinstance(w, dict) for w in weights):
            raise NotImplementedError("adapter_weights: Styx has one weight for a component, not "
                                      "one for each block")
        given = {k: 1.0 if w is None else float(w) for k, w in zip(names, weights)
                 if k in self._adapters}
        self._active = list(given)
        self._weights.update(given)

    def _load(self, name, weights, handle):
        self._adapters[name], self._weights[name], self._active = weights, 1.0, [name]
        uses = self._uses(1.0)
        if uses == ((weights, 1.0),):
            self._merged = uses, handle

    def _forget(self, names):
        for name in names:
            self._adapters.pop(name, None)
            self._weights.pop(name, None)
            self._fused.pop(name, None)
        self._active = [n for n in self._active if n in self._adapters]

    def _unload(self):
        self._baked.update({k: (self._adapters[k], w) for k, w in self._fused.items()})
        self._forget(list(self._adapters))
        self._lora_off = False

    def _fuse(self, scale, names):
        for name in self._active if names is None else names:
            if name in self._adapters:
                self._fused.setdefault(name, self._weights[name] * scale)

    def _uses(self, scale):
        """(file, weight) of all that is merged. What is active beside fused adapters does nothing,
        as in PEFT."""
        weights = self._fused or {k: self._weights[k] * scale for k in self._active}
        if self._lora_off:
            weights = {}
        return (*self._baked.values(), *((self._adapters[k], w) for k, w in weights.items()))

    def _at(self, scale=1.0):
        uses = self._uses(scale)
        if not uses:
            return self._handle
        if self._merged[0] != uses or self._merged[1] is None:
            role = self._info["name"]
            plain = _core.model_assemble(None, None, {role: self._handle})
            model = _core.model_adapt(plain, [(f.path, w) for f, w in uses], [])[0]
            self._merged = uses, _core.model_component(model, role)
            sweep()
        return self._merged[1]

    def _replace(self, handle):
        self._merged = (), None
        super()._replace(handle)


def lora_scale(cross_attention_kwargs):
    """The one thing that these can say here."""
    given = dict(cross_attention_kwargs or {})
    scale = given.pop("scale", 1.0)
    if given:
        raise NotImplementedError(f"cross_attention_kwargs: Styx knows 'scale', not "
                                  f"{', '.join(map(repr, given))}")
    return 1.0 if scale is None else float(scale)


class DiagonalGaussianDistribution:
    """The posterior that the encoder gives: mean, logvar, std; sample(), mode()."""

    def __init__(self, moments):
        mean, logvar = moments.chunk(2, dim=1)
        self.parameters = moments
        self.mean = mean
        self.logvar = logvar.clamp(-30.0, 20.0)
        self.std = from_numpy(_numpy().exp(0.5 * self.logvar.numpy()))

    def sample(self, generator=None):
        """mean + std * normal numbers of the generator."""
        from ..torch import randn

        if generator is not None and not hasattr(generator, "_handle"):
            eps = Tensor(_arrays.zeros(self.mean.shape))
            _core.generator_normal(generator_handle(generator), 1, eps._view)
        else:
            eps = randn(*self.mean.shape, generator=generator)
        return self.mean + self.std * eps

    def mode(self):
        """The mean."""
        return self.mean


class AutoencoderKLOutput(BaseOutput):
    """latent_dist: a DiagonalGaussianDistribution."""

    fields = ("latent_dist",)


class DecoderOutput(BaseOutput):
    """sample: pixels [n, 3, height, width] in [-1, 1]."""

    fields = ("sample",)


class AutoencoderKL(Component):
    """Pictures to latents and back."""

    slot = "vae"
    is_network = True

    @classmethod
    def _of(cls, handle, dtype=None):
        made = super()._of(handle, dtype)
        size = made.config.get("sample_size", 512)
        made.use_slicing = made.use_tiling = False
        made.tile_sample_min_size = size[0] if isinstance(size, (list, tuple)) else size
        made.tile_overlap_factor = 0.25
        return made

    def enable_slicing(self):
        """Batches are decoded one picture at a time (the numbers are the same)."""
        self.use_slicing = True

    def disable_slicing(self):
        self.use_slicing = False

    def enable_tiling(self, use_tiling=True):
        """Pictures larger than tile_sample_min_size are worked on in tiles that are blended."""
        self.use_tiling = use_tiling

    def disable_tiling(self):
        self.use_tiling = False

    def _tiling(self):
        return 2 if self.use_tiling else 0, int(self.tile_sample_min_size)

    def encode(self, x, return_dict=True):
        """Pixels [n, 3, height, width] in [-1, 1] -> .latent_dist"""
        tiling, tile = self._tiling()
        with Session() as session:
            moments = _core.vae_encode(session, self._loose(), self._compute(),
                                       _arrays.floats(x, "x"), tiling, tile)
        made = DiagonalGaussianDistribution(Tensor(moments))
        return AutoencoderKLOutput(latent_dist=made) if return_dict else (made,)

    def decode(self, z, return_dict=True, generator=None):
        """Latents [n, channels, h, w], divided by config.scaling_factor already -> .sample"""
        tiling, tile = self._tiling()
        with Session() as session:
            pixels = _core.vae_decode(session, self._loose(), self._compute(),
                                      _arrays.floats(z, "z"), tiling, tile)
        return DecoderOutput(sample=Tensor(pixels)) if return_dict else (Tensor(pixels),)

    def __call__(self, sample, sample_posterior=False, return_dict=True, generator=None):
        """To latents and back."""
        posterior = self.encode(sample).latent_dist
        z = posterior.sample(generator) if sample_posterior else posterior.mode()
        return self.decode(z, return_dict)

    forward = __call__


class UNet2DConditionOutput(BaseOutput):
    """sample: what the UNet predicts, [n, out_channels, h, w]."""

    fields = ("sample",)


class UNet2DConditionModel(Adaptable):
    """Predicts the noise in latents."""

    slot = "unet"

    def __call__(self, sample, timestep, encoder_hidden_states, class_labels=None,
                 timestep_cond=None, attention_mask=None, cross_attention_kwargs=None,
                 added_cond_kwargs=None, return_dict=True, **kwargs):
        """sample [n, in_channels, h, w], one timestep or n, encoder_hidden_states [n, tokens, dim];
        SDXL: added_cond_kwargs {"text_embeds": [n, dim], "time_ids": [n, 6]}."""
        for name, value in dict(class_labels=class_labels, attention_mask=attention_mask,
                                **kwargs).items():
            if value is not None:
                raise NotImplementedError(f"{name}: Styx's UNet does not take it")
        scale = lora_scale(cross_attention_kwargs)
        x = _arrays.floats(sample, "sample")
        added = added_cond_kwargs or {}
        with Session() as session:
            out = _core.unet(session, self._loose(scale), self._compute(), x,
                             _timesteps(timestep, x.shape[0]),
                             _arrays.floats(encoder_hidden_states, "encoder_hidden_states"),
                             _optional(added.get("text_embeds")), _optional(added.get("time_ids")),
                             _optional(timestep_cond))
        return UNet2DConditionOutput(sample=Tensor(out)) if return_dict else (Tensor(out),)

    forward = __call__


def _optional(x):
    return None if x is None else _arrays.floats(x)


def _timesteps(timestep, rows):
    if getattr(timestep, "shape", ()) or isinstance(timestep, (list, tuple)):
        values = [float(t) for t in timestep]
    else:
        values = [float(timestep)]
    return _arrays.from_lists(values * rows if len(values) == 1 else values)


class StableDiffusionSafetyChecker(Component):
    """Looks at pictures for what should not be shown."""

    slot = "safety_checker"
    is_network = True

    def check(self, images):
        """Pictures (or uint8 arrays [h, w, 3]) -> list of bool: does it object?"""
        found = []
        with Session() as session:
            for image in images if isinstance(images, (list, tuple)) else [images]:
                view = (_image.to_view(image) if _image.is_picture(image)
                        else memoryview(image))
                found.append(_core.safety_check(session, self._loose(), view))
        return found

    def __call__(self, clip_input, images):
        """As diffusers': float arrays [h, w, 3] in [0, 1], or pictures -> (images, list of bool).
        Those objected to come back black. clip_input is not looked at: Styx prepares its own."""
        import numpy as np

        def as_bytes(x):
            if _image.is_picture(x):
                return x
            x = np.asarray(x)
            return x if x.dtype == np.uint8 else np.round(x * 255).astype("uint8")

        flags = self.check([as_bytes(x) for x in images])
        images = [np.zeros_like(x) if bad else x for x, bad in zip(images, flags)]
        return images, flags


#: class name in model_index.json -> class here
def class_of(name):
    from .. import transformers

    known = {c.__name__: c for c in (AutoencoderKL, UNet2DConditionModel,
                                     StableDiffusionSafetyChecker)}
    for c in ("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPTokenizer",
              "CLIPImageProcessor"):
        known[c] = getattr(transformers, c)
    known["CLIPFeatureExtractor"] = known["CLIPImageProcessor"]
    known["CLIPTokenizerFast"] = known["CLIPTokenizer"]
    if name not in known:
        raise NotImplementedError(f"{name}: Styx has no such component")
    return known[name]
