"""padding_mask_crop: repaint a part of a picture at full size, and paste it back. Pillow's pictures."""

from .. import _core, _image


def _bounds(mask, pad):
    """What is not black in the mask, with pad pixels around it."""
    width, height = mask.size
    left, top, right, bottom = mask.getbbox() or (width, height, 0, 0)
    return (max(left - pad, 0), max(top - pad, 0), min(right + pad, width),
            min(bottom + pad, height))


def _grown(low, high, more, limit):
    """low..high made longer by more, moved into 0..limit and cut there."""
    low -= more // 2
    high += more - more // 2
    if high >= limit:
        low, high = low - (high - limit), limit
    if low < 0:
        low, high = 0, high - low
    return low, min(high, limit)


def region(mask, width, height, pad):
    """(left, top, right, bottom) in the picture, of the shape width to height where it has room."""
    x1, y1, x2, y2 = _bounds(mask, pad)
    if y1 != y2:
        shape = width / height
        if (x2 - x1) / (y2 - y1) > shape:
            y1, y2 = _grown(y1, y2, int((x2 - x1) / shape - (y2 - y1)), mask.height)
        else:
            x1, x2 = _grown(x1, x2, int((y2 - y1) * shape - (x2 - x1)), mask.width)
    if x1 >= x2 or y1 >= y2:
        raise ValueError("`mask_image` is black: there is no part for `padding_mask_crop`")
    return x1, y1, x2, y2


def _resized(picture, width, height):
    """By Lanczos' filter; by Pillow where the mode asks for more (palettes, alpha)."""
    if picture.mode not in ("RGB", "L"):
        return picture.resize((width, height), 1)
    view = _core.image_resize(_image.to_view(picture, picture.mode), width, height)
    return _image.from_view(view)


def _inside(picture, width, height):
    """The size that fits into width x height, and the one that covers it."""
    across, down = picture.width * height // picture.height, picture.height * width // picture.width
    wide = width / height < picture.width / picture.height
    return ((width, down), (across, height)) if wide else ((across, height), (width, down))


def _centred(picture, width, height):
    from PIL import Image

    out = Image.new("RGB", (width, height))
    corner = width // 2 - picture.width // 2, height // 2 - picture.height // 2
    out.paste(picture, corner)
    return out, corner


def _filled(picture, width, height):
    """Fits into width x height; beside it, its edges go on."""
    small = _resized(picture, *_inside(picture, width, height)[0])
    out, (left, top) = _centred(small, width, height)
    w, h = small.size
    if top > 0 and w == width:
        out.paste(small.resize((w, top), box=(0, 0, w, 0)), (0, 0))
        out.paste(small.resize((w, top), box=(0, h, w, h)), (0, top + h))
    elif left > 0 and h == height:
        out.paste(small.resize((left, h), box=(0, 0, 0, h)), (0, 0))
        out.paste(small.resize((left, h), box=(w, 0, w, h)), (left + w, 0))
    return out


class Crop:
    """Takes the part out of a call's picture and mask; over() puts a result back."""

    def __init__(self, pipe, a):
        side = pipe.unet.config["sample_size"] * pipe.vae_scale_factor
        size = a.get("width") or side, a.get("height") or side
        self.image, self.mask = a["image"], a["mask_image"].convert("L")
        if self.image.size != self.mask.size:
            raise ValueError(f"images do not match: with `padding_mask_crop` the mask of "
                             f"{self.mask.size} has to have the picture's size {self.image.size}")
        self.box = region(self.mask, *size, a["padding_mask_crop"])
        a["image"] = _filled(self.image.crop(self.box), *size)
        a["mask_image"] = _filled(a["mask_image"].crop(self.box), *size).convert("L")

    def over(self, painted):
        """The whole picture, where the mask is black as it was."""
        from PIL import Image, ImageOps

        kept = Image.new("RGBa", self.image.size)
        kept.paste(self.image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(self.mask))
        x1, y1, x2, y2 = self.box
        covering = _resized(painted, *_inside(painted, x2 - x1, y2 - y1)[1])
        out = Image.new("RGB", self.image.size)
        out.paste(_centred(covering, x2 - x1, y2 - y1)[0], (x1, y1))
        out = out.convert("RGBA")
        out.alpha_composite(kept.convert("RGBA"))
        return out.convert("RGB")


def crop_of(pipe, a):
    """The call's crop, or None."""
    return None if a.get("padding_mask_crop") is None else Crop(pipe, a)
