"""Tensor: an n-dimensional array that chooses a device and takes its storage from the matching pool.

`Tensor(shape)` on the global CPU pool is made by C code in about 150 ns (csrc/python/holder.c); `_make` below is the same in full,
for every other call. Views share their storage and keep it alive.
"""

from __future__ import annotations

import inspect
import operator
from typing import TYPE_CHECKING, Any, NoReturn, Self, SupportsIndex

import numpy as np

from . import _compute
from ._backend import Device, parse_device
from ._defaults import get_default_device
from ._device_array import DeviceArray
from ._errors import DeviceMismatchError
from ._global import current_pool
from ._interfaces import require_host
from ._lib import native
from ._methods import Methods
from ._pickling import reduce_array
from ._transfer import copy_into_pool, new_array, record_use

if TYPE_CHECKING:
    import numpy.typing as npt

    from ._pool import MemoryPool

    Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
    Shape = SupportsIndex | tuple[SupportsIndex, ...] | list[int]


class Tensor(Methods):
    """An n-dimensional array in memory of a pool. It is not initialised.

    Parameters
    ----------
    shape
        An integer or a sequence of integers, at most 64.
    dtype
        Whatever `numpy.dtype` takes, but no Python objects.
    device
        ``"cpu"``, ``"cuda:1"``, ``"pinned"``; None: the default device (`set_default_device`).
    pool
        The pool to take the storage from; None: the device's pool here and now (`current_pool`). It decides the device.

    Raises
    ------
    OutOfMemoryError
        The pool could not hand out the storage.
    DeviceUnavailableError
        There is no such device, or CuPy, the driver or the GPU is missing; the message says which and what mends it.
    DeviceMismatchError
        `device` and `pool` disagree.
    ValueError
        The shape is negative or too large.

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
            device: str | Device | None = None,
            pool: MemoryPool | None = None,
        ) -> Self: ...

    @classmethod
    def _make(
        cls,
        shape: Shape,
        dtype: npt.DTypeLike = "float64",
        *,
        device: str | Device | None = None,
        pool: MemoryPool | None = None,
    ) -> Self:
        """Return a new tensor: what the constructor does, for all arguments."""
        if pool is None:
            pool = current_pool(device)
        elif device is not None and parse_device(device) != pool.device:
            raise DeviceMismatchError(
                f"device {device} was asked for, but {pool!r} has memory on {pool.device}: leave one of them out"
            )
        array = pool._make_empty(pool, shape, dtype)
        return native.holder(cls, array, pool) if array is not None else cls._refuse(pool, shape, dtype)

    @classmethod
    def _refuse(cls, pool: MemoryPool, shape: Any, dtype: npt.DTypeLike) -> NoReturn:
        """Raise what it means that the pool gave no storage."""
        pool._refuse(np.broadcast_to(np.zeros((), dtype), shape).nbytes)

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
        array = self._array
        if not isinstance(array, DeviceArray):
            if array.flags.c_contiguous:  # never a copy
                return self._view(array.reshape(*shape))
            return native.call(np.ndarray.reshape, self, *shape)
        view = array.reshape(*shape)
        return self._view(view) if view is not None else self.copy().reshape(*shape)  # a copy in C order takes any shape

    def copy(self) -> Self:
        """Return a new tensor with the same elements, in C order, from the same pool."""
        return self._copy_of(self._array)

    def to(self, device: str | Device, *, non_blocking: bool = False) -> Self:
        """Return the tensor on a device: itself where it is there already, else a copy in the device's pool.

        Parameters
        ----------
        device
            Where to.
        non_blocking
            True: return before the copy is done. Between host and device it goes through pinned memory. To the CPU it ends there:
            the result is on ``"pinned"``, and its elements have arrived once the current stream has passed.

        Raises
        ------
        DeviceUnavailableError
            There is no such device; the message says why and what to do.
        """
        where = parse_device(device)
        if where == self.device:
            return self
        array, pool = copy_into_pool(self._array, current_pool(where), blocking=not non_blocking)
        return native.holder(type(self), array, pool)

    def cpu(self, *, non_blocking: bool = False) -> Self:
        """Return the tensor on the CPU: `to("cpu")`."""
        return self.to("cpu", non_blocking=non_blocking)

    def cuda(self, index: int | None = None, *, non_blocking: bool = False) -> Self:
        """Return the tensor on a GPU: `to("cuda:index")`; None: the default device where that is one, else number 0."""
        if index is None:
            default = get_default_device()
            return self.to(default if default.kind == "cuda" else "cuda", non_blocking=non_blocking)
        return self.to(f"cuda:{operator.index(index)}", non_blocking=non_blocking)

    def record_stream(self, stream: object) -> None:
        """Say that the tensor is used on a further stream: its block, once free, waits for what that stream was given by then.

        Nothing has to be done for the stream that was current when the tensor was made. Memory of another library is left to it.

        Raises
        ------
        DeviceMismatchError
            The tensor is on the CPU, which has no streams.
        """
        if not isinstance(self._array, DeviceArray):
            raise DeviceMismatchError(f"a tensor on {self.device} is not used on streams: record_stream is for a device's")
        record_use(self._array, self._array.memory.upstream.stream(stream))

    def _copy_of(self, array: Array | DeviceArray) -> Self:
        pool = self.pool or current_pool(self.device)
        copy = new_array(pool, array.shape, array.dtype)
        if isinstance(copy, DeviceArray):
            copy.assign(..., array)
        else:
            copy[...] = array
        return native.holder(type(self), copy, pool)

    # ---- as an array of others --------------------------------------------------------------------------------------------------

    def numpy(self) -> Array:
        """Return a NumPy array over the same memory, which it keeps alive; DeviceMismatchError where that is a device's."""
        return require_host(self._array, "copy it with cpu(), as in x.cpu().numpy()").view()

    def cupy(self) -> Any:
        """Return a CuPy array over the same memory, which it keeps alive.

        Raises
        ------
        DeviceMismatchError
            The tensor is on the CPU.
        DeviceUnavailableError
            CuPy is not installed.
        """
        if not isinstance(self._array, DeviceArray):
            raise DeviceMismatchError(f"the tensor is on {self.device}, and nothing is copied unasked: x.cuda().cupy() copies it")
        return self._array.cupy()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Return a NumPy array, over the same memory where `dtype` and `copy` allow it; ValueError where copy=False can't."""
        return np.array(require_host(self._array, "copy it with cpu()").view(), dtype=dtype, copy=copy)

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        """Pickle the elements; the tensor is made again in the current pool of its device, or over the buffer of protocol 5."""
        transposed = bool(self.flags.fnc)  # F order and no C order: then the transpose is in C order
        elements = (self.T if transposed else self)._on_host()
        return reduce_array(type(self), elements, self.device, operator.index(protocol), transposed=transposed)


if TYPE_CHECKING:
    Operand = Tensor | Array | complex  # to a type checker bool, int and float are complex too

_compute.tensor_class = Tensor
Tensor.__signature__ = inspect.signature(Tensor._make)  # type: ignore[attr-defined] # the constructor is C code and has none
