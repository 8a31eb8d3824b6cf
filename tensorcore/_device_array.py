"""DeviceArray: a strided array in device memory, with what NumPy knows of shapes and views and what CuPy can do with elements.

The layout is a NumPy array over the device's addresses, of which only shape, strides and address are ever asked: nothing here may
make NumPy read an element. A view costs some microseconds. Whatever touches elements goes through CuPy, or is a plain copy in
stream order.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _cupy
from ._errors import DeviceMismatchError, DeviceUnavailableError
from ._fake_device import FakeDeviceUpstream
from ._lib import ffi, native, pointer

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ._upstream import Upstream

_PLAIN_SIZE, _PLAIN_DIMENSIONS = 1 << 15, 3
_NUMBERS = (bool, int, float, complex, np.generic)


@dataclass(slots=True, eq=False)
class DeviceMemory:
    """The memory under an array and its views.

    Parameters
    ----------
    ptr, nbytes
        Its start and size in bytes.
    owner
        What keeps it: a block of a pool, or an object of another library.
    upstream
        What moves data there.
    index
        The device's number.
    """

    ptr: int
    nbytes: int
    owner: Any
    upstream: Upstream
    index: int


class DeviceArray:
    """A strided array in device memory; see the module.

    Parameters
    ----------
    memory
        Where it lies.
    layout
        A NumPy array over the device's addresses.
    """

    __slots__ = ("_layout", "memory")

    def __init__(self, memory: DeviceMemory, layout: np.ndarray[Any, np.dtype[Any]]) -> None:
        self.memory = memory
        self._layout = layout

    if TYPE_CHECKING:
        shape: tuple[int, ...]
        strides: tuple[int, ...]
        dtype: np.dtype[Any]
        ndim: int
        size: int
        itemsize: int
        nbytes: int
    else:
        shape = property(lambda self: self._layout.shape)
        strides = property(lambda self: self._layout.strides)
        dtype = property(lambda self: self._layout.dtype)
        ndim = property(lambda self: self._layout.ndim)
        size = property(lambda self: self._layout.size)
        itemsize = property(lambda self: self._layout.itemsize)
        nbytes = property(lambda self: self._layout.nbytes)

    @property
    def ptr(self) -> int:
        """The address of the first element."""
        return int(self._layout.__array_interface__["data"][0])

    @property
    def flags(self) -> Any:
        """NumPy's flags of the layout."""
        return self._layout.flags

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie one behind the other in C order."""
        return bool(self._layout.flags.c_contiguous)

    @property
    def read_only(self) -> bool:
        """Whether the owner of the memory forbids to write there."""
        return not self._layout.flags.writeable

    def __len__(self) -> int:
        return len(self._layout)

    # ---- views ------------------------------------------------------------------------------------------------------------------

    @property
    def T(self) -> DeviceArray:  # noqa: N802 - NumPy's name
        """A view with the dimensions in reverse order."""
        return DeviceArray(self.memory, self._layout.T)

    def transpose(self, *axes: Any) -> DeviceArray:
        """Return a view with the dimensions in another order."""
        return DeviceArray(self.memory, self._layout.transpose(*axes))

    def view(self, key: Any) -> DeviceArray:
        """Return the view that integers, slices, `...` and None select."""
        keys = key if isinstance(key, tuple) else (key,)
        return DeviceArray(self.memory, self._layout[keys if ... in keys else (*keys, ...)])

    def reshape(self, *shape: Any) -> DeviceArray | None:
        """Return a view of another shape; None where the strides do not allow one, ValueError where the sizes differ."""
        wanted = _layout_at(self.ptr, self.shape, self.dtype).reshape(*shape).shape  # contiguous: nothing is ever copied
        try:
            return DeviceArray(self.memory, _reshape_as_view(self._layout, wanted))
        except (ValueError, AttributeError):
            return None

    def recast(self, shape: Any, dtype: np.dtype[Any]) -> DeviceArray:
        """Return an array of another shape and type at the start of this one; ValueError where it would reach beyond it."""
        try:
            return DeviceArray(self.memory, np.ndarray(shape, dtype, _addresses(self.ptr, self.nbytes)))
        except TypeError as error:
            if "buffer is too small" not in str(error):
                raise
            raise ValueError(f"an array of shape {shape} and dtype {dtype} does not fit into {self.nbytes} bytes") from None

    # ---- elements ---------------------------------------------------------------------------------------------------------------

    def cupy(self) -> Any:
        """Return a `cupy.ndarray` over the same memory; DeviceUnavailableError where CuPy is not installed."""
        memory = self.memory
        return _cupy.array(memory.ptr, memory, memory.nbytes, memory.index, self)

    def select(self, key: Any) -> DeviceArray:
        """Return a new array, in memory of CuPy's, of what index arrays and masks select."""
        found = self.compute(lambda array: array[_as_cupy(key)].copy())
        memory = DeviceMemory(found.data.ptr, found.nbytes, found, self.memory.upstream, self.memory.index)
        return wrap_device_memory(memory, (found.data.ptr, found.shape, found.dtype, found.strides))

    def compute(self, function: Callable[[Any], Any]) -> Any:
        """Return what a function makes of this array as a CuPy array, with its device the current one."""
        upstream = self.memory.upstream
        if isinstance(upstream, FakeDeviceUpstream):
            raise DeviceUnavailableError("a fake device holds no data: it has shapes, views and addresses only")
        with upstream.on_device():
            return function(self.cupy())

    def assign(self, key: Any, value: Any) -> None:
        """Set the elements that a key selects to a number or to an array of the same device."""
        if self.read_only:
            raise ValueError("this device memory is read-only, as the library that it is from said: copy the tensor first")
        if isinstance(value, DeviceArray) and np.may_share_memory(self._layout, value._layout):
            value = value.apart()  # as NumPy does: elements are read before any is written over
        target = self.view(key) if is_basic(key) else None
        if target is not None and isinstance(value, DeviceArray) and target._is_copy_of_bytes(value):
            stream = self.memory.upstream.current_stream()
            self.memory.upstream.write(target.ptr, value.ptr, target.nbytes, stream)
        elif isinstance(self.memory.upstream, FakeDeviceUpstream) and target is not None:
            target._require_same_device(value)
            low, high = np.lib.array_utils.byte_bounds(target._layout)
            self.memory.upstream.clear(int(low), int(high - low), self.memory.upstream.current_stream())
        else:
            self._require_same_device(value)
            operand = value.cupy() if isinstance(value, DeviceArray) else value
            self.compute(lambda array: operator.setitem(array, _as_cupy(key), operand))

    def apart(self) -> DeviceArray:
        """Return a copy in memory of its own, of the same pool where there is one, else of CuPy's."""
        owner = self.memory.owner
        copy = make_device_array(owner.pool, self.shape, self.dtype) if isinstance(owner, native.Block) else None
        if copy is None:
            return self.select(...)
        copy.assign(..., self)
        return copy

    def _is_copy_of_bytes(self, value: DeviceArray) -> bool:
        """Return whether setting this array to `value` is a plain copy of bytes on one device."""
        same = (self.shape, self.dtype, self.memory.index) == (value.shape, value.dtype, value.memory.index)
        return same and self.contiguous and value.contiguous

    def _require_same_device(self, value: Any) -> None:
        if isinstance(value, _NUMBERS) or (isinstance(value, DeviceArray) and value.memory.index == self.memory.index):
            return
        if _cupy.is_array(value) and value.device.id == self.memory.index:
            return
        where = f"cuda:{value.memory.index}" if isinstance(value, DeviceArray) else f"an object of type {type(value).__name__}"
        raise DeviceMismatchError(
            f"elements on cuda:{self.memory.index} can't be set from {where}: TensorCore never copies between devices unasked; "
            f"bring it there first, with to('cuda:{self.memory.index}') or tensorcore.asarray(value, device=...)"
        )


