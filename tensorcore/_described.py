"""Described: what a tensor tells of itself without an element being read: shape, type, strides, address, device, pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._device_array import DeviceArray
from ._lib import native

if TYPE_CHECKING:
    import numpy as np

    from ._backend import Device
    from ._pool import MemoryPool


class Elsewhere:
    """Stands in for the pool of a tensor whose memory is not of a pool."""

    __slots__ = ("device",)

    def __init__(self, device: Device) -> None:
        self.device = device


class Described(native.ArrayHolder):
    """The part of a tensor that is known without its elements."""

    __slots__ = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each dimension, in elements."""
        return self._array.shape

    @property
    def strides(self) -> tuple[int, ...]:
        """The bytes from one element to the next in each dimension."""
        return self._array.strides

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return self._array.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array.size

    @property
    def itemsize(self) -> int:
        """The bytes of one element."""
        return self._array.itemsize

    @property
    def nbytes(self) -> int:
        """The bytes of all elements: size * itemsize."""
        return self._array.nbytes

    @property
    def ptr(self) -> int:
        """The address of the first element."""
        return int(self._array.ptr if isinstance(self._array, DeviceArray) else self._array.ctypes.data)

    @property
    def flags(self) -> Any:
        """NumPy's flags of the memory: its order (`c_contiguous`, `f_contiguous`), and `writeable`, which can be set to False."""
        return self._array.flags

    @property
    def device(self) -> Device:
        """The device whose memory holds the elements."""
        device: Device = self._pool.device
        return device

    @property
    def pool(self) -> MemoryPool | None:
        """The pool that the storage came from; None where it is memory of another library."""
        return None if isinstance(self._pool, Elsewhere) else self._pool

    def __len__(self) -> int:
        return len(self._array)
