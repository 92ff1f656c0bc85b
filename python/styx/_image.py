"""Pictures: Pillow's if it is installed, else a small class of our own."""

import logging
import os
import tempfile

from . import _arrays, _core

logger = logging.getLogger("styx")


class Image:
    """A picture without Pillow: size, mode, save, resize, tobytes, and Jupyter shows it."""

    def __init__(self, view):
        self._view = view
        self.height, self.width = view.shape[:2]
        self.size = (self.width, self.height)
        self.mode = "RGB" if view.ndim == 3 else "L"

    @classmethod
    def open(cls, path):
        """Reads a PNG, JPEG or WebP file."""
        return cls(_core.image_load(os.fspath(path))[0])

    def save(self, path, quality=0):
        """Writes PNG, JPEG or WebP, by the extension."""
        _core.image_save(self._view, os.fspath(path), quality, None)

    def resize(self, size):
        """A copy of size (width, height), resampled with Lanczos' filter."""
        return Image(_core.image_resize(self._view, *size))

    def convert(self, mode):
        """Only to the mode it has."""
        if mode != self.mode:
            raise ValueError(f"without Pillow, {self.mode} cannot become {mode}")
        return self

    def copy(self):
        return Image(_arrays.copy(self._view))

    def tobytes(self):
        return self._view.tobytes()

    @property
    def __array_interface__(self):
        return {"version": 3, "shape": tuple(self._view.shape), "typestr": "|u1",
                "data": self._view.cast("B")}

    def _repr_png_(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "picture.png")
            self.save(path)
            with open(path, "rb") as file:
                return file.read()

    def __repr__(self):
        return f"<styx.Image {self.width}x{self.height} {self.mode}>"


def from_view(view):
    """A uint8 memoryview [h, w, 3] as a picture."""
    try:
        from PIL import Image as pil
    except ImportError:
        return Image(view)
    height, width = view.shape[:2]
    return pil.frombytes("RGB" if view.ndim == 3 else "L", (width, height), bytes(view))


def is_picture(x):
    """Is x a picture of Pillow's or ours?"""
    return isinstance(x, Image) or (hasattr(x, "getbands") and hasattr(x, "tobytes"))


def to_view(picture, mode="RGB"):
    """A picture as a uint8 memoryview, [h, w, 3] or, for mode L, [h, w]."""
    if isinstance(picture, Image):
        return picture._view
    if picture.mode != mode and not (mode == "L" and picture.mode == "RGB"):
        if mode == "RGB":
            logger.warning(f"The image has mode {picture.mode}: it is converted to RGB.")
        picture = picture.convert(mode)
    width, height = picture.size
    shape = [height, width, 3] if picture.mode == "RGB" else [height, width]
    return memoryview(picture.tobytes()).cast("B", shape)
