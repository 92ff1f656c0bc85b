"""Where the weights of a LoRA or a textual inversion lie."""

import os

from .. import _arrays, _core, _hub

#: what loaders take for diffusers' sake and have no use for
UNUSED = ("force_download", "proxies", "local_files_only", "token", "hf_token", "use_safetensors",
          "low_cpu_mem_usage", "resume_download", "mirror", "user_agent", "unet_config")


class Weights:
    """A safetensors file; one made of arrays goes with the last who holds this."""

    def __init__(self, path, folder=None):
        self.path = path
        self._folder = folder


def of_arrays(arrays):
    """Arrays by name as a file."""
    import tempfile

    folder = tempfile.TemporaryDirectory(prefix="styx-")
    path = os.path.join(folder.name, "weights.safetensors")
    _core.tensors_save(path, {k: _arrays.floats(x if _arrays.shape_of(x) else x.reshape(1), k)
                              for k, x in arrays.items()})
    return Weights(path, folder)


def find(name, usual, kwargs, guess):
    """The file that name (a file, a folder, a name in Hugging Face's cache) and kwargs mean.
    usual: its name when none is given. guess: may it be another one?"""
    weight_name = kwargs.pop("weight_name", None)
    path = _hub.find(name, kwargs.pop("revision", None), kwargs.pop("cache_dir", None))
    subfolder = kwargs.pop("subfolder", None)
    for unused in UNUSED:
        kwargs.pop(unused, None)
    if os.path.isfile(path):
        return Weights(os.fspath(path))
    folder = os.path.join(path, subfolder) if subfolder else path
    if not weight_name and os.path.isdir(folder):
        weight_name = usual if not guess else _guess(folder, usual)
    file = os.path.join(folder, weight_name or usual)
    if not os.path.isfile(file):
        raise OSError(f"Error no file named {weight_name or usual} found in directory {folder}.")
    return Weights(file)


def _guess(folder, usual):
    names = sorted(f for f in os.listdir(folder) if f.endswith(".safetensors")
                   and not any(word in f for word in ("scheduler", "optimizer", "checkpoint")))
    if usual in names or not names:
        return usual
    if len(names) > 1:
        raise ValueError(f"{folder} holds more than one file of weights: {', '.join(names)}. Say "
                         f"which one with `weight_name`.")
    return names[0]