def is_basic(key: Any) -> bool:
    """Return whether a key selects a view: integers, slices, `...` and None."""
    keys = key if isinstance(key, tuple) else (key,)
    return all(part is None or part is ... or isinstance(part, slice) or _is_integer(part) for part in keys)


def _is_integer(part: Any) -> bool:
    return isinstance(part, (int, np.integer)) and not isinstance(part, bool)


def _as_cupy(key: Any) -> Any:
    """Return a key with its device arrays as CuPy's."""
    if isinstance(key, np.ndarray):
        raise DeviceMismatchError(
            "an index array on the CPU can't select on a device: bring it there, tensorcore.asarray(key, device=...)"
        )
    if isinstance(key, DeviceArray):
        return key.cupy()
    return tuple(map(_as_cupy, key)) if isinstance(key, tuple) else key


# ---- making ---------------------------------------------------------------------------------------------------------------------


def _addresses(ptr: int, nbytes: int) -> Any:
    """Return a buffer over addresses, which nobody touches, for NumPy to lay an array over."""
    return ffi.buffer(pointer(ptr, "char *"), nbytes)


def _layout_at(
    ptr: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    strides: tuple[int, ...] | None = None,
    extent: tuple[int, int] | None = None,
) -> np.ndarray[Any, np.dtype[Any]]:
    """Return an array over addresses: `ptr` is that of the first element, `extent` the start and size of the memory around it."""
    start, nbytes = extent or (ptr, math.prod(shape) * dtype.itemsize)
    return np.ndarray(shape, dtype, _addresses(start, nbytes), ptr - start, strides)


