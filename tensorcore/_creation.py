"""Tensors made by name: empty, zeros, ones, full, arange, asarray, from_dlpack; on any device, from any pool.

Signatures follow NumPy and the array API standard, with `pool` beside `device`. None as a device is the default device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._backend import Device, parse_device
from ._defaults import get_default_device
from ._device_array import DeviceArray
from ._errors import DeviceMismatchError
from ._global import current_pool
from ._lib import native
from ._tensor import Tensor
from ._transfer import copy_into_pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import SupportsIndex

    import numpy.typing as npt

    from ._pool import MemoryPool

    Shape = SupportsIndex | tuple[SupportsIndex, ...] | list[int]

_FLOAT = np.dtype("float64")  # the type where none is named


def empty(
    shape: Shape, dtype: npt.DTypeLike | None = None, *, device: str | Device | None = None, pool: MemoryPool | None = None
) -> Tensor:
    """Return a tensor that is not initialised: `Tensor(shape, dtype, device=device, pool=pool)`."""
    return Tensor(shape, _FLOAT if dtype is None else dtype, device=device, pool=pool)


def zeros(
    shape: Shape, dtype: npt.DTypeLike | None = None, *, device: str | Device | None = None, pool: MemoryPool | None = None
) -> Tensor:
    """Return a tensor of zeros; parameters and errors as of `Tensor`."""
    chosen = choose_pool(device, pool)
    array = chosen._make_zeros(chosen, shape, _FLOAT if dtype is None else dtype)
    return (
        native.holder(Tensor, array, chosen)
        if array is not None
        else Tensor._refuse(chosen, shape, _FLOAT if dtype is None else dtype)
    )


def ones(
    shape: Shape, dtype: npt.DTypeLike | None = None, *, device: str | Device | None = None, pool: MemoryPool | None = None
) -> Tensor:
    """Return a tensor of ones; parameters and errors as of `Tensor`."""
    return full(shape, 1, _FLOAT if dtype is None else dtype, device=device, pool=pool)


def full(
    shape: Shape,
    fill_value: Any,
    dtype: npt.DTypeLike | None = None,
    *,
    device: str | Device | None = None,
    pool: MemoryPool | None = None,
) -> Tensor:
    """Return a tensor whose elements are all `fill_value`, a number; dtype None: NumPy's for that number."""
    tensor = Tensor(shape, np.asarray(fill_value).dtype if dtype is None else dtype, device=device, pool=pool)
    tensor.fill(fill_value)
    return tensor


def arange(
    start: Any,
    stop: Any = None,
    step: Any = 1,
    *,
    dtype: npt.DTypeLike | None = None,
    device: str | Device | None = None,
    pool: MemoryPool | None = None,
) -> Tensor:
    """Return the numbers from `start` (0 where it is the only one) up to `stop`, without it, in steps: `numpy.arange`."""
    span = (start,) if stop is None and step == 1 else (*_span(start, stop), step)
    return make(choose_pool(device, pool), np.arange, *span, dtype=dtype)


def _span(start: Any, stop: Any) -> tuple[Any, Any]:
    return (0, start) if stop is None else (start, stop)


def asarray(
    source: Any,
    dtype: npt.DTypeLike | None = None,
    *,
    device: str | Device | None = None,
    pool: MemoryPool | None = None,
    copy: bool | None = None,
) -> Tensor:
    """Return a tensor of what NumPy, CuPy or another library holds, or of nested lists of numbers.

    Parameters
    ----------
    source
        A tensor, an array, an object with ``__cuda_array_interface__`` or ``__dlpack__``, numbers.
    dtype
        The type of the elements; None: as they are.
    device, pool
        Where the tensor shall be. None: device memory stays where it is, everything else goes to the default device.
    copy
        None: only where it must be. True: always, into the pool. False: never, a ValueError where it must be.

    Raises
    ------
    ValueError
        A copy is needed, and `copy` is False.
    DeviceMismatchError
        `device` and `pool` disagree.
    """
    if _is_made_here(source):
        return _make_of_numbers(source, dtype, choose_pool(device, pool), copy)
    found = _find_tensor(source)
    host = not isinstance(found._array, DeviceArray)
    if device is None and pool is None:
        where = get_default_device() if host and not isinstance(source, Tensor) else found.device
    else:
        where = choose_pool(device, pool).device
    wanted = found.dtype if dtype is None else np.dtype(dtype)
    moves = where != found.device or (pool is not None and found._pool is not pool)
    if copy is False and (moves or wanted != found.dtype):
        raise ValueError(f"a tensor of {wanted} on {where} needs a copy of {type(source).__name__}, which copy=False forbids")
    if not moves and wanted == found.dtype and copy is not True:
        return found
    chosen = pool or (None if moves else found.pool) or current_pool(where)
    if wanted != found.dtype:
        found = _cast(found, wanted, chosen)
        if found.pool is chosen:
            return found
    return native.holder(Tensor, *copy_into_pool(found._array, chosen))


