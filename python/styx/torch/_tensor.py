"""A small tensor: a shape over float32 (or integer) memory that numpy can share.

Arithmetic goes through numpy when it is installed. Without numpy, tensors can be made, indexed by
whole numbers, passed around and turned into lists.
"""

import math

from .. import _arrays, _core
from . import _types

_CODES = {"f": _types.float32, "i": _types.int32, "q": _types.int64, "B": _types.uint8}
_NUMPY = {"f": "<f4", "i": "<i4", "q": "<i8", "B": "|u1"}


def _numpy():
    np = _arrays.numpy_or_none()
    if np is None:
        raise ImportError("this needs numpy: pip install numpy")
    return np


class Tensor:
    """Numbers with a shape, as the pipelines give and take them."""

    __slots__ = ("_view", "dtype", "_shape", "__weakref__")

    def __init__(self, data, dtype=None):
        if isinstance(data, Tensor):
            data = data._view
        elif not isinstance(data, memoryview):
            data = _arrays.floats(data)
        self._view = data
        self._shape = tuple(data.shape)
        self.dtype = dtype or _CODES[data.format.lstrip("<=@")]

    # ---- what it is

    @property
    def shape(self):
        return self._shape

    @property
    def ndim(self):
        return len(self._shape)

    @property
    def device(self):
        return _types.device("cpu")

    @property
    def __array_interface__(self):
        return {"version": 3, "shape": self._shape, "data": self._view.cast("B"),
                "typestr": _NUMPY[self._view.format.lstrip("<=@")]}

    def __array__(self, dtype=None, copy=None):
        x = self.numpy()
        if dtype is not None and x.dtype != dtype:
            return x.astype(dtype)
        return x.copy() if copy else x

    def numpy(self):
        """The same memory as a numpy array."""
        return _numpy().asarray(self._view).reshape(self._shape)

    def tolist(self):
        return self._view.tolist() if self._shape else self._view.tolist()[0]

    def item(self):
        """The number of a tensor of one."""
        if self.numel() != 1:
            raise RuntimeError(f"a tensor of {self.numel()} numbers is not one number")
        return self._view.cast("B").cast(self._view.format)[0]

    def size(self, dim=None):
        return self._shape if dim is None else self._shape[dim]

    def dim(self):
        return len(self._shape)

    def numel(self):
        return math.prod(self._shape)

    # ---- copies and views

    def to(self, *args, dtype=None, device=None, **kwargs):
        """The tensor, marked with another dtype if one is given; the numbers stay float32."""
        for a in args:
            if isinstance(a, Tensor):
                dtype = a.dtype
            elif not isinstance(a, (str, _types.device)) and not hasattr(a, "index"):
                dtype = a
            elif isinstance(a, str) and a in ("float16", "bfloat16", "float32"):
                dtype = a
        dtype = _types.dtype_of(dtype)
        if dtype is None or dtype == self.dtype:
            return self
        if dtype.is_floating_point and self._view.format == "f":
            made = Tensor(self._view, dtype)
            made._shape = self._shape
            return made
        code = {"int32": "i4", "int64": "i8", "uint8": "u1"}.get(dtype.name, "f4")
        return _wrap(self.numpy().astype(code))

    def type(self, dtype):
        return self.to(dtype)

    def float(self):
        return self.to(_types.float32)

    def half(self):
        return self.to(_types.float16)

    def cpu(self):
        return self

    def cuda(self, *args):
        return self

    def detach(self):
        return self

    def contiguous(self):
        return self

    def clone(self):
        made = Tensor(_arrays.copy(self._view), self.dtype)
        made._shape = self._shape
        return made

    def reshape(self, *shape):
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        shape = list(shape)
        if -1 in shape:
            rest = -math.prod(shape)
            shape[shape.index(-1)] = self.numel() // rest if rest else 0
        if math.prod(shape) != self.numel():
            raise RuntimeError(f"shape {shape} is invalid for {self.numel()} numbers")
        made = Tensor(self._view.cast("B").cast(self._view.format, shape or [1]), self.dtype)
        made._shape = tuple(shape)
        return made

    view = reshape

    def unsqueeze(self, dim):
        shape = list(self._shape)
        shape.insert(dim if dim >= 0 else dim + len(shape) + 1, 1)
        return self.reshape(shape)

    def squeeze(self, dim=None):
        keep = [n for i, n in enumerate(self._shape)
                if n != 1 or (dim is not None and i != dim % len(self._shape))]
        return self.reshape(keep)

    def permute(self, *order):
        order = order[0] if len(order) == 1 else order
        return _wrap(self.numpy().transpose(order))

    def transpose(self, a, b):
        return _wrap(self.numpy().swapaxes(a, b))

    def repeat(self, *times):
        return _wrap(_numpy().tile(self.numpy(), times))

    def chunk(self, chunks, dim=0):
        step = -(-self._shape[dim] // chunks)
        cut = [slice(None)] * self.ndim
        parts = []
        for at in range(0, self._shape[dim], step):
            cut[dim] = slice(at, at + step)
            parts.append(self[tuple(cut)])
        return tuple(parts)

    def __len__(self):
        if not self._shape:
            raise TypeError("len() of a tensor without dimensions")
        return self._shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key):
        if isinstance(key, int) and self._shape:  # no numpy needed
            n = self._shape[0]
            if not -n <= key < n:
                raise IndexError(f"index {key} of {n}")
            flat = self._view.cast("B")
            bytes = flat.nbytes // n
            part = flat[key % n * bytes:(key % n + 1) * bytes].cast(self._view.format)
            return Tensor(part, self.dtype).reshape(self._shape[1:])
        key = tuple(_plain(k) for k in key) if isinstance(key, tuple) else _plain(key)
        return _wrap(self.numpy()[key], self.dtype)

    def __setitem__(self, key, value):
        key = tuple(_plain(k) for k in key) if isinstance(key, tuple) else _plain(key)
        self.numpy()[key] = _plain(value)

    # ---- numbers

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __bool__(self):
        return bool(self.item())

    def __repr__(self):
        np = _arrays.numpy_or_none()
        text = np.array2string(self.numpy(), separator=", ", threshold=100) if np else self.tolist()
        return f"tensor({text}, dtype={self.dtype})"

    def __eq__(self, other):
        return self._with(other, "__eq__")

    __hash__ = None

    def _with(self, other, name):
        answer = getattr(self.numpy(), name)(_plain(other))
        return answer if answer is NotImplemented else _wrap(answer, self.dtype)

    def _apply(self, name, *args, **kwargs):
        kwargs = {"axis" if k == "dim" else "keepdims" if k == "keepdim" else k: v
                  for k, v in kwargs.items()}
        return _wrap(_numpy().asarray(getattr(self.numpy(), name)(*args, **kwargs)), self.dtype)

    def __neg__(self):
        return _wrap(-self.numpy(), self.dtype)

    def abs(self):
        return _wrap(abs(self.numpy()), self.dtype)

    def clamp(self, min=None, max=None):
        return _wrap(self.numpy().clip(min, max), self.dtype)

    def sqrt(self):
        return self ** 0.5

    def mean(self, *args, **kwargs):
        return self._apply("mean", *args, **kwargs)

    def sum(self, *args, **kwargs):
        return self._apply("sum", *args, **kwargs)

    def min(self):
        return self._apply("min")

    def max(self):
        return self._apply("max")

    def std(self):
        """As torch's: over n - 1."""
        return self._apply("std", ddof=1)


