"""What all pipelines have in common: components, loading, devices and progress."""

import json
import logging
import os

from .. import _core, _hub, _progress
from .._engine import device_info, use_card
from ..torch._types import device as _device
from ..torch._types import dtype_of, float32
from . import _components, _run
from ._components import Component
from ._config import FrozenDict, from_json
from ._lora import LoraLoader
from ._schedulers import CLASSES, SchedulerMixin, scheduler_class
from ._textual_inversion import TextualInversionLoader

logger = logging.getLogger("styx.diffusers")

OFFLOAD_WARNING = (
    "It seems like you have activated model offloading by calling `enable_model_cpu_offload`, but "
    "are now manually moving the pipeline to GPU. It is strongly recommended against doing so as "
    "memory gains from offloading are likely to be lost. Offloading automatically takes care of "
    "moving the individual components {} to GPU when needed. To make sure offloading works as "
    "expected, you should consider moving the pipeline back to CPU: `pipeline.to('cpu')` or "
    "removing the move altogether if you use offloading.")
SEQUENTIAL_ERROR = (
    "It seems like you have activated sequential model offloading by calling "
    "`enable_sequential_cpu_offload`, but are now attempting to move the pipeline to GPU. This is "
    "not compatible with offloading. Please, move your pipeline `.to('cpu')` or consider removing "
    "the move altogether if you use sequential offloading.")

_told = set()


def _tell_once(text):
    if text not in _told:
        _told.add(text)
        logger.warning(text)


