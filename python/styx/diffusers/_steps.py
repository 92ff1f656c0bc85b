"""callback_on_step_end: a step of the engine as diffusers shows it."""

import warnings

from .. import _arrays, _core
from ..torch._tensor import Tensor

#: what diffusers calls an array -> what the engine does
NAMES = {"latents": "latents", "prompt_embeds": "prompt_embeds",
         "add_text_embeds": "pooled_embeds", "add_time_ids": "time_ids"}


class Timestep(float):
    """A number, with the few methods of a tensor that callbacks use on it."""

    def item(self):
        return int(self) if self.is_integer() else float(self)

    def cpu(self):
        return self

    def __repr__(self):
        return repr(self.item())

    __str__ = __repr__

    def __index__(self):
        return int(self)

    def __format__(self, spec):
        return format(self.item(), spec)


class StepCaller:
    """Calls the user's callback after each step and takes back what it changed."""

    def __init__(self, pipe, arguments, order):
        self.pipe = pipe
        self.callback = arguments.get("callback_on_step_end")
        self.names = list(getattr(self.callback, "tensor_inputs", None) or
                          arguments.get("callback_on_step_end_tensor_inputs") or [])
        self.old = arguments.get("callback")
        self.every = arguments.get("callback_steps") or 1
        self.order = order
        if self.old is not None:
            warnings.warn("Passing `callback` as an input argument to `__call__` is deprecated, "
                          "consider using `callback_on_step_end`", FutureWarning, stacklevel=5)

    def needed(self):
        return self.callback is not None or self.old is not None

    def __call__(self, step, index, count, timestep):
        self.pipe._num_timesteps = count
        if self.callback is not None:
            self._new_style(step, index, Timestep(timestep))
        if self.old is not None and index % self.every == 0:
            self.old(index // self.order, Timestep(timestep),
                     Tensor(_core.step_get(step, "latents")))
        if self.pipe._interrupt:
            _core.step_interrupt(step)

    def _new_style(self, step, index, timestep):
        given, before = {}, {}
        for name in self.names:
            given[name], before[name] = self._get(step, name)
        guidance = self._guidance()
        answer = self.callback(self.pipe, index, timestep, given)
        if answer is None:
            raise TypeError("callback_on_step_end returned None; it has to return the dict of "
                            "arrays that it was given (or an empty one)")
        for name, value in answer.items():
            self._put(step, name, value, before.get(name))
        if self._guidance() != guidance:
            _core.step_guidance(step, *map(float, self._guidance()))

    def _guidance(self):
        return self.pipe._guidance_scale, self.pipe._guidance_rescale or 0

    def _get(self, step, name):
        if name == "negative_prompt_embeds":
            both = _core.step_get(step, "prompt_embeds")
            if not self.pipe.do_classifier_free_guidance:
                return None, None
            view = _first_half(both)
        elif name in NAMES:
            view = _core.step_get(step, NAMES[name])
        else:
            raise NotImplementedError(f"callback_on_step_end_tensor_inputs: Styx does not hand "
                                      f"out {name}")
        return Tensor(view), bytes(view)

    def _put(self, step, name, value, before):
        if value is None or name not in NAMES:
            return  # negative_prompt_embeds: diffusers does not look at them again either
        view = _arrays.floats(value, name)
        if before is not None and bytes(view) == before:
            return
        whole = _core.step_get(step, NAMES[name])
        if name != "latents" and 2 * view.shape[0] == whole.shape[0]:
            n = whole.nbytes // 2  # guidance was switched off: only the positive rows came back
            whole.cast("B")[n:] = view.cast("B")
            view = whole
        _core.step_set(step, NAMES[name], view)


def _first_half(view):
    n = view.nbytes // 2
    return view.cast("B")[:n].cast("f", [view.shape[0] // 2, *view.shape[1:]])
