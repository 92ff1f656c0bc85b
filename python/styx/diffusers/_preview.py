"""A picture while it becomes: latents through a linear map, which is cheap and nearly right."""

from .. import _arrays, _core, _image

# Least-squares maps from latents to colours in [-1, 1], for the two latent spaces: rows are
# channels, columns red, green and blue. Values as in common use among preview implementations.
SD = ((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264),
      (-0.184, -0.271, -0.473))
XL = ((0.3920, 0.4054, 0.4549), (-0.2634, -0.0196, 0.0653), (0.0568, 0.1687, -0.0755),
      (-0.3112, -0.2359, -0.2076))


def picture_of(latents, xl):
    """Latents [n, 4, h, w] (a memoryview) as a picture of the first, an eighth of the size."""
    import numpy as np

    x = np.asarray(latents)[0]
    rgb = np.tensordot(x, np.asarray(XL if xl else SD, dtype="float32"), axes=([0], [0]))
    return _image.from_view(memoryview(np.ascontiguousarray(
        np.clip(rgb * 127.5 + 127.5, 0, 255).astype("uint8"))))


class _Cell:
    """An output of a Jupyter cell that is overwritten."""

    def __init__(self):
        self.handle = None

    def __call__(self, step, picture):
        from IPython.display import display

        if self.handle is None:
            self.handle = display(picture, display_id=True)
        else:
            self.handle.update(picture)


def maker(pipe):
    """What the step callback calls, or None if no preview was asked for."""
    if not pipe._preview:
        return None
    if _arrays.numpy_or_none() is None:
        raise ImportError("a preview needs numpy")
    every, callback = pipe._preview
    show = callback or _Cell()

    def preview(step, index, count):
        if (index + 1) % every == 0 or index + 1 == count:
            picture = picture_of(_core.step_get(step, "latents"), pipe.is_xl)
            scale = pipe.vae_scale_factor
            show(index, picture if callback else picture.resize(
                (picture.size[0] * scale, picture.size[1] * scale)))

    return preview
