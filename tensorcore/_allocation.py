"""PooledAllocation: a block that gives itself back, at the end of a with-block or with the last reference.

No Python finaliser: the block belongs to a byte array, whose own deallocation returns it to the pool. Cost: about 400 ns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, SupportsIndex

import numpy as np

from . import _defaults
from ._device_array import DeviceArray
from ._errors import ReleasedError
from ._global import current_pool

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt

    from ._backend import Device
    from ._pool import MemoryPool

_BYTE = np.dtype("u1")


class PooledAllocation:
    """A block of a pool, owned by this object and by the arrays made from it.

    Leaving the with-block, or dropping the object, releases it; the memory goes back to the pool once the last array over it is
    gone too.

    Parameters
    ----------
    nbytes
        The size of the request in bytes; 0 is allowed.
    pool
        The pool to take it from; None: the device's global pool.
    device
        Which device, where no pool is named; None: the default device (`set_default_device`).

    Raises
    ------
    OutOfMemoryError
        The pool could not hand it out.

    Examples
    --------
    >>> with PooledAllocation(1 << 20) as block:
    ...     data = block.array("float32", (512, 512))
    """

    __slots__ = ("__weakref__", "_bytes", "_nbytes", "_pool")

    def __init__(self, nbytes: SupportsIndex, *, pool: MemoryPool | None = None, device: str | Device | None = None) -> None:
        if pool is None:
            pool = (_defaults.short_pool if device is None else None) or current_pool(device)
        self._bytes: np.ndarray[tuple[int], np.dtype[np.uint8]] | DeviceArray | None = pool._make_empty(pool, nbytes, _BYTE)
        if self._bytes is None:
            pool._refuse(nbytes)
        self._nbytes = nbytes
        self._pool = pool

    @property
    def ptr(self) -> int:
        """The address of the block, aligned to 64 bytes, on a device to 512.

        Raises
        ------
        ReleasedError
            The allocation was released.
        """
        held = self._held()
        return held.ptr if isinstance(held, DeviceArray) else int(held.ctypes.data)

    @property
    def nbytes(self) -> int:
        """The size of the request in bytes."""
        return int(self._nbytes)

    @property
    def pool(self) -> MemoryPool:
        """The pool that the block belongs to."""
        return self._pool

    @property
    def released(self) -> bool:
        """Whether `release` was called or the with-block left."""
        return self._bytes is None

    def array(self, dtype: npt.DTypeLike = "u1", shape: SupportsIndex | tuple[SupportsIndex, ...] | None = None) -> Any:
        """Return the start of the block as an array, not initialised; it keeps the block alive by itself.

        It is a NumPy array, on a device CuPy's.

        Parameters
        ----------
        dtype
            The type of the elements; no Python objects.
        shape
            The array's shape, which must fit into the block. None: one dimension, as many elements as fit.

        Raises
        ------
        ValueError
            The array would be larger than the block.
        DeviceUnavailableError
            The block is on a device, and CuPy is not installed.
        ReleasedError
            The allocation was released.
        """
        data = self._held()
        descr = np.dtype(dtype)
        if descr.hasobject:
            raise TypeError(f"pool memory holds plain data, not the Python objects of {descr!r}: use numpy.empty for those")
        if shape is None:
            shape = data.nbytes // descr.itemsize
        if isinstance(data, DeviceArray):
            return data.recast(shape, descr).cupy()
        try:
            return np.ndarray(shape, descr, data)
        except TypeError as error:
            if "buffer is too small" not in str(error):
                raise
            raise ValueError(f"an array of shape {shape} and dtype {descr} does not fit into {data.nbytes} bytes") from None

    def release(self) -> None:
        """Let the block go; a second call does nothing. Arrays made from it stay valid."""
        self._bytes = None

    def _held(self) -> np.ndarray[tuple[int], np.dtype[np.uint8]] | DeviceArray:
        if self._bytes is None:
            raise ReleasedError(f"this allocation of {self._nbytes} bytes was released; allocate a new one, or release it later")
        return self._bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._bytes = None

    def __repr__(self) -> str:
        state = "released" if self._bytes is None else f"at 0x{self.ptr:x}"
        return f"<PooledAllocation of {self._nbytes} bytes from pool {self._pool.name!r}, {state}>"
