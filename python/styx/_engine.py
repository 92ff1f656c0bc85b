"""The sessions that all pipelines share.

One session serves the whole process, so that pipelines with common components hold their weights
once. A session works for one caller at a time: other threads wait. A callback that calls a network
(to decode the latents of a step, say) is served by a second session, made when first needed.
"""

import json
import logging
import threading

from . import _core

logger = logging.getLogger("styx")

#: numbers of enum styx_dtype
AUTO, F32, BF16, F16 = range(4)

OFFLOADS = ("none", "model", "stream")

_settings = {"backend": None, "threads": 0, "isa": None, "max_memory": 0, "device": 0,
             "offload": "none", "max_vram": 0, "winograd": True,
             "int8": False, "fp8": False, "compute": None}
_sessions = []
_depth = 0
_dirty = False  # has a component gone since the last sweep?
_lock = threading.RLock()


def configure(*, backend=None, threads=None, isa=None, max_memory=None, device=None, offload=None,
              max_vram=None, winograd=None, int8=None, fp8=None, compute=None):
    """Settings for all pipelines; what is None stays as it is.

    backend: "auto" (a CUDA card if one works, else the CPU), "cpu", "cuda" or "ref". threads: 0 for
    as many as the process may use. isa: "auto", "portable", "avx2", "avx512", "avx512bf16",
    "amx". winograd: False for plain 3x3 convolutions on the CPU, which round less and take longer.
    int8: True for 8-bit products on the CPU, faster with AVX-512 VNNI, and a different picture.
    max_memory: bytes, 0 for no limit. compute: the type the networks run in, "float32", "bfloat16"
    or, on a card, "float16", whatever a pipeline's torch_dtype says ("auto": that decides).
    Of a card: device, its number; offload, where weights wait: "none" (on it), "model" (in the
    host's memory until their network runs) or "stream" (always there); max_vram: bytes, 0 for all;
    fp8: True for 8-bit floats in linear layers of the UNet's transformers (compute capability
    9.0): faster, half the memory for their weights, and a different picture.
    A change of the device drops the weights that are loaded.
    """
    given = {"backend": backend, "threads": threads, "isa": isa, "max_memory": max_memory,
             "device": device, "offload": offload, "max_vram": max_vram,
             "winograd": winograd, "int8": int8, "fp8": fp8}
    changed = {k: v for k, v in given.items() if v is not None}
    if compute not in (None, "auto", "float32", "bfloat16", "float16"):
        raise ValueError(f"compute is {compute!r}; 'auto', 'float32', 'bfloat16' or 'float16' was "
                         f"wanted")
    if offload not in (None, *OFFLOADS):
        raise ValueError(f"offload is {offload!r}; 'none', 'model' or 'stream' was wanted")
    with _lock:
        if _depth:
            raise RuntimeError("configure() cannot be called while a picture is being drawn")
        if compute is not None:
            _settings["compute"] = None if compute == "auto" else compute
        if changed:
            before = dict(_settings)
            _settings.update(changed)
            try:
                made = _new()
            except BaseException:
                _settings.update(before)
                raise
            _sessions[:] = [made]


def device_info():
    """What the networks run on: a dict with backend, device, isa, threads, bf16, held_bytes."""
    with Session() as session:
        return json.loads(_core.session_info(session))


def devices():
    """What there is to compute on: a dict with the lists backends and cards."""
    return json.loads(_core.devices())


def on_card():
    """Do the networks run on a CUDA card?"""
    with _lock:
        if not _sessions:
            _sessions.append(_new())
        return json.loads(_core.session_info(_sessions[0]))["backend"] == "cuda"


def card_number():
    """The number of the card that is used, or would be."""
    return _settings["device"]


def use_card(*, device=None, offload=None):
    """Settings of a card, if the networks run on one; else nothing. False: nothing was set."""
    if not on_card():
        return False
    given = {"device": device, "offload": offload}
    if any(v is not None and _settings[k] != v for k, v in given.items()):
        configure(**given)
    return True


def free_memory():
    """Drops the weights and working memory of all pipelines; the next call loads them again."""
    with _lock:
        if _depth:
            raise RuntimeError("free_memory() cannot be called while a picture is being drawn")
        for session in _sessions:
            _core.session_trim(session)


def sweep():
    """Drops the weights of components that are gone; at once, or after the call that is running."""
    global _dirty
    _dirty = True
    if _lock.acquire(blocking=False):
        try:
            _sweep()
        finally:
            _lock.release()


def _sweep():
    global _dirty
    if not _dirty or _depth:
        return
    _dirty = False
    for session in _sessions[1:]:  # a second session's hold on a component looks like a user's
        _core.session_trim(session)
    if _sessions:
        _core.session_sweep(_sessions[0])


def _new():
    s = _settings
    return _core.session_new(s["backend"], s["threads"], s["isa"], s["max_memory"], s["device"],
                             OFFLOADS.index(s["offload"]), s["max_vram"], not s["winograd"],
                             bool(s["int8"]), bool(s["fp8"]))


class Session:
    """The session for a `with` block; its warnings are logged at the end."""

    def __enter__(self):
        global _depth
        _lock.acquire()
        try:
            if _depth == len(_sessions):
                _sessions.append(_new())
            self.session = _sessions[_depth]
            _depth += 1
        except BaseException:
            _lock.release()
            raise
        return self.session

    def __exit__(self, *exception):
        global _depth
        _depth -= 1
        lines = _core.session_warnings(self.session)
        _sweep()
        _lock.release()
        for line in dict.fromkeys(lines):
            logger.warning(line)


#: Networks of fewer parameters gain nothing from bfloat16: they would only lose digits.
SMALL = 2_000_000


def compute_type(dtype, parameters):
    """The enum styx_dtype for a network of that size in a pipeline of that dtype name."""
    name = _settings["compute"] or dtype
    if name == "float16" and on_card():
        return F16
    if name == "float16" and parameters < SMALL:
        return F32
    return {"float32": F32, "bfloat16": BF16}.get(name, AUTO)


def noise_type(dtype):
    """The enum styx_dtype that torch would draw noise in."""
    return {"float16": F16, "bfloat16": BF16}.get(dtype, F32)