class DiffusionPipeline(LoraLoader, TextualInversionLoader):
    """The base of all pipelines; from_pretrained picks the class that the model names."""

    config_name = "model_index.json"
    component_names = ()  # in diffusers' order
    _optional_components = ()
    _exclude_from_cpu_offload = ()
    _callback_tensor_inputs = ["latents", "prompt_embeds"]
    settings = {}  # the pipeline's own, with defaults
    task = "text"

    def __init__(self, **given):
        if type(self) is DiffusionPipeline:
            raise EnvironmentError("DiffusionPipeline is made with from_pretrained()")
        self._model = self._handles = None
        self._parts = {}
        self._dtype = None
        self._to = _device("cpu")
        self._progress_bar_config = {}
        self._interrupt = False
        self._guidance_scale = self._guidance_rescale = self._clip_skip = None
        self._num_timesteps = 0
        self._preview = self._trace = None
        settings = {k: given.pop(k, v) for k, v in self.settings.items()}
        for name in self.component_names:
            if name not in given and name not in (*self._optional_components, "image_encoder"):
                raise TypeError(f"{type(self).__name__}.__init__() missing a required argument: "
                                f"'{name}'")
            self._parts[name] = self._checked(name, given.pop(name, None))
        given.pop("add_watermarker", None)
        if given:
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument "
                            f"'{next(iter(given))}'")
        self._config = settings
        self._name_or_path = None
        self._prepare_parts()

    def _prepare_parts(self):
        """What a pipeline class does to the parts that it is made of."""

    def _checked(self, name, part):
        wanted = SchedulerMixin if name == "scheduler" else Component
        if part is not None and not isinstance(part, wanted):
            raise ValueError(f"{name} is a {type(part).__module__}.{type(part).__name__}; "
                             f"one of Styx was wanted (styx.diffusers, styx.transformers)")
        return part

    def __del__(self):
        for name in ("_model", "_handles"):  # before the components, then the last holders
            self.__dict__.pop(name, None)

    # ---- components as attributes

    def __getattr__(self, name):
        parts = self.__dict__.get("_parts")
        if parts is not None and name in parts:
            return parts[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name, value):
        if name in self.component_names:
            self._parts[name] = self._checked(name, value)
            self._model = self._handles = None
        else:
            object.__setattr__(self, name, value)

    def register_modules(self, **parts):
        """Sets components."""
        for name, part in parts.items():
            setattr(self, name, part)

    @property
    def components(self):
        """All components by name, in order: Other(**pipe.components) shares them."""
        return dict(self._parts)

    @property
    def config(self):
        """The pipeline's settings and the classes of its components."""
        parts = {k: ("styx", type(v).__name__) if v is not None else (None, None)
                 for k, v in self._parts.items()}
        return FrozenDict({**parts, **self._config, "_class_name": type(self).__name__,
                           "_name_or_path": self._name_or_path})

    def _assembled(self, scale=1.0):
        """The engine's model of the components as they are now, with their LoRAs scaled."""
        parts = {k: v._at(scale) for k, v in self._parts.items()
                 if v is not None and k not in ("scheduler", "image_encoder")}
        handles = list(parts.values())
        if self._handles is None or len(handles) != len(self._handles) or \
                any(a is not b for a, b in zip(handles, self._handles)):
            self._model = _core.model_assemble(type(self).__name__,
                                               json.dumps(self._config, default=str), parts)
            self._handles = handles
        return self._model

    # ---- loading and saving

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *, torch_dtype=None, dtype=None,
                        variant=None, revision=None, cache_dir=None, **kwargs):
        """Opens a model: a folder in the diffusers layout, a name in Hugging Face's cache, or
        "styx-emoji", the model that comes with Styx.

        torch_dtype: float16, bfloat16 or float32 (default). variant: "fp16" prefers weights of that
        name. Components by name (vae=..., safety_checker=None) are used instead of the folder's.
        """
        path = _hub.find(pretrained_model_name_or_path, revision, cache_dir)
        index = _read_index(path)
        made_class = _class_to_make(cls, index, path)
        dtype = dtype_of(dtype if dtype is not None else torch_dtype) or float32
        parts, settings = made_class._take(kwargs)
        _components.take_unused(kwargs, f"{cls.__name__}.from_pretrained")
        for name, default in made_class.settings.items():
            settings.setdefault(name, index.get(name, default))
        made_class._load_parts(parts, index, path, variant, dtype)
        pipe = made_class(**parts, **settings)
        pipe._dtype = dtype
        pipe._name_or_path = os.fspath(pretrained_model_name_or_path)
        return pipe

    @classmethod
    def _take(cls, kwargs):
        """Components and settings out of kwargs."""
        parts = {k: kwargs.pop(k) for k in cls.component_names if k in kwargs}
        settings = {k: kwargs.pop(k) for k in cls.settings if k in kwargs}
        kwargs.pop("add_watermarker", None)
        kwargs.pop("load_safety_checker", None)
        return parts, settings

    @classmethod
    def _load_parts(cls, parts, index, path, variant, dtype):
        """Opens what is not given yet, under the bar that diffusers shows."""
        names = [k for k, v in index.items()
                 if isinstance(v, list) and len(v) == 2 and v[0] is not None
                 and not (k in parts and parts[k] is None)]
        with _progress.bar(len(names), desc="Loading pipeline components...") as bar:
            for name in names:
                if name not in parts and name in cls.component_names:
                    parts[name] = _open_part(name, index[name][1], path, variant, dtype)
                bar.update()
        for name in cls.component_names:
            parts.setdefault(name, None)
        missing = [k for k in cls.component_names
                   if parts[k] is None and k not in (*cls._optional_components, "image_encoder")
                   and not _may_be_left_out(k, index)]
        if missing:
            raise ValueError(f"Pipeline {cls} expected {list(cls.component_names)}, but "
                             f"{', '.join(missing)} is neither in {path} nor passed.")

    @classmethod
    def from_single_file(cls, pretrained_model_link_or_path, *, torch_dtype=None, dtype=None,
                         config=None, original_config=None, **kwargs):
        """Opens a checkpoint file (safetensors or GGUF), or the name in Hugging Face's cache of a
        repository of one such file. config: a folder in the diffusers layout
        that says what the file leaves open."""
        parts, settings = cls._take(kwargs)
        path = _hub.checkpoint(pretrained_model_link_or_path, kwargs.pop("revision", None),
                               kwargs.pop("cache_dir", None))
        for name in ("original_config_file", "local_files_only", "token", "use_safetensors",
                     "disable_mmap", "force_download", "proxies"):
            kwargs.pop(name, None)
        _components.take_unused(kwargs, f"{cls.__name__}.from_single_file")
        handle = _core.model_open(path, None, config)
        info = json.loads(_core.model_info(handle))
        dtype = dtype_of(dtype if dtype is not None else torch_dtype) or float32
        for name in cls.component_names:
            if name in parts or name == "image_encoder":
                continue
            part = _core.model_component(handle, name)
            if part is not None and name != "scheduler":
                class_name = json.loads(_core.component_info(part))["class"]
                parts[name] = _components.class_of(class_name)._of(part, dtype)
            parts.setdefault(name, None)
        if parts.get("scheduler") is None:
            text = from_json(_core.scheduler_config(_core.model_scheduler(handle)))
            parts["scheduler"] = scheduler_class(text["_class_name"]).from_config(text)
        for name in cls.settings:
            if name in info:
                settings.setdefault(name, info[name])
        pipe = cls(**parts, **settings)
        pipe._dtype = dtype
        pipe._name_or_path = path
        return pipe

    def save_pretrained(self, save_directory, **ignored):
        """Writes the pipeline as a folder in the diffusers layout; weights are copied."""
        os.makedirs(save_directory, exist_ok=True)
        index = {"_class_name": type(self).__name__, **self._config}
        for name, part in self._parts.items():
            index[name] = [None, None]
            if part is not None:
                library = ("transformers" if type(part).__name__.startswith("CLIP") else
                           "stable_diffusion" if name == "safety_checker" else "diffusers")
                index[name] = [library, type(part).__name__]
                part.save_pretrained(os.path.join(save_directory, name))
        with open(os.path.join(save_directory, self.config_name), "w", encoding="utf-8") as file:
            json.dump(index, file, indent=2, sort_keys=True)
            file.write("\n")

    @classmethod
    def from_pipe(cls, pipeline, **kwargs):
        """A pipeline of this class with the components of another; kwargs replace some."""
        dtype = kwargs.pop("torch_dtype", None) or kwargs.pop("dtype", None)
        parts, settings = cls._take(kwargs)
        _components.take_unused(kwargs, f"{cls.__name__}.from_pipe")
        for name, part in pipeline.components.items():
            if name in cls.component_names:
                parts.setdefault(name, part)
        for name, value in pipeline._config.items():
            if name in cls.settings:
                settings.setdefault(name, value)
        missing = [k for k in cls.component_names if k not in parts
                   and k not in (*cls._optional_components, "image_encoder")]
        if missing:
            raise ValueError(f"Pipeline {cls} expected {list(cls.component_names)}, but only "
                             f"{list(parts)} were passed")
        pipe = cls(**parts, **settings)
        pipe._dtype = dtype_of(dtype) or pipeline._dtype
        pipe._to = pipeline._to
        pipe._name_or_path = pipeline._name_or_path
        return pipe

    # ---- devices and memory

    @property
    def dtype(self):
        """What the pipeline was opened in (torch_dtype)."""
        return self._dtype or float32

    @property
    def device(self):
        """Where the pipeline was moved to."""
        return self._to

    _execution_device = device

    def to(self, *args, **kwargs):
        """Moves the pipeline: a device, a dtype, or both.

        Where a card works all networks run on it in any case; "cuda:1" takes that card for all
        pipelines. Without a card "cuda" warns once and everything runs on the CPU.
        """
        device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
        kwargs.pop("silence_dtype_warnings", None)
        if kwargs or len(args) > 2:
            raise ValueError("Please make sure to pass at most two arguments (`device` and "
                             "`dtype`) `.to(...)`")
        for a in args:
            if isinstance(a, str) and a.split(":")[0] in ("cpu", "cuda") or hasattr(a, "index"):
                device = a
            elif a is not None:
                dtype = a
        if device is not None:
            self._move(_device(device))
        if dtype is not None:
            self._dtype = dtype_of(dtype)
            for part in self._parts.values():
                if isinstance(part, Component):
                    part._dtype = self._dtype
        return self

    def _move(self, device):
        modes = {part._offload for part in self._parts.values() if isinstance(part, Component)}
        if device.type == "cuda":
            if "sequential" in modes:
                raise ValueError(SEQUENTIAL_ERROR)
            if "model" in modes:
                logger.warning(OFFLOAD_WARNING.format(", ".join(self._parts)))
            if not use_card(device=device.index):
                backend = device_info()["backend"]
                _tell_once(f"There is no CUDA card that Styx can use: the pipeline runs on the "
                           f"{'CPU' if backend == 'cpu' else backend + ' backend'}.")
        self._to = device
        for part in self._parts.values():
            if isinstance(part, Component):
                part._to = device

    def _offload(self, mode, gpu_id=None, device=None):
        for name, part in self._parts.items():
            if isinstance(part, Component) and part.is_network and \
                    name not in self._exclude_from_cpu_offload:
                part._offload = mode
        if gpu_id is None and device is not None:
            gpu_id = _device(device).index
        use_card(device=gpu_id, offload={"model": "model", "sequential": "stream"}.get(mode, "none"))

    def enable_model_cpu_offload(self, gpu_id=None, device=None):
        """Networks are on the card only while they work; this holds for all pipelines. Without a
        card: nothing to do. The pictures are the same."""
        self._offload("model", gpu_id, device)

    def enable_sequential_cpu_offload(self, gpu_id=None, device=None):
        """Weights stream through the card while a network works, which takes the least memory;
        afterwards .to("cuda") is a ValueError."""
        self._offload("sequential", gpu_id, device)

    def remove_all_hooks(self):
        """Takes back enable_*_cpu_offload."""
        self._offload(None)

    def maybe_free_model_hooks(self):
        """Nothing to free."""

    def enable_attention_slicing(self, slice_size="auto"):
        """Nothing to do: attention never holds its whole matrix here."""

    def disable_attention_slicing(self):
        """Nothing to do."""

    def enable_xformers_memory_efficient_attention(self, attention_op=None):
        """Nothing to do: attention is memory-efficient here."""

    def disable_xformers_memory_efficient_attention(self):
        """Nothing to do."""

    def enable_vae_slicing(self):
        """Decodes batches one picture at a time; the numbers are the same."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self):
        self.vae.disable_slicing()

    def enable_vae_tiling(self):
        """Works on large pictures in tiles of vae.tile_sample_min_size, as diffusers does."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self):
        self.vae.disable_tiling()

    def enable_freeu(self, *args, **kwargs):
        raise NotImplementedError("enable_freeu: Styx does not have FreeU")

    def load_ip_adapter(self, *args, **kwargs):
        raise NotImplementedError("load_ip_adapter: Styx does not have IP-Adapter")

    # ---- progress

    def set_progress_bar_config(self, **kwargs):
        """Settings of the bar (disable=True, desc=..., leave=...)."""
        self._progress_bar_config = kwargs

    def progress_bar(self, iterable=None, total=None):
        """A bar as calls show it."""
        if iterable is not None:
            from tqdm.auto import tqdm

            return tqdm(iterable, **self._progress_bar_config)
        if total is None:
            raise ValueError("Either `total` or `iterable` has to be defined.")
        return _progress.bar(total, **self._progress_bar_config)

    def set_preview(self, every=5, callback=None):
        """Shows the picture as it becomes, every so many steps; 0 switches it off.

        In Jupyter it appears in the cell; callback(step, picture) gets it elsewhere. A cheap map
        from latents to colours, an eighth of the size; for a VAE of 4 channels.
        """
        self._preview = (every, callback) if every else None

    def set_trace(self, function=None):
        """function(name, tensor) gets every intermediate value of calls: embeddings, noise, the
        UNet's inputs and outputs, latents, pixels. None switches it off."""
        self._trace = function

    # ---- what calls leave behind

    @property
    def guidance_scale(self):
        return self._guidance_scale

    @property
    def guidance_rescale(self):
        return self._guidance_rescale

    @property
    def clip_skip(self):
        return self._clip_skip

    @property
    def num_timesteps(self):
        return self._num_timesteps

    @property
    def interrupt(self):
        return self._interrupt

    @property
    def do_classifier_free_guidance(self):
        return (self._guidance_scale or 0) > 1 and \
            self.unet.config.get("time_cond_proj_dim") is None

    @property
    def vae_scale_factor(self):
        """Pixels a side for one latent."""
        return 2 ** (len(self.vae.config.get("block_out_channels", [0] * 4)) - 1)

    def __repr__(self):
        parts = ", ".join(f"{k}={type(v).__name__}" for k, v in self._parts.items()
                          if v is not None)
        return f"{type(self).__name__}({parts})"

    def _call(self, **arguments):
        return _run.call(self, arguments)


