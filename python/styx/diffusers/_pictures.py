"""Pictures and masks of a call as the engine takes them."""

from .. import _arrays, _core, _image


def _as_list(x):
    return list(x) if isinstance(x, (list, tuple)) else [x]


def _stacked(items, name):
    """Arrays (ours, numpy's, torch's) as one [n, c, h, w] memoryview; numpy's are channels-last."""
    np = _arrays.numpy_or_none()
    if np is None:
        if len(items) != 1:
            raise ImportError(f"{name}: a list of arrays needs numpy")
        return _arrays.floats(items[0], name)
    rows = []
    for item in items:
        x = np.asarray(_arrays.floats(item, name))
        last = isinstance(item, np.ndarray)
        if x.ndim == 2:
            x = x[None, None]
        elif x.ndim == 3:
            x = x.transpose(2, 0, 1)[None] if last else x[None]
        elif last:
            x = x.transpose(0, 3, 1, 2)
        rows.append(x)
    return memoryview(np.ascontiguousarray(np.concatenate(rows), dtype=np.float32))


def _uint8(items):
    """numpy arrays of bytes are pictures, not numbers from 0 to 1."""
    return all(str(getattr(x, "dtype", "")) == "uint8" for x in items)


def _byte_views(items):
    views = []
    for item in items:
        np = _arrays.numpy_or_none()
        x = np.ascontiguousarray(item) if np is not None else item
        views.extend(memoryview(one) for one in (x if len(x.shape) == 4 else [x]))
    return views


def image_fields(image):
    """The request's fields for image=: pictures, arrays in [0, 1] or latents."""
    items = _as_list(image)
    if not items:
        raise ValueError("`image` is an empty list")
    if all(_image.is_picture(x) for x in items):
        return {"images": [_image.to_view(x) for x in items]}
    if not all(_arrays.is_array(x) for x in items):
        kinds = ", ".join(sorted({type(x).__name__ for x in items}))
        raise ValueError(f"Input is in incorrect format: image is {kinds}. Currently, we only "
                         f"support PIL.Image.Image, numpy.ndarray, torch.Tensor, and lists of one "
                         f"kind of them")
    if _uint8(items):
        return {"images": _byte_views(items)}
    return {"image_tensor": _stacked(items, "image")}


def _sized(mask, height, width):
    """Of bits and palettes Pillow takes the nearest pixel, whatever filter it is asked for."""
    if mask.mode in ("1", "P") and mask.size != (width, height):
        return mask.resize((width, height), 0)
    return mask


def mask_fields(mask, height, width):
    """The request's fields for mask_image=: white is repainted."""
    items = _as_list(mask)
    if all(_image.is_picture(x) for x in items):
        views = [_image.to_view(_sized(x, height, width), "L") for x in items]
        if len(views) == 1:
            return {"mask": views[0]}
        return {"mask_tensor": _masks(views, height, width)}
    if not all(_arrays.is_array(x) for x in items):
        raise ValueError(f"`mask_image` has to be a picture, an array or a list of them, not "
                         f"{type(items[0]).__name__}")
    if _uint8(items) and len(items) == 1 and items[0].ndim in (2, 3):
        return {"mask": _byte_views(items)[0]}
    return {"mask_tensor": _masks_from_arrays(items)}


def _masks(views, height, width):
    """Several pictures: each resized as one would be, then stacked."""
    np = _arrays.numpy_or_none()
    if np is None:
        raise ImportError("a list of masks needs numpy")
    rows = []
    for view in views:
        if view.ndim == 3:
            from PIL import Image

            h, w = view.shape[:2]
            view = _image.to_view(Image.frombytes("RGB", (w, h), bytes(view)).convert("L"), "L")
        if view.shape[:2] != (height, width):
            view = _core.image_resize(view, width, height)
        rows.append(np.asarray(view)[None] / np.float32(255))
    return memoryview(np.ascontiguousarray(np.stack(rows), dtype=np.float32))


def _masks_from_arrays(items):
    """Arrays [h, w], [n, h, w] or [n, 1, h, w] in [0, 1]."""
    np = _arrays.numpy_or_none()
    if np is None:
        return _arrays.floats(items[0], "mask_image")
    rows = []
    for item in items:
        x = np.asarray(_arrays.floats(item, "mask_image"))
        if x.ndim == 2:
            x = x[None, None]
        elif x.ndim == 3:
            x = x[None, None, ..., 0] if x.shape[-1] == 1 else x[:, None]
        elif isinstance(item, np.ndarray) and x.shape[-1] == 1:
            x = x.transpose(0, 3, 1, 2)
        rows.append(x)
    return memoryview(np.ascontiguousarray(np.concatenate(rows), dtype=np.float32))
