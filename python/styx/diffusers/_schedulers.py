"""Schedulers as objects: for pipelines, and for denoising loops written by hand.

They take and give numpy arrays, torch tensors or styx tensors; what comes out is a styx tensor,
which numpy reads in place.
"""

import json
import os

from .. import _arrays, _core, _hub
from .._engine import noise_type
from ..torch._tensor import Tensor, from_numpy
from ..torch._types import default_generator
from ._config import FrozenDict, from_json, to_json
from ._generators import generator_handle
from ._outputs import BaseOutput


class SchedulerOutput(BaseOutput):
    """prev_sample: at the next timestep. pred_original_sample: the clean one that is predicted."""

    fields = ("prev_sample", "pred_original_sample")


class SchedulerMixin:
    """What all schedulers have. The settings are those of the class of that name in diffusers."""

    config_name = "scheduler_config.json"

    def __init__(self, *args, **kwargs):
        """Settings by name (or in diffusers' order); each has diffusers' default."""
        names = _knobs(type(self).__name__)
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} settings, not {len(args)}")
        given = dict(zip(names, args))
        for name, value in kwargs.items():
            if name not in names:
                raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword "
                                f"argument '{name}'")
            if name in given:
                raise TypeError(f"{type(self).__name__}.__init__() got multiple values for "
                                f"argument '{name}'")
            given[name] = value
        self._make(None, given)

    def _make(self, config, overrides):
        self._handle = _core.scheduler_new(type(self).__name__,
                                           None if config is None else to_json(config),
                                           to_json(overrides) if overrides else None)
        self.config = from_json(_core.scheduler_config(self._handle))
        self.num_inference_steps = None
        self._step_index = self._begin_index = None

    # ---- making

    @classmethod
    def from_config(cls, config=None, return_unused_kwargs=False, **kwargs):
        """A scheduler of this class with the settings of another one's config.

        Settings that the other one only had by default (config["_use_default_values"]) fall back to
        this class's own defaults. kwargs are settings on top.
        """
        if config is None:
            raise ValueError("Please make sure to provide a config as the first positional "
                             "argument.")
        if not isinstance(config, dict):
            config = getattr(config, "config", config)
            if not isinstance(config, dict):
                raise TypeError(f"{cls.__name__}.from_config() wants a config, not a "
                                f"{type(config).__name__}; did you mean from_pretrained()?")
        names = _knobs(cls.__name__)
        made = cls.__new__(cls)
        made._make(config, {k: v for k, v in kwargs.items() if k in names})
        unused = {k: v for k, v in kwargs.items() if k not in names}
        return (made, unused) if return_unused_kwargs else made

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path=None, subfolder=None,
                        return_unused_kwargs=False, *, revision=None, cache_dir=None, **kwargs):
        """Reads scheduler_config.json from a folder (or subfolder of a model)."""
        for name in ("local_files_only", "token", "force_download", "proxies", "torch_dtype"):
            kwargs.pop(name, None)
        path = _hub.find(pretrained_model_name_or_path, revision, cache_dir)
        file = os.path.join(path, subfolder or "", cls.config_name)
        if not os.path.isfile(file):
            raise OSError(f"{file}: no such file; a scheduler's config was wanted there")
        with open(file, encoding="utf-8") as stream:
            try:
                config = json.load(stream)
            except ValueError as error:
                raise OSError(f"{file}: not valid JSON: {error}") from None
        made = cls.from_config(config, return_unused_kwargs, **kwargs)
        return made

    def save_pretrained(self, save_directory, **ignored):
        """Writes scheduler_config.json into the folder."""
        os.makedirs(save_directory, exist_ok=True)
        config = {k: v for k, v in self.config.items() if k != "_use_default_values"}
        with open(os.path.join(save_directory, self.config_name), "w", encoding="utf-8") as file:
            json.dump(config, file, indent=2, sort_keys=True)
            file.write("\n")

    def _patch(self, **settings):
        """What pipelines of SD 1 do to the scheduler that they are made with: sets settings, but
        lets `_use_default_values` be, as diffusers does."""
        settings = {k: v for k, v in settings.items()
                    if k in self.config and self.config[k] != v}
        if settings:
            before = self.config
            self._make(before, settings)
            self.config = FrozenDict({**before, **settings})

    @property
    def compatibles(self):
        """The classes that understand this one's config."""
        return [globals()[name] for name in CLASSES if name != type(self).__name__]

    # ---- the schedule

    def set_timesteps(self, num_inference_steps=None, device=None, timesteps=None, sigmas=None,
                      **ignored):
        """A schedule of so many steps, or of custom timesteps or sigmas (without the final 0)."""
        if num_inference_steps is None and timesteps is None and sigmas is None:
            raise ValueError("Must pass exactly one of `num_inference_steps` or `timesteps` or "
                             "`sigmas`.")
        if timesteps is not None and sigmas is not None:
            raise ValueError("Only one of `timesteps` or `sigmas` should be set.")
        self._begin_index = self._step_index = None
        _core.scheduler_set_timesteps(self._handle, int(num_inference_steps or 0),
                                      _numbers(timesteps), _numbers(sigmas))
        self.num_inference_steps = (num_inference_steps if num_inference_steps is not None
                                    else len(timesteps if timesteps is not None else sigmas))

    @property
    def timesteps(self):
        """The timesteps of the schedule, in order, as float32."""
        view = _core.scheduler_timesteps(self._handle)
        if view is None:
            n = int(self.config["num_train_timesteps"])
            view = _arrays.from_lists([float(i) for i in range(n - 1, -1, -1)])
        if all(float(t).is_integer() for t in view) and _arrays.numpy_or_none():
            return from_numpy(Tensor(view).numpy().astype("int64"))
        return Tensor(view)

    @property
    def sigmas(self):
        """The noise levels, with the final 0; classes without them raise AttributeError."""
        view = _core.scheduler_sigmas(self._handle)
        if view is None:
            raise AttributeError(f"{type(self).__name__} has no sigmas")
        return Tensor(view)

    @property
    def init_noise_sigma(self):
        """What noise is multiplied by to start from."""
        return _core.scheduler_traits(self._handle)[0]

    @property
    def order(self):
        """UNet calls a step."""
        return _core.scheduler_traits(self._handle)[1]

    @property
    def step_index(self):
        return self._step_index

    @property
    def begin_index(self):
        return self._begin_index

    def set_begin_index(self, begin_index=0):
        """Starts in the middle: steps before begin_index are skipped."""
        self._begin_index = begin_index
        _core.scheduler_set_begin_index(self._handle, begin_index)

    def __len__(self):
        return int(self.config["num_train_timesteps"])

    # ---- steps

    def scale_model_input(self, sample, timestep=None, *ignored):
        """The sample as the UNet wants to see it at that timestep."""
        view = _arrays.copy(_arrays.floats(sample, "sample"))
        _core.scheduler_scale_model_input(self._handle, view,
                                          0.0 if timestep is None else float(timestep))
        return Tensor(view)

    def step(self, model_output, timestep, sample, eta=None, use_clipped_model_output=False,
             generator=None, return_dict=True, *, s_churn=0.0, s_tmin=0.0, s_tmax=float("inf"),
             s_noise=1.0, order=4, variance_noise=None):
        """One step: sample at timestep becomes .prev_sample, at the next one.

        eta is DDIM's and TCD's; s_churn and so on are Euler's and Heun's; generator is for those
        that draw noise.
        """
        if variance_noise is not None:
            raise NotImplementedError("variance_noise: Styx draws the noise itself; pass a "
                                      "generator")
        if self.num_inference_steps is None:
            raise ValueError("Number of inference steps is 'None', you need to run "
                             "'set_timesteps' after creating the scheduler")
        output = _arrays.floats(model_output, "model_output")
        view = _arrays.copy(_arrays.floats(sample, "sample"))
        original = _arrays.zeros(view.shape)
        handle = generator_handle(generator if generator is not None else default_generator("cpu"))
        if eta is None:
            eta = 0.3 if isinstance(self, TCDScheduler) else 0.0
        _core.scheduler_step(self._handle, output, float(timestep), view, handle,
                             noise_type(_dtype_name(sample)), original, eta,
                             int(use_clipped_model_output), s_churn, s_tmin, s_tmax, s_noise)
        self._step_index = (self._begin_index or 0) + 1 if self._step_index is None \
            else self._step_index + 1
        made = SchedulerOutput(prev_sample=Tensor(view), pred_original_sample=Tensor(original))
        return made if return_dict else made.to_tuple()

    def add_noise(self, original_samples, noise, timesteps):
        """The samples with noise on them as of those timesteps (one each, or one for all)."""
        view = _arrays.copy(_arrays.floats(original_samples, "original_samples"))
        if not hasattr(timesteps, "__len__") or not getattr(timesteps, "shape", (1,)):
            timesteps = [float(timesteps)]
        times = _arrays.floats([float(t) for t in timesteps], "timesteps")
        if len(times) == 1 and len(view.shape) > 1 and view.shape[0] > 1:
            times = _arrays.floats([times[0]] * view.shape[0])
        _core.scheduler_add_noise(self._handle, view, _arrays.floats(noise, "noise"), times)
        return Tensor(view)

    def __repr__(self):
        return f"{type(self).__name__} {json.dumps(dict(self.config), indent=2, sort_keys=True)}"


def _dtype_name(x):
    return str(getattr(x, "dtype", "float32")).split(".")[-1]


def _numbers(x):
    return None if x is None else [float(v) for v in x]


_names = {}


def _knobs(name):
    """The settings of a class, in order."""
    if name not in _names:
        config = json.loads(_core.scheduler_config(_core.scheduler_new(name, None, None)))
        _names[name] = [k for k in config if not k.startswith("_")]
    return _names[name]


CLASSES = tuple(_core.scheduler_classes())
for _name in CLASSES:
    globals()[_name] = type(_name, (SchedulerMixin,), {
        "__module__": __name__, "__doc__": f"diffusers' {_name}, the same numbers."})


def scheduler_class(name):
    """The class of that name; ValueError if Styx does not have it."""
    if name not in CLASSES:
        raise ValueError(f"{name}: no scheduler of Styx; it has {', '.join(CLASSES)}")
    return globals()[name]