def _read_index(path):
    file = os.path.join(path, DiffusionPipeline.config_name)
    if os.path.isfile(path):
        raise OSError(f"{path} is a file; a model's folder was wanted. from_single_file() opens "
                      f"checkpoint files")
    if not os.path.isfile(file):
        raise OSError(f"Error no file named {DiffusionPipeline.config_name} found in directory "
                      f"{path}.")
    with open(file, encoding="utf-8") as stream:
        try:
            index = json.load(stream)
        except ValueError as error:
            raise OSError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(index, dict):
        raise OSError(f"{file}: not a JSON object")
    return index


def _class_to_make(cls, index, path):
    if cls is not DiffusionPipeline:
        return cls
    from .. import diffusers

    name = index.get("_class_name")
    made = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not isinstance(made, type) or not issubclass(made, DiffusionPipeline):
        raise NotImplementedError(f"{path}: a {name}, which Styx does not have")
    return made


def _may_be_left_out(name, index):
    entry = index.get(name)
    return isinstance(entry, list) and entry == [None, None]


def _open_part(name, class_name, path, variant, dtype):
    folder = os.path.join(path, name)
    if not os.path.isdir(folder):
        raise OSError(f"{path}: no folder {name} there, though model_index.json names it")
    if name == "scheduler":
        if class_name not in CLASSES:
            raise NotImplementedError(f"{folder}: a {class_name}, which Styx does not have")
        return scheduler_class(class_name).from_pretrained(folder)
    cls = _components.class_of(class_name)
    return cls._open(folder, variant, dtype, slot=name)