def _is_made_here(source: Any) -> bool:
    """Return whether a source is no memory of numbers yet: numbers, or lists of such."""
    return not isinstance(source, Tensor) and not hasattr(source, "__array_interface__") and not _lends(source)


def _make_of_numbers(source: Any, dtype: npt.DTypeLike | None, pool: MemoryPool, copy: bool | None) -> Tensor:
    if copy is False:
        raise ValueError(f"a tensor needs a copy of {type(source).__name__}, which copy=False forbids")
    return make(pool, np.asarray, source, dtype=dtype)


def from_dlpack(source: Any, *, device: str | Device | None = None, copy: bool | None = None) -> Tensor:
    """Return a tensor over the memory of an object with ``__dlpack__``, on its device; `Tensor.from_dlpack` says more.

    Parameters
    ----------
    source
        A NumPy, CuPy, PyTorch, JAX ... array.
    device
        Where the tensor shall be, with a copy where the object is elsewhere; None: where it is.
    copy
        True: memory of its own. False: ValueError where `device` demands a copy, BufferError where the producer does.
    """
    found = Tensor.from_dlpack(source, copy=copy)
    if device is None or parse_device(device) == found.device:
        return found
    if copy is False:
        raise ValueError(
            f"{type(source).__name__} is on {found.device}: to have it on {device} needs a copy, which copy=False forbids"
        )
    return found.to(device)


def make(pool: MemoryPool, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Tensor:
    """Return the array that a function of NumPy makes as a tensor of a pool: made in it on the host, copied to a device."""
    if not pool.upstream.host_memory:
        return native.holder(Tensor, *copy_into_pool(function(*args, **kwargs), pool))
    array = native.run(pool, function, args, kwargs)
    if array.dtype.hasobject:
        raise TypeError(f"a tensor holds plain data, not the Python objects of {array.dtype!r}")
    return native.holder(Tensor, array, pool)


def choose_pool(device: str | Device | None, pool: MemoryPool | None) -> MemoryPool:
    """Return the pool that `device` and `pool` mean."""
    if pool is None:
        return current_pool(device)
    if device is not None and parse_device(device) != pool.device:
        raise DeviceMismatchError(f"device {device} was asked for, but {pool!r} has memory on {pool.device}: leave one of them out")
    return pool


def _lends(source: Any) -> bool:
    """Return whether an object lends its memory by DLPack, by CUDA's array interface or by the buffer protocol."""
    lends = hasattr(source, "__dlpack__") or hasattr(source, "__cuda_array_interface__")
    return lends or isinstance(source, (bytes, bytearray, memoryview))


def _find_tensor(source: Any) -> Tensor:
    """Return a tensor over what there is, copied only where it is no memory of numbers yet."""
    if isinstance(source, Tensor):
        return source
    if hasattr(source, "__cuda_array_interface__"):
        return Tensor.from_cupy(source)
    if hasattr(source, "__dlpack__") and not isinstance(source, (np.ndarray, np.generic)):
        return Tensor.from_dlpack(source)
    return Tensor.from_numpy(np.asarray(source))


def _cast(tensor: Tensor, dtype: np.dtype[Any], pool: MemoryPool) -> Tensor:
    """Return the elements in another type: on the host in memory of `pool`, on a device in its own pool."""
    array = tensor._array
    if not isinstance(array, DeviceArray):
        target = pool if pool.upstream.host_memory else current_pool("cpu")
        return native.holder(Tensor, native.run(target, array.astype, (dtype,), None), target)
    return tensor.astype(dtype)
