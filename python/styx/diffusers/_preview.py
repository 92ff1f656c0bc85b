"""The engine's cheap picture of the latents, shown while a call runs."""

from .. import _image


class _Cell:
    """An output of a Jupyter cell that is overwritten."""

    def __init__(self, scale):
        self.scale = scale
        self.handle = None

    def __call__(self, step, picture):
        from IPython.display import display

        picture = picture.resize((picture.size[0] * self.scale, picture.size[1] * self.scale))
        if self.handle is None:
            self.handle = display(picture, display_id=True)
        else:
            self.handle.update(picture)


def maker(pipe):
    """What is called after each step, or None if no preview was asked for."""
    if not pipe._preview:
        return None
    every, callback = pipe._preview
    show = callback or _Cell(pipe.vae_scale_factor)

    def preview(done, total, view):
        if done % every == 0 or done == total:
            show(done - 1, _image.from_view(view))

    return preview
