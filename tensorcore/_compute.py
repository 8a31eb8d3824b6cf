"""Compute: functions of NumPy and CuPy on tensors, with every array that they make in a block of the tensors' pool.

csrc/python/compute.c does the plain cases; here is the rest: tensors in lists, over foreign memory, on a device, results that are
tuples. Nothing moves between devices unasked. Cost: some microseconds more than a plain case.
"""

from __future__ import annotations

from numbers import Number
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from . import _cupy
from ._described import Described, Elsewhere
from ._device_array import DeviceArray
from ._device_compute import call_on_device, wrap_on_device
from ._errors import DeviceMismatchError, OutOfMemoryError
from ._global import current_pool
from ._lib import address_of, find_block, native
from ._transfer import new_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._pool import MemoryPool

T = TypeVar("T")

tensor_class: type[Described] = Described
"""What a result is where no operand is a tensor; `_tensor` sets it."""


def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what a function makes of the tensors' arrays, as tensors.

    Raises
    ------
    DeviceMismatchError
        The tensors are on different devices, or arrays of the CPU are among tensors on a GPU.
    OutOfMemoryError
        The pool of the first tensor could not hold the result.
    """
    tensors = list(_find((args, kwargs), Described))
    pool = _choose_pool(tensors)
    kind = type(tensors[0]) if tensors else tensor_class
    if pool.upstream.host_memory:
        result = native.run(pool, function, _on_host(args), _on_host(kwargs))
        given: dict[int, Any] = {id(array): array for array in _find((args, kwargs), np.ndarray)}
        return _wrap(result, kind, pool, given | {id(tensor._array): tensor for tensor in tensors})
    result, operands = call_on_device(pool, function, args, kwargs)
    return _wrap(result, kind, pool, {id(array): tensor for array, tensor in operands})


def operate(function: Any, left: Any, right: Any, into: bool = False) -> Any:
    """Return an operator's result, NotImplemented where the other operand shall decide; `into`: in the memory of `left`."""
    if not (_is_operand(left) and _is_operand(right)):
        return NotImplemented
    result = call(function, (left, right), {"out": left} if into else {})
    return left if into else result


def call_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what `__array_ufunc__` does; NotImplemented where an input is of a library that shall decide itself."""
    out = kwargs.get("out", ())
    if not all(map(_is_operand, inputs)) or not all(part is None or _is_operand(part) for part in out):
        return NotImplemented
    return call(ufunc if method == "__call__" else getattr(ufunc, method), inputs, kwargs)


def _is_operand(value: Any) -> bool:
    """Return whether an operand is one that is computed with here."""
    if isinstance(value, Described) or _cupy.is_array(value):
        return True
    if hasattr(type(value), "__array_ufunc__"):
        return type(value).__array_ufunc__ is np.ndarray.__array_ufunc__
    if getattr(value, "__array_priority__", 0.0) > 0.0:  # NumPy's own
        return False
    return isinstance(value, (Number, np.generic, list, tuple)) or np.asarray(value).dtype.kind != "O"


# ---- operands -------------------------------------------------------------------------------------------------------------------


def _find(value: Any, kind: type[T]) -> Iterator[T]:
    """Return the tensors, or arrays, of an argument: itself, or those in its tuples, lists and dicts."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _find(part, kind)
    elif isinstance(value, dict):
        yield from _find(tuple(value.values()), kind)


def _choose_pool(tensors: list[Described]) -> MemoryPool:
    """Return the pool for the results: the first tensor's that has one, else the current one of the tensors' device."""
    places = {_place_of(tensor): tensor.device for tensor in tensors}
    if len(places) > 1:
        names = " and ".join(sorted(map(str, places.values())))
        raise DeviceMismatchError(f"tensors on {names} can't be computed with together: bring one to the other, x.to('cpu')")
    found = next((tensor.pool for tensor in tensors if tensor.pool is not None), None)
    return found if found is not None else current_pool(next(iter(places.values()), "cpu"))


def _place_of(tensor: Described) -> int:
    """Return the number of the GPU that holds a tensor, -1 for the host."""
    array = tensor._array
    return array.memory.index if isinstance(array, DeviceArray) else -1


def _on_host(value: Any) -> Any:
    """Return an argument with the arrays of its tensors, which all are on the host."""
    if isinstance(value, Described):
        return value._array
    if isinstance(value, dict):
        return {name: _on_host(part) for name, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(_on_host, value))
    if _cupy.is_array(value):
        raise DeviceMismatchError("a CuPy array can't be used on the CPU, and nothing is copied unasked: array.get() copies it")
    return value


# ---- results --------------------------------------------------------------------------------------------------------------------


def wrap(result: Any, kind: type[Described], pool: MemoryPool) -> Any:
    """Return a result with its arrays and scalars as tensors."""
    return _wrap(result, kind, pool, {})


def _wrap(result: Any, kind: type[Described], pool: MemoryPool, given: dict[int, Any]) -> Any:
    if id(result) in given:  # as out=, or handed through
        return given[id(result)]
    if type(result) is np.ndarray and not result.dtype.hasobject:
        return native.holder(kind, result, _owner_of(result, pool))
    if isinstance(result, np.generic):
        array = new_array(pool, (), result.dtype)
        array[()] = result
        return native.holder(kind, array, pool)
    if _cupy.is_array(result):
        return native.holder(kind, wrap_on_device(result, pool), pool)
    if isinstance(result, (tuple, list)):
        parts = [_wrap(part, kind, pool, given) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    return result


def _owner_of(array: np.ndarray[Any, np.dtype[Any]], pool: MemoryPool) -> MemoryPool | Elsewhere:
    """Return the pool of a result, which can be a view of foreign memory too."""
    ours = address_of(find_block(array.ctypes.data).pool) == native.pool_address(pool)
    return pool if ours or not array.size else Elsewhere(pool.device)


def refuse(
    error: Exception | None,
    pool: MemoryPool,
    like: np.ndarray[Any, np.dtype[Any]] | None = None,
    dtype: np.dtype[Any] | None = None,
) -> NoReturn:
    """Raise what it means that NumPy got no memory, or an operator: for elements of `dtype`, as many as `like` has, or one."""
    if dtype is not None:
        pool._refuse(dtype.itemsize * (like.size if like is not None else 1))
    if error is None or isinstance(error, OutOfMemoryError) or not hasattr(error, "_total_size"):
        raise error or MemoryError
    try:
        pool._refuse(error._total_size)
    except Exception as explained:
        raise explained from error


native.set_ufunc(call_ufunc)
native.set_compute(call, wrap, refuse, operate, lambda tensor: _choose_pool([tensor]))