def _operator(name):
    def method(self, other):
        return self._with(other, name)

    method.__name__ = name
    return method


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "mod", "floordiv"):
    for _prefix in ("__", "__r"):
        setattr(Tensor, f"{_prefix}{_name}__", _operator(f"{_prefix}{_name}__"))
for _name in ("lt", "le", "gt", "ge", "ne"):
    setattr(Tensor, f"__{_name}__", _operator(f"__{_name}__"))


def _plain(x):
    """A tensor as numpy, anything else as it is."""
    return x.numpy() if isinstance(x, Tensor) else x


def _wrap(x, dtype=None):
    """A numpy array or number as a tensor."""
    np = _numpy()
    x = np.asarray(x)
    code = {"f": "f4", "i": "i8", "u": "i8", "b": "u1"}[x.dtype.kind]
    if x.dtype == np.int32:
        code = "i4"
    elif x.dtype == np.uint8:
        code = "u1"
    shape = x.shape
    x = np.ascontiguousarray(x, dtype=code).reshape(shape or (1,))
    view = memoryview(x) if x.size else memoryview(bytearray()).cast("f")
    if view.format == "l":
        view = view.cast("B").cast("q", view.shape)
    keep = dtype if dtype is not None and code == "f4" and dtype.is_floating_point else None
    made = Tensor(view, keep)
    made._shape = shape
    return made


def tensor(data, dtype=None, device=None):
    """A tensor with a copy of the numbers."""
    np = _arrays.numpy_or_none()
    if np is not None:
        made = _wrap(np.array(_plain(data)))
    else:
        made = Tensor(_arrays.from_lists(data))
    return made.to(dtype) if dtype is not None else made


def from_numpy(x):
    """A tensor over a numpy array (its memory is shared if it is float32 and contiguous)."""
    return _wrap(x)


def _shape(size):
    return list(size[0]) if len(size) == 1 and not isinstance(size[0], int) else list(size)


def zeros(*size, dtype=None, device=None):
    """A tensor of zeros."""
    return Tensor(_arrays.zeros(_shape(size)), _types.dtype_of(dtype))


def full(size, value, dtype=None, device=None):
    """A tensor of one value."""
    made = zeros(size, dtype=dtype)
    flat = made._view.cast("B").cast("f")
    for i in range(len(flat)):
        flat[i] = value
    return made


def ones(*size, dtype=None, device=None):
    """A tensor of ones."""
    return full(_shape(size), 1.0, dtype)


def randn(*size, generator=None, dtype=None, device=None):
    """Normal numbers: torch's own for that generator, dtype and shape."""
    dtype = _types.dtype_of(dtype) or _types.float32
    kind = _types.device(device or "cpu").type
    generator = generator or _types.default_generator(kind)
    made = zeros(_shape(size), dtype=dtype)
    number = {"float16": 3, "bfloat16": 2}.get(dtype.name, 1)
    _core.generator_normal(generator._handle, number, made._view)
    return made


def cat(tensors, dim=0):
    """Tensors joined along dim."""
    return _wrap(_numpy().concatenate([_plain(t) for t in tensors], axis=dim))


def stack(tensors, dim=0):
    """Tensors of one shape under a new dimension."""
    return _wrap(_numpy().stack([_plain(t) for t in tensors], axis=dim))


def arange(*args, dtype=None, device=None):
    """As numpy's arange."""
    return _wrap(_numpy().arange(*args))


def linspace(start, end, steps, dtype=None, device=None):
    """As numpy's linspace."""
    return _wrap(_numpy().linspace(start, end, steps))


def manual_seed(seed):
    """Seeds the generators that are used where none is given; returns the CPU's."""
    _types.default_generator("cuda").manual_seed(seed)
    return _types.default_generator("cpu").manual_seed(seed)
