"""Tensor: an n-dimensional array that chooses a device and takes its storage from the matching pool.

`Tensor(shape)` on the global CPU pool is made by C code in about 150 ns (csrc/python/holder.c); `_make` below is the same in full,
for every other call. Views share their storage and keep it alive. Limit: no arithmetic yet; `numpy()` gives an array that has it.
"""

from __future__ import annotations

import inspect
import operator
from typing import TYPE_CHECKING, Any, NoReturn, Self, SupportsIndex

import numpy as np

from ._backend import Device
from ._backend import device as find_device
from ._global import get_global_memory_pool
from ._lib import native

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ._pool import MemoryPool

    Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
    Shape = SupportsIndex | tuple[SupportsIndex, ...] | list[int]


class Tensor(native.ArrayHolder):
    """An n-dimensional array in memory of a pool. It is not initialised.

    Parameters
    ----------
    shape
        An integer or a sequence of integers, at most 64.
    dtype
        Whatever `numpy.dtype` takes, but no Python objects.
    device
        ``"cpu"``.
    pool
        The pool to take the storage from; None: the device's global pool. It decides the device where both are given.

    Raises
    ------
    OutOfMemoryError
        The pool could not hand out the storage.
    DeviceUnavailableError
        There is no such device.
    ValueError
        `device` and `pool` disagree; the shape is negative or too large.

    Examples
    --------
    >>> x = Tensor((1000, 1000), device="cpu")
    >>> x.fill(1.0)
    >>> float(x.numpy().sum())
    1000000.0
    """

    __slots__ = ("__weakref__",)

    if TYPE_CHECKING:

        def __new__(
            cls,
            shape: Shape,
            dtype: npt.DTypeLike = "float64",
            *,
            device: str | Device = "cpu",
            pool: MemoryPool | None = None,
        ) -> Self: ...

    @classmethod
    def _make(
        cls,
        shape: Shape,
        dtype: npt.DTypeLike = "float64",
        *,
        device: str | Device = "cpu",
        pool: MemoryPool | None = None,
    ) -> Self:
        """Return a new tensor: what the constructor does, for all arguments."""
        if pool is None:
            pool = get_global_memory_pool(device)
        elif device != "cpu" and find_device(device) != pool.device:
            raise ValueError(f"device {device} was asked for, but {pool!r} has its memory on {pool.device}: leave one of them out")
        array = pool._make_empty(pool, shape, dtype)
        return native.holder(cls, array, pool) if array is not None else cls._refuse(pool, shape, dtype)

    @classmethod
    def _refuse(cls, pool: MemoryPool, shape: Any, dtype: npt.DTypeLike) -> NoReturn:
        """Raise what it means that the pool gave no storage."""
        pool._refuse(np.broadcast_to(np.zeros((), dtype), shape).nbytes)

    # ---- what it is -------------------------------------------------------------------------------------------------------------

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
        return int(self._array.ctypes.data)

    @property
    def device(self) -> Device:
        """The device whose memory holds the elements."""
        return self.pool.device

    @property
    def pool(self) -> MemoryPool:
        """The pool that the storage came from."""
        pool: MemoryPool = self._pool
        return pool

    def __len__(self) -> int:
        return len(self._array)

    def __repr__(self) -> str:
        data = np.array2string(self._array, prefix="Tensor(", separator=", ")
        return f"Tensor({data}, dtype={self.dtype}, device='{self.device}')"

    # ---- elements ---------------------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Self:
        """Return a view for integers, slices, `...` and None; a new tensor, from the same pool, for index arrays and masks."""
        found = self._array[_as_arrays(key)]
        if not isinstance(found, np.ndarray):  # one element: a view of no dimensions, which can still be written to
            found = self._array[(*key, ...) if isinstance(key, tuple) else (key, ...)]
        return self._view(found) if _is_view(found, self._array) else self._copy_of(found)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[_as_arrays(key)] = _as_arrays(value)

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))

    def item(self) -> Any:
        """Return the only element as a Python number; ValueError where there are more."""
        return self._array.item()

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers."""
        return self._array.tolist()

    def fill(self, value: Any) -> None:
        """Set every element to `value`."""
        self._array.fill(value)

    def __bool__(self) -> bool:
        return bool(self._array)

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        return operator.index(self.item())

    # ---- views and copies -------------------------------------------------------------------------------------------------------

    @property
    def T(self) -> Self:  # noqa: N802 - NumPy's name
        """A view with the dimensions in reverse order."""
        return self._view(self._array.T)

    def transpose(self, *axes: int) -> Self:
        """Return a view with the dimensions in the order of `axes`; in reverse order without them."""
        return self._view(self._array.transpose(*axes))

    def reshape(self, *shape: Any) -> Self:
        """Return the elements, in C order, in another shape; a view where the strides allow it, else a copy in the same pool."""
        found = self._array.reshape(*shape)
        return self._view(found) if _is_view(found, self._array) else self._copy_of(found)

    def copy(self) -> Self:
        """Return a new tensor with the same elements, in C order, from the same pool."""
        return self._copy_of(self._array)

    def to(self, device: str | Device) -> Self:
        """Return the tensor on a device: itself where it is there already, else a copy.

        Raises
        ------
        DeviceUnavailableError
            There is no such device; the message says why and what to do.
        """
        where = find_device(device)
        if where == self.device:
            return self
        copy = self._make(self.shape, self.dtype, device=where)
        copy[...] = self
        return copy

    def _view(self, array: Array) -> Self:
        return native.holder(type(self), array, self._pool)

    def _copy_of(self, array: Array) -> Self:
        copy = self._make(array.shape, array.dtype, pool=self._pool)
        copy._array[...] = array
        return copy

    # ---- as an array of others --------------------------------------------------------------------------------------------------

    def numpy(self) -> Array:
        """Return a NumPy array over the same memory, which it keeps alive."""
        return self._array.view()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Return a NumPy array, over the same memory where `dtype` and `copy` allow it; ValueError where copy=False can't."""
        return np.array(self._array.view(), dtype=dtype, copy=copy)

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the elements; the tensor is made again in the global pool of its device."""
        return _rebuild, (type(self), np.ascontiguousarray(self._array), str(self.device))


Tensor.__signature__ = inspect.signature(Tensor._make)  # type: ignore[attr-defined] # the constructor is C code and has none


def _is_view(found: Array, array: Array) -> bool:
    """Return whether a result of NumPy lies in the memory of the array that it was made from; one without elements has none."""
    return found.size == 0 or np.may_share_memory(found, array)


def _as_arrays(value: Any) -> Any:
    """Return a key or value with its tensors as arrays."""
    if isinstance(value, Tensor):
        return value._array
    if isinstance(value, tuple):
        return tuple(map(_as_arrays, value))
    return value


def _rebuild(kind: type[Tensor], array: Array, device: str) -> Tensor:
    tensor = kind(array.shape, array.dtype, device=device)
    tensor[...] = array
    return tensor
