"""Where a model's name leads: a folder, the model that comes with Styx, or Hugging Face's cache."""

import os

BUNDLED = "styx-emoji"
ENDINGS = (".safetensors", ".gguf")  # of checkpoint files


def _cache_folder(cache_dir):
    if cache_dir:
        return os.fspath(cache_dir)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return os.environ[name]
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface")
    return os.path.join(home, "hub")


def bundled():
    """The folder of the model that comes with Styx, or None."""
    here = os.path.dirname(os.path.realpath(__file__))
    for path in (os.path.join(here, "models", BUNDLED),
                 os.path.join(here, "..", "..", "models", BUNDLED)):  # in a clone
        if os.path.exists(os.path.join(path, "model_index.json")):
            return os.path.normpath(path)
    return None


def _in_cache(name, revision, cache):
    """snapshots/COMMIT of a model; revision is a branch, a tag or a commit."""
    folder = os.path.join(cache, "models--" + name.replace("/", "--"))
    ref = os.path.join(folder, "refs", revision)
    commit = revision
    if os.path.isfile(ref):
        with open(ref, encoding="ascii") as file:
            commit = file.read().strip()
    path = os.path.join(folder, "snapshots", commit)
    return path if os.path.isdir(path) else None


def find(name, revision=None, cache_dir=None):
    """The folder or file that name means; OSError if there is none."""
    if isinstance(name, os.PathLike):
        name = os.fspath(name)
    if not isinstance(name, str):
        raise TypeError(f"a model is a folder or a name, not {type(name).__name__}")
    if os.path.exists(name):
        return name
    if name in (BUNDLED, "styx/" + BUNDLED):
        path = bundled()
        if path:
            return path
        raise OSError(f"{name}: the model that comes with Styx is not in this installation")
    cache = _cache_folder(cache_dir)
    path = _in_cache(name, revision or "main", cache)
    if path:
        return path
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise OSError(f"{name}: no such folder, and no name of a model either (OWNER/NAME)")
    raise OSError(f"{name} is neither a folder nor among the models in {cache}. "
                  f"`styx pull {name}` downloads it.")


def checkpoint(name, revision=None, cache_dir=None):
    """The checkpoint file that name means: a path, or a repository of one such file."""
    if os.fspath(name).endswith((*ENDINGS, ".ckpt")) and not os.path.exists(name):
        raise OSError(f"{name}: no such file; `styx pull` downloads models")
    path = find(name, revision, cache_dir)
    if os.path.isdir(path):
        files = [f for f in os.listdir(path) if f.endswith(ENDINGS)]
        if len(files) != 1 or os.path.exists(os.path.join(path, "model_index.json")):
            raise OSError(f"{name} is not just one checkpoint file; from_pretrained() opens folders")
        path = os.path.join(path, files[0])
    return path


def subfolder(path, name, what):
    """path/name, or path if name is None; OSError if it is not there."""
    folder = os.path.join(path, name) if name else path
    if not os.path.isdir(folder):
        raise OSError(f"{folder}: no such folder; {what} was wanted there")
    return folder
