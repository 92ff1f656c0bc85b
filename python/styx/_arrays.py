"""Arrays of anybody's as float32 memoryviews, which is what the extension takes."""

from array import array


def numpy_or_none():
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def is_array(x):
    """Is x a tensor or array (ours, numpy's, torch's), not a picture or a list?"""
    return (hasattr(x, "shape") and hasattr(x, "dtype") and not hasattr(x, "getbands"))


def shape_of(x):
    return tuple(int(n) for n in x.shape)


def _flatten(x, out, shape, depth=0):
    if isinstance(x, (list, tuple)):
        if depth == len(shape):
            shape.append(len(x))
        if len(x) != shape[depth]:
            raise ValueError("a nested list whose rows differ in length")
        for item in x:
            _flatten(item, out, shape, depth + 1)
    else:
        out.append(float(x))


def from_lists(x, code="f"):
    """Nested lists of numbers as a memoryview."""
    flat, shape = [], []
    _flatten(x, flat, shape)
    if code != "f":
        flat = [int(v) for v in flat]
    return memoryview(array(code, flat)).cast("B").cast(code, shape or [1])


def floats(x, name="array"):
    """x as a C-contiguous float32 memoryview. Torch tensors are read through .numpy()."""
    view = getattr(x, "_view", None)  # styx.torch.Tensor
    if isinstance(view, memoryview) and view.format == "f":
        return view
    if hasattr(x, "detach") and hasattr(x, "cpu") and hasattr(x, "float"):
        x = x.detach().cpu().float().numpy()
    if isinstance(x, (list, tuple)) and not any(is_array(item) for item in x):
        return from_lists(x)
    np = numpy_or_none()
    if np is not None:
        made = np.ascontiguousarray(x, dtype=np.float32)
        if made.dtype != np.float32 or made.ndim == 0 or made.ndim > 4:
            raise ValueError(f"{name} has {made.ndim} dimensions; 1 to 4 were wanted")
        return memoryview(made)
    view = memoryview(x)
    if view.format.lstrip("<=@") == "f" and view.c_contiguous:
        return view
    raise TypeError(f"{name}: without numpy, a contiguous float32 array is wanted")


def copy(view):
    """A writable copy of a memoryview."""
    return memoryview(bytearray(view.cast("B") if view.nbytes else b"")).cast(view.format,
                                                                              view.shape)


def zeros(shape, code="f"):
    n = 1
    for side in shape:
        n *= side
    return memoryview(bytearray(n * array(code).itemsize)).cast(code, list(shape))