def _reshape_as_view(layout: np.ndarray[Any, np.dtype[Any]], shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the layout in another shape; ValueError or AttributeError where that needs a copy, which would read the elements."""
    try:
        return layout.reshape(shape, copy=False)
    except TypeError:  # NumPy 2.0 knows no copy=; setting the shape never copies
        view = layout.view()
        view.shape = shape
        return view


def wrap_device_memory(
    memory: DeviceMemory, layout: tuple[int, tuple[int, ...], np.dtype[Any], tuple[int, ...] | None], *, read_only: bool = False
) -> DeviceArray:
    """Return an array over device memory that exists; `layout`: first element's address, shape, type, strides (None: C order)."""
    ptr, shape, dtype, strides = layout
    array = _layout_at(ptr, shape, dtype, strides, (memory.ptr, memory.nbytes))
    array.flags.writeable = not read_only
    return DeviceArray(memory, array)


def _is_plain(shape: Any) -> bool:
    """Return whether a shape is one without a doubt, and of less than 2**45 elements."""
    if type(shape) is not tuple or len(shape) > _PLAIN_DIMENSIONS:
        return False
    return all(type(size) is int and 0 <= size < _PLAIN_SIZE for size in shape)


def make_device_array(pool: Any, shape: Any, dtype: npt.DTypeLike) -> DeviceArray | None:
    """Return an array in a block of a device pool, of the current stream; None where the pool refused."""
    descr = np.dtype(dtype)
    if descr.hasobject:
        raise TypeError(f"pool memory holds plain data, not the Python objects of {descr!r}: use numpy.empty for those")
    dimensions = shape if _is_plain(shape) else np.broadcast_to(np.zeros((), descr), shape).shape  # which checks it, without memory
    nbytes = math.prod(dimensions) * descr.itemsize
    block = native.block(pool, nbytes, pool.upstream.current_stream())
    if block is None:
        return None
    memory = DeviceMemory(block.ptr, nbytes, block, pool.upstream, pool.device.index)
    return DeviceArray(memory, _layout_at(block.ptr, dimensions, descr))


def make_device_zeros(pool: Any, shape: Any, dtype: npt.DTypeLike) -> DeviceArray | None:
    """Return the same, cleared in the order of the current stream."""
    array = make_device_array(pool, shape, dtype)
    if array is not None and array.nbytes:
        pool.upstream.clear(array.ptr, array.nbytes, pool.upstream.current_stream())
    return array
