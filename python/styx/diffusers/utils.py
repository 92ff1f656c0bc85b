"""load_image and make_image_grid, as diffusers.utils has them."""

import os
import tempfile
import urllib.request

from .. import _image

__all__ = ["load_image", "make_image_grid"]


def load_image(image, convert_method=None):
    """A picture from a file, an http(s) address or a picture, as RGB."""
    if isinstance(image, (str, os.PathLike)):
        name = os.fspath(image)
        if name.startswith(("http://", "https://")):
            with urllib.request.urlopen(name, timeout=60) as answer:
                image = _from_bytes(answer.read())
        elif os.path.isfile(name):
            image = _open(name)
        else:
            raise ValueError(f"Incorrect path or URL, URLs must start with `http://` or "
                             f"`https://`, and {name} is not a valid path.")
    elif not _image.is_picture(image):
        raise ValueError("Incorrect format used for the image. Should be a URL linking to an "
                         "image, a local path, or a PIL image.")
    if convert_method is not None:
        return convert_method(image)
    return image.convert("RGB")


def _from_bytes(data):
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return _open(file.name)


def _open(path):
    from .. import _core

    return _image.from_view(_core.image_load(path)[0])


def make_image_grid(images, rows, cols, resize=None):
    """rows x cols pictures of one size as one picture (needs Pillow)."""
    from PIL import Image

    if len(images) != rows * cols:
        raise ValueError(f"{len(images)} pictures for a grid of {rows} x {cols}")
    if resize is not None:
        images = [x.resize((resize, resize)) for x in images]
    width, height = images[0].size
    grid = Image.new("RGB", size=(cols * width, rows * height))
    for i, x in enumerate(images):
        grid.paste(x, box=(i % cols * width, i // cols * height))
    return grid
